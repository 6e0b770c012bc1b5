"""The file of a field, as other programs read it, and windows of it."""

import dataclasses
import gzip
import os

import numpy as np
import pytest
from astropy.io import fits

from appulse.files import InputError
from appulse.sky import Population, Survey, open_field, read_field, simulate_field, strips, write_field
from appulse.sky.field_file import FIELD_LAYERS, IMAGE, LAYERS, TILE
from appulse.sky.population import Clumps

SURVEY = dataclasses.replace(
    Survey.load("paper"),
    name="crowded",
    population=Population(density=150.0, magnitude_bright=20.0, size_factor=2.5),
    clumps=Clumps(0.5),
)
SHAPE = (530, 300)
ARRAYS = ("image", "first", "second", "id1", "id2")


def some_stars(drawn):
    def sources(*arguments):
        table = drawn(*arguments)
        table["kind"][::4] = 2
        return table

    return sources


@pytest.fixture(scope="module")
def field():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "draw_sources", some_stars(strips.draw_sources))
        return simulate_field(SURVEY, SHAPE, seed=5)


@pytest.fixture(scope="module")
def path(field, tmp_path_factory):
    path = tmp_path_factory.mktemp("field") / "field_0005_00.fits"
    write_field(field, path)
    return path


def test_strips_fields_and_files_have_the_declared_layers(field, path):
    declared = {layer.attribute: layer.dtype for layer in (IMAGE, *LAYERS)}
    for stars in (True, False):
        with pytest.MonkeyPatch.context() as patch:
            if stars:
                patch.setattr(strips, "draw_sources", some_stars(strips.draw_sources))
            [task] = strips.FieldPlan.draw(SURVEY, (32, 40), seed=5, index=0).tasks()
        drawn = {name: array.dtype.type for name, array in strips.draw_strip(task).layers.items()}
        assert drawn == {name: dtype for name, dtype in declared.items() if stars or name != "other"}
    arrays = {each.name for each in dataclasses.fields(field) if each.type.startswith("np.ndarray")}
    assert arrays == {layer.attribute for layer in FIELD_LAYERS} == {*declared} - {"ternary"}
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
    assert names == ["PRIMARY", *(layer.name for layer in (IMAGE, *LAYERS)), "DEEPER", "CATALOG"]


def test_astropy_reads_every_layer(field, path):
    arrays = {name: getattr(field, name) for name in (*ARRAYS, "other")} | {"ternary": field.ternary()}
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus[:2]] == ["PRIMARY", "IMAGE"]
        assert [hdu.name for hdu in hdus[-2:]] == ["DEEPER", "CATALOG"]
        for name, expected in arrays.items():
            hdu = hdus[name.upper()]
            np.testing.assert_array_equal(hdu.data, expected)
            assert hdu.data.dtype.newbyteorder("=") == expected.dtype
            np.testing.assert_array_equal(hdu.section[250:270, 7:290], expected[250:270, 7:290])
            np.testing.assert_array_equal(hdu.section[500, ::3], expected[500, ::3])
    # A whole number of FITS blocks, and nothing but a fresh copy of it says the same.
    assert path.stat().st_size % 2880 == 0
    copied = path.with_name("copied.fits")
    with fits.open(path) as hdus:
        hdus.writeto(copied)
    assert fits.FITSDiff(path, copied, ignore_keywords=["TFORM1", "TTYPE1"]).identical


def test_tiles_by_the_standard(field, path):
    """Unpacked by hand, as section 10 of the FITS standard says."""
    with fits.open(path, disable_image_compression=True) as hdus:
        table, header = hdus["ID1"].data, hdus["ID1"].header
        assert header["ZCMPTYPE"] == "GZIP_2" and (header["ZTILE1"], header["ZTILE2"]) == (TILE, TILE)
        across = -(-SHAPE[1] // TILE)
        assert len(table) == across * -(-SHAPE[0] // TILE)
        for number, packed in enumerate(table["COMPRESSED_DATA"]):
            y, x = (TILE * n for n in divmod(number, across))
            expected = field.id1[y : y + TILE, x : x + TILE]
            planes = np.frombuffer(gzip.decompress(packed.tobytes()), np.uint8).reshape(4, -1)
            values = np.ascontiguousarray(planes.T).view(">i4").reshape(expected.shape)
            np.testing.assert_array_equal(values, expected)
            assert packed[4:8].tolist() == [0, 0, 0, 0]  # gzip's time stamp


def test_layers_under_the_limit_cost_little(field, path):
    sizes = {}
    with fits.open(path, disable_image_compression=True) as hdus:
        for layer in LAYERS:
            sizes[layer.name] = hdus[layer.name].header["PCOUNT"]
    lit = np.count_nonzero(field.first)
    assert sizes["FIRST"] < 4 * lit + 0.1 * field.first.size
    assert sizes["TERNARY"] < 0.1 * field.first.size


def test_nothing_in_it_depends_on_time_or_place(field, path, tmp_path):
    other = tmp_path / "another name.fits"
    write_field(field, other)
    assert other.read_bytes() == path.read_bytes()
    with fits.open(path) as hdus:
        text = "\n".join(repr(hdu.header) for hdu in hdus).upper()
    assert (
        "DATE" not in text and os.uname().nodename.upper() not in text and str(tmp_path).upper() not in text
    )


WINDOWS = [
    (slice(0, 530), slice(0, 300)),
    (slice(10, 40), slice(250, 262)),
    (slice(529, 530), slice(0, 1)),
    (slice(100, None), slice(None, -100)),
]


@pytest.mark.parametrize("window", WINDOWS)
def test_windows_are_cuts_of_the_whole(field, path, window):
    with open_field(path) as file:
        assert (file.shape, file.seed, file.index, file.survey) == (SHAPE, 5, 0, SURVEY)
        assert len(file.catalog) == len(field.catalog)
        read, cut = file.read(window), field.cut(window)
    for name in (*ARRAYS, "light", "other"):
        np.testing.assert_array_equal(getattr(read, name), getattr(field, name)[window], err_msg=name)
        np.testing.assert_array_equal(getattr(cut, name), getattr(field, name)[window], err_msg=name)
    np.testing.assert_array_equal(read.ternary(), field.ternary()[window])
    for name in ("catalog", "deeper"):
        for column in getattr(field, name).colnames:
            np.testing.assert_array_equal(getattr(read, name)[column], getattr(cut, name)[column])


def test_catalogue_of_a_window(field):
    window = (slice(100, 200), slice(50, 150))
    cut = field.cut(window)
    lit = [i for i in field.catalog["id"] if field.galaxy_mask(i, 0.0)[window].any()]
    x, y = (np.asarray(field.catalog[name]) for name in "xy")
    centred = (x >= 49.5) & (x < 149.5) & (y >= 99.5) & (y < 199.5)
    assert sorted(set(lit) | set(field.catalog["id"][centred])) == cut.catalog["id"].tolist()
    assert 0 < len(cut.catalog) < len(field.catalog)
    for row in cut.catalog:
        before = field.catalog[row["id"] - 1]
        assert (row["x"], row["y"]) == (before["x"] - 50, before["y"] - 100)
        np.testing.assert_array_equal(cut.galaxy_mask(row["id"]), field.galaxy_mask(row["id"])[window])
    some = cut.catalog["id"][[3, 1, 3]]
    assert cut.galaxies(some)["id"].tolist() == some.tolist()
    # The field itself is as it was.
    np.testing.assert_array_equal(field.catalog["x"], x)


@pytest.mark.parametrize(
    "window",
    [
        (slice(5, 5), slice(0, 9)),
        (slice(0, 9), slice(300, 400)),
        (slice(0, 9, 2), slice(0, 9)),
        (slice(9, 0, -1), slice(0, 9)),
        (slice(9, 5), slice(0, 9)),
        (slice(0, 9), slice(-5, 4)),  # before the first column: what counts from the end does not reach it
    ],
)
def test_windows_that_are_none(field, path, window):
    message = r"window .* is empty or has a step; the field is \(530, 300\)"
    with open_field(path) as file, pytest.raises(InputError, match=rf"field_0005_00\.fits: {message}"):
        file.read(window)
    with pytest.raises(InputError, match=message):
        field.cut(window)


def test_a_damaged_tile_is_named(path, tmp_path):
    broken = tmp_path / "broken.fits"
    with fits.open(path, disable_image_compression=True) as hdus:
        offset = hdus["FIRST"].fileinfo()["datLoc"] + hdus["FIRST"].header["NAXIS2"] * 16
    content = bytearray(path.read_bytes())
    content[offset + 30 : offset + 60] = bytes(30)
    broken.write_bytes(content)
    with pytest.raises(InputError, match=r"broken\.fits"):
        read_field(broken)
