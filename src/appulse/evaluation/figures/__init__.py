"""The figures of an evaluation, in the paper's layout, drawn from tables and snapshots."""

from appulse.evaluation.figures.curves import (
    blends_figure,
    coverage_figure,
    figure2,
    figure3,
    rank_figure,
    reliability_figure,
    tradeoff_figure,
)
from appulse.evaluation.figures.maps import figure1, figure5, gallery
from appulse.evaluation.figures.style import DPI

__all__ = [
    "DPI",
    "blends_figure",
    "coverage_figure",
    "figure1",
    "figure2",
    "figure3",
    "figure5",
    "gallery",
    "rank_figure",
    "reliability_figure",
    "tradeoff_figure",
]
