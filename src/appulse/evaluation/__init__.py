"""Matching of predictions with the truth, and the scores that follow. Strict definitions first."""

from appulse.evaluation.detection import Detection, detection_from_result, detection_from_ternary
from appulse.evaluation.energy import energy_score
from appulse.evaluation.galaxies import GalaxyMatch, match_centroids, match_galaxies
from appulse.evaluation.intervals import Interval, bootstrap, bootstrap_mean, wilson
from appulse.evaluation.lenient import LenientBlends, lenient_blends
from appulse.evaluation.matching import ObjectMatch, excluded_predictions, match_objects
from appulse.evaluation.operating import (
    CalibrationField,
    balanced_score,
    choose_operating_points,
    count_on_grid,
)
from appulse.evaluation.pixel_scores import (
    Reliability,
    brier_score,
    expected_calibration_error,
    mean_in_bins,
    negative_log_likelihood,
    rank_correlation,
    reliability,
)
from appulse.evaluation.scores import ObjectCounts, count_objects, format_table, table1, tally
from appulse.sky.true_objects import (
    MIN_OVERLAP,
    MIN_TRUE_AREA,
    Kind,
    TrueObjects,
    object_kinds,
    true_galaxy_masks,
    true_objects,
)

__all__ = [
    "MIN_OVERLAP",
    "MIN_TRUE_AREA",
    "CalibrationField",
    "Detection",
    "GalaxyMatch",
    "Interval",
    "Kind",
    "LenientBlends",
    "ObjectCounts",
    "ObjectMatch",
    "Reliability",
    "TrueObjects",
    "balanced_score",
    "bootstrap",
    "bootstrap_mean",
    "brier_score",
    "choose_operating_points",
    "count_objects",
    "count_on_grid",
    "detection_from_result",
    "detection_from_ternary",
    "energy_score",
    "excluded_predictions",
    "expected_calibration_error",
    "format_table",
    "lenient_blends",
    "match_centroids",
    "match_galaxies",
    "match_objects",
    "mean_in_bins",
    "negative_log_likelihood",
    "object_kinds",
    "rank_correlation",
    "reliability",
    "table1",
    "tally",
    "true_galaxy_masks",
    "true_objects",
    "wilson",
]
