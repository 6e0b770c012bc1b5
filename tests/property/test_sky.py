"""Skies over random populations, surveys and sources."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.special import gammaincinv

from appulse.sky import PSF, Population, Survey, simulate_field
from appulse.sky.field import Field
from appulse.sky.population import SERSIC_INDEX_RANGE
from appulse.sky.profiles import isophotal_radius
from appulse.sky.rendering import Renderer, SourceImage
from appulse.sky.stored_field import read_field, write_field
from appulse.sky.survey_file import noise_from_point_source
from appulse.sky.truth import Layers, blendedness, clip_to, shared_light, summed_light, ternary_map

few = settings(max_examples=30, deadline=None)

populations = st.builds(
    Population,
    density=st.floats(0.1, 100),
    magnitude_bright=st.floats(15, 22),
    magnitude_faint=st.floats(22.1, 28),
    count_slope=st.floats(0.01, 1.5),
    size_factor=st.floats(0.1, 5),
    sersic_index=st.floats(0.3, 6.2),
    sersic_scatter=st.floats(0.01, 1.5),
    ellipticity_scale=st.floats(0.01, 2),
)
surveys = st.builds(
    Survey,
    name=st.just("random"),
    description=st.just(""),
    pixel_scale=st.floats(0.01, 5),
    zero_point=st.floats(1, 60),
    noise=st.floats(10, 40),
    psf=st.builds(PSF, st.sampled_from(["gaussian", "moffat"]), st.floats(0.01, 10), st.floats(1.2, 20)),
    population=populations,
)


@few
@given(populations, st.integers(0, 2**32))
def test_drawn_galaxies_stay_in_range(population, seed):
    drawn = population.draw(3.0, np.random.default_rng(seed))
    n = len(drawn["magnitude"])
    assert all(values.shape == (n,) and np.isfinite(values).all() for values in drawn.values())
    if n:
        assert drawn["magnitude"].min() >= population.magnitude_bright - 1e-9
        assert drawn["magnitude"].max() <= population.magnitude_faint + 1e-9
        assert (drawn["half_light_radius"] > 0).all()
        low, high = SERSIC_INDEX_RANGE
        assert low <= drawn["sersic_index"].min() and drawn["sersic_index"].max() <= high
        assert 0 <= drawn["ellipticity"].min() and drawn["ellipticity"].max() <= 0.9 + 1e-12
        assert 0 <= drawn["orientation"].min() and drawn["orientation"].max() < 180


EMPTY = simulate_field(dataclasses.replace(Survey.load("paper"), population=Population(density=0.0)), 16, 0)


@settings(max_examples=15, deadline=None)
@given(surveys)
def test_a_survey_survives_the_file_of_a_field(tmp_path_factory, survey):
    light, identity = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.int32)
    field = Field(light, light, light, identity, identity, EMPTY.deeper, EMPTY.catalog, survey, 1, 0)
    path = tmp_path_factory.mktemp("survey") / "field.fits"
    write_field(field, path)
    back = read_field(path).survey
    assert back == survey
    assert back.digest() == survey.digest()


@given(surveys, st.floats(10, 40))
def test_five_magnitudes_are_a_factor_hundred(survey, depth):
    assert survey.sigma_at(depth) / survey.sigma_at(depth + 5) == pytest.approx(100)
    # A pixel of twice the side holds four times the flux of the same surface brightness.
    wider = dataclasses.replace(survey, pixel_scale=2 * survey.pixel_scale)
    assert wider.sigma_at(depth) / survey.sigma_at(depth) == pytest.approx(4)


@given(st.floats(15, 30), st.floats(1, 100), st.floats(0.2, 5), st.floats(0.02, 1), st.floats(-10, 40))
def test_point_source_depth_round_trip(magnitude, snr, aperture, scale, zero_point):
    survey = Survey("", "", scale, zero_point, noise_from_point_source(magnitude, snr, aperture, scale))
    flux = 10 ** (-0.4 * (magnitude - zero_point))
    noise = survey.sigma * np.sqrt(np.pi * (aperture / 2) ** 2 / scale**2)
    assert flux / noise == pytest.approx(snr)


@few
@given(st.floats(0.5, 6), st.floats(0.1, 10), st.floats(0, 0.9), st.floats(1e-3, 1e3))
def test_isophotal_radius_is_where_a_sersic_profile_crosses(index, half_light, ellipticity, flux):
    """The profile by its definition, its flux by quadrature in t = r^(1/n)."""
    b = gammaincinv(2 * index, 0.5)
    # 2 pi q integral of r exp(-b ((r/R)^(1/n) - 1)) dr over a major-axis radius R = half / sqrt(q).
    q = 1 - ellipticity
    major = half_light / np.sqrt(q)
    integral = quad(lambda t: t ** (2 * index - 1) * np.exp(-b * (t - 1)), 0, 60 + 20 * index, limit=200)[0]
    effective = flux / (2 * np.pi * q * major**2 * index * integral)
    for ratio in (0.01, 1.0, 1.5):
        expected = major * max(1 - np.log(ratio) / b, 0) ** index
        assert isophotal_radius(flux, half_light, index, ellipticity, ratio * effective) == pytest.approx(
            expected, rel=1e-3, abs=1e-6 * major
        )


@st.composite
def source_lists(draw):
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    sources = []
    for _ in range(draw(st.integers(0, 12))):
        shape = rng.integers(1, 8, 2)
        image = rng.random(shape).astype(np.float32)
        image[rng.random(shape) < 0.3] = 0
        sources.append(SourceImage(int(rng.integers(-8, 12)), int(rng.integers(-8, 14)), image))
    return sources


@given(source_lists(), st.floats(0, 1))
def test_layers_against_a_stack(sources, threshold):
    shape = (10, 12)
    layers = Layers.empty(shape)
    stack = np.zeros((max(len(sources), 2), *shape), np.float32)
    for number, source in enumerate(sources):
        window, image = clip_to(source, shape)
        stack[number][window] = image
        assert layers.add(source, number + 1) == bool(stack[number].any())
    ranked = -np.sort(-stack, axis=0)
    np.testing.assert_array_equal(layers.first, ranked[0])
    np.testing.assert_array_equal(layers.second, ranked[1])
    np.testing.assert_array_equal(
        ternary_map(layers.first, layers.second, threshold),
        np.minimum((stack > np.float32(threshold)).sum(axis=0), 2),
    )
    # Every galaxy's light is somewhere: first, second or the sparse list.
    deeper = sum(float(part[3].sum()) for part in layers.deeper)
    total = float(layers.first.sum() + layers.second.sum()) + deeper
    light = summed_light(layers.first, layers.second, layers.sparse())
    assert total == pytest.approx(float(light.sum()), rel=1e-4, abs=1e-5)
    np.testing.assert_allclose(light, stack.sum(axis=0), rtol=1e-5, atol=1e-6)
    values = blendedness(*np.reshape([shared_light(source, light) for source in sources], (-1, 2)).T)
    assert np.all((values >= -1e-6) & (values < 1))


@few
@given(st.floats(-500, 500), st.floats(-500, 500), st.integers(-100, 100), st.integers(-100, 100))
def test_whole_pixel_shifts(x, y, dx, dy):
    survey = Survey.load("euclid-wide")
    renderer = Renderer(survey)
    shape = dict(flux=3.0, half_light_radius=0.2, sersic_index=1.02, ellipticity=0.4, orientation=40.0)
    # Whole multiples of 1/64, so that no bit is lost in the shift.
    x, y = np.round(x * 64) / 64, np.round(y * 64) / 64
    here, there = renderer.draw(shape | dict(x=x, y=y)), renderer.draw(shape | dict(x=x + dx, y=y + dy))
    assert (there.y0 - here.y0, there.x0 - here.x0) == (dy, dx)
    np.testing.assert_array_equal(there.image, here.image)
