"""A simulated field: noisy image, layered truth and catalogue."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table, vstack

from appulse.files import InputError
from appulse.progress import Progress
from appulse.sky.field_file import FIELD_LAYERS
from appulse.sky.strips import FieldPlan, Strip, draw_strip, measured_catalog
from appulse.sky.survey import Survey
from appulse.sky.truth import summed_light, ternary_map
from appulse.tasks import run_tasks
from appulse.windows import Window


@dataclass(frozen=True)
class Field:
    """A simulated field, or a window of one.

    Parameters
    ----------
    image, first, second : (height, width) float32 array, flux units of the survey
        Observed image; brightest and second-brightest galaxy per pixel (noise-free).
    id1, id2 : (height, width) int32 array
        Identities of those two galaxies; 0 for none.
    deeper : astropy.table.Table
        Third and later galaxies of crowded pixels: ``y``, ``x``, ``id``, ``flux``.
    catalog : astropy.table.Table
        One row per galaxy whose light could reach the field, ``id`` ascending; see `simulate_field`.
    survey : Survey
        What was simulated.
    seed, index : int
        Seed, and number of the field under that seed.
    other : (height, width) float32 array, optional
        Noise-free light of sources without a label (stars, galaxies below the limit).
    """

    image: np.ndarray
    first: np.ndarray
    second: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    deeper: Table
    catalog: Table
    survey: Survey
    seed: int
    index: int
    other: np.ndarray | None = None

    @property
    def sigma(self) -> float:
        """Background noise per pixel, flux units."""
        return self.survey.sigma

    @property
    def light(self) -> np.ndarray:
        """Noise-free sum of all sources, (height, width) float32; made anew at every call."""
        return summed_light(self.first, self.second, self.deeper, self.other)

    def ternary(self, threshold: float = 1.0) -> np.ndarray:
        """Ternary map of the paper at ``threshold`` times the survey's noise.

        Parameters
        ----------
        threshold : float, units of the noise
            ``k`` of the truth definition.

        Returns
        -------
        (height, width) uint8 array
        """
        return ternary_map(self.first, self.second, threshold * self.sigma)

    def galaxy_mask(self, identity: int, threshold: float = 1.0) -> np.ndarray:
        """Pixels in which one galaxy, alone and noise-free, is above the threshold.

        Parameters
        ----------
        identity : int
            The galaxy's ``id``.
        threshold : float, units of the noise
            ``k`` of the truth definition.

        Returns
        -------
        (height, width) bool array
        """
        limit = threshold * self.sigma
        mask = (self.id1 == identity) & (self.first > limit)
        mask |= (self.id2 == identity) & (self.second > limit)
        third = (self.deeper["id"] == identity) & (self.deeper["flux"] > limit)
        mask[self.deeper["y"][third], self.deeper["x"][third]] = True
        return mask

    def galaxies(self, identities: np.ndarray) -> Table:
        """Rows of the catalogue, by identity: a window's catalogue has gaps.

        Parameters
        ----------
        identities : (n,) int array
            Each an ``id`` of the catalogue.

        Returns
        -------
        astropy.table.Table
            n rows, in that order.

        Raises
        ------
        KeyError
            One of them is not in the catalogue.
        """
        return galaxies_of(self.catalog, identities)

    def cut(self, window: Window) -> Field:
        """A window of the field.

        Parameters
        ----------
        window : (slice, slice)
            Rows and columns, without a step. What reaches past the field is cut.

        Returns
        -------
        Field
            Positions count from the window's corner, identities stay, arrays are views. Its catalogue holds
            the galaxies with light or with their centre in the window; what was measured on their whole
            image (``isophotal_*``, ``blendedness``) stays.

        Raises
        ------
        InputError
            A window without a pixel of the field, or with a step.
        """
        window = on_field(window, self.image.shape)
        arrays = {name: array[window] for name, array in self.layers().items()}
        deeper, catalog = cut_tables(self.deeper, self.catalog, window, arrays["id1"], arrays["id2"])
        return Field(
            **arrays,
            deeper=deeper,
            catalog=catalog,
            survey=self.survey,
            seed=self.seed,
            index=self.index,
        )

    def layers(self) -> dict[str, np.ndarray]:
        """Image and truth by attribute, without those that the field does not have.

        Returns
        -------
        dict of str to (height, width) array
            Of `FIELD_LAYERS`, in their order; the arrays themselves.
        """
        arrays = {layer.attribute: getattr(self, layer.attribute) for layer in FIELD_LAYERS}
        return {name: array for name, array in arrays.items() if array is not None}


def galaxies_of(catalog: Table, identities: np.ndarray) -> Table:
    """Rows of a field's catalogue, or of a part of it, by identity.

    Parameters
    ----------
    catalog : astropy.table.Table
        With ``id``, ascending.
    identities : (n,) int array
        Each an ``id`` of the catalogue.

    Returns
    -------
    astropy.table.Table
        n rows, in that order.

    Raises
    ------
    KeyError
        One of them is not in the catalogue.
    """
    ids, wanted = np.asarray(catalog["id"]), np.asarray(identities)
    rows = np.searchsorted(ids, wanted)
    found = rows < len(ids)
    found[found] = ids[rows[found]] == wanted[found]
    if not found.all():
        raise KeyError(f"no galaxy {wanted[~found][0]} in this catalogue of {len(ids)}.")
    return catalog[rows]


def on_field(window: Window, shape: tuple[int, int]) -> Window:
    """The part of a window that lies on a field.

    Parameters
    ----------
    window : (slice, slice)
        Rows and columns.
    shape : (height, width), pixels
        Of the field.

    Returns
    -------
    (slice, slice)
        With its ends.

    Raises
    ------
    InputError
        It has no pixel of the field, or a step.
    """
    sides = [side.indices(n) for side, n in zip(window, shape, strict=True)]
    if any(step != 1 or low >= high for low, high, step in sides):
        raise InputError(f"window {window} is empty or has a step; the field is {shape}.")
    rows, columns = (slice(low, high) for low, high, _ in sides)
    return rows, columns


def cut_tables(
    deeper: Table, catalog: Table, window: Window, id1: np.ndarray, id2: np.ndarray
) -> tuple[Table, Table]:
    """Tables of a window from those of its field, positions from the window's corner.

    Parameters
    ----------
    deeper, catalog : astropy.table.Table
        As of `Field`.
    window : (slice, slice)
        From `on_field`.
    id1, id2 : (height, width) int32 array
        Of the window: galaxies with light in it are kept, wherever their centre is.

    Returns
    -------
    deeper, catalog : astropy.table.Table
    """
    (y_low, y_high), (x_low, x_high) = ((side.start, side.stop) for side in window)

    def inside(table: Table) -> np.ndarray:
        y, x = np.asarray(table["y"]), np.asarray(table["x"])
        # Pixels reach half a unit around their centres.
        return (y >= y_low - 0.5) & (y < y_high - 0.5) & (x >= x_low - 0.5) & (x < x_high - 0.5)

    def shifted(table: Table) -> Table:
        table["y"] -= y_low
        table["x"] -= x_low
        return table

    deeper = shifted(deeper[inside(deeper)])
    identities = np.asarray(catalog["id"])
    lit = np.zeros(int(identities[-1]) + 1 if len(identities) else 1, bool)
    for layer in (id1, id2, deeper["id"]):
        lit[np.asarray(layer)] = True
    return deeper, shifted(catalog[lit[identities] | inside(catalog)])


def simulate_field(
    survey: Survey,
    size: int | tuple[int, int],
    seed: int,
    index: int = 0,
    *,
    workers: int = 1,
    progress: Progress | None = None,
) -> Field:
    """Simulate one field in memory; it depends on survey, size, seed and index, and on nothing else.

    Parameters
    ----------
    survey : Survey
        Telescope and sky.
    size : int or (height, width), pixels
        Of the field.
    seed, index : int
        Seed, and number of the field under that seed.
    workers : int
        Processes that draw strips of the field.
    progress : callable, optional
        Called with a stage, galaxies drawn and their total: at the start, and after each strip.

    Returns
    -------
    Field
        Its catalogue has every galaxy whose bounding box reaches the field: the drawn parameters (``id``,
        from 1, and the columns of `draw_sources`) and, measured on the galaxy's own noise-free image inside
        its isophote at one sigma, ``isophotal_area`` (pixels; 0 for one too faint, and then NaN follows),
        ``isophotal_flux``, ``isophotal_half_light_radius`` (pixels), ``isophotal_ellipticity``,
        ``isophotal_orientation``, and its ``blendedness``.
    """
    shape = (size, size) if isinstance(size, int) else size
    plan = FieldPlan.draw(survey, shape, seed, index)
    tasks = plan.tasks()
    made: dict[int, Strip] = {}
    total, done = len(plan.catalog), 0
    if progress:
        progress("galaxies", done, total)
    for task, strip in run_tasks(draw_strip, tasks, workers=workers):
        made[task.number] = strip
        done += task.galaxies
        if progress:
            progress("galaxies", done, total)
    strips = [made[number] for number in range(len(tasks))]
    names = [layer.attribute for layer in FIELD_LAYERS if layer.attribute in strips[0].layers]
    return Field(
        **{name: np.concatenate([strip.layers[name] for strip in strips]) for name in names},
        deeper=vstack([Table(strip.deeper) for strip in strips]),
        catalog=measured_catalog(plan.catalog, [strip.measured for strip in strips]),
        survey=plan.survey,
        seed=seed,
        index=index,
    )
