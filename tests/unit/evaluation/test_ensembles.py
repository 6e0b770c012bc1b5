"""Ranks and energies of realisations on a sky of discs (tests/by_hand.py)."""

import dataclasses

import numpy as np
import pytest
import torch
from astropy.table import vstack
from scipy import special

from appulse.evaluation.energy import energy_score, energy_terms
from appulse.evaluation.ensembles import RANKED, energy_columns, rank_table
from appulse.evaluation.evidence import frequency
from appulse.evaluation.measured import matched_galaxies
from appulse.evaluation.modes import MODES, mode_table
from appulse.inference.realisations import Realisations
from appulse.segmentation import segment
from appulse.sky.true_objects import true_objects
from by_hand import by_hand, discs, field_of_discs, thresholding_model


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
        drawn, true = result.realisations()[:, *window], ternary[window]
        assert columns["energy"][row] == pytest.approx(energy_score(drawn >= 1, mask[window]))
        if (ternary[mask] == 2).any():
            assert columns["energy_overlap"][row] == pytest.approx(energy_score(drawn == 2, true == 2))
        else:
            assert np.isnan(columns["energy_overlap"][row])
    assert (columns["diversity"] > 0).all() and np.isfinite(columns["energy_overlap"]).sum() == 1


def test_a_neighbour_four_pixels_away_has_no_part_in_the_energy(result):
    shape, circles = (40, 60), ((15, 20, 8), (34, 20, 6))
    alone, neighbour = (discs(shape, circle, noise=0.0) > 0 for circle in circles)
    assert np.ptp([np.flatnonzero(alone[20])[-1], np.flatnonzero(neighbour[20])[0]]) == 5
    drawn = np.random.default_rng(0).random((8, *shape)) < 0.8
    columns = []
    for there in (alone, alone | neighbour):
        store = Realisations(len(drawn), shape)
        store.put(np.s_[: shape[0], : shape[1]], (drawn & there).astype(np.uint8))
        ternary = there.astype(np.uint8)
        truth = true_objects(ternary, alone + 2 * (there & neighbour), np.zeros(shape, int))
        scene = dataclasses.replace(result, realisation_store=store)
        columns.append(energy_columns(truth, ternary, scene, truth.labels[20, 15:16]))
    assert columns[1]["energy"] == columns[0]["energy"] and columns[1]["diversity"] == columns[0]["diversity"]
    assert columns[0]["energy"] == pytest.approx(energy_score(drawn & alone, alone))


def test_frequencies_of_the_classes_add_up_to_the_mean(field):
    image = field.image.copy()
    image[60:64, 118:122] = np.nan
    result = segment(image, model=by_hand(), samples=8, seed=1)
    bad = np.isnan(result.mean)
    assert bad.any() and (result.realisations() == 2).any()
    np.testing.assert_allclose(frequency(result, 1) + frequency(result, 2), result.mean, atol=1e-6)
    np.testing.assert_array_equal(np.isnan(frequency(result, 1)), bad)


def test_without_a_latent_only_the_copula_has_diversity(field):
    model = thresholding_model()
    with torch.no_grad():
        model.network.combiner.of_latent.weight.zero_()
    table = mode_table(model, field, samples=4)
    assert tuple(table["mode"]) == MODES == ("copula", "latent")
    assert table["diversity"][0] > 0 == table["diversity"][1]


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


def test_ranks_are_taken_in_the_intervals_of_the_catalogue(field, result):
    measured = matched_galaxies(field, result)
    for shift, low, high in ((1e3, 0.0, 0.12), (-1e3, 0.88, 1.0)):
        moved = measured.copy()
        for end in ("area_p16", "area_p84"):
            moved[end] += shift
        table = rank_table(field, result, moved)
        assert ((table["rank_area"] >= low) & (table["rank_area"] <= high)).all()


def test_ranks_of_fluxes_know_the_noise_of_the_pixels(field, result):
    """Of realisations that agree, the truth half a sigma above them."""
    measured = vstack([matched_galaxies(field, result)] * 20, metadata_conflicts="silent")
    for end in ("flux_p16", "flux_p84"):
        measured[end] = measured["true_flux"] - 0.5 * measured["flux_noise"]
    ranks = rank_table(field, result, measured)["rank_flux"]
    expected = (16 * special.ndtr(0.5) + 0.5) / 17
    assert np.mean(ranks) == pytest.approx(expected, abs=0.05)  # 4 of its standard deviations
