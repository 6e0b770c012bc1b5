"""The picture of a simulated sky, ``sky.png``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from astropy.table import Table

from appulse.pictures import BLACK, BLUE, ORANGE, VERMILION, draw_classes, draw_image, save_figure
from appulse.sky import closed_forms
from appulse.sky.report import PAPER_SHARES, SkyReport
from appulse.words import counted

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Largest side of the part of a field that is shown, pixels.
PATCH = 512
_COUNTED, _LAW, _PAPER, _SECOND = BLUE, BLACK, VERMILION, ORANGE


def draw_sky(
    report: SkyReport, image: np.ndarray, ternary: np.ndarray, oracle: Table, path: str | Path
) -> None:
    """Draw what simulated fields hold.

    Parameters
    ----------
    report : SkyReport
        Of the fields.
    image : (height, width) float array, units of the noise
        Part of a field; its first 512 x 512 pixels are shown.
    ternary : (height, width) uint8 array
        True class map of the same part.
    oracle : astropy.table.Table
        Of `survey_oracle`.
    path : str or Path
        PNG to write.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(19, 9.5), layout="constrained")
    axes = figure.subplots(2, 4)
    height, width = report.shape
    fields = counted(report.counts.fields, "field")
    galaxies = counted(len(report.galaxies), "galaxy", "galaxies")
    figure.suptitle(f"{report.survey.name}: {fields} of {width} x {height} pixels, {galaxies}")
    _draw_patch(axes[0, 0], image[:PATCH, :PATCH])
    _draw_truth(axes[1, 0], ternary[:PATCH, :PATCH])
    _draw_counts(axes[0, 1], report)
    _draw_sizes(axes[0, 2], report)
    _draw_ellipticities(axes[0, 3], report)
    _draw_shares(axes[1, 1], report)
    _draw_areas(axes[1, 2], report)
    _draw_oracle(axes[1, 3], oracle)
    save_figure(figure, path, dpi=90)


def _draw_patch(axes: Axes, image: np.ndarray) -> None:
    levels = np.array([-2, 0, 2, 5, 10, 30])
    shown = draw_image(axes, image, top=levels[-1])
    axes.set_title("Image")
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    bar = axes.figure.colorbar(
        shown, ax=axes, ticks=np.arcsinh(levels), label="units of the noise", shrink=0.8
    )
    bar.ax.set_yticklabels([str(level) for level in levels])


def _draw_truth(axes: Axes, ternary: np.ndarray) -> None:
    shown = draw_classes(axes, ternary, interpolation="nearest")
    axes.set_title("True class map")
    axes.set(xlabel="x (pixels)", ylabel="y (pixels)")
    bar = axes.figure.colorbar(shown, ax=axes, ticks=[0, 1, 2], shrink=0.8)
    bar.ax.set_yticklabels(["sky", "galaxy", "overlap"])


def _draw_counts(axes: Axes, report: SkyReport) -> None:
    table = report.by_magnitude(0.5)
    edges = np.append(table["magnitude_low"], table["magnitude_high"][-1])
    width = np.diff(edges)
    axes.stairs(table["density_law"] / width, edges, color=_LAW, label="law")
    axes.errorbar(
        edges[:-1] + 0.5 * width,
        table["density"] / width,
        table["density_error"] / width,
        fmt="o",
        color=_COUNTED,
        label="drawn",
    )
    axes.set_title("Number counts")
    scale = "log" if table["density_law"].any() else "linear"
    axes.set(yscale=scale, xlabel="magnitude", ylabel="galaxies per arcmin² and magnitude")
    axes.legend(frameon=False)


def _draw_sizes(axes: Axes, report: SkyReport) -> None:
    table = report.by_magnitude(0.5)
    table = table[table["number"] >= 5]  # fewer have no quantiles to speak of
    middle = 0.5 * (table["magnitude_low"] + table["magnitude_high"])
    population = report.survey.population
    magnitude = np.linspace(population.magnitude_bright, population.magnitude_faint, 50)
    low, median, high = (
        closed_forms.size_quantiles(population, magnitude, share) for share in (0.16, 0.5, 0.84)
    )
    axes.fill_between(magnitude, low, high, color=_LAW, alpha=0.15, lw=0, label="law, 16 to 84 %")
    axes.plot(magnitude, median, color=_LAW, label="law, median")
    bars = [table["size"] - table["size_p16"], table["size_p84"] - table["size"]]
    axes.errorbar(middle, table["size"], bars, fmt="o", color=_COUNTED, label="drawn, the same")
    axes.axhline(report.survey.psf.fwhm / 2, color=_SECOND, ls="--", label="half the PSF's FWHM")
    axes.set_title("Sizes")
    # Room below for the legend.
    lowest = 0.2 * min(low[-1], report.survey.psf.fwhm / 2)
    axes.set(
        yscale="log", ylim=(lowest, None), xlabel="magnitude", ylabel="half-light radius, major axis (arcsec)"
    )
    axes.legend(frameon=False, loc="lower left")


def _draw_ellipticities(axes: Axes, report: SkyReport) -> None:
    edges = np.linspace(0.0, 0.9, 31)
    number, _ = np.histogram(report.galaxies["ellipticity"], edges)
    drawn = number / (max(number.sum(), 1) * np.diff(edges))
    axes.stairs(drawn, edges, fill=True, color=_COUNTED, alpha=0.6, label="drawn")
    fine = np.linspace(0.0, 0.9, 200)
    law = closed_forms.ellipticity_density(report.survey.population, fine)
    axes.plot(fine, law, color=_LAW, label="law")
    axes.set_title("Ellipticities")
    axes.set(xlabel="1 - b/a", ylabel="probability density", xlim=(0, 0.9))
    axes.legend(frameon=False)


def _draw_shares(axes: Axes, report: SkyReport) -> None:
    shares = report.shares()
    place = np.arange(len(shares))[::-1]
    counted, errors, expected, scatter = (
        100 * np.nan_to_num([getattr(share, name) for share in shares])
        for name in ("measured", "error", "expected", "expected_error")
    )
    axes.errorbar(
        expected, place, xerr=scatter, fmt="|", color=_LAW, ms=22, mew=2, lw=4, alpha=0.6, label="closed form"
    )
    axes.errorbar(counted, place, xerr=errors, fmt="o", color=_COUNTED, label="counted")
    paper = [float(text.strip("<")) for text in PAPER_SHARES]
    axes.plot(paper, place[:3] + 0.25, "v", color=_PAPER, label="paper (overlap: upper limit)")
    axes.set_title("Shares")
    axes.set(xscale="log", xlabel="per cent", ylim=(-0.6, len(shares) - 0.1))
    axes.set_yticks(place, [share.name for share in shares])
    axes.legend(frameon=False, loc="upper left", labelspacing=0.9)


def _draw_areas(axes: Axes, report: SkyReport) -> None:
    areas = np.asarray(report.galaxies["isophotal_area"])
    axes.set(xscale="log", xlabel="pixels above the noise", ylabel="galaxies", title="Isophotal areas")
    if not areas.any():
        return
    hidden = np.count_nonzero(areas == 0) / len(areas)
    edges = np.geomspace(1, max(areas.max(), 10) * 1.1, 40)
    number, *_ = axes.hist(areas[areas > 0], edges.tolist(), color=_COUNTED, alpha=0.6)
    axes.axvline(areas.mean(), color=_LAW, label=f"mean of all: {areas.mean():.0f}")
    axes.set_title(f"Isophotal areas ({100 * hidden:.1f} % have none)")
    axes.set(yscale="log", ylim=(0.7, 5.0 * np.max(number)))  # room above for the legend
    axes.legend(frameon=False, loc="upper left")


def _draw_oracle(axes: Axes, oracle: Table) -> None:
    edges = np.append(oracle["magnitude_low"], oracle["magnitude_high"][-1])
    middle = 0.5 * (edges[:-1] + edges[1:])
    axes.stairs(
        oracle["visible"],
        edges,
        baseline=None,
        color=_LAW,
        ls=":",
        lw=2,
        label="at least 10 pixels above the noise",
    )
    axes.plot(middle, oracle["completeness"], "s-", color=_SECOND, label="of those, fits with IoU of 0.5")
    axes.errorbar(middle, oracle["iou"], oracle["iou_error"], fmt="o-", color=_COUNTED, label="mean IoU")
    axes.set_title("What an ideal fit reaches")
    lowest = min(np.nanmin([oracle[name] for name in ("visible", "completeness", "iou")], initial=1.0), 0.8)
    axes.set(xlabel="magnitude", ylim=(max(lowest - 0.1, 0.0), 1.02))
    axes.legend(frameon=False, loc="lower left")
