"""Progress bars on standard error, drawn by rich; silent where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appulse.progress import Progress

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress
    from rich.progress import ProgressColumn, Task, TaskID

    from appulse.engine.course import Course


def _drawn(*columns: str | ProgressColumn) -> RichProgress:
    from rich.console import Console
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    # Rich would take what is printed meanwhile onto its own console; what goes to a file must arrive there.
    is_seen = sys.stdout.isatty()
    return RichProgress(*columns, console=console, disable=not console.is_terminal, redirect_stdout=is_seen)


@contextmanager
def field_bar() -> Iterator[Callable[[Course], None]]:
    """One bar for all stages of a field.

    Yields
    ------
    callable
        To be called with the course of the field after each step.
    """
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[about]}", markup=False),
    )
    with _drawn(*columns) as bar:
        tasks: dict[str, TaskID] = {}

        def report(course: Course) -> None:
            if course.name not in tasks:
                for done in tasks.values():
                    bar.remove_task(done)
                tasks.clear()
                tasks[course.name] = bar.add_task(course.name, total=1.0, about="")
            bar.update(
                tasks[course.name],
                completed=course.share,
                description=f"{course.name}: {course.stage}",
                about=str(course),
            )

        yield report


@contextmanager
def stage_bars() -> Iterator[Progress]:
    """A bar for each stage.

    Yields
    ------
    callable
        To be called with the name of a stage, steps done and their total.
    """
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(f"{task.speed:,.0f}/s" if task.speed and task.speed >= 1 else "")

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with _drawn(*columns) as bar:
        tasks: dict[str, TaskID] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)
            if done >= total:
                bar.remove_task(tasks.pop(stage))

        yield update
