"""The deterministic half: a U-Net (Ronneberger et al. 2015, arXiv:1505.04597) without its last layer."""

from __future__ import annotations

import itertools

import torch
import torch.nn.functional as F
from torch import nn

from appulse.network.config import NetworkConfig
from appulse.network.layers import ConvBlock


class UNet(nn.Module):
    """Image to one feature vector per pixel, ``filters[0]`` long.

    The encoder halves the resolution by average pooling between levels; the decoder mirrors it with bilinear
    interpolation and skip connections (paper, appendix A).

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        filters = config.filters
        self.down = nn.ModuleList()
        self.up = nn.ModuleList()
        for n_in, n_out in zip((1, *filters), filters, strict=False):
            self.down.append(ConvBlock(n_in, n_out, config))
        for n_skip, n_deep in reversed(list(itertools.pairwise(filters))):
            self.up.append(ConvBlock(n_skip + n_deep, n_skip, config))

    def forward(self, stamps_bchw: torch.Tensor) -> torch.Tensor:
        """Features of every pixel.

        Parameters
        ----------
        stamps_bchw : (batch, 1, height, width) float tensor
            Scaled stamps.

        Returns
        -------
        (batch, filters[0], height, width) float tensor
        """
        skips = []
        x = stamps_bchw
        for level, block in enumerate(self.down):
            x = block(x if level == 0 else F.avg_pool2d(x, 2))
            skips.append(x)
        skips.pop()
        for block in self.up:
            x = block(torch.cat((skips.pop(), _upsample(x)), dim=1))
        return x


def _upsample(x: torch.Tensor) -> torch.Tensor:
    # Autocast would interpolate in float32, and hand float32 on to the concatenation.
    with torch.autocast(x.device.type, enabled=False):
        x = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
    if x.requires_grad and x.device.type == "cpu":
        # The concatenation's gradient is a slice, which torch's interpolation on the CPU would copy to
        # contiguous order before going back through it, several times as slowly.
        x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
    return x
