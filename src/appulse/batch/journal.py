"""What a directory of products holds: the options, and for each image the content it was made of."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from appulse.files import UsageError, create_json, refuse_unwritable, remove_folder, write_json

# The options of all that is in the directory, and a folder with one record per image.
FINGERPRINT = "appulse.json"
RECORDS = ".appulse"


@dataclass(frozen=True)
class Journal:
    """One directory's, as a run with certain options sees it.

    Any number of runs with the same options may use it at once: the options are written by one of them, and a
    record by the run that has finished its image.

    Parameters
    ----------
    directory : Path
        Of the products.
    options : dict
        As `appulse.batch.BatchOptions.fingerprint` gives them.
    overwrite : bool
        Whether results of other options or inputs give way.
    """

    directory: Path
    options: dict
    overwrite: bool

    def check(self) -> None:
        """Make sure that these options may be used here, before anything is written.

        Raises
        ------
        UsageError
            Not a directory that can be made or written to, or one of other options.
        """
        refuse_unwritable(self.directory)
        if not self.overwrite and self._path.exists():
            if self._held() is None:
                raise UsageError(f"{self._path} is damaged or not appulse's; remove it, or --overwrite.")
            self._refuse_others()

    def begin(self, names: Sequence[str]) -> None:
        """Write down the options; to overwrite, forget what is to be made anew.

        An overwriting run leaves a note until it has done all, so that the same again goes on where it was
        stopped.

        Parameters
        ----------
        names : sequence of str
            Of the images of this run.

        Raises
        ------
        UsageError
            The directory cannot be made or written, or a run with other options has begun there just now.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if self.overwrite and self._held() != self.options:
                remove_folder(self._records)
                write_json(self._path, {"options": self.options})
            self._records.mkdir(exist_ok=True)
            create_json(self._path, {"options": self.options})
            if self.overwrite and not self._note(names).exists():
                for name in names:
                    self._record(name).unlink(missing_ok=True)
                create_json(self._note(names), {})
        except OSError as error:
            raise UsageError(f"-o {self.directory}: cannot write there ({error.strerror}).") from None
        self._refuse_others()

    def end(self, names: Sequence[str]) -> None:
        """Take note that everything is done.

        Parameters
        ----------
        names : sequence of str
            As `begin` was given them.
        """
        self._note(names).unlink(missing_ok=True)

    def abandon(self) -> None:
        """Leave a directory in which nothing came to anything to whatever options are tried next."""
        begun = [*self._records.glob("*"), *self.directory.glob(".*.work")]
        if not begun:
            self._path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # another run has begun just now
                self._records.rmdir()

    def is_overwriting(self, names: Sequence[str]) -> bool:
        """Whether a run that overwrote these images was stopped.

        Parameters
        ----------
        names : sequence of str
            As `begin` was given them.
        """
        return self._note(names).exists()

    def has(self, name: str, content: Callable[[], str]) -> bool:
        """Whether this very input was done, by whomever.

        Parameters
        ----------
        name : str
            What its products' names begin with.
        content : callable
            Gives the hash of image and maps. That takes time: it is asked for only where there is a record.

        Raises
        ------
        UsageError
            Another input is, under its name, or other options have come between.
        """
        self._refuse_others()
        try:
            record = json.loads(self._record(name).read_text())
        except (OSError, ValueError):
            return False
        if record.get("options") != _digest(self.options):
            return False
        same = record.get("content") == content()
        if not same and not self.overwrite:
            raise UsageError(
                f"{self.directory} holds results of another file named {name}; choose another directory, or "
                "give that image alone with --overwrite, which makes all that it is given anew."
            )
        return same

    def add(self, name: str, content: str) -> None:
        """Take note that an input is done.

        Parameters
        ----------
        name : str
            As `has` takes it.
        content : str
            Hash of image and maps.

        Raises
        ------
        UsageError
            A run with other options has begun there meanwhile.
        """
        # Another run, which came to nothing, may have taken the options with it.
        create_json(self._path, {"options": self.options})
        self._refuse_others()
        write_json(self._record(name), {"content": content, "options": _digest(self.options)})

    def _refuse_others(self) -> None:
        held = self._held()
        if held is not None and held != self.options:
            differing = sorted(key for key in self.options if held.get(key) != self.options[key])
            raise UsageError(
                f"{self.directory} holds results with other options ({', '.join(differing)}); "
                "choose another directory, or --overwrite."
            )

    def knows(self, name: str) -> bool:
        """Whether there is a record of an image, of whatever content.

        Parameters
        ----------
        name : str
            What its products' names begin with.
        """
        return self._record(name).exists()

    @property
    def _path(self) -> Path:
        return self.directory / FINGERPRINT

    @property
    def _records(self) -> Path:
        return self.directory / RECORDS

    def _record(self, name: str) -> Path:
        return self._records / f"{name}.json"

    def _note(self, names: Sequence[str]) -> Path:
        return self._records / f"overwriting-{_digest(sorted(names))[:16]}"

    def _held(self) -> dict | None:
        try:
            return dict(json.loads(self._path.read_text())["options"])
        except (OSError, ValueError, KeyError, TypeError):
            return None


def _digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
