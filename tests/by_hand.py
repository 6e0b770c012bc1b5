"""A model whose weights are set by hand, so that what it must find is known; and skies of discs for it.

It smooths arcsinh(image) by a 3x3 box and thresholds: one galaxy above `GALAXY`, two above `OVERLAP`. The
"galaxies" are discs of brightness 4, so that two of them overlap where the image reaches 8.
"""

import functools

import numpy as np
import torch
from astropy.table import Table

from appulse.network import Calibration, NetworkConfig, ProbabilisticUNet
from appulse.network.weights import Model
from appulse.objects import MEASURED, measure
from appulse.sky import Field, Survey

SAMPLES, SIZE = 8, 64
BRIGHTNESS = 4.0
GALAXY, OVERLAP = 1.2, 2.45  # thresholds on the smoothed arcsinh: brightness 1.5 and 5.7


def thresholding_model(**calibration):
    config = NetworkConfig(
        filters=(4, 4, 4),
        normalisation="none",
        encoder_poolings=2,
        combiner_filters=16,
        latent_dimensions=2,
        stamp_size=SIZE,
        input_divisor=4.0,
    )
    torch.manual_seed(0)
    network = ProbabilisticUNet(config).eval()
    combiner, steepness = network.combiner, torch.tensor([0.0, 10.0, 22.0])
    with torch.no_grad():
        for part in (network.unet, combiner):
            for parameter in part.parameters():
                parameter.zero_()
        network.unet.down[0][0].weight[0, 0] = 1 / 9
        network.unet.up[-1][0].weight[0, 0, 1, 1] = 1
        combiner.of_features.weight[0, 0] = config.input_divisor
        combiner.of_latent.weight[0, 0] = 0.08
        combiner.rest[0].weight[:, 0, 0, 0] = steepness
        combiner.rest[0].bias.copy_(-torch.tensor([0.0, 10 * GALAXY, 10 * GALAXY + 12 * OVERLAP]))
    return Model("by hand", network, Calibration(**calibration))


@functools.cache
def by_hand():
    return thresholding_model()


def discs(shape, *circles, noise=1.0, seed=0):
    """Discs (x, y, radius) of brightness `BRIGHTNESS`, added up, and Gaussian noise."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = noise * np.random.default_rng(seed).standard_normal(shape)
    for x0, y0, radius in circles:
        image[np.hypot(x - x0, y - y0) <= radius] += BRIGHTNESS
    return image.astype(np.float32)


SHAPE = (192, 256)
CIRCLES = ((40, 50, 8), (120, 60, 9), (131, 66, 8), (200, 120, 7), (60, 140, 10))
# One unit of noise per pixel.
SURVEY = Survey("discs", "Discs on unit noise.", pixel_scale=1.0, zero_point=25.0, noise=25.0)


@functools.cache
def field_of_discs():
    """A lone disc three times, and a pair that overlaps."""
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    first, second = np.zeros((2, *SHAPE), np.float32)
    id1, id2 = np.zeros((2, *SHAPE), np.int32)
    rows = []
    for number, (x0, y0, radius) in enumerate(CIRCLES, start=1):
        mask = np.hypot(x - x0, y - y0) <= radius
        second[mask & (id1 > 0)], id2[mask & (id1 > 0)] = BRIGHTNESS, number
        alone = mask & (id1 == 0)
        first[alone], id1[alone] = BRIGHTNESS, number
        isophote = measure(BRIGHTNESS * mask.astype(float), mask)
        row = {"id": number, "x": x0, "y": y0, "magnitude": 20.0 + number, "blendedness": 0.0}
        rows.append(row | {f"isophotal_{q}": getattr(isophote, q) for q in MEASURED})
    return Field(
        image=discs(SHAPE, *CIRCLES, seed=3),
        first=first,
        second=second,
        id1=id1,
        id2=id2,
        deeper=Table(names=("y", "x", "id", "flux"), dtype=("i4", "i4", "i4", "f4")),
        catalog=Table(rows),
        survey=SURVEY,
        seed=9001,
        index=0,
    )
