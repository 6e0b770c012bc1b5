"""Matching and scores over random label images, against slow and obvious versions."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from appulse.evaluation import (
    CalibrationField,
    Detection,
    Kind,
    ObjectCounts,
    count_objects,
    count_on_grid,
    detection_from_ternary,
    excluded_predictions,
    match_centroids,
    match_galaxies,
    match_objects,
    true_galaxy_masks,
    true_objects,
    wilson,
)

seeds = st.integers(0, 2**32 - 1)
few = settings(max_examples=60, deadline=None)


def random_blobs(rng, shape=(30, 34)):
    """Smooth random map with values near 0, cut here and there: small and large objects."""
    return ndimage.gaussian_filter(rng.normal(size=shape), 1.5, mode="wrap") * 5


def random_truth(rng):
    first = random_blobs(rng)
    second = np.minimum(random_blobs(rng), first)
    ternary = (first > 0.5).astype(np.uint8) + (second > 0.5)
    id1 = rng.integers(1, 4, size=(5, 6)).repeat(6, axis=0).repeat(6, axis=1)[:30, :34]
    id2 = id1 + 1
    return ternary, id1, id2, first, second


def jitter(rng, ternary, first, second):
    shift = 0.4 * random_blobs(rng)
    return (first + shift > 0.5).astype(np.uint8) + ((second + shift > 0.5) & (first + shift > 0.5))


def iou(first, second):
    union = np.count_nonzero(first | second)
    return np.count_nonzero(first & second) / union if union else 1.0


def naive_counts(ternary, id1, id2, detection):
    """Strict scores by loops over whole masks, straight from the definitions."""
    labels, n_true = ndimage.label(ternary > 0, structure=np.ones((3, 3)))
    n_predicted = detection.objects.max()
    border = np.ones(ternary.shape, dtype=bool)
    border[1:-1, 1:-1] = False
    table = np.zeros((4, 4), dtype=int)
    used, excluded = set(), set()
    ignored_pixels = np.zeros(ternary.shape, dtype=bool)
    for t in range(1, n_true + 1):
        mask = labels == t
        galaxies = set(id1[mask]) | set(id2[mask & (ternary == 2)])
        overlap = np.count_nonzero(mask & (ternary == 2))
        kind = 3 if overlap >= 4 else 2 if len(galaxies) > 1 else 1
        ignored = mask.sum() < 10 or (mask & border).any()
        ignored_pixels |= mask & ignored
        ious = {p: iou(mask, detection.objects == p) for p in range(1, n_predicted + 1)}
        best = max(ious, key=ious.get, default=0)
        found = best if best and ious[best] >= 0.5 else 0
        if found:
            used.add(found)
            if ignored:
                excluded.add(found)
        if not ignored:
            table[kind, detection.kinds[found] if found else 0] += 1
    for p in range(1, n_predicted + 1):
        mask = detection.objects == p
        tied = (mask & border).any() or (mask & ignored_pixels).sum() > mask.sum() / 2
        if p not in used and not tied:
            table[0, detection.kinds[p]] += 1
    return table


@few
@given(seeds)
def test_counts_are_the_naive_ones(seed):
    rng = np.random.default_rng(seed)
    ternary, id1, id2, first, second = random_truth(rng)
    detection = detection_from_ternary(jitter(rng, ternary, first, second))
    counts = count_objects(true_objects(ternary, id1, id2), detection)
    np.testing.assert_array_equal(counts.table, naive_counts(ternary, id1, id2, detection))


@few
@given(seeds)
def test_matches_are_one_to_one_and_mutual(seed):
    rng = np.random.default_rng(seed)
    ternary, *_, first, second = random_truth(rng)
    true, _ = ndimage.label(ternary > 0, structure=np.ones((3, 3)))
    predicted, _ = ndimage.label(jitter(rng, ternary, first, second) > 0, structure=np.ones((3, 3)))
    match, back = match_objects(true, predicted), match_objects(predicted, true)
    np.testing.assert_array_equal(match.predicted, back.true)
    np.testing.assert_array_equal(match.true, back.predicted)
    found = np.flatnonzero(match.predicted)
    np.testing.assert_array_equal(match.true[match.predicted[found]], found)
    for t in range(1, true.max() + 1):
        best = max((iou(true == t, predicted == p) for p in range(1, predicted.max() + 1)), default=0)
        assert match.iou[t] == best


@few
@given(seeds)
def test_arbitrary_labels_never_match_twice(seed):
    rng = np.random.default_rng(seed)
    true, predicted = rng.integers(0, 4, size=(2, 2, 5))  # not components, full of ties
    match = match_objects(true, predicted)
    found = np.flatnonzero(match.predicted)
    np.testing.assert_array_equal(match.true[match.predicted[found]], found)
    assert np.count_nonzero(match.true) == len(found)


@few
@given(seeds, st.sampled_from([np.transpose, np.flipud, np.fliplr]))
def test_scores_do_not_know_left_from_right(seed, turn):
    rng = np.random.default_rng(seed)
    ternary, id1, id2, first, second = random_truth(rng)
    predicted = jitter(rng, ternary, first, second)
    counts = count_objects(true_objects(ternary, id1, id2), detection_from_ternary(predicted))
    turned = count_objects(
        true_objects(turn(ternary), turn(id1), turn(id2)), detection_from_ternary(turn(predicted))
    )
    np.testing.assert_array_equal(counts.table, turned.table)


@few
@given(seeds)
def test_fields_pool_like_one_large_field(seed):
    """Two fields side by side, with a gap so that nothing new touches: the counts add up."""
    rng = np.random.default_rng(seed)
    pooled, parts = ObjectCounts.empty(), []
    for _ in range(2):
        ternary, id1, id2, first, second = random_truth(rng)
        predicted = jitter(rng, ternary, first, second)
        layers = [np.pad(layer, 3) for layer in (ternary, id1, id2, predicted)]
        pooled += count_objects(true_objects(*layers[:3]), detection_from_ternary(layers[3]))
        parts.append(layers)
    ternary, id1, id2, predicted = (np.hstack(layers) for layers in zip(*parts, strict=True))
    together = count_objects(true_objects(ternary, id1, id2), detection_from_ternary(predicted))
    np.testing.assert_array_equal(pooled.table, together.table)


@few
@given(seeds)
def test_the_threshold_grid_is_the_plain_evaluation(seed):
    rng = np.random.default_rng(seed)
    ternary, id1, id2, first, second = random_truth(rng)
    truth = true_objects(ternary, id1, id2)
    steps = 8  # coarse values, so that some lie exactly on a threshold
    p_galaxy = np.round(np.clip(0.5 + first / 4, 0, 1) * steps) / steps
    p_overlap = np.minimum(np.round(np.clip(0.5 + second / 4, 0, 1) * steps) / steps, p_galaxy)
    t1, t2 = rng.choice([0.25, 0.5, 0.6, 0.75], size=2)
    counts = count_on_grid(
        [CalibrationField(p_galaxy, p_overlap, truth, np.zeros(truth.labels.shape))], (t1,), (0.1, t2)
    )[t1, t2]
    galaxy = p_galaxy > t1
    detection = detection_from_ternary(galaxy.astype(np.uint8) + (galaxy & (p_overlap > t2)))
    np.testing.assert_array_equal(counts.table, count_objects(truth, detection).table)


@few
@given(seeds)
def test_claiming_everything_blended_never_finds_an_isolated_one(seed):
    rng = np.random.default_rng(seed)
    ternary, id1, id2, *_ = random_truth(rng)
    truth = true_objects(ternary, id1, id2)
    n_objects = truth.labels.max()
    detection = Detection(truth.labels, np.full(n_objects + 1, 2), np.ones(n_objects + 1, dtype=bool))
    counts = count_objects(truth, detection)
    assert counts.table[:, Kind.ISOLATED].sum() == 0
    assert counts.table[:, Kind.NONE].sum() == 0
    assert counts.table[Kind.BLENDED, Kind.BLENDED] == counts.n_true(Kind.BLENDED)
    match = match_objects(truth.labels, detection.objects)
    np.testing.assert_array_equal(excluded_predictions(truth, detection.objects, match), truth.ignored)


def random_masks(rng, n):
    masks = []
    for _ in range(n):
        y, x = rng.integers(0, 6, size=2)
        height, width = rng.integers(1, 5, size=2)
        mask = rng.uniform(size=(height, width)) < 0.8
        masks.append(((slice(y, y + height), slice(x, x + width)), mask))
    return masks


def full(box, mask):
    image = np.zeros((12, 12), dtype=bool)
    image[box] = mask
    return image


def best_total(gain):
    """Largest total gain of a one-to-one pairing, by trying all."""
    if not gain.shape[0]:
        return 0.0
    rest = gain[1:]
    return max(
        [best_total(rest)]
        + [g + best_total(np.delete(rest, j, axis=1)) for j, g in enumerate(gain[0]) if g > 0]
    )


@few
@given(seeds, st.integers(0, 5), st.integers(0, 5))
def test_galaxy_pairing_is_the_best_of_all(seed, n_true, n_predicted):
    rng = np.random.default_rng(seed)
    true, predicted = random_masks(rng, n_true), random_masks(rng, n_predicted)
    table = np.array([[iou(full(*t), full(*p)) for p in predicted] for t in true]).reshape(
        n_true, n_predicted
    )
    for i, j in np.ndindex(table.shape):
        if not full(*true[i]).any() and not full(*predicted[j]).any():
            table[i, j] = 0  # two empty masks are no pair
    table[table < 0.3] = 0
    match = match_galaxies(true, predicted, iou_min=0.3)
    assert len(set(match.true)) == len(set(match.predicted)) == len(match.true)
    np.testing.assert_allclose(table[match.true, match.predicted], match.score)
    np.testing.assert_allclose(match.score.sum(), best_total(table))


@few
@given(seeds, st.integers(1, 5), st.integers(1, 5))
def test_centroid_pairing_is_the_largest_and_then_the_closest(seed, n_true, n_predicted):
    rng = np.random.default_rng(seed)
    true, predicted = rng.uniform(0, 6, (n_true, 2)), rng.uniform(0, 6, (n_predicted, 2))
    match = match_centroids(true, predicted, radius=2)
    distance = np.linalg.norm(true[:, None] - predicted[None], axis=2)
    gain = np.where(distance <= 2, 1000 - distance, 0)
    np.testing.assert_allclose((1000 - match.score).sum(), best_total(gain))
    assert len(set(match.true)) == len(set(match.predicted)) == len(match.true)


@few
@given(seeds)
def test_true_masks_rebuild_the_ternary_map(seed):
    ternary, id1, id2, *_ = random_truth(np.random.default_rng(seed))
    ids, masks = true_galaxy_masks(ternary, id1, id2)
    rebuilt = np.zeros(ternary.shape, dtype=int)
    for galaxy, (box, mask) in zip(ids, masks, strict=True):
        assert mask.any(axis=0)[[0, -1]].all() and mask.any(axis=1)[[0, -1]].all()  # the box is tight
        expected = ((id1 == galaxy) & (ternary >= 1)) | ((id2 == galaxy) & (ternary == 2))
        assert mask.sum() == expected.sum()
        rebuilt[box] += mask
    np.testing.assert_array_equal(rebuilt, ternary)


@given(st.integers(0, 500), st.integers(0, 500), st.floats(0.01, 0.999))
def test_wilson_holds_its_value_and_mirrors(k, more, confidence):
    n = k + more
    interval, mirrored = wilson(k, n, confidence), wilson(more, n, confidence)
    assert 0 <= interval.low <= interval.high <= 1
    np.testing.assert_allclose(
        [interval.low, interval.high], [1 - mirrored.high, 1 - mirrored.low], atol=1e-12
    )
    if n:
        assert interval.low <= interval.value <= interval.high
