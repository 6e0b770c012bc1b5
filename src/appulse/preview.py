"""Pictures of a segmentation, in the manner of the paper's Figures 1 and 5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from mpl_toolkits.axes_grid1 import ImageGrid

from appulse.busiest import busiest_window, busyness
from appulse.files import atomic_write
from appulse.inference.exposure import Window, common, cropped, grown
from appulse.words import counted

if TYPE_CHECKING:
    from astropy.table import Table

    from appulse.result import Result

# Overlapping galaxies are told apart by colour (Okabe and Ito's palette, safe for the colour-blind).
OUTLINE_COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#D55E00")
_ALONE, _BAD = "#4dd2a0", "#7a2323"
_TITLE = 4.0  # inches, of the longest
_CLASSES = ListedColormap(["#10142a", "#4c8fd6", "#ffb000"])


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
    figure, grid = _four_panels(*(side.stop - side.start for side in window))
    extent = (
        window[1].start - 0.5,
        window[1].stop - 0.5,
        window[0].start - 0.5,
        window[0].stop - 0.5,
    )
    _draw_image(grid[0], result.image[window], extent)
    _draw_outlines(grid[0], result, window)
    n_galaxies, n_blended = len(result.catalog), int(np.count_nonzero(result.catalog["blend_id"]))
    grid[0].set_title(f"image, {counted(n_galaxies, 'galaxy', 'galaxies')}, {n_blended} of them in blends")
    grid.cbar_axes[0].set_visible(False)
    mean_title = f"mean of {result.provenance['samples']} realisations"
    bad = np.isnan(result.p_galaxy[window])
    map_title = "class map; bad pixels are dark red" if bad.any() else "class map"
    for axes, bar, values, (low, high), colours, title in (
        (grid[1], grid.cbar_axes[1], result.mean, (0, 2), "inferno", mean_title),
        (grid[2], grid.cbar_axes[2], result.std, (0, 1), "viridis", "standard deviation of the realisations"),
        (grid[3], grid.cbar_axes[3], result.ternary, (-0.5, 2.5), _CLASSES, map_title),
    ):
        drawn = _draw_map(axes, values[window], bad, vmin=low, vmax=high, cmap=colours, extent=extent)
        axes.set_title(title)
        figure.colorbar(drawn, cax=bar)
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
    extent = (window[1].start - 0.5, window[1].stop - 0.5, window[0].start - 0.5, window[0].stop - 0.5)
    bad = np.isnan(result.p_galaxy[window])
    figure = Figure(figsize=(13, 6.4))
    figure.set_layout_engine("constrained")
    top, bottom = figure.subplots(2, 4, sharex=True, sharey=True)
    _draw_image(top[0], result.image[window], extent)
    _draw_outlines(top[0], result, window)
    top[0].set_title(f"galaxy {label}")
    for axes, values, limit, colours, title in (
        (top[1], result.mean, 2, "inferno", "mean"),
        (top[2], result.std, 1, "viridis", "standard deviation"),
        (top[3], result.ternary, 2, _CLASSES, "class map"),
    ):
        _draw_map(axes, values[window], bad, vmin=0, vmax=limit, cmap=colours, extent=extent)
        axes.set_title(title)
    drawn = result.realisations(label)[: len(bottom)]
    for number, axes in enumerate(bottom):
        if number < len(drawn):
            _draw_map(axes, drawn[number], bad, vmin=0, vmax=2, cmap=_CLASSES, extent=extent)
            axes.set_title(f"realisation {number}")
        else:
            axes.set_visible(False)
    return figure


def save_figure(figure: Figure, path: str | Path) -> Path:
    """Write a figure as PNG, whole or not at all, without date.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        To write.
    path : str or Path
        Ends in ``.png``.

    Returns
    -------
    Path
    """
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=110, metadata={"Software": None}))
    return Path(path)


def _four_panels(height: int, width: int) -> tuple[Figure, ImageGrid]:
    # Panels of one size, with room for colour bars and labels; inches. A title can be wider than a panel.
    panel = (4.9, 4.9 * height / width) if height < 1.8 * width else (8.8 * width / height, 8.8)
    over = max(0.0, _TITLE - panel[0])
    bar, (right_of_bar, above) = (0.06, 0.03 * panel[0]), (max(0.9, over), 0.4)
    left, right, bottom, top = max(0.75, over / 2), 1.0, 0.6, 0.4
    across = 2 * (panel[0] + sum(bar)) + right_of_bar
    down = 2 * panel[1] + above
    whole = (across + left + right, down + bottom + top)
    figure = Figure(figsize=whole)
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


def _draw_image(axes, image: np.ndarray, extent) -> None:
    # Asinh from just under the sky, so that faint outskirts and bright centres both show.
    stretched = np.arcsinh(image)
    finite = stretched[np.isfinite(stretched)]
    top = max(np.percentile(finite, 99.7), 3.0) if finite.size else 3.0
    _draw_map(axes, stretched, np.isnan(stretched), vmin=-1.5, vmax=top, cmap="gray", extent=extent)


def _draw_map(axes, values: np.ndarray, bad: np.ndarray, **options):
    axes.set_facecolor(_BAD)  # bad pixels are transparent and show this
    return axes.imshow(np.where(bad, np.nan, values), origin="lower", **options)


def _draw_outlines(axes, result: Result, window) -> None:
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
    axes.set_xlim(window[1].start - 0.5, window[1].stop - 0.5)
    axes.set_ylim(window[0].start - 0.5, window[0].stop - 0.5)


def _meeting(catalog: Table, window: Window) -> list[int]:
    """Rows of the galaxies whose boxes meet a window."""
    meets = np.ones(len(catalog), bool)
    for axis, side in zip("yx", window, strict=True):
        meets &= np.asarray(catalog[f"bbox_{axis}max"]) >= side.start
        meets &= np.asarray(catalog[f"bbox_{axis}min"]) < side.stop
    return np.flatnonzero(meets).tolist()
