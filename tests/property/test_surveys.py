"""Surveys with any options, noise with any cuts."""

import dataclasses
import itertools
import json

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.sky import PSF, Population, Survey
from appulse.sky.noise import correlation_kernel, draw_noise
from appulse.sky.population import Bulges, Clumps, Faint, Pairs, Stars
from appulse.sky.ranges import Ranges
from appulse.sky.sources import GALAXY, MARGIN, STAR, draw_sources

some = settings(max_examples=40)


def pairs_of(low, high):
    return st.tuples(st.floats(low, high), st.floats(low, high)).map(lambda pair: tuple(sorted(pair)))


def optional(strategy):
    return st.none() | strategy


surveys = st.builds(
    Survey,
    name=st.just("random"),
    description=st.text(max_size=5),
    pixel_scale=st.floats(0.05, 0.5),
    zero_point=st.floats(20, 32),
    noise=st.floats(24, 28),
    psf=st.builds(PSF, st.sampled_from(["gaussian", "moffat"]), st.floats(0.1, 1.5), st.floats(1.5, 5)),
    population=st.builds(Population, density=st.floats(0, 100), magnitude_faint=st.floats(23, 26)),
    correlation=optional(st.floats(0.2, 3)),
    gain=optional(st.floats(1e-3, 1e6)),
    bulges=optional(st.builds(Bulges, st.floats(0, 1), st.floats(0.01, 1))),
    clumps=optional(st.builds(Clumps, st.floats(0, 1), st.floats(0.01, 0.6))),
    stars=optional(st.builds(Stars, st.floats(0, 50))),
    faint=optional(st.builds(Faint, st.floats(26.1, 28))),
    pairs=optional(st.builds(Pairs, st.floats(0, 1), st.floats(0.1, 5))),
    ranges=optional(
        st.builds(Ranges, optional(pairs_of(0.05, 0.5)), optional(pairs_of(1, 6)), optional(pairs_of(1, 100)))
    ),
)


@given(surveys, st.integers(0, 10**6), st.integers(0, 99))
def test_through_json_and_back(survey, seed, index):
    for each in (survey, survey.for_field(seed, index)):
        back = Survey.from_dict(json.loads(json.dumps(each.to_dict())))
        assert back == each and back.digest() == each.digest()


@some
@given(surveys, st.integers(0, 10**6))
def test_sources_are_complete(survey, seed):
    survey = survey.for_field(seed, 0)
    sources = draw_sources(survey, (40, 60), seed, 0)
    assert (np.diff(sources["kind"]) >= 0).all()
    galaxies, stars = sources[sources["kind"] != STAR], sources[sources["kind"] == STAR]
    for name in sources.colnames:
        assert np.isfinite(galaxies[name]).all()
    for name in ("x", "y", "magnitude", "flux"):
        assert np.isfinite(stars[name]).all()
    assert survey.stars is not None or len(stars) == 0
    assert ((sources["bulge_fraction"] >= 0) & (sources["bulge_fraction"] <= 1)).all()
    labelled = sources["magnitude"][sources["kind"] == GALAXY]
    assert labelled.max(initial=0) <= survey.population.magnitude_faint + 1e-9
    beyond = MARGIN + (survey.pairs.separation / survey.pixel_scale if survey.pairs else 0) + 0.5
    assert ((sources["x"] >= -beyond) & (sources["x"] <= 60 + beyond)).all()
    assert ((sources["y"] >= -beyond) & (sources["y"] <= 40 + beyond)).all()


@some
@given(
    optional(st.floats(0.2, 5)),
    st.integers(1, 40),
    st.integers(0, 1000),
    st.lists(st.integers(1, 599), max_size=4, unique=True),
    st.integers(0, 10**9),
)
def test_any_cut_gives_the_same_noise(correlation, width, y0, cuts, seed):
    survey = dataclasses.replace(Survey.load("euclid-wide"), correlation=correlation, gain=100.0)
    light = np.random.default_rng(0).random((600, width)).astype(np.float32)
    edges = [0, *sorted(cuts), 600]
    strips = [draw_noise(survey, light[a:b], y0 + a, seed, 3) for a, b in itertools.pairwise(edges)]
    np.testing.assert_array_equal(np.concatenate(strips), draw_noise(survey, light, y0, seed, 3))


@given(st.floats(0.2, 5))
def test_kernels_keep_the_variance(length):
    kernel = correlation_kernel(length)
    assert abs(np.sum(kernel**2) - 1) < 1e-12 and (kernel > 0).all() and (kernel == kernel[::-1]).all()
