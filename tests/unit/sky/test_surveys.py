"""Every bundled survey: its numbers against its sources', and a strip of its sky."""

import dataclasses
import json

import numpy as np
import pytest

from appulse.sky import Survey, simulate_field, survey_names
from appulse.sky.ranges import Ranges

NAMES = survey_names()
# Digests of the first release's surveys, which weight files carry: options that are off must not change them.
FIRST = {
    "euclid-crowded": "40e23128440b97becfd1bb86f6d6f8dfda138276bb6ed3faa33b9be00c7b3a77",
    "euclid-wide": "d81f544fba839b5fae3f673b8170489ee73722e43bcbae36d970f36d0a3235ae",
    "paper": "03fca87f6dda5118d109771f2605fd3d1132d8c551334560cd59d4a3ba067eaa",
}


def test_the_skies_of_the_issue_are_there():
    wanted = {"paper", "euclid-wide", "euclid-deep", "hst-acs", "roman-wide", "lsst-10yr", "mixed"}
    assert wanted <= set(NAMES)


@pytest.mark.parametrize("name", FIRST)
def test_digests_of_the_first_surveys(name):
    assert Survey.load(name).digest() == FIRST[name]


@pytest.mark.parametrize("name", NAMES)
def test_plain_values_and_back(name):
    survey = Survey.load(name)
    back = Survey.from_dict(json.loads(json.dumps(survey.to_dict())))
    assert back == survey and back.digest() == survey.digest()


@pytest.mark.parametrize("name", sorted(set(NAMES) - {"paper", "euclid-crowded", "mixed"}))
def test_counts_are_the_science_books(name):
    # N(<i) = 46 x 10^(0.31 (i - 25)) per arcmin^2.
    population = Survey.load(name).population
    law = 46 * 10 ** (0.31 * (population.magnitude_faint - 25))
    assert population.density == pytest.approx(law, rel=0.01)


@pytest.mark.parametrize("name", NAMES)
def test_a_strip_of_every_sky(name):
    survey = Survey.load(name)
    field = simulate_field(survey, (256, 512), seed=9500)
    shares = np.bincount(field.ternary().ravel(), minlength=3) / field.light.size
    assert 0.7 < shares[0] < 0.998 and 0.001 < shares[1] < 0.3 and shares[2] < 0.05
    assert len(field.catalog) > 0
    assert np.isfinite(field.image).all()
    blank = field.light < 0.05 * field.sigma
    if blank.sum() > 1000:
        assert np.std((field.image - field.light)[blank]) == pytest.approx(field.sigma, rel=0.05)


def test_euclid_deep_is_two_magnitudes_deeper():
    wide, deep = Survey.load("euclid-wide"), Survey.load("euclid-deep")
    assert wide.sigma / deep.sigma == pytest.approx(10**0.8)
    assert deep.population.magnitude_faint - wide.population.magnitude_faint == pytest.approx(2)


def test_lsst_depth():
    """26.8 at 5 sigma: an optimal fit to a Gaussian PSF has the noise of 4 pi s^2 pixels."""
    survey = Survey.load("lsst-10yr")
    pixels = 4 * np.pi * (survey.psf.fwhm / 2.3548 / survey.pixel_scale) ** 2
    flux = 5 * survey.sigma * np.sqrt(pixels)
    assert survey.zero_point - 2.5 * np.log10(flux) == pytest.approx(26.8, abs=0.01)


def test_roman_depth():
    survey = Survey.load("roman-wide")
    flux = 5 * survey.sigma * np.sqrt(np.pi * (0.2 / 0.11) ** 2)
    assert survey.zero_point - 2.5 * np.log10(flux) == pytest.approx(26.7, abs=0.001)


def test_cosmos_noise():
    # GalSim's COSMOS catalogue: 6.8e-6 (electron / s)^2 per pixel, correlation 0.48 and 0.05.
    survey = Survey.load("hst-acs")
    field = simulate_field(survey, 512, seed=9501)
    noise = field.image - field.light
    assert survey.sigma**2 == pytest.approx(6.76e-6, rel=0.05)
    dark = noise / np.sqrt(survey.sigma**2 + field.light / survey.gain)
    assert np.mean(dark[:, 1:] * dark[:, :-1]) == pytest.approx(0.48, abs=0.05)
    assert np.mean(dark[2:] * dark[:-2]) == pytest.approx(0.05, abs=0.03)


class TestMixed:
    mixed = Survey.load("mixed")
    drawn = [Survey.load("mixed").for_field(seed, index) for seed in range(50) for index in range(4)]  # noqa: RUF012

    def test_every_field_draws_its_own_and_always_the_same(self):
        assert self.mixed.for_field(3, 1) == self.drawn[13]
        assert len({survey.digest() for survey in self.drawn}) == len(self.drawn)
        assert all(survey.ranges is None and survey.for_field(9, 9) is survey for survey in self.drawn)

    def test_ranges_are_filled_evenly_in_the_logarithm(self):
        values = {
            "pixel_scale": [survey.pixel_scale for survey in self.drawn],
            "fwhm_pixels": [survey.psf.fwhm / survey.pixel_scale for survey in self.drawn],
            "density": [survey.population.density for survey in self.drawn],
        }
        for name, numbers in values.items():
            low, high = getattr(self.mixed.ranges, name)
            place = np.log(np.array(numbers) / low) / np.log(high / low)
            assert -1e-9 <= place.min() and place.max() <= 1 + 1e-9
            assert place.mean() == pytest.approx(0.5, abs=4 / np.sqrt(12 * len(place)))
        assert abs(np.corrcoef(list(values.values()))[np.triu_indices(3, 1)]).max() < 0.25

    def test_noise_is_of_one_sky(self):
        # Background variance per arcsec^2 of sky is the same at any pixel scale.
        for survey in self.drawn:
            assert survey.sigma**2 / survey.pixel_scale**2 == pytest.approx(
                self.mixed.sigma**2 / self.mixed.pixel_scale**2
            )

    def test_a_range_more_or_less_leaves_the_others_alone(self):
        only = dataclasses.replace(self.mixed, ranges=Ranges(density=self.mixed.ranges.density))
        one = only.for_field(3, 1)
        assert one.population.density == self.drawn[13].population.density
        assert (one.pixel_scale, one.psf, one.noise) == (
            self.mixed.pixel_scale,
            self.mixed.psf,
            self.mixed.noise,
        )

    def test_all_light_has_a_label(self):
        # A source that is a galaxy in one field, and as bright and as compact for its noise and PSF sky in
        # another, would teach a model that either may be.
        assert simulate_field(self.mixed.for_field(0, 6), 256, seed=0, index=6).other is None
