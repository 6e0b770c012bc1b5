"""The house as docs/architecture.md lists it: every room is there, and imports go down, never round."""

import ast
import re
from graphlib import TopologicalSorter
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


def module_of(path):
    return ".".join(("appulse", *path.relative_to(SOURCE).with_suffix("").parts)).removesuffix(".__init__")


MODULES = {module_of(path): path for path in SOURCE.rglob("*.py")}


def room_of(module):
    return module.split(".")[1] if "." in module else None


class WithoutTypes(ast.NodeTransformer):
    """Leaves out what a file imports for its types only, which nothing does when it runs."""

    def visit_If(self, node):
        return None if ast.unparse(node.test) == "TYPE_CHECKING" else self.generic_visit(node)


def imported(path, *, types):
    """Modules of ours that a file imports, within its functions as well; for its types, too, if so wished."""
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree if types else WithoutTypes().visit(tree)):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: {ast.unparse(node)}"
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                yield whole if whole in MODULES else node.module
        elif isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)


def imports(*, types):
    return {
        module: {name for name in imported(path, types=types) if name in MODULES}
        for module, path in MODULES.items()
    }


def test_every_room_is_listed():
    assert {room_of(module) for module in MODULES} - {None, "__main__"} == set(RANK)


def test_rooms_import_only_from_rooms_below_them():
    up = [
        f"{module}: {name}"
        for module, names in imports(types=True).items()
        if room_of(module) in RANK
        for name in names
        if RANK.get(room_of(name), len(ROWS)) < RANK[room_of(module)]
    ]
    assert not up


def test_no_module_imports_itself_by_way_of_others():
    TopologicalSorter(imports(types=False)).prepare()  # raises an error that names a circle
