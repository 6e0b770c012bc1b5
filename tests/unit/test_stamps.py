"""Training stamps: reproducible, in units of the noise, and true to the layers they are cut from."""

import dataclasses

import numpy as np
import pytest

from appulse.files import InputError
from appulse.sky import Population, Survey, simulate_field, write_field
from appulse.stamps import FieldLayers, StampConfig, StampSource, grid_stamps

# Nothing but cutting and noise.
PLAIN = StampConfig(
    size=32, overlap_share=0.0, flips=False, background_scatter=0.0, noise_scatter=0.0, blank_share=0.0
)
NOISE = 27.0


def plain(**changes):
    return dataclasses.replace(PLAIN, **changes)


def empty_layers(shape=(64, 80)):
    return FieldLayers(*(np.zeros(shape, np.float32) for _ in range(3)), NOISE)


def blob_layers(shape=(96, 96), overlaps=True):
    """Two overlapping square galaxies, surface brightnesses that float16 holds exactly."""
    a, b = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    a[30:44, 20:40] = np.linspace(0, 16, 20) // 0.25 * 0.25
    b[36:50, 30:52] = 3.0
    if not overlaps:
        b[:] = 0
    return FieldLayers(a + b, np.maximum(a, b), np.minimum(a, b), NOISE)


@pytest.fixture(scope="module")
def sky():
    survey = dataclasses.replace(
        Survey.load("paper"), population=Population(density=300.0, magnitude_bright=21.0)
    )
    return simulate_field(survey, 128, seed=5)


@pytest.fixture(scope="module")
def sky_layers(sky):
    return FieldLayers(sky.light / sky.sigma, sky.first / sky.sigma, sky.second / sky.sigma, sky.survey.noise)


def test_a_batch_depends_on_seed_and_number_alone(sky_layers):
    config = StampConfig(size=32, depth_range=(24.6, 27.2))
    forwards = StampSource([sky_layers, sky_layers], config, seed=3)
    batches = [forwards.batch(number, 4) for number in range(3)]
    backwards = StampSource([sky_layers, sky_layers], config, seed=3)
    for number in (2, 0, 1, 2):
        again = backwards.batch(number, 4)
        np.testing.assert_array_equal(again.images, batches[number].images)
        np.testing.assert_array_equal(again.ternary, batches[number].ternary)
    other = StampSource([sky_layers, sky_layers], config, seed=4).batch(0, 4)
    images = [batch.images for batch in (*batches, other)]
    for i, one in enumerate(images):
        assert not any(np.array_equal(one, two) for two in images[i + 1 :])
    assert not np.array_equal(images[0][0], images[0][1])


def test_types_and_shapes(sky_layers):
    batch = StampSource([sky_layers], StampConfig(size=32)).batch(0, 5)
    assert batch.images.shape == batch.ternary.shape == (5, 32, 32)
    assert batch.images.dtype == np.float32 and batch.ternary.dtype == np.uint8
    assert batch.ternary.max() <= 2 and np.isfinite(batch.images).all()


@pytest.mark.parametrize("depth_range", [None, (25.0, 27.0)])
def test_empty_sky_has_unit_noise(depth_range):
    batch = StampSource([empty_layers()], plain(depth_range=depth_range)).batch(0, 60)
    assert batch.images.std() == pytest.approx(1, abs=0.01)
    assert batch.images.mean() == pytest.approx(0, abs=0.02)
    assert not batch.ternary.any()


def test_left_over_background_and_noise_error():
    batch = StampSource([empty_layers()], plain(background_scatter=0.5)).batch(0, 300)
    means = batch.images.mean(axis=(1, 2))
    assert means.std() == pytest.approx(np.hypot(0.5, 1 / 32), rel=0.15)
    assert (batch.images - means[:, None, None]).std() == pytest.approx(1, abs=0.01)
    batch = StampSource([empty_layers()], plain(noise_scatter=0.2)).batch(0, 300)
    assert np.log(batch.images.std(axis=(1, 2))).std() == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("dimmer", [0.0, 1.0, 2.5])
def test_light_dims_with_depth(dimmer):
    """One stamp of the field's own size, so that only depth and noise change."""
    layers = blob_layers((96, 96))
    depth = NOISE - dimmer
    source = StampSource([layers], plain(size=96, depth_range=(depth, depth)), seed=1)
    batch = source.batch(0, 40)
    light = layers.layers[0].astype(float)
    mean = batch.images.mean(axis=0)  # of forty draws of the noise
    scale = (mean * light).sum() / (light**2).sum()
    error = 1 / np.sqrt(40 * (light**2).sum())
    assert scale == pytest.approx(10 ** (-0.4 * dimmer), abs=5 * error)
    residual = batch.images - 10 ** (-0.4 * dimmer) * light
    assert residual.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dimmer", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("threshold", [1.0, 2.0])
def test_truth_is_of_the_stamps_depth(dimmer, threshold):
    layers = blob_layers((96, 96))
    depth = NOISE - dimmer
    config = plain(size=96, depth_range=(depth, depth), threshold=threshold)
    truth = StampSource([layers], config).batch(0, 1).ternary[0]
    _, first, second = layers.layers.astype(np.float32)
    limit = threshold * 10 ** (0.4 * dimmer)  # in units of the field's noise
    np.testing.assert_array_equal(truth, (first > limit).astype(int) + (second > limit))


def test_depths_fill_their_range_and_favour_the_deep():
    light = np.full((32, 32), 1000.0, np.float32)
    layers = FieldLayers(light, light, np.zeros_like(light), NOISE)
    for power, median in ((1.0, 0.5), (2.0, 0.25)):
        source = StampSource([layers], plain(depth_range=(25.0, 27.0), depth_power=power))
        brightness = source.batch(0, 400).images.mean(axis=(1, 2))
        depth = NOISE + 2.5 * np.log10(brightness / 1000.0)
        assert depth.min() > 24.99 and depth.max() < 27.01
        # range * u^power below the deepest, u uniform with median 1/2.
        assert np.median(depth) == pytest.approx(27.0 - 2.0 * median, abs=0.12)


def test_flips_give_the_eight_orientations_of_image_and_truth_alike():
    layers = blob_layers((96, 96))
    layers.layers[:] *= 8  # brighter than any noise
    stamps = StampSource([layers], plain(size=96, flips=True)).batch(0, 80)
    light, first, second = layers.layers.astype(np.float32)
    truth = (first > 1).astype(np.uint8) + (second > 1)
    turned = [np.rot90(part, turn) for part in (truth, truth.T) for turn in range(4)]
    lights = [np.rot90(part, turn) for part in (light, light.T) for turn in range(4)]
    seen = set()
    for image, ternary in zip(stamps.images, stamps.ternary, strict=True):
        which = [i for i, candidate in enumerate(turned) if np.array_equal(candidate, ternary)]
        assert len(which) == 1
        assert (image - lights[which[0]]).std() == pytest.approx(1, abs=0.05)
        seen.add(which[0])
    assert seen == set(range(8))


def test_no_flips_when_not_asked_for():
    layers = blob_layers((96, 96))
    ternary = StampSource([layers], plain(size=96)).batch(0, 20).ternary
    assert np.array_equal(ternary, np.broadcast_to(ternary[0], ternary.shape))


def test_every_stamp_around_an_overlap(sky_layers):
    config = plain(size=32, overlap_share=1.0, flips=True)
    ternary = StampSource([sky_layers], config).batch(0, 100).ternary
    assert (ternary == 2).any(axis=(1, 2)).all()
    # Not always in the middle: the position must teach nothing.
    layers = blob_layers((96, 96))
    ternary = StampSource([layers], plain(overlap_share=1.0)).batch(0, 100).ternary
    rows = [np.argwhere(stamp == 2)[:, 0].mean() for stamp in ternary]
    assert np.ptp(rows) > 12


def test_overlaps_asked_from_a_sky_without():
    batch = StampSource([blob_layers(overlaps=False)], plain(overlap_share=1.0)).batch(0, 4)
    assert batch.images.shape == (4, 32, 32)


def test_corners_reach_every_part_of_the_field():
    light = np.zeros((40, 50), np.float32)
    light[0, 0] = light[-1, -1] = light[0, -1] = light[-1, 0] = 100
    layers = FieldLayers(light, light, np.zeros_like(light), NOISE)
    ternary = StampSource([layers], plain()).batch(0, 600).ternary
    assert ternary[:, 0, 0].any() and ternary[:, -1, -1].any()
    assert ternary[:, 0, -1].any() and ternary[:, -1, 0].any()


def test_blank_rectangle_is_empty_sky_with_noise():
    light = np.full((32, 32), 50.0, np.float32)
    layers = FieldLayers(light, light, light, NOISE)
    batch = StampSource([layers], plain(blank_share=1.0)).batch(0, 300)
    blank = batch.ternary == 0
    assert blank.any() and (batch.ternary[~blank] == 2).all()
    assert abs(batch.images[blank].mean()) < 0.05
    assert batch.images[blank].std() == pytest.approx(1, abs=0.02)
    assert batch.images[~blank].mean() == pytest.approx(50, abs=0.1)
    for stamp in blank:  # a rectangle, each time
        rows, columns = stamp.any(axis=1), stamp.any(axis=0)
        assert stamp.sum() == rows.sum() * columns.sum()
        for lit in (rows, columns):
            assert np.count_nonzero(np.diff(np.pad(lit.astype(int), 1)) == 1) <= 1
    border = (
        blank[:, 0].any(axis=1) | blank[:, -1].any(axis=1) | blank[:, :, 0].any(1) | blank[:, :, -1].any(1)
    )
    assert 0.4 < border.mean() < 0.9
    assert not StampSource([layers], plain(blank_share=0.0)).batch(0, 50).ternary.min() == 0


def test_fields_are_equally_likely():
    bright = np.full((32, 32), 50.0, np.float32)
    other = FieldLayers(bright, bright, np.zeros_like(bright), NOISE)
    ternary = StampSource([empty_layers(), other], plain()).batch(0, 400).ternary
    assert ternary.any(axis=(1, 2)).mean() == pytest.approx(0.5, abs=0.1)


def test_refusals(tmp_path):
    with pytest.raises(InputError, match="no fields"):
        StampSource([], PLAIN)
    with pytest.raises(InputError, match="smaller than a stamp of 65"):
        StampSource([empty_layers((64, 80))], plain(size=65))
    with pytest.raises(InputError, match=r"27\.2.*27\.0"):
        StampSource([empty_layers()], plain(depth_range=(25.0, 27.2)))
    StampSource([empty_layers()], plain(depth_range=(25.0, NOISE)))  # as deep as rendered is fine
    with pytest.raises(InputError, match="no simulated fields"):
        StampSource.from_directory(tmp_path, PLAIN)


def test_from_directory(sky, sky_layers, tmp_path):
    write_field(sky, tmp_path / "field_0005_00.fits")
    source = StampSource.from_directory(tmp_path, PLAIN, seed=2)
    expected = StampSource([sky_layers], PLAIN, seed=2).batch(0, 3)
    found = source.batch(0, 3)
    np.testing.assert_allclose(found.images, expected.images, rtol=2e-3, atol=1e-3)  # float16 layers
    assert source.fields[0].noise == sky.survey.noise


def test_half_precision_keeps_the_class_map(sky, sky_layers):
    truth = grid_stamps(sky_layers, plain(size=128), seed=0).ternary[0]
    # float16 has 11 bits: only a pixel within 0.05 % of the threshold can change its class.
    changed = truth != sky.ternary()
    near = np.zeros_like(changed)
    for layer in (sky.first, sky.second):
        near |= abs(layer / sky.sigma - 1) < 6e-4
    assert not (changed & ~near).any()


def test_very_bright_galaxies_stay_finite():
    light = np.full((32, 32), 1e6, np.float32)
    batch = StampSource([FieldLayers(light, light, light, NOISE)], PLAIN).batch(0, 1)
    assert np.isfinite(batch.images).all() and (batch.ternary == 2).all()


def test_grid_stamps_reassemble_the_field(sky, sky_layers):
    light = np.arange(70 * 101, dtype=np.float32).reshape(70, 101) % 1024
    layers = FieldLayers(light, light, np.minimum(light, 1), NOISE)
    batch = grid_stamps(layers, PLAIN, seed=1)
    assert batch.images.shape == (2 * 3, 32, 32)
    for index in range(6):
        y, x = 32 * (index // 3), 32 * (index % 3)
        noise = batch.images[index] - light[y : y + 32, x : x + 32]
        assert noise.std() == pytest.approx(1, abs=0.1)
        np.testing.assert_array_equal(batch.ternary[index], light[y : y + 32, x : x + 32] > 1)
    again, other = grid_stamps(layers, PLAIN, seed=1), grid_stamps(layers, PLAIN, seed=2)
    np.testing.assert_array_equal(again.images, batch.images)
    assert not np.array_equal(other.images, batch.images)


def test_grid_stamps_ignore_augmentation(sky_layers):
    augmented = StampConfig(size=32, depth_range=(24.6, 27.2))
    np.testing.assert_array_equal(
        grid_stamps(sky_layers, augmented, 0).images, grid_stamps(sky_layers, PLAIN, 0).images
    )
