"""How far the work on a field is, all stages together, and how much is left."""

from __future__ import annotations

import time
from collections.abc import Callable

from appulse.engine.job import BRIDGES, FIRST, GALAXIES, PARTING, REBUILDING, SECOND, stages

BACKGROUND = "background"
# What a step costs, in stamps drawn on the grid; of a stage without an entry, what a million pixels cost.
# From benchmarks/engine.py --what stages: 50 realisations on one core, float32, on the sky of euclid-wide.
_PER_STEP = {FIRST: 1.0, SECOND: 1.0, BRIDGES: 0.035, GALAXIES: 0.5}
_PER_STEP_SLIDING = _PER_STEP | {FIRST: 1.05}
_PER_MEGAPIXEL = {BACKGROUND: 11.0, REBUILDING: 4.0, PARTING: 0.4}
# Steps that a million pixels of that sky are, as long as nobody has counted them.
_STEPS = {FIRST: 1e6 / 112**2, SECOND: 133.0, BRIDGES: 133.0, GALAXIES: 133.0}
_STEPS_SLIDING = _STEPS | {FIRST: 1e6 / 64**2}
_OBJECTS = (SECOND, BRIDGES, GALAXIES)  # stages whose steps are objects


def costs(pixels: int, method: str) -> dict[str, float]:
    """What each stage of a field costs, in stamps, before anything of it is known.

    Parameters
    ----------
    pixels : int
        Of the image.
    method : {"two-step", "sliding", "grid"}
        As `appulse.segment` takes it.
    """
    per_step, steps = (_PER_STEP_SLIDING, _STEPS_SLIDING) if method == "sliding" else (_PER_STEP, _STEPS)
    return {
        stage: (per_step[stage] * steps[stage] if stage in steps else _PER_MEGAPIXEL[stage]) * pixels / 1e6
        for stage in (BACKGROUND, *stages(method))
    }


class Course:
    """Listens to the stages of one field, and knows how far the whole is.

    Stages cost what they do on the sky of euclid-wide, but for the number of objects, which is the field's
    own as soon as they are counted. Time left assumes that the rest goes as fast as this run so far.

    Parameters
    ----------
    name : str
        Of the field.
    pixels : int
        Of the image.
    method : {"two-step", "sliding", "grid"}
        As `appulse.segment` takes it.
    report : callable
        Called with the course after every step.
    clock : callable
        Seconds.
    """

    def __init__(
        self,
        name: str,
        pixels: int,
        method: str,
        report: Callable[[Course], None],
        clock: Callable[[], float] = time.monotonic,
    ):
        self.name, self.pixels, self.stage, self.objects = name, pixels, BACKGROUND, 0
        self._costs, self._report, self._clock = costs(pixels, method), report, clock
        self._per_step = _PER_STEP_SLIDING if method == "sliding" else _PER_STEP
        self._share, self._started = 0.0, clock()
        self._began: float | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of a step.

        Parameters
        ----------
        stage : str
            Name of the stage.
        done, total : int
            Steps.
        """
        self.stage = stage
        if stage in _OBJECTS:
            self.objects = total
            for later in _OBJECTS[_OBJECTS.index(stage) :]:  # nearly as many
                if later in self._costs:
                    self._costs[later] = self._per_step[later] * total
        names = list(self._costs)
        before = sum(self._costs[name] for name in names[: names.index(stage)])
        everything = max(sum(self._costs.values()), 1e-9)
        share = (before + self._costs[stage] * (done / total if total else 1)) / everything
        self._share = max(share, self._share)  # more objects than expected may make it less
        if self._began is None:  # what an earlier run has done, and one step
            self._began, self._started = self._share, self._clock()
        self._report(self)

    @property
    def share(self) -> float:
        """Of the work that is done, 0 to 1."""
        return self._share

    @property
    def megapixels_per_second(self) -> float | None:
        """Speed of this run, all stages together; None as long as nobody knows."""
        seconds, done = self._clock() - self._started, self._share - (self._began or 0.0)
        return done * self.pixels / 1e6 / seconds if seconds > 0 and done > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Until the end, at the speed so far; None as long as nobody knows."""
        speed = self.megapixels_per_second
        return (1 - self._share) * self.pixels / 1e6 / speed if speed else None

    def __str__(self) -> str:
        said = []
        if (speed := self.megapixels_per_second) is not None:
            said.append(f"{speed:.3f} Mpix/s")
        if self.objects:
            said.append(f"{self.objects:,} objects")
        if (left := self.seconds_left) is not None:
            minutes, seconds = divmod(round(left), 60)
            hours, minutes = divmod(minutes, 60)
            said.append(f"{hours}:{minutes:02d}:{seconds:02d} left")
        return ", ".join(said)
