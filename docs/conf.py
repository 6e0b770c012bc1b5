"""Sphinx configuration; cells marked {code-cell} run while `make docs` builds the pages, and may not fail."""

from importlib.metadata import version as installed_version
from pathlib import Path

from appulse import products
from appulse.objects import catalog, flags

project = "appulse"
author = "the appulse developers"
copyright = "2026, the appulse developers"
version = release = installed_version("appulse")

extensions = ["myst_nb", "numpydoc", "sphinx.ext.autodoc"]
exclude_patterns = ["_build", "generated"]
source_suffix = {".md": "myst-nb"}

myst_enable_extensions = ["deflist", "colon_fence"]
myst_heading_anchors = 3

autodoc_default_options = {"members": True, "member-order": "bysource"}
autodoc_typehints = "none"  # the docstrings say types with shapes and units
numpydoc_show_class_members = False
autosummary_generate = False

# Every page that has cells runs in a folder of its own, which is gone afterwards.
nb_execution_mode = "force"
nb_execution_in_temp = True
nb_execution_raise_on_error = True
nb_execution_timeout = 600  # seconds for a cell
nb_output_stderr = "remove-warn"  # a warning that users would see is one to us, and may hold paths

html_title = "appulse"
html_theme = "alabaster"
html_theme_options = {
    "description": "Probabilistic segmentation of overlapping galaxies",
    "page_width": "1100px",
}

# The tables of reference.md, from where columns and bits are declared.
generated = Path(__file__).parent / "generated"
generated.mkdir(exist_ok=True)


def write_table(name, heading, rows):
    """Write a Markdown table that reference.md includes."""
    lines = [heading, ("-",) * len(heading), *rows]
    text = "".join("| " + " | ".join(str(cell) for cell in line) + " |\n" for line in lines)
    (generated / f"{name}.md").write_text(text)


units = {
    None: "",
    catalog.FLUX: "the image's; of a surface brightness, times a pixel's area",
    catalog.SIZE: "arcsec; pixels without a WCS",
}
columns = [c for c in catalog.COLUMNS if not c.name.endswith(("_std", "_p16", "_p84"))]
write_table(
    "columns",
    ("column", "unit", "what"),
    [(f"`{c.name}`", units.get(c.unit, c.unit), c.description) for c in columns],
)
for name, items in (("maps", (*products.MAPS, *products.SKY)), ("pairs", products.PAIRS)):
    heading = ("HDU" if name == "maps" else "column", "type", "what")
    write_table(name, heading, [(f"`{item.name}`", item.dtype, item.description) for item in items])
for kind in (flags.ObjectFlag, flags.PixelFlag):
    write_table(
        kind.__name__,
        ("bit", "name", "meaning"),
        [(b.value, f"`{b.name}`", flags.describe(b)[0]) for b in kind],
    )
