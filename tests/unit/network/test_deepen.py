"""A deeper network that gives what the shallow one gave."""

import pytest
import torch

from appulse.network import NetworkConfig, ProbabilisticUNet
from appulse.network.deepen import deepened
from appulse.network.layers import ConvBlock

SMALL = {"filters": (4, 6, 8), "encoder_poolings": 2, "stamp_size": 32, "latent_dimensions": 3}


def trained(**options):
    """A network whose normalisation layers have seen something."""
    torch.manual_seed(1)
    network = ProbabilisticUNet(NetworkConfig(**SMALL, **options)).train()
    with torch.no_grad():
        for images, ternary in stamps(30):
            network.encode(images)
            network.encode_truth(images, ternary)
    return network.eval()


def stamps(batches):
    generator = torch.Generator().manual_seed(2)
    for _ in range(batches):
        images = 4 * torch.randn((8, 1, 32, 32), generator=generator)
        yield images, torch.randint(0, 3, (8, 32, 32), generator=generator)


def outputs(network, images, ternary):
    with torch.inference_mode():
        joined, prior = network.encode(images)
        posterior = network.encode_truth(images, ternary)
        return network.realise(joined, prior.mean), prior.mean, posterior.mean


@pytest.mark.parametrize("normalisation", ["batch", "none"])
@pytest.mark.parametrize(("held", "wanted"), [(1, 2), (2, 3), (1, 3)])
def test_a_deeper_network_gives_the_same(normalisation, held, wanted):
    network = trained(normalisation=normalisation, convolutions_per_level=held)
    deeper = deepened(network, wanted, stamps(2))
    assert deeper.config.convolutions_per_level == wanted
    images, ternary = next(stamps(1))
    for one, other in zip(
        outputs(network, images, ternary), outputs(deeper.eval(), images, ternary), strict=True
    ):
        torch.testing.assert_close(other, one, rtol=1e-4, atol=1e-4)


def test_in_training_it_gives_nearly_the_same_where_batches_are_alike():
    network = trained()
    deeper = deepened(network, 2, stamps(16))
    images, ternary = next(stamps(1))
    shallow, deep = (outputs(each.train(), images, ternary)[0] for each in (network, deeper))
    assert (deep - shallow).abs().mean() < 0.1 * shallow.std()


def test_new_layers_learn():
    deeper = deepened(trained(), 2, stamps(2)).train()
    images, ternary = next(stamps(1))
    joined, prior = deeper.encode(images)
    torch.nn.functional.cross_entropy(deeper.realise(joined, prior.mean), ternary).backward()
    blocks = [part for part in deeper.unet.modules() if isinstance(part, ConvBlock)]
    assert all(block[3].weight.grad.abs().max() > 0 for block in blocks)


def test_the_network_itself_stays_as_it_is():
    network = trained().train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    deepened(network, 2, stamps(2))
    assert network.training and not any(part._forward_hooks for part in network.modules())
    for name, value in network.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_network_is_not_made_shallower():
    with pytest.raises(ValueError, match="convolutions_per_level is 1, but the network has 2"):
        deepened(trained(convolutions_per_level=2), 1, stamps(1))
