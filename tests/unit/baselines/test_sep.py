"""SEP on simulated scenes whose objects are known."""

import numpy as np
import pytest
import sep

from appulse.baselines import Detector, SepDetector, tune
from appulse.baselines.sep import SMOOTHING
from appulse.evaluation import Kind, balanced_score, count_objects, match_centroids, true_objects
from appulse.evaluation.operating import BALANCED_TOLERANCE


def gaussians(positions, size=200, peak=20.0, width=2.0):
    y, x = np.mgrid[:size, :size]
    return np.array(
        [peak * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / width**2) for x0, y0 in positions],
        dtype=np.float32,
    )


def grid_positions(step=30, size=200):
    ticks = np.arange(step // 2 + 3, size - 10, step)
    return np.array([(x + 0.3, y - 0.2) for y in ticks for x in ticks])


def noisy(profiles, seed=0):
    return profiles.sum(axis=0) + np.random.default_rng(seed).normal(size=profiles.shape[1:])


def truth_of(profiles):
    order = np.argsort(-profiles, axis=0)
    first, second = (np.take_along_axis(profiles, order[i : i + 1], axis=0)[0] for i in (0, 1))
    return true_objects((first > 1).astype(np.uint8) + (second > 1), order[0] + 1, order[1] + 1)


def centroids(labels):
    n = labels.max()
    area = np.bincount(labels.ravel(), minlength=n + 1)[1:]
    y, x = np.indices(labels.shape)
    return np.column_stack(
        [np.bincount(labels.ravel(), weights=c.ravel(), minlength=n + 1)[1:] / area for c in (x, y)]
    )


def test_isolated_gaussians_are_found_exactly():
    positions = grid_positions()
    profiles = gaussians(positions)
    detection = SepDetector(threshold=2.0).detect(noisy(profiles))
    assert detection.kinds.tolist() == [0] + [Kind.ISOLATED] * len(positions)
    match = match_centroids(positions, centroids(detection.objects), radius=1)
    assert len(match.true) == len(positions)
    # Isophote of a Gaussian above threshold k: 2 pi sigma^2 ln(peak / k); smoothing widens it a little.
    areas = np.bincount(detection.objects.ravel())[1:]
    assert np.mean(areas) == pytest.approx(2 * np.pi * 4 * np.log(20 / 2), rel=0.15)


def test_close_pairs_are_blends():
    lone = grid_positions(step=45)
    pairs = np.concatenate([lone, lone[::2] + np.array([9.0, 0.0])])
    profiles = gaussians(pairs, width=2.5, peak=40)
    truth = truth_of(profiles)
    counts = count_objects(truth, SepDetector(threshold=1.5).detect(noisy(profiles)))
    assert counts.n_true(Kind.BLENDED) == len(lone[::2])
    assert counts.completeness(Kind.BLENDED).value == 1
    assert counts.completeness(Kind.ISOLATED).value == 1


def test_no_deblending_no_blends():
    lone = grid_positions(step=45)
    profiles = gaussians(np.concatenate([lone, lone + np.array([9.0, 0.0])]), width=2.5, peak=40)
    detection = SepDetector(threshold=1.5, deblend_contrast=1.0).detect(noisy(profiles))
    assert len(detection.kinds) == len(lone) + 1
    assert not detection.blended.any()


def test_bad_pixels_are_in_no_segment_and_spread_nowhere():
    image = noisy(gaussians(grid_positions()))
    bad = np.zeros(image.shape, dtype=bool)
    bad[40:60, 40:60] = True
    bad[100] = True
    bad[18, 18] = True  # a lone bad pixel at the heart of a galaxy: its neighbours lift it over the threshold
    clean = SepDetector(threshold=2).detect(image).objects
    holed = SepDetector(threshold=2).detect(np.where(bad, np.nan, image)).objects
    assert not holed[bad].any()
    far = np.ones(image.shape, dtype=bool)
    far[:75, :75] = far[85:116] = False
    np.testing.assert_array_equal((holed > 0)[far], (clean > 0)[far])


def test_byte_order_and_layout_do_not_matter():
    image = noisy(gaussians(grid_positions())).astype(np.float32)
    expected = SepDetector().segments(image)
    np.testing.assert_array_equal(SepDetector().segments(image.astype(">f4")), expected)
    np.testing.assert_array_equal(SepDetector().segments(np.asfortranarray(image)), expected)


@pytest.mark.parametrize("smoothing", sorted(SMOOTHING))
def test_every_smoothing_detects(smoothing):
    positions = grid_positions()
    detection = SepDetector(threshold=3.0, smoothing=smoothing).detect(noisy(gaussians(positions)))
    assert len(detection.kinds) == len(positions) + 1


def test_buffers_of_sep_grow_and_are_put_back():
    before = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    sep.set_extract_pixstack(1000)
    sep.set_sub_object_limit(20)
    try:
        # One large bumpy object: more pixels than the stack, more branches than the limit.
        profiles = gaussians(grid_positions(step=16), width=4.0, peak=50)
        detection = SepDetector(deblend_contrast=1e-5).detect(profiles.sum(axis=0))
        assert (sep.get_extract_pixstack(), sep.get_sub_object_limit()) == (1000, 20)
    finally:
        sep.set_extract_pixstack(before[0])
        sep.set_sub_object_limit(before[1])
    assert detection.n_galaxies.max() > 50


def test_an_empty_image_has_no_objects():
    assert SepDetector().detect(np.zeros((50, 50))).kinds.tolist() == [0]
    assert SepDetector().detect(np.full((50, 50), np.nan)).kinds.tolist() == [0]


def test_tuning_improves_on_the_default_and_repeats():
    lone = grid_positions(step=40)
    profiles = gaussians(np.concatenate([lone, lone[::3] + np.array([7.0, 2.0])]), width=2.5, peak=25)
    image, truth = noisy(profiles), truth_of(profiles)
    tuned = tune(SepDetector(), [image], [truth], n_trials=12, seed=1)
    default_score = balanced_score(count_objects(truth, SepDetector().detect(image)))
    tuned_score = balanced_score(count_objects(truth, tuned.detect(image)))
    assert tuned_score >= default_score - BALANCED_TOLERANCE
    assert tuned_score > 1.5
    assert tune(SepDetector(), [image], [truth], n_trials=12, seed=1) == tuned
    refined = tune(SepDetector(), [image], [truth], n_trials=1)
    assert balanced_score(count_objects(truth, refined.detect(image))) >= default_score - BALANCED_TOLERANCE


def test_refinement_finds_what_the_random_search_has_not_drawn():
    lone = grid_positions(step=40)
    profiles = gaussians(np.concatenate([lone, lone[::3] + np.array([7.0, 2.0])]), width=2.5, peak=25)
    image, truth = noisy(profiles), truth_of(profiles)
    start = SepDetector(deblend_contrast=1.0)  # parts nothing
    refined = tune(start, [image], [truth], n_trials=1)
    before, after = (balanced_score(count_objects(truth, each.detect(image))) for each in (start, refined))
    assert refined.deblend_contrast < 1.0 and after > before + 0.3


def test_it_is_a_detector():
    detector: Detector = SepDetector()
    assert detector.name == "SEP"
