"""The ensemble against a naive loop, and against what the realisations were made of."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, label

from appulse.objects import Separation, light_shares, measure, measure_ensemble, separate

ROWS, COLUMNS = np.mgrid[:36, :44]
QUANTITIES = ("area", "flux", "half_light_radius", "ellipticity", "orientation")


def exponential(x, y, peak, scale):
    return peak * np.exp(-np.hypot(COLUMNS - x, ROWS - y) / scale)


def ternary_of(light, threshold=1.0):
    return np.minimum((light > threshold).sum(axis=0), 2).astype(np.uint8)


def realisations_of(light, samples, rng):
    """Isophotes at levels that vary smoothly over the stamp, as the copula's do."""
    stack = []
    for _ in range(samples):
        field = gaussian_filter(rng.normal(size=ROWS.shape), 3)
        stack.append(ternary_of(light, np.exp(0.2 * field / field.std())))
    return np.stack(stack)


@pytest.fixture
def pair():
    return np.stack([exponential(17, 17, 60, 2.4), exponential(27, 19, 40, 2.2)])


def naive_ensemble(realisations, masks, image, min_iou=0.3):
    """One realisation and one galaxy at a time; the best matching by trying every pair, best first."""
    n, samples = len(masks), len(realisations)
    result = {name: np.full((n, samples), np.nan) for name in (*QUANTITIES, "overlap_area")}
    for s in range(samples):
        found = separate(realisations[s], image).masks
        shares = light_shares(image, found)
        candidates = sorted(
            ((f & m).sum() / (f | m).sum(), i, j) for i, f in enumerate(found) for j, m in enumerate(masks)
        )[::-1]
        used_i, used_j = set(), set()
        for iou, i, j in candidates:
            if iou >= min_iou and i not in used_i and j not in used_j:
                used_i.add(i)
                used_j.add(j)
                numbers = measure(image, found[i], shares[i])
                for name in QUANTITIES:
                    result[name][j, s] = getattr(numbers, name)
                others = np.delete(found, i, axis=0).any(axis=0)
                result["overlap_area"][j, s] = (found[i] & others).sum()
    return result


def test_agrees_with_a_naive_loop(pair):
    rng = np.random.default_rng(12)
    image = pair.sum(axis=0) + rng.normal(size=ROWS.shape)
    realisations = realisations_of(pair, 12, rng)
    reference = separate(ternary_of(pair), image)
    ensemble = measure_ensemble(realisations, reference, image)
    naive = naive_ensemble(realisations, reference.masks, image)
    # The full search may settle on other ellipses, of all pixels or of those in reach, and so give a pixel of
    # the border to the other galaxy.
    np.testing.assert_allclose(ensemble.area, naive["area"], atol=1)
    same = np.isclose(ensemble.area, naive["area"], rtol=0, atol=0, equal_nan=True).all(axis=0)
    assert np.count_nonzero(same) >= 10
    for name, expected in naive.items():
        np.testing.assert_allclose(
            getattr(ensemble, name)[:, same], expected[:, same], rtol=1e-5, err_msg=name
        )
    np.testing.assert_array_equal(ensemble.present, np.isfinite(naive["area"]))
    np.testing.assert_array_equal(ensemble.blended, naive["overlap_area"] > 0)


def test_order_of_realisations_and_copies_do_not_matter(pair):
    rng = np.random.default_rng(13)
    image = pair.sum(axis=0) + rng.normal(size=ROWS.shape)
    realisations = realisations_of(pair, 5, rng)
    reference = separate(ternary_of(pair), image)
    order = np.array([3, 0, 4, 4, 1, 2, 0])
    plain = measure_ensemble(realisations, reference, image)
    shuffled = measure_ensemble(realisations[order], reference, image)
    np.testing.assert_array_equal(shuffled.flux, plain.flux[:, order])


def test_galaxy_that_vanishes_or_shrinks_below_the_match_is_absent(pair):
    image = pair.sum(axis=0)
    reference = separate(ternary_of(pair), image)
    only_left = (pair[0] > 3).astype(np.uint8)
    tiny = np.zeros_like(only_left)
    tiny[16:19, 16:19] = 1
    ensemble = measure_ensemble(np.stack([ternary_of(pair), only_left, tiny, 0 * tiny]), reference, image)
    np.testing.assert_array_equal(ensemble.present, [[True, True, False, False], [True, False, False, False]])
    np.testing.assert_array_equal(
        ensemble.blended, [[True, False, False, False], [True, False, False, False]]
    )
    assert np.isnan(ensemble.flux[~ensemble.present]).all()
    assert ensemble.area[0, 1] == only_left.sum()
    assert ensemble.overlap_area[0].tolist()[:2] == [(pair > 1).all(axis=0).sum(), 0]


def test_galaxies_that_a_realisation_parts_are_both_present(pair):
    image = pair.sum(axis=0)
    reference = separate(ternary_of(pair), image)
    parted = ternary_of(pair, 3.2)
    parted[parted == 2] = 1
    parted[:, 22] = 0
    ensemble = measure_ensemble(parted[None], reference, image)
    assert ensemble.present.all() and not ensemble.blended.any()


def test_a_neighbour_in_the_cutout_is_not_the_object():
    lone = exponential(15, 17, 40, 2.0)
    image = lone + exponential(38, 30, 40, 1.0)
    reference = separate((lone > 1).astype(np.uint8), image)
    with_neighbour = ((lone > 1) | (exponential(38, 30, 40, 1.0) > 1)).astype(np.uint8)
    ensemble = measure_ensemble(with_neighbour[None], reference, image)
    assert ensemble.area.tolist() == [[(lone > 1).sum()]]


@pytest.mark.parametrize("seed", range(6))
def test_a_lone_galaxy_is_what_touches_it_and_resembles_it(seed):
    """SciPy's labels of noise around a disc: pieces that touch it, others that do not, specks of class 2."""
    rng = np.random.default_rng(seed)
    disc = np.hypot(COLUMNS - 20, ROWS - 18) < 5
    image = rng.normal(2, 1, ROWS.shape)
    smooth = gaussian_filter(rng.normal(size=(40, *ROWS.shape)), (0, 2, 2))
    realisations = (disc + smooth / smooth.std() > np.linspace(0, 2.5, 40)[:, None, None]).astype(np.uint8)
    realisations[:, 18, 20:23] *= 2  # fewer than an overlap
    reference = Separation(disc[None], np.zeros(1, bool))
    ensemble = measure_ensemble(realisations, reference, image)
    present = []
    for sample, each in enumerate(realisations > 0):
        labels, _ = label(each, np.ones((3, 3)))
        own = np.isin(labels, labels[disc & each]) & each
        present.append((own & disc).sum() / (own | disc).sum() >= 0.3)
        if present[-1]:
            numbers = measure(image, own)
            for name in QUANTITIES:
                assert getattr(ensemble, name)[0, sample] == np.float32(getattr(numbers, name))
    np.testing.assert_array_equal(ensemble.present[0], present)
    assert {True, False} == set(present)
    assert not ensemble.blended.any()


def test_spread_is_that_of_the_isophotes():
    # Level exp(t): radius r = scale (ln peak - t), so area = pi r^2 in closed form.
    lone = exponential(20, 17, 40, 3.0)
    levels = np.random.default_rng(14).normal(0, 0.2, size=40)
    realisations = np.stack([(lone > np.exp(t)).astype(np.uint8) for t in levels])
    ensemble = measure_ensemble(realisations, separate((lone > 1).astype(np.uint8), lone), lone)
    expected = np.pi * (3.0 * (np.log(40) - levels)) ** 2
    np.testing.assert_allclose(ensemble.area[0], expected, rtol=0.05)
    assert ensemble.area.std() == pytest.approx(expected.std(), rel=0.05)


def test_shapes_must_agree(pair):
    reference = separate(ternary_of(pair))
    with pytest.raises(ValueError, match="agree in height and width"):
        measure_ensemble(np.zeros((2, 5, 5), dtype=np.uint8), reference, pair.sum(axis=0))


def test_light_is_shared_by_signal_to_noise_and_measured_in_flux(pair):
    rng = np.random.default_rng(21)
    noise = np.where(np.arange(ROWS.shape[1]) < 22, 1.0, 2.5)[None, :] * np.ones(ROWS.shape)
    light = pair.sum(axis=0) + noise * rng.normal(size=ROWS.shape)
    image = light / noise
    reference = separate(ternary_of(pair), image)
    realisations = realisations_of(pair, 4, rng)
    found = measure_ensemble(realisations, reference, image, light)
    by_noise = measure_ensemble(realisations, reference, image)
    for name in ("area", "present", "blended", "overlap_area", "shared"):  # which galaxies there are
        np.testing.assert_array_equal(getattr(found, name), getattr(by_noise, name), err_msg=name)
    masks = separate(realisations[0], image).masks
    shares = light_shares(image, masks)
    fluxes = sorted(float((light * share)[mask].sum()) for mask, share in zip(masks, shares, strict=True))
    assert len(fluxes) == 2 and found.present[:, 0].all()
    np.testing.assert_allclose(sorted(found.flux[:, 0]), fluxes, rtol=1e-5)
