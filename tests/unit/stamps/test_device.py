"""The torch twin: the same stamps as on the CPU, seen alike, with noise of the same statistics."""

import dataclasses

import numpy as np
import pytest
import torch

from appulse.files import InputError
from appulse.stamps import StampConfig, StampSource
from appulse.stamps.device import DeviceStamps
from appulse.stamps.drawing import draw_views, noise_shape, show
from skies_by_hand import blobs, field_of, plain

CONFIG = StampConfig(size=32, depth_range=(24.6, 26.8), blank_share=0.5)
DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


@pytest.fixture(params=DEVICES)
def device(request):
    if request.param == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    return request.param


def test_noise_free_parts_equal_the_kernels(sky_store, device):
    twin = DeviceStamps(sky_store, CONFIG, 1, device)
    for number in range(5):
        views = draw_views(sky_store, CONFIG, 1, number, 40)
        noise = np.zeros(noise_shape(views, 32), np.float32)
        images, ternary = twin.show(views, torch.zeros(noise.shape, device=device))
        batch = show(sky_store, views, noise, CONFIG.threshold)
        np.testing.assert_array_equal(ternary.cpu(), batch.ternary, strict=True)
        np.testing.assert_array_equal(images.cpu(), batch.images, strict=True)
    assert batch.ternary.max() == 2


@pytest.mark.parametrize("name", ["sky_store", "photon_store"])
def test_noise_is_treated_alike(name, device, request):
    store = request.getfixturevalue(name)
    config = StampConfig(
        size=32, noise_correlation=(0.0, 1.5), background_range=(-1.0, 1.0), noise_scatter=0.3
    )
    config = dataclasses.replace(config, **store.shares)
    views = draw_views(store, config, 1, 0, 40)
    noise = np.random.default_rng(0).standard_normal(noise_shape(views, 32), dtype=np.float32)
    images, _ = DeviceStamps(store, config, 1, device).show(views, torch.from_numpy(noise).to(device))
    batch = show(store, views, noise.copy(), config.threshold)
    np.testing.assert_allclose(images.cpu(), batch.images, rtol=1e-4, atol=1e-4)


def test_a_stamp_wider_than_255_pixels(store_of, device):
    first = np.zeros((300, 300))
    first[10:290, 20:250] = 2.0
    store = store_of(field_of(first), config=plain(size=256), count=3)
    source, twin = (StampSource(store, plain(size=256)), DeviceStamps(store, plain(size=256), 0, device))
    np.testing.assert_array_equal(twin.batch(0, 3)[1].cpu(), source.batch(0, 3).ternary)


def test_batches_are_reproducible_and_differ(sky_store, device):
    twin = DeviceStamps(sky_store, CONFIG, 1, device)
    batches = list(twin.batches(0, 3, 8))
    for number in (2, 0, 1):
        for again, before in zip(twin.batch(number, 8), batches[number], strict=True):
            assert torch.equal(again, before)
    for other in (batches[1], DeviceStamps(sky_store, CONFIG, 2, device).batch(0, 8)):
        assert not torch.equal(batches[0][0], other[0])
    images, ternary = batches[0]
    assert images.shape == ternary.shape == (8, 32, 32)
    assert images.dtype == torch.float32 and ternary.dtype == torch.uint8


def test_statistics_of_its_noise(store_of, device):
    store = store_of(field_of(*blobs()), count=8)
    config = plain(flips=True)
    images, ternary = DeviceStamps(store, config, 3, device).batch(0, 400)
    reference = StampSource(store, config, 3).batch(0, 400)
    np.testing.assert_array_equal(ternary.cpu(), reference.ternary)
    difference = images.cpu().numpy() - reference.images  # of two draws of unit noise over the same light
    assert difference.std() == pytest.approx(np.sqrt(2), abs=0.01)
    assert difference.mean() == pytest.approx(0, abs=0.01)


def test_refuses_what_the_source_refuses(sky_store):
    with pytest.raises(InputError, match="64 asked for"):
        DeviceStamps(sky_store, plain(size=64), 0, "cpu")
