"""How every picture is drawn and written: colours, images, class maps, PNG files."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from appulse.files import atomic_write

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.image import AxesImage

# Okabe and Ito's palette, safe for the colour-blind.
BLACK, ORANGE, SKY_BLUE, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
# Of background, galaxy and overlap.
CLASSES = ("#10142a", "#4c8fd6", "#ffb000")
# Of bad pixels, which are NaN and show what is behind them.
BAD = "#7a2323"


def draw_image(axes: Axes, image: np.ndarray, top: float | None = None, **options: Any) -> AxesImage:
    """Draw an image from just under the sky, so that faint outskirts and bright centres both show.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    image : (height, width) float array, units of the noise
        NaN where bad.
    top : float, units of the noise, optional
        What is white; by default all but the brightest 0.3 per cent is darker.
    **options
        Of ``imshow``.

    Returns
    -------
    matplotlib.image.AxesImage
        On a scale of asinh.
    """
    stretched = np.arcsinh(image)
    finite = stretched[np.isfinite(stretched)]
    if top is not None:
        limit = np.arcsinh(top)
    else:
        limit = max(np.percentile(finite, 99.7), 3.0) if finite.size else 3.0
    axes.set_facecolor(BAD)
    return axes.imshow(stretched, vmin=-1.5, vmax=limit, cmap="gray", origin="lower", **options)


def draw_classes(axes: Axes, classes: np.ndarray, **options: Any) -> AxesImage:
    """Draw a class map, each class in its colour.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    classes : (height, width) array
        0 background, 1 galaxy, 2 overlap; NaN where bad.
    **options
        Of ``imshow``.

    Returns
    -------
    matplotlib.image.AxesImage
    """
    from matplotlib.colors import ListedColormap  # workers that draw skies, not pictures, do without

    axes.set_facecolor(BAD)
    colours = ListedColormap(CLASSES)
    return axes.imshow(classes, vmin=-0.5, vmax=2.5, cmap=colours, origin="lower", **options)


def save_figure(figure: Figure, path: str | Path, dpi: int) -> Path:
    """Write a figure as PNG, whole or not at all, without date.

    Parameters
    ----------
    figure : matplotlib.figure.Figure
        To write.
    path : str or Path
        Ends in ``.png``.
    dpi : int, pixels per inch

    Returns
    -------
    Path
    """
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=dpi, metadata={"Software": None}))
    return Path(path)
