"""Drawing realisations of stamps."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy import special

from appulse.inference import random_sky
from appulse.inference.kernels import Mode, blend_fused, sample_fused
from appulse.inference.tiles import overlap
from appulse.inference.twins import blend_torch, latent_biases, sample_torch
from appulse.network.layers import native_bfloat16
from appulse.network.weights import Model

# Stamps per forward pass; always this many, the last batch padded, so that no result depends on the batch.
# On a GPU as many as keep it busy while the next are cut.
BATCH, BATCH_GPU = 16, 256

_Batch = tuple[np.ndarray, Sequence[tuple[int, int]]]  # stamps, the last ones empty, and where they were cut


@dataclass(frozen=True)
class SampledStamp:
    """Realisations of one stamp.

    Parameters
    ----------
    origin : (y0, x0)
        Of the stamp in the image; may be negative.
    classes : (samples, size, size) uint8 array
        Ternary maps, drawn jointly.
    p_galaxy, p_overlap : (size, size) float32 array
        Calibrated probabilities of class >= 1 and of class 2.
    """

    origin: tuple[int, int]
    classes: np.ndarray
    p_galaxy: np.ndarray
    p_overlap: np.ndarray


@functools.lru_cache(maxsize=2)
def _uniform_field(seed: int, samples: int, correlation_length: float) -> np.ndarray:
    # Coarse near 1, where no probability is; near 0 it keeps the precision of its logit.
    return special.expit(random_sky.copula_field(seed, samples, correlation_length))


class Sampler:
    """Draws realisations of stamps of one image with one model.

    Parameters
    ----------
    model : Model
        Network and calibration.
    samples : int
        Realisations.
    seed : int
        Of the run.
    mode : {"copula", "latent"}
        ``latent``: the paper's, the most probable class for each draw of the latent. ``copula``: besides, a
        smooth Gaussian field thresholds the calibrated probabilities (docs/decisions/0002), and the draws of
        the latent are as much nearer to the prior's mean as the calibration says (docs/decisions/0011).
    device : str or torch.device
        Where the network runs.
    origin : (y0, x0)
        Of the image on the grid that all randomness is drawn on: that of the image it was cut from.
    """

    def __init__(
        self,
        model: Model,
        samples: int = 50,
        seed: int = 0,
        mode: Mode = "copula",
        device: str | torch.device = "cpu",
        origin: tuple[int, int] = (0, 0),
    ):
        self.origin = origin
        self.model, self.samples, self.seed, self.mode = model, samples, seed, mode
        self.device = torch.device(device)
        self.size = model.network.config.stamp_size
        self.batch = BATCH if self.device.type == "cpu" else BATCH_GPU
        network = model.for_inference
        # Moved to another device it would be moved for every sampler of the model.
        self.network = network if self.device.type == "cpu" else copy.deepcopy(network).to(self.device)
        self.latent_scale = model.calibration.latent_scale if mode == "copula" else 1.0
        # Distinct latents of a stamp: one for each realisation, or one for all where none is drawn.
        self.latents = samples if self.latent_scale else 1
        self.uniform = _uniform_field(seed, samples, model.calibration.correlation_length)
        self.empty = random_sky.empty_sky(seed)

    def on_sky(self, origin: tuple[int, int]) -> tuple[int, int]:
        """A place in the image, on the grid that randomness is drawn on.

        Parameters
        ----------
        origin : (y0, x0)
            In the image; may be negative.
        """
        return origin[0] + self.origin[0], origin[1] + self.origin[1]

    def cut(
        self, scaled: np.ndarray, origin: tuple[int, int], corner: tuple[int, int] = (0, 0)
    ) -> np.ndarray:
        """Cut a stamp; bad pixels and those outside the image become empty sky.

        Parameters
        ----------
        scaled : (height, width) float32 array, units of the noise
            NaN where bad; the image, or a window of it that holds all of the stamp that the image does.
        origin : (y0, x0)
            Of the stamp in the image; may be negative.
        corner : (y0, x0)
            Of the window in the image.

        Returns
        -------
        (size, size) float32 array
        """
        stamp = random_sky.look_at(self.empty, self.on_sky(origin), (self.size, self.size))
        in_window = origin[0] - corner[0], origin[1] - corner[1]
        of_window, of_stamp = overlap(in_window, self.size, scaled.shape)
        inside = scaled[of_window]
        stamp[of_stamp] = np.where(np.isfinite(inside), inside, stamp[of_stamp])
        return stamp

    def draw(
        self, scaled: np.ndarray, origins: Sequence[tuple[int, int]], corner: tuple[int, int] = (0, 0)
    ) -> Iterator[SampledStamp]:
        """Draw the realisations of stamps, one after another.

        Parameters
        ----------
        scaled : (height, width) float32 array, units of the noise
            NaN where bad; the image, or a window of it that holds all of the stamps that the image does.
        origins : sequence of (y0, x0)
            Of the stamps in the image.
        corner : (y0, x0)
            Of the window in the image.

        Yields
        ------
        SampledStamp
        """
        yield from self.draw_stamps((self.cut(scaled, origin, corner) for origin in origins), origins)

    def draw_stamps(
        self, stamps: Iterable[np.ndarray], origins: Sequence[tuple[int, int]]
    ) -> Iterator[SampledStamp]:
        """Draw the realisations of stamps that are cut already.

        Parameters
        ----------
        stamps : iterable of (size, size) float32 array, units of the noise
            All finite; taken a batch at a time.
        origins : sequence of (y0, x0)
            Where each was cut; they choose its draws.

        Yields
        ------
        SampledStamp
        """
        batches = self._batches(stamps, origins)
        if self._fused:
            for batch in batches:
                yield from self._draw_fused(*batch)
            return
        # While a GPU draws one batch, the one before it is used and the next one cut.
        begun = None
        for batch in batches:
            after = self._begin(*batch)
            if begun is not None:
                yield from begun()
            begun = after
        if begun is not None:
            yield from begun()

    def blenders(
        self,
        scaled: np.ndarray,
        origins: Sequence[tuple[int, int]],
        corner: tuple[int, int],
        draws: Sequence[np.ndarray],
    ) -> Iterator[Callable[..., None]]:
        """What adds the class probabilities of each stamp to a part of the sky.

        Parameters
        ----------
        scaled : (height, width) float32 array, units of the noise
            NaN where bad; a window of the image that holds all of the stamps that the image does.
        origins : sequence of (y0, x0)
            Of the stamps in the image.
        corner : (y0, x0)
            Of the window in the image.
        draws : sequence of (latents, latent) float32 array
            Standard-normal draws of each stamp's latents.

        Yields
        ------
        callable
            `kernels.blend_fused` with its first five arguments given.
        """
        blend: Callable[..., None] = blend_fused if self._fused else blend_torch
        known = (self.network.combiner, self.model.calibration, self.mode)
        cuts, each = (self.cut(scaled, origin, corner) for origin in origins), iter(draws)
        for stamps, batch in self._batches(cuts, origins):
            stacked = np.zeros((self.latents, self.batch, self.network.config.latent_dimensions), np.float32)
            for slot in range(len(batch)):
                stacked[:, slot] = next(each)
            joined_bchw, biases = self._encode(stamps, stacked)
            for slot in range(len(batch)):
                parts = joined_bchw[slot], biases[:, slot].contiguous()
                parts = tuple(part.numpy() for part in parts) if self._fused else parts
                yield functools.partial(blend, *parts, *known)

    @functools.cached_property
    def _uniform_there(self) -> torch.Tensor:
        return torch.from_numpy(self.uniform).to(self.device)

    @property
    def _fused(self) -> bool:
        return self.device.type == "cpu" and len(self.network.combiner.rest) == 1

    def _batches(self, stamps: Iterable[np.ndarray], origins: Sequence[tuple[int, int]]) -> Iterator[_Batch]:
        stamps = iter(stamps)
        for start in range(0, len(origins), self.batch):
            batch = origins[start : start + self.batch]
            stacked = np.zeros((self.batch, self.size, self.size), np.float32)
            for slot in range(len(batch)):
                stacked[slot] = next(stamps)
            yield stacked, batch

    @torch.inference_mode()
    def _draw_fused(self, stamps: np.ndarray, origins: Sequence[tuple[int, int]]) -> Iterator[SampledStamp]:
        joined_bchw, biases = self.encode(stamps, origins)
        for slot, origin in enumerate(origins):
            classes, means = sample_fused(
                joined_bchw[slot].numpy(),
                np.ascontiguousarray(biases[:, slot].numpy()),
                self.network.combiner,
                self.model.calibration,
                self.uniform,
                self.on_sky(origin),
                self.mode,
            )
            yield SampledStamp(origin, classes, means[0], means[1])

    @torch.inference_mode()
    def _begin(
        self, stamps: np.ndarray, origins: Sequence[tuple[int, int]]
    ) -> Callable[[], Iterator[SampledStamp]]:
        """Set the device to work on a batch; what is returned waits for it."""
        joined_bchw, biases = self.encode(stamps, origins)
        corners = np.zeros((len(stamps), 2), np.int64)
        corners[: len(origins)] = [self.on_sky(origin) for origin in origins]
        rows, columns = (
            torch.from_numpy((corners[:, axis, None] + np.arange(self.size)) % random_sky.PERIOD)
            for axis in (0, 1)
        )
        uniform = self._uniform_there[:, self._there(rows)[:, :, None], self._there(columns)[:, None, :]]
        sampled = sample_torch(
            joined_bchw, biases, self.network.combiner, self.model.calibration, uniform, self.mode
        )
        classes, means = (_to_host(part) for part in sampled)
        done = torch.cuda.Event() if self.device.type == "cuda" else None
        if done is not None:
            done.record()

        def finish() -> Iterator[SampledStamp]:
            if done is not None:
                done.synchronize()
            for slot, origin in enumerate(origins):
                yield SampledStamp(origin, classes[:, slot], means[0, slot], means[1, slot])

        return finish

    def _there(self, tensor: torch.Tensor, **how: torch.memory_format) -> torch.Tensor:
        """The same on the device; a copy to a GPU goes on while the CPU does something else."""
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True, **how)
        return tensor.to(self.device, **how)

    @torch.inference_mode()
    def encode(
        self, stamps: np.ndarray, origins: Sequence[tuple[int, int]]
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The network's share of the work: once per stamp, whatever the number of realisations.

        Parameters
        ----------
        stamps : (batch, size, size) float32 array, units of the noise
            Stamps, the last ones empty where there are fewer origins.
        origins : sequence of (y0, x0)
            They choose the latent draws.

        Returns
        -------
        joined_bchw : (batch, width, size, size) float32 tensor
            The combiner's first layer applied to the features.
        biases : (latents, batch, width) float32 tensor
            Its latent part.
        """
        dimensions = self.network.config.latent_dimensions
        draws = np.zeros((self.latents, len(stamps), dimensions), np.float32)
        for slot, origin in enumerate(origins):
            draws[:, slot] = random_sky.latent_draws(self.seed, self.latents, dimensions, self.on_sky(origin))
        return self._encode(stamps, draws)

    @torch.inference_mode()
    def _encode(self, stamps: np.ndarray, draws: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        stamps_bchw = self._there(torch.from_numpy(stamps)[:, None], memory_format=torch.channels_last)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=native_bfloat16(self.device.type)):
            joined_bchw, prior = self.network.encode(stamps_bchw)
        latents = prior.at(self._there(torch.from_numpy(draws * np.float32(self.latent_scale))))
        return joined_bchw.float(), latent_biases(self.network.combiner, latents).float()


def _to_host(tensor: torch.Tensor) -> np.ndarray:
    """Filled as soon as the device comes to it: wait for that before looking."""
    if tensor.device.type == "cpu":
        return tensor.numpy()
    return (
        torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
        .copy_(tensor, non_blocking=True)
        .numpy()
    )
