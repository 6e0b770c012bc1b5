"""Objects of a field are those of the whole map, whatever blocks it was labelled in."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.files import InputError
from appulse.inference.blocks import Blocks, Pieces, join_pieces
from appulse.objects.components import label_objects
from appulse.segmentation import segment
from appulse.windows import common, cropped, grown
from by_hand import SAMPLES, by_hand, discs

MAPS = ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "segm2", "flags", "image")


@st.composite
def masks(draw):
    shape = draw(st.integers(1, 30)), draw(st.integers(1, 30))
    random = np.random.default_rng(draw(st.integers(0, 1000)))
    return random.random(shape) < draw(st.sampled_from([0.02, 0.2, 0.35, 0.6]))


@given(masks(), st.integers(1, 31), st.integers(1, 5))
def test_objects_joined_over_the_seams_are_those_of_the_whole(mask, size, min_area):
    blocks = Blocks(mask.shape, size)
    labels, pieces = np.zeros(mask.shape, np.int32), []
    for number in range(len(blocks)):
        core = blocks.core(number)
        labels[core], found = Pieces.of(mask[core], core, mask.shape[1])
        pieces.append(found)
    objects = join_pieces(pieces, blocks, min_area)
    expected, boxes = label_objects(mask, min_area)
    whole = slice(0, mask.shape[0]), slice(0, mask.shape[1])
    np.testing.assert_array_equal(objects.label(labels, whole, blocks), expected)
    assert [objects.box(number) for number in range(1, len(objects) + 1)] == boxes
    owned = [objects.owned_by(number, blocks) for number in range(len(blocks))]
    np.testing.assert_array_equal(np.sort(np.concatenate(owned)), np.arange(1, len(boxes) + 1))


@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 41), st.data())
def test_cores_make_up_the_image_and_windows_find_their_blocks(height, width, size, data):
    blocks = Blocks((height, width), size)
    owner = np.full((height, width), -1)
    for number in range(len(blocks)):
        assert (owner[blocks.core(number)] == -1).all()
        owner[blocks.core(number)] = number
    np.testing.assert_array_equal(owner, blocks.owner(*np.mgrid[:height, :width]))
    y, x = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
    window = grown((slice(y, y + 1), slice(x, x + 1)), data.draw(st.integers(0, 9)), (height, width))
    np.testing.assert_array_equal(blocks.meeting(window), np.unique(owner[window]))
    core = blocks.core(owner[y, x])
    shared = common(core, window)
    values = np.arange(height * width).reshape(height, width)
    np.testing.assert_array_equal(values[shared], values[core][cropped(shared, core)])


def same(one, other):
    for name in MAPS:
        assert getattr(one, name).tobytes() == getattr(other, name).tobytes(), name
    assert one.realisations().tobytes() == other.realisations().tobytes()
    for name in one.catalog.colnames:
        assert np.asarray(one.catalog[name]).tobytes() == np.asarray(other.catalog[name]).tobytes(), name
    assert len(one.pairs) == len(other.pairs)
    for name in one.pairs.colnames if len(one.pairs) else ():
        np.testing.assert_array_equal(one.pairs[name], other.pairs[name])
    for cutout, twin in zip(one.cutouts, other.cutouts, strict=True):
        assert cutout.window == twin.window and (cutout.mask == twin.mask).all()
    assert one.provenance == other.provenance


def bridged_pair(shape, x, y):
    """Two galaxies whose light meets between one and two sigma at a column; too faint for overlaps."""
    rows, columns = np.indices(shape)
    return sum(
        5 * np.exp(-((columns - x - side * 9.57) ** 2 + (rows - y) ** 2) / 50.0) for side in (-1, 1)
    ).astype(np.float32)


def test_a_bridge_on_a_seam_is_cut_alike():
    image = bridged_pair((100, 256), 128, 50) + discs((100, 256), noise=0.1)
    options = {"model": by_hand(), "samples": SAMPLES, "rms": 1.0, "subtract_background": False}
    whole = segment(image, **options)
    assert len(label_objects(whole.ternary, 1)[1]) == 2
    same(whole, segment(image, block=64, **options))
    same(whole, segment(image, block=128, **options))


@settings(max_examples=8)
@given(
    shape=st.tuples(st.integers(40, 260), st.integers(40, 260)),
    block=st.sampled_from([64, 128, 192]),
    seed=st.integers(0, 10**6),
    method=st.sampled_from(["two-step", "sliding", "grid"]),
    noise=st.sampled_from([{"rms": 1.0}, {}, {"variance": "map"}]),
)
def test_no_byte_depends_on_the_blocks(shape, block, seed, method, noise):
    random = np.random.default_rng(seed)
    circles = [
        (random.uniform(0, shape[1]), random.uniform(0, shape[0]), random.uniform(3, 9)) for _ in range(8)
    ]
    # On the corner of four blocks, and one larger than a stamp; both across seams.
    circles += [(128, 128, 8), (64 + random.uniform(-9, 9), 64, 8), (shape[1] / 2, shape[0] / 2, 30)]
    image = discs(shape, *circles, seed=seed) + bridged_pair(shape, 128, 0.7 * shape[0])
    image[10:20, 55:75] = np.nan
    if noise.get("variance") == "map":
        noise = {"variance": np.clip(1 + 0.2 * image, 0.3, None)}
    options = {"model": by_hand(), "samples": SAMPLES, "method": method, **noise}
    same(segment(image, **options), segment(image, block=block, **options))


@pytest.mark.parametrize("block", [0, 32, 100, -64])
def test_blocks_that_cut_stamps_are_refused(block):
    with pytest.raises(InputError, match=rf"block is {block}; it must be a multiple of .* stamp \(64\)"):
        segment(discs((70, 70)), model=by_hand(), samples=2, block=block)
