"""No trace of the grid of stamps in the maps of a simulated field."""

import numpy as np
import pytest
from scipy import ndimage

from appulse.inference.two_step import EDGE
from appulse.segmentation import segment
from appulse.sky import Survey, simulate_field

SIDE = 896  # a multiple of both periods


@pytest.fixture(scope="module")
def image():
    return simulate_field(Survey.load("paper"), SIDE, 9993).image


# Stamps of 128 pixels, without their edges or half a stamp apart. With edges the ratios are 8 to 9.
@pytest.mark.parametrize(("method", "period"), [("two-step", 128 - 2 * EDGE), ("sliding", 64)])
def test_power_at_the_frequencies_of_the_stamps_does_not_stand_out(image, method, period):
    result = segment(image, method=method, samples=10)
    sky = ~ndimage.binary_dilation(result.segm > 0, iterations=8)
    grid = np.arange(SIDE // period, SIDE // 2, SIDE // period)
    others = np.setdiff1d(np.arange(4, SIDE // 2), grid)
    for map_ in (result.mean, result.std):
        # Galaxies hide what is in the sky between them, and are left out; and the other way round.
        for seen in (sky, np.ones_like(sky)):
            left = np.where(seen, map_ - map_[seen].mean(), 0)
            for axis in (0, 1):
                power = np.abs(np.fft.rfft(left.sum(axis=axis))) ** 2
                local = [power[others[np.abs(others - k) <= 8]].mean() for k in grid]
                # The mean of n exponential variates of mean 1 has a standard deviation of 1 / sqrt(n).
                assert np.mean(power[grid] / local) < 1 + 5 / np.sqrt(len(grid))
