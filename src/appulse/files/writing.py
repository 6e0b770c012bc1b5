"""Writing files that are whole or not there, and JSON."""

import contextlib
import fcntl
import json
import math
import os
import re
import secrets
import shutil
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from appulse.files.errors import InputError, UsageError


def atomic_write(path: str | Path, write: Callable[[Path], object]) -> None:
    """Write a file that appears under its name only when complete, and survives a power cut from then on.

    A writer that is killed leaves a hidden file named after it: `remove_temporaries`.

    Parameters
    ----------
    path : str or Path
        Its folder is made where missing.
    write : callable
        Takes the path of a temporary file in the same folder, with the same suffix, and creates it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary_for(path, write) as temporary:
        os.replace(temporary, path)


def refuse_unwritable(directory: str | Path) -> None:
    """Raise, before the work that would fill it, where a directory cannot be made or written to.

    Parameters
    ----------
    directory : str or Path
        It need not be there.

    Raises
    ------
    UsageError
        It, or the nearest folder above it that is there, is a file or read-only; or the system will not
        hear of such a path: a name too long, a folder that may not be entered.
    """
    absolute = Path(directory).absolute()
    try:
        for nearest in (absolute, *absolute.parents):
            # Not Path.exists, to which, from Python 3.14 on, whatever cannot be looked at is not there.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                nearest.stat()
                break
    except OSError as error:
        raise UsageError(f"{directory}: {error.strerror}; choose another directory.") from None
    if not nearest.is_dir():
        raise UsageError(f"{directory}: {nearest} is a file, not a directory; choose another directory.")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UsageError(f"{directory}: {nearest} is read-only; choose another directory.")


@contextlib.contextmanager
def sole_process(folder: str | Path) -> Iterator[None]:
    """Hold a folder, for as long as the ``with`` lasts, against other processes that would hold it.

    The lock goes with the process, however that ends. Where the file system has none, nothing is held.

    Parameters
    ----------
    folder : str or Path
        Made where missing.

    Yields
    ------
    None

    Raises
    ------
    InputError
        Another process holds it.
    """
    Path(folder).mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InputError(f"{folder}: another process is at work there.") from None
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def temporary_for(path: Path, write: Callable[[Path], object]) -> Iterator[Path]:
    """A complete temporary file beside a path, to be moved there; the move, too, survives a power cut.

    Parameters
    ----------
    path : Path
        Its folder must be there.
    write : callable
        As `atomic_write` takes it.

    Yields
    ------
    Path
        Of the temporary file; it is deleted if it is still there in the end.
    """
    temporary = _temporary_name(path)
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


def sync_folder(folder: str | Path) -> None:
    """Wait until the names in a folder, as they are now, are on the disk.

    Parameters
    ----------
    folder : str or Path
        It must be there.
    """
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


# Bytes of a file's name that the name of its temporary begins with: file systems take 255.
_KEPT = 200


def _temporary_name(path: Path) -> Path:
    return path.with_name(f".{_kept(path.stem)}.{secrets.token_hex(8)}.part{path.suffix}")


def _kept(stem: str) -> str:
    return stem.encode()[:_KEPT].decode(errors="ignore")


def remove_temporaries(directory: str | Path, stems: Iterable[str]) -> None:
    """Delete what writers that were killed have left; none may be at work, unless it is in vain.

    Parameters
    ----------
    directory : str or Path
        Where they wrote.
    stems : iterable of str
        Names of their files, without suffix.
    """
    names = "|".join(re.escape(_kept(stem)) for stem in stems)
    temporary = re.compile(rf"\.(?:{names})\.[0-9a-f]{{16}}\.part(?:\..*)?")
    for path in Path(directory).iterdir():
        if temporary.fullmatch(path.name):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def remove_folder(path: str | Path) -> None:
    """Delete a folder, which from the first moment on is not there: nobody finds the half of it.

    Parameters
    ----------
    path : str or Path
        Of the folder; it need not be there.
    """
    path = Path(path)
    doomed = _temporary_name(path)
    with contextlib.suppress(FileNotFoundError):
        os.rename(path, doomed)
        shutil.rmtree(doomed, ignore_errors=True)


def write_json(path: str | Path, content: dict | list) -> None:
    """Write JSON, atomically. NumPy numbers and arrays become plain ones; what is not finite becomes null."""
    text = _text(content)
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def create_json(path: str | Path, content: dict | list) -> bool:
    """Write JSON unless the file is there; of several processes that try at once, on any machines, one does.

    Parameters
    ----------
    path : str or Path
        Its folder must be there.
    content : dict
        As `write_json` takes it.

    Returns
    -------
    bool
        Whether it was this call that wrote it.
    """
    path, text = Path(path), _text(content)
    with temporary_for(path, lambda temporary: temporary.write_text(text, encoding="utf-8")) as temporary:
        try:
            os.link(temporary, path)
        except FileExistsError:
            return False
        except FileNotFoundError:
            raise
        except OSError:  # a file system without links; there the promise is a weaker one
            if path.exists():
                return False
            os.replace(temporary, path)
    return True


def _text(content: dict | list) -> str:
    return json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
