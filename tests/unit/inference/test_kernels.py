"""The fused kernel against its torch twin, and both against the network's own logits in float64."""

import functools

import numpy as np
import pytest
import torch
from scipy import interpolate, special

from appulse.inference.kernels import REACH, sample_fused
from appulse.inference.random_sky import copula_field, look_at
from appulse.inference.twins import calibrated, latent_biases, sample_torch
from appulse.network import Calibration, NetworkConfig, ProbabilisticUNet
from appulse.network.calibration import CURVE_END, IDENTITY

SAMPLES, SIZE = 12, 32
ORIGIN = (-17, 500)  # past both edges of the repeating field
PLAIN = Calibration()
KNOTS = np.array(IDENTITY)
CORRECTED = Calibration(tuple(0.7 * KNOTS + 0.4), tuple(1.4 * KNOTS - 0.6))
STEEP = Calibration(tuple(2.5 * KNOTS - 3.0), tuple(0.5 * KNOTS + 1.0))
BENT = Calibration(tuple(KNOTS + np.sinh(KNOTS / 4)), tuple(2 * np.arctan(KNOTS)))


def lively_network(combiner_layers=1):
    """A random network whose three classes all occur, sharply in some pixels and vaguely in others."""
    torch.manual_seed(3)
    config = NetworkConfig(
        filters=(4, 8, 8),
        stamp_size=SIZE,
        encoder_poolings=2,
        combiner_filters=8,
        combiner_layers=combiner_layers,
    )
    network = ProbabilisticUNet(config).for_inference()
    last = network.combiner.rest[-1]
    last.weight.mul_(6.0)
    last.bias.copy_(torch.tensor([3.0, 0.0, -1.0]))
    return network


def along(curve, logits):
    """The curve by SciPy, straight on outside its knots."""
    return interpolate.interp1d(KNOTS, curve, fill_value="extrapolate")(logits)


@functools.cache
def smooth_uniform(samples):
    return special.expit(copula_field(4, samples, 2.0))


class Stamp:
    """One encoded stamp, its latents, and what the network's logits say about it in float64."""

    def __init__(self, network, calibration=PLAIN, mode="copula", samples=SAMPLES, uniform=None):
        self.network, self.calibration, self.mode = network, calibration, mode
        pixels = 4 * np.random.default_rng(1).standard_normal((1, 1, SIZE, SIZE), dtype=np.float32)
        self.joined, self.prior = network.encode(torch.from_numpy(pixels))
        draws = np.random.default_rng(2).standard_normal((samples, 1, 10), dtype=np.float32)
        self.latents = self.prior.at(torch.from_numpy(draws))
        self.biases = latent_biases(network.combiner, self.latents)
        self.uniform = smooth_uniform(samples) if uniform is None else uniform

    def looked(self):
        return look_at(self.uniform, ORIGIN, (SIZE, SIZE))

    def fused(self):
        return sample_fused(
            self.joined[0].contiguous().numpy(),
            self.biases[:, 0].contiguous().numpy(),
            self.network.combiner,
            self.calibration,
            self.uniform,
            ORIGIN,
            self.mode,
        )

    def twin(self):
        looked = torch.from_numpy(self.looked())[:, None]
        classes, means = sample_torch(
            self.joined, self.biases, self.network.combiner, self.calibration, looked, self.mode
        )
        return classes[:, 0].numpy(), means[:, 0].numpy()

    def naive(self):
        """Probabilities by softmax, calibrated on the logit scale, and the margin to every decision."""
        logits = [self.network.realise(self.joined, latent)[0] for latent in self.latents]
        logits = torch.stack(logits).double().numpy()
        softmax = special.softmax(logits, axis=1)
        score = np.log(softmax[:, 1] + softmax[:, 2]) - np.log(softmax[:, 0])
        p_galaxy = special.expit(along(self.calibration.galaxy, score))
        p_overlap = p_galaxy * special.expit(along(self.calibration.overlap, logits[:, 2] - logits[:, 1]))
        if self.mode == "latent":
            classes = logits.argmax(axis=1)
            two_best = np.sort(logits, axis=1)[:, 1:]
            margin = two_best[:, 1] - two_best[:, 0]
        else:
            uniform = self.looked()
            classes = (uniform < p_galaxy) + 1 * (uniform < p_overlap)
            margin = np.minimum(np.abs(uniform - p_galaxy), np.abs(uniform - p_overlap))
        return classes, np.stack([p_galaxy, p_overlap]), margin


@pytest.fixture(scope="module")
def network():
    return lively_network()


@pytest.mark.parametrize("mode", ["copula", "latent"])
@pytest.mark.parametrize(
    "calibration", [PLAIN, CORRECTED, STEEP, BENT], ids=["plain", "corrected", "steep", "bent"]
)
def test_kernel_twin_and_naive_logits_agree(network, mode, calibration):
    stamp = Stamp(network, calibration, mode)
    classes, probabilities, margin = stamp.naive()
    assert all(0.02 < np.mean(classes == c) < 0.98 for c in (0, 1, 2))
    assert np.ptp(classes, axis=0).any()
    for drawn, means in (stamp.fused(), stamp.twin()):
        assert drawn.dtype == np.uint8 and drawn.shape == (SAMPLES, SIZE, SIZE)
        clear = margin > 1e-5
        np.testing.assert_array_equal(drawn[clear], classes[clear])
        assert np.mean(clear) > 0.99
        np.testing.assert_allclose(means, probabilities.mean(axis=1), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("mode", ["copula", "latent"])
def test_overlaps_are_never_more_probable_than_galaxies(network, mode):
    for calibration in (PLAIN, CORRECTED, STEEP, BENT):
        for _, (p_galaxy, p_overlap) in (
            Stamp(network, calibration, mode).fused(),
            Stamp(network, calibration, mode).twin(),
        ):
            assert (p_overlap <= p_galaxy).all() and (p_overlap >= 0).all()
            assert (p_galaxy <= 1 + 1e-6).all()


def test_frequencies_of_copula_realisations_are_the_probabilities(network):
    """By construction: class >= c happens with probability P(>= c), whatever the latent does."""
    samples = 400
    uniform = np.random.default_rng(9).random((samples, 64, 64), dtype=np.float32)
    stamp = Stamp(network, CORRECTED, samples=samples, uniform=uniform)
    classes, means = stamp.fused()
    for at_least, expected in ((1, means[0]), (2, means[1])):
        frequency = (classes >= at_least).mean(axis=0)
        error = np.sqrt(np.maximum(expected * (1 - expected), 1 / samples) / samples)
        deviation = (frequency - expected) / error
        assert np.abs(deviation).max() < 5
        assert abs(deviation.mean()) < 5 / SIZE


def test_one_latent_for_all_is_the_same_latent_for_each(network):
    one = Stamp(network, CORRECTED)
    each = Stamp(network, CORRECTED)
    one.biases = one.biases[:1]
    each.biases = one.biases.expand(SAMPLES, -1, -1)
    for way in (Stamp.fused, Stamp.twin):
        (classes, means), (expected, mean_of_each) = way(one), way(each)
        np.testing.assert_array_equal(classes, expected)
        np.testing.assert_allclose(means, mean_of_each, rtol=1e-5)
        assert np.ptp(classes, axis=0).any()


def test_probabilities_do_not_depend_on_how_realisations_are_drawn(network):
    (_, copula), (_, latent) = Stamp(network, CORRECTED).fused(), Stamp(network, CORRECTED, "latent").fused()
    np.testing.assert_allclose(copula, latent, atol=1e-4)


def test_the_kernel_gives_the_same_bytes_every_time(network):
    one, other = Stamp(network).fused(), Stamp(network).fused()
    assert [part.tobytes() for part in one] == [part.tobytes() for part in other]


@pytest.mark.parametrize("layers", [0, 2])
def test_the_twin_serves_other_combiners(layers):
    if layers == 0:
        torch.manual_seed(3)
        config = NetworkConfig(filters=(4, 8, 8), stamp_size=SIZE, encoder_poolings=2, combiner_layers=0)
        network = ProbabilisticUNet(config).for_inference()
    else:
        network = lively_network(layers)
    stamp = Stamp(network, CORRECTED)
    classes, probabilities, margin = stamp.naive()
    drawn, means = stamp.twin()
    np.testing.assert_array_equal(drawn[margin > 1e-5], classes[margin > 1e-5])
    np.testing.assert_allclose(means, probabilities.mean(axis=1), rtol=1e-4, atol=1e-4)


def test_tables_reach_as_far_as_curves():
    assert REACH == CURVE_END


def test_extreme_scores_stay_probabilities(network):
    scores = torch.tensor([-200.0, -30.0, 0.0, 30.0, 200.0])
    one, two = torch.meshgrid(scores, scores, indexing="ij")
    p_galaxy, p_overlap = calibrated(one, two, CORRECTED)
    assert torch.isfinite(p_galaxy).all() and torch.isfinite(p_overlap).all()
    assert ((0 <= p_overlap) & (p_overlap <= p_galaxy) & (p_galaxy <= 1)).all()
    # As far as the curves go: to a logit of 20.
    assert p_galaxy[0, 0] < 1e-5 and min(p_galaxy[-1, 0], p_overlap[0, -1]) > 1 - 1e-5


def test_kernel_and_twin_agree_far_beyond_the_knots_of_a_curve_that_is_flat_there():
    flat = tuple(0.1 * logit for logit in IDENTITY[30:-30])
    calibration = Calibration(galaxy=IDENTITY, overlap=flat)
    stamp = Stamp(lively_network(), calibration)
    with torch.no_grad():
        stamp.network.combiner.rest[-1].weight *= 30.0
    classes, means = stamp.fused()
    twin_classes, twin_means = stamp.twin()
    np.testing.assert_allclose(means, twin_means, atol=2e-5)
    assert (classes == twin_classes).mean() > 0.999
