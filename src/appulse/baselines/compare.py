"""``appulse compare``: the model and every installed detector on the same fields, by the same scores."""

from __future__ import annotations

from pathlib import Path

from appulse.baselines.tuning import tuned_detectors
from appulse.evaluation.fields import read_fields, refuse_tuned_seeds, unseen_paths
from appulse.evaluation.operating import N_TRIALS
from appulse.evaluation.scoring import Scoring, score_fields
from appulse.network.weights import load_model
from appulse.progress import Progress
from appulse.sky.stored_field import seeds_of


def compare_detectors(
    output: str | Path,
    fields: str | Path,
    validation: str | Path,
    model: str | Path,
    *,
    trials: int = N_TRIALS,
    progress: Progress | None = None,
) -> str:
    """Score a model beside other detectors, tuned elsewhere by the objective that chose its thresholds.

    Parameters
    ----------
    output : str or Path
        Directory for ``comparison.ecsv``, ``table1.ecsv`` and ``scores.json``.
    fields : str or Path
        Directory of test fields.
    validation : str or Path
        Directory of calibration fields.
    model : str or Path
        Bundled name or weight file.
    trials : int
        Parameter sets tried for each detector.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    str
        The scores, for people.
    """
    loaded = load_model(model)
    paths = unseen_paths(fields, loaded)
    refuse_tuned_seeds(validation, seeds_of(paths))
    detectors, notes = tuned_detectors(validation, n_trials=trials, elsewhere=output, progress=progress)
    scores = score_fields(loaded, read_fields(paths), detectors, Scoring(details=False), progress=progress)
    scores.write(output)
    table = scores.table.copy()
    for column in ("value", "low", "high", "paper"):
        table[column].format = ".3f"
    return "\n".join([str(scores), "", *table.pformat(max_lines=-1, max_width=-1), *notes])
