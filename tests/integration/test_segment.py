"""The bundled model on images whose content is known. Nothing here depends on how well it was trained."""

import numpy as np
import pytest
from astropy.io import fits
from photutils.segmentation import SourceCatalog

import appulse

SAMPLES = 8
ISOLATED = ((40, 45, 3.0), (120, 50, 2.0), (60, 130, 4.0), (150, 140, 2.5))  # x, y, scale length


def sky(shape, *galaxies, peak=50.0, noise=1.0, seed=0):
    """Round exponential discs and white noise, in units of the noise."""
    y, x = np.mgrid[: shape[0], : shape[1]].astype(float)
    image = noise * np.random.default_rng(seed).standard_normal(shape)
    for x0, y0, scale in galaxies:
        image += peak * np.exp(-np.hypot(x - x0, y - y0) / scale)
    return image.astype(np.float32)


@pytest.fixture(scope="module")
def model():
    return appulse.load_model("euclid")


@pytest.fixture(scope="module")
def run(model):
    def segment(image, **options):
        return appulse.segment(image, **{"model": model, "samples": SAMPLES} | options)

    return segment


@pytest.fixture(scope="module")
def isolated(run):
    return run(sky((190, 200), *ISOLATED))


def nearest(result, x, y):
    distance = np.hypot(result.catalog["x_centroid"].value - x, result.catalog["y_centroid"].value - y)
    return result.catalog[int(np.argmin(distance))], distance.min()


def test_bright_isolated_galaxies_are_found_where_they_are(isolated):
    for x, y, scale in ISOLATED:
        row, distance = nearest(isolated, x, y)
        assert distance < 2 and row["p_detect"] > 0.8 and row["n_realisations"] > SAMPLES // 2
        # The isophote of one sigma of an exponential disc, and the light inside it.
        radius = scale * np.log(50)
        light = 2 * np.pi * 50 * scale**2 * (1 - (1 + radius / scale) * np.exp(-radius / scale))
        assert row["area"].value == pytest.approx(np.pi * radius**2, rel=0.4)
        assert row["flux"].value == pytest.approx(light, rel=0.15)
        assert row["ellipticity"] < 0.3
    assert len(isolated.catalog) <= len(ISOLATED) + 1


def test_gaussian_sources_are_found_as_well(run):
    y, x = np.mgrid[:140, :140]
    image = sky((140, 140)) + 50 * np.exp(-((x - 70.3) ** 2 + (y - 61.8) ** 2) / (2 * 2.5**2))
    result = run(image)
    _, distance = nearest(result, 70.3, 61.8)
    assert distance < 2 and len(result.catalog) <= 2


def test_in_pure_noise_there_is_almost_nothing(run):
    result = run(sky((256, 256), seed=5))
    assert len(result.catalog) <= 2 and np.mean(result.ternary > 0) < 1e-3
    assert result.p_galaxy.mean() < 0.01 and result.mean.mean() < 0.01


def test_two_galaxies_with_clear_peaks_are_two(run):
    result = run(sky((150, 150), (66, 75, 3.0), (81, 75, 3.0)))
    for x in (66, 81):
        assert nearest(result, x, 75)[1] < 4
    assert 2 <= len(result.catalog) <= 3
    assert result.p_overlap[70:80, 70:77].max() > result.p_overlap[20:30, 20:30].max()


def test_the_catalogue_agrees_with_photutils_on_the_same_pixels(run):
    result = run(sky((190, 200), *ISOLATED), rms=1.0)
    alone = np.array(result.catalog["blend_id"]) == 0
    assert alone.sum() >= 3
    measured = SourceCatalog(result.image, result.to_photutils())
    order = np.array(result.catalog["label"])[alone] - 1
    np.testing.assert_allclose(result.catalog["flux"].value[alone], measured.segment_flux[order], rtol=1e-4)
    np.testing.assert_array_equal(result.catalog["area"].value[alone], measured.area.value[order])
    for side in ("bbox_xmin", "bbox_xmax", "bbox_ymin", "bbox_ymax"):
        ours, theirs = np.array(result.catalog[side])[alone], np.array(getattr(measured, side))[order]
        np.testing.assert_array_equal(ours, theirs)


def test_the_maps_hold_together(isolated):
    masks = np.stack([isolated.mask(label) for label in isolated.catalog["label"]])
    np.testing.assert_array_equal(masks.any(axis=0), isolated.segm > 0)
    assert (isolated.ternary[masks.any(axis=0)] > 0).all()
    assert (masks.sum(axis=0)[(isolated.ternary == 2) & (isolated.segm > 0)] >= 2).all()
    stack = isolated.realisations()
    np.testing.assert_array_equal(isolated.mean, stack.mean(axis=0).astype(np.float32))
    np.testing.assert_array_max_ulp(isolated.std, stack.std(axis=0).astype(np.float32), 1)
    t_galaxy, t_overlap = (isolated.provenance[name] for name in ("t_galaxy", "t_overlap"))
    galaxy = isolated.p_galaxy > t_galaxy
    np.testing.assert_array_equal(isolated.ternary, galaxy + 1 * (galaxy & (isolated.p_overlap > t_overlap)))
    assert (isolated.p_overlap <= isolated.p_galaxy).all()


def test_realisations_vary_at_the_edges_of_galaxies_and_agree_elsewhere(isolated):
    y, x = np.mgrid[:190, :200]
    x0, y0, scale = ISOLATED[0]
    distance = np.hypot(x - x0, y - y0)
    edge = np.abs(distance - scale * np.log(50)) < 3
    spread = (isolated.realisations() > 0).std(axis=0)
    assert spread[edge].mean() > 0.05
    assert spread[edge].mean() > 5 * spread[distance < scale].mean()


def test_units_and_pedestal_do_not_matter(run, isolated):
    result = run((sky((190, 200), *ISOLATED).astype(float) * 1e-12 + 3e-11).astype(np.float32))
    assert np.mean(result.ternary != isolated.ternary) < 2e-3
    for x, y, _ in ISOLATED:
        one, two = nearest(isolated, x, y)[0], nearest(result, x, y)[0]
        assert two["flux"].value == pytest.approx(one["flux"].value * 1e-12, rel=0.03)


def test_an_object_is_the_same_whatever_lies_far_away(run):
    options = {"rms": 1.0, "subtract_background": False}
    noise = sky((140, 400), seed=3)
    alone = noise + sky((140, 400), (61, 63, 3.0), noise=0)
    crowded = alone + sky((140, 400), (300, 60, 4.0), (340, 100, 3.0), (310, 75, 3.0), noise=0)
    one, other = run(alone, **options), run(crowded, **options)
    row, distance = nearest(one, 61, 63)
    mask = one.mask(row["label"])
    twin = nearest(other, 61, 63)[0]
    assert distance < 2 and mask.any()
    np.testing.assert_array_equal(other.mask(twin["label"]), mask)
    np.testing.assert_array_equal(other.realisations()[:, mask], one.realisations()[:, mask])
    for name in ("flux", "flux_std", "area_p16", "area_p84", "half_light_radius_std", "p_detect"):
        assert np.asarray(row[name]) == np.asarray(twin[name])


def test_the_seed_decides_every_byte(run, isolated, tmp_path):
    image = sky((190, 200), *ISOLATED)
    again, other = run(image), run(image, seed=1)
    for name in ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "segm2", "flags"):
        assert getattr(again, name).tobytes() == getattr(isolated, name).tobytes()
    assert (other.realisations() != isolated.realisations()).any()
    one, two = (result.write(tmp_path / str(id(result)), preview=False) for result in (isolated, again))
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


@pytest.mark.parametrize("options", [{"method": "grid"}, {"mode": "latent"}], ids=["grid", "latent"])
def test_other_ways_find_the_same_bright_galaxies(run, options):
    result = run(sky((190, 200), *ISOLATED), **options)
    assert all(nearest(result, x, y)[1] < 2 for x, y, _ in ISOLATED)


def test_every_operating_point_of_the_model_works(run, model):
    points = model.calibration.operating_points
    for name in points:
        result = run(sky((140, 140), (70, 70, 3.0)), operating_point=name, method="grid")
        assert nearest(result, 70, 70)[1] < 2
    assert {"balanced", "complete", "pure"} <= points.keys()
    # Both are about blends: the one claims more overlaps than the other.
    assert points["complete"].t_overlap <= points["pure"].t_overlap


def test_an_image_smaller_than_a_stamp(run):
    result = run(sky((50, 70), (33, 27, 2.0)))
    assert result.ternary.shape == (50, 70) and nearest(result, 33, 27)[1] < 2


def test_a_galaxy_beside_bad_pixels_is_found_and_flagged(run):
    image = sky((140, 140), (70, 70, 3.0))
    image[60:80, 76:90] = np.nan
    result = run(image)
    row, distance = nearest(result, 68, 70)
    assert distance < 4 and row["flags"] & 1
    np.testing.assert_array_equal(np.isnan(result.p_galaxy), np.isnan(image))


def test_a_file_is_enough(tmp_path):
    """The example of the package's own docstring: a path, a name, numbers."""
    image = 7 * sky((130, 130), (64, 60, 3.0)) + 90
    fits.writeto(tmp_path / "field.fits", image, fits.Header({"BUNIT": "adu"}))
    result = appulse.segment(tmp_path / "field.fits", model="euclid", samples=2, seed=0)
    assert isinstance(result, appulse.Result) and nearest(result, 64, 60)[1] < 2
    assert result.catalog["flux"].unit == "adu" and result.provenance["version"] == appulse.__version__
    assert len(result.provenance["sha256"]) == 64


def test_products_are_named_after_the_file(run, tmp_path):
    fits.writeto(tmp_path / "tile_7.fits", sky((64, 64), (30, 30, 2.0)))
    written = run(tmp_path / "tile_7.fits").write(tmp_path / "out", preview=False)
    assert [path.name for path in written] == [
        "tile_7_segmentation.fits",
        "tile_7_catalog.fits",
        "tile_7_summary.json",
    ]
