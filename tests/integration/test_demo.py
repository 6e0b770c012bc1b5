import numpy as np
import pytest
from astropy.io import fits
from skimage.data import hubble_deep_field

import appulse.demo
from appulse.demo import DEMO_SEED, run_demo, write_hubble
from appulse.files import UsageError
from appulse.sky.stored_field import read_field

PRODUCTS = ("catalog.fits", "preview.png", "segmentation.fits", "summary.json")


def expected_files(stems):
    return {f"{stem}.fits" for stem in stems} | {f"{stem}_{each}" for stem in stems for each in PRODUCTS}


def test_the_hubble_deep_field_is_written_the_right_way_up(tmp_path):
    write_hubble(tmp_path / "hdf.fits")
    picture = hubble_deep_field().astype(float)
    with fits.open(tmp_path / "hdf.fits") as hdus:
        image = hdus[0].data
        assert image.shape == picture.shape[:2] and image.dtype.kind == "f"
    # Luminance lies between the faintest and the brightest colour, and white is white.
    upright = image[::-1]
    assert (upright >= picture.min(axis=2) - 0.01).all() and (upright <= picture.max(axis=2) + 0.01).all()
    assert upright.ravel()[np.argmax(picture.sum(axis=2))] > 0.98 * image.max()
    first = (tmp_path / "hdf.fits").read_bytes()
    write_hubble(tmp_path / "hdf.fits")
    assert (tmp_path / "hdf.fits").read_bytes() == first


def test_a_small_demonstration(tmp_path, monkeypatch):
    def write_corner(path):
        write_hubble(path)
        with fits.open(path) as hdus:
            corner = hdus[0].data[300:430, 300:430].copy()
        fits.writeto(path, corner, overwrite=True)

    monkeypatch.setattr(appulse.demo, "write_hubble", write_corner)
    stages = []
    report = run_demo(tmp_path, size=128, progress=lambda stage, done, total: stages.append((stage, done)))
    assert stages[0] == ("galaxies", 0) and {stage for stage, _ in stages} > {"galaxies"}
    stem = f"field_{DEMO_SEED}_00"
    assert {path.name for path in tmp_path.iterdir()} == expected_files([stem, "hubble_deep_field"])
    for path in tmp_path.iterdir():
        if not path.name.endswith((f"{stem}.fits", "field.fits")):
            assert str(path) in report
    assert report.count("galaxies") >= 2
    with pytest.raises(UsageError, match="another survey or size"):
        run_demo(tmp_path, size=256)
    assert DEMO_SEED >= 9000 and read_field(tmp_path / f"{stem}.fits").image.shape == (128, 128)


@pytest.mark.slow
def test_the_whole_demonstration(tmp_path):
    report = run_demo(tmp_path, size=512)
    assert {path.name for path in tmp_path.iterdir()} == expected_files(
        [f"field_{DEMO_SEED}_00", "hubble_deep_field"]
    )
    assert "hubble_deep_field.fits (real" in report
