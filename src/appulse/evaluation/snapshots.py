"""Pictures worth keeping of a field: stamps of every case, the worst failures, the least certain blends."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from appulse.inference.sampler import Sampler
from appulse.result import Result
from appulse.sky.field import Field
from appulse.windows import Window, shape_of, window_sums

# Largest side of the field that Figure 5 shows, pixels.
FIGURE5_SIDE = 512
# Pictures in a gallery, and the least side of one, pixels.
GALLERY, _LEAST_SIDE = 8, 48


@dataclass(frozen=True)
class Snapshot:
    """One part of a field.

    Parameters
    ----------
    title : str
        For people.
    order : float
        Galleries show the smallest first.
    image : (height, width) float32 array, units of the noise
    truth : (height, width) uint8 array
        True class map.
    mean, std : (height, width) float32 array
        Of the class over realisations.
    """

    title: str
    order: float
    image: np.ndarray
    truth: np.ndarray
    mean: np.ndarray
    std: np.ndarray


def figure1_stamps(field: Field, scaled: np.ndarray, sampler: Sampler) -> list[Snapshot]:
    """The three cases of the paper's Figure 1, drawn as single stamps, so that the edge cuts what it cuts.

    Parameters
    ----------
    field : Field
    scaled : (height, width) float32 array, units of the noise
        The field's image.
    sampler : Sampler
        Model, seed and realisations.

    Returns
    -------
    list of Snapshot
        The stamp with most overlap; the one with most galaxy and no overlap; the emptiest.
    """
    ternary, size = field.ternary(), sampler.size
    if min(ternary.shape) < size:
        return []
    step = max(size // 4, 1)
    tops, lefts = (np.arange(0, side - size + 1, step) for side in ternary.shape)
    overlap, galaxy = (window_sums(ternary == level, tops, lefts, (size, size)) for level in (2, 1))
    choices = {
        "overlap": np.unravel_index(overlap.argmax(), overlap.shape),
        "border": np.unravel_index((galaxy - galaxy.max() * (overlap > 0)).argmax(), galaxy.shape),
        "empty": np.unravel_index((galaxy + overlap).argmin(), galaxy.shape),
    }
    origins = [(int(tops[i]), int(lefts[j])) for i, j in choices.values()]
    shots = []
    for order, (title, stamp) in enumerate(zip(choices, sampler.draw(scaled, origins), strict=True)):
        top, left = stamp.origin
        window = slice(top, top + size), slice(left, left + size)
        mean, std = stamp.classes.mean(axis=0), stamp.classes.std(axis=0)
        shots.append(Snapshot(title, order, scaled[window], ternary[window], mean, std))
    return shots


def figure5_region(field: Field, result: Result) -> Snapshot:
    """The part of a field with most overlap, as the paper's Figure 5 shows one.

    Parameters
    ----------
    field : Field
    result : Result
        Of that field.

    Returns
    -------
    Snapshot
    """
    ternary = field.ternary()
    side = min(FIGURE5_SIDE, *ternary.shape)
    tops, lefts = (np.arange(0, length - side + 1, 64) for length in ternary.shape)
    overlap = window_sums(ternary == 2, tops, lefts, (side, side))
    i, j = np.unravel_index(overlap.argmax(), overlap.shape)
    window = slice(tops[i], tops[i] + side), slice(lefts[j], lefts[j] + side)
    return _snapshot("field", 0.0, field, result, window)


def worst_failures(field: Field, result: Result, objects: Table, model: str) -> list[Snapshot]:
    """The brightest true objects that the model misses or takes for something else.

    Parameters
    ----------
    field : Field
    result : Result
        Of that field.
    objects : Table
        From `object_table`.
    model : str
        Whose outcomes.

    Returns
    -------
    list of Snapshot
    """
    outcome = objects[f"outcome_{model}"]
    wrong = objects[(objects["kind"] != outcome) & (objects["kind"] != "touching")]
    wrong = wrong[np.argsort(wrong["magnitude"])][:GALLERY]
    return [
        _around(
            f"{row['kind']}: {row[f'outcome_{model}']}\n{row['magnitude']:.1f} mag",
            float(row["magnitude"]),
            field,
            result,
            (row["y"], row["x"]),
            row["width"],
        )
        for row in wrong
    ]


def uncertain_blends(field: Field, result: Result) -> list[Snapshot]:
    """The galaxies of which half the realisations say that they overlap another.

    Parameters
    ----------
    field : Field
    result : Result
        Of that field.

    Returns
    -------
    list of Snapshot
    """
    catalog = result.catalog
    # A blend's galaxies share one window: once is enough.
    windows = [(cutout.window[0].start, cutout.window[1].start) for cutout in result.cutouts]
    doubt = np.abs(np.asarray(catalog["p_blend"], float) - 0.5)
    shots: list[Snapshot] = []
    seen: set[tuple[int, int]] = set()
    for k in np.argsort(doubt, kind="stable"):
        if len(shots) == GALLERY or doubt[k] >= 0.45:
            break
        if windows[k] in seen:
            continue
        seen.add(windows[k])
        box = result.cutouts[k].window
        middle = tuple(0.5 * (side.start + side.stop) for side in box)
        width = max(shape_of(box)) - 24
        title = f"P(blend) = {catalog['p_blend'][k]:.2f}"
        shots.append(_around(title, float(doubt[k]), field, result, middle, width))
    return shots


def _around(
    title: str, order: float, field: Field, result: Result, middle: Sequence[float], width: float
) -> Snapshot:
    half = max(int(width) // 2 + 10, _LEAST_SIDE // 2)
    rows, columns = (
        slice(max(int(centre) - half, 0), min(int(centre) + half, length))
        for centre, length in zip(middle, field.image.shape, strict=True)
    )
    return _snapshot(title, order, field, result, (rows, columns))


def _snapshot(title: str, order: float, field: Field, result: Result, window: Window) -> Snapshot:
    layers = (result.image, field.ternary(), result.mean, result.std)
    return Snapshot(title, order, *(layer[window].copy() for layer in layers))
