"""Evidence of single fields on disk, so that an evaluation that was stopped goes on where it was."""

from __future__ import annotations

import functools
import hashlib
import json
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
from astropy.table import Table

import appulse
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.lenient import LenientBlends
from appulse.evaluation.pixels import HardTally, PixelTally
from appulse.evaluation.scores import ObjectCounts
from appulse.evaluation.snapshots import Snapshot
from appulse.evaluation.truth_tables import GalaxyCounts
from appulse.files import atomic_write
from appulse.sky.true_objects import Kind

_TABLES = ("galaxies", "objects", "measured", "ranks", "claimed")
_GALLERIES = ("failures", "uncertain", "regions")
_LAYERS = ("image", "truth", "mean", "std")


@functools.cache
def code_digest() -> str:
    """SHA-256 of the package's own source: evidence that other code has gathered is gathered again."""
    digest, package = hashlib.sha256(), Path(appulse.__file__).parent
    for path in sorted(package.rglob("*.py")):
        digest.update(path.relative_to(package).as_posix().encode())
        digest.update(path.read_bytes())
    return digest.hexdigest()


def save_evidence(evidence: Evidence, path: str | Path, identity: dict) -> None:
    """Write the evidence of a field as plain arrays, whole or not at all.

    Parameters
    ----------
    evidence : Evidence
    path : str or Path
        Ends in ``.npz``.
    identity : dict
        Of what it was gathered from and with; plain values.
    """
    content = _flatten(evidence)
    identity = identity | {"code": code_digest()}
    index = json.dumps([identity, *content])

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:  # given a name, numpy would append .npz to it
            np.savez(file, *content.values(), index=np.array(index))

    atomic_write(path, write)


def load_evidence(path: str | Path, identity: dict) -> Evidence | None:
    """Read what `save_evidence` wrote; nothing in the file is executed.

    Parameters
    ----------
    path : str or Path
    identity : dict
        What is wanted.

    Returns
    -------
    Evidence or None
        None where the file is missing, cut off, or of something else.
    """
    try:
        # Opened here: of a file that is cut off, numpy would leave its own handle open.
        with open(path, "rb") as opened, np.load(opened, allow_pickle=False) as file:
            found, *keys = json.loads(str(file["index"]))
            if found != json.loads(json.dumps(identity | {"code": code_digest()})):
                return None
            return _restore({tuple(key): file[f"arr_{number}"] for number, key in enumerate(keys)})
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def kept(path: Path, identity: dict, gather: Callable[[], Evidence]) -> Evidence:
    """Evidence from where a run before this one left it, or else gathered, and left there.

    Parameters
    ----------
    path : Path
        Ends in ``.npz``.
    identity : dict
        Of what it is gathered from and with; plain values.
    gather : callable
        Gives it.

    Returns
    -------
    Evidence
    """
    evidence = load_evidence(path, identity)
    if evidence is None:
        evidence = gather()
        save_evidence(evidence, path, identity)
    return evidence


def _flatten(evidence: Evidence) -> dict[tuple, np.ndarray]:
    content: dict[tuple, np.ndarray] = {}
    for name, counts in evidence.counts.items():
        content["counts", name] = _of_counts(counts)
    for name, lenient in evidence.lenient.items():
        content["lenient", name] = np.array([lenient.n_right, lenient.n_predicted])
    for key, found in evidence.galaxy_counts.items():
        content["galaxy_counts", *key] = np.array([found.true, found.found, found.matched])
    for name, tally in evidence.pixels.items():
        for field in ("blocks", "probability", "event", "block"):
            content["pixels", name, field] = getattr(tally, field)
    for key, hard in evidence.hard.items():
        content["hard", *key] = hard.counts
    for (name, threshold), counts in evidence.curves.items():
        content["curves", name, threshold] = _of_counts(counts)
    for name in _TABLES:
        content["table", name] = np.asarray(getattr(evidence, name).as_array())
    for name in _GALLERIES:
        for number, shot in enumerate(getattr(evidence, name)):
            content["shot", name, number, shot.title, shot.order] = np.zeros(0)
            for layer in _LAYERS:
                content["layer", name, number, layer] = getattr(shot, layer)
    return content


def _restore(content: dict[tuple, np.ndarray]) -> Evidence:
    def each(kind: str) -> dict[tuple, np.ndarray]:
        return {key[1:]: array for key, array in content.items() if key[0] == kind}

    pixels: dict[str, dict[str, np.ndarray]] = {}
    for (name, field), array in each("pixels").items():
        pixels.setdefault(name, {})[field] = array
    layers = each("layer")
    galleries: dict[str, list[Snapshot]] = {name: [] for name in _GALLERIES}
    for name, number, title, order in each("shot"):
        galleries[name].append(Snapshot(title, order, *(layers[name, number, layer] for layer in _LAYERS)))
    return Evidence(
        counts={name: _to_counts(array) for (name,), array in each("counts").items()},
        lenient={name: LenientBlends(*map(int, pair)) for (name,), pair in each("lenient").items()},
        galaxy_counts={key: GalaxyCounts(*map(int, three)) for key, three in each("galaxy_counts").items()},
        pixels={name: PixelTally(**arrays) for name, arrays in pixels.items()},
        hard={key: HardTally(counts) for key, counts in each("hard").items()},
        curves={key: _to_counts(array) for key, array in each("curves").items()},
        **{name: Table(array) if array.dtype.names else Table() for (name,), array in each("table").items()},
        **{name: tuple(shots) for name, shots in galleries.items()},
    )


def _of_counts(counts: ObjectCounts) -> np.ndarray:
    return np.append(counts.table, counts.stray_blends)


def _to_counts(array: np.ndarray) -> ObjectCounts:
    *table, stray_blends = array.tolist()
    return ObjectCounts(np.array(table).reshape(len(Kind), len(Kind)), stray_blends)
