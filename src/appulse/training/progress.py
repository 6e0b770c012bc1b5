"""What a run tells while it runs: progress, validation scores, curves."""

from __future__ import annotations

import csv
import io
import math
import time
from collections.abc import Callable
from pathlib import Path

import lightning as L

from appulse.files import atomic_write
from appulse.pictures import save_figure
from appulse.progress import Progress
from appulse.training.config import TrainingConfig
from appulse.training.module import TrainingModule
from appulse.training.validation import ValidationStamps, validate

# One line each so many seconds.
_LINE_SECONDS = 60


class ProgressCallback(L.Callback):
    """Tells how far a run is and, each minute, stamps per second, the loss and the time left.

    Parameters
    ----------
    config : TrainingConfig
        Gives the length of the run.
    progress : callable, optional
        Called after each batch with the name of the stage, batches drawn and their total.
    say : callable, optional
        Called with a line.
    """

    def __init__(
        self,
        config: TrainingConfig,
        progress: Progress | None = None,
        say: Callable[[str], None] | None = None,
    ):
        self.config, self.progress, self.say = config, progress, say
        self._since = (0.0, 0)
        self._spoken = -math.inf

    def on_train_start(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Begin to count."""
        self._since = (time.monotonic(), module.batches_drawn)
        self._tell(module)

    def on_train_batch_end(self, trainer: L.Trainer, module: TrainingModule, *_: object) -> None:
        """Tell of the batch."""
        self._tell(module)
        now = time.monotonic()
        # Before the loss is asked for: on a GPU, that waits for it.
        if self.say is None or now - self._spoken <= _LINE_SECONDS:
            return
        self._spoken = now
        drawn, total = module.batches_drawn, self.config.total_steps
        started, first = self._since
        rate = (drawn - first) / max(now - started, 1e-9)
        line = f"step {drawn}/{total}, {rate * self.config.batch_size:.1f} stamps/s"
        if "train_loss" in trainer.callback_metrics:
            line += f", loss {float(trainer.callback_metrics['train_loss']):.4f}"
        self.say(f"{line}, {(total - drawn) / max(rate, 1e-9) / 60:.0f} min left")

    def _tell(self, module: TrainingModule) -> None:
        if self.progress is not None:
            self.progress("training", module.batches_drawn, self.config.total_steps)


class ValidationCallback(L.Callback):
    """Scores the averaged weights on fixed stamps at the end of every epoch.

    Parameters
    ----------
    stamps : ValidationStamps
        The fixed stamps.
    say : callable, optional
        Called with a line of the scores that matter most.
    """

    def __init__(self, stamps: ValidationStamps, say: Callable[[str], None] | None = None):
        self.stamps, self.say = stamps, say

    def on_train_epoch_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Validate, log, and tell."""
        scores = validate(module.averaged.module, self.stamps)
        module.log_dict({f"val_{name}": value for name, value in scores.items() if not math.isnan(value)})
        if self.say is not None:
            shown = ("completeness_isolated", "purity_isolated", "completeness_blended", "purity_blended")
            line = ", ".join(f"{name} {scores[name]:.3f}" for name in (*shown, "dice_overlap", "kl"))
            self.say(f"epoch {trainer.current_epoch + 1}: {line}")


class CurvesCallback(L.Callback):
    """Draws the log as a picture at the end of every epoch.

    Parameters
    ----------
    output : Path
        Directory of the run.
    """

    def __init__(self, output: Path):
        self.output = output

    def on_train_epoch_end(self, trainer: L.Trainer, module: TrainingModule) -> None:
        """Redraw ``curves.png`` from the log."""
        trainer.logger.save()
        update_curves(self.output)


def update_curves(output: Path) -> None:
    """Join the log of a run and draw it as ``curves.png``.

    Parameters
    ----------
    output : Path
        Directory of the run.
    """
    log = join_log(output)
    if log is not None:
        draw_curves(log, output / "curves.png")


def next_leg(output: Path) -> str:
    """Name for the log of the next leg of a run: each time it is started or resumed.

    Parameters
    ----------
    output : Path
        Directory of the run.
    """
    return f"leg_{len(list((output / 'log').glob('leg_*'))):03d}"


def join_log(output: Path) -> Path | None:
    """Join the logs of all legs into ``log/metrics.csv``.

    Parameters
    ----------
    output : Path
        Directory of the run.

    Returns
    -------
    Path or None
        None where nothing was logged yet.
    """
    rows: list[dict] = []
    for leg in sorted((output / "log").glob("leg_*/metrics.csv")):
        with open(leg, newline="") as stream:
            following = list(csv.DictReader(stream))
        if following:
            # What a leg logged after its last checkpoint was done again by the next one.
            first = int(following[0]["step"])
            rows = [row for row in rows if int(row["step"]) < first] + following
    if not rows:
        return None
    names = sorted(
        {name for row in rows for name in row}, key=lambda name: (name not in ("epoch", "step"), name)
    )
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    joined = output / "log" / "metrics.csv"
    atomic_write(joined, lambda temporary: temporary.write_text(text.getvalue()))
    return joined


_PANELS = {
    "loss": ("train_loss", "train_dice", "train_cross_entropy"),
    "divergence (nats)": ("train_kl", "val_kl"),
    "Dice": ("val_dice_isolated", "val_dice_overlap"),
    "objects": (
        "val_completeness_isolated",
        "val_purity_isolated",
        "val_completeness_blended",
        "val_purity_blended",
    ),
}


def draw_curves(log: Path, picture: Path) -> None:
    """Picture of a run's log.

    Parameters
    ----------
    log : Path
        ``metrics.csv``.
    picture : Path
        PNG to write.
    """
    from matplotlib.figure import Figure

    with open(log, newline="") as stream:
        rows = list(csv.DictReader(stream))
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    for axes, (title, names) in zip(figure.subplots(2, 2).flat, _PANELS.items(), strict=True):
        for name in names:
            points = [(int(row["step"]), float(row[name])) for row in rows if row.get(name)]
            if points:
                label = name.removeprefix("train_").removeprefix("val_").replace("_", " ")
                label += " (validation)" if name.startswith("val_") and title.startswith("div") else ""
                axes.plot(*zip(*points, strict=True), label=label, marker="." if len(points) < 50 else None)
        axes.set(title=title, xlabel="step")
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize=8)
    figure.axes[0].set_yscale("log")
    save_figure(figure, picture, dpi=110)
