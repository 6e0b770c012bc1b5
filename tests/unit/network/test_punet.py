"""The network against slow, obvious versions of its parts."""

import dataclasses

import pytest
import torch
import torch.nn.functional as F

from appulse.network import unet
from appulse.network.config import NetworkConfig
from appulse.network.gaussian import LOG_SIGMA_BOUND, Gaussian, GaussianEncoder, kl_divergence
from appulse.network.punet import ProbabilisticUNet

TINY = NetworkConfig(
    filters=(4, 8, 8), encoder_poolings=2, combiner_filters=8, stamp_size=32, latent_dimensions=5
)
VARIANTS = {
    "default": TINY,
    "unnormalised": dataclasses.replace(TINY, normalisation="none"),
    "three convolutions": dataclasses.replace(TINY, convolutions_per_level=3),
    "flatten": dataclasses.replace(TINY, encoder_head="flatten"),
    "all poolings": dataclasses.replace(TINY, encoder_poolings=3),
    "flatten, all poolings": dataclasses.replace(TINY, encoder_head="flatten", encoder_poolings=3),
    "deep combiner": dataclasses.replace(TINY, combiner_layers=3),
    "bare combiner": dataclasses.replace(TINY, combiner_layers=0),
    "maximum": dataclasses.replace(TINY, input_scaling="maximum"),
}


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture(params=VARIANTS.values(), ids=VARIANTS)
def network(request):
    return ProbabilisticUNet(request.param).eval()


def stamps(n=3, size=32):
    return 5 * torch.randn(n, 1, size, size)


def test_shapes(network):
    images, truth = stamps(), torch.randint(0, 3, (3, 32, 32), dtype=torch.uint8)
    joined, prior = network.encode(images)
    assert joined.shape[0] == 3 and joined.shape[2:] == (32, 32)
    posterior = network.encode_truth(images, truth)
    for gaussian in (prior, posterior):
        assert gaussian.mean.shape == gaussian.log_sigma.shape == (3, 5)
        assert gaussian.mean.dtype == gaussian.log_sigma.dtype == torch.float32
    logits = network.realise(joined, prior.at(torch.randn(3, 5)))
    assert logits.shape == (3, 3, 32, 32) and torch.isfinite(logits).all()


def test_a_stamp_does_not_see_its_neighbours_in_the_batch(network):
    images = stamps()
    joined, prior = network.encode(images)
    for i in range(3):
        alone, alone_prior = network.encode(images[i : i + 1])
        torch.testing.assert_close(alone[0], joined[i], rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(alone_prior.mean[0], prior.mean[i], rtol=1e-4, atol=1e-5)


def test_realise_equals_naive_concatenation(network):
    """Tile the latent over the pixels, join it to the features, and run one plain 1x1 convolution."""
    images, latents = stamps(), 3 * torch.randn(3, 5)
    with torch.no_grad():
        joined, _ = network.encode(images)
        features = network.unet(network.scale(images))
        tiled = latents[:, :, None, None].expand(-1, -1, 32, 32)
        combiner = network.combiner
        weight = torch.cat((combiner.of_features.weight, combiner.of_latent.weight[:, :, None, None]), dim=1)
        x = F.conv2d(torch.cat((features, tiled), dim=1), weight, combiner.of_features.bias)
        for layer in combiner.rest:
            x = F.conv2d(F.relu(x), layer.weight, layer.bias)
        torch.testing.assert_close(network.realise(joined, latents), x, rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_plain_interpolation(monkeypatch):
    """The decoder puts its gradients in another order for speed, and adds ReLUs in place."""

    def plain(x):
        return F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)

    images, gradients = stamps().double(), []
    for layout, upsample in ((torch.channels_last, unet._upsample), (torch.contiguous_format, plain)):
        monkeypatch.setattr(unet, "_upsample", upsample)
        torch.manual_seed(1)
        network = ProbabilisticUNet(TINY).double().to(memory_format=layout)
        joined, prior = network.encode(images.contiguous(memory_format=layout))
        network.realise(joined, prior.mean).square().mean().backward()
        gradients.append([p.grad for p in network.parameters() if p.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_half_precision_stays_so_between_the_levels():
    """Under autocast torch interpolates in float32, and everything after it would follow."""
    seen = []
    network = ProbabilisticUNet(TINY)
    for block in network.unet.up:
        block.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    with torch.autocast("cpu", torch.bfloat16):
        network.encode(stamps())
    assert seen == [torch.bfloat16] * len(network.unet.up)


def test_combiner_has_the_asked_hidden_layers():
    for layers in range(4):
        combiner = ProbabilisticUNet(dataclasses.replace(TINY, combiner_layers=layers)).combiner
        assert len(combiner.rest) == layers


def test_latent_matters_pixel_by_pixel_only_with_a_hidden_layer():
    # With none the latent is a constant per class (REFERENCE, 1).
    images, draws = stamps(1), torch.randn(2, 5)
    for layers, constant in ((0, True), (1, False)):
        network = ProbabilisticUNet(dataclasses.replace(TINY, combiner_layers=layers)).eval()
        joined, _ = network.encode(images)
        difference = network.realise(joined, draws[:1]) - network.realise(joined, draws[1:])
        assert difference.abs().max() > 1e-3
        assert bool(difference.std(dim=(2, 3)).max() < 1e-5) is constant


@pytest.mark.parametrize("convolutions", [1, 3])
def test_parameters_at_paper_width(convolutions):
    # REFERENCE, 1: 6.9 M in training and 5.5 M at inference with one convolution per level; 19.9 M and 15.0 M
    # with three.
    config = dataclasses.replace(NetworkConfig.preset("paper"), convolutions_per_level=convolutions)
    network = ProbabilisticUNet(config)
    whole, inference = {1: (6.9e6, 5.5e6), 3: (19.9e6, 15.0e6)}[convolutions]
    of_posterior = sum(each.numel() for each in network.posterior.parameters())
    of_all = sum(each.numel() for each in network.parameters())
    assert of_all == pytest.approx(whole, rel=0.03)
    assert of_all - of_posterior == pytest.approx(inference, rel=0.03)


@pytest.mark.parametrize("convolutions", [1, 2])
def test_folded_equals_unfolded(convolutions):
    network = ProbabilisticUNet(dataclasses.replace(TINY, convolutions_per_level=convolutions)).train()
    for _ in range(3):  # running statistics and affine parameters unlike their initial values
        network.encode(stamps(8))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            torch.nn.init.uniform_(module.weight, 0.5, 2.0)
            torch.nn.init.normal_(module.bias)
    network.eval()
    images, latents = stamps(), torch.randn(3, 5)
    joined, prior = network.encode(images)
    expected = network.realise(joined, latents)
    folded = network.for_inference()
    joined, folded_prior = folded.encode(images)
    torch.testing.assert_close(folded.realise(joined, latents), expected, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(folded_prior.mean, prior.mean, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(folded_prior.log_sigma, prior.log_sigma, rtol=1e-4, atol=1e-5)


def test_for_inference_is_a_bare_copy():
    network = ProbabilisticUNet(TINY).train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    bare = network.for_inference()
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in bare.modules())
    assert not hasattr(bare, "posterior") and not bare.training
    assert not any(parameter.requires_grad for parameter in bare.parameters())
    assert network.training and hasattr(network, "posterior")
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("poolings", [2, 3])
def test_flatten_head_is_one_dense_layer(poolings):
    config = dataclasses.replace(
        TINY, encoder_head="flatten", encoder_poolings=poolings, normalisation="none"
    )
    encoder = GaussianEncoder(1, config).eval()
    x = torch.randn(3, 1, 32, 32)
    found = encoder(x)
    for level, block in enumerate(encoder.blocks):
        x = block(F.avg_pool2d(x, 2) if level else x)
    if poolings == 3:
        x = F.avg_pool2d(x, 2)
    side = 32 // 2**poolings
    assert x.shape == (3, 8, side, side)
    dense = torch.nn.Linear(8 * side * side, 10)
    dense.weight.data = encoder.head.weight.data.reshape(10, -1)
    dense.bias.data = encoder.head.bias.data
    mean, log_sigma = dense(x.flatten(1)).split(5, dim=1)
    torch.testing.assert_close(found.mean, mean, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(found.log_sigma, 5 * torch.tanh(log_sigma / 5), rtol=1e-4, atol=1e-6)


def test_mean_head_ignores_the_stamps_size():
    encoder = GaussianEncoder(1, TINY).eval()
    constant = encoder(torch.full((1, 1, 32, 32), 0.3)).mean
    assert constant.shape == encoder(torch.full((1, 1, 64, 64), 0.3)).mean.shape


def test_log_sigma_is_bounded():
    encoder = GaussianEncoder(1, TINY).eval()
    torch.nn.init.normal_(encoder.head.weight, std=1e4)
    gaussian = encoder(1e3 * torch.randn(64, 1, 32, 32))
    assert gaussian.log_sigma.abs().max() <= LOG_SIGMA_BOUND == 5.0
    kl = kl_divergence(gaussian, Gaussian(torch.zeros(64, 5), torch.full((64, 5), -5.0)))
    assert torch.isfinite(kl).all()


def test_fresh_network_starts_near_the_unit_gaussian():
    network = ProbabilisticUNet(TINY).eval()
    images, truth = stamps(), torch.randint(0, 3, (3, 32, 32))
    kl = kl_divergence(network.encode_truth(images, truth), network.encode(images)[1])
    assert kl.sum(dim=1).max() < 5


def test_kl_divergence_against_torch():
    q = Gaussian(3 * torch.randn(7, 5), torch.randn(7, 5))
    p = Gaussian(3 * torch.randn(7, 5), torch.randn(7, 5))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(q.mean, q.log_sigma.exp()),
        torch.distributions.Normal(p.mean, p.log_sigma.exp()),
    )
    torch.testing.assert_close(kl_divergence(q, p), expected, rtol=1e-4, atol=1e-5)
    assert kl_divergence(q, q).abs().max() == 0


def test_gaussian_at_has_its_moments():
    gaussian = Gaussian(torch.tensor([[2.0, -1.0]]), torch.tensor([[0.0, 1.0]]))
    draws = gaussian.at(torch.randn(20000, 1, 2))
    torch.testing.assert_close(draws.mean(dim=0), gaussian.mean, rtol=0, atol=0.1)
    torch.testing.assert_close(draws.std(dim=0), gaussian.log_sigma.exp(), rtol=0.03, atol=0)


def test_posterior_sees_the_truth_and_prior_does_not():
    network = ProbabilisticUNet(TINY).eval()
    images = stamps()
    empty, full = torch.zeros(3, 32, 32, dtype=torch.uint8), torch.full((3, 32, 32), 2, dtype=torch.uint8)
    difference = network.encode_truth(images, empty).mean - network.encode_truth(images, full).mean
    assert difference.abs().max() > 0


def test_truth_is_one_hot_centred():
    network = ProbabilisticUNet(TINY).eval()
    images, truth = stamps(1), torch.randint(0, 3, (1, 32, 32), dtype=torch.uint8)
    seen = []
    network.posterior.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network.encode_truth(images, truth)
    torch.testing.assert_close(seen[0][:, :1], network.scale(images))
    for label in range(3):
        torch.testing.assert_close(seen[0][:, 1 + label], (truth == label).float() - 0.5)


def test_scale_by_the_noise():
    network = ProbabilisticUNet(dataclasses.replace(TINY, input_divisor=4.0))
    values = torch.tensor([-2.0, 0.0, 1.0, 1e4]).reshape(1, 1, 2, 2)
    # arcsinh(x) = ln(x + sqrt(x^2 + 1))
    expected = torch.log(values.double() + torch.sqrt(values.double() ** 2 + 1)) / 4
    torch.testing.assert_close(network.scale(values).double(), expected, rtol=1e-5, atol=1e-5)


def test_scale_by_the_maximum():
    network = ProbabilisticUNet(VARIANTS["maximum"])
    images = stamps()
    scaled = network.scale(images)
    for image, found in zip(images, scaled, strict=True):
        assert found.max() == 1  # each stamp by its own
        torch.testing.assert_close(found, torch.arcsinh(image) / torch.arcsinh(image.max()))
    # Where arcsinh is linear, the unit of the image drops out; a stamp's neighbours in the batch never count.
    faint = 1e-5 * images
    torch.testing.assert_close(network.scale(3 * faint), network.scale(faint), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(network.scale(images[:1]), scaled[:1])
    assert torch.equal(network.scale(torch.zeros(1, 1, 4, 4)), torch.zeros(1, 1, 4, 4))
