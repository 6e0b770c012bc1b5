"""A whole run: what it is given is looked at, stamps are cut, a network is trained on them and calibrated."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

from appulse.network.weights import Model, load_model
from appulse.progress import Progress
from appulse.stamps import stored_stamps
from appulse.training.config import TrainingConfig
from appulse.training.fit import fit
from appulse.training.history import refuse_inputs, refuse_run


def train(
    output: str | Path,
    fields: str | Path,
    config: TrainingConfig | None = None,
    *,
    validation: str | Path | None = None,
    calibration: str | Path | None = None,
    init: str | Path | Model | None = None,
    resume: bool = False,
    workers: int | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> tuple[Path, str | None]:
    """Train a network on simulated fields, and calibrate it.

    Parameters
    ----------
    output : str or Path
        Directory for checkpoints, log, curves and ``model.safetensors``.
    fields : str or Path
        Directory of ``appulse simulate`` to train on, or a store of stamps cut from one. Of a directory, the
        store is built beside the fields, or in ``output`` where they are read-only, and kept for other runs.
    config : TrainingConfig, optional
        Recipe; by default the preset ``default``.
    validation : str or Path, optional
        A field of the selection seeds (1000s); without one nothing is validated.
    calibration : str or Path, optional
        Directory of fields of the calibration seeds (2000s); without one nothing is calibrated.
    init : str, Path or Model, optional
        Model to start from; its architecture replaces the recipe's. A recipe with more convolutions per level
        adds them, as layers that change nothing at first (`appulse.network.deepen`).
    resume : bool
        Go on from the last checkpoint in ``output``; a finished run keeps its weight file.
    workers : int, optional
        Processes that cut stamps and calibrate; by default those that are worth it, and one.
    threads : int, optional
        Threads of torch on the CPU, while it trains.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.
    say : callable, optional
        Called with a line on the stamps, on the training once a minute, and on the scores of every epoch.

    Returns
    -------
    path : Path
        The weight file.
    report : str or None
        What was calibrated, for people.

    Raises
    ------
    InputError
        No or unfit fields, an output that already holds a run, or none (or one of another recipe) to resume,
        or one that another process is at.
    UsageError
        Validation or calibration on a field of a seed that is trained on.
    KeyboardInterrupt
        Stopped; the run can be resumed from its last checkpoint.
    """
    output = Path(output)
    config = config or TrainingConfig()
    # All that can be refused is refused now, and not after minutes of cutting and hours of training.
    held = refuse_run(output, resume=resume)
    if init is not None and not isinstance(init, Model):
        init = dataclasses.replace(load_model(init), name=str(init))
    seen = refuse_inputs(fields, config, validation=validation, init=init, held=held)
    if calibration is not None:
        # It needs SEP, which a machine that only trains may lack.
        from appulse.evaluation.calibrate import calibrate_file, calibration_paths

        calibration_paths(calibration, seen)
    store = stored_stamps(fields, config.stamps, elsewhere=output, workers=workers, progress=progress)
    if say:
        say(f"{len(store)} stamps in {store.path} ({store.bytes / 1e6:.0f} MB)")
    path = fit(
        output,
        store,
        config,
        validation=validation,
        init=init,
        held=held,
        threads=threads,
        progress=progress,
        say=say,
    )
    if calibration is None:
        return path, None
    return path, calibrate_file(path, calibration, path, workers=workers or 1, progress=progress)
