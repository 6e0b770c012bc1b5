"""Figures of numbers: IoU, variance, trade-off, reliability, coverage, ranks."""

from __future__ import annotations

import numpy as np
from astropy.table import Table
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator

from appulse.evaluation.figures.style import (
    DASHES,
    GREY,
    KIND_COLOUR,
    KIND_MARKER,
    OTHERS,
    Style,
    canvas,
    centres,
    order_of,
    settings,
    with_interval,
)
from appulse.evaluation.interval_coverage import LEVELS
from appulse.pictures import BLACK, BLUE, VERMILION

_BLEND_LABELS = {
    "separation_over_size": "separation / half-light radius",
    "flux_ratio": "flux ratio",
    "blendedness": "blendedness",
}


# Means of fewer galaxies say nothing: the figures leave them out, the data files keep them.
_FEWEST, _FEWEST_COVERED = 3, 10


def figure2(table: Table) -> Figure:
    """IoU by magnitude for isolated and blended galaxies: the paper's Figure 2, with limits and rivals.

    Parameters
    ----------
    table : Table
        From `iou_by_magnitude`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas()
        axes = figure.subplots()
        detectors = order_of(table["detector"])
        for name, number in detectors.items():
            rows = table[table["detector"] == name]
            if name == "oracle":
                axes.plot(
                    centres(rows),
                    rows["mean"],
                    color=GREY,
                    linestyle=":",
                    label="limit (ideal fit, isolated)",
                )
                continue
            for kind, colour in KIND_COLOUR.items():
                chosen = rows[(rows["kind"] == kind) & (rows["n"] >= _FEWEST)]
                style: Style = {"color": colour, "linestyle": DASHES[number % len(DASHES)]}
                style |= {"marker": KIND_MARKER[kind], "label": f"{kind}, {name}"}
                if number:
                    style |= {"markerfacecolor": "white", "alpha": 0.75, "linewidth": 1.0}
                with_interval(axes, centres(chosen), chosen, "mean", **style)
        axes.set_xlabel("magnitude")
        axes.set_ylabel("IoU")
        axes.set_ylim(0, 1.02)
        axes.legend(ncols=2, loc="lower left")
    return figure


def figure3(table: Table) -> Figure:
    """Mean variance by magnitude: the paper's Figure 3, and its part that knows of no overlaps.

    Parameters
    ----------
    table : Table
        From `variance_by_magnitude`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas()
        axes = figure.subplots()
        for kind, colour in KIND_COLOUR.items():
            for number, variance in enumerate(dict.fromkeys(table["variance"])):
                rows = table[(table["kind"] == kind) & (table["n"] >= _FEWEST)]
                rows = rows[rows["variance"] == variance]
                style: Style = {"color": colour, "marker": KIND_MARKER[kind], "linestyle": DASHES[number]}
                style |= {"label": f"{kind}, {variance}"} | ({"markerfacecolor": "white"} if number else {})
                with_interval(axes, centres(rows), rows, "mean", **style)
        axes.set_xlabel("magnitude")
        axes.set_ylabel("mean variance")
        axes.set_ylim(bottom=0)
        axes.legend(loc="upper left")
    return figure


def blends_figure(tables: dict[str, Table]) -> Figure:
    """Blends by separation, flux ratio and blendedness: IoU of their galaxies, and how many are recognised.

    Parameters
    ----------
    tables : dict of str to Table
        From `blends_by`, by column.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas(7.2, 4.6)
        grid = figure.subplots(2, len(tables), sharey="row", sharex="col", squeeze=False)
        for (upper, lower), (column, table) in zip(grid.T, tables.items(), strict=True):
            edges = np.unique(np.concatenate([table["low_edge"], table["high_edge"]]))
            for name, number in order_of(table["detector"]).items():
                rows = table[table["detector"] == name]
                colour = KIND_COLOUR["blended"] if number == 0 else OTHERS[(number - 1) % len(OTHERS)]
                # Bins in their order, not to scale: the edges are logarithmic with a zero.
                x = np.arange(len(rows)) + 0.5 + 0.12 * (number - 0.5)
                style: Style = {
                    "color": colour,
                    "linestyle": DASHES[number % len(DASHES)],
                    "marker": "s" if number == 0 else "D",
                }
                enough = rows["n_galaxies"] >= _FEWEST, rows["n"] >= _FEWEST
                with_interval(upper, x[enough[0]], rows[enough[0]], "iou", label=name, **style)
                with_interval(lower, x[enough[1]], rows[enough[1]], "recognised", **style)
            lower.xaxis.set_major_locator(FixedLocator(range(len(edges))))
            lower.xaxis.set_major_formatter(FixedFormatter([f"{edge:.3g}" for edge in edges]))
            lower.tick_params(axis="x", rotation=45)
            lower.set_xlabel(_BLEND_LABELS[column])
            upper.set_xlim(0, len(edges) - 1)
            upper.set_ylim(0, 1.03)
            lower.set_ylim(0, 1.03)
        grid[0, 0].set_ylabel("IoU of galaxies in blends")
        grid[1, 0].set_ylabel("recognised blends")
        figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=4)
    return figure


def tradeoff_figure(table: Table, marks: dict[str, float], best: float | None) -> Figure:
    """Completeness and purity of blends along each detector's threshold, and in the plane of the two.

    Parameters
    ----------
    table : Table
        From `tradeoff`.
    marks : dict of str to float
        The threshold in use, by detector.
    best : float or None
        The model's threshold that a validation field would choose.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas(7.2, 3.1)
        left, right = figure.subplots(1, 2)
        names = order_of(marks)
        model = next(iter(names))
        rows = table[table["detector"] == model]
        for score, colour, dashes in (("completeness", BLUE, "-"), ("purity", VERMILION, (0, (4, 1.5)))):
            style: Style = {"color": colour, "linestyle": dashes, "label": score}
            with_interval(left, rows["threshold"], rows, f"{score}_blended", band=True, **style)
        left.axvline(marks[model], color=GREY, linewidth=1.0, label=f"in use: {marks[model]:g}")
        if best is not None:
            left.axvline(
                best, color=GREY, linestyle=":", linewidth=1.2, label=f"balanced on validation: {best:g}"
            )
        left.set_xlabel(f"threshold on P_OVERLAP ({model})")
        left.set_ylabel("blended objects")
        left.set_ylim(0, 1.02)
        left.legend(loc="lower left")
        for name, number in names.items():
            rows = table[table["detector"] == name]
            colour = BLACK if number == 0 else OTHERS[(number - 1) % len(OTHERS)]
            right.plot(
                rows["completeness_blended"],
                rows["purity_blended"],
                color=colour,
                linestyle=DASHES[number % len(DASHES)],
                marker=".",
                label=name,
            )
            at = rows[np.argmin(np.abs(np.asarray(rows["threshold"]) - marks[name]))] if len(rows) else None
            if at is not None:
                right.plot(
                    at["completeness_blended"],
                    at["purity_blended"],
                    "o",
                    color=colour,
                    markersize=7,
                    mfc="none",
                )
        right.set_xlabel("completeness of blends")
        right.set_ylabel("purity of blends")
        # Detectors worth a look lie in one corner; what lies far out of it is told by the table.
        right.set_xlim(0.5, 1.01)
        right.set_ylim(0.5, 1.01)
        right.legend(loc="lower left")
    return figure


def reliability_figure(table: Table) -> Figure:
    """Reliability of the probabilities and of the frequencies over realisations.

    Parameters
    ----------
    table : Table
        From `reliability_curves`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas(7.2, 3.5)
        panels = figure.subplots(1, 2, sharey=True)
        for axes, event, title in zip(
            panels, ("galaxy", "overlap"), ("class 1 or 2", "class 2"), strict=True
        ):
            axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8, linestyle=":")
            for name, colour, dashes, marker in (
                (f"P_{event.upper()}", BLUE, "-", "o"),
                (f"frequency_{event}", VERMILION, (0, (4, 1.5)), "s"),
            ):
                rows = table[table["map"] == name]
                label = name if name.startswith("P_") else "frequency over realisations"
                style: Style = {"color": colour, "linestyle": dashes, "marker": marker, "label": label}
                with_interval(axes, rows["probability"], rows, "frequency", **style)
            axes.set_title(title)
            axes.set_xlabel("predicted probability")
            axes.set_xlim(0, 1)
            axes.set_ylim(0, 1)
            axes.set_aspect("equal")
            axes.legend(loc="upper left")
        panels[0].set_ylabel("share that is true")
    return figure


def coverage_figure(table: Table) -> Figure:
    """Coverage of the 68 % and 95 % intervals of every quantity, for lone and overlapping galaxies.

    Parameters
    ----------
    table : Table
        From `coverage_table`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        figure = canvas(7.2, 3.2)
        left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
        quantities = list(order_of(table["quantity"]))
        groups = (("all", BLACK, "o"), ("alone", BLUE, "^"), ("overlapping", VERMILION, "s"))
        for level in (68, 95):
            left.axhline(level / 100, color=GREY, linestyle=":", linewidth=1)
            for number, (group, colour, marker) in enumerate(groups):
                rows = table[table["group"] == group]
                x = np.arange(len(rows)) + 0.2 * (number - 1)
                style: Style = {"color": colour, "marker": marker, "linestyle": "none"}
                style |= {"label": group if level == 68 else None}
                with_interval(left, x, rows, f"coverage_{level}", **style)
        left.set_xticks(
            range(len(quantities)), [name.replace("_", " ") for name in quantities], rotation=20, ha="right"
        )
        left.set_ylabel("truths inside")
        left.set_ylim(0, 1.03)
        left.legend(loc="lower left", ncols=3)
        magnitudes = [name for name in order_of(table["group"]) if name.endswith(" mag")]
        middles = {name: sum(map(float, name.removesuffix(" mag").split(" to "))) / 2 for name in magnitudes}
        shown = (("area", BLUE, "o", "-"), ("flux", VERMILION, "s", (0, (4, 1.5))))
        for quantity, colour, marker, dashes in shown:
            rows = table[(table["quantity"] == quantity) & np.isin(table["group"], magnitudes)]
            rows = rows[rows["n"] >= _FEWEST_COVERED]
            x = np.array([middles[name] for name in rows["group"]])
            style = {"color": colour, "marker": marker, "linestyle": dashes}
            with_interval(right, x, rows, "coverage_68", label=f"{quantity}, 68 %", **style)
            with_interval(right, x, rows, "coverage_95", alpha=0.45, label=f"{quantity}, 95 %", **style)
        for share in LEVELS:
            right.axhline(share, color=GREY, linestyle=":", linewidth=1)
        right.set_xlabel("magnitude")
        right.set_ylim(0, 1.03)
        right.legend(loc="lower left", ncols=2)
    return figure


def rank_figure(table: Table) -> Figure:
    """Rank histograms: where the truth falls among the realisations.

    Parameters
    ----------
    table : Table
        From `rank_histogram`.

    Returns
    -------
    matplotlib.figure.Figure
    """
    with settings():
        quantities = list(order_of(table["quantity"]))
        figure = canvas(7.2, 2.5)
        panels = figure.subplots(1, len(quantities), sharey=True, squeeze=False)[0]
        for axes, quantity in zip(panels, quantities, strict=True):
            rows = table[table["quantity"] == quantity]
            width = np.asarray(rows["high_edge"] - rows["low_edge"], float)
            axes.bar(centres(rows), rows["share"], width * 0.92, color="#56B4E9")
            with_interval(axes, centres(rows), rows, "share", color=BLUE, linestyle="none")
            axes.axhline(width[0], color=GREY, linestyle=":", linewidth=1.2)
            axes.set_title(f"{quantity.replace('_', ' ')} ({int(np.sum(rows['n']))} galaxies)")
            axes.set_xlabel("rank of the truth")
            axes.set_xlim(0, 1)
        panels[0].set_ylabel("share of galaxies")
    return figure
