"""What simulated fields hold, beside the paper, the laws they were drawn from and closed forms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from astropy.table import Table, vstack

from appulse.sky import closed_forms
from appulse.sky.counts import STAMP, SkyCounts
from appulse.sky.survey import Survey
from appulse.words import counted

# Class shares that the paper gives for its fields (section 3): background, isolated, overlap; per cent.
PAPER_SHARES = ("96", "3", "<1")
# What the report needs of a galaxy.
_COLUMNS = (
    "magnitude",
    "half_light_radius",
    "ellipticity",
    "isophotal_area",
    "isophotal_ellipticity",
    "isophotal_orientation",
)


@dataclass(frozen=True)
class Share:
    """A share that was counted, and what it should be.

    Parameters
    ----------
    name : str
        Of what.
    measured, error : float
        In the fields, and its standard error as an estimate of the survey's.
    expected, expected_error : float
        By the closed form for these galaxies placed independently of each other, and the standard deviation
        of what is measured about it; NaN where that has no closed form.
    paper : str
        The paper's, in per cent; empty where it gives none.
    """

    name: str
    measured: float
    error: float
    expected: float
    expected_error: float = float("nan")
    paper: str = ""


@dataclass(frozen=True)
class SkyReport:
    """What simulated fields of one survey hold.

    Parameters
    ----------
    survey : Survey
        What was simulated.
    shape : (height, width), pixels
        Of each field.
    counts : SkyCounts
        Over all fields.
    galaxies : astropy.table.Table
        Galaxies with their centre on a field; those outside, of which only the largest reach the field, would
        bias every distribution.
    """

    survey: Survey
    shape: tuple[int, int]
    counts: SkyCounts
    galaxies: Table

    @classmethod
    def of(
        cls,
        survey: Survey,
        shape: tuple[int, int],
        counts: Sequence[SkyCounts],
        catalogs: Sequence[Table],
    ) -> SkyReport:
        """Put fields together.

        Parameters
        ----------
        survey : Survey
            What was simulated.
        shape : (height, width), pixels
            Of each field.
        counts : sequence of SkyCounts
            Of each field; at least one.
        catalogs : sequence of astropy.table.Table
            Of each field, as `simulate_field` makes them.
        """
        height, width = shape
        parts = []
        for catalog in catalogs:
            x, y = np.asarray(catalog["x"]), np.asarray(catalog["y"])
            inside = (x >= -0.5) & (x < width - 0.5) & (y >= -0.5) & (y < height - 0.5)
            parts.append(Table({name: np.asarray(catalog[name])[inside] for name in _COLUMNS}))
        return cls(survey, (int(height), int(width)), SkyCounts.total(counts), vstack(parts))

    @property
    def area(self) -> float:
        """Sky of all fields, arcmin^2."""
        return sum(self.counts.pixels) * (self.survey.pixel_scale / 60.0) ** 2

    def shares(self) -> list[Share]:
        """Shares of the classes, of empty stamps and of blended galaxies, with their closed forms.

        Returns
        -------
        list of Share
            The closed forms take the galaxies' isophotal areas as they are, and their places as random.
        """
        counts, galaxies = self.counts, self.galaxies
        pixels = max(sum(counts.pixels), 1)
        areas = np.asarray(galaxies["isophotal_area"], dtype=float)
        ellipticities = np.asarray(galaxies["isophotal_ellipticity"], dtype=float)
        density = len(galaxies) / pixels
        expected = closed_forms.poisson_shares(float(areas.sum() / pixels))
        deviation = closed_forms.overlap_deviation(areas, pixels)
        errors = counts.class_errors()
        shares = [
            Share(
                name,
                counts.pixels[c] / pixels,
                float(errors[c]),
                expected[c],
                factor * deviation,
                PAPER_SHARES[c],
            )
            for c, (name, factor) in enumerate((("background", 1), ("galaxy", 2), ("overlap", 1)))
        ]
        empty = closed_forms.empty_share(
            density, areas, ellipticities, np.asarray(galaxies["isophotal_orientation"], float), STAMP
        )
        shares.append(_binomial("empty stamps", counts.empty_stamps, counts.stamps, empty))
        blended = closed_forms.blended_share(density, areas, ellipticities)
        # Blended galaxies come in pairs, so half as many are independent.
        shares.append(_binomial("blended galaxies", counts.blended_galaxies, counts.galaxies, blended, 2))
        return shares

    def by_magnitude(self, step: float = 1.0) -> Table:
        """Galaxies in bins of magnitude, beside the laws of the survey's population.

        Parameters
        ----------
        step : float, mag
            Width of the bins; the last is what remains.

        Returns
        -------
        astropy.table.Table
            ``magnitude_low``, ``magnitude_high``; ``number``; per arcmin^2 ``density`` with ``density_error``
            (Poisson) and ``density_law``; half-light radius along the major axis (arcsec) ``size_p16``,
            ``size`` (median), ``size_p84`` and ``size_law`` at the mean magnitude; median ``ellipticity``;
            ``visible``: share with a pixel above the noise. NaN in empty bins.
        """
        population = self.survey.population
        edges = population.magnitude_edges(step)
        magnitude = np.asarray(self.galaxies["magnitude"])
        size, ellipticity = self._major(), np.asarray(self.galaxies["ellipticity"])
        visible = np.asarray(self.galaxies["isophotal_area"]) > 0
        area = max(self.area, 1e-30)
        rows = []
        for low, high, law in zip(
            edges[:-1], edges[1:], closed_forms.number_counts(population, edges), strict=True
        ):
            bin_ = (magnitude > low) & (magnitude <= high)
            n = int(np.count_nonzero(bin_))
            quantiles, median_law, median_e, seen = [np.nan] * 3, np.nan, np.nan, np.nan
            if n:
                quantiles = np.quantile(size[bin_], [0.16, 0.5, 0.84]).tolist()
                median_law = float(closed_forms.size_quantiles(population, magnitude[bin_].mean(), 0.5))
                median_e, seen = float(np.median(ellipticity[bin_])), float(visible[bin_].mean())
            density = n / area
            rows.append(
                (low, high, n, density, np.sqrt(n) / area, law, *quantiles, median_law, median_e, seen)
            )
        names = "magnitude_low magnitude_high number density density_error density_law "
        names += "size_p16 size size_p84 size_law ellipticity visible"
        return Table(rows=rows, names=names.split())

    def _major(self) -> np.ndarray:
        # The laws give radii along the major axis, catalogues circularised ones.
        radius, ellipticity = (
            np.asarray(self.galaxies[name]) for name in ("half_light_radius", "ellipticity")
        )
        return radius / np.sqrt(1.0 - ellipticity)

    def __str__(self) -> str:
        counts = self.counts
        height, width = self.shape
        fields = f"{counted(counts.fields, 'field')} of {width} x {height} pixels"
        galaxies = counted(len(self.galaxies), "galaxy", "galaxies")
        seen = np.count_nonzero(self.galaxies["isophotal_area"])
        lines = [
            f"{self.survey.name}: {fields}, {self.area:.1f} arcmin^2",
            f"{galaxies}, of which {seen} have a pixel above the noise",
            f"{counts.objects} objects: {counts.isolated} isolated, {counts.touching} touching, "
            f"{counts.blended} blended ({100 * counts.blended / max(counts.objects, 1):.1f} %)",
            "",
            "share, %               counted            closed form        paper",
        ]
        for share in self.shares():
            line = f"  {share.name:16s} {_percent(share.measured, share.error)}   "
            lines.append(
                f"{line}{_percent(share.expected, share.expected_error)}  {share.paper:>6s}".rstrip()
            )
        if not self.survey.is_unbiased:
            lines.append("  (close pairs are injected: the closed forms hold for galaxies at random places)")
        lines += [
            "",
            "magnitude    galaxies/arcmin^2     law   half-light radius (arcsec)   law   1 - b/a   seen, %",
        ]
        for row in self.by_magnitude():
            if row["number"]:
                lines.append(
                    f"  {row['magnitude_low']:.1f}-{row['magnitude_high']:.1f} "
                    f"{row['density']:9.2f} ± {row['density_error']:<6.2f} {row['density_law']:7.2f} "
                    f"{row['size']:15.3f} {row['size_law']:17.3f} {row['ellipticity']:9.3f} "
                    f"{100 * row['visible']:9.1f}"
                )
        law = closed_forms.ellipticity_median(self.survey.population)
        if len(self.galaxies):
            median = float(np.median(self.galaxies["ellipticity"]))
            lines.append(f"median 1 - b/a of all: {median:.3f}, by its law {law:.3f}")
        return "\n".join(lines)

    def as_dict(self) -> dict[str, Any]:
        """Content of ``sky.json``: plain numbers, lists and text.

        Returns
        -------
        dict
            ``survey``, ``survey_digest``, ``shape``, the counts, ``shares`` and ``by_magnitude``.
        """
        by_magnitude = self.by_magnitude()
        return {
            "survey": self.survey.name,
            "survey_digest": self.survey.digest(),
            "shape": list(self.shape),
            "area_arcmin2": self.area,
            "galaxies_drawn": len(self.galaxies),
            **asdict(self.counts),
            "objects": self.counts.objects,
            "shares": [asdict(share) for share in self.shares()],
            "by_magnitude": {name: by_magnitude[name].tolist() for name in by_magnitude.colnames},
            "ellipticity_median_law": closed_forms.ellipticity_median(self.survey.population),
        }


def _percent(share: float, error: float) -> str:
    if np.isnan(share):
        return f"{'-':>8s} " + " " * 8
    return f"{100 * share:8.3f} " + (f"± {100 * error:<6.3f}" if np.isfinite(error) else " " * 8)


def _binomial(name: str, n: int, total: int, expected: float, weight: int = 1) -> Share:
    if not total:
        return Share(name, float("nan"), float("nan"), expected)
    share = n / total
    return Share(name, share, float(np.sqrt(weight * share * (1 - share) / total)), expected)
