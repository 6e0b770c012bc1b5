"""Colours and sizes of every figure."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any

import matplotlib
import numpy as np
from astropy.table import Table
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from appulse.pictures import BLUE, GREEN, ORANGE, PURPLE, SKY_BLUE, VERMILION

if TYPE_CHECKING:
    from matplotlib.typing import RcKeyType

# Width of a text column, inches: at this size the labels below are legible in print.
COLUMN = 5.5
DPI = 200
# Kinds also differ in marker, detectors in dashes.
KIND_COLOUR = {"isolated": BLUE, "blended": VERMILION}
KIND_MARKER = {"isolated": "o", "blended": "s"}
OTHERS = (GREEN, PURPLE, SKY_BLUE, ORANGE)
DASHES: tuple[str | tuple, ...] = ("-", (0, (4, 1.5)), (0, (1, 1.2)), (0, (4, 1, 1, 1)))
GREY = "#555555"
# Options of matplotlib's `plot`.
Style = dict[str, Any]
_SETTINGS: dict[RcKeyType, Any] = {
    "font.size": 9.0,
    "axes.titlesize": 9.0,
    "axes.labelsize": 9.0,
    "legend.fontsize": 8.0,
    "xtick.labelsize": 8.0,
    "ytick.labelsize": 8.0,
    "lines.linewidth": 1.4,
    "lines.markersize": 4.0,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def canvas(width: float = COLUMN, height: float = 3.3) -> Figure:
    """An empty figure.

    Parameters
    ----------
    width, height : float, inches

    Returns
    -------
    matplotlib.figure.Figure
    """
    figure = Figure(figsize=(width, height))
    figure.set_layout_engine("constrained")
    return figure


def settings() -> AbstractContextManager[None]:
    """Context in which every figure is drawn."""
    return matplotlib.rc_context(_SETTINGS)


def with_interval(
    axes: Axes, x: np.ndarray, table: Table, column: str, *, band: bool = False, **style: Any
) -> None:
    """Draw a column against x with its interval, as bars or as a band.

    Parameters
    ----------
    axes : matplotlib.axes.Axes
    x : (n,) array
    table : Table
        With ``column``, ``column_low`` and ``column_high``.
    column : str
    band : bool
        Whether the interval is a band.
    **style
        Of the line.
    """
    y, low, high = (np.asarray(table[column + suffix], float) for suffix in ("", "_low", "_high"))
    known = np.isfinite(y)
    x, y, low, high = (np.asarray(values, float)[known] for values in (x, y, low, high))
    (line,) = axes.plot(x, y, **style)
    if band:
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.18, linewidth=0)
    else:
        errors = np.nan_to_num([np.maximum(y - low, 0), np.maximum(high - y, 0)])
        axes.errorbar(x, y, errors, fmt="none", ecolor=line.get_color(), elinewidth=0.9, capsize=0)


def centres(table: Table) -> np.ndarray:
    """Middle of each bin.

    Parameters
    ----------
    table : Table
        With ``low_edge`` and ``high_edge``.

    Returns
    -------
    (n,) float array
    """
    return 0.5 * (np.asarray(table["low_edge"], float) + np.asarray(table["high_edge"], float))


def order_of(names: Iterable[str]) -> dict[str, int]:
    """Number of each name, in the order in which they first come.

    Parameters
    ----------
    names : iterable of str

    Returns
    -------
    dict of str to int
    """
    return {name: k for k, name in enumerate(dict.fromkeys(str(name) for name in names))}
