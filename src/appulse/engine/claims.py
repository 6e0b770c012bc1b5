"""Claims on pixels as plain arrays, which a store can keep."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from appulse.inference.two_step import Claim

_PARTS = ("distance", "p_galaxy", "p_overlap", "planes")


def pack_claims(claims: list[Claim]) -> dict[str, np.ndarray]:
    """Arrays of one dimension: the pixels of all claims, one after another, and their windows.

    Parameters
    ----------
    claims : list of Claim
        Of a block.
    """
    packed = {
        "number": np.array([claim.number for claim in claims], np.int64),
        "windows": np.array([(w.start, w.stop) for claim in claims for w in claim.window], np.int64),
    }
    for name in _PARTS:
        parts = [getattr(claim, name) for claim in claims]
        packed[name] = np.concatenate([part.ravel() for part in parts]) if parts else np.empty(0, np.float32)
    return packed


def unpack_claims(packed: dict[str, np.ndarray]) -> Iterator[Claim]:
    """What `pack_claims` has packed.

    Parameters
    ----------
    packed : dict of str to array
        Of a block.

    Yields
    ------
    Claim
    """
    windows = packed["windows"].reshape(-1, 2, 2)
    shapes = windows[:, :, 1] - windows[:, :, 0]
    ends = np.cumsum(shapes.prod(axis=1))
    per_pixel = {name: len(packed[name]) // max(ends[-1] if len(ends) else 0, 1) for name in _PARTS}
    for number, window, shape, end in zip(packed["number"], windows, shapes, ends, strict=True):
        start = end - shape.prod()
        parts = {name: packed[name][start * n : end * n] for name, n in per_pixel.items()}
        parts = {name: part.reshape(*shape) for name, part in parts.items() if name != "planes"} | {
            "planes": parts["planes"].reshape(2, -1, *shape)
        }
        rows, columns = (slice(int(a), int(b)) for a, b in window)
        yield Claim(int(number), (rows, columns), **parts)
