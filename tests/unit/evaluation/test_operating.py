"""Thresholds chosen on a grid, against a plain evaluation of every point."""

from dataclasses import replace

import numpy as np
import pytest

from appulse.evaluation import (
    CalibrationField,
    Kind,
    ObjectCounts,
    balanced_score,
    choose_operating_points,
    count_objects,
    count_on_grid,
    detection_from_ternary,
    true_objects,
)
from appulse.evaluation.operating import count_at
from appulse.files import InputError
from appulse.network.calibration import OperatingPoint


def field_of_discs(seed, n_galaxies=70, size=240, noise=1.0):
    """Truth of overlapping discs, with probabilities that err smoothly and by chance."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:size, :size]
    depth = np.full((n_galaxies, size, size), -np.inf)
    for galaxy in range(n_galaxies):
        x0, y0 = rng.uniform(0, size, 2)
        depth[galaxy] = rng.uniform(2, 9) - np.hypot(x - x0, y - y0)
    order = np.argsort(-depth, axis=0)
    first = np.take_along_axis(depth, order[:1], axis=0)[0]
    second = np.take_along_axis(depth, order[1:2], axis=0)[0]
    ternary = (first > 0).astype(np.uint8) + (second > 0)
    truth = true_objects(ternary, order[0] + 1, order[1] + 1)
    p_galaxy = 1 / (1 + np.exp(-2 * first - noise * rng.normal(size=(size, size))))
    p_overlap = p_galaxy / (1 + np.exp(-second - noise * rng.normal(size=(size, size))))
    # An image without peaks: what it adds is tested by itself below.
    flat = np.zeros((size, size))
    return CalibrationField(p_galaxy.astype(np.float32), p_overlap.astype(np.float32), truth, flat)


T_GALAXY = (0.3, 0.5, 0.8)
T_OVERLAP = (0.5, 0.2, 0.35)  # the order does not matter


def plain_counts(field, t_galaxy, t_overlap, min_area):
    galaxy = field.p_galaxy > t_galaxy
    ternary = galaxy.astype(np.uint8) + (galaxy & (field.p_overlap > t_overlap))
    detection = detection_from_ternary(ternary, min_area=min_area)
    return count_objects(field.truth, detection)


@pytest.mark.parametrize("min_area", [5, 30])
def test_counts_at_many_thresholds_are_what_each_gives_alone(min_area):
    field = field_of_discs(1)
    for t1 in T_GALAXY:
        found = count_at(field, t1, T_OVERLAP, min_area)
        assert list(found) == list(T_OVERLAP)
        for t2, counts in found.items():
            expected = plain_counts(field, t1, t2, min_area)
            np.testing.assert_array_equal(counts.table, expected.table)


def test_the_grid_pools_fields():
    fields = [field_of_discs(1), field_of_discs(2)]
    grid = count_on_grid(fields, T_GALAXY, T_OVERLAP)
    assert list(grid) == [(t1, t2) for t1 in T_GALAXY for t2 in T_OVERLAP]
    for (t1, t2), counts in grid.items():
        expected = sum((plain_counts(field, t1, t2, 5) for field in fields), start=ObjectCounts.empty())
        np.testing.assert_array_equal(counts.table, expected.table)


def test_bad_pixels_are_background():
    field = field_of_discs(3)
    holes = np.random.default_rng(0).uniform(size=field.p_galaxy.shape) < 0.02
    with_nan, with_zero = (
        replace(
            field,
            p_galaxy=np.where(holes, value, field.p_galaxy),
            p_overlap=np.where(holes, value, field.p_overlap),
        )
        for value in (np.nan, 0)
    )
    np.testing.assert_array_equal(
        count_on_grid([with_nan], (0.5,), (0.3,))[0.5, 0.3].table,
        count_on_grid([with_zero], (0.5,), (0.3,))[0.5, 0.3].table,
    )


@pytest.mark.parametrize(("noise", "tastes"), [(1.0, 2), (3.0, 2)])
def test_chosen_points_are_the_best_of_the_grid(noise, tastes):
    fields = [field_of_discs(seed, noise=noise) for seed in (4, 5, 6)]
    grid = count_on_grid(fields)
    points = choose_operating_points(fields)
    assert set(points) == {"balanced", "complete", "pure"}
    # In noise that deceives, completeness of blends has its price, and the points part.
    assert len(set(points.values())) == tastes
    chosen = {name: grid[point.t_galaxy, point.t_overlap] for name, point in points.items()}

    balanced = chosen["balanced"]
    best = max(map(balanced_score, grid.values()))
    assert balanced_score(balanced) >= best - 0.01
    # None of those as good lies nearer to the thresholds at which a pixel has its likelier class.
    distance = {point: abs(point[0] - 0.5) + abs(point[1] - 0.5) for point in grid}
    here = distance[points["balanced"].t_galaxy, points["balanced"].t_overlap]
    equal = [point for point, counts in grid.items() if balanced_score(counts) >= best - 0.01]
    assert here == min(distance[point] for point in equal)
    assert balanced_score(balanced) > 1

    def blended(counts):
        return counts.completeness(Kind.BLENDED).value, counts.purity(Kind.BLENDED).value

    def as_good_alone(purity):
        return {
            point: blended(counts)[0]
            for point, counts in grid.items()
            if point[0] == points["balanced"].t_galaxy
            and blended(counts)[1] >= purity
            and counts.completeness(Kind.ISOLATED).value >= balanced.completeness(Kind.ISOLATED).value - 0.01
            and counts.purity(Kind.ISOLATED).value >= balanced.purity(Kind.ISOLATED).value - 0.01
        }

    place = {name: (point.t_galaxy, point.t_overlap) for name, point in points.items()}
    allowed = as_good_alone(0.7)
    assert allowed[place["complete"]] == max(allowed.values())

    allowed = as_good_alone(max(0.93, 1 - 0.5 * (1 - blended(balanced)[1])))
    if allowed:
        # The surest threshold that loses no more than a tenth of the blends.
        near = [point for point, found in allowed.items() if found >= 0.9 * max(allowed.values())]
        assert place["pure"] in near
        assert place["pure"][1] == max(t2 for _, t2 in near)
    else:
        lows = [grid[point].purity(Kind.BLENDED).low for point in as_good_alone(0)]
        assert chosen["pure"].purity(Kind.BLENDED).low == max(lows)
    assert blended(chosen["pure"])[1] >= blended(balanced)[1] >= blended(chosen["complete"])[1]


def test_surveys_count_alike():
    # Where one survey's blends show at a low threshold, and another's only false ones do: many fields of the
    # first do not decide for the second.
    faint, clear = field_of_discs(4), field_of_discs(5)
    faint = replace(faint, p_overlap=0.4 * faint.p_overlap, survey="faint")
    haze = np.where(clear.p_galaxy > 0.5, 0.42, 0.0).astype(np.float32)
    clear = replace(clear, p_overlap=np.maximum(clear.p_overlap, haze), survey="clear")
    one_each, many = choose_operating_points([faint, clear]), choose_operating_points([faint] * 5 + [clear])
    assert many["balanced"] == one_each["balanced"]
    pooled = [replace(field, survey="") for field in [faint] * 5 + [clear]]
    assert choose_operating_points(pooled)["balanced"].t_overlap < one_each["balanced"].t_overlap
    # Surveys that can say nothing are not asked.
    empty = replace(
        clear, truth=replace(clear.truth, ignored=np.ones_like(clear.truth.ignored)), survey="none"
    )
    assert choose_operating_points([faint, clear, empty])["balanced"] == one_each["balanced"]


def test_two_bright_peaks_make_a_blend_without_a_pixel_of_class_2():
    y, x = np.mgrid[:40, :60]
    peaks = [100 * np.exp(-((x - x0) ** 2 + (y - 20) ** 2) / (2 * 3.0**2)) for x0 in (22, 33)]
    image = sum(peaks)
    truth = true_objects(np.uint8(image > 1) + np.uint8(np.minimum(*peaks) > 1), *(np.uint8(image > 1),) * 2)
    truth.n_galaxies[1], truth.kind[1] = 2, Kind.BLENDED
    field = CalibrationField(np.float32(image > 1), np.zeros(image.shape), truth, image)
    assert count_on_grid([field], (0.5,), (0.5,))[0.5, 0.5].table[Kind.BLENDED, Kind.BLENDED] == 1
    dark = replace(field, image=np.zeros(image.shape))
    assert count_on_grid([dark], (0.5,), (0.5,))[0.5, 0.5].table[Kind.BLENDED, Kind.ISOLATED] == 1


def test_galaxies_joined_over_a_faint_bridge_are_two_objects():
    y, x = np.mgrid[:50, :70]
    peaks = [100 * np.exp(-((x - x0) ** 2 + (y - 25) ** 2) / (2 * 3.0**2)) for x0 in (24, 45)]
    galaxies = np.argmax(peaks, axis=0) + 1
    ternary = np.uint8(np.maximum(*peaks) > 1)
    truth = true_objects(ternary, galaxies * ternary, 0 * ternary)
    image = sum(peaks)
    field = CalibrationField(np.float32(image > 0.1), np.zeros(image.shape), truth, image)
    assert count_on_grid([field], (0.5,), (0.5,))[0.5, 0.5].table[Kind.ISOLATED, Kind.ISOLATED] == 2


def test_pure_falls_back_to_the_purest():
    field = field_of_discs(7)
    # An overlap probability that knows nothing but where the galaxies are: blends are called everywhere.
    blind = replace(field, p_overlap=field.p_galaxy)
    grid = count_on_grid([blind], (0.5, 0.8), (0.2, 0.9))
    assert all(counts.purity(Kind.BLENDED).value < 0.93 for counts in grid.values())
    point = choose_operating_points([blind], (0.5, 0.8), (0.2, 0.9))["pure"]
    chosen = grid[point.t_galaxy, point.t_overlap].purity(Kind.BLENDED)
    assert chosen.low == max(counts.purity(Kind.BLENDED).low for counts in grid.values())


def test_perfect_maps_are_scored_perfectly():
    field = field_of_discs(8, noise=0)
    points = choose_operating_points([field], (0.5,), (0.5,))
    assert points["balanced"] == OperatingPoint(t_galaxy=0.5, t_overlap=0.5)
    exact = replace(
        field,
        p_galaxy=(field.truth.labels > 0).astype(float),
        p_overlap=(field.p_overlap > 0.5 * field.p_galaxy) * 1.0,
    )
    counts = count_on_grid([exact], (0.5,), (0.5,))[0.5, 0.5]
    assert balanced_score(counts) == 2
    for kind in (Kind.ISOLATED, Kind.BLENDED):
        assert counts.n_true(kind) > 3
        assert counts.completeness(kind).value == counts.purity(kind).value == 1
    # Where every haze is an overlap, objects alone are called blends, and no blend is missed.
    hazy = count_on_grid([field], (0.5,), (0.01,))[0.5, 0.01]
    assert hazy.completeness(Kind.ISOLATED).value < 1 == hazy.completeness(Kind.BLENDED).value


def test_fields_without_blends_are_refused():
    empty = true_objects(*(np.zeros((20, 20), dtype=np.int32),) * 3)
    maps = np.zeros((20, 20))
    with pytest.raises(InputError, match="no true isolated object"):
        choose_operating_points([CalibrationField(maps, maps, empty, maps)])
