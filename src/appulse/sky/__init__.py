"""The simulated sky: survey, population, rendering, layered truth, field."""

from appulse.sky.field import Field, simulate_field
from appulse.sky.population import Population
from appulse.sky.psf import PSF
from appulse.sky.stored_field import field_paths, open_field, read_field, write_field
from appulse.sky.survey import Survey, survey_names
from appulse.sky.truth import ternary_map

__all__ = [
    "PSF",
    "Field",
    "Population",
    "Survey",
    "field_paths",
    "open_field",
    "read_field",
    "simulate_field",
    "survey_names",
    "ternary_map",
    "write_field",
]
