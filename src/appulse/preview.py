"""Pictures of a segmentation, in the manner of the paper's Figures 1 and 5."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from appulse.busiest import busiest_window, busyness
from appulse.files import atomic_write
from appulse.inference.exposure import Window, common, cropped, grown

if TYPE_CHECKING:
    from astropy.table import Table

    from appulse.result import Result

# Overlapping galaxies are told apart by colour (Okabe and Ito's palette, safe for the colour-blind).
OUTLINE_COLOURS = ("#E69F00", "#56B4E9", "#F0E442", "#CC79A7", "#009E73", "#D55E00")
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
    height, width = (side.stop - side.start for side in window)
    panel = 5.2
    figure = Figure(figsize=(2 * panel + 0.9, 1.72 * panel * min(max(height / width, 0.4), 2.0) + 0.9))
    figure.set_layout_engine("constrained")
    axes = figure.subplots(2, 2, sharex=True, sharey=True)
    extent = (
        window[1].start - 0.5,
        window[1].stop - 0.5,
        window[0].start - 0.5,
        window[0].stop - 0.5,
    )
    _draw_image(axes[0, 0], result.image[window], extent)
    _draw_outlines(axes[0, 0], result, window)
    n_galaxies, n_blended = len(result.catalog), int(np.count_nonzero(result.catalog["blend_id"]))
    axes[0, 0].set_title(f"image, {n_galaxies} galaxies, {n_blended} of them overlapping")
    mean = axes[0, 1].imshow(
        result.mean[window], vmin=0, vmax=2, cmap="inferno", extent=extent, origin="lower"
    )
    axes[0, 1].set_title(f"mean of {result.provenance['samples']} realisations")
    std = axes[1, 0].imshow(result.std[window], vmin=0, vmax=1, cmap="viridis", extent=extent, origin="lower")
    axes[1, 0].set_title("standard deviation of the realisations")
    classes = axes[1, 1].imshow(
        result.ternary[window], vmin=-0.5, vmax=2.5, cmap=_CLASSES, extent=extent, origin="lower"
    )
    axes[1, 1].set_title("class map")
    for drawn, panel_axes in ((mean, axes[0, 1]), (std, axes[1, 0])):
        figure.colorbar(drawn, ax=panel_axes, shrink=0.8, pad=0.01)
    bar = figure.colorbar(classes, ax=axes[1, 1], shrink=0.8, pad=0.01, ticks=[0, 1, 2])
    bar.ax.set_yticklabels(["background", "galaxy", "overlap"], rotation=90, va="center")
    figure.supxlabel("x (pixels)", fontsize="medium")
    figure.supylabel("y (pixels)", fontsize="medium")
    return figure


def galaxy_figure(result: Result, label: int, realisations: int = 4) -> Figure:
    """One galaxy's surroundings: image, mean, standard deviation, class map and a few realisations.

    Parameters
    ----------
    result : Result
        Of `appulse.segment`.
    label : int
        As in the catalogue.
    realisations : int
        How many to show.

    Returns
    -------
    matplotlib.figure.Figure
    """
    window = result.cutout(label).window
    drawn = result.realisations(label)[:realisations]
    extent = (window[1].start - 0.5, window[1].stop - 0.5, window[0].start - 0.5, window[0].stop - 0.5)
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
        axes.imshow(values[window], vmin=0, vmax=limit, cmap=colours, extent=extent, origin="lower")
        axes.set_title(title)
    for number, axes in enumerate(bottom):
        if number < len(drawn):
            axes.imshow(drawn[number], vmin=0, vmax=2, cmap=_CLASSES, extent=extent, origin="lower")
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


def _draw_image(axes, image: np.ndarray, extent) -> None:
    # Asinh from just under the sky, so that faint outskirts and bright centres both show.
    stretched = np.arcsinh(image)
    finite = stretched[np.isfinite(stretched)]
    top = max(np.percentile(finite, 99.7), 3.0) if finite.size else 3.0
    axes.set_facecolor("#7a2323")  # bad pixels are transparent and show this
    axes.imshow(stretched, vmin=-1.5, vmax=top, cmap="gray", extent=extent, origin="lower")


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
        colour = "#4dd2a0" if alone else OUTLINE_COLOURS[number % len(OUTLINE_COLOURS)]
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
