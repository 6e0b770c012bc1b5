"""Pictures, read back from the drawn figure and from the file; no pixel of the rendering is compared."""

import dataclasses
import io
import itertools
import struct
import zlib

import matplotlib
import numpy as np
import pytest
from astropy.table import Table
from matplotlib.figure import Figure

from appulse.busiest import LARGEST
from appulse.inference.realisations import Realisations
from appulse.objects import build_catalog
from appulse.pictures import save_figure
from appulse.preview import field_figure, galaxy_figure
from appulse.result import GalaxyCutout, Result


def made_by_hand(shape=(60, 80), windows=(np.s_[5:20, 10:30], np.s_[12:30, 25:45]), samples=3, blended=True):
    covered = np.zeros(shape, np.uint8)
    for window in windows:
        covered[window] += 1
    rows = [
        {"label": i, "blend_id": int(blended), "area": 10.0, "ellipticity": 0.1}
        | {"bbox_ymin": y.start, "bbox_ymax": y.stop - 1, "bbox_xmin": x.start, "bbox_xmax": x.stop - 1}
        for i, (y, x) in enumerate(windows, 1)
    ]
    store = Realisations(samples, shape)
    store.put(np.s_[0 : shape[0], 0 : shape[1]], np.broadcast_to(covered, (samples, *shape)))
    mean, std = store.mean_and_std()
    return Result(
        catalog=build_catalog(rows),
        pairs=Table(),
        ternary=covered,
        mean=mean,
        std=std,
        p_galaxy=np.float32(covered > 0),
        p_overlap=np.float32(covered > 1),
        segm=np.int32(covered > 0),
        segm2=np.int32(covered > 1),
        flags=np.zeros(shape, np.uint8),
        image=np.random.default_rng(0).standard_normal(shape).astype(np.float32) + 9 * covered,
        background=np.zeros(shape, np.float32),
        background_rms=np.ones(shape, np.float32),
        header=None,
        provenance={"samples": samples},
        cutouts=tuple(GalaxyCutout(window, np.ones(covered[window].shape, bool)) for window in windows),
        realisation_store=store,
    )


def shown(axes):
    return np.ma.filled(axes.get_images()[0].get_array(), np.nan)


def test_a_fields_picture_shows_its_maps_the_right_way_up():
    result = made_by_hand()
    figure = field_figure(result)
    panels = {axes.get_title(): axes for axes in figure.axes if axes.get_title()}
    assert len(panels) == 4
    mean, std, classes = (
        next(axes for title, axes in panels.items() if title.startswith(word))
        for word in ("mean of 3", "standard deviation", "class map")
    )
    np.testing.assert_array_equal(shown(mean), result.mean)
    np.testing.assert_array_equal(shown(std), result.std)
    np.testing.assert_array_equal(shown(classes), result.ternary)
    assert "2 galaxies, 2 of them in blends" in " ".join(panels)
    for axes in panels.values():
        picture = axes.get_images()[0]
        assert picture.origin == "lower" and tuple(picture.get_extent()) == (-0.5, 79.5, -0.5, 59.5)
        assert axes.get_xlim() == (-0.5, 79.5) and axes.get_ylim() == (-0.5, 59.5)


def test_outlines_lie_on_the_edges_of_the_masks():
    result = made_by_hand(windows=(np.s_[5:20, 10:30],), blended=False)
    image_axes = field_figure(result).axes[0]
    (outline,) = [each for each in image_axes.collections if each.get_paths()]
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert vertices.min(axis=0) == pytest.approx([9.5, 4.5])
    assert vertices.max(axis=0) == pytest.approx([29.5, 19.5])


def test_galaxies_of_a_blend_are_told_apart_by_colour():
    axes = field_figure(made_by_hand()).axes[0]
    colours = {tuple(np.ravel(each.get_edgecolor())[:3]) for each in axes.collections}
    assert len(colours) == 2


@pytest.mark.parametrize("shape", [(60, 80), (8, 300), (300, 8)])
def test_a_field_without_galaxies_or_of_any_shape_is_drawn(shape):
    figure = field_figure(made_by_hand(shape, windows=()))
    assert "0 galaxies" in figure.axes[0].get_title()
    figure.draw_without_rendering()


@pytest.mark.parametrize("shape", [(60, 80), (30, 300), (300, 100), (300, 30)])
def test_the_panels_lie_on_a_grid_that_fills_the_picture(shape):
    figure = field_figure(made_by_hand(shape, windows=()))
    figure.draw_without_rendering()
    image, mean, std, classes = (axes.get_position() for axes in figure.axes if axes.get_title())
    for left, right in ((image, mean), (std, classes)):
        np.testing.assert_allclose(left.intervaly, right.intervaly)
    for upper, lower in ((image, std), (mean, classes)):
        np.testing.assert_allclose(upper.intervalx, lower.intervalx)
    titles = [axes.title.get_window_extent() for axes in figure.axes if axes.get_title()]
    assert not any(one.overlaps(other) for one, other in itertools.combinations(titles, 2))
    within = figure.get_tightbbox()  # with every label; inches
    width, height = figure.get_size_inches()
    assert 0 <= within.x0 < 0.4 and 0 <= within.y0 < 0.4
    assert 0 <= width - within.x1 < 0.4 and 0 <= height - within.y1 < 0.4


def test_a_field_of_bad_pixels_is_drawn():
    result = made_by_hand(windows=())
    result.image[:] = np.nan
    field_figure(result).draw_without_rendering()


def test_a_large_field_is_shown_by_its_busiest_part():
    corner = np.s_[700:760, 20:90]
    result = made_by_hand((900, 1000), windows=(corner, np.s_[720:780, 60:120], np.s_[10:20, 900:910]))
    axes = field_figure(result).axes[0]
    left, right, bottom, top = axes.get_images()[0].get_extent()
    assert right - left == top - bottom == LARGEST
    assert left <= 20 and right >= 120 and bottom <= 700 and top >= 780


def test_only_what_is_shown_is_read():
    """On disk a cutout costs reading its block: those outside must not be asked for."""
    result = made_by_hand((900, 1000), windows=(np.s_[720:760, 20:90], np.s_[10:20, 900:910]))
    first, _ = result.cutouts
    result = dataclasses.replace(result, cutouts=(first, None))
    axes = field_figure(result, np.s_[300:900, 0:600]).axes[0]
    (outline,) = [each for each in axes.collections if each.get_paths()]
    vertices = np.concatenate([path.vertices for path in outline.get_paths()])
    assert vertices.min(axis=0) == pytest.approx([19.5, 719.5])


@pytest.mark.parametrize("samples", [1, 3, 9])
def test_a_galaxys_picture_shows_its_surroundings_and_a_few_realisations(samples):
    result = made_by_hand(samples=samples)
    figure = galaxy_figure(result, 2)
    window = result.cutouts[1].window
    titles = [axes.get_title() for axes in figure.axes if axes.get_visible()]
    assert "galaxy 2" in titles and sum("realisation" in title for title in titles) == min(samples, 4)
    pictures = {axes.get_title(): axes for axes in figure.axes if axes.get_visible()}
    np.testing.assert_array_equal(shown(pictures["class map"]), result.ternary[window])
    np.testing.assert_array_equal(shown(pictures["realisation 0"]), result.realisations(2)[0])
    assert result.show(2).axes[0].get_title() == "galaxy 2"


def chunks(png):
    """Types of the chunks of a PNG file, each with its checksum verified."""
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    position, found = 8, []
    while position < len(png):
        (length,) = struct.unpack(">I", png[position : position + 4])
        kind, body = png[position + 4 : position + 8], png[position + 8 : position + 8 + length]
        (checksum,) = struct.unpack(">I", png[position + 8 + length : position + 12 + length])
        assert zlib.crc32(kind + body) == checksum
        found.append(kind)
        position += 12 + length
    return found


def test_the_file_is_a_png_without_date_and_always_the_same(tmp_path):
    figures = {name: field_figure(made_by_hand()) for name in ("a.png", "b.png")}
    paths = [save_figure(figure, tmp_path / name, dpi=110) for name, figure in figures.items()]
    one, two = (path.read_bytes() for path in paths)
    assert one == two and not {b"tIME", b"tEXt"} & set(chunks(one))
    assert sorted(tmp_path.iterdir()) == paths


def test_a_notebook_shows_the_pictures():
    """IPython asks what ends a cell for its bytes; that pyplot does not know the figure is no matter."""
    result = made_by_hand()
    for figure in (result.plot(), result.plot(np.s_[0:30, 0:30]), result.show(1)):
        drawn = matplotlib.image.imread(io.BytesIO(figure._repr_png_()))
        assert drawn.std() > 0.1


def test_no_window_opens_and_no_style_changes():
    before = dict(matplotlib.rcParams)
    assert isinstance(made_by_hand().plot(), Figure)
    assert dict(matplotlib.rcParams) == before


@pytest.mark.parametrize("of_one", [False, True])
def test_bad_pixels_are_of_one_colour_in_every_panel(of_one):
    result = made_by_hand()
    bad = np.zeros(result.ternary.shape, bool)
    bad[8:12, 14:17] = True
    maps = {
        name: np.where(bad, np.nan, getattr(result, name)) for name in ("p_galaxy", "mean", "std", "image")
    }
    result = dataclasses.replace(result, **maps)
    figure = galaxy_figure(result, 1) if of_one else field_figure(result)
    window = result.cutout(1).window if of_one else np.s_[:, :]
    panels = [axes for axes in figure.axes if axes.get_title() and axes.get_images()]
    assert len(panels) == (7 if of_one else 4)
    for axes in panels:
        np.testing.assert_array_equal(np.isnan(shown(axes)), bad[window], err_msg=axes.get_title())
    assert len({axes.get_facecolor() for axes in panels}) == 1
