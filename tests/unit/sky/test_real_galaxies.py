"""Real galaxies: found, chosen and drawn with the flux and place that were asked for; a catalogue of our own.

The catalogue is written here in GalSim's format, from known profiles and noise. Where the COSMOS images of
the project's shared data lie beside the checkout, they are drawn too.
"""

import dataclasses
import os
from pathlib import Path

import galsim
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from appulse.files import InputError
from appulse.sky import Survey, read_field, simulate_field, write_field
from appulse.sky.population import Clumps
from appulse.sky.real_galaxies import RealGalaxies
from appulse.sky.rendering import Renderer
from appulse.sky.sources import draw_sources

SCALE, N = 0.03, 12
PSF = galsim.Moffat(beta=3.5, fwhm=0.09)
COSMOS = [
    directory
    for parent in Path(__file__).parents
    if (directory := parent / "shared" / "data" / "hst-cosmos-100").is_dir()
]


def true_profile(k):
    return galsim.Exponential(half_light_radius=0.25 + 0.02 * k).shear(g1=0.2 if k % 2 else -0.2, g2=0.0)


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Discs from magnitude 20 to 25.5, noise 1/500 of the brightest disc's peak."""
    directory = tmp_path_factory.mktemp("cosmos")
    galaxies, psfs = [], []
    rng = np.random.default_rng(0)
    for k in range(N):
        flux = 10 ** (-0.4 * (20 + 0.5 * k - 25.94))
        disc = galsim.Convolve(true_profile(k).withFlux(flux), PSF)
        image = disc.drawImage(nx=121, ny=121, scale=SCALE, dtype=float).array
        galaxies.append(fits.ImageHDU((image + 1e-4 * rng.standard_normal(image.shape)).astype(np.float32)))
        psf = PSF.drawImage(nx=61, ny=61, scale=SCALE, method="auto", dtype=float).array
        psfs.append(fits.ImageHDU(psf.astype(np.float32)))
    fits.HDUList([fits.PrimaryHDU(), *galaxies]).writeto(directory / "galaxies.fits")
    fits.HDUList([fits.PrimaryHDU(), *psfs]).writeto(directory / "psfs.fits")
    catalog = Table(
        {
            "IDENT": np.arange(N),
            "MAG": 20 + 0.5 * np.arange(N, dtype=float),
            "BAND": ["F814W"] * N,
            "WEIGHT": np.ones(N),
            "GAL_FILENAME": ["galaxies.fits"] * N,
            "PSF_FILENAME": ["psfs.fits"] * N,
            "GAL_HDU": np.arange(1, N + 1),
            "PSF_HDU": np.arange(1, N + 1),
            "PIXEL_SCALE": np.full(N, SCALE),
            "NOISE_MEAN": np.zeros(N),
            "NOISE_VARIANCE": np.full(N, 1e-8),
        }
    )
    catalog.write(directory / "real_galaxy_catalog_26_test.fits")
    # A parametric catalogue lies beside it, as in the one that COSMOS users have.
    catalog[["IDENT"]].write(directory / "real_galaxy_catalog_26_test_fits.fits")
    return directory


@pytest.fixture(scope="module")
def survey(directory):
    return dataclasses.replace(Survey.load("euclid-wide"), real_galaxies=RealGalaxies.open(directory))


def row(index, magnitude, turn=0.0, x=0.0, y=0.0):
    flux = 10 ** (-0.4 * (magnitude - 23.9))
    nan = dict.fromkeys(("half_light_radius", "sersic_index", "ellipticity"), np.nan)
    return nan | dict(x=x, y=y, magnitude=magnitude, flux=flux, real_index=index, orientation=turn, kind=0)


@pytest.mark.parametrize("index", [0, 3, 4])
@pytest.mark.parametrize("turn", [0.0, 90.0, 200.0])
def test_the_disc_comes_back(survey, index, turn):
    """Undone: the telescope's PSF, noise and pixels; done: the survey's, the flux and the turn."""
    magnitude = 20 + 0.5 * index
    source = Renderer(survey).draw(row(index, magnitude, turn, x=0.3, y=-0.2))
    flux = 10 ** (-0.4 * (magnitude - 23.9))
    profile = true_profile(index).withFlux(flux).rotate(turn * galsim.degrees)
    expected = galsim.Convolve(profile, galsim.Moffat(beta=3.5, fwhm=0.18)).drawImage(
        nx=101, ny=101, scale=0.1, offset=(0.3, -0.2)
    )
    rows, columns = source.image.shape
    window = expected.array[50 + source.y0 : 50 + source.y0 + rows, 50 + source.x0 : 50 + source.x0 + columns]
    bright = window > 0.1 * window.max()
    np.testing.assert_allclose(source.image[bright], window[bright], rtol=0.06)
    assert source.image.sum(dtype=float) == pytest.approx(flux, rel=0.02)


def test_fainter_galaxies_are_smaller_along_the_law(survey):
    # Two magnitudes fainter: exp(-0.269 x 2) of the size, so second moments shrink by its square.
    def size(magnitude):
        image = Renderer(dataclasses.replace(survey, psf=dataclasses.replace(survey.psf, fwhm=0.05))).draw(
            row(0, magnitude)
        )
        y, x = np.indices(image.image.shape)
        y, x = y + image.y0, x + image.x0
        return ((x**2 + y**2) * image.image).sum() / image.image.sum()

    assert size(22.0) / size(20.0) == pytest.approx(np.exp(-0.269 * 4), rel=0.1)


def test_choice_of_images(survey):
    sources = draw_sources(survey, (900, 900), 1, 0)
    plain = draw_sources(dataclasses.replace(survey, real_galaxies=None), (900, 900), 1, 0)
    real = sources["real_index"] >= 0
    assert real.any()
    of_image = 20 + 0.5 * sources["real_index"][real]
    assert (of_image <= sources["magnitude"][real]).all()
    assert (of_image >= sources["magnitude"][real] - 3.0).all()
    # Brighter than the fifth image (22.0): too few to choose from.
    np.testing.assert_array_equal(real, sources["magnitude"] >= 22.0)
    assert len(set(sources["real_index"][real])) == N - 1  # the faintest disc, 25.5, is below the limit
    np.testing.assert_array_equal(sources["magnitude"], plain["magnitude"])
    np.testing.assert_array_equal(sources["x"], plain["x"])
    for name in ("half_light_radius", "sersic_index", "ellipticity", "orientation"):
        np.testing.assert_array_equal(sources[name][~real], plain[name][~real])
        if name != "orientation":
            assert np.isnan(sources[name][real]).all()
    assert 0 <= sources["orientation"][real].min() and sources["orientation"][real].max() > 300


def test_real_galaxies_have_clumps_of_their_own_only(survey):
    sources = draw_sources(dataclasses.replace(survey, clumps=Clumps(1.0)), (900, 900), 1, 0)
    real = sources["real_index"] >= 0
    assert (sources["clump_fraction"][real] == 0).all() and (sources["clump_fraction"][~real] > 0).any()


def test_boxes_hold_real_galaxies(survey):
    renderer = Renderer(survey)
    for index in range(0, N, 3):
        for magnitude in (21.0, 24.0):
            galaxy = row(index, magnitude, turn=33.0, x=7.4, y=3.2)
            source, (y0, y1, x0, x1) = renderer.draw(galaxy), renderer.box(galaxy)
            assert y0 <= source.y0 and source.y0 + source.image.shape[0] <= y1
            assert x0 <= source.x0 and source.x0 + source.image.shape[1] <= x1


def test_the_place_of_the_catalogue_is_no_part_of_the_sky(survey, directory, tmp_path):
    elsewhere = tmp_path / "real_galaxy_catalog_moved.fits"
    elsewhere.write_bytes((directory / "real_galaxy_catalog_26_test.fits").read_bytes())
    moved = dataclasses.replace(survey, real_galaxies=RealGalaxies.open(elsewhere))
    assert moved == survey and moved.digest() == survey.digest()
    assert survey.digest() != Survey.load("euclid-wide").digest()
    assert str(directory) not in str(survey.to_dict())


def test_a_field_of_real_galaxies(survey, tmp_path):
    field = simulate_field(survey, 200, seed=9000)
    assert len(field.catalog) and (field.catalog["real_index"] >= 0).any()
    write_field(field, tmp_path / "field.fits")
    back = read_field(tmp_path / "field.fits")
    assert back.survey.digest() == survey.digest()
    with pytest.raises(InputError, match="directory"):
        Renderer(back.survey).draw(row(0, 22.0))


def test_toml_names_the_directory(directory, tmp_path):
    text = 'name = "mine"\ndescription = ""\npixel_scale = 0.1\nzero_point = 23.9\nreal_galaxies = "{}"\n'
    text += "[noise]\nsurface_brightness = 26\n"
    path = tmp_path / "mine.toml"
    path.write_text(text.format(directory))
    assert Survey.load(path).real_galaxies == RealGalaxies.open(directory)
    # A relative path starts from the file.
    path.write_text(text.format(os.path.relpath(directory, tmp_path)))
    assert Survey.load(path).real_galaxies.path == RealGalaxies.open(directory).path


def test_several_catalogues(directory, tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"real_galaxy_catalog_{name}.fits").touch()
    with pytest.raises(InputError, match=r"catalog_a\.fits, real_galaxy_catalog_b\.fits"):
        RealGalaxies.open(tmp_path)


@pytest.mark.skipif(not COSMOS, reason="needs shared/data/hst-cosmos-100 beside the checkout")
def test_cosmos():
    survey = dataclasses.replace(Survey.load("euclid-wide"), real_galaxies=RealGalaxies.open(COSMOS[0]))
    field = simulate_field(survey, 360, seed=9000)
    plain = simulate_field(Survey.load("euclid-wide"), 360, seed=9000)
    real = field.catalog["real_index"] >= 0
    assert real.mean() > 0.5
    # About as many pixels above the noise as Sérsic profiles have.
    ratio = np.mean(field.ternary() > 0) / np.mean(plain.ternary() > 0)
    assert 0.5 < ratio < 2.0
    whole = real & (field.catalog["isophotal_area"] > 30)
    assert np.median(field.catalog["isophotal_flux"][whole] / field.catalog["flux"][whole]) == pytest.approx(
        0.9, abs=0.15
    )
