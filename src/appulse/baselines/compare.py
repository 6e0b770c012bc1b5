"""``appulse compare``: the model and every installed detector on the same fields, by the same scores."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from astropy.table import Table

from appulse.baselines.sep import tune_sep
from appulse.evaluation.evaluate import refuse_seen_fields, score_fields
from appulse.evaluation.scores import ObjectCounts, count_objects
from appulse.files import atomic_write
from appulse.inference.background import scale_to_noise
from appulse.network.weights import load_model
from appulse.sky.field import field_paths, read_field
from appulse.sky.true_objects import Kind, true_objects


def compare_detectors(
    output: str | Path,
    fields: str | Path,
    validation: str | Path,
    model: str | Path,
    *,
    trials: int = 96,
    progress: Callable[[str, int, int], None] | None = None,
) -> str:
    """Score a model beside SEP, tuned on other fields by the objective that chose the model's thresholds.

    Parameters
    ----------
    output : str or Path
        Directory for ``comparison.ecsv``, and the model's ``table1.ecsv`` and ``scores.json``.
    fields : str or Path
        Directory of test fields.
    validation : str or Path
        Directory of calibration fields.
    model : str or Path
        Bundled name or weight file.
    trials : int
        Parameter sets tried for SEP.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    str
        The model's scores and the table, for people.
    """
    loaded = load_model(model)
    tests = [read_field(path) for path in field_paths(fields)]
    refuse_seen_fields(loaded, tests)
    calibration = [read_field(path) for path in field_paths(validation)]
    tuned = tune_sep(
        [scale_to_noise(field.image).scaled for field in calibration],
        [true_objects(field.ternary(), field.id1, field.id2) for field in calibration],
        n_trials=trials,
    )
    scores = score_fields(loaded, tests, progress=progress)
    scores.write(output)
    counts = {loaded.name: scores.counts, "SEP": ObjectCounts.empty()}
    for field in tests:
        truth = true_objects(field.ternary(), field.id1, field.id2)
        counts["SEP"] += count_objects(truth, tuned.detect(scale_to_noise(field.image).scaled))
    table = comparison_table(counts)
    atomic_write(
        Path(output) / "comparison.ecsv",
        lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True),
    )
    return "\n".join(
        [str(scores), "", *table.pformat(max_width=-1), f"SEP, tuned in {trials} trials: {tuned}"]
    )


def comparison_table(counts: dict[str, ObjectCounts]) -> Table:
    """One row per detector and score, with its 95 % interval.

    Parameters
    ----------
    counts : dict of str to ObjectCounts
        By name of the detector.

    Returns
    -------
    astropy.table.Table
    """
    rows = []
    for name, each in counts.items():
        for kind in (Kind.ISOLATED, Kind.BLENDED):
            for score in ("completeness", "purity"):
                rows.append((name, f"{kind.name.lower()} {score}", getattr(each, score)(kind)))
        rows.append((name, "half-and-half purity of blends", each.half_and_half_purity()))
        rows.append((name, "unrecognised blends", each.unrecognised_blend_rate()))
    table = Table(
        rows=[(name, score, interval.value, interval.low, interval.high) for name, score, interval in rows],
        names=("detector", "score", "value", "low", "high"),
    )
    for column in ("value", "low", "high"):
        table[column].format = ".3f"
    return table
