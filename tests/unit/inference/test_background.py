import dataclasses
import io
import re

import numpy as np
import pytest
import sep
from astropy.io import fits
from scipy import ndimage
from skimage.data import hubble_deep_field

from appulse.files import InputError
from appulse.inference.background import CELL, measure_noise, scale_to_noise
from appulse.inference.cells import clipped
from appulse.inference.exposure import ArraySource, EveryNth, Exposure
from appulse.inference.noise import Noise


def white_noise(height, width, seed=0):
    return np.random.default_rng(seed).normal(size=(height, width))


def galaxies(size, count, seed=0, faintest=2.0, brightest=60.0):
    """Sum of exponential discs of scale length 1.5 to 4 pixels and the given peaks, noise-free."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size].astype(float)
    light = np.zeros((size, size))
    for _ in range(count):
        centre_x, centre_y = random.uniform(0, size, 2)
        peak = faintest * (brightest / faintest) ** random.uniform()
        scale, flattening = random.uniform(1.5, 4), random.uniform(0.4, 1)
        near = np.s_[
            max(0, int(centre_y) - 60) : int(centre_y) + 60, max(0, int(centre_x) - 60) : int(centre_x) + 60
        ]
        light[near] += peak * np.exp(-np.hypot(x[near] - centre_x, (y[near] - centre_y) / flattening) / scale)
    return light


# ------------------------------------------------------------------------------------------ level and noise


def test_clipping_leaves_the_spread_of_gaussian_noise_as_it_is():
    level, sigma = clipped(np.random.default_rng(1).normal(5, 2, (300, 4096)))
    assert level.mean() == pytest.approx(5, abs=0.006) and sigma.mean() == pytest.approx(2, abs=0.006)


@pytest.mark.parametrize("seed", range(5))
def test_every_nth_value_is_the_same_however_the_stream_is_divided(monkeypatch, seed):
    monkeypatch.setattr("appulse.inference.exposure.SAMPLE", 1000)
    values, few = np.arange(12_345), EveryNth()
    for part in np.split(values, np.sort(np.random.default_rng(seed).integers(0, len(values), 9))):
        few.add(part)
    np.testing.assert_array_equal(few.values(), values[::16])


@pytest.mark.parametrize("shape", [(64, 64), (65, 130), (200, 300), (48, 300)])
def test_white_noise_comes_out_with_mean_0_and_standard_deviation_1(shape):
    result = scale_to_noise(1000 + 5 * white_noise(*shape))
    error = 1 / np.sqrt(np.prod(shape))
    assert abs(result.scaled.mean()) < 0.03 + 4 * error
    assert result.scaled.std() == pytest.approx(1, abs=0.03 + 3 * error)
    assert result.noise_ratio == 1.0 and abs(result.correlation) < 0.02 + 4 * error
    assert result.scaled.dtype == result.sigma.dtype == result.background.dtype == np.float32


@pytest.mark.parametrize("shape", [(20, 20), (3, 200), (12, 9)])
def test_images_smaller_than_a_cell_are_measured_whole(shape):
    image = 1000 + 5 * white_noise(*shape, seed=4)
    result = scale_to_noise(image)
    assert np.ptp(result.sigma) == 0 and result.sigma[0, 0] == pytest.approx(image.std(), rel=0.15)


@pytest.mark.parametrize("fill", [-1e6, -1e9, 1e9, -1e30, -3.4e38])
def test_fill_values_of_dead_pixels_leave_the_noise_alone(fill):
    image = (1000 + 5 * white_noise(256, 256, seed=6)).astype(np.float32)
    dead = np.random.default_rng(7).random(image.shape) < 2e-3
    expected = scale_to_noise(np.where(dead, np.nan, image))
    result = scale_to_noise(np.where(dead, np.float32(fill), image))
    np.testing.assert_allclose(result.sigma, expected.sigma, rtol=0.03)
    np.testing.assert_allclose(result.background, expected.background, atol=0.5)


def test_progress_ends_with_its_total():
    for shape in ((20, 20), (200, 100)):
        calls = []
        measure_noise(
            Exposure.of(ArraySource(white_noise(*shape))), progress=lambda *call, to=calls: to.append(call)
        )
        assert all(done <= total for _, done, total in calls) and calls[-1][1] == calls[-1][2]


@pytest.mark.parametrize("count", [120, 180])
def test_crowded_field_is_measured_between_its_galaxies(count):
    """The truth is known here; SEP, one pass of the same mesh, shows how far the galaxies pull."""
    light = galaxies(512, count, seed=3)
    assert 0.04 < (light > 1).mean() < 0.12
    image = 100 + light + white_noise(512, 512, seed=8)
    result = scale_to_noise(image)
    assert np.median(result.sigma) == pytest.approx(1, abs=0.03)
    assert np.abs(result.background - 100).max() < 0.1
    one_pass = sep.Background(image)
    assert abs(np.median(result.background) - 100) < abs(np.median(one_pass.back()) - 100)


def test_gradients_of_level_and_noise_agree_with_sep():
    y, x = np.mgrid[:512, :512]
    level, sigma = 50 + 0.02 * x, 1 + y / 512
    image = level + sigma * white_noise(512, 512, seed=5)
    result, peer = scale_to_noise(image), sep.Background(image)
    assert np.abs(result.background - level).max() < 0.25
    assert np.abs(result.background - peer.back()).max() < 0.3
    for border in np.s_[:, :16], np.s_[:, -16:], np.s_[:16], np.s_[-16:]:
        assert abs((result.background - level)[border].mean()) < 0.1
    inner = np.s_[CELL:-CELL, CELL:-CELL]
    np.testing.assert_allclose(result.sigma[inner], sigma[inner], rtol=0.06)
    np.testing.assert_allclose(result.sigma[inner], peer.rms()[inner], rtol=0.08)


@pytest.mark.parametrize("height", [516, 520, 560])
def test_a_gradient_goes_on_into_a_narrow_last_row_of_cells(height):
    level = 0.02 * np.arange(height)[:, None] + np.zeros(512)
    result = scale_to_noise(level + white_noise(height, 512, seed=5))
    wrong = (result.background - level)[-16:]
    assert abs(wrong.mean()) < 0.06 and np.abs(wrong).max() < 0.4


@pytest.mark.parametrize("fill", [np.nan, 0.0])
@pytest.mark.parametrize(("border", "error"), [(64, 0.06), (70, 0.15), (128, 0.06)])
def test_a_gradient_goes_on_to_where_the_image_has_no_pixels(border, error, fill):
    level = 50 + 0.02 * np.arange(512) + np.zeros((512, 1))
    image = level + white_noise(512, 512, seed=5)
    image[:, :border] = image[:, -border:] = fill
    wrong = scale_to_noise(image).background - level
    assert abs(wrong[:, border : border + 16].mean()) < error
    assert abs(wrong[:, -border - 16 : -border].mean()) < error
    assert abs(wrong[:, border + 48 : border + 80].mean()) < 0.04


@pytest.mark.parametrize("factor", [1e-20, 1e-12, 1e9])
def test_units_do_not_matter(factor):
    image = (30 + galaxies(200, 20) + white_noise(200, 200)).astype(np.float32)
    expected = scale_to_noise(image)
    result = scale_to_noise((image.astype(np.float64) * factor).astype(np.float32))
    np.testing.assert_allclose(result.scaled, expected.scaled, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(result.sigma, expected.sigma * factor, rtol=1e-4)


def test_pedestal_does_not_matter():
    image = (30 + galaxies(200, 20) + white_noise(200, 200)).astype(np.float32)
    expected, result = scale_to_noise(image), scale_to_noise(image + np.float32(512))
    np.testing.assert_allclose(result.scaled, expected.scaled, atol=1e-3)  # float32 rounds 512 to 3e-5


def test_correlation_of_averaged_pixels_is_one_half_along_the_average():
    """Means of adjacent pairs share one of two pixels: correlation 1/2 along x and 0 along y, mean 1/4."""
    noise = white_noise(512, 513)
    result = scale_to_noise((noise[:, 1:] + noise[:, :-1]) / 2)
    assert result.correlation == pytest.approx(0.25, abs=0.02)
    assert np.median(result.sigma) == pytest.approx(np.sqrt(0.5), rel=0.03)


@pytest.mark.parametrize("smoothing", [0.0, 0.6])
def test_wings_of_galaxies_are_no_correlation_of_the_noise(smoothing):
    noise = white_noise(512, 512)
    if smoothing:  # neighbours of smoothed white noise correlate, measured here without any galaxy
        noise = ndimage.gaussian_filter(noise, smoothing, mode="wrap") / 0.48
    expected = np.mean([np.corrcoef(noise.ravel(), np.roll(noise, 1, axis).ravel())[0, 1] for axis in (0, 1)])
    y, x = np.mgrid[:512, :512]
    halo = 30 * np.exp(-np.hypot(x - 250, y - 270) / 40)  # far above the noise, and wider than a mesh cell
    result = scale_to_noise(noise + halo + galaxies(512, 150, brightest=600))
    assert result.correlation == pytest.approx(expected, abs=0.03)


def test_big_endian_integers_are_taken_as_they_are():
    counts = np.round(500 + 20 * white_noise(100, 100)).astype(np.int16)
    expected = scale_to_noise(counts.astype(np.float64)).scaled
    np.testing.assert_allclose(scale_to_noise(counts.astype(">i2")).scaled, expected, rtol=1e-5, atol=1e-5)


# ------------------------------------------------------------------------------------------ quantised images


@pytest.mark.parametrize("sigma", [0.0, 0.1, 0.3, 0.45, 0.7, 3.0])
def test_noise_of_a_quantised_image_is_never_below_rounding(sigma):
    exact = 10 + 3 * galaxies(256, 30) + sigma * white_noise(256, 256)
    result = scale_to_noise(np.clip(np.round(exact), 0, 255).astype(np.uint8))
    assert result.sigma.min() >= np.float32(1 / np.sqrt(12))
    assert np.median(result.sigma) == pytest.approx(max(sigma, 1 / np.sqrt(12)), rel=0.25)


def test_hubble_deep_field_as_luminance():
    image = hubble_deep_field() @ np.array([0.2125, 0.7154, 0.0721])
    result = scale_to_noise(image.astype(np.float32))
    assert 1 / np.sqrt(12) < result.sigma.min() and result.sigma.max() < 2 * result.sigma.min()
    dark = np.median(result.scaled)
    assert abs(dark) < 0.5 and (result.scaled > 5).mean() > 0.02


def test_padding_with_zeros_does_not_pull_the_mesh():
    y, x = np.mgrid[:400, :400]
    covered = x + y < 500
    image = np.where(covered, 100 + white_noise(400, 400), 0)
    result = scale_to_noise(image)
    np.testing.assert_allclose(result.background[covered], 100, atol=0.1)
    np.testing.assert_allclose(result.sigma[covered], 1, atol=0.08)


@pytest.mark.parametrize("mask", [None, np.arange(512) % 7 == 0])
def test_a_gap_of_zeros_between_chips_is_bad_however_small(mask):
    image = 5 + white_noise(512, 512)
    image[:, 300:303] = 0
    image[40, 17] = image[90:92, 200] = 0  # values like others
    given = None if mask is None else np.broadcast_to(mask, image.shape)
    result = scale_to_noise(image, mask=given)
    expected = np.zeros(image.shape, bool) if mask is None else given.copy()
    expected[:, 300:303] = True
    np.testing.assert_array_equal(result.bad, expected)


def test_lossy_compression_costs_no_pixel():
    """Each row is rounded to its own step, and what is near 0 becomes 0."""
    image = white_noise(512, 512)
    step = np.random.default_rng(0).uniform(1 / 20, 1 / 12, (512, 1))
    rounded = np.round(image / step) * step
    assert (rounded == 0).mean() > 0.02
    result = scale_to_noise(rounded)
    assert not result.bad.any()
    assert np.median(result.sigma) == pytest.approx(1, rel=0.02)


def padded(level, sigma, kind):
    """Sky with 150 columns of padding, as integers or as lossy compression leaves it."""
    image = level + sigma * white_noise(512, 512, seed=3)
    image[:, :150] = 0
    if kind == "float":
        return image.astype(np.float32)
    if kind == "int16":
        return np.round(image).astype(np.int16)
    if kind == "float of integers":
        return np.round(image).astype(np.float32)
    # Without a seed the dither is drawn from the clock.
    packed = fits.CompImageHDU(
        image.astype(np.float32),
        compression_type="RICE_1",
        quantize_level=4,
        quantize_method=kind,
        dither_seed=1,
    )
    file = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), packed]).writeto(file)
    return fits.getdata(io.BytesIO(file.getvalue()), 1)


# NO_DITHER, SUBTRACTIVE_DITHER_1 and _2 of the compression; the first rounds zeros like any value.
@pytest.mark.parametrize("kind", ["float", "int16", "float of integers", -1, 1, 2])
@pytest.mark.parametrize("level", [1000, 0])
def test_padding_makes_no_noise_whatever_the_format(level, kind):
    result = scale_to_noise(padded(level, 10, kind))
    sky = result.scaled[:, 150:]
    # Dithered zeros in a cell of sky at the same level are part of its noise.
    np.testing.assert_allclose(result.sigma[:, 150:], 10, rtol=0.25 if (level, kind) == (0, 1) else 0.08)
    assert np.nanmax(np.abs(sky)) < 5.5  # of 185,000 Gaussian pixels
    if kind == 1:  # not exact zeros: they cannot be flagged, but it is said
        assert not result.bad.any()
        assert any("give a --mask" in warning for warning in result.warnings)
    else:
        assert result.bad[:, :150].all() and result.bad[:, 150:].mean() < 1e-3
        assert not any("give a --mask" in warning for warning in result.warnings)


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0, 5.0])
def test_low_counts_lose_no_pixel_and_their_padding_is_found(sigma):
    counts = np.round(sigma * white_noise(512, 512)).astype(np.int16)
    result = scale_to_noise(counts)
    assert not result.bad.any() and not result.empty
    expected = np.hypot(sigma, 1 / np.sqrt(12))  # with the noise of rounding
    np.testing.assert_allclose(result.sigma, expected, rtol=0.08)
    counts[:, :150] = 0
    result = scale_to_noise(counts)
    assert result.bad[:, :150].all() and result.bad[:, 150:].mean() < 2e-3
    np.testing.assert_allclose(result.sigma, expected, rtol=0.08)


@pytest.mark.parametrize("share", [0.5, 0.1, 0.01, 0.001])
def test_zeros_of_sparse_counts_are_no_padding(share):
    counts = (np.random.default_rng(0).random((512, 512)) < share).astype(np.int16)
    assert not scale_to_noise(counts).bad.any()


@pytest.mark.parametrize("value", [-999, 1003])
@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_constant_padding_is_no_sky_and_is_told(value, dtype):
    image = 1000 + 10 * white_noise(512, 512)
    image[:, :192] = value
    result = scale_to_noise(np.round(image).astype(dtype))
    np.testing.assert_allclose(result.sigma, 10, rtol=0.08)
    assert result.empty == pytest.approx(192 / 512)
    assert any(warning.startswith("38 % of the image") for warning in result.warnings)


def test_noise_of_any_kind_is_not_taken_for_padding():
    smooth = ndimage.gaussian_filter(white_noise(512, 512), 2)
    for image in (white_noise(512, 512), smooth, np.round(3 * white_noise(512, 512)), galaxies(512, 900)):
        assert scale_to_noise(image + 1e-3 * white_noise(512, 512, 1)).empty == 0


def test_zeros_of_an_integer_image_change_nothing_beyond_two_cells():
    image = np.round(1000 + 10 * white_noise(512, 640)).astype(np.int16)
    expected = scale_to_noise(image)
    image[200:330, 70:190] = 0  # cells from (192, 64) to (384, 192)
    result = scale_to_noise(image)
    assert result.bad[200:330, 70:190].all()
    far = np.ones(image.shape, bool)
    far[192 - 2 * CELL : 384 + 2 * CELL, : 192 + 2 * CELL] = False
    for name in ("scaled", "sigma", "background", "bad"):
        assert getattr(result, name)[far].tobytes() == getattr(expected, name)[far].tobytes(), name


# ------------------------------------------------------------------------------------------ bad pixels


def test_bad_pixels_are_nan_in_scaled_and_nowhere_else():
    image, mask, rms = 5 + white_noise(150, 150), np.zeros((150, 150)), np.ones((150, 150))
    image[1, 2], image[3, 4] = np.nan, np.inf
    mask[5, 6], mask[7, 8] = 4, np.nan
    rms[9, 10], rms[11, 12], rms[13, 14], rms[15, 16] = 0, -1, np.nan, np.inf
    result = scale_to_noise(image, rms=rms, mask=mask)
    expected = [[n, n + 1] for n in range(1, 17, 2)]
    assert np.argwhere(result.bad).tolist() == np.argwhere(np.isnan(result.scaled)).tolist() == expected
    assert np.isfinite(result.background).all()


@pytest.mark.parametrize("value", [np.nan, 1e30, -1e30])
def test_nothing_changes_beyond_two_cells_from_bad_pixels(value):
    image = 30 + galaxies(640, 120, seed=6) + white_noise(640, 640)
    mask = np.zeros(image.shape, bool)
    mask[300:319, 290:318] = True  # all in the mesh cell that begins at (256, 256)
    damaged = np.where(mask, value, image)
    expected, result = scale_to_noise(image), scale_to_noise(damaged, mask=mask)
    changed = ~(expected.scaled == result.scaled)
    assert changed[mask].all()
    far = np.ones(image.shape, bool)
    far[256 - 2 * CELL : 320 + 2 * CELL, 256 - 2 * CELL : 320 + 2 * CELL] = False
    assert not changed[far].any()


def test_values_under_the_mask_do_not_matter():
    image, mask = white_noise(200, 200), ndimage.binary_dilation(white_noise(200, 200, 1) > 3, iterations=3)
    results = [scale_to_noise(np.where(mask, value, image), mask=mask) for value in (np.nan, 0.0, 1e6)]
    for result in results[1:]:
        np.testing.assert_array_equal(result.scaled, results[0].scaled)


def test_a_mostly_masked_image_is_still_measured():
    mask = np.ones((300, 300), bool)
    mask[40:90, 100:150] = False
    result = scale_to_noise(7 + 2 * white_noise(300, 300), mask=mask)
    assert np.median(result.sigma) == pytest.approx(2, rel=0.05)
    assert np.median(result.background) == pytest.approx(7, abs=0.2)


# ------------------------------------------------------------------------------------------ supplied noise


def test_given_noise_divides_exactly():
    random = np.random.default_rng(2)
    rms = random.uniform(0.5, 2, (150, 200)).astype(np.float32)
    image = (galaxies(200, 20)[:150] + rms * white_noise(150, 200)).astype(np.float32)
    result = scale_to_noise(image, rms=rms, subtract_background=False)
    np.testing.assert_array_equal(result.scaled, image / rms)
    np.testing.assert_array_equal(result.sigma, rms)
    np.testing.assert_array_equal(result.noise, rms)
    assert not result.background.any()


def test_rms_variance_weight_and_a_number_mean_the_same():
    image = 3 + 2 * white_noise(150, 150)
    expected = scale_to_noise(image, rms=2.0)
    for given in ({"variance": np.full(image.shape, 4.0)}, {"weight": np.full(image.shape, 0.25)}):
        np.testing.assert_allclose(scale_to_noise(image, **given).scaled, expected.scaled, rtol=1e-6)
    np.testing.assert_array_equal(expected.sigma, 2.0)


@pytest.mark.parametrize("name", ["weight", "variance", "rms"])
@pytest.mark.parametrize("value", [0, -1, np.nan, np.inf])
def test_a_map_without_a_usable_noise_is_bad_there(name, value):
    values = np.ones((100, 100))
    values[:30] = value
    result = scale_to_noise(white_noise(100, 100), **{name: values})
    np.testing.assert_array_equal(result.bad, values != 1)


@pytest.mark.parametrize("unit", [1e-18, 1.0, 1e6])
@pytest.mark.parametrize(("name", "power"), [("rms", 1), ("variance", 2), ("weight", -2)])
@pytest.mark.parametrize("share", [0.02, 0.8])
def test_a_very_large_noise_means_no_data(name, power, share, unit):
    """As SExtractor has it: whatever is there is as if it were NaN."""
    random = np.random.default_rng(4)
    rms = random.uniform(0.5, 5, (256, 256))
    image = 7 + galaxies(256, 20) + rms * white_noise(256, 256)
    missing = np.arange(256) < share * 256
    rms[:, missing] = np.nan
    expected = scale_to_noise(unit * np.where(missing, np.nan, image), **{name: (unit * rms) ** power})
    rms[:, missing] = 1e30
    image[:, missing] = random.uniform(-1e6, 1e6)
    exposure = Exposure.of(ArraySource(unit * image), **{name: (unit * rms) ** power})
    noise = measure_noise(exposure)
    assert noise.bad(exposure, np.s_[0:256, 0:256]).tobytes() == expected.bad.tobytes()
    for window in (np.s_[0:256, 0:256], np.s_[17:99, 3:70]):
        result = noise.scale(exposure, window)
        for part in ("scaled", "sigma", "noise", "background", "bad"):
            np.testing.assert_array_equal(getattr(result, part), getattr(expected, part)[window])


def test_depths_that_differ_a_thousandfold_are_data():
    rms = np.where(np.arange(256) < 230, 1.0, 1000.0) * np.ones((256, 1))
    assert not scale_to_noise(rms * white_noise(256, 256), rms=rms).bad.any()


def test_a_record_gives_back_what_was_measured():
    for maps in ({}, {"rms": 1.0}, {"rms": np.where(np.arange(150) < 3, 1e30, 1.0) * np.ones((150, 1))}):
        noise = measure_noise(Exposure.of(ArraySource(white_noise(150, 150)), **maps))
        file = io.BytesIO()
        np.savez(file, **noise.record())
        with np.load(io.BytesIO(file.getvalue()), allow_pickle=False) as record:
            again = Noise.from_record(dict(record))
        assert again.warnings == noise.warnings
        for field in dataclasses.fields(Noise):
            np.testing.assert_equal(getattr(again, field.name), getattr(noise, field.name))


@pytest.mark.parametrize("claimed", [0.5, 1.0, 2.0])
def test_ratio_tells_how_wrong_a_map_is(claimed):
    image = 10 + galaxies(256, 30) + white_noise(256, 256)
    assert scale_to_noise(image, rms=claimed).noise_ratio == pytest.approx(1 / claimed, rel=0.03)


@pytest.mark.parametrize("follows_noise", [False, True])
@pytest.mark.parametrize("sky_variance", [100.0, 400.0])
def test_photon_noise_of_sources_leaves_sigma_and_stays_in_noise(sky_variance, follows_noise):
    """Counts with gain 1: variance is the sky's plus the light's (HST), or plus the noisy counts (Rubin)."""
    light = 40 * galaxies(384, 60, seed=9)
    variance = sky_variance + light
    counts = light + np.sqrt(variance) * white_noise(384, 384)
    given = sky_variance + counts if follows_noise else variance
    given = np.maximum(given, 0.1 * sky_variance)
    result = scale_to_noise(counts, variance=given)
    bright = light > 5 * np.sqrt(sky_variance)
    assert np.median(np.sqrt(given[bright])) > 1.2 * np.sqrt(sky_variance)
    assert np.median(result.sigma[bright]) == pytest.approx(np.sqrt(sky_variance), rel=0.06)
    assert np.median(result.sigma[~bright]) == pytest.approx(np.sqrt(sky_variance), rel=0.03)
    np.testing.assert_allclose(result.noise, np.sqrt(given), rtol=1e-6)


def test_what_is_wrong_in_a_part_is_told_of_that_part():
    """Its right half smoothed, and of twice the noise."""
    image, smooth = white_noise(512, 1024, seed=8), white_noise(512, 1024, seed=9)
    smooth = ndimage.gaussian_filter(smooth, 1.0)
    image[:, 512:] = 2 * (smooth / smooth.std())[:, 512:]
    exposure = Exposure.of(ArraySource(image.astype(np.float32)), rms=1.0)
    noise = measure_noise(exposure)
    correlated = noise.scale(exposure, correlations=(-0.1, 0.1)).correlated
    disagrees = noise.disagrees((slice(0, 512), slice(0, 1024)))
    for told in (correlated, disagrees):
        assert not told[:, :300].any() and told[:, 700:].all()


def test_photon_noise_in_units_whose_square_single_precision_does_not_hold():
    """As of fluxes in erg/s/cm2/Hz."""
    light = 40 * galaxies(384, 60, seed=9)
    noise = np.sqrt(100 + light)
    image = (light + noise * white_noise(384, 384)).astype(np.float32)
    unit = np.float32(2.0**-100)
    expected, result = scale_to_noise(image, rms=noise), scale_to_noise(image * unit, rms=noise * unit)
    assert expected.sigma[light > 50].max() < 0.9 * noise[light > 50].max()  # some was taken out
    np.testing.assert_allclose(result.scaled, expected.scaled, rtol=1e-5)
    np.testing.assert_allclose(result.sigma / unit, expected.sigma, rtol=1e-5)


def test_a_map_without_photon_noise_is_kept_to_the_bit():
    depth = np.where(np.arange(256) < 128, 1.0, 1.5) * np.ones((256, 1))
    image = galaxies(256, 40) + depth * white_noise(256, 256)
    result = scale_to_noise(image, rms=depth)
    np.testing.assert_array_equal(result.sigma, depth)


# ------------------------------------------------------------------------------------------ told


def told(image, words, **options):
    return [text for text in scale_to_noise(image, **options).warnings if words in text]


@pytest.mark.parametrize("at", [-1.2, -0.5, 0.0, 0.5, 1.2])
@pytest.mark.parametrize("form", [np.float32, np.int16])
def test_a_clipped_sky_is_told(at, form):
    image = galaxies(256, 20) + white_noise(256, 256)
    image = np.maximum(20 * image, 20 * at).astype(form)
    (warning,) = told(image, "the sky is clipped there")
    assert f"value, {20 * at:g}:" in warning and "give the image before clipping, or a noise map" in warning
    padded = np.where(np.arange(256) < 100, np.nan, image)
    assert told(padded, "the sky is clipped there") == [warning]
    (warning,) = told(image, "the sky is clipped there", rms=20.0)
    assert warning.endswith("give the image before clipping")


def honest_images():
    noise = white_noise(256, 256)
    yield from (noise, 5 + noise, galaxies(256, 60, brightest=600) + noise)
    yield from (np.round(sigma * noise).astype(np.int16) for sigma in (0.4, 0.7, 1, 3, 20))
    yield from (np.clip(np.round(3 + sigma * noise), 0, 255).astype(np.uint8) for sigma in (0.5, 1, 2))
    random = np.random.default_rng(1)
    yield from (random.poisson(mean + galaxies(256, 20), noise.shape) for mean in (0.01, 0.1, 0.3, 1, 3))
    yield np.where(np.arange(256) < 80, 0, 5 + noise)
    yield from (hubble_deep_field()[:256, :256, band] for band in range(3))


def test_low_counts_padding_and_eight_bits_are_not_clipped():
    for image in honest_images():
        assert not told(image, "clipped") and not told(image, "one value, and")


def test_an_image_of_nearly_one_value_is_told_that_it_has_no_noise():
    image = np.zeros((128, 128))
    image[::3, ::3] = white_noise(43, 43)
    assert told(image, "one value, and") and not told(image, "one value, and", rms=1.0)


RISE = "the background rises by"


@pytest.mark.parametrize("given", [{}, {"rms": 1.0}])
def test_a_galaxy_that_loses_light_to_the_background_is_told_with_its_place(given):
    y, x = np.mgrid[:512, :512]
    galaxy = 20 * np.exp(-np.hypot(y - 200, x - 290) / 53)  # isophote of 1 sigma: 318 pixels wide
    image = 7 + 0.002 * x + galaxy + white_noise(512, 512)
    taken = scale_to_noise(image).background - 7 - 0.002 * x
    assert taken.sum() > 0.15 * galaxy.sum()
    (warning,) = told(image, RISE, **given)
    place = [int(word.strip("(),")) for word in warning.split("pixel ")[1].split()[:2]]
    assert np.hypot(place[0] - 290, place[1] - 200) < CELL
    assert "--no-background" in warning and not told(image, RISE, subtract_background=False)


def test_no_other_background_is_taken_for_a_galaxy():
    y, x = np.mgrid[:512, :512]
    noise, middle = white_noise(512, 512), np.hypot(y - 256, x - 256)
    for sky in (
        0.05 * x + 0.03 * y,
        3 * (x > 256),  # two amplifiers
        3 * ((x > 256) & (y > 256)),
        3 * (np.abs(x - 256) < CELL),
        20 * np.cos(middle / 2000),  # a flat field's bowl
        galaxies(512, 150, brightest=600),
        1e5 / (1 + (middle / 1.5) ** 2) ** 1.5,  # a star
    ):
        assert not told(sky + noise, RISE)
    image = sky + noise
    image[160:352, 180:340] = np.nan
    assert not told(image, RISE)


def test_a_simulation_without_noise_is_told():
    light = galaxies(512, 60)
    assert told(light + 1e-12, "simulation without noise?")  # SciPy's and NumPy's exponentials leave no zeros
    cut = np.where(light > 0.1, light, 0)
    assert (cut == 0).mean() > 0.5 and told(cut, "a simulation needs noise")
    assert not told(np.where(light > 0.1, light, np.nan) + white_noise(512, 512), "needs noise")


def test_noise_of_several_depths_is_noise():
    random = np.random.default_rng(3)
    depths = np.kron(random.uniform(1, 8, (4, 4)), np.ones((128, 128)))
    for sigma in (depths, np.exp(np.arange(512) / 200), 1):
        image = sigma * ndimage.gaussian_filter(white_noise(512, 512), 1) + galaxies(512, 60, brightest=1e6)
        image[random.random(image.shape) < 1e-3] = 1e12  # hot pixels
        assert not told(image, "simulation")


@pytest.mark.parametrize(("pedestal", "rounded"), [(1e6, False), (1e7, False), (5e7, True), (-1e8, True)])
def test_noise_that_single_precision_rounds_away_is_told(pedestal, rounded):
    image = (pedestal + white_noise(256, 256)).astype(np.float32)
    step = np.spacing(np.float32(abs(pedestal)))
    found = told(image, "single precision rounds")
    assert bool(found) == rounded and (not found or f"to steps of {step:g}," in found[0])


@pytest.mark.parametrize(("pedestal", "is_told"), [(0.0, False), (0.3, False), (-1.4, True), (900.0, True)])
def test_a_sky_that_is_left_in_is_told(pedestal, is_told):
    image = 3 * (pedestal + white_noise(256, 256)) + galaxies(256, 20)
    found = told(image, "left in with --no-background", subtract_background=False)
    assert bool(found) == is_told
    assert not told(image, "left in")
    if pedestal == 900:
        # Within what galaxies cover, the number itself is right.
        assert float(re.search(r"lies at (\S+) times", found[0])[1]) == pytest.approx(900, rel=0.1)


def test_honest_images_are_told_nothing():
    for image in honest_images():
        assert scale_to_noise(image).oddities == ()


# ------------------------------------------------------------------------------------------ refused


@pytest.mark.parametrize(
    ("image", "arguments", "message"),
    [
        (np.zeros((80, 80)), {}, r"same value \(0\.0\)"),
        (np.full((80, 80), 7.5), {}, r"same value \(7\.5\)"),
        (np.full((80, 80), np.nan), {}, "every pixel is bad"),
        (white_noise(80, 80), {"mask": np.ones((80, 80))}, "every pixel is bad"),
        (white_noise(80, 80), {"weight": np.zeros((80, 80))}, "every pixel is bad"),
        (white_noise(80, 80), {"rms": np.ones((80, 81))}, r"\(80, 81\).*\(80, 80\)"),
        (white_noise(80, 80), {"mask": np.ones((2, 80))}, r"mask.*\(2, 80\)"),
        (white_noise(80, 80), {"rms": 1.0, "weight": 1.0}, "both rms and weight"),
    ],
)
def test_what_cannot_be_scaled_is_refused(image, arguments, message):
    with pytest.raises(InputError, match=message):
        scale_to_noise(image, **arguments)
