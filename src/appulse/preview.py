"""Pictures of a segmentation, in the manner of the paper's Figures 1 and 5."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import ImageGrid

from appulse.busiest import busiest_window, busyness
from appulse.pictures import BAD, ORANGE, PURPLE, SKY_BLUE, VERMILION, YELLOW, draw_classes, draw_image
from appulse.windows import Window, common, cropped, grown, shape_of
from appulse.words import counted

if TYPE_CHECKING:
    from astropy.table import Table
    from matplotlib.axes import Axes
    from matplotlib.image import AxesImage

    from appulse.result import Result

    _Extent = tuple[float, float, float, float]

# Overlapping galaxies are told apart by colour.
OUTLINE_COLOURS = (ORANGE, SKY_BLUE, YELLOW, PURPLE, VERMILION)
_ALONE = "#4dd2a0"
_TITLE = 4.0  # inches, of the longest


class Picture(Figure):
    """A figure that a notebook shows, though pyplot does not know it."""

    def _repr_png_(self) -> bytes:
        png = io.BytesIO()
        self.savefig(png, format="png")
        return png.getvalue()


def field_figure(result: Result, window: Window | None = None) -> Figure:
    """Image with outlines, mean, standard deviation and class map of a field.

    Parameters
    ----------
    result : Result
        Of `appulse.segment`.
    window : (slice, slice), optional
        What to show; by default the busiest part.

    Returns
    -------
    matplotlib.figure.Figure
    """
    if window is None:
        window = busiest_window(busyness(result.ternary), result.ternary.shape)
    figure, grid = _four_panels(*shape_of(window))
    extent = _extent(window)
    draw_image(grid[0], result.image[window], extent=extent)
    _draw_outlines(grid[0], result, window)
    n_galaxies, n_blended = len(result.catalog), int(np.count_nonzero(result.catalog["blend_id"]))
    grid[0].set_title(f"image, {counted(n_galaxies, 'galaxy', 'galaxies')}, {n_blended} of them in blends")
    grid.cbar_axes[0].set_visible(False)
    mean_title = f"mean of {result.provenance['samples']} realisations"
    bad = np.isnan(result.p_galaxy[window])
    map_title = "class map; bad pixels are dark red" if bad.any() else "class map"
    std_title = "standard deviation of the realisations"
    drawn = (
        _draw_map(grid[1], result.mean[window], bad, mean_title, extent, 2, "inferno"),
        _draw_map(grid[2], result.std[window], bad, std_title, extent, 1, "viridis"),
        _draw_classes(grid[3], result.ternary[window], bad, map_title, extent),
    )
    for bar, panel in zip(grid.cbar_axes[1:], drawn, strict=True):
        figure.colorbar(panel, cax=bar)
    grid.cbar_axes[3].set_yticks([0, 1, 2], ["background", "galaxy", "overlap"])
    for axes in grid.axes_row[1]:
        axes.set_xlabel("x (pixels)")
    for axes in grid.axes_column[0]:
        axes.set_ylabel("y (pixels)")
    return figure


def galaxy_figure(result: Result, label: int) -> Figure:
    """One galaxy's surroundings: image, mean, standard deviation, class map and a few realisations.

    Parameters
    ----------
    result : Result
        Of `appulse.segment`.
    label : int
        As in the catalogue.

    Returns
    -------
    matplotlib.figure.Figure
    """
    window = result.cutout(label).window
    extent = _extent(window)
    bad = np.isnan(result.p_galaxy[window])
    figure = Picture(figsize=(13, 6.4))
    figure.set_layout_engine("constrained")
    top, bottom = figure.subplots(2, 4, sharex=True, sharey=True)
    draw_image(top[0], result.image[window], extent=extent)
    _draw_outlines(top[0], result, window)
    top[0].set_title(f"galaxy {label}")
    _draw_map(top[1], result.mean[window], bad, "mean", extent, 2, "inferno")
    _draw_map(top[2], result.std[window], bad, "standard deviation", extent, 1, "viridis")
    _draw_classes(top[3], result.ternary[window], bad, "class map", extent)
    drawn = result.realisations(label)[: len(bottom)]
    for number, axes in enumerate(bottom):
        if number < len(drawn):
            _draw_classes(axes, drawn[number], bad, f"realisation {number}", extent)
        else:
            axes.set_visible(False)
    return figure


def _extent(window: Window) -> _Extent:
    """Left, right, bottom and top of a window: pixels reach half a unit around their centres."""
    rows, columns = window
    return columns.start - 0.5, columns.stop - 0.5, rows.start - 0.5, rows.stop - 0.5


def _four_panels(height: int, width: int) -> tuple[Figure, ImageGrid]:
    # Panels of one size, with room for colour bars and labels; inches. A title can be wider than a panel.
    panel = (4.9, 4.9 * height / width) if height < 1.8 * width else (8.8 * width / height, 8.8)
    over = max(0.0, _TITLE - panel[0])
    bar, (right_of_bar, above) = (0.06, 0.03 * panel[0]), (max(0.9, over), 0.4)
    left, right, bottom, top = max(0.75, over / 2), 1.0, 0.6, 0.4
    across = 2 * (panel[0] + sum(bar)) + right_of_bar
    down = 2 * panel[1] + above
    whole = (across + left + right, down + bottom + top)
    figure = Picture(figsize=whole)
    grid = ImageGrid(
        figure,
        (left / whole[0], bottom / whole[1], across / whole[0], down / whole[1]),
        (2, 2),
        axes_pad=(right_of_bar, above),
        cbar_mode="each",
        cbar_pad=bar[0],
        cbar_size=bar[1],
    )
    return figure, grid


def _draw_map(
    axes: Axes,
    values: np.ndarray,
    bad: np.ndarray,
    title: str,
    extent: _Extent,
    top: float,
    colours: str,
) -> AxesImage:
    axes.set_title(title)
    axes.set_facecolor(BAD)
    shown = np.where(bad, np.nan, values)
    return axes.imshow(shown, origin="lower", extent=extent, vmin=0, vmax=top, cmap=colours)


def _draw_classes(axes: Axes, classes: np.ndarray, bad: np.ndarray, title: str, extent: _Extent) -> AxesImage:
    axes.set_title(title)
    return draw_classes(axes, np.where(bad, np.nan, classes), extent=extent)


def _draw_outlines(axes: Axes, result: Result, window: Window) -> None:
    nearby = grown(window, 2, result.ternary.shape)  # so that where it ends is not seen
    # A cutout is read when it is asked for, and a survey's field has a hundred thousand.
    for number in _meeting(result.catalog, nearby):
        cutout = result.cutouts[number]
        seen = common(cutout.window, nearby)
        if seen is None:
            continue
        rows, columns = seen
        alone = result.catalog["blend_id"][number] == 0
        colour = _ALONE if alone else OUTLINE_COLOURS[number % len(OUTLINE_COLOURS)]
        padded = np.pad(cutout.mask[cropped(seen, cutout.window)], 1).astype(np.float32)
        if not padded.any():
            continue
        y = np.arange(rows.start - 1, rows.stop + 1)
        x = np.arange(columns.start - 1, columns.stop + 1)
        axes.contour(x, y, padded, levels=[0.5], colors=[colour], linewidths=0.9)
    extent = _extent(window)
    axes.set_xlim(extent[:2])
    axes.set_ylim(extent[2:])


def _meeting(catalog: Table, window: Window) -> list[int]:
    """Rows of the galaxies whose boxes meet a window."""
    meets = np.ones(len(catalog), bool)
    for axis, side in zip("yx", window, strict=True):
        meets &= np.asarray(catalog[f"bbox_{axis}max"]) >= side.start
        meets &= np.asarray(catalog[f"bbox_{axis}min"]) < side.stop
    return np.flatnonzero(meets).tolist()
