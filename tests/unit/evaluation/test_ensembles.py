"""Ranks and energies of realisations on a sky of discs (tests/by_hand.py)."""

import numpy as np
import pytest

from appulse.evaluation.energy import energy_score, energy_terms
from appulse.evaluation.ensembles import RANKED, energy_columns, rank_table
from appulse.evaluation.measured import matched_galaxies
from appulse.evaluation.truth_tables import result_masks
from appulse.segmentation import segment
from appulse.sky.true_objects import true_objects
from by_hand import SHAPE, by_hand, field_of_discs


@pytest.fixture(scope="module")
def field():
    return field_of_discs()


@pytest.fixture(scope="module")
def result(field):
    return segment(field.image, model=by_hand(), samples=16, seed=1)


def test_energy_of_an_object_is_that_of_its_window_alone(field, result):
    ternary = field.ternary()
    truth = true_objects(ternary, field.id1, field.id2)
    labels = np.flatnonzero(truth.kind > 0)
    columns = energy_columns(truth, ternary, result, labels)
    for row, label in enumerate(labels):
        mask = truth.labels == label
        y, x = np.nonzero(mask)
        window = slice(y.min() - 6, y.max() + 7), slice(x.min() - 6, x.max() + 7)
        drawn = result.realisations()[:, *window] >= 1
        assert columns["energy"][row] == pytest.approx(energy_score(drawn, mask[window]))
        assert np.isnan(columns["energy_overlap"][row]) == (not (ternary[mask] == 2).any())
    assert (columns["diversity"] > 0).all()


def test_diversity_of_copies_is_nothing():
    drawn = np.zeros((4, 6, 6), bool)
    drawn[:, 2:4, 2:4] = True
    truth = np.zeros((6, 6), bool)
    truth[2:4, 2:5] = True
    error, diversity = energy_terms(drawn, truth)
    assert diversity == 0 and error == pytest.approx(1 - 4 / 6)


def test_ranks_follow_the_truth(field, result):
    measured = matched_galaxies(field, result)
    for shift, low, high in ((-1e6, 0.0, 0.12), (1e6, 0.88, 1.0)):
        moved = measured.copy()
        for quantity in RANKED:
            moved[f"true_{quantity}"] += shift
        table = rank_table(field, result, moved)
        assert len(table) == len(measured)
        for quantity in RANKED:
            assert ((table[f"rank_{quantity}"] >= low) & (table[f"rank_{quantity}"] <= high)).all()
    assert len(rank_table(field, result, measured, largest=2)) == 2
    assert len(rank_table(field, result, measured[:0])) == 0
    assert result_masks(result)[0][1].any() and SHAPE == result.ternary.shape
