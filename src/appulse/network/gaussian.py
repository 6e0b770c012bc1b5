"""The latent half: encoders that turn a stamp into a Gaussian."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import nn

from appulse.network.config import NetworkConfig
from appulse.network.layers import ConvBlock

# Bound of |log sigma|. Unbounded, the KL divergence overflows: the commonest complaint about public
# implementations of the Probabilistic U-Net.
LOG_SIGMA_BOUND = 5.0


class Gaussian(NamedTuple):
    """Axis-aligned Gaussians, one per stamp.

    Parameters
    ----------
    mean, log_sigma : (batch, latent) float32 tensor
        Parameters of each dimension.
    """

    mean: torch.Tensor
    log_sigma: torch.Tensor

    def at(self, unit_normal: torch.Tensor) -> torch.Tensor:
        """Latents for given standard-normal draws.

        Parameters
        ----------
        unit_normal : (..., batch, latent) float tensor
            Draws; the caller owns the randomness.
        """
        return self.mean + self.log_sigma.exp() * unit_normal


def kl_divergence(q: Gaussian, p: Gaussian) -> torch.Tensor:
    """Kullback-Leibler divergence KL(q || p) of axis-aligned Gaussians, per dimension.

    Parameters
    ----------
    q, p : Gaussian
        Posterior and prior.

    Returns
    -------
    (batch, latent) float tensor, nats
    """
    ratio = 2.0 * (q.log_sigma - p.log_sigma)
    distance = ((q.mean - p.mean) * torch.exp(-p.log_sigma)) ** 2
    return 0.5 * (torch.exp(ratio) + distance - 1.0 - ratio)


class GaussianEncoder(nn.Module):
    """Convolutional encoder whose output is a Gaussian in latent space (paper, appendix A).

    Parameters
    ----------
    n_in : int
        Input channels: 1 for the prior (image), 1 + 3 for the posterior (image and one-hot truth).
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, n_in: int, config: NetworkConfig):
        super().__init__()
        self.blocks = nn.ModuleList()
        for n_out in config.filters:
            self.blocks.append(ConvBlock(n_in, n_out, config))
            n_in = n_out
        self.pool_last = config.encoder_poolings == len(config.filters)
        self.flatten = config.encoder_head == "flatten"
        side = config.stamp_size // 2**config.encoder_poolings if self.flatten else 1
        # Written as a convolution over the whole last map: equal to flattening and one dense layer.
        self.head = nn.Conv2d(n_in, 2 * config.latent_dimensions, side)

    def forward(self, x_bchw: torch.Tensor) -> Gaussian:
        """Encode a batch.

        Parameters
        ----------
        x_bchw : (batch, n_in, height, width) float tensor
            Scaled stamps, with the truth's channels for the posterior.

        Returns
        -------
        Gaussian
            In float32 whatever the precision of the network.
        """
        x = x_bchw
        for level, block in enumerate(self.blocks):
            x = block(x if level == 0 else F.avg_pool2d(x, 2))
        if self.pool_last:
            x = F.avg_pool2d(x, 2)
        if not self.flatten:
            x = x.mean(dim=(2, 3), keepdim=True)
        mean, log_sigma = self.head(x).float().flatten(1).chunk(2, dim=1)
        return Gaussian(mean, LOG_SIGMA_BOUND * torch.tanh(log_sigma / LOG_SIGMA_BOUND))
