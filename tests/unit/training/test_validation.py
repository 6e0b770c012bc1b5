"""Validation scores: from the prior, fixed, and right where the answer is known."""

import dataclasses
import math

import numpy as np
import pytest
import torch

from appulse.network.config import NetworkConfig
from appulse.network.gaussian import Gaussian
from appulse.network.punet import ProbabilisticUNet
from appulse.sky import Population, Survey, simulate_field, write_field
from appulse.sky.true_objects import true_objects
from appulse.stamps import StampConfig, grid_stamps
from appulse.training.validation import ValidationStamps, validate
from skies_by_hand import field_of

NETWORK = NetworkConfig(filters=(4, 8, 8), encoder_poolings=2, combiner_filters=8, stamp_size=32)
STAMPS = StampConfig(size=32)


@pytest.fixture(scope="module")
def field():
    survey = dataclasses.replace(
        Survey.load("paper"), population=Population(density=120.0, magnitude_bright=21.0)
    )
    return simulate_field(survey, (130, 160), seed=1005)


@pytest.fixture(scope="module")
def stamps(field):
    return ValidationStamps.of(field, STAMPS)


@pytest.fixture
def network():
    torch.manual_seed(2)
    network = ProbabilisticUNet(NETWORK)
    torch.nn.init.normal_(network.prior.head.weight, std=0.3)  # a latent that differs from stamp to stamp
    return network


class Oracle(torch.nn.Module):
    """Knows the truth; its logits are certain, and its latent does nothing."""

    def __init__(self, stamps, change=lambda ternary: ternary):
        super().__init__()
        self.config = NETWORK
        self.nothing = torch.nn.Parameter(torch.zeros(1))
        self.answers = {
            image.tobytes(): change(t) for image, t in zip(stamps.images, stamps.ternary, strict=True)
        }

    def _unit(self, n):
        return Gaussian(torch.zeros(n, 10), torch.zeros(n, 10))

    def encode(self, images):
        ternary = np.stack([self.answers[image[0].contiguous().numpy().tobytes()] for image in images])
        one_hot = torch.nn.functional.one_hot(torch.from_numpy(ternary).long(), 3)
        return one_hot.permute(0, 3, 1, 2).float() * 50, self._unit(len(images))

    def encode_truth(self, images, truth):
        return self._unit(len(images))

    def realise(self, joined, latents):
        return joined


def test_stamps_are_the_grid(field, stamps):
    assert stamps.images.shape == (4 * 5, 32, 32) and stamps.rows == 4
    truth = field.ternary()
    for index, ternary in enumerate(stamps.ternary):
        y, x = 32 * (index // 5), 32 * (index % 5)
        assert np.mean(ternary != truth[y : y + 32, x : x + 32]) < 2e-3  # float16 near the threshold


def test_read_equals_of(field, stamps, tmp_path):
    write_field(field, tmp_path / "field.fits")
    read = ValidationStamps.read(tmp_path / "field.fits", STAMPS)
    np.testing.assert_array_equal(read.images, stamps.images)
    np.testing.assert_array_equal(read.ternary, stamps.ternary)


def test_two_calls_are_equal_and_leave_the_network_alone(network, stamps):
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(1)
    first = validate(network, stamps)
    torch.manual_seed(77)
    second = validate(network, stamps)
    assert network.training
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert value == second[name] or (math.isnan(value) and math.isnan(second[name]))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_network_that_fails_is_left_in_training(network, stamps, monkeypatch):
    monkeypatch.setattr(network, "realise", lambda *_: 1 / 0)
    network.train()
    with pytest.raises(ZeroDivisionError):
        validate(network, stamps)
    assert all(part.training for part in network.modules())


def test_scores_do_not_see_the_posterior(network, stamps):
    before = validate(network, stamps)
    with torch.no_grad():
        for parameter in network.posterior.parameters():
            parameter += torch.randn_like(parameter)
    after = validate(network, stamps)
    assert before["kl"] != after["kl"]
    for name, value in before.items():
        if not name.startswith("kl") and name != "active_dimensions":
            assert value == after[name] or (math.isnan(value) and math.isnan(after[name])), name


def test_scores_see_the_prior(network, stamps):
    before = validate(network, stamps)
    with torch.no_grad():
        network.prior.head.bias += 2.0
    assert validate(network, stamps)["cross_entropy"] != before["cross_entropy"]


def test_kl_per_dimension_adds_up(network, stamps):
    scores = validate(network, stamps)
    each = [scores[f"kl_{i}"] for i in range(10)]
    assert sum(each) == pytest.approx(scores["kl"])
    assert scores["active_dimensions"] == sum(value > 0.01 for value in each)


def test_batch_size_does_not_matter_much(network, stamps):
    # The divergence has no randomness, so it may differ by rounding only.
    small, large = (validate(network, stamps, batch_size=n) for n in (3, 64))
    assert small["kl"] == pytest.approx(large["kl"], rel=1e-4)
    assert small["cross_entropy"] == pytest.approx(large["cross_entropy"], rel=0.2)


def test_perfect_network(stamps):
    scores = validate(Oracle(stamps), stamps)
    for name in ("background", "isolated", "overlap"):
        assert scores[f"dice_{name}"] == scores[f"iou_{name}"] == 1
    for name in ("isolated", "blended"):
        assert scores[f"completeness_{name}"] == 1 and scores[f"purity_{name}"] == 1
    assert scores["cross_entropy"] == pytest.approx(0, abs=1e-6)
    assert scores["diversity"] == 0 and scores["kl"] == 0 and scores["active_dimensions"] == 0
    assert scores["false_galaxy_on_empty"] == scores["false_overlap_on_empty"] == 0


def test_network_that_sees_nothing(stamps):
    scores = validate(Oracle(stamps, np.zeros_like), stamps)
    share = np.mean(stamps.ternary == 0)
    assert scores["dice_background"] == pytest.approx(2 * share / (1 + share))
    assert scores["iou_background"] == pytest.approx(share)
    assert scores["dice_isolated"] == scores["dice_overlap"] == 0
    assert scores["completeness_isolated"] == scores["completeness_blended"] == 0
    assert scores["false_galaxy_on_empty"] == 0


def test_classes_are_those_at_thresholds_of_a_half(stamps):
    class Unsure(Oracle):
        def encode(self, images):
            logits, prior = super().encode(images)
            # Background is the likeliest class, and yet a galaxy is likelier than none.
            return torch.tensor([0.4, 0.35, 0.25]).log()[:, None, None].expand_as(logits), prior

    scores = validate(Unsure(stamps), stamps)
    share = np.mean(stamps.ternary == 1)
    assert scores["iou_isolated"] == pytest.approx(share) and scores["iou_background"] == 0


def test_false_galaxies_on_empty_stamps():
    flat = np.zeros((64, 64), np.float32)
    lit = flat.copy()
    lit[:32, :32] = 9
    field = field_of(lit)
    noise = np.random.default_rng(0).normal(scale=field.sigma, size=lit.shape).astype(np.float32)
    batch = grid_stamps(dataclasses.replace(field, image=field.image + noise), STAMPS)
    ternary = (lit > 1).astype(np.uint8)
    id1 = ternary.astype(np.int32)
    objects = true_objects(ternary, id1, np.zeros_like(id1))
    stamps = ValidationStamps(batch.images, batch.ternary, 2, objects)

    def change(truth):
        # A false galaxy on one empty stamp of three, of which one pixel is an overlap.
        change.calls += 1
        answer = truth.copy()
        if change.calls == 2:
            answer[3:6, 3:6], answer[3, 3] = 1, 2
        return answer

    change.calls = 0
    scores = validate(Oracle(stamps, change), stamps)
    assert scores["false_galaxy_on_empty"] == pytest.approx(1 / 3)
    assert scores["false_overlap_on_empty"] == pytest.approx(1 / 3)


def test_diversity_by_hand(stamps):
    """Realisations that alternate between two maps differ in every second pair."""

    class Alternating(Oracle):
        calls = 0

        def realise(self, joined, latents):
            self.calls += 1
            return joined if self.calls % 2 else joined.roll(1, dims=1)

    scores = validate(Alternating(stamps), stamps, samples=2, batch_size=1000)
    # Both draws of every pixel differ; on average only class 1 stays a galaxy in both.
    assert scores["diversity"] == pytest.approx(stamps.ternary.size / np.sum(stamps.ternary == 1))
    assert validate(Oracle(stamps), stamps, samples=2)["diversity"] == 0
