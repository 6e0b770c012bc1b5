"""Progress bars on standard error, drawn by rich; silent where that is not a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from appulse.progress import Progress

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from appulse.engine.course import Course


def _display(console: Console) -> dict[str, bool]:
    # Rich would take what is printed meanwhile onto its own console; what goes to a file must arrive there.
    return {"disable": not console.is_terminal, "redirect_stdout": sys.stdout.isatty()}


@contextmanager
def field_bar() -> Iterator[Callable[[Course], None]]:
    """One bar for all stages of a field.

    Yields
    ------
    callable
        To be called with the course of the field after each step.
    """
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn
    from rich.progress import Progress as RichProgress

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[about]}", markup=False),
    )
    with RichProgress(*columns, console=console, **_display(console)) as bar:
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
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.progress import Progress as RichProgress
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task):
            return Text(f"{task.speed:,.0f}/s" if task.speed and task.speed >= 1 else "")

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        Rate(),
        TimeRemainingColumn(),
    )
    with RichProgress(*columns, console=console, **_display(console)) as bar:
        tasks: dict[str, int] = {}

        def update(stage: str, done: int, total: int) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total)
            bar.update(tasks[stage], completed=done, total=total)
            if done >= total:
                bar.remove_task(tasks.pop(stage))

        yield update
