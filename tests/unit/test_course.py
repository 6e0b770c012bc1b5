"""The course of a field against a clock that is set by hand."""

import pytest

from appulse.engine.course import Course, costs
from appulse.engine.job import stages

STEPS = {"background": 8, "first pass": 100, "second pass": 160, "bridges": 160, "galaxies": 160}


def told(method):
    """Steps of a field of a million pixels, at one unit of cost per second."""
    now, seen = [0.0], []
    course = Course("f", 10**6, method, lambda at: seen.append((at.share, at.objects)), lambda: now[0])
    for stage in ("background", *stages(method)):
        total = STEPS.get(stage, 1)
        for done in range(1, total + 1):
            course(stage, done, total)
            now[0] += 1
    return course, seen


@pytest.mark.parametrize("method", ["two-step", "sliding", "grid"])
def test_shares_grow_from_nothing_to_all(method):
    course, seen = told(method)
    shares = [share for share, _ in seen]
    assert 0 < shares[0] < 0.05 and shares[-1] == course.share == pytest.approx(1)
    assert shares == sorted(shares) and len(shares) == sum(
        STEPS.get(s, 1) for s in ("background", *stages(method))
    )
    assert course.objects == 160 and course.seconds_left == pytest.approx(0, abs=1e-6)


def test_speed_and_time_left_count_from_where_this_run_began():
    now = [0.0]
    course = Course("f", 2 * 10**6, "grid", lambda at: None, lambda: now[0])
    course("galaxies", 21, 100)  # a killed run had done all before
    assert course.megapixels_per_second is course.seconds_left is None and str(course) == "100 objects"
    at = course.share
    now[0] = 30.0
    course("galaxies", 60, 100)
    assert course.megapixels_per_second == pytest.approx((course.share - at) * 2 / 30)
    assert course.seconds_left == pytest.approx(30 * 40 / 39)
    assert str(course).endswith("100 objects, 0:00:31 left")


def test_costs_grow_with_the_image_and_sliding_costs_most():
    assert sum(costs(2 * 10**6, "grid").values()) == pytest.approx(2 * sum(costs(10**6, "grid").values()))
    grid, two_step, sliding = (sum(costs(10**6, m).values()) for m in ("grid", "two-step", "sliding"))
    assert grid < two_step < sliding
