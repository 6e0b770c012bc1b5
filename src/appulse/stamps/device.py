"""The stamps of a store on a GPU: batches are drawn where they are used."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from appulse.stamps.config import StampConfig
from appulse.stamps.drawing import StampViews, draw_views, noise_shape, refuse_unfit
from appulse.stamps.store import StampStore, StoredLayer
from appulse.streams import device_seed


class DeviceStamps:
    """Batches of training stamps, drawn on a device that holds the whole store.

    They show the stamps that `StampSource` shows, seen alike; only the noise of their pixels is another draw.

    Parameters
    ----------
    store : StampStore
        Noise-free stamps; takes 4 bytes for each lit pixel there.
    config : StampConfig
        How to draw.
    seed : int
        Of every batch.
    device : torch.device or str
        Where to.

    Raises
    ------
    InputError
        The store was cut with another size or other shares, or from fields less deep than asked.
    """

    def __init__(self, store: StampStore, config: StampConfig, seed: int, device: torch.device | str):
        refuse_unfit(store, config)
        self.store, self.config, self.seed, self.device = store, config, seed, torch.device(device)
        self._layers = [_Layer(layer, len(store), store.size, self.device) for layer in store.layers]
        self._turned = torch.from_numpy(_turned_places(store.size)).to(self.device)

    def batch(self, number: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Batch ``number``; the same whenever it is drawn on this kind of device.

        Parameters
        ----------
        number : int
            Counts from 0.
        size : int
            Stamps in the batch.

        Returns
        -------
        images : (batch, size, size) float32 tensor, units of the noise
            Noisy stamps.
        ternary : (batch, size, size) uint8 tensor
            Their truth.
        """
        views = draw_views(self.store, self.config, self.seed, number, size)
        generator = torch.Generator(self.device).manual_seed(device_seed(self.seed, number))
        shape = noise_shape(views, self.config.size)
        return self.show(views, torch.randn(shape, generator=generator, device=self.device))

    def batches(self, first: int, end: int, size: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Batches in their order.

        Parameters
        ----------
        first, end : int
            First number, and the one after the last.
        size : int
            Stamps in a batch.

        Yields
        ------
        images, ternary
            As `batch` returns them.
        """
        return (self.batch(number, size) for number in range(first, end))

    def show(self, views: StampViews, noise: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Images and truth of a batch, given its noise; the twin of `drawing.show`.

        Parameters
        ----------
        views : StampViews
            What was drawn for the batch.
        noise : `noise_shape` float32 tensor
            White, of unit variance.

        Returns
        -------
        images, ternary
            As `batch` returns them.
        """
        brightness, background, noise_error = self._send(
            np.stack([views.brightness, views.background, views.noise_error])
        )
        if views.smoothing is not None:
            noise = _smooth(noise, self._send(views.smoothing))
        lit = list(self._lit(views))
        if views.photon_noise is not None:
            photon_noise = self._send(views.photon_noise)
            variance = torch.ones_like(noise)
            for row, place, light in lit:
                variance.view(-1)[place] += light * photon_noise[row]
            noise = noise * variance.sqrt()
        images = (noise + background[:, None, None]) * noise_error[:, None, None]
        ternary = torch.zeros(images.shape, dtype=torch.uint8, device=self.device)
        for (row, place, light), of_store in zip(lit, self.store.layers, strict=True):
            light = light * brightness[row]
            images.view(-1)[place] += light * noise_error[row]
            if of_store.counts:
                ternary.view(-1)[place] += (light > self.config.threshold).to(torch.uint8)
        return images, ternary

    def _lit(self, views: StampViews) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
        # Of each layer's lit pixels: number of the stamp in the batch, place in the batch, light.
        of_batch = self._send(np.stack([views.turns, *views.blank.T]))
        for layer, of_store in zip(self._layers, self.store.layers, strict=True):
            starts = of_store.values_start[views.stamps]
            lengths = of_store.values_start[views.stamps + 1] - starts
            total = int(lengths.sum())
            offsets, repeats = self._send(np.stack([starts - (np.cumsum(lengths) - lengths), lengths]))
            row = torch.arange(len(lengths), device=self.device)
            row = row.repeat_interleave(repeats, output_size=total)
            lit = torch.arange(total, device=self.device) + offsets[row]
            turns, top, bottom, left, right = of_batch[:, row]
            place = self._turned[turns, layer.pixels[lit].long() & layer.mask]
            light = layer.values[lit].float()
            y, x = place // self.store.size, place % self.store.size
            light = light.masked_fill((top <= y) & (y < bottom) & (left <= x) & (x < right), 0.0)
            yield row, row * self.store.size**2 + place, light

    def _send(self, array: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(np.ascontiguousarray(array)).to(self.device, non_blocking=True)


class _Layer:
    def __init__(self, layer: StoredLayer, stamps: int, size: int, device: torch.device):
        # PyTorch has few operations for unsigned integers: their bits travel as signed ones.
        signed, self.mask = (torch.int16, 0xFFFF) if size**2 < 1 << 16 else (torch.int32, 0xFFFFFFFF)
        self.pixels = torch.empty(len(layer.values), dtype=signed, device=device)
        self.values = torch.empty(len(layer.values), dtype=torch.float16, device=device)
        for first in range(0, stamps, 4096):
            end = min(first + 4096, stamps)
            part = slice(int(layer.values_start[first]), int(layer.values_start[end]))
            self.pixels[part] = torch.from_numpy(layer.pixels(first, end)).to(signed)
            self.values[part] = torch.from_numpy(np.array(layer.values[part]))


def _turned_places(size: int) -> np.ndarray:
    # Where each pixel goes in each of the eight orientations of `StampViews.turns`.
    y, x = np.divmod(np.arange(size**2), size)
    places = np.empty((8, size**2), np.int64)
    for turn in range(8):
        to_y, to_x = (x, y) if turn & 1 else (y, x)
        to_y = size - 1 - to_y if turn & 2 else to_y
        to_x = size - 1 - to_x if turn & 4 else to_x
        places[turn] = to_y * size + to_x
    return places


def _smooth(noise: torch.Tensor, kernels: torch.Tensor) -> torch.Tensor:
    n = len(noise)
    rows = torch.nn.functional.conv2d(noise[None], kernels[:, None, None, :], groups=n)
    return torch.nn.functional.conv2d(rows, kernels[:, None, :, None], groups=n)[0]
