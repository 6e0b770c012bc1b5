"""The house as docs/architecture.md lists it: every room is there, and imports go down the list only."""

import ast
import re
from pathlib import Path

import appulse

SOURCE = Path(appulse.__file__).parent
ROWS = re.findall(
    r"^\| (`.+?`) \|", (Path(__file__).parents[2] / "docs/architecture.md").read_text(), re.MULTILINE
)
RANK = {
    name.removesuffix(".py").rstrip("/"): rank
    for rank, row in enumerate(ROWS)
    for name in re.findall(r"`(.+?)`", row)
}


def room_of(path):
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imported(path):
    """Rooms that a file imports when it is imported itself."""
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.ImportFrom):
            names = [node.module] if node.module != "appulse" else [f"appulse.{a.name}" for a in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        yield from (name.split(".")[1] for name in names if name.startswith("appulse."))


def test_every_room_is_listed():
    rooms = {room_of(path) for path in SOURCE.rglob("*.py")} - {"__init__", "__main__"}
    assert rooms == set(RANK)


def test_rooms_import_only_from_rooms_below_them():
    up = [
        f"{path.relative_to(SOURCE)}: {room}"
        for path in SOURCE.rglob("*.py")
        if room_of(path) in RANK
        for room in imported(path)
        if RANK.get(room, len(ROWS)) < RANK[room_of(path)]
    ]
    assert not up
