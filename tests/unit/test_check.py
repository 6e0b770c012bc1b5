"""Images of known noise, correlation and width."""

import numpy as np
import pytest
import torch
from astropy.io import fits
from scipy import ndimage

from appulse.check import Check, check_image
from appulse.files import InputError
from appulse.network import NetworkConfig, ProbabilisticUNet
from appulse.network.validity import LARGEST_CORRELATION
from appulse.network.weights import Model
from appulse.sky.field import simulate_field
from appulse.sky.survey import Survey


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    config = NetworkConfig(filters=(4, 8), stamp_size=32, encoder_poolings=1, combiner_filters=8)
    return Model("tiny", ProbabilisticUNet(config), training={"psf_fwhm_pixels": [1.8, 1.8]})


def stars(shape, count, width, flux=400.0, seed=0, wings=None):
    """Stars of full width at half maximum ``width``, well apart, at random subpixel positions.

    Gaussian, or Moffat with ``wings`` for beta.
    """
    random = np.random.default_rng(seed)
    image = np.zeros(shape)
    y, x = np.mgrid[: shape[0], : shape[1]]
    sigma = width / 2.3548
    side = int(np.ceil(np.sqrt(count)))
    for number in range(count):
        x0 = (number % side + 0.5) * shape[1] / side + random.uniform(-3, 3)
        y0 = (number // side + 0.5) * shape[0] / side + random.uniform(-3, 3)
        distance = np.hypot(x - x0, y - y0)
        if wings is None:
            profile = np.exp(-(distance**2) / (2 * sigma**2))
        else:
            profile = (1 + (2 * distance / width) ** 2 * (2 ** (1 / wings) - 1)) ** -wings
        image += flux * profile / profile.sum()
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


@pytest.mark.parametrize("width", [1.8, 2.5, 3.5, 5.0, 7.0])
@pytest.mark.parametrize("wings", [None, 3.5])
def test_the_width_is_that_of_the_core_whatever_the_wings(tmp_path, model, width, wings):
    shape = (250, 250)
    image = noise(shape) + stars(shape, 16, width=width, flux=300 * width**2, wings=wings)
    report = check_image(written(tmp_path / "a.fits", image), model=model)
    assert report.width == pytest.approx(width, rel=0.1, abs=0.3)


@pytest.mark.parametrize("survey", ["paper", "euclid-crowded"])
def test_the_models_own_training_sky_fits_it(tmp_path, model, survey):
    survey = Survey.load(survey)
    assert survey.psf.fwhm / survey.pixel_scale == pytest.approx(1.8)
    light = simulate_field(survey, size=640, seed=9500).light
    for depth in (24.6, 27.2):
        image = light + survey.sigma_at(depth) * noise(light.shape)
        report = check_image(written(tmp_path / "a.fits", 1e10 * image), model=model)
        (tmp_path / "a.fits").unlink()
        assert report.warnings == []


def test_cosmic_rays_look_too_narrow(tmp_path, model):
    image = noise((250, 250))
    image[10::25, 10::25] += 200
    image[10::25, 11::25] += 90
    report = check_image(written(tmp_path / "a.fits", image), model=model)
    assert any("cosmic rays" in warning for warning in report.warnings)


def test_noise_and_mask_in_the_file_are_used_and_named(tmp_path, model):
    shape = (200, 200)
    image, dq = 2 * noise(shape), np.zeros(shape, np.int16)
    image[50:60], dq[50:60] = 1e6, 256
    primary = fits.PrimaryHDU()
    primary.header["TELESCOP"] = "HST"
    planes = [fits.ImageHDU(image, name="SCI"), fits.ImageHDU(np.ones(shape), name="ERR")]
    planes[0].header["BUNIT"] = "electron"
    fits.HDUList([primary, *planes, fits.ImageHDU(dq, name="DQ")]).writeto(tmp_path / "a.fits")
    report = check_image(tmp_path / "a.fits", model=model)
    assert report.sigma == pytest.approx(1) and report.noise_ratio == pytest.approx(2, rel=0.05)
    assert report.bad == pytest.approx(0.05) and report.coverage < 0.01
    text = str(report)
    assert "HST: SCI with ERR as rms, DQ as mask" in text and "5.0 % of them bad" in text
    assert "1 electron per pixel, from ERR; the scatter is" in text
    assert any("supplied noise" in warning for warning in report.warnings)


def test_a_large_image_is_measured_in_parts_of_all_of_it(tmp_path, model):
    image = (100 + 20 * noise((256, 8192))).astype(np.int16)
    image[:, -1024:] = -1  # the last part
    fits.writeto(tmp_path / "a.fits", image)
    with fits.open(tmp_path / "a.fits", "update") as hdus:
        hdus[0].header["BLANK"] = -1
    report = check_image(tmp_path / "a.fits", model=model)
    assert report.size == (256, 8192) and report.is_sampled
    assert report.bad == pytest.approx(0.25)
    assert report.sigma == pytest.approx(20, rel=0.05)
    assert "8192 x 256 pixels" in str(report) and "parts of 512 pixels" in str(report)


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


def test_what_is_not_measured_or_not_used_is_no_approval(tmp_path, model):
    shape = (250, 250)
    faint = check_image(written(tmp_path / "a.fits", noise(shape)), model=model)
    assert faint.fits and "the width of the PSF was not measured" in str(faint)
    image = noise(shape) + stars(shape, 25, width=2.0)
    known = check_image(written(tmp_path / "b.fits", image), model=model)
    assert known.verdict == "the model fits this image"
    fits.append(tmp_path / "b.fits", np.ones(shape, np.float32), fits.Header({"EXTNAME": "WHT"}))
    beside = check_image(tmp_path / "b.fits", model=model)
    assert beside.fits and "note: WHT of the file: not used" in str(beside)
