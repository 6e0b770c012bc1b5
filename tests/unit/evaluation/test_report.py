"""The page: cells, anchors, escaping."""

import base64
import struct

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.report import MISSING, Listing, Picture, Section, plain, write_report

# Signature, and the first chunk: 1000 pixels wide.
PNG = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4sII", 13, b"IHDR", 1000, 500)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.98234, "0.982"),
        (0.0, "0.000"),
        (0.00234, "0.0023"),
        (-0.5, "-0.500"),
        (np.float32(12.0), "12.000"),
        (np.nan, MISSING),
        (7, "7"),
        (np.True_, "yes"),
        ("blended", "blended"),
    ],
)
def test_values_are_shown_for_people(value, text):
    assert plain(value) == text


def test_bounds_go_into_the_cell_of_their_value():
    table = Table(
        {
            "kind": ["a", "b"],
            "x": [0.5, np.nan],
            "x_low": [0.4, 0.0],
            "x_high": [0.6, 1.0],
            "low_edge": [1.0, 2.0],
        }
    )
    listing = Listing("t", table, "title", "caption")
    assert listing.headings == ["kind", "x", "low edge"]
    assert listing.rows == [["a", "0.500 (0.400 to 0.600)", "1.000"], ["b", MISSING, "2.000"]]


def test_what_is_written_is_escaped_and_deterministic(tmp_path):
    (tmp_path / "dot.png").write_bytes(PNG)
    exhibits = [Picture(tmp_path / "dot.png", "A & B", "x < y"), Listing("t", Table({"a": ["<b>"]}), "T", "")]
    options = {
        "title": "<title>",
        "headline": "first & foremost",
        "warnings": ["<script>"],
        "sections": [Section("What, and why?", "text", exhibits)],
        "facts": {"command": "appulse <x>"},
    }
    pages = [write_report(tmp_path / f"{k}.html", **options).read_text() for k in range(2)]
    assert pages[0] == pages[1]
    assert "<script>" not in pages[0] and "&lt;script&gt;" in pages[0] and "&lt;b&gt;" in pages[0]
    assert 'href="#what-and-why"' in pages[0] and 'id="what-and-why"' in pages[0]
    assert f"data:image/png;base64,{base64.b64encode(PNG).decode()}" in pages[0] and 'width="650"' in pages[0]
