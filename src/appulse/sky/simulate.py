"""``appulse simulate``: fields of a survey in a directory, and a report of what they hold."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appulse.files import UsageError, atomic_write, write_json
from appulse.sky.field import Field, field_name, read_field, simulate_field, write_field
from appulse.sky.survey import Survey
from appulse.sky.true_objects import Kind, true_objects

# Class shares that the paper gives for its fields (section 3): background, isolated, overlap; per cent.
PAPER_SHARES = ("96", "3", "<1")
_STAMP = 128


@dataclass(frozen=True)
class SkyReport:
    """What simulated fields hold; counts, so that fields add up.

    Parameters
    ----------
    survey : str
        Name.
    fields, galaxies, objects, isolated, touching, blended : int
        Numbers. Objects are those of `true_objects`, small ones and those cut by the border included.
    pixels : tuple of int
        Of class 0, 1 and 2.
    stamps, empty_stamps : int
        128-pixel stamps of the grid, and those without a galaxy pixel.
    """

    survey: str
    fields: int
    galaxies: int
    objects: int
    isolated: int
    touching: int
    blended: int
    pixels: tuple[int, ...]
    stamps: int
    empty_stamps: int

    @classmethod
    def of(cls, field: Field) -> SkyReport:
        """Count one field.

        Parameters
        ----------
        field : Field
            At its own depth, threshold one sigma.
        """
        ternary = field.ternary()
        objects = true_objects(ternary, field.id1, field.id2)
        isolated, touching, blended = (
            int(np.count_nonzero(objects.kind == kind))
            for kind in (Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED)
        )
        rows, columns = (side // _STAMP for side in ternary.shape)
        stamps = ternary[: rows * _STAMP, : columns * _STAMP].reshape(rows, _STAMP, columns, _STAMP)
        lit = stamps.any(axis=(1, 3))
        return cls(
            survey=field.survey.name,
            fields=1,
            galaxies=len(field.catalog),
            objects=isolated + touching + blended,
            isolated=isolated,
            touching=touching,
            blended=blended,
            pixels=tuple(int(np.count_nonzero(ternary == c)) for c in (0, 1, 2)),
            stamps=lit.size,
            empty_stamps=int(np.count_nonzero(~lit)),
        )

    @classmethod
    def total(cls, reports: Sequence[SkyReport]) -> SkyReport:
        """Add fields up.

        Parameters
        ----------
        reports : sequence of SkyReport
            Of one survey; at least one.
        """
        names = [name for name in cls.__dataclass_fields__ if name not in ("survey", "pixels")]
        sums = {name: sum(getattr(report, name) for report in reports) for name in names}
        pixels = tuple(int(n) for n in np.sum([report.pixels for report in reports], axis=0))
        return cls(survey=reports[0].survey, pixels=pixels, **sums)

    def __str__(self) -> str:
        total = max(sum(self.pixels), 1)
        lines = [f"{self.fields} fields of {self.survey}: {self.galaxies} galaxies"]
        for name, count, paper in zip(
            ("background", "galaxy", "overlap"), self.pixels, PAPER_SHARES, strict=True
        ):
            lines.append(f"  {name:10s} {100 * count / total:8.3f} % of the pixels   (paper: {paper} %)")
        share = 100 * self.blended / max(self.objects, 1)
        lines.append(
            f"  {self.objects} objects: {self.isolated} isolated, {self.touching} touching, "
            f"{self.blended} blended ({share:.1f} %)"
        )
        empty = 100 * self.empty_stamps / max(self.stamps, 1)
        lines.append(f"  {empty:.1f} % of {self.stamps} stamps are empty")
        return "\n".join(lines)


def simulate_fields(
    output: str | Path,
    survey: str | Path | Survey,
    *,
    size: int = 4096,
    fields: int = 1,
    seed: int = 0,
    workers: int = 1,
    progress: Callable[[str, int, int], None] | None = None,
) -> SkyReport:
    """Simulate fields into a directory; those that are there already are kept.

    Parameters
    ----------
    output : str or Path
        Made where missing.
    survey : str, Path or Survey
        Name, TOML file, or survey.
    size : int, pixels
        Width and height.
    fields, seed : int
        How many, and their seed.
    workers : int
        Processes that draw.
    progress : callable, optional
        Called with the name of the field, galaxies drawn and their total.

    Returns
    -------
    SkyReport

    Raises
    ------
    UsageError
        A size or number out of range, or fields of another survey or size in the directory.
    """
    if size < 16 or fields < 1 or seed < 0 or workers < 1:
        raise UsageError(
            f"size {size}, fields {fields}, seed {seed}, workers {workers}: size must be at least 16, "
            "fields and workers at least 1, seed not negative."
        )
    survey = survey if isinstance(survey, Survey) else Survey.load(survey)
    output = Path(output)
    reports = []
    for index in range(fields):
        path = output / field_name(seed, index)
        if path.exists():
            field = _existing(path, survey.for_field(seed, index), size)
        else:
            update = functools.partial(progress, path.name) if progress else None
            field = simulate_field(survey, size, seed, index, workers=workers, progress=update)
            write_field(field, path)
        reports.append(SkyReport.of(field))
        if index == 0:
            draw_sky(field, output / "sky.png")
    report = SkyReport.total(reports)
    write_json(
        output / "sky.json", vars(report) | {"seed": seed, "size": size, "survey_digest": survey.digest()}
    )
    return report


def _existing(path: Path, survey: Survey, size: int) -> Field:
    field = read_field(path)
    if field.survey.digest() != survey.digest() or field.image.shape != (size, size):
        raise UsageError(f"{path} is of another survey or size; choose another directory.")
    return field


def draw_sky(field: Field, path: str | Path) -> None:
    """Picture of a part of a field: image, class map, number counts and sizes.

    Parameters
    ----------
    field : Field
        To draw.
    path : str or Path
        PNG to write.
    """
    from matplotlib.figure import Figure

    side = min(640, *field.image.shape)
    figure = Figure(figsize=(11, 10), layout="constrained")
    (image, classes), (counts, sizes) = figure.subplots(2, 2)
    stretched = np.arcsinh(field.image[:side, :side] / field.sigma)
    image.imshow(
        stretched, vmin=-1.5, vmax=max(np.percentile(stretched, 99.7), 3), cmap="gray", origin="lower"
    )
    image.set_title(f"{field.survey.name}: image, arcsinh of noise units")
    classes.imshow(field.ternary()[:side, :side], vmin=0, vmax=2, cmap="inferno", origin="lower")
    classes.set_title("true class map: background, galaxy, overlap")
    magnitude = np.asarray(field.catalog["magnitude"])
    population, area = field.survey.population, _area(field)
    edges = np.arange(population.magnitude_bright, population.magnitude_faint + 0.26, 0.5)
    histogram, _ = np.histogram(magnitude, edges)
    counts.stairs(histogram / area, edges, label="drawn", fill=True, alpha=0.5)
    at_faint = population.density
    slope = population.count_slope
    law = at_faint * 10 ** (slope * (edges - population.magnitude_faint))
    counts.stairs(np.diff(np.minimum(law, at_faint)), edges, label="law", color="black")
    counts.set(yscale="log", xlabel="magnitude", ylabel="galaxies per arcmin² and half magnitude")
    counts.legend()
    sizes.scatter(magnitude, field.catalog["half_light_radius"], s=3, alpha=0.4)
    sizes.set(yscale="log", xlabel="magnitude", ylabel="half-light radius (arcsec)")
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=100))


def _area(field: Field) -> float:
    height, width = field.image.shape
    return height * width * (field.survey.pixel_scale / 60.0) ** 2
