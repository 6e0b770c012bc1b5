"""Fields counted in strips against the whole field counted at once."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.sky.counts import STAMP, SkyCounts, StripCounts, count_strip, merge
from appulse.sky.true_objects import Kind, true_objects


@st.composite
def cut_fields(draw):
    """A field with galaxies of every kind crowded about random seams, and the seams."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    height, width = draw(st.integers(1, 5 * STAMP)), draw(st.integers(1, 300))
    rows = [y for y in range(STAMP, height, STAMP) if draw(st.booleans())]
    stack = np.zeros((2, height, width), np.int32)
    for number in range(1, draw(st.integers(0, 25)) + 1):
        y = rng.choice([0, *rows, height]) + rng.integers(-12, 12)
        x, (h, w) = rng.integers(-5, width), rng.integers(1, 20, 2)
        window = slice(max(y, 0), max(y + h, 0)), slice(max(x, 0), max(x + w, 0))
        holes = rng.random(stack[0][window].shape) < 0.3
        stack[1][window] = np.where(holes, stack[1][window], stack[0][window])
        stack[0][window] = np.where(holes, stack[0][window], number)
    # Every pixel whose ids are known need not be above the threshold.
    ternary = (stack > 0).sum(axis=0) * (rng.random((height, width)) < 0.9)
    return ternary.astype(np.uint8), *stack, rows


def in_strips(ternary, id1, id2, rows):
    bounds = [0, *rows, len(ternary)]
    return [count_strip(ternary[a:b], id1[a:b], id2[a:b], a) for a, b in itertools.pairwise(bounds)]


@settings(max_examples=80)
@given(cut_fields())
def test_strips_count_what_the_field_holds(cut):
    ternary, id1, id2, rows = cut
    counts = merge(in_strips(ternary, id1, id2, rows))
    kinds = true_objects(ternary, id1, id2).kind
    assert [counts.isolated, counts.touching, counts.blended] == [
        np.count_nonzero(kinds == kind) for kind in (Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED)
    ]
    assert counts.pixels == tuple(np.bincount(ternary.ravel(), minlength=3))
    seen = set(id1[ternary > 0]) | set(id2[ternary == 2])
    shared = set(id1[ternary == 2]) | set(id2[ternary == 2])
    assert (counts.galaxies, counts.blended_galaxies) == (len(seen - {0}), len(shared - {0}))

    stamps = [
        ternary[y : y + STAMP, x : x + STAMP]
        for y in range(0, ternary.shape[0] - STAMP + 1, STAMP)
        for x in range(0, ternary.shape[1] - STAMP + 1, STAMP)
    ]
    assert (counts.stamps, counts.empty_stamps) == (len(stamps), sum(not stamp.any() for stamp in stamps))
    if len(stamps) > 1:
        shares = [[np.mean(stamp == c) for c in (0, 1, 2)] for stamp in stamps]
        expected = np.std(shares, axis=0, ddof=1) / np.sqrt(len(stamps))
        np.testing.assert_allclose(counts.class_errors(), expected, atol=1e-9)


@settings(max_examples=20)
@given(cut_fields())
def test_strips_survive_json(cut):
    strips = in_strips(*cut)
    back = [StripCounts.from_json(json.loads(json.dumps(strip.to_json()))) for strip in strips]
    assert back == strips


def test_a_seam_joins_diagonal_neighbours_only():
    ternary = np.zeros((2 * STAMP, 40), np.uint8)
    ternary[STAMP - 1, 10] = ternary[STAMP, 11] = 1  # neighbours across the seam
    ternary[STAMP - 1, 20] = ternary[STAMP, 22] = 1  # not neighbours
    ternary[STAMP - 1, 0] = ternary[STAMP, 39] = 1  # nor does the field close on itself
    identity = np.arange(ternary.size, dtype=np.int32).reshape(ternary.shape) + 1
    counts = merge(in_strips(ternary, identity, identity, [STAMP]))
    assert (counts.isolated, counts.touching, counts.blended) == (4, 1, 0)


def test_fields_add_up():
    ternary = np.zeros((STAMP, STAMP), np.uint8)
    ternary[5:9, 5:9] = 1
    ids = np.where(ternary, 1, 0).astype(np.int32)
    one = merge([count_strip(ternary, ids, 0 * ids, 0)])
    total = SkyCounts.total([one, one, one])
    assert (total.fields, total.objects, total.isolated, total.galaxies) == (3, 3, 3, 3)
    assert total.pixels == tuple(3 * n for n in one.pixels) and total.stamps == 3
    assert type(total.objects) is int and type(total.pixels[0]) is int


def test_strips_must_follow_one_another():
    nothing = np.zeros((STAMP, 10), np.uint8)
    first, third = (count_strip(nothing, nothing, nothing, y0) for y0 in (0, 2 * STAMP))
    with pytest.raises(ValueError, match="expected row 128"):
        merge([first, third])
    with pytest.raises(ValueError, match="expected row 0"):
        merge([third])
    with pytest.raises(ValueError, match="multiple of 128"):
        count_strip(nothing, nothing, nothing, 100)
    with pytest.raises(ValueError, match="equal shapes"):
        count_strip(nothing, nothing[:5], nothing, 0)
