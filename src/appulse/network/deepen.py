"""A trained network with more convolutions per level, which at first give what it gave without them.

Net2Net (Chen, Goodfellow & Shlens 2015, arXiv:1511.05641): what was learnt stays, and the new layers start as
the identity, which a ReLU leaves as it is.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable

import torch
from torch import nn

from appulse.network.layers import ConvBlock
from appulse.network.punet import ProbabilisticUNet


def deepened(
    network: ProbabilisticUNet, convolutions: int, stamps: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> ProbabilisticUNet:
    """Add convolutions to every level of a network.

    Parameters
    ----------
    network : ProbabilisticUNet
        Trained, with its posterior.
    convolutions : int
        Of the deeper network's levels; at least as many as the network has.
    stamps : iterable of (images, ternary)
        (batch, 1, height, width) float tensors in units of the noise, and (batch, height, width) integer
        ones; some hundred stamps, from which new normalisation layers take mean and variance.

    Returns
    -------
    ProbabilisticUNet
        In evaluation mode it gives the same as the network, to rounding; in training as nearly as its batches
        are like the stamps.

    Raises
    ------
    ValueError
        Fewer convolutions than the network has.
    """
    held = network.config.convolutions_per_level
    if convolutions < held:
        raise ValueError(f"convolutions_per_level is {convolutions}, but the network has {held} already")
    seen = _seen(network, stamps) if network.config.normalisation == "batch" else {}
    deeper = ProbabilisticUNet(dataclasses.replace(network.config, convolutions_per_level=convolutions))
    deeper.load_state_dict(network.state_dict(), strict=False)
    with torch.no_grad():
        for name, block in _blocks(deeper):
            for layer in list(block)[len(network.get_submodule(name)) :]:
                if isinstance(layer, nn.Conv2d):
                    nn.init.dirac_(layer.weight)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
                elif isinstance(layer, nn.BatchNorm2d):
                    _pass_through(layer, seen[name])
    return deeper


def _blocks(network: ProbabilisticUNet) -> list[tuple[str, ConvBlock]]:
    return [(name, part) for name, part in network.named_modules() if isinstance(part, ConvBlock)]


def _pass_through(layer: nn.BatchNorm2d, seen: nn.BatchNorm2d) -> None:
    layer.running_mean.copy_(seen.running_mean)
    layer.running_var.copy_(seen.running_var)
    layer.weight.copy_(torch.sqrt(seen.running_var + layer.eps))
    layer.bias.copy_(seen.running_mean)


def _seen(
    network: ProbabilisticUNet, stamps: Iterable[tuple[torch.Tensor, torch.Tensor]]
) -> dict[str, nn.BatchNorm2d]:
    """For each block a layer that holds mean and variance of what leaves it."""
    layers, hooks = {}, []
    for name, block in _blocks(network):
        # Without momentum it averages over all batches.
        layer = layers[name] = nn.BatchNorm2d(block[0].out_channels, momentum=None)

        def watch(_block: nn.Module, _given: tuple, left: torch.Tensor, layer: nn.Module = layer) -> None:
            layer(left)

        hooks.append(block.register_forward_hook(watch))
    was_training = network.training
    network.eval()
    with torch.no_grad():
        for images, ternary in stamps:
            network.encode(images)
            network.encode_truth(images, ternary)
    network.train(was_training)
    for hook in hooks:
        hook.remove()
    return layers
