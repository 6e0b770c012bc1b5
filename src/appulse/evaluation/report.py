"""One self-contained page from figures and tables: pictures inside, nothing fetched, no scripts."""

from __future__ import annotations

import base64
import re
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Row, Table
from jinja2 import Environment, PackageLoader, StrictUndefined

from appulse.files import atomic_write

MISSING = "–"
# Smaller numbers are shown with two significant digits instead of three decimals.
_SMALL = 0.01
# Pixels of the page for a pixel of a figure.
_SCALE = 0.65


@dataclass(frozen=True)
class Picture:
    """A figure of the report.

    Parameters
    ----------
    path : Path
        PNG file; it is copied into the page.
    title, caption : str
        What it shows, and how to read it.
    """

    path: Path
    title: str
    caption: str

    @property
    def source(self) -> str:
        """The picture itself, as a data URI."""
        return "data:image/png;base64," + base64.b64encode(self.path.read_bytes()).decode()

    @property
    def width(self) -> int:
        """Width on the page, pixels: the same scale for all, so that letters are of one size."""
        (pixels,) = struct.unpack(">I", self.path.read_bytes()[16:20])  # the first chunk of a PNG
        return round(pixels * _SCALE)

    @property
    def identity(self) -> str:
        """Anchor in the page."""
        return self.path.stem


@dataclass(frozen=True)
class Listing:
    """A table of the report.

    Parameters
    ----------
    identity : str
        Anchor in the page; mostly the name of the ECSV file that holds the same numbers.
    table : Table
        A column with ``_low`` and ``_high`` beside it is shown as a value with its interval.
    title, caption : str
        What it shows, and how to read it.
    folded : bool
        Whether the rows are shown only when asked for.
    """

    identity: str
    table: Table
    title: str
    caption: str
    folded: bool = False

    @property
    def names(self) -> list[str]:
        """Columns that are shown by themselves."""
        columns = self.table.colnames
        bounds = {f"{name}_{end}" for name in columns for end in ("low", "high")}
        return [name for name in columns if name not in bounds]

    @property
    def headings(self) -> list[str]:
        """Of the columns."""
        return [name.replace("_", " ") for name in self.names]

    @property
    def rows(self) -> list[list[str]]:
        """Cells as text."""
        return [[self._cell(row, name) for name in self.names] for row in self.table]

    def _cell(self, row: Row, name: str) -> str:
        text = plain(row[name])
        bounds = f"{name}_low", f"{name}_high"
        if text == MISSING or not set(bounds) <= set(self.table.colnames):
            return text
        low, high = (plain(row[bound]) for bound in bounds)
        return text if MISSING in (low, high) else f"{text} ({low} to {high})"


@dataclass(frozen=True)
class Section:
    """A chapter of the report.

    Parameters
    ----------
    title, text : str
        Heading, and what it is about.
    exhibits : sequence of Picture or Listing
    """

    title: str
    text: str
    exhibits: Sequence[Picture | Listing]

    @property
    def identity(self) -> str:
        """Anchor in the page."""
        return re.sub("[^a-z0-9]+", "-", self.title.lower()).strip("-")


def plain(value: object) -> str:
    """A table's value for people: three decimals, two digits of small ones, a dash for what is unknown.

    Parameters
    ----------
    value : object
        A number or text.

    Returns
    -------
    str
    """
    if isinstance(value, bool | np.bool_):
        return "yes" if value else "no"
    if isinstance(value, float | np.floating):
        if not np.isfinite(value):
            return MISSING
        return f"{value:.3f}" if value == 0 or not -_SMALL < value < _SMALL else f"{value:.2g}"
    return str(value)


def write_report(
    path: str | Path,
    *,
    title: str,
    headline: str,
    warnings: Sequence[str],
    sections: Sequence[Section],
    facts: Mapping[str, str],
) -> Path:
    """Write the page, whole or not at all.

    Parameters
    ----------
    path : str or Path
        Ends in ``.html``.
    title : str
        Of the page.
    headline : str
        Its first line.
    warnings : sequence of str
        What limits the numbers; shown below the headline.
    sections : sequence of Section
    facts : mapping of str to str
        How it was made.

    Returns
    -------
    Path
    """
    environment = Environment(
        loader=PackageLoader("appulse.evaluation"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("report.html").render(
        title=title, headline=headline, warnings=warnings, sections=sections, facts=facts
    )
    atomic_write(path, lambda temporary: temporary.write_text(page, encoding="utf-8"))
    return Path(path)
