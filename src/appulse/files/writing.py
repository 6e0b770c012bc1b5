"""Writing files that are whole or not there, and JSON."""

import json
import math
import os
import secrets
from collections.abc import Callable
from pathlib import Path

import numpy as np


def atomic_write(path, write: Callable[[Path], object]):
    """Write a file that appears under its name only when complete, and survives a power cut from then on.

    Parameters
    ----------
    path : str or Path
        Its folder is made where missing.
    write : callable
        Takes the path of a temporary file in the same folder, with the same suffix, and creates it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path, content):
    """Write JSON, atomically. NumPy numbers and arrays become plain ones; what is not finite becomes null."""
    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value
