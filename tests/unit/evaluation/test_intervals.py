"""Intervals against scipy's, and the bootstrap against the normal law."""

import numpy as np
import pytest
from scipy import stats

from appulse.evaluation import bootstrap, bootstrap_mean, wilson


@pytest.mark.parametrize("confidence", [0.68, 0.95, 0.99])
@pytest.mark.parametrize(("k", "n"), [(0, 1), (0, 50), (3, 7), (991, 1000), (1, 1), (250, 250)])
def test_wilson_is_scipys(k, n, confidence):
    interval = wilson(k, n, confidence)
    expected = stats.binomtest(k, n).proportion_ci(confidence, method="wilson")
    assert interval.value == k / n
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_nothing_knows_nothing():
    interval = wilson(0, 0)
    assert np.isnan(interval.value)
    assert (interval.low, interval.high) == (0, 1)


@pytest.mark.parametrize(("k", "n"), [(-1, 3), (4, 3)])
def test_wilson_refuses_impossible_counts(k, n):
    with pytest.raises(ValueError, match="0 <= k <= n"):
        wilson(k, n)


def test_bootstrap_of_a_mean_is_the_normal_interval():
    values = np.random.default_rng(1).normal(5, 2, 4000)
    interval = bootstrap_mean(values, n_resamples=2000, seed=3)
    half = stats.norm.ppf(0.975) * values.std() / np.sqrt(len(values))
    assert interval.value == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * half, rel=0.1)
    assert interval == bootstrap_mean(values, n_resamples=2000, seed=3)


def test_bootstrap_of_nothing_and_of_unequal_columns():
    assert np.isnan(bootstrap_mean(np.empty(0)).value) and np.isnan(bootstrap(np.mean, np.empty(0)).value)
    with pytest.raises(ValueError, match="equal lengths"):
        bootstrap(lambda a, b: 0.0, np.zeros(3), np.zeros(4))


@pytest.mark.parametrize("n", [1, 4])
def test_a_few_rows_do_not_tell_how_they_scatter(n):
    interval = bootstrap_mean(np.full(n, 0.7))
    assert interval.value == pytest.approx(0.7) and np.isnan([interval.low, interval.high]).all()


@pytest.mark.parametrize("n", [5, 7, 1500])
def test_means_drawn_many_at_a_time_are_those_drawn_one_by_one(n):
    values = np.random.default_rng(n).gamma(2.0, size=n)
    one_by_one = bootstrap(lambda column: float(np.mean(column)), values, n_resamples=800, seed=2)
    assert bootstrap_mean(values, n_resamples=800, seed=2) == one_by_one


def test_rows_that_share_their_luck_are_resampled_together():
    luck = np.random.default_rng(4).normal(0.6, 0.1, 400)
    values, groups = np.repeat(luck, 4), np.repeat(np.arange(400) * 7 - 900, 4)
    order = np.random.default_rng(5).permutation(len(values))
    alone, together = bootstrap_mean(luck), bootstrap_mean(values[order], groups=groups[order])
    # Four copies of every value know no more than one.
    assert together.value == pytest.approx(alone.value)
    assert together.high - together.low == pytest.approx(alone.high - alone.low, rel=0.1)
    unaware = bootstrap_mean(values)
    assert together.high - together.low == pytest.approx(2 * (unaware.high - unaware.low), rel=0.15)


@pytest.mark.parametrize("n", [20, 300])
def test_the_mean_of_groups_is_that_of_the_rows_of_each_group_drawn(n):
    rng = np.random.default_rng(n)
    values, groups = rng.gamma(2.0, size=n), rng.integers(n // 2 + 5, size=n)
    members = np.array([np.flatnonzero(groups == each) for each in np.unique(groups)], dtype=object)
    one_by_one = bootstrap(lambda drawn: values[np.concatenate(list(drawn))].mean(), members, n_resamples=200)
    at_once = bootstrap_mean(values, groups=groups, n_resamples=200)
    assert [at_once.low, at_once.high] == pytest.approx([one_by_one.low, one_by_one.high])
    with pytest.raises(ValueError, match="equal lengths"):
        bootstrap_mean(values, groups=groups[1:])
