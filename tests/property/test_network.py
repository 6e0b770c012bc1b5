"""The network's arithmetic over random architectures, latents and images."""

import json

import numpy as np
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appulse.network.calibration import IDENTITY, Calibration, ErrorBars, OperatingPoint
from appulse.network.config import NetworkConfig
from appulse.network.gaussian import Gaussian, kl_divergence
from appulse.network.punet import Combiner, ProbabilisticUNet

finite = st.floats(-1e3, 1e3)
few = settings(max_examples=25, deadline=None)


@st.composite
def configs(draw):
    levels = draw(st.integers(2, 4))
    return NetworkConfig(
        filters=tuple(draw(st.lists(st.integers(1, 6), min_size=levels, max_size=levels))),
        convolutions_per_level=draw(st.integers(1, 2)),
        normalisation=draw(st.sampled_from(["none", "batch"])),
        latent_dimensions=draw(st.integers(1, 6)),
        encoder_poolings=draw(st.integers(levels - 1, levels)),
        encoder_head=draw(st.sampled_from(["mean", "flatten"])),
        combiner_layers=draw(st.integers(0, 3)),
        combiner_filters=draw(st.integers(1, 8)),
        input_scaling=draw(st.sampled_from(["noise", "maximum"])),
        stamp_size=16,
    )


@few
@given(configs(), st.integers(0, 2**31))
def test_any_architecture_runs_and_folds(config, seed):
    torch.manual_seed(seed)
    network = ProbabilisticUNet(config).train()
    stamps = 3 * torch.randn(2, 1, 16, 16)
    with torch.no_grad():
        network.encode(stamps)
        network.eval()
        joined, prior = network.encode(stamps)
        posterior = network.encode_truth(stamps, torch.randint(0, 3, (2, 16, 16)))
        latents = prior.at(torch.randn(2, config.latent_dimensions))
        logits = network.realise(joined, latents)
        folded = network.for_inference()
        folded_logits = folded.realise(folded.encode(stamps)[0], latents)
    assert logits.shape == (2, 3, 16, 16)
    assert posterior.mean.shape == prior.mean.shape == (2, config.latent_dimensions)
    torch.testing.assert_close(folded_logits, logits, rtol=1e-3, atol=1e-3)
    assert NetworkConfig(**json.loads(json.dumps(config.to_dict()))) == config


@few
@given(configs(), st.integers(0, 2**31), st.floats(0.01, 30))
def test_split_combiner_is_one_convolution(config, seed, spread):
    torch.manual_seed(seed)
    combiner = Combiner(config)
    features = torch.randn(2, config.filters[0], 5, 7)
    latents = spread * torch.randn(2, config.latent_dimensions)
    weight = torch.cat((combiner.of_features.weight, combiner.of_latent.weight[:, :, None, None]), dim=1)
    tiled = latents[:, :, None, None].expand(-1, -1, 5, 7)
    x = F.conv2d(torch.cat((features, tiled), dim=1), weight, combiner.of_features.bias)
    for layer in combiner.rest:
        x = layer(F.relu(x))
    found = combiner(combiner.of_features(features), combiner.of_latent(latents))
    torch.testing.assert_close(found, x, rtol=1e-4, atol=1e-5 * max(1.0, spread))


@given(finite, st.floats(-5, 5), finite, st.floats(-5, 5))
def test_kl_is_a_divergence(mean_q, log_q, mean_p, log_p):
    q = Gaussian(torch.tensor(mean_q).double(), torch.tensor(log_q).double())
    p = Gaussian(torch.tensor(mean_p).double(), torch.tensor(log_p).double())
    kl = float(kl_divergence(q, p))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, q.log_sigma.exp()),
        torch.distributions.Normal(p.mean, p.log_sigma.exp()),
    )
    assert kl >= -1e-9
    np.testing.assert_allclose(kl, float(expected), rtol=1e-9, atol=1e-9)
    assert float(kl_divergence(q, q)) == 0


@given(hnp.arrays(np.float32, (2, 1, 4, 4), elements=st.floats(-100, 1e5, width=32)))
def test_scaling_keeps_order_and_range(image):
    stamps = torch.from_numpy(image)
    base = {"filters": (2, 2), "encoder_poolings": 1, "stamp_size": 4}
    for scaling in ("noise", "maximum"):
        scaled = ProbabilisticUNet(NetworkConfig(**base, input_scaling=scaling)).scale(stamps)
        assert torch.isfinite(scaled).all()
        for before, after in zip(stamps.flatten(1), scaled.flatten(1), strict=True):
            assert (after[before.argsort()].diff() >= 0).all()
            if scaling == "maximum" and before.max() > 1e-3:
                assert after.max() == 1


share = st.floats(0, 1)
curve = (
    st.sampled_from([3, 21, 41, len(IDENTITY)])
    .flatmap(lambda n: st.lists(st.floats(-20, 20), min_size=n, max_size=n))
    .map(lambda values: tuple(sorted(values)))
)
points = st.builds(OperatingPoint, share, share, st.integers(1, 50))


numbers = st.lists(st.floats(0.01, 10), max_size=3).map(tuple)
bars = st.dictionaries(st.text(), st.builds(ErrorBars, numbers, numbers, numbers, numbers), max_size=3)


@given(
    st.builds(
        Calibration,
        galaxy=curve,
        overlap=curve,
        correlation_length=st.floats(0, 20),
        operating_points=st.dictionaries(st.text(), points, max_size=3),
        error_bars=bars,
        blend_error_bars=bars,
        latent_scale=share,
    )
)
def test_calibration_survives_json(calibration):
    assert Calibration.from_dict(json.loads(json.dumps(calibration.to_dict()))) == calibration
