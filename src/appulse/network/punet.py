"""The Probabilistic U-Net (Kohl et al. 2018, arXiv:1806.05034) as Bretonnière et al. 2021 adapt it."""

from __future__ import annotations

import copy
import itertools

import torch
import torch.nn.functional as F
from torch import nn

from appulse.network.config import N_CLASSES, NetworkConfig
from appulse.network.gaussian import Gaussian, GaussianEncoder
from appulse.network.layers import fold_normalisation, initialise
from appulse.network.unet import UNet


class Combiner(nn.Module):
    """1x1 convolutions that join features and latent and give the logits of the three classes.

    The first layer is linear in its concatenated input, so it splits into a part that sees only the features
    (computed once per stamp) and a bias that depends only on the latent (computed once per realisation).

    Parameters
    ----------
    config : NetworkConfig
        Architecture.
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        n_hidden = [config.combiner_filters] * config.combiner_layers
        widths = [*n_hidden, N_CLASSES]
        self.of_features = nn.Conv2d(config.filters[0], widths[0], 1)
        self.of_latent = nn.Linear(config.latent_dimensions, widths[0], bias=False)
        self.rest = nn.ModuleList(nn.Conv2d(n_in, n_out, 1) for n_in, n_out in itertools.pairwise(widths))

    def forward(self, joined_bchw: torch.Tensor, latent_bias: torch.Tensor) -> torch.Tensor:
        """Logits of one realisation per stamp.

        Parameters
        ----------
        joined_bchw : (batch, width, height, width) float tensor
            ``of_features`` applied to the U-Net's features.
        latent_bias : (batch, width) float tensor
            ``of_latent`` applied to the latents.

        Returns
        -------
        (batch, 3, height, width) float tensor
        """
        x = joined_bchw + latent_bias[:, :, None, None].to(joined_bchw.dtype)
        for layer in self.rest:
            # In place: neither a sum nor a convolution needs its result for the gradient.
            x = layer(F.relu(x, inplace=True))
        return x


class ProbabilisticUNet(nn.Module):
    """U-Net, prior, posterior and combiner.

    Parameters
    ----------
    config : NetworkConfig
        Architecture.

    Examples
    --------
    >>> network = ProbabilisticUNet(NetworkConfig())
    >>> stamps = torch.randn(2, 1, 128, 128)                     # units of the noise
    >>> joined, prior = network.encode(stamps)
    >>> logits = network.realise(joined, prior.at(torch.randn(2, 10)))
    """

    def __init__(self, config: NetworkConfig):
        super().__init__()
        self.config = config
        self.unet = UNet(config)
        self.prior = GaussianEncoder(1, config)
        self.posterior = GaussianEncoder(1 + N_CLASSES, config)
        self.combiner = Combiner(config)
        initialise(self)
        for encoder in (self.prior, self.posterior):
            # Start near the unit Gaussian; He's scale would start the KL divergence at hundreds of nats.
            nn.init.normal_(encoder.head.weight, std=0.01)

    def scale(self, stamps_bchw: torch.Tensor) -> torch.Tensor:
        """What the network sees of an image: the input scaling of its configuration.

        Parameters
        ----------
        stamps_bchw : (batch, 1, height, width) float tensor, units of the noise
            Background-subtracted stamps.

        Returns
        -------
        (batch, 1, height, width) float tensor
        """
        stretched = torch.arcsinh(stamps_bchw)
        if self.config.input_scaling == "noise":
            return stretched / self.config.input_divisor
        return stretched / stretched.amax(dim=(1, 2, 3), keepdim=True).clamp_min(1e-6)

    def encode(self, stamps_bchw: torch.Tensor) -> tuple[torch.Tensor, Gaussian]:
        """Everything that is computed once per stamp.

        Parameters
        ----------
        stamps_bchw : (batch, 1, height, width) float tensor, units of the noise
            Background-subtracted stamps.

        Returns
        -------
        joined_bchw : (batch, combiner width, height, width) float tensor
            The combiner's first layer, applied to the features.
        prior : Gaussian
            Latent distribution given the image alone.
        """
        scaled = self.scale(stamps_bchw)
        return self.combiner.of_features(self.unet(scaled)), self.prior(scaled)

    def realise(self, joined_bchw: torch.Tensor, latents: torch.Tensor) -> torch.Tensor:
        """Logits for one latent per stamp.

        Parameters
        ----------
        joined_bchw : float tensor
            From `encode`.
        latents : (batch, latent) float tensor
            One draw per stamp.

        Returns
        -------
        (batch, 3, height, width) float tensor
        """
        weight = self.combiner.of_latent.weight
        return self.combiner(joined_bchw, self.combiner.of_latent(latents.to(weight.dtype)))

    def encode_truth(self, stamps_bchw: torch.Tensor, ternary_bhw: torch.Tensor) -> Gaussian:
        """Posterior: the latent distribution given image and truth; used in training only.

        Parameters
        ----------
        stamps_bchw : (batch, 1, height, width) float tensor, units of the noise
            Background-subtracted stamps.
        ternary_bhw : (batch, height, width) integer tensor
            True ternary maps.

        Returns
        -------
        Gaussian
        """
        scaled = self.scale(stamps_bchw)
        # Centred on zero, as Kohl et al. do.
        one_hot = F.one_hot(ternary_bhw.long(), N_CLASSES).permute(0, 3, 1, 2).to(scaled.dtype) - 0.5
        return self.posterior(torch.cat((scaled, one_hot), dim=1))

    def for_inference(self) -> ProbabilisticUNet:
        """A copy without posterior, its normalisation layers folded into the convolutions.

        Returns
        -------
        ProbabilisticUNet
            In evaluation mode, channels-last, without gradients.
        """
        network = copy.deepcopy(self).eval()
        del network.posterior
        fold_normalisation(network)
        return network.requires_grad_(False).to(memory_format=torch.channels_last)
