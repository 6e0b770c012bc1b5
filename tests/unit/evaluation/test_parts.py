"""Evidence of a field, kept on disk between runs."""

import numpy as np
import pytest

from appulse.baselines import SepDetector
from appulse.evaluation import binned
from appulse.evaluation.parts import load_evidence, save_evidence
from appulse.evaluation.scoring import Scoring, evidence_of
from by_hand import by_hand, field_of_discs

IDENTITY = {"model": "by hand", "samples": 4, "sides": (1, 2)}


@pytest.fixture(scope="module")
def evidence():
    return evidence_of(by_hand(), field_of_discs(), [SepDetector()], Scoring(samples=4))


def test_what_is_read_is_what_was_written(evidence, tmp_path):
    save_evidence(evidence, tmp_path / "part.npz", IDENTITY)
    again = load_evidence(tmp_path / "part.npz", IDENTITY)
    assert list(again.counts) == list(evidence.counts)  # the model stays first
    for make in (binned.tradeoff, binned.pixel_table, binned.reliability_curves, binned.ensemble_table):
        assert make(again).pformat() == make(evidence).pformat()
    for name in ("galaxies", "objects", "measured", "ranks", "claimed"):
        ours, theirs = getattr(again, name), getattr(evidence, name)
        assert ours.dtype == theirs.dtype and ours.pformat() == theirs.pformat()
    assert again.galaxy_counts == evidence.galaxy_counts and again.lenient == evidence.lenient
    (ours,), (theirs,) = again.regions, evidence.regions
    np.testing.assert_array_equal(ours.std, theirs.std)
    assert (ours.title, ours.order) == (theirs.title, theirs.order)
    assert len((again + evidence).objects) == 2 * len(evidence.objects)


def test_parts_of_something_else_and_broken_ones_are_not_read(evidence, tmp_path):
    path = tmp_path / "part.npz"
    assert load_evidence(path, IDENTITY) is None
    save_evidence(evidence, path, IDENTITY)
    assert load_evidence(path, IDENTITY | {"samples": 5}) is None
    path.write_bytes(path.read_bytes()[:1000])
    assert load_evidence(path, IDENTITY) is None
