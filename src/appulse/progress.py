"""How long work tells how far it has come."""

from collections.abc import Callable

# Called with the name of a stage, steps done and their total. `bars.stage_bars` shows it on a terminal.
Progress = Callable[[str, int, int], None]
