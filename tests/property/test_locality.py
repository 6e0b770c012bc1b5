"""What is wrong with some pixels changes nothing beyond one stamp and two mesh cells from them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.files import InputError
from appulse.inference.background import scale_to_noise
from appulse.inference.mesh import CELL
from appulse.segmentation import segment
from by_hand import SAMPLES, SIZE, by_hand, discs

SHAPE = (256, 576)
GAIN = 1 / 3  # variance per unit of light; the sky's variance is 1


def scene(seed):
    """Light and noisy image, in units of the sky's noise: discs with bright cores, a step in depth."""
    random = np.random.default_rng(seed)
    circles = random.uniform((0, 0, 3), (SHAPE[1], SHAPE[0], 7), (50, 3))
    light = discs(SHAPE, *circles, noise=0) + 12 * discs(SHAPE, *(circles * (1, 1, 0.4)), noise=0)
    sky = 1 + 0.3 * (np.arange(SHAPE[1]) > 400)
    return light, light + np.sqrt(sky + GAIN * light) * random.standard_normal(SHAPE), sky + 0 * light


def supplied(kind, light, image, sky):
    if kind == "plain":
        return {}
    values = {
        "rms": np.sqrt(sky),
        "weight": 1 / sky,
        "variance like HST's": sky + GAIN * light,
        "variance like Rubin's": np.maximum(sky + GAIN * image, 0.1),
    }[kind]
    return {kind.split()[0]: values}


KINDS = ("plain", "rms", "weight", "variance like HST's", "variance like Rubin's")


@st.composite
def patches(draw):
    """A rectangle in the left quarter, and what becomes of it."""
    height, width = draw(st.integers(1, 200)), draw(st.integers(1, 100))
    top, left = draw(st.integers(0, SHAPE[0] - height)), draw(st.integers(0, 150 - width))
    return np.s_[top : top + height, left : left + width], draw(st.sampled_from(["map", "mask", "NaN", "0"]))


def damaged(image, given, patch, how):
    image, given = image.copy(), {name: values.copy() for name, values in given.items()}
    if how == "NaN":
        image[patch] = np.nan
    elif how == "0":
        image[patch] = 0
    elif how == "mask" or not given:
        given["mask"] = np.zeros(image.shape, np.uint8)
        given["mask"][patch] = 1
    else:
        for values in given.values():
            values[patch] = 0  # no weight, and no noise that could be
    return image, given


def beyond(patch, reach):
    """Pixels further than that from the mesh cells of a patch."""
    far = np.ones(SHAPE, bool)
    rows, columns = (
        slice(max(side.start // CELL * CELL - reach, 0), -(-side.stop // CELL) * CELL + reach)
        for side in patch
    )
    far[rows, columns] = False
    return far


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=3)
@given(seed=st.integers(0, 999), damage=patches())
def test_scaled_pixels_know_nothing_beyond_two_cells(kind, seed, damage):
    light, image, sky = scene(seed)
    maps = supplied(kind, light, image, sky)
    expected = scale_to_noise(image, **maps)
    other, other_maps = damaged(image, maps, *damage)
    result = scale_to_noise(other, **other_maps)
    far = beyond(damage[0], 2 * CELL)
    assert far.any() and (damage[1] == "0" or result.bad[damage[0]].all())
    for name in ("scaled", "sigma", "background", "noise", "bad", "correlated"):
        assert getattr(result, name)[far].tobytes() == getattr(expected, name)[far].tobytes(), name


@settings(max_examples=3)
@given(
    kind=st.sampled_from(KINDS),
    seed=st.integers(0, 999),
    damage=patches(),
    method=st.sampled_from(["two-step", "sliding", "grid"]),
)
def test_maps_know_nothing_beyond_a_stamp_and_two_cells(kind, seed, damage, method):
    light, image, sky = scene(seed)
    maps = supplied(kind, light, image, sky)
    other, other_maps = damaged(image, maps, *damage)
    options = {"model": by_hand(), "samples": SAMPLES, "method": method}
    expected, result = segment(image, **maps, **options), segment(other, **other_maps, **options)
    far = beyond(damage[0], 2 * CELL + SIZE)
    assert far.any()
    for name in ("p_galaxy", "p_overlap", "mean", "std", "ternary", "flags"):
        assert getattr(result, name)[far].tobytes() == getattr(expected, name)[far].tobytes(), name
    every = slice(0, SHAPE[0]), slice(0, SHAPE[1])
    drawn, before = (each.realisation_store.get(every)[:, far] for each in (result, expected))
    assert drawn.tobytes() == before.tobytes()


@pytest.mark.parametrize("kind", KINDS[3:])
def test_slopes_of_two_chips_are_both_found(kind):
    """Two detectors side by side, of different gains: no slope of the whole image is right for either."""
    random = np.random.default_rng(5)
    light, _, _ = scene(5)
    gain = np.where(np.arange(SHAPE[1]) < SHAPE[1] // 2, 0.2, 0.8)
    image = light + np.sqrt(1 + gain * light) * random.standard_normal(SHAPE)
    variance = np.maximum(1 + gain * (light if "HST" in kind else image), 0.05)
    result = scale_to_noise(image, variance=variance)
    middle = np.abs(np.arange(SHAPE[1]) - SHAPE[1] // 2) < 3 * CELL
    for bright in (light > 5) & ~middle, (light == 0) & ~middle:
        for half in np.s_[:, : SHAPE[1] // 2], np.s_[:, SHAPE[1] // 2 :]:
            assert np.median(result.sigma[half][bright[half]]) == pytest.approx(1, abs=0.04)


@pytest.mark.parametrize(("method", "photons"), [("two-step", True), ("sliding", False)])
def test_two_halves_agree_with_the_whole_away_from_the_cut(method, photons):
    """Each half knows where it was cut; its background is its own."""
    shape, corner, end = (448, 768), (192, 384), 448
    random = np.random.default_rng(3)
    circles = random.uniform((0, 0, 3), (shape[1], shape[0], 8), (150, 3))
    light = discs(shape, *circles, noise=0)
    image = 9 + light + np.sqrt(1 + 0.3 * photons * light) * random.standard_normal(shape)
    given = {"variance": 1 + 0.3 * light} if photons else {"rms": np.ones(shape)}
    options = {"model": by_hand(), "samples": SAMPLES, "method": method, "block": 128}
    whole = segment(image, **given, **options)
    reach = 2 * CELL + SIZE
    halves = (
        (np.s_[:, :end], np.s_[:, : end - reach]),
        (np.s_[corner[0] :, corner[1] :], np.s_[reach:, reach:]),
    )
    for cut, away in halves:
        origin = cut[0].start or 0, cut[1].start or 0
        half = segment(image[cut], **{k: v[cut] for k, v in given.items()}, origin=origin, **options)
        for name in ("p_galaxy", "p_overlap", "mean", "std", "ternary", "flags", "image"):
            expected = getattr(whole, name)[cut][away]
            assert getattr(half, name)[away].tobytes() == expected.tobytes(), name
        for name in ("segm", "segm2"):  # one to one
            labels = np.stack([getattr(half, name)[away].ravel(), getattr(whole, name)[cut][away].ravel()])
            unique = np.unique(labels, axis=1)
            assert all(len(np.unique(side)) == unique.shape[1] for side in unique)
        assert_same_rows(half.catalog, whole.catalog, origin, away, half.ternary.shape)


PLACES = ("x_centroid", "y_centroid", "bbox_")


def assert_same_rows(part, whole, origin, away, shape):
    """Rows of the galaxies away from the cut, in the same order, but for their labels."""
    tables = []
    for table, offset in ((part, (0, 0)), (whole, origin)):
        y, x = (table[f"{axis}_centroid"].value - at for axis, at in zip("yx", offset, strict=True))
        inside = np.ones(len(table), bool)
        for place, side, length in zip((y, x), away, shape, strict=True):
            inside &= (place >= (side.start or 0)) & (place < (side.stop or length))
        tables.append((table[inside], offset))
    (one, _), (other, (y0, x0)) = tables
    assert len(one) == len(other) > 2
    for name in set(one.colnames) - {"label"}:
        a, b = (np.asarray(table[name]) for table in (one, other))
        if name == "blend_id":
            a, b = a > 0, b > 0
        shift = {"x": x0, "y": y0}[name.removeprefix("bbox_")[0]] if name.startswith(PLACES) else 0
        if "centroid" in name:
            np.testing.assert_allclose(a, b - shift, atol=1e-9, err_msg=name)
        else:
            assert a.tobytes() == (b - shift if shift else b).tobytes(), name


@pytest.mark.parametrize("origin", [(0, 64), (-192, 0), (0, 193)])
def test_a_cut_beside_the_grid_is_refused(origin):
    with pytest.raises(InputError, match="both multiples of 192"):
        segment(discs((70, 70)), model=by_hand(), samples=2, origin=origin)
