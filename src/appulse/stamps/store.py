"""A store of noise-free stamps: cut from simulated fields once, then read at random by training.

A folder of NumPy arrays that are mapped into memory, and ``stamps.json``, which says what they are. Of each
layer only the lit pixels are kept, in runs along the rows: a tenth of the bytes, which is as small as a
compressed array gets and is read in place, at random, without decompressing (docs/decisions/0010).
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appulse.files import InputError

FORMAT = 1
ABOUT = "stamps.json"
LAYERS = ("first", "second", "rest")
PARTS = ("runs", "runs_start", "values", "values_start")


@dataclass(frozen=True)
class StoredLayer:
    """The lit pixels of one layer of every stamp, one stamp after the other.

    Parameters
    ----------
    runs : (runs, 2) uint16 or uint32 array
        Of neighbouring lit pixels: place of the first in the stamp, row by row, and their number.
    runs_start : (stamps + 1,) int64 array
        Where each stamp's runs begin.
    values : (pixels,) float16 array, units of the field's noise
        Surface brightness of all lit pixels.
    values_start : (stamps + 1,) int64 array
        Where each stamp's pixels begin.
    counts : bool
        Whether its pixels count for the ternary map.
    """

    runs: np.ndarray
    runs_start: np.ndarray
    values: np.ndarray
    values_start: np.ndarray
    counts: bool

    def pixels(self, first: int, end: int) -> np.ndarray:
        """Places in their stamps of the lit pixels of some stamps.

        Parameters
        ----------
        first, end : int
            First stamp, and the one after the last.

        Returns
        -------
        (pixels,) int64 array
        """
        start, length = self.runs[self.runs_start[first] : self.runs_start[end]].T.astype(np.int64)
        return np.repeat(start - (np.cumsum(length) - length), length) + np.arange(length.sum())


@dataclass(frozen=True)
class StampStore:
    """Noise-free stamps.

    Parameters
    ----------
    path : Path
        The folder.
    size : int, pixels
        Width of a stamp.
    shares : dict of str to float
        ``overlap_share`` and ``giant_share`` of `StampConfig` that it was cut with, where it says.
    layers : tuple of StoredLayer
        Brightest galaxy, second-brightest galaxy, light of all others; together they are the light.
    field : (stamps,) int32 array
        Field that each stamp was cut from.
    corner : (stamps, 2) int32 array, pixels
        Its first row and column there.
    noise : (fields,) float64 array, mag / arcsec^2
        Depth of each field.
    correlation : (fields,) float64 array, pixels
        Standard deviation of the Gaussian that correlates its noise; 0 for white noise.
    gain : (fields,) float64 array, electrons per unit of the field's noise
        Of the sources' photon noise; infinite where it has none.
    seeds : tuple of int
        Of the fields.
    surveys : dict of str to str
        Name and digest of what was simulated; one of all digests where fields of a name differ, as those of a
        survey with ranges do.
    psf_fwhm_pixels : (float, float)
        Narrowest and widest PSF.
    """

    path: Path
    size: int
    shares: dict[str, float]
    layers: tuple[StoredLayer, ...]
    field: np.ndarray
    corner: np.ndarray
    noise: np.ndarray
    correlation: np.ndarray
    gain: np.ndarray
    seeds: tuple[int, ...]
    surveys: dict[str, str]
    psf_fwhm_pixels: tuple[float, float]

    def __len__(self) -> int:
        return len(self.field)

    @property
    def bytes(self) -> int:
        """Size on disk."""
        return sum(file.stat().st_size for file in self.path.iterdir())

    @classmethod
    def open(cls, path: str | Path) -> StampStore:
        """Map a store into memory.

        Parameters
        ----------
        path : str or Path
            What `build_store` wrote.

        Raises
        ------
        InputError
            Not a store, or a damaged one, or one of another version.
        """
        path = Path(path)
        try:
            about = json.loads((path / ABOUT).read_text())
            if about["format"] != FORMAT:
                raise InputError(
                    f"{path}: a store of stamps of format {about['format']}, this version reads {FORMAT}; "
                    "delete it, and it is built anew."
                )
            arrays = {name: np.load(path / f"{name}.npy", mmap_mode="r") for name in array_names()}
            return cls(
                path=path,
                size=about["size"],
                shares={name: about[name] for name in ("overlap_share", "giant_share") if name in about},
                layers=tuple(
                    StoredLayer(**{part: arrays[f"{layer}_{part}"] for part in PARTS}, counts=counts)
                    for layer, counts in zip(LAYERS, (True, True, False), strict=True)
                ),
                field=np.asarray(arrays["field"]),
                corner=arrays["corner"],
                noise=np.array([field["noise"] for field in about["fields"]]),
                correlation=np.array([field["correlation"] for field in about["fields"]]),
                gain=np.array([field.get("gain", np.inf) for field in about["fields"]]),
                seeds=tuple(sorted({field["seed"] for field in about["fields"]})),
                surveys=joined_digests(*({each["survey"]: each["digest"]} for each in about["fields"])),
                psf_fwhm_pixels=tuple(about["psf_fwhm_pixels"]),
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            if not (path / ABOUT).is_file():
                raise InputError(f"{path}: not a store of stamps ({error}).") from None
            raise InputError(
                f"{path}: a damaged store of stamps ({error}); delete it, give the directory of the "
                "fields, and it is cut anew."
            ) from None

    def dense(self, stamps: Sequence[int] | np.ndarray) -> np.ndarray:
        """Stamps as arrays.

        Parameters
        ----------
        stamps : sequence of int
            Their numbers.

        Returns
        -------
        (n, 3, size, size) float32 array, units of the field's noise
            Light, brightest galaxy, second-brightest galaxy.
        """
        parts = np.zeros((len(stamps), 3, self.size**2), np.float32)
        for place, stamp in enumerate(stamps):
            for number, layer in enumerate(self.layers):
                values = layer.values[layer.values_start[stamp] : layer.values_start[stamp + 1]]
                parts[place, number, layer.pixels(stamp, stamp + 1)] = values
        first, second, rest = parts.transpose(1, 0, 2)
        dense = np.stack([first + second + rest, first, second], axis=1)
        return dense.reshape(-1, 3, self.size, self.size)


def joined_digests(*surveys: Mapping[str, str]) -> dict[str, str]:
    """One digest for each name of a survey, of all that have it.

    Parameters
    ----------
    *surveys : mapping of str to str
        Digests by name.
    """
    digests: dict[str, set[str]] = {}
    for each in surveys:
        for name, digest in each.items():
            digests.setdefault(name, set()).add(digest)
    return {
        name: next(iter(each))
        if len(each) == 1
        else hashlib.sha256("".join(sorted(each)).encode()).hexdigest()
        for name, each in digests.items()
    }


def array_names() -> list[str]:
    """Names of the arrays of a store; each is a file."""
    return [f"{layer}_{part}" for layer in LAYERS for part in PARTS] + ["field", "corner"]
