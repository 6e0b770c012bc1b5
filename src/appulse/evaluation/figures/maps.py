"""Figures of pictures: the paper's Figures 1 and 5, and the galleries."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from appulse.evaluation.figures.style import canvas, settings
from appulse.evaluation.snapshots import Snapshot
from appulse.pictures import BAD, draw_classes, draw_image

_TRUTH = "truth"
# Top of the scale of what a picture shows, by title, and its colours; the bottom is 0. Truth is a class map.
_PANELS = {
    _TRUTH: (2.0, None),
    "mean": (2.0, "inferno"),
    "std": (1.0, "viridis"),
    "|truth - mean|": (1.0, "magma"),
}


def figure1(shots: Sequence[Snapshot]) -> Figure:
    """Input, truth, mean, standard deviation and residual of stamps: the paper's Figure 1.

    Parameters
    ----------
    shots : sequence of Snapshot
        One per row.

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _rows(shots, 7.2)


def gallery(shots: Sequence[Snapshot]) -> Figure:
    """The same panels for the pictures of a gallery, each row with its title.

    Parameters
    ----------
    shots : sequence of Snapshot

    Returns
    -------
    matplotlib.figure.Figure
    """
    return _rows(shots, 6.4)


def _rows(shots: Sequence[Snapshot], width: float) -> Figure:
    with settings():
        figure = canvas(width, width / 5 * max(len(shots), 1) + 0.75)
        # The last row is for the scales, so that they take no room from the pictures above.
        grid = figure.subplots(
            max(len(shots), 1) + 1, 5, squeeze=False, height_ratios=[1] * max(len(shots), 1) + [0.05]
        )
        for axes in grid[:-1].ravel():
            axes.set_xticks([])
            axes.set_yticks([])
            axes.grid(False)
        grid[-1, 0].set_visible(False)
        for row, shot in zip(grid, shots, strict=False):
            draw_image(row[0], shot.image, interpolation="nearest")
            row[0].set_ylabel(shot.title, fontsize=8)
            for axes, scale, (title, values) in zip(
                row[1:], grid[-1, 1:], _layers(shot).items(), strict=True
            ):
                picture = _draw(axes, title, values)
                if shot is shots[0]:
                    bar = figure.colorbar(picture, cax=scale, orientation="horizontal")
                    bar.set_ticks([0, 1, 2] if _PANELS[title][0] == 2.0 else [0, 0.5, 1])
                    bar.ax.tick_params(labelsize=7)
        if not shots:
            grid[0, 0].set_ylabel("none")
            for axes in grid[-1]:
                axes.set_visible(False)
        for axes, title in zip(grid[0], ("input", *_PANELS), strict=True):
            axes.set_title(title)
    return figure


def figure5(shot: Snapshot) -> Figure:
    """Truth, mean, dispersion and residuals of a larger field: the paper's Figure 5.

    Parameters
    ----------
    shot : Snapshot

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas(7.2, 6.9)
        grid = figure.subplots(2, 2, sharex=True, sharey=True)
        titles = (
            "ground truth",
            "mean of the realisations",
            "dispersion (standard deviation)",
            "residual |truth - mean|",
        )
        for axes, heading, (title, values) in zip(grid.ravel(), titles, _layers(shot).items(), strict=True):
            axes.grid(False)
            picture = _draw(axes, title, values)
            axes.set_title(heading)
            bar = figure.colorbar(picture, ax=axes, shrink=0.85, pad=0.01)
            bar.set_ticks([0, 1, 2] if _PANELS[title][0] == 2.0 else [0, 0.5, 1])
        for axes in grid[-1]:
            axes.set_xlabel("x (pixels)")
        for axes in grid[:, 0]:
            axes.set_ylabel("y (pixels)")
    return figure


def _layers(shot: Snapshot) -> dict[str, np.ndarray]:
    return dict(zip(_PANELS, (shot.truth, shot.mean, shot.std, np.abs(shot.truth - shot.mean)), strict=True))


def _draw(axes: Axes, title: str, values: np.ndarray) -> AxesImage:
    if title == _TRUTH:
        return draw_classes(axes, values, interpolation="nearest")
    top, colours = _PANELS[title]
    axes.set_facecolor(BAD)
    return axes.imshow(values, vmin=0.0, vmax=top, cmap=colours, origin="lower", interpolation="nearest")
