"""Separation of scenes whose galaxies are known by construction."""

import numpy as np
import pytest

from appulse.objects import divide_at_peaks, separate
from appulse.objects.components import label_connected
from appulse.objects.peaks import find_peaks, smooth

ROWS, COLUMNS = np.mgrid[:40, :50]


def disc(x, y, radius):
    return np.hypot(COLUMNS - x, ROWS - y) <= radius


def ternary_of(*masks):
    return np.minimum(np.sum(masks, axis=0), 2).astype(np.uint8)


def exponential(x, y, peak, scale):
    return peak * np.exp(-np.hypot(COLUMNS - x, ROWS - y) / scale)


def test_empty_map_holds_no_galaxy():
    separation = separate(np.zeros((7, 9), dtype=np.uint8))
    assert separation.masks.shape == (0, 7, 9)
    assert separation.nested.shape == (0,)


def test_lone_galaxy_is_its_whole_mask():
    ternary = ternary_of(disc(20, 18, 8))
    image = exponential(20, 18, 30, 2.4) + np.random.default_rng(1).normal(size=ternary.shape)
    for found in (separate(ternary), separate(ternary, image)):
        np.testing.assert_array_equal(found.masks, [ternary > 0])
        assert not found.nested.any()


@pytest.mark.parametrize("separation", [6, 9, 12, 15])
def test_overlapping_discs_come_back_pixel_for_pixel(separation):
    left, right = disc(16, 20, 9), disc(16 + separation, 20, 7.5)
    found = separate(ternary_of(left, right)).masks
    assert found.shape[0] == 2
    assert np.count_nonzero(found[0] != left) <= 2
    assert np.count_nonzero(found[1] != right) <= 2


def test_nested_galaxy_is_the_overlap_and_the_host_is_everything():
    host, inner = disc(22, 20, 14), disc(26, 22, 5)
    found = separate(ternary_of(host, inner))
    np.testing.assert_array_equal(found.masks, [host, inner])
    np.testing.assert_array_equal(found.nested, [False, True])


def test_crossed_discs_seen_edge_on_are_two_although_they_leave_four_arms():
    flat = (np.abs(ROWS - 20) <= 2) & (np.abs(COLUMNS - 24) <= 15)
    upright = (np.abs(COLUMNS - 24) <= 2) & (np.abs(ROWS - 20) <= 15)
    found = separate(ternary_of(flat, upright)).masks
    assert len(found) == 2
    assert {mask.sum() for mask in found} == {flat.sum(), upright.sum()}


def test_two_lenses_in_a_chain_are_three_galaxies():
    chain = disc(12, 20, 6), disc(22, 20, 6), disc(32, 20, 6)
    assert len(separate(ternary_of(*chain)).masks) == 3


def test_touching_galaxies_need_a_deep_saddle():
    left, right = disc(14, 20, 6), disc(27, 20, 6)
    ternary = ((left | right) | ((np.abs(ROWS - 20) <= 1) & (np.abs(COLUMNS - 20.5) <= 1))).astype(np.uint8)
    noise = np.random.default_rng(2).normal(size=ternary.shape)
    two_peaks = exponential(14, 20, 40, 1.7) + exponential(27, 20, 30, 1.7) + noise
    one_peak = exponential(20.5, 20, 40, 4) + noise
    assert len(separate(ternary, two_peaks).masks) == 2
    assert len(separate(ternary, one_peak).masks) == 1


@pytest.mark.parametrize("lit", [False, True], ids=["no image", "flat image"])
def test_a_galaxy_that_only_touches_others_is_proposed_by_a_dip_of_p_galaxy(lit):
    """Without a peak of light of its own, and small enough to pass for the end of its neighbour."""
    pair, third = (disc(12, 20, 6), disc(21, 20, 6)), disc(28, 20, 4)
    ternary = ternary_of(*pair) | third
    image = 3.0 * (ternary > 0) if lit else None

    def galaxies(dip):
        valleys = sum(np.exp(-((COLUMNS - x) ** 2) / 6) for x in (16.5, 25.5))
        return separate(ternary, image, p_galaxy=0.95 * (ternary > 0) * (1 - dip * valleys)).masks

    assert len(separate(ternary, image).masks) == len(galaxies(0.0)) == 2
    found = galaxies(0.5)
    assert len(found) == 3
    assert (found[2] & third).sum() > 0.7 * (found[2] | third).sum()


def test_a_companion_on_the_flank_without_a_peak_of_its_own_is_found():
    noise = np.random.default_rng(4).normal(size=(61, 61))
    rows, columns = np.mgrid[:61, :61]

    def light(x, y, peak, sigma):
        return peak * np.exp(-((columns - x) ** 2 + (rows - y) ** 2) / (2 * sigma**2))

    main, companion = light(30, 30, 200, 6), light(38, 30, 60, 1.5)
    union = main > 1
    peaks = find_peaks(smooth(main + companion), union)
    assert (peaks.dip > 0.25 * peaks.height).sum() == 1  # the light has no second peak with a deep saddle
    assert len(divide_at_peaks(union, main + companion + noise)) == 2
    assert len(divide_at_peaks(union, main + noise)) == 1


def test_photon_noise_of_a_bright_galaxy_is_no_companion():
    rng = np.random.default_rng(5)
    rows, columns = np.mgrid[:61, :61]
    for peak in (30, 100, 300, 1000):
        light = peak * np.exp(-np.hypot(columns - 30, rows - 30) / 4)
        for _ in range(10):  # a tenth of the light adds to the variance, as in images from space
            noisy = light + rng.normal(size=light.shape) * np.sqrt(1 + 0.1 * light)
            assert len(divide_at_peaks(light > 1, noisy)) == 1


def test_noise_peaks_do_not_split_a_flat_galaxy():
    ternary = ternary_of(disc(22, 20, 12))
    rng = np.random.default_rng(3)
    counts = [len(separate(ternary, 3 + rng.normal(size=ternary.shape)).masks) for _ in range(50)]
    assert counts == [1] * 50


def test_speckles_of_overlap_do_not_make_a_blend():
    ternary = ternary_of(disc(22, 20, 8))
    ternary[20, 22:25] = 2
    found = separate(ternary, exponential(22, 20, 30, 2.5)).masks
    np.testing.assert_array_equal(found, [ternary > 0])


def test_separate_components_are_separated_each_by_itself():
    a, b, c = disc(10, 10, 5), disc(15, 10, 4), disc(38, 30, 6)
    found = separate(ternary_of(a, b, c)).masks
    assert len(found) == 3
    np.testing.assert_array_equal(found[0], c)


def test_position_in_the_cutout_does_not_matter():
    ternary = ternary_of(disc(20, 18, 8), disc(27, 22, 6))
    expected = separate(ternary).masks
    padded = separate(np.pad(ternary, ((3, 5), (7, 1)))).masks
    np.testing.assert_array_equal(padded[:, 3:-5, 7:-1], expected)


@pytest.mark.parametrize("size", [1, 8])
def test_a_large_object_is_separated_like_a_small_one(size):
    # From 8000 pixels on, ellipses are fitted to every second, third, ... row and column.
    rows, columns = np.mgrid[: 40 * size, : 50 * size]
    left = np.hypot(columns - 18 * size, rows - 20 * size) <= 11 * size
    right = np.hypot(columns - 32 * size, rows - 19 * size) <= 8 * size
    found = separate(ternary_of(left, right)).masks
    assert len(found) == 2
    for mask, true in zip(found, (left, right), strict=True):
        assert (mask & true).sum() / (mask | true).sum() > 0.97


def giant_with_companions(companions, brightness=400, side=161):
    """A giant with small galaxies inside it and across its border: masks, and light with noise."""
    rows, columns = np.mgrid[:side, :side]
    centre = side // 2
    masks, light = [], np.random.default_rng(5).normal(size=(side, side))
    for x, y, radius, peak in ((centre, centre, 60, brightness), *companions):
        distance = np.hypot(columns - x, rows - y)
        masks.append(distance <= radius)
        light += peak * np.exp(-distance / (radius / np.log(peak)))
    return masks, light


# x, y, radius (pixels) and peak; three lie inside, two across the border, two share pixels of their own.
COMPANIONS = (
    (60, 60, 5, 60),
    (100, 110, 6, 80),
    (50, 100, 5, 60),
    (139, 80, 6, 60),
    (81, 22, 7, 80),
    (110, 60, 6, 80),
    (118, 66, 6, 80),
)


@pytest.mark.parametrize(("count", "peak"), [(3, 400), (4, 400), (6, 400), (7, 400), (7, 60)])
def test_companions_of_a_giant_come_back_whole_and_so_does_the_giant(count, peak):
    masks, light = giant_with_companions(COMPANIONS[:count], peak)
    found = separate(ternary_of(*masks), light).masks
    assert len(found) == count + 1
    iou = np.array([[(one & other).sum() / (one | other).sum() for other in found] for one in masks])
    np.testing.assert_array_less(0.8, iou.max(axis=1))
    assert len(set(iou.argmax(axis=1))) == count + 1


@pytest.mark.parametrize(("seed", "peak", "count"), [(45, 30, 9), (4, 60, 8)])
def test_the_brightest_galaxy_need_not_be_the_giant(seed, peak, count):
    rng = np.random.default_rng(seed)
    companions = []
    for _ in range(rng.integers(3, 9)):
        angle, away = rng.uniform(0, 6.28), rng.uniform(5, 62)
        x, y = 80 + away * np.cos(angle), 80 + away * np.sin(angle)
        companions.append((x, y, rng.uniform(5, 14), np.exp(rng.uniform(3.5, 6))))
    masks, light = giant_with_companions(companions, peak)
    found = separate(ternary_of(*masks), light).masks
    assert len(found) == len(masks) == count
    iou = np.array([[(one & other).sum() / (one | other).sum() for other in found] for one in masks])
    np.testing.assert_array_less(0.5, iou.max(axis=1))


def chain_of_ellipses(seed):
    """Three to six galaxies, each across the border of an earlier one; two overlaps in five are not drawn."""
    rng = np.random.default_rng(seed)
    count = rng.integers(3, 7)
    rows, columns = np.indices((120, 120))
    light = rng.normal(size=rows.shape)
    masks, placed = [], []
    for number in range(count):
        radius, ratio, angle = rng.uniform(5, 18), rng.uniform(0.35, 1), rng.uniform(0, 3.14)
        x, y = 60.0, 60.0
        if number:
            away = rng.uniform(0, 6.28)
            x0, y0, radius0 = placed[rng.integers(len(placed))]
            x = x0 + (radius0 + 0.6 * radius) * np.cos(away)
            y = y0 + (0.8 * radius0 + 0.5 * radius) * np.sin(away)
        x, y = np.clip([x, y], 22, 98)
        placed.append((x, y, radius))
        along = (columns - x) * np.cos(angle) + (rows - y) * np.sin(angle)
        across = (rows - y) * np.cos(angle) - (columns - x) * np.sin(angle)
        distance = np.hypot(along, across / ratio)
        masks.append(distance < radius)
        peak = np.exp(rng.uniform(2, 5.5))
        light += peak * np.exp(-distance / radius * np.log(peak))
    ternary = ternary_of(*masks)
    overlaps, n_overlaps = label_connected(ternary == 2)
    for number in range(1, n_overlaps + 1):
        if rng.random() < 0.4:
            ternary[overlaps == number] = 1
    return masks, ternary, light


# Found by search: each loses a galaxy without one part of what starts, settles and chooses sets of ellipses.
@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(15, id="basins, and sets that part all peaks"),
        pytest.param(18, id="basins"),
        pytest.param(57, id="halves"),
        pytest.param(99, id="sets that part all peaks"),
        pytest.param(150, id="pixels out of reach, and halves"),
        pytest.param(237, id="pixels out of reach, and sets that part all peaks"),
        pytest.param(252, id="basins and halves"),
        pytest.param(298, id="sets that part all peaks but one"),
    ],
)
def test_chains_of_galaxies_come_back_though_not_all_overlaps_are_drawn(seed):
    masks, ternary, light = chain_of_ellipses(seed)
    found = separate(ternary, light).masks
    iou = np.array([[(one & other).sum() / (one | other).sum() for other in found] for one in masks])
    assert len(found) == len(masks)
    np.testing.assert_array_less(0.5, iou.max(axis=1))


def test_a_companion_in_the_middle_of_a_galaxy_that_touches_another_needs_no_peak():
    host, inner, neighbour = disc(16, 20, 12), disc(16, 20, 4), disc(36, 20, 10)
    image = exponential(16, 20, 200, 2.4) + exponential(36, 20, 60, 2.4)
    found = separate(ternary_of(host, inner, neighbour), image).masks
    assert [mask.sum() for mask in found] == [host.sum(), neighbour.sum(), inner.sum()]
    for mask, true in zip(found, (host, neighbour, inner), strict=True):
        assert np.count_nonzero(mask != true) <= 2


def test_flank_of_a_neighbour_is_not_a_galaxy():
    # The map holds the left galaxy only; the image rises again toward the right one.
    left = disc(16, 20, 9)
    image = exponential(16, 20, 40, 2.4) + exponential(29, 20, 400, 3)
    assert len(separate(left.astype(np.uint8), image).masks) == 1


def test_an_image_of_either_byte_order_and_layout():
    ternary = ternary_of(disc(20, 18, 8), disc(27, 22, 6))
    image = exponential(20, 18, 30, 2.4) + exponential(27, 22, 30, 2)
    expected = separate(ternary, image).masks
    for variant in (image.astype(">f4"), np.asfortranarray(image)):
        np.testing.assert_array_equal(separate(ternary, variant).masks, expected)


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match="2-D"):
        separate(np.zeros((2, 3, 4), dtype=np.uint8))
    with pytest.raises(ValueError, match="image has shape"):
        separate(np.zeros((3, 4), dtype=np.uint8), np.zeros((4, 3)))
