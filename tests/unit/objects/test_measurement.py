"""Measurements against closed forms, photutils and invariances."""

import numpy as np
import pytest
from photutils.segmentation import SegmentationImage, SourceCatalog
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

from appulse.objects import light_shares, measure, separate
from appulse.objects.measurement import aperture_factor, flux_noise


def galaxy(profile, x, y, axis_ratio=1.0, degrees=0.0, size=81):
    """``profile`` of the elliptical radius along the major axis."""
    rows, columns = np.mgrid[:size, :size]
    angle = np.deg2rad(degrees)
    dx, dy = columns - x, rows - y
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = -dx * np.sin(angle) + dy * np.cos(angle)
    return profile(np.hypot(along, across / axis_ratio))


def gaussian(peak, sigma):
    return lambda r: peak * np.exp(-(r**2) / (2 * sigma**2))


def exponential(peak, scale):
    return lambda r: peak * np.exp(-r / scale)


@pytest.mark.parametrize("sigma", [2.0, 4.0])
def test_gaussian_isophote(sigma):
    # Pixels in a small circle depend on where its centre falls; averaged over that, the area is
    # the circle's. Inside the isophote of level 1: area 2 pi sigma^2 ln(peak), flux 2 pi sigma^2 (peak - 1).
    peak = 20.0
    found = []
    for x, y in np.random.default_rng(3).uniform(39.5, 40.5, size=(200, 2)):
        image = galaxy(gaussian(peak, sigma), x, y)
        one = measure(image, image > 1)
        assert (one.x_centroid, one.y_centroid) == pytest.approx((x, y), abs=0.1)
        found.append((one.area, one.flux, one.half_light_radius, one.ellipticity))
    area, flux, radius, ellipticity = np.mean(found, axis=0)
    assert area == pytest.approx(2 * np.pi * sigma**2 * np.log(peak), rel=0.01)
    assert flux == pytest.approx(2 * np.pi * sigma**2 * (peak - 1), rel=0.005)
    assert radius == pytest.approx(sigma * np.sqrt(-2 * np.log(1 - 0.5 * (1 - 1 / peak))), rel=0.02)
    assert ellipticity == pytest.approx(0, abs=0.03)


def test_exponential_disc_isophote():
    peak, scale = 50.0, 4.0
    image = galaxy(exponential(peak, scale), 40, 40)
    found = measure(image, image > 1)
    edge = np.log(peak)
    light = lambda r: 1 - (1 + r) * np.exp(-r)  # noqa: E731
    radius = scale * brentq(lambda r: light(r) - 0.5 * light(edge), 0, edge)
    assert found.area == pytest.approx(np.pi * (scale * edge) ** 2, rel=0.02)
    assert found.flux == pytest.approx(2 * np.pi * peak * scale**2 * light(edge), rel=0.02)
    assert found.half_light_radius == pytest.approx(radius, rel=0.02)


@pytest.mark.parametrize("axis_ratio", [0.3, 0.5, 0.8])
@pytest.mark.parametrize("degrees", [0.0, 30.0, 90.0, 135.0, 179.0])
def test_axis_ratio_and_orientation(axis_ratio, degrees):
    image = galaxy(exponential(100.0, 5.0), 40, 40, axis_ratio, degrees)
    found = measure(image, image > 1)
    assert found.ellipticity == pytest.approx(1 - axis_ratio, abs=0.02)
    difference = (found.orientation - degrees + 90) % 180 - 90
    assert abs(difference) < 1
    assert 0 <= found.orientation < 180


def test_moments_agree_with_photutils():
    rng = np.random.default_rng(6)
    for _ in range(5):
        ratio, degrees = rng.uniform(0.3, 0.9), rng.uniform(0, 180)
        image = galaxy(exponential(40.0, 4.0), *rng.uniform(35, 45, 2), ratio, degrees)
        mask = image > 1
        image = image + rng.normal(size=image.shape)
        theirs = SourceCatalog(image, SegmentationImage(mask.astype(int)))[0]
        ours = measure(image, mask)
        assert ours.area == theirs.segment_area.value
        assert ours.flux == pytest.approx(theirs.segment_flux)
        assert ours.x_centroid == pytest.approx(float(theirs.x_centroid))
        assert ours.y_centroid == pytest.approx(float(theirs.y_centroid))
        assert ours.ellipticity == pytest.approx(theirs.ellipticity.value)
        assert np.cos(2 * np.deg2rad(ours.orientation - theirs.orientation.value)) == pytest.approx(1)


def test_quarter_turn_moves_only_orientation_and_centroid():
    image = galaxy(exponential(60.0, 4.0), 37.3, 44.1, 0.5, 25.0)
    mask = image > 1
    straight, turned = measure(image, mask), measure(np.rot90(image), np.rot90(mask))
    for name in ("area", "flux", "half_light_radius", "ellipticity"):
        assert getattr(turned, name) == pytest.approx(getattr(straight, name), rel=1e-2)
    # np.rot90 turns an array with y downwards counter-clockwise: clockwise in the sky's y-up axes.
    assert turned.orientation == pytest.approx((straight.orientation + 90) % 180, abs=1e-6)
    assert turned.x_centroid == pytest.approx(straight.y_centroid)
    assert turned.y_centroid == pytest.approx(image.shape[1] - 1 - straight.x_centroid)


def test_flux_unit_changes_only_flux():
    image = galaxy(exponential(60.0, 4.0), 40, 40, 0.6, 70.0) + np.random.default_rng(7).normal(size=(81, 81))
    mask = galaxy(exponential(60.0, 4.0), 40, 40, 0.6, 70.0) > 1
    one, thousand = measure(image, mask), measure(1000 * image, mask)
    assert thousand.flux == pytest.approx(1000 * one.flux)
    for name in ("half_light_radius", "ellipticity", "orientation", "x_centroid", "y_centroid"):
        assert getattr(thousand, name) == pytest.approx(getattr(one, name))


def test_what_cannot_be_measured_is_nan():
    empty = measure(np.ones((5, 5)), np.zeros((5, 5), dtype=bool))
    assert empty.area == 0
    assert np.isnan([empty.flux, empty.half_light_radius, empty.ellipticity, empty.x_centroid]).all()
    dark = measure(np.zeros((5, 5)), np.ones((5, 5), dtype=bool))
    assert (dark.area, dark.flux) == (25, 0)
    assert np.isnan([dark.half_light_radius, dark.ellipticity, dark.orientation]).all()
    bad = measure(np.full((5, 5), np.nan), np.ones((5, 5), dtype=bool))
    assert bad.area == 25 and np.isnan(bad.half_light_radius)


def test_a_bad_pixel_is_left_out():
    image = galaxy(exponential(60.0, 4.0), 40, 40)
    mask = image > 1
    holed = image.copy()
    holed[33, 40] = np.nan
    assert measure(holed, mask).flux == pytest.approx(measure(image, mask).flux - image[33, 40])


def test_single_pixel_is_round():
    mask = np.zeros((5, 5), dtype=bool)
    mask[2, 3] = True
    found = measure(np.ones((5, 5)), mask)
    assert (found.x_centroid, found.y_centroid, found.ellipticity) == (3, 2, 0)
    # Half of a unit square: a circle of area 1/2.
    assert found.half_light_radius == pytest.approx(np.sqrt(0.5 / np.pi), rel=0.1)


def blend(separation=10, peaks=(60.0, 40.0), scales=(3.0, 2.5)):
    """Two exponential galaxies: (2, h, w) true light and masks."""
    light = np.stack(
        [
            galaxy(exponential(peaks[0], scales[0]), 35, 40, 0.8, 20.0),
            galaxy(exponential(peaks[1], scales[1]), 35 + separation, 42, 0.9, 100.0),
        ]
    )
    return light, light > 1


def test_shares_sum_to_one_and_are_whole_outside_the_overlap():
    light, masks = blend()
    image = light.sum(axis=0) + np.random.default_rng(8).normal(size=light[0].shape)
    shares = light_shares(image, masks)
    union, alone = masks.any(axis=0), masks.sum(axis=0) == 1
    assert shares.dtype == np.float32
    np.testing.assert_allclose(shares.sum(axis=0)[union], 1, atol=1e-6)
    np.testing.assert_array_equal(shares[:, alone], masks[:, alone])
    assert not shares[~masks].any()
    assert shares.min() >= 0


@pytest.mark.parametrize("separation", [8, 10, 13])
def test_shared_light_is_that_of_the_true_galaxies(separation):
    light, masks = blend(separation)
    image = light.sum(axis=0) + np.random.default_rng(9).normal(size=light[0].shape)
    shares = light_shares(image, masks)
    # Where a galaxy is alone in the masks it takes all light, its neighbour's faint wings included.
    ideal = masks * light / (masks * light).sum(axis=0).clip(1e-9)
    for mask, share, best in zip(masks, shares, ideal, strict=True):
        assert measure(image, mask, share).flux == pytest.approx(measure(image, mask, best).flux, rel=0.04)
        assert np.abs(share - best)[mask].mean() < 0.05


@pytest.mark.parametrize("separation", [6, 7, 8])
def test_a_core_inside_the_overlap_is_not_guessed_from_the_outskirts(separation):
    """A steep core that the profile fitted outside the overlap would miss, or make too much of."""
    host = galaxy(exponential(60.0, 4.0), 40, 40, 0.7, 30.0)
    companion = galaxy(exponential(40.0, 3.0), 40 + separation, 40)
    companion += galaxy(gaussian(60.0, 1.0), 40 + separation, 40)
    light = np.stack([host, companion])
    masks = light > 1
    ideal = masks * light / (masks * light).sum(axis=0).clip(1e-9)
    errors = []
    for seed in range(6):
        image = light.sum(axis=0) + np.random.default_rng(seed).normal(size=host.shape)
        shares = light_shares(image, masks)
        found, best = (
            [measure(image, mask, each).flux for mask, each in zip(masks, some, strict=True)]
            for some in (shares, ideal)
        )
        errors.append(np.divide(found, best) - 1)
    assert np.sqrt(np.mean(np.square(errors), axis=0)) == pytest.approx(0, abs=0.05)


def test_equal_galaxies_share_equally():
    light, masks = blend(10, (50.0, 50.0), (3.0, 3.0))
    light[0] = galaxy(exponential(50.0, 3.0), 35, 40)
    light[1] = light[0][:, ::-1]
    masks = light > 1
    shares = light_shares(light.sum(axis=0), masks)
    np.testing.assert_allclose(shares[1], shares[0][:, ::-1], atol=1e-5)


def test_nested_galaxy_gets_what_its_host_leaves():
    host = galaxy(exponential(30.0, 8.0), 40, 40)
    inner = galaxy(gaussian(40.0, 1.5), 50, 44)
    masks = np.stack([host > 1, inner > 1])
    image = host + inner + np.random.default_rng(10).normal(size=host.shape)
    shares = light_shares(image, masks)
    assert measure(image, masks[1], shares[1]).flux == pytest.approx(inner[masks[1]].sum(), rel=0.15)
    assert measure(image, masks[0], shares[0]).flux == pytest.approx(host[masks[0]].sum(), rel=0.05)


@pytest.mark.parametrize("length", [0.6, 1.2])
def test_noise_of_a_flux_in_correlated_noise(length):
    """Sums over a disc, half of it shared, in images of smoothed noise."""
    y, x = np.mgrid[:64, :64]
    disc = np.hypot(y - 32, x - 30) < 7
    share = np.where(disc, np.where(x > 30, 1.0, 0.5), 0.0)
    white = np.random.default_rng(12).normal(size=(1500, 64, 64))
    noise = gaussian_filter(white, (0, length, length), mode="wrap")
    noise *= 2.0 / noise.std()
    between = np.mean(noise * np.roll(noise, 1, axis=2)) / 4.0
    scatter = (noise * share).sum(axis=(1, 2)).std()
    found = flux_noise(np.full(disc.shape, 2.0), share, between)
    assert found == pytest.approx(scatter, rel=0.06)  # 2 % of it from 1500 images
    independent = flux_noise(np.full(disc.shape, 2.0), share)
    assert independent == pytest.approx(2 * np.sqrt((share**2).sum()))
    assert found > 1.8 * independent
    # A map that allows for the correlation already says more than the pixels scatter.
    wide = flux_noise(np.full(disc.shape, 2.0 * 1.8), share, between, scatter=1 / 1.8)
    assert wide == pytest.approx(found, rel=0.1)
    # Of a large aperture the border does not matter.
    large = np.hypot(y - 32, x - 32) < 30
    factor = flux_noise(np.ones(disc.shape), large, between) / np.sqrt(large.sum())
    assert aperture_factor(between) == pytest.approx(factor, rel=0.06)


def test_noise_of_a_flux_leaves_out_what_is_no_correlation():
    noise = np.where(np.eye(9) > 0, np.nan, 1.0)
    share = 1.0 - np.eye(9)
    assert flux_noise(noise, share, 0.02) == flux_noise(noise, share, -0.2) == pytest.approx(np.sqrt(72))
    assert aperture_factor(0.02) == 1 and np.isfinite(aperture_factor(1.0))


def test_two_galaxies_without_pixels_of_their_own_share_alike():
    host = galaxy(exponential(30.0, 8.0), 40, 40)
    inner = [galaxy(gaussian(40.0, 1.5), x, 44) for x in (48, 52)]
    masks = np.stack([host, *inner]) > 1
    assert (masks[1] & masks[2]).any() and masks[0][masks[1] | masks[2]].all()
    image = host + sum(inner)
    shares = light_shares(image, masks)
    fluxes = [measure(image, mask, share).flux for mask, share in zip(masks, shares, strict=True)]
    for flux, light, mask in zip(fluxes[1:], inner, masks[1:], strict=True):
        assert flux == pytest.approx(light[mask].sum(), rel=0.1)
    assert fluxes[1] == pytest.approx(fluxes[2], rel=0.03)  # the host is brighter under one of them


def test_shares_do_not_depend_on_the_order_of_the_galaxies():
    rng = np.random.default_rng(11)
    for _ in range(12):
        light = np.stack(
            [
                galaxy(exponential(rng.uniform(10, 60), rng.uniform(1.5, 6)), *rng.uniform(32, 48, 2))
                for _ in range(4)
            ]
        )
        image = light.sum(axis=0) + rng.normal(size=light[0].shape)
        order = rng.permutation(4)
        shares = light_shares(image, light > 1)
        np.testing.assert_allclose(light_shares(image, (light > 1)[order]), shares[order], atol=1e-5)


def test_shares_survive_dark_and_bad_pixels():
    light, masks = blend()
    for image in (np.zeros_like(light[0]), np.full_like(light[0], np.nan), -light[0]):
        shares = light_shares(image, masks)
        np.testing.assert_allclose(shares.sum(axis=0)[masks.any(axis=0)], 1, atol=1e-6)


def test_separated_blend_measures_like_its_galaxies():
    light, masks = blend(11)
    image = light.sum(axis=0) + np.random.default_rng(11).normal(size=light[0].shape)
    found = separate(np.minimum(masks.sum(axis=0), 2).astype(np.uint8), image).masks
    shares = light_shares(image, found)
    for true, mask, share in zip(light, found, shares, strict=True):
        ours, alone = measure(image, mask, share), measure(true, true > 1)
        assert ours.flux == pytest.approx(alone.flux, rel=0.1)
        assert ours.half_light_radius == pytest.approx(alone.half_light_radius, rel=0.1)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match="one shape"):
        measure(np.zeros((3, 4)), np.zeros((4, 3), dtype=bool))
    with pytest.raises(ValueError, match="n_galaxies"):
        light_shares(np.zeros((3, 4)), np.zeros((3, 4), dtype=bool))
