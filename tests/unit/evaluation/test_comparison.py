"""Who is better, and whether the page says so."""

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation import Kind, ObjectCounts
from appulse.evaluation.comparison import VERDICT, half_and_half, headline, verdicts
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.intervals import difference, wilson


def scores(**detectors):
    rows = []
    for name, (k, n) in detectors.items():
        for score in VERDICT:
            interval = wilson(k, n)
            rows.append((name, score, interval.value, interval.low, interval.high, np.nan))
    return Table(rows=rows, names=("detector", "score", "value", "low", "high", "paper"))


def test_difference_of_shares_is_newcombes():
    # Newcombe 1998, table II, method 10: 56/70 less 48/80 is 0.2000 (0.0524 to 0.3339).
    interval = difference(wilson(56, 70), wilson(48, 80))
    assert (interval.value, interval.low, interval.high) == pytest.approx((0.2, 0.0524, 0.3339), abs=1e-4)


def test_better_worse_and_level():
    table = verdicts(scores(ours=(950, 1000), weak=(700, 1000), equal=(949, 1000)))
    by = {
        name: dict(zip(*(table[table["detector"] == name][c] for c in ("score", "verdict")), strict=True))
        for name in ("weak", "equal")
    }
    assert by["weak"]["blended purity"] == "better"
    assert by["weak"]["unrecognised blends"] == "worse"  # there the smaller share is the better one
    assert set(by["equal"].values()) == {"level"}


def test_the_headline_names_winner_and_scores():
    beaten = verdicts(scores(ours=(950, 1000), SEP=(700, 1000)))
    assert headline("ours", beaten).startswith("ours beats SEP, but not everywhere: better in isolated")
    level = verdicts(scores(ours=(95, 100), SEP=(94, 100)))
    expected = f"ours does not beat SEP and is not worth using instead: level in all {len(VERDICT)} scores."
    assert headline("ours", level) == expected
    assert "nothing to compare" in headline("ours", verdicts(scores(ours=(1, 2))))


def test_areas_have_one_vote_and_do_not_outvote_what_is_found():
    def opening(**verdict):
        rows = [(score, "SEP", verdict.get(score.replace(" ", "_"), "level")) for score in VERDICT]
        return headline("ours", Table(rows=rows, names=("score", "detector", "verdict"))).split(":")[0]

    areas = dict.fromkeys(
        (
            "mean_IoU_of_isolated_galaxies",
            "mean_IoU_of_blended_galaxies",
            "Brier_score_of_galaxy_pixels",
        ),
        "better",
    )
    assert opening(**areas) == "ours beats SEP"
    assert opening(**areas, blended_purity="worse").startswith("ours does not beat SEP")
    # Better and worse in one question: it goes to neither.
    mixed = {"blended_purity": "worse", "blended_completeness": "better"}
    assert opening(**areas, **mixed) == "ours beats SEP, but not everywhere"


def test_the_headline_tells_what_only_the_test_set_shows():
    fields = verdicts(scores(ours=(950, 1000), SEP=(700, 1000)))
    fields = fields[fields["verdict"] == "better"]
    stamps = verdicts(scores(ours=(700, 1000), SEP=(950, 1000)))
    stamps = stamps[stamps["score"] == "blended purity"]
    told = headline("ours", fields, stamps)
    assert told.startswith("ours beats SEP, but not everywhere: ")
    assert told.endswith("on the test set worse in blended purity.")
    assert headline("ours", fields, fields) == headline("ours", fields)


def test_a_score_that_one_of_them_lacks_is_left_out():
    table = scores(ours=(9, 10), SEP=(5, 10))
    table["value"][(table["detector"] == "SEP") & (table["score"] == "blended purity")] = np.nan
    assert "blended purity" not in verdicts(table)["score"]


def counted(isolated, isolated_as_blended, blended_found, blended):
    table = np.zeros((4, 4), dtype=np.int64)
    table[Kind.ISOLATED, [Kind.ISOLATED, Kind.BLENDED]] = isolated - isolated_as_blended, isolated_as_blended
    table[Kind.BLENDED, [Kind.NONE, Kind.BLENDED]] = blended - blended_found, blended_found
    return Evidence({"ours": ObjectCounts(table)}, Table(), Table(), {})


def test_half_and_half_purity_is_measured_where_a_test_set_has_as_many_of_both():
    field = counted(1000, 10, 60, 100)  # c / (c + f) = 0.6 / (0.6 + 0.01)
    assert half_and_half(field, None, "ours", Kind.BLENDED).value == pytest.approx(0.6 / 0.61)
    assert np.isnan(half_and_half(field, None, "ours", Kind.ISOLATED).value)
    even = half_and_half(field, counted(50, 4, 40, 50), "ours", Kind.BLENDED)
    expected = wilson(40, 44)
    assert (even.value, even.low, even.high) == (expected.value, expected.low, expected.high)
    assert half_and_half(field, counted(50, 4, 40, 50), "ours", Kind.ISOLATED).value == 1.0
    uneven = half_and_half(field, counted(50, 5, 8, 10), "ours", Kind.BLENDED)  # 0.8 / (0.8 + 0.1)
    assert uneven.value == pytest.approx(8 / 9)
