"""Completeness and purity of scenes whose answer can be counted by hand."""

import numpy as np
import pytest

from appulse.evaluation import (
    Detection,
    Kind,
    ObjectCounts,
    TrueObjects,
    count_objects,
    detection_from_ternary,
    format_table,
    lenient_blends,
    table1,
    true_objects,
    wilson,
)


def row_of_objects(n):
    """Label image with ``n`` squares of 16 pixels, away from the border."""
    labels = np.zeros((10, 8 * n + 4), dtype=np.int32)
    for i in range(n):
        labels[3:7, 8 * i + 3 : 8 * i + 7] = i + 1
    return labels


def truth_of(kinds, labels):
    kind = np.array([0, *kinds], dtype=np.int8)
    n_galaxies = np.where(kind >= Kind.TOUCHING, 2, 1)
    return TrueObjects(labels, kind, np.bincount(labels.ravel()), n_galaxies, np.zeros(len(kind), dtype=bool))


def detection_of(kinds, labels):
    kind = np.array([0, *kinds])
    return Detection(labels, np.where(kind >= Kind.TOUCHING, 2, 1), kind == Kind.BLENDED)


def test_every_cell_of_the_table():
    isolated, touching, blended = Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED
    labels = row_of_objects(12)
    true_kinds = [isolated] * 4 + [touching] * 3 + [blended] * 3
    predicted_kinds = [isolated, isolated, blended, touching, blended, isolated, touching]
    predicted_kinds += [blended, isolated, isolated, isolated, blended]  # the last two match nothing
    true_labels = np.where(labels > 10, 0, labels)
    predicted_labels = labels.copy()
    predicted_labels[labels == 10] = 0  # the last blend is missed
    predicted_labels[predicted_labels > 10] -= 1
    del predicted_kinds[9]
    counts = count_objects(truth_of(true_kinds, true_labels), detection_of(predicted_kinds, predicted_labels))

    assert counts.table.tolist() == [
        [0, 1, 0, 1],  # false
        [0, 2, 1, 1],  # isolated
        [0, 1, 1, 1],  # touching
        [1, 1, 0, 1],  # blended
    ]
    assert counts.completeness(isolated) == wilson(2, 4)
    assert counts.completeness(blended) == wilson(1, 3)
    assert counts.purity(isolated) == wilson(2, 4)  # the one matched to a touching object stays out
    assert counts.purity(blended) == wilson(1, 3)
    assert counts.false_blend_rate() == wilson(1, 4)
    assert counts.unrecognised_blend_rate() == wilson(1, 3)
    assert counts.overlap_purity() == wilson(1, 4)  # a claim on touching galaxies among the false
    assert counts.f_score(isolated) == pytest.approx(0.5)


def test_truth_scores_itself_perfectly_and_ignores_what_is_ignored():
    rng = np.random.default_rng(5)
    y, x = np.mgrid[:200, :200]
    surface = np.zeros((2, 200, 200))
    id1 = np.zeros((200, 200), dtype=np.int32)
    id2 = np.zeros_like(id1)
    for galaxy in range(1, 60):
        x0, y0 = rng.uniform(0, 200, 2)
        light = 5 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / 2 / rng.uniform(1, 5) ** 2)
        brighter = light > surface[0]
        second = ~brighter & (light > surface[1])
        surface[1] = np.where(brighter, surface[0], np.where(second, light, surface[1]))
        id2 = np.where(brighter, id1, np.where(second, galaxy, id2))
        surface[0] = np.where(brighter, light, surface[0])
        id1 = np.where(brighter, galaxy, id1)
    ternary = (surface > 1).sum(axis=0).astype(np.uint8)
    truth = true_objects(ternary, id1, id2)
    counts = count_objects(truth, detection_from_ternary(ternary))
    assert truth.ignored.any()
    assert counts.n_true(Kind.ISOLATED) > 5
    assert counts.n_true(Kind.BLENDED) > 5
    assert counts.n_true(Kind.ISOLATED) + counts.n_true(Kind.TOUCHING) + counts.n_true(Kind.BLENDED) == (
        np.count_nonzero(~truth.ignored[1:])
    )
    assert counts.completeness(Kind.BLENDED).value == counts.purity(Kind.BLENDED).value == 1
    assert counts.completeness(Kind.ISOLATED).value == counts.purity(Kind.ISOLATED).value == 1
    assert not counts.table[Kind.NONE].any()


def test_purity_follows_the_prevalence():
    # REFERENCE: 93.6 % purity at 87.3 % completeness is 6 % of isolated objects on the half-and-half set.
    table = np.zeros((4, 4), dtype=np.int64)
    table[Kind.ISOLATED, [Kind.ISOLATED, Kind.BLENDED]] = 9403, 597
    table[Kind.BLENDED, [Kind.ISOLATED, Kind.BLENDED]] = 1270, 8730
    counts = ObjectCounts(table)
    half = counts.half_and_half_purity()
    assert half.value == pytest.approx(0.936, abs=5e-4)
    assert half.value == counts.purity(Kind.BLENDED).value  # as many isolated as blended here
    assert half.low < half.value < half.high
    # The same detector where 7 % of the objects are blends, counted out.
    rare = counts.blend_purity_at(0.07)
    assert rare.value == pytest.approx(70 * 0.873 / (70 * 0.873 + 930 * 0.0597))
    # Predicted blends that match nothing count as false ones of the isolated objects.
    table[Kind.NONE, Kind.BLENDED] = 403
    assert ObjectCounts(table).half_and_half_purity().value == pytest.approx(0.873 / (0.873 + 0.1))
    # Of these, the pieces of true blends are as many more as the blends are.
    strays = ObjectCounts(table, stray_blends=400)
    assert strays.half_and_half_purity().value == pytest.approx(0.873 / (0.873 + 0.04 + 0.06))
    assert strays.blend_purity_at(0.07).value == pytest.approx(70 * 0.873 / (70 * 0.913 + 930 * 0.06))
    assert (strays + strays).stray_blends == 800


def test_a_piece_of_a_blend_that_matches_nothing_is_a_stray():
    ternary = np.zeros((40, 80), np.uint8)
    ternary[4:24, 4:44] = 1
    ternary[10:14, 20:24] = 2  # a true blend of 800 pixels
    ternary[30:36, 60:66] = 1  # a lone galaxy
    id1 = np.where(ternary > 0, 1, 0)
    id1[30:36, 60:66] = 3
    truth = true_objects(ternary, id1, np.where(ternary == 2, 2, 0))
    found = np.zeros_like(ternary)
    found[4:24, 4:10] = 1  # a sixth of the blend, called a blend
    found[8:12, 5:9] = 2
    found[30:36, 60:76] = 1  # most of it beside the lone galaxy, called a blend
    found[31:33, 61:63] = 2
    found[4:8, 60:70] = 1  # on the sky
    found[5:7, 61:63] = 2
    counts = count_objects(truth, detection_from_ternary(found))
    assert counts.table[Kind.NONE, Kind.BLENDED] == 3
    assert counts.stray_blends == 1


def test_half_and_half_interval_covers():
    """Over repeated surveys the 95 % interval holds the true purity about 95 % of the time."""
    rng = np.random.default_rng(2)
    completeness, false_rate = 0.8, 0.03
    truth = completeness / (completeness + false_rate)
    held = 0
    for _ in range(300):
        table = np.zeros((4, 4), dtype=np.int64)
        n_right, n_false = rng.binomial(150, completeness), rng.binomial(1500, false_rate)
        table[Kind.BLENDED, [Kind.BLENDED, Kind.NONE]] = n_right, 150 - n_right
        table[Kind.ISOLATED, [Kind.BLENDED, Kind.ISOLATED]] = n_false, 1500 - n_false
        interval = ObjectCounts(table).half_and_half_purity()
        held += interval.low <= truth <= interval.high
    assert wilson(held, 300, 0.999).low < 0.95 < wilson(held, 300, 0.999).high


def test_no_objects_at_all():
    counts = ObjectCounts.empty()
    assert np.isnan(counts.completeness(Kind.ISOLATED).value)
    assert np.isnan(counts.half_and_half_purity().value)
    assert counts.f_score(Kind.BLENDED) == 0
    assert np.isnan(table1(counts)["purity"]).all()


def test_table1_and_the_printed_table():
    table = np.arange(16).reshape(4, 4)
    table[0, 0] = 0
    counts = ObjectCounts(table)
    first = table1(counts)[0]
    assert first["kind"] == "isolated"
    assert (first["n_true"], first["n_predicted"]) == (4 + 5 + 6 + 7, 1 + 5 + 13)
    assert first["completeness"] == pytest.approx(5 / 22)
    assert first["purity_low"] == wilson(5, 19).low
    lines = format_table(counts).splitlines()
    assert lines[0].split() == ["true", "missed", "isolated", "touching", "blended"]
    assert lines[1].split() == ["isolated", "4", "5", "6", "7"]
    assert lines[4].split() == ["no", "object", "1", "2", "3"]


def test_the_lenient_rule_forgives_two_galaxies_in_the_box():
    labels = row_of_objects(4)
    truth = truth_of([Kind.BLENDED, Kind.ISOLATED, Kind.ISOLATED, Kind.ISOLATED], labels)
    detection = detection_of([Kind.BLENDED, Kind.BLENDED, Kind.BLENDED, Kind.ISOLATED], labels)
    # Second object: two catalogue galaxies in its box, one just inside the edge. Third: one in, one out.
    positions = [[12.0, 4.0], [14.4, 6.4], [20.0, 4.0], [22.6, 4.0], [27.0, 4.0], [28.0, 4.0]]
    lenient = lenient_blends(truth, detection, positions)
    assert (lenient.n_right, lenient.n_predicted) == (2, 3)
    assert (lenient + lenient).purity() == wilson(4, 6)
    assert count_objects(truth, detection).purity(Kind.BLENDED).value == pytest.approx(1 / 3)
    assert lenient_blends(truth, detection, []).n_right == 1
