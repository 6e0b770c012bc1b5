"""The sliding window against a plain loop, and its coherence."""

import numpy as np
import pytest
import torch

from appulse.inference import random_sky
from appulse.inference.kernels import blend_fused
from appulse.inference.sampler import BATCH, Sampler
from appulse.inference.sliding import SMOOTHING, _latents, hat, sliding_pass
from appulse.inference.twins import blend_torch, calibrated
from appulse.network.calibration import Calibration
from appulse.network.layers import native_bfloat16
from appulse.segmentation import segment
from by_hand import SIZE, by_hand, discs, thresholding_model

STRIDE = SIZE // 2


@pytest.mark.parametrize("size", [8, 64, 128])
def test_shares_of_overlapping_stamps_make_one_exactly(size):
    total = np.zeros(4 * size, np.float32)
    for start in range(0, 3 * size + 1, size // 2):
        total[start : start + size] += hat(size)
    np.testing.assert_array_equal(total[size // 2 : 3 * size], 1)
    assert (hat(size) > 0).all()
    np.testing.assert_allclose(hat(size), hat(size)[::-1], atol=1e-6)


def test_smooth_latents_have_unit_variance_everywhere_and_neighbours_agree():
    drawn = random_sky.smooth_latents(3, 4000, 2, 8, SMOOTHING)
    assert np.abs(drawn.mean(axis=0)).max() < 5 / np.sqrt(4000)
    np.testing.assert_allclose(drawn.var(axis=0), 1, atol=5 * np.sqrt(2 / 4000))
    beside = (drawn * np.roll(drawn, 1, axis=-1)).mean()
    assert beside == pytest.approx(np.exp(-1 / (4 * SMOOTHING**2)), abs=0.03)
    assert abs((drawn[:, 0] * drawn[:, 1]).mean()) < 0.05
    np.testing.assert_array_equal(random_sky.smooth_latents(3, 5, 2, 8, SMOOTHING), drawn[:5])


def naive(image, sampler, mode):
    """P(>= 1) and P(2) of every realisation, blended in double precision, pixel by pixel."""
    network, calibration = sampler.network, sampler.model.calibration
    height, width = image.shape
    distance = np.minimum(np.arange(SIZE) + 0.5, SIZE - np.arange(SIZE) - 0.5) / STRIDE  # from the sides
    weight = 3 * distance**2 - 2 * distance**3
    latents = _latents(sampler.seed, sampler.samples, network.config.latent_dimensions, STRIDE)
    blended = np.zeros((2, sampler.samples, height, width))
    for y in range(-STRIDE, height, STRIDE):
        for x in range(-STRIDE, width, STRIDE):
            draws = latents[:, :, y // STRIDE % latents.shape[2], x // STRIDE % latents.shape[3]]
            stamp = torch.from_numpy(sampler.cut(image, (y, x)))[None, None].expand(BATCH, 1, -1, -1)
            with torch.inference_mode():
                with torch.autocast("cpu", torch.bfloat16, enabled=native_bfloat16("cpu")):
                    joined, prior = network.encode(stamp)
                for sample, draw in enumerate(draws):
                    there = prior.at(torch.from_numpy(draw).expand(BATCH, -1))
                    logits = network.realise(joined.float(), there)[0]
                    one, two = logits[1] - logits[0], logits[2] - logits[0]
                    used = calibration if mode == "copula" else Calibration()
                    parts = [part.double().numpy() for part in calibrated(one, two, used)]
                    for j in range(SIZE):
                        for i in range(SIZE):
                            if 0 <= y + j < height and 0 <= x + i < width:
                                for total, part in zip(blended[:, sample], parts, strict=True):
                                    total[y + j, x + i] += weight[j] * weight[i] * part[j, i]
    return blended


@pytest.mark.parametrize("mode", ["copula", "latent"])
def test_maps_are_those_of_the_definition(mode):
    image = discs((40, 70), (20, 20, 6), (45, 22, 7), (54, 25, 7))
    image[3:6, 4:9] = np.nan
    sampler = Sampler(by_hand(), 3, seed=2, mode=mode)
    window = slice(0, 40), slice(0, 70)
    maps = sliding_pass(image, window, window, sampler)
    blended = naive(image, sampler, mode)
    np.testing.assert_allclose(maps.p_galaxy, blended[0].mean(axis=0), atol=2e-4)
    np.testing.assert_allclose(maps.p_overlap, blended[1].mean(axis=0), atol=2e-4)
    classes = maps.realisations.get(window)
    if mode == "copula":
        uniform = random_sky.look_at(sampler.uniform, (0, 0), (40, 70))
        expected, margin = (uniform < blended).sum(axis=0), np.abs(uniform - blended).min(axis=0)
    else:
        three = np.stack([1 - blended[0], blended[0] - blended[1], blended[1]])
        expected, ordered = three.argmax(axis=0), np.sort(three, axis=0)
        margin = ordered[2] - ordered[1]
    clear = margin > 1e-3
    assert clear.mean() > 0.99
    np.testing.assert_array_equal(classes[clear], expected[clear])
    assert (classes == 1).any() and (classes == 2).any()


@pytest.mark.parametrize("mode", ["copula", "latent"])
def test_kernel_and_torch_blend_alike(mode):
    model, samples = thresholding_model(), 4
    random = torch.Generator().manual_seed(0)
    joined = 3 * torch.randn(16, SIZE, SIZE, generator=random)
    biases = torch.randn(samples, 16, generator=random)
    both = []
    for blend, arrays in (
        (blend_fused, (joined.numpy(), biases.numpy())),
        (blend_torch, (joined, biases)),
    ):
        blended, sums = np.zeros((2, samples, 50, 90), np.float32), np.zeros((2, 50, 90), np.float32)
        with torch.inference_mode():
            blend(
                *arrays, model.network.combiner, model.calibration, mode, hat(SIZE), (-9, 40), blended, sums
            )
        both.append((blended, sums))
    for one, other in zip(*both, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-4)
        assert (one[..., SIZE - 9 :, :] == 0).all() and (one[..., :40] == 0).all() and one.max() > 0


def test_an_object_varies_as_much_as_in_a_stamp_of_its_own():
    image = discs((200, 200), (70, 75, 9), (130, 90, 7), (96, 140, 8))
    spreads = {}
    for method in ("two-step", "sliding"):
        options = {"model": by_hand(), "samples": 40, "rms": 1.0, "subtract_background": False}
        result = segment(image, method=method, **options)
        assert len(result.catalog) == 3
        spreads[method] = np.array(result.catalog["area_std"])
    np.testing.assert_allclose(spreads["sliding"], spreads["two-step"], rtol=0.35)


def test_no_grid_shows_in_mean_and_std_of_pure_noise():
    """Power at the frequencies of the stamps does not stand out of its neighbours."""
    image = np.random.default_rng(0).standard_normal((512, 512)).astype(np.float32)
    result = segment(image, model="euclid", samples=10, method="sliding", rms=1.0, subtract_background=False)
    for map_ in (result.mean, result.std, result.p_galaxy):
        for axis in (0, 1):
            power = np.abs(np.fft.rfft(map_.sum(axis=axis) - map_.mean() * 512)) ** 2
            grid = np.arange(512 // 64, 256, 512 // 64)  # periods of 64 pixels and their harmonics
            others = np.setdiff1d(np.arange(4, 256), grid)
            local = [power[others[np.abs(others - k) <= 8]].mean() for k in grid]
            # The mean of 31 exponential variates of mean 1 has a standard deviation of 0.18.
            assert np.mean(power[grid] / local) < 1 + 5 * 0.18
