"""Which sources a field holds, drawn before anything is rendered."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from appulse.sky.survey import Survey

# Galaxies are drawn to this distance outside the field, so that its borders cut galaxies as a survey's do.
MARGIN = 128
_PURPOSE = 0


def draw_sources(survey: Survey, shape: tuple[int, int], seed: int, index: int) -> Table:
    """Draw the sources of a field and of a margin around it.

    Parameters
    ----------
    survey : Survey
        Telescope and sky.
    shape : (height, width), pixels
        Of the field.
    seed, index : int
        Seed, and number of the field under that seed.

    Returns
    -------
    astropy.table.Table
        ``x``, ``y`` (pixels), ``magnitude``, ``flux``, ``half_light_radius`` (arcsec), ``sersic_index``,
        ``ellipticity``, ``orientation`` (degrees), and ``kind``: 0 for a galaxy with a label.
    """
    height, width = shape
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, _PURPOSE])))
    area = (height + 2 * MARGIN) * (width + 2 * MARGIN) * (survey.pixel_scale / 60.0) ** 2
    drawn = survey.population.draw(area, rng)
    n = len(drawn["magnitude"])
    sources = Table()
    sources["x"] = rng.uniform(-MARGIN - 0.5, width + MARGIN - 0.5, n)
    sources["y"] = rng.uniform(-MARGIN - 0.5, height + MARGIN - 0.5, n)
    sources["magnitude"] = drawn["magnitude"]
    sources["flux"] = 10.0 ** (-0.4 * (drawn["magnitude"] - survey.zero_point))
    for name in ("half_light_radius", "sersic_index", "ellipticity", "orientation"):
        sources[name] = drawn[name]
    sources["kind"] = np.zeros(n, np.int8)
    return sources
