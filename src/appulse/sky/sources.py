"""Every source of one field: galaxies with a label, faint ones without, and stars."""

from __future__ import annotations

import functools

import numpy as np
from astropy.table import Table

from appulse.sky.population import (
    DISC_INDEX,
    LARGEST_DISC_BULGE,
    LARGEST_DISC_INDEX,
    Bulges,
    Clumps,
    Pairs,
    Stars,
    draw_magnitudes,
)
from appulse.sky.survey import Survey
from appulse.streams import OfField, field_stream

# Pixels outside the field to which sources are drawn, so that its borders cut galaxies as a survey's do.
MARGIN = 128
# Values of the column ``kind``.
GALAXY, UNLABELLED, STAR = 0, 1, 2


def draw_sources(survey: Survey, shape: tuple[int, int], seed: int, index: int) -> Table:
    """Draw the sources of one field.

    Each option has random numbers of its own: galaxies are the same with stars among them or without.

    Parameters
    ----------
    survey : Survey
        Telescope and sky; one with ranges as `Survey.for_field` made it.
    shape : (height, width)
        Of the field.
    seed, index : int
        Seed, and number of the field under that seed.

    Returns
    -------
    astropy.table.Table
        Galaxies (companions last), then unlabelled galaxies, then stars: ``x``, ``y`` (0-based pixels, to
        ``MARGIN`` outside the field), ``magnitude``, ``flux``, ``half_light_radius`` (arcsec; of the disc
        where there is a bulge), ``sersic_index``, ``ellipticity``, ``orientation`` (degrees; of a real galaxy
        the turn given to it), ``kind`` (int8: 0 galaxy, 1 unlabelled galaxy, 2 star), ``bulge_fraction`` (of
        the flux outside clumps) and ``real_index`` (int32: row of the catalogue of real galaxies, -1 none);
        where the survey has clumps, ``clump_fraction`` (of the flux) and ``clump_seed`` (int32, of their
        places). What stars and real galaxies lack is NaN.
    """
    if survey.ranges is not None:
        raise ValueError(f"survey {survey.name} has ranges; draw one from them with for_field(seed, index).")
    area = (shape[0] + 2 * MARGIN) * (shape[1] + 2 * MARGIN) * (survey.pixel_scale / 60.0) ** 2
    stream = functools.partial(field_stream, seed, index)

    rng = stream(OfField.GALAXIES)
    parts = {OfField.GALAXIES: _scattered(survey.population.draw(area, rng), shape, rng)}
    if survey.pairs is not None:
        hosts, rng = parts[OfField.GALAXIES], stream(OfField.PAIRS)
        parts[OfField.PAIRS] = _companions(survey, survey.pairs, hosts, rng)
    if survey.faint is not None:
        fainter, rng = survey.population.fainter(survey.faint.magnitude_limit), stream(OfField.FAINT)
        parts[OfField.FAINT] = _scattered(fainter.draw(area, rng), shape, rng)
    for purpose, part in parts.items():
        n = len(part["x"])
        part["kind"] = np.full(n, UNLABELLED if purpose is OfField.FAINT else GALAXY)
        part["bulge_fraction"], part["real_index"] = np.zeros(n), np.full(n, -1)
        if survey.bulges is not None:
            _give_bulges(survey.bulges, part, stream(OfField.BULGES, purpose))
        if survey.clumps is not None:
            _give_clumps(survey.clumps, part, stream(OfField.CLUMPS, purpose))
        if survey.real_galaxies is not None:
            survey.real_galaxies.assign(part, stream(OfField.REAL, purpose))
    if survey.stars is not None:
        parts[OfField.STARS] = _draw_stars(survey.stars, area, shape, stream(OfField.STARS))
    columns = {
        name: np.concatenate([part[name] for part in parts.values()]) for name in parts[OfField.GALAXIES]
    }

    sources = Table()
    for name in ("x", "y", "magnitude"):
        sources[name] = columns[name]
    sources["flux"] = 10.0 ** (-0.4 * (columns["magnitude"] - survey.zero_point))
    for name in ("half_light_radius", "sersic_index", "ellipticity", "orientation"):
        sources[name] = columns[name]
    sources["kind"] = columns["kind"].astype(np.int8)
    sources["bulge_fraction"] = columns["bulge_fraction"]
    sources["real_index"] = columns["real_index"].astype(np.int32)
    if survey.clumps is not None:
        sources["clump_fraction"] = columns["clump_fraction"]
        sources["clump_seed"] = columns["clump_seed"].astype(np.int32)
    return sources


def _scattered(drawn: dict, shape: tuple[int, int], rng: np.random.Generator) -> dict:
    n = len(drawn["magnitude"])
    height, width = shape
    x = rng.uniform(-MARGIN - 0.5, width + MARGIN - 0.5, n)
    y = rng.uniform(-MARGIN - 0.5, height + MARGIN - 0.5, n)
    return {"x": x, "y": y, **drawn}


def _companions(survey: Survey, pairs: Pairs, galaxies: dict, rng: np.random.Generator) -> dict:
    hosts = np.flatnonzero(rng.random(len(galaxies["x"])) < pairs.share)
    drawn = survey.population.draw_number(len(hosts), rng)
    distance = pairs.separation / survey.pixel_scale * np.sqrt(rng.random(len(hosts)))
    angle = 2.0 * np.pi * rng.random(len(hosts))
    x = galaxies["x"][hosts] + distance * np.cos(angle)
    y = galaxies["y"][hosts] + distance * np.sin(angle)
    return {"x": x, "y": y, **drawn}


def _give_bulges(bulges: Bulges, galaxies: dict, rng: np.random.Generator) -> None:
    n = len(galaxies["x"])
    has_bulge = rng.random(n) < bulges.share
    fraction = np.abs(bulges.scale * rng.standard_normal(n))
    galaxies["bulge_fraction"] = np.where(has_bulge, np.minimum(fraction, 1.0), 0.0)
    galaxies["sersic_index"] = np.where(has_bulge, DISC_INDEX, galaxies["sersic_index"])


def _give_clumps(clumps: Clumps, galaxies: dict, rng: np.random.Generator) -> None:
    n = len(galaxies["x"])
    is_disc = galaxies["sersic_index"] <= LARGEST_DISC_INDEX
    is_disc &= galaxies["bulge_fraction"] <= LARGEST_DISC_BULGE
    has_clumps = (rng.random(n) < clumps.share) & is_disc
    fraction, seed = clumps.light * rng.random(n), rng.integers(0, 2**31, n)
    galaxies["clump_fraction"] = np.where(has_clumps, fraction, 0.0)
    galaxies["clump_seed"] = np.where(has_clumps, seed, 0)


def _draw_stars(stars: Stars, area: float, shape: tuple[int, int], rng: np.random.Generator) -> dict:
    n = rng.poisson(stars.density * area)
    magnitude = draw_magnitudes(n, stars.magnitude_bright, stars.magnitude_faint, stars.count_slope, rng)
    drawn = {"magnitude": magnitude}
    for name in ("half_light_radius", "sersic_index", "ellipticity", "orientation"):
        drawn[name] = np.full(n, np.nan)
    others = {"kind": np.full(n, STAR), "bulge_fraction": np.zeros(n), "real_index": np.full(n, -1)}
    others |= {"clump_fraction": np.zeros(n), "clump_seed": np.zeros(n)}
    return _scattered(drawn, shape, rng) | others
