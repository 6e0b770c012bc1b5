"""Objects: ternary map -> overlapping galaxies -> measurements -> catalogue."""

from appulse.objects.bridges import bridges_of_field, faint_bridges
from appulse.objects.catalog import COLUMNS, MEASURED, CatalogColumn, Summary, build_catalog, summarise
from appulse.objects.components import central_component, label_objects
from appulse.objects.ensemble import Ensemble, match_masks, measure_ensemble
from appulse.objects.flags import OBJECT_MEANING, PIXEL_MEANING, ObjectFlag, PixelFlag, describe
from appulse.objects.measurement import Measurement, light_shares, measure
from appulse.objects.pairs import Pair, meeting_pairs, overlapping
from appulse.objects.separation import Separation, divide_at_peaks, nested_galaxies, separate

__all__ = [
    "COLUMNS",
    "MEASURED",
    "OBJECT_MEANING",
    "PIXEL_MEANING",
    "CatalogColumn",
    "Ensemble",
    "Measurement",
    "ObjectFlag",
    "Pair",
    "PixelFlag",
    "Separation",
    "Summary",
    "bridges_of_field",
    "build_catalog",
    "central_component",
    "describe",
    "divide_at_peaks",
    "faint_bridges",
    "label_objects",
    "light_shares",
    "match_masks",
    "measure",
    "measure_ensemble",
    "meeting_pairs",
    "nested_galaxies",
    "overlapping",
    "separate",
    "summarise",
]
