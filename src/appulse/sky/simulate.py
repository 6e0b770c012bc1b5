"""``appulse simulate``: fields of a survey in a directory, and a report of what they hold."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

from appulse.files import UsageError, write_json
from appulse.sky.counts import count_strip, merge
from appulse.sky.field import Field, field_name, read_field, simulate_field, write_field
from appulse.sky.figure import PATCH, draw_sky
from appulse.sky.oracle import ORACLE_FILE, survey_oracle
from appulse.sky.report import SkyReport
from appulse.sky.survey import Survey


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
        Called with the name of the field, galaxies drawn and their total; then with ``oracle.ecsv``, the
        magnitude bins done and their total.

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
    counts, catalogs = [], []
    for index in range(fields):
        path = output / field_name(seed, index)
        if path.exists():
            field = _existing(path, survey, size)
        else:
            update = functools.partial(progress, path.name) if progress else None
            field = simulate_field(survey, size, seed, index, workers=workers, progress=update)
            write_field(field, path)
        ternary = field.ternary()
        counts.append(merge([count_strip(ternary, field.id1, field.id2, 0)]))
        catalogs.append(field.catalog)
        if index == 0:
            patch = field.image[:PATCH, :PATCH] / field.sigma, ternary[:PATCH, :PATCH]
    report = SkyReport.of(survey, (size, size), counts, catalogs)
    update = functools.partial(progress, ORACLE_FILE) if progress else None
    oracle = survey_oracle(survey, output, progress=update)
    draw_sky(report, *patch, oracle, output / "sky.png")
    write_json(output / "sky.json", report.as_dict() | {"seed": seed, "size": size})
    return report


def _existing(path: Path, survey: Survey, size: int) -> Field:
    field = read_field(path)
    if field.survey.digest() != survey.digest() or field.image.shape != (size, size):
        raise UsageError(f"{path} is of another survey or size; choose another directory.")
    return field
