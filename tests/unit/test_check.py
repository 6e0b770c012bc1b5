"""Images of known noise, correlation and width."""

import numpy as np
import pytest
import torch
from astropy.io import fits
from scipy import ndimage

from appulse.check import Check, check_image
from appulse.files import InputError
from appulse.inference.background import LARGEST_CORRELATION
from appulse.network import NetworkConfig, ProbabilisticUNet
from appulse.network.weights import Model


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = NetworkConfig(filters=(4, 8), stamp_size=32, encoder_poolings=1, combiner_filters=8)
    return Model("tiny", ProbabilisticUNet(config), training={"psf_fwhm_pixels": [1.8, 1.8]})


def stars(shape, count, width, flux=400.0, seed=0):
    """Gaussian stars of full width at half maximum ``width``, well apart, at random subpixel positions."""
    random = np.random.default_rng(seed)
    image = np.zeros(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    sigma = width / 2.3548
    side = int(np.ceil(np.sqrt(count)))
    for number in range(count):
        x0 = (number % side + 0.5) * shape[1] / side + random.uniform(-3, 3)
        y0 = (number // side + 0.5) * shape[0] / side + random.uniform(-3, 3)
        image += flux / (2 * np.pi * sigma**2) * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * sigma**2))
    return image


def written(path, image, **cards):
    fits.writeto(path, image.astype(np.float32), fits.Header(cards))
    return path


def noise(shape, seed=1):
    return np.random.default_rng(seed).standard_normal(shape)


def test_noise_scale_and_width_are_measured(tmp_path, model):
    shape = (250, 250)
    image = 100 + 3 * (noise(shape) + stars(shape, 25, width=2.0))
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.1 / 3600, "CDELT2": 0.1 / 3600}
    report = check_image(written(tmp_path / "a.fits", image, **wcs), model=model)
    assert report.sigma == pytest.approx(3, rel=0.05)
    assert abs(report.correlation) < 0.03
    assert report.width == pytest.approx(2.0, rel=0.25)
    assert report.scale == pytest.approx(0.1)
    assert 0 < report.coverage < 0.1 and report.fits and report.warnings == []
    assert (report.path, report.model) == (str(tmp_path / "a.fits"), "tiny")
    assert "the model fits this image" in str(report)


@pytest.mark.parametrize("width", [5.0, 7.0])
def test_wide_stars_are_warned_of(tmp_path, model, width):
    shape = (250, 250)
    image = noise(shape) + stars(shape, 16, width=width, flux=4000)
    report = check_image(written(tmp_path / "a.fits", image), model=model)
    assert report.width == pytest.approx(width, rel=0.2)
    assert not report.fits and any("pixels wide" in warning for warning in report.warnings)


def test_correlated_noise_is_warned_of(tmp_path, model):
    smooth = ndimage.gaussian_filter(noise((200, 200)), 1.0)
    report = check_image(written(tmp_path / "a.fits", smooth), model=model)
    # White noise smoothed by a Gaussian of standard deviation 1 correlates by exp(-1/4) between neighbours.
    assert report.correlation == pytest.approx(np.exp(-0.25), abs=0.08)
    assert report.correlation > LARGEST_CORRELATION
    assert any("correlate" in warning for warning in report.warnings)
    assert "WARNING" in str(report) and "use with care" in str(report)


def test_what_cannot_be_told_is_said_to_be_unknown(tmp_path, model):
    report = check_image(written(tmp_path / "a.fits", noise((100, 100))), model=model)
    assert np.isnan(report.width) and np.isnan(report.scale) and report.fits
    assert str(report).count("unknown") == 2


def test_bad_pixels_do_not_matter(tmp_path, model):
    image = noise((150, 150))
    image[20:60, 30:90] = np.nan
    report = check_image(written(tmp_path / "a.fits", image), model=model)
    assert report.sigma == pytest.approx(1, rel=0.05) and report.fits


def test_a_crowded_image_asks_for_a_noise_map():
    report = Check("a.fits", "tiny", 1.0, 0.0, 0.5, 2.0, 0.1)
    assert [("50 %" in warning and "--rms" in warning) for warning in report.warnings] == [True]


def test_the_hdu_is_chosen(tmp_path, model):
    hdus = [fits.PrimaryHDU(noise((80, 80))), fits.ImageHDU(5 * noise((80, 80)), name="DEEP")]
    fits.HDUList(hdus).writeto(tmp_path / "a.fits")
    report = check_image(tmp_path / "a.fits", hdu="DEEP", model=model)
    assert report.sigma == pytest.approx(5, rel=0.1)


def test_files_and_models_that_are_not_there_are_named(tmp_path, model):
    with pytest.raises(InputError, match=r"a\.fits: no such file"):
        check_image(tmp_path / "a.fits", model=model)
    with pytest.raises(InputError, match="unknown model 'andromeda'"):
        check_image(tmp_path / "a.fits", model="andromeda")
    with pytest.raises(InputError, match="nothing to segment"):
        check_image(written(tmp_path / "flat.fits", np.zeros((50, 50))), model=model)
