import numpy as np
import pytest
import torch
from scipy import special

from appulse.inference.random_sky import copula_field, empty_sky, latent_draws, look_at
from appulse.inference.sampler import BATCH, Sampler
from appulse.network import Calibration, NetworkConfig, ProbabilisticUNet
from appulse.network.calibration import IDENTITY
from appulse.network.weights import Model

SAMPLES, SIZE = 8, 32


def random_model(combiner_layers=1, calibration=None, combiner_filters=8):
    """A random network, its last layer scaled so that all classes occur and realisations differ."""
    torch.manual_seed({1: 3, 2: 2}[combiner_layers])  # seeds with which all three classes occur
    config = NetworkConfig(
        filters=(4, 8, 8),
        stamp_size=SIZE,
        encoder_poolings=2,
        combiner_filters=combiner_filters,
        combiner_layers=combiner_layers,
    )
    network = ProbabilisticUNet(config).eval()
    with torch.no_grad():
        network.combiner.rest[-1].weight.mul_(6.0)
        network.combiner.rest[-1].bias.copy_(torch.tensor([3.0, 0.0, -1.0]))
    return Model("random", network, calibration or Calibration())


@pytest.fixture(scope="module")
def model():
    return random_model()


@pytest.fixture(scope="module")
def scaled():
    """Pixels that put the random network through its paces; a part of them is bad."""
    pixels = 4 * np.random.default_rng(0).standard_normal((90, 110), dtype=np.float32)
    pixels[30:40, 50:60] = np.nan
    return pixels


def content(stamp):
    return stamp.origin, stamp.classes.tobytes(), stamp.p_galaxy.tobytes(), stamp.p_overlap.tobytes()


def drawn(model, scaled, origins, **options):
    options = {"samples": SAMPLES} | options
    return list(Sampler(model, **options).draw(scaled, origins))


# -------------------------------------------------------------------------------------------- the stamps


def test_stamps_that_are_cut_already_are_drawn_as_those_of_an_image(model, scaled):
    origins = [(int(y), int(x)) for y, x in np.random.default_rng(1).integers(-9, 70, (BATCH + 3, 2))]
    sampler = Sampler(model, SAMPLES, seed=5)
    stamps = np.array([sampler.cut(scaled, origin) for origin in origins])
    apart, together = sampler.draw_stamps(stamps, origins), sampler.draw(scaled, origins)
    assert [content(stamp) for stamp in apart] == [content(stamp) for stamp in together]


def test_bad_pixels_and_the_world_outside_become_empty_sky(model, scaled):
    stamp = Sampler(model, SAMPLES, seed=5).cut(scaled, (-10, 40))
    sky = look_at(empty_sky(5), (-10, 40), (SIZE, SIZE))
    np.testing.assert_array_equal(stamp[:10], sky[:10])
    np.testing.assert_array_equal(stamp[10:], scaled[:22, 40:72])

    stamp = Sampler(model, SAMPLES, seed=5).cut(scaled, (20, 40))
    bad = np.isnan(scaled[20:52, 40:72])
    sky = look_at(empty_sky(5), (20, 40), (SIZE, SIZE))
    np.testing.assert_array_equal(stamp, np.where(bad, sky, scaled[20:52, 40:72]))
    assert bad.sum() == 100 and stamp.dtype == np.float32


@pytest.mark.parametrize("content_of_bad", [np.inf, -np.inf])
def test_what_a_bad_pixel_holds_is_irrelevant(model, scaled, content_of_bad):
    other = np.where(np.isnan(scaled), np.float32(content_of_bad), scaled)
    origins = [(16, 32), (20, 40)]
    for one, two in zip(drawn(model, scaled, origins), drawn(model, other, origins), strict=True):
        assert content(one) == content(two)


def test_cutting_leaves_the_image_and_the_sky_alone(model, scaled):
    before, sampler = scaled.copy(), Sampler(model, SAMPLES)
    sky = sampler.empty.copy()
    sampler.cut(scaled, (0, 0))[:] = 7
    np.testing.assert_array_equal(scaled, before)
    np.testing.assert_array_equal(sampler.empty, sky)


# ------------------------------------------------------------------------------------------- the sampler


@pytest.mark.parametrize("mode", ["copula", "latent"])
@pytest.mark.parametrize("layers", [1, 2], ids=["kernel", "twin"])
def test_realisations_are_those_of_the_networks_own_logits(scaled, layers, mode):
    """Naive: the network as trained (not folded), one realisation after another, softmax, thresholds."""
    model = random_model(layers)
    origin, on_sky = (16, 48), (192 + 16, 64 + 48)  # of a cutout that begins at (192, 64)
    sampler = Sampler(model, SAMPLES, seed=2, mode=mode, origin=(192, 64))
    (stamp,) = sampler.draw(scaled, [origin])
    assert stamp.origin == origin and all((stamp.classes == c).any() for c in (0, 1, 2))

    pixels = torch.from_numpy(sampler.cut(scaled, origin))[None, None]
    draws = latent_draws(2, SAMPLES, 10, on_sky)
    with torch.inference_mode():
        joined, prior = model.network.encode(pixels)
        logits = [model.network.realise(joined, prior.at(torch.from_numpy(draw)[None]))[0] for draw in draws]
    softmax = torch.softmax(torch.stack(logits), dim=1).numpy()
    p_galaxy, p_overlap = softmax[:, 1] + softmax[:, 2], softmax[:, 2]
    uniform = special.expit(look_at(copula_field(2, SAMPLES, 3.0), on_sky, (SIZE, SIZE)))
    smooth = (uniform < p_galaxy) + 1 * (uniform < p_overlap)
    classes = softmax.argmax(axis=1) if mode == "latent" else smooth
    # The network may run in bfloat16, which keeps three digits.
    assert np.mean(stamp.classes == classes) > 0.97
    assert np.abs(stamp.p_galaxy - p_galaxy.mean(axis=0)).mean() < 0.01
    assert np.abs(stamp.p_overlap - p_overlap.mean(axis=0)).mean() < 0.01


def test_draws_of_the_latent_lie_nearer_to_the_mean_by_the_calibrations_scale(scaled):
    """But not those of the paper's mode, which is not calibrated; a combiner's bias is linear in them."""
    stamps, origins = np.nan_to_num(scaled[None, :SIZE, :SIZE]), [(0, 0)]

    def biases(scale, mode="copula"):
        model = random_model(calibration=Calibration(latent_scale=scale))
        return Sampler(model, SAMPLES, mode=mode).encode(stamps, origins)[1].numpy()

    none, half, full = (biases(scale) for scale in (0.0, 0.5, 1.0))
    assert len(none) == 1 and np.ptp(full, axis=0).min() > 0
    np.testing.assert_allclose(half, (none + full) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(biases(0.0, "latent"), full)


def test_frequencies_of_realisations_are_the_probabilities(model):
    samples = 48
    scaled = 4 * np.random.default_rng(3).standard_normal((128, 128), dtype=np.float32)
    calibration = Calibration(
        tuple(0.8 * logit - 0.2 for logit in IDENTITY),
        tuple(1.2 * logit + 0.3 for logit in IDENTITY),
        correlation_length=0.7,
    )
    model = random_model(calibration=calibration)
    origins = [(y, x) for y in range(0, 128, SIZE) for x in range(0, 128, SIZE)]
    for stamp in drawn(model, scaled, origins, samples=samples):
        for at_least, expected in ((1, stamp.p_galaxy), (2, stamp.p_overlap)):
            frequency = (stamp.classes >= at_least).mean(axis=0)
            error = np.sqrt(np.maximum(expected * (1 - expected), 1 / samples) / samples)
            deviation = (frequency - expected) / error
            assert np.abs(deviation).max() < 6 and abs(deviation.mean()) < 0.3
        assert (stamp.p_overlap <= stamp.p_galaxy).all()


@pytest.mark.parametrize("combiner_filters", [8, 32])
def test_a_stamp_depends_neither_on_its_slot_nor_on_its_company(scaled, combiner_filters):
    model = random_model(combiner_filters=combiner_filters)
    origins = [(y, x) for y in (-9, 0, 25, 58) for x in (-5, 0, 31, 64, 90)]
    assert len(origins) > BATCH
    together = {stamp.origin: content(stamp) for stamp in drawn(model, scaled, origins)}
    assert list(together) == origins
    for order in (origins[::-1], origins[3:7], [origins[-1]], [origins[0]]):
        for stamp in drawn(model, scaled, order):
            assert content(stamp) == together[stamp.origin]


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(model, scaled):
    origins = [(0, 0), (20, 40)]
    first, again, other = (
        [content(stamp) for stamp in drawn(model, scaled, origins, seed=seed)] for seed in (4, 4, 5)
    )
    assert first == again
    assert all(one[1] != two[1] for one, two in zip(first, other, strict=True))


def test_more_realisations_do_not_change_the_first_ones(model, scaled):
    (few,) = drawn(model, scaled, [(20, 40)], samples=3)
    (many,) = drawn(model, scaled, [(20, 40)], samples=SAMPLES)
    np.testing.assert_array_equal(few.classes, many.classes[:3])


def test_no_stamp_no_work(model, scaled):
    assert drawn(model, scaled, []) == []


def test_a_sampler_on_another_device_leaves_the_model_where_it_is(model):
    here = Sampler(model, 2, 0)
    there = Sampler(model, 2, 0, device="meta")
    assert {p.device.type for p in here.network.parameters()} == {"cpu"}
    assert {p.device.type for p in there.network.parameters()} == {"meta"}
