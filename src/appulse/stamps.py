"""Training stamps cut from simulated fields: noise-free layers in, noisy image and ternary truth out.

A batch depends on seed and number alone, so a run that was killed goes on with the stamps it would have seen.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appulse.files import InputError
from appulse.network.config import require
from appulse.sky.field import field_paths, read_field
from appulse.sky.truth import ternary_map

# Layers are kept as float16 in units of the field's noise; this is just under its largest value.
_LARGEST = 6.0e4


@dataclass(frozen=True)
class StampConfig:
    """How stamps are drawn.

    Parameters
    ----------
    size : int, pixels
        Width of a stamp.
    threshold : float, units of the noise
        ``k`` of the truth definition (paper, section 3: 1).
    overlap_share : float
        Share of the stamps placed around an overlap rather than anywhere.
    depth_range : (float, float) or None, mag / arcsec^2
        Shallowest and deepest noise; None keeps each field's own.
    depth_power : float
        Depth is ``deepest - range * u**depth_power`` with u uniform: above 1, deep stamps are more frequent.
    flips : bool
        Random flips and quarter turns (the paper uses no augmentation).
    background_scatter : float, units of the noise
        Standard deviation of a constant left under each stamp, as background estimators leave one.
    noise_scatter : float
        Standard deviation of the log of the error in the noise estimate.
    blank_share : float
        Share of stamps of which a rectangle is blanked to empty sky, as bad regions and image borders are.
    """

    size: int = 128
    threshold: float = 1.0
    overlap_share: float = 0.5
    depth_range: tuple[float, float] | None = None
    depth_power: float = 2.0
    flips: bool = True
    background_scatter: float = 0.05
    noise_scatter: float = 0.03
    blank_share: float = 0.15

    def __post_init__(self):
        require(self, "size", int, 8)
        for name in ("threshold", "depth_power"):
            require(self, name, float, 1e-6)
        for name in ("overlap_share", "background_scatter", "noise_scatter", "blank_share"):
            require(self, name, float, 0.0)
        if self.depth_range is not None:
            object.__setattr__(self, "depth_range", tuple(self.depth_range))
            if len(self.depth_range) != 2 or not self.depth_range[0] <= self.depth_range[1]:
                raise ValueError(
                    f"depth_range is {self.depth_range}; it must be two numbers, the shallower first"
                )


@dataclass(frozen=True)
class StampBatch:
    """A batch of training stamps.

    Parameters
    ----------
    images : (batch, size, size) float32 array, units of the noise
        Noisy stamps.
    ternary : (batch, size, size) uint8 array
        Their truth.
    """

    images: np.ndarray
    ternary: np.ndarray


class FieldLayers:
    """The layers of one simulated field that training needs, in units of the field's noise.

    Parameters
    ----------
    light, first, second : (height, width) float array, units of the noise
        Summed light, brightest and second-brightest galaxy, noise-free.
    noise : float, mag / arcsec^2
        Depth the field was rendered for.
    """

    def __init__(self, light: np.ndarray, first: np.ndarray, second: np.ndarray, noise: float):
        self.layers = np.stack(
            [np.minimum(layer, _LARGEST).astype(np.float16) for layer in (light, first, second)]
        )
        self.noise = noise
        self.overlaps = np.argwhere(self.layers[2] > 1.0).astype(np.int32)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.layers.shape[1:]

    @classmethod
    def read(cls, path: str | Path) -> FieldLayers:
        """Load one field.

        Parameters
        ----------
        path : str or Path
            A file of ``appulse simulate``.
        """
        field = read_field(path)
        scale = np.float32(1.0 / field.sigma)
        return cls(field.light * scale, field.first * scale, field.second * scale, field.survey.noise)


class StampSource:
    """Draws batches of stamps from simulated fields.

    Parameters
    ----------
    fields : sequence of FieldLayers
        Each is as likely as any other.
    config : StampConfig
        How to draw.
    seed : int
        Of every batch.

    Raises
    ------
    InputError
        A field smaller than a stamp, or not rendered as deep as asked.
    """

    def __init__(self, fields: Sequence[FieldLayers], config: StampConfig, seed: int = 0):
        if not fields:
            raise InputError("no fields to cut stamps from.")
        for field in fields:
            if min(field.shape) < config.size:
                raise InputError(f"a field of {field.shape} pixels is smaller than a stamp of {config.size}.")
            if config.depth_range and config.depth_range[1] > field.noise + 1e-9:
                raise InputError(
                    f"stamps of {config.depth_range[1]} mag/arcsec^2 asked from a field rendered for "
                    f"{field.noise}; fainter outskirts are missing there. "
                    "Simulate a deeper survey or lower depth_range."
                )
        self.fields, self.config, self.seed = list(fields), config, seed

    @classmethod
    def from_directory(cls, directory: str | Path, config: StampConfig, seed: int = 0) -> StampSource:
        """Load every field of a directory into memory (100 MB for 4096 x 4096 pixels).

        Parameters
        ----------
        directory : str or Path
            Where ``appulse simulate`` wrote.
        config : StampConfig
            How to draw.
        seed : int
            Of every batch.
        """
        return cls([FieldLayers.read(path) for path in field_paths(directory)], config, seed)

    def batch(self, number: int, size: int) -> StampBatch:
        """Batch ``number``; the same whenever and wherever it is drawn.

        Parameters
        ----------
        number : int
            Counts from 0.
        size : int
            Stamps in the batch.

        Returns
        -------
        StampBatch
        """
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([self.seed, number])))
        drawn = [self._draw(rng) for _ in range(size)]
        return StampBatch(np.stack([image for image, _ in drawn]), np.stack([truth for _, truth in drawn]))

    def _draw(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        config = self.config
        field = self.fields[rng.integers(len(self.fields))]
        y0, x0 = self._corner(field, rng)
        cut = field.layers[:, y0 : y0 + config.size, x0 : x0 + config.size]
        if config.flips:
            cut = np.rot90(cut, int(rng.integers(4)), axes=(1, 2))
            if rng.random() < 0.5:
                cut = cut[:, :, ::-1]
        light, first, second = cut.astype(np.float32)

        # Depth: everything is in units of the noise of this stamp from here on.
        depth = field.noise
        if config.depth_range:
            shallowest, deepest = config.depth_range
            depth = deepest - (deepest - shallowest) * rng.random() ** config.depth_power
        ratio = np.float32(10.0 ** (0.4 * (depth - field.noise)))
        truth = ternary_map(first * ratio, second * ratio, config.threshold)
        image = light * ratio

        if rng.random() < config.blank_share:
            window = _random_rectangle(config.size, rng)
            image[window], truth[window] = 0.0, 0
        image += rng.standard_normal(image.shape, dtype=np.float32)
        image += np.float32(config.background_scatter * rng.standard_normal())
        image *= np.float32(np.exp(config.noise_scatter * rng.standard_normal()))
        return image, truth

    def _corner(self, field: FieldLayers, rng: np.random.Generator) -> tuple[int, int]:
        size = self.config.size
        highest = np.array(field.shape) - size
        if len(field.overlaps) and rng.random() < self.config.overlap_share:
            # An overlap anywhere in the stamp's inner part, so that its position teaches nothing.
            centre = field.overlaps[rng.integers(len(field.overlaps))]
            corner = np.clip(centre - rng.integers(size // 8, size - size // 8, 2), 0, highest)
        else:
            corner = rng.integers(0, highest + 1)
        return int(corner[0]), int(corner[1])


def _random_rectangle(size: int, rng: np.random.Generator) -> tuple[slice, slice]:
    # Half of them reach a side of the stamp, as the border of an image does.
    y, x = np.sort(rng.integers(0, size + 1, (2, 2)), axis=1)
    if rng.random() < 0.5:
        y = np.array([0, size])
        x[rng.integers(2)] = 0 if rng.random() < 0.5 else size
        x.sort()
    return (slice(*y), slice(*x)) if rng.random() < 0.5 else (slice(*x), slice(*y))


def grid_stamps(layers: FieldLayers, config: StampConfig, seed: int) -> StampBatch:
    """All stamps of the fixed grid that fit a field, at its own depth, unaugmented: for validation.

    Parameters
    ----------
    layers : FieldLayers
        A field.
    config : StampConfig
        Gives size and threshold.
    seed : int
        Of the noise.

    Returns
    -------
    StampBatch
    """
    size = config.size
    n_y, n_x = (side // size for side in layers.shape)
    cut = layers.layers[:, : n_y * size, : n_x * size].astype(np.float32)
    stamps = cut.reshape(3, n_y, size, n_x, size).transpose(0, 1, 3, 2, 4).reshape(3, -1, size, size)
    light, first, second = stamps
    rng = np.random.Generator(np.random.Philox(seed))
    images = light + rng.standard_normal(light.shape, dtype=np.float32)
    return StampBatch(images, ternary_map(first, second, config.threshold))
