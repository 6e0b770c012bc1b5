"""Convolution blocks shared by U-Net and Gaussian encoders."""

from __future__ import annotations

import functools

import torch
from torch import nn

from appulse.network.config import NetworkConfig


class ConvBlock(nn.Sequential):
    """3x3 convolutions at one resolution, each with its normalisation and a ReLU (paper, appendix A).

    Parameters
    ----------
    n_in, n_out : int
        Channels.
    config : NetworkConfig
        Gives number of convolutions and normalisation.
    """

    def __init__(self, n_in: int, n_out: int, config: NetworkConfig):
        layers: list[nn.Module] = []
        for _ in range(config.convolutions_per_level):
            batch = config.normalisation == "batch"
            layers.append(nn.Conv2d(n_in, n_out, 3, padding=1, bias=not batch))
            if batch:
                layers.append(nn.BatchNorm2d(n_out))
            layers.append(nn.ReLU(inplace=True))
            n_in = n_out
        super().__init__(*layers)


def fold_normalisation(module: nn.Module) -> None:
    """Fold every batch normalisation into the convolution before it, in place; outputs are unchanged.

    Parameters
    ----------
    module : torch.nn.Module
        In evaluation mode. Its `ConvBlock`s lose their normalisation layers.
    """
    for block in module.modules():
        if not isinstance(block, ConvBlock):
            continue
        layers: list[nn.Module] = []
        for layer in block:
            if isinstance(layer, nn.BatchNorm2d):
                layers[-1] = nn.utils.fuse_conv_bn_eval(layers[-1], layer)
            else:
                layers.append(layer)
        block._modules.clear()
        for index, layer in enumerate(layers):
            block.add_module(str(index), layer)


def initialise(module: nn.Module) -> None:
    """He initialisation for ReLU networks (arXiv:1502.01852), in place.

    Parameters
    ----------
    module : torch.nn.Module
        Every convolution inside is set.
    """
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


@functools.cache
def native_bfloat16(device_type: str) -> bool:
    """Whether a device computes in bfloat16 itself; emulated, it is slower than float32.

    Parameters
    ----------
    device_type : {"cpu", "cuda"}
        As torch names it.
    """
    if device_type == "cuda":
        return torch.cuda.is_bf16_supported()
    return torch.backends.mkldnn.is_available() and torch.cpu._is_avx512_bf16_supported()
