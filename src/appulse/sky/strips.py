"""A field in strips of rows: each is simulated alone, and together they are the field.

A strip draws every source whose bounding box meets it, in the order of the catalogue, and keeps the part
inside. Sources near its borders are drawn by two strips; nothing else is shared, so that strips can be made
in any order, by any process, on any machine. Each galaxy is owned by one strip, which measures it.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from appulse.objects.catalog import MEASURED
from appulse.objects.measurement import measure
from appulse.sky.noise import draw_noise
from appulse.sky.rendering import Renderer, SourceImage
from appulse.sky.sources import GALAXY, draw_sources
from appulse.sky.survey import Survey
from appulse.sky.truth import Layers, add_light, blendedness, shared_light, summed_light, ternary_map

# Rows of a strip. Not an option: sums over galaxies that straddle strips are added strip by strip, so another
# height could change their last bit. 1024 rows of 25,000 pixels keep a worker near 1 GB.
STRIP_ROWS = 1024
# What is measured of each galaxy inside its own noise-free isophote.
ISOPHOTAL = MEASURED
# Columns of the sources that only the drawing needs.
_UNPUBLISHED = ("kind",)


@dataclass(frozen=True)
class StripTask:
    """All that is needed to simulate one strip, anywhere.

    Parameters
    ----------
    survey : Survey
        Telescope and sky.
    seed, index : int
        Seed, and number of the field under that seed.
    number : int
        Of the strip, from 0 at the bottom.
    y0, rows, width : int
        First row, height and width, pixels.
    sources : astropy.table.Table
        Those that may have light here, in the catalogue's order, with ``id`` (0: no label) and ``owned``.
    has_other : bool
        Whether any source of the *field* has no label.
    """

    survey: Survey
    seed: int
    index: int
    number: int
    y0: int
    rows: int
    width: int
    sources: Table
    has_other: bool

    @property
    def galaxies(self) -> int:
        """Galaxies that this strip measures; those of all strips are the catalogue."""
        return int(np.count_nonzero(self.sources["owned"]))


@dataclass(frozen=True)
class Strip:
    """A simulated strip; arrays as those of `Field`.

    Parameters
    ----------
    layers : dict of (rows, width) arrays
        Those of `field_file`: the image and `LAYERS` by their attributes, ``other`` where the field has it.
    deeper : dict of (n,) arrays
        ``y`` (in the field), ``x``, ``id``, ``flux``.
    measured : dict of arrays
        ``owned``: ids of the galaxies measured, ``isophotal``: (n, 5) their numbers as in `ISOPHOTAL`;
        ``lit``: ids of the galaxies with light here, ``own`` and ``shared``: their sums of `shared_light`.
    """

    layers: dict[str, np.ndarray]
    deeper: dict[str, np.ndarray]
    measured: dict[str, np.ndarray]


@dataclass(frozen=True)
class FieldPlan:
    """A field before it is drawn: its sources, and its strips.

    Parameters
    ----------
    survey : Survey
        What is simulated; for a survey of ranges, as it was drawn for this field.
    shape : (height, width)
        Pixels.
    seed, index : int
        Seed, and number of the field under that seed.
    sources : astropy.table.Table
        Those whose bounding box reaches the field, with ``id``, ``y_low`` and ``y_high``.
    lit : float
        Pixels that the layers will hold at most, over those of the field.
    """

    survey: Survey
    shape: tuple[int, int]
    seed: int
    index: int
    sources: Table
    lit: float

    @classmethod
    def draw(cls, survey: Survey, shape: tuple[int, int], seed: int, index: int) -> FieldPlan:
        """Draw the sources of a field.

        Parameters
        ----------
        survey : Survey
            Telescope and sky.
        shape : (height, width)
            Pixels.
        seed, index : int
            Seed, and number of the field under that seed.
        """
        height, width = shape
        survey = survey.for_field(seed, index)
        sources = draw_sources(survey, shape, seed, index)
        renderer = Renderer(survey)
        boxes = np.array([renderer.box(row) for row in _rows(sources)], np.int64).reshape(-1, 4)
        y_low, y_high, x_low, x_high = boxes.T
        reach = (y_high > 0) & (y_low < height) & (x_high > 0) & (x_low < width)
        sources, boxes = sources[reach], boxes[reach]
        y_low, y_high, x_low, x_high = np.clip(boxes.T, 0, [[height], [height], [width], [width]])
        labelled = np.asarray(sources["kind"]) == GALAXY
        sources["id"] = np.where(labelled, np.cumsum(labelled), 0).astype(np.int32)
        sources["y_low"], sources["y_high"] = y_low, y_high
        # Of a galaxy's box its ellipse covers pi / 4 at most.
        lit = np.pi / 4 * float(np.sum((y_high - y_low) * (x_high - x_low))) / (height * width)
        return cls(survey, shape, seed, index, sources, lit)

    @property
    def catalog(self) -> Table:
        """The galaxies with labels, as drawn: row ``id - 1`` is galaxy ``id``."""
        catalog = self.sources[np.asarray(self.sources["id"]) > 0]
        names = [name for name in catalog.colnames if name not in ("id", "y_low", "y_high", *_UNPUBLISHED)]
        return catalog[["id", *names]]

    def tasks(self) -> list[StripTask]:
        """The strips, from the bottom."""
        height, width = self.shape
        sources = self.sources
        identities = np.asarray(sources["id"])
        # A galaxy whose centre lies outside belongs to the nearest strip, which its box reaches too.
        centre = np.clip(np.floor(np.asarray(sources["y"]) + 0.5), 0, height - 1)
        owner = np.where(identities > 0, centre // STRIP_ROWS, -1)
        tasks = []
        for number, y0 in enumerate(range(0, height, STRIP_ROWS)):
            rows = min(STRIP_ROWS, height - y0)
            here = (np.asarray(sources["y_low"]) < y0 + rows) & (np.asarray(sources["y_high"]) > y0)
            some = sources[here]
            some["owned"] = owner[here] == number
            some.remove_columns(["y_low", "y_high"])
            tasks.append(
                StripTask(
                    self.survey,
                    self.seed,
                    self.index,
                    number,
                    y0,
                    rows,
                    width,
                    some,
                    bool((identities == 0).any()),
                )
            )
        return tasks


def draw_strip(task: StripTask) -> Strip:
    """Simulate one strip.

    Parameters
    ----------
    task : StripTask
        Of `FieldPlan.tasks`.

    Returns
    -------
    Strip
    """
    survey, shape = task.survey, (task.rows, task.width)
    renderer, layers = Renderer(survey), Layers.empty(shape)
    other = np.zeros(shape, np.float32) if task.has_other else None
    owned, isophotal, lit = [], [], []
    for source in _rows(task.sources):
        drawn = renderer.draw(source)
        identity = int(source["id"])
        if source["owned"]:
            owned.append(identity)
            isophotal.append(_isophotal(drawn, survey.sigma))
        if drawn is None:
            continue
        inside = SourceImage(drawn.y0 - task.y0, drawn.x0, drawn.image)
        if other is not None and identity == 0:
            add_light(other, inside)
        elif layers.add(inside, identity):
            lit.append((identity, inside))

    deeper = layers.sparse()
    light = summed_light(layers.first, layers.second, deeper, other)
    deeper["y"] += np.int32(task.y0)
    sums = [shared_light(drawn, light) for _, drawn in lit]
    image = draw_noise(survey, light, task.y0, task.seed, task.index)
    image += light
    planes: dict[str, np.ndarray] = {
        "image": image,
        "first": layers.first,
        "second": layers.second,
        "id1": layers.id1,
        "id2": layers.id2,
        "ternary": ternary_map(layers.first, layers.second, survey.sigma),
    }
    if other is not None:
        planes["other"] = other
    measured: dict[str, np.ndarray] = {
        "owned": np.array(owned, np.int32),
        "isophotal": np.array(isophotal, np.float64).reshape(-1, len(ISOPHOTAL)),
        "lit": np.array([identity for identity, _ in lit], np.int32),
        "own": np.array([own for own, _ in sums], np.float64),
        "shared": np.array([shared for _, shared in sums], np.float64),
    }
    return Strip(planes, deeper, measured)


def measured_catalog(catalog: Table, strips: Sequence[dict[str, np.ndarray]]) -> Table:
    """The catalogue of a field with what its strips measured.

    Parameters
    ----------
    catalog : astropy.table.Table
        Of the field's plan.
    strips : sequence of dict
        `Strip.measured` of each, from the bottom.

    Returns
    -------
    astropy.table.Table
        A copy, with ``isophotal_*`` and ``blendedness``.
    """
    catalog = catalog.copy()
    isophotal = np.full((len(catalog), len(ISOPHOTAL)), np.nan)
    own, shared = np.zeros((2, len(catalog)))
    for measured in strips:
        isophotal[measured["owned"] - 1] = measured["isophotal"]
        own[measured["lit"] - 1] += measured["own"]
        shared[measured["lit"] - 1] += measured["shared"]
    for name, values in zip(ISOPHOTAL, isophotal.T, strict=True):
        catalog[f"isophotal_{name}"] = values.copy()
    catalog["blendedness"] = blendedness(own, shared)
    return catalog


def _isophotal(drawn: SourceImage | None, sigma: float) -> list[float]:
    if drawn is None:
        return [0.0] + [np.nan] * (len(ISOPHOTAL) - 1)
    measurement = measure(drawn.image, drawn.image > sigma)
    return [getattr(measurement, name) for name in ISOPHOTAL]


def _rows(table: Table) -> Iterator[dict]:
    columns = [np.asarray(table[name]).tolist() for name in table.colnames]
    for values in zip(*columns, strict=True):
        yield dict(zip(table.colnames, values, strict=True))
