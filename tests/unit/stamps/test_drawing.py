"""Batches: reproducible, in units of the noise, and true to the stamps they are drawn from."""

import dataclasses
import json
import shutil

import numpy as np
import pytest

from appulse.files import InputError
from appulse.sky.noise import draw_noise
from appulse.sky.truth import ternary_map
from appulse.stamps import StampConfig, StampSource, StampStore
from appulse.stamps.drawing import draw_views, noise_shape, show
from skies_by_hand import NOISE, SURVEY, blobs, field_of, plain

EVERYTHING = StampConfig(
    size=32,
    depth_range=(24.6, 26.8),
    background_range=(-0.5, 1.0),
    noise_correlation=(0.0, 1.2),
    blank_share=0.5,
)


def shown_one_by_one(store, views, noise, threshold):
    """What `show` does, in whole-stamp NumPy."""
    images, truths = [], []
    for place, stamp in enumerate(store.dense(views.stamps)):
        turn = views.turns[place]
        if turn & 1:
            stamp = stamp.transpose(0, 2, 1)
        if turn & 2:
            stamp = stamp[:, ::-1]
        if turn & 4:
            stamp = stamp[:, :, ::-1]
        light, first, second = stamp * views.brightness[place]
        truth = ternary_map(first, second, threshold)
        top, bottom, left, right = views.blank[place]
        light[top:bottom, left:right], truth[top:bottom, left:right] = 0, 0
        white = noise[place]
        if views.smoothing is not None:
            kernel = views.smoothing[place].astype(float)
            for _ in range(2):
                white = np.apply_along_axis(np.convolve, 0, white, kernel[::-1], mode="valid").T
        # Light in the field's noise units over its electrons per such unit, whatever the stamp's depth.
        white = white * np.sqrt(
            1 + light / views.brightness[place] / store.gain[store.field[views.stamps[place]]]
        )
        images.append((light + white + views.background[place]) * views.noise_error[place])
        truths.append(truth)
    return np.array(images), np.array(truths)


@pytest.fixture
def empty(store_of):
    return store_of(field_of(np.zeros((64, 80))))


@pytest.fixture
def blob_store(store_of):
    return store_of(field_of(*blobs()), config=plain(size=96), count=1)


def test_a_batch_depends_on_seed_and_number_alone(sky_store):
    forwards = StampSource(sky_store, EVERYTHING, seed=3)
    batches = [forwards.batch(number, 4) for number in range(6)]
    backwards = StampSource(sky_store, EVERYTHING, seed=3)
    for number in (2, 0, 1, 2):
        again = backwards.batch(number, 4)
        np.testing.assert_array_equal(again.images, batches[number].images)
        np.testing.assert_array_equal(again.ternary, batches[number].ternary)
    for ahead, batch in zip(backwards.batches(0, 6, 4), batches, strict=True):
        np.testing.assert_array_equal(ahead.images, batch.images)
    other = StampSource(sky_store, EVERYTHING, seed=4).batch(0, 4)
    images = [batch.images for batch in (*batches, other)]
    for i, one in enumerate(images):
        assert not any(np.array_equal(one, two) for two in images[i + 1 :])
    assert not np.array_equal(images[0][0], images[0][1])


@pytest.mark.parametrize(
    "config", [EVERYTHING, plain(flips=True, blank_share=1.0)], ids=["everything", "some"]
)
@pytest.mark.parametrize("name", ["sky_store", "photon_store"])
def test_the_kernel_equals_whole_stamp_numpy(name, config, request):
    store = request.getfixturevalue(name)
    views = draw_views(store, config, 1, 2, 40)
    noise = np.random.default_rng(0).standard_normal(noise_shape(views, 32), dtype=np.float32)
    images, truth = shown_one_by_one(store, views, noise, 1.0)
    batch = show(store, views, noise.copy(), 1.0)
    np.testing.assert_allclose(batch.images, images, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(batch.ternary, truth)
    assert set(np.unique(truth)) == {0, 1, 2}
    assert batch.images.dtype == np.float32 and batch.ternary.dtype == np.uint8


def test_every_stamp_once_before_any_again(sky_store):
    orders = []
    for epoch in range(2):
        batches = [draw_views(sky_store, EVERYTHING, 7, epoch * 25 + k, 8).stamps for k in range(25)]
        orders.append(np.concatenate(batches))
        assert sorted(orders[-1]) == list(range(200))
    assert not np.array_equal(*orders)
    # A batch may reach from one epoch into the next, and may be larger than the store.
    long = draw_views(sky_store, EVERYTHING, 7, 0, 450).stamps
    np.testing.assert_array_equal(long[:400], np.concatenate(orders))


@pytest.mark.parametrize("depth_range", [None, (25.0, 27.0)])
def test_empty_sky_has_unit_noise(empty, depth_range):
    batch = StampSource(empty, plain(depth_range=depth_range)).batch(0, 60)
    assert batch.images.std() == pytest.approx(1, abs=0.01)
    assert batch.images.mean() == pytest.approx(0, abs=0.02)
    for along in (batch.images, batch.images.transpose(0, 2, 1)):
        assert (along[:, 1:] * along[:, :-1]).mean() == pytest.approx(0, abs=0.02)
    assert not batch.ternary.any()


def test_left_over_background_and_noise_error(empty):
    batch = StampSource(empty, plain(background_scatter=0.5)).batch(0, 300)
    means = batch.images.mean(axis=(1, 2))
    assert means.std() == pytest.approx(np.hypot(0.5, 1 / 32), rel=0.15)
    assert (batch.images - means[:, None, None]).std() == pytest.approx(1, abs=0.01)
    batch = StampSource(empty, plain(background_range=(-1.0, 3.0))).batch(0, 300)
    means = batch.images.mean(axis=(1, 2))
    assert means.min() > -1.2 and means.max() < 3.2
    assert means.std() == pytest.approx(4 / np.sqrt(12), rel=0.1)
    batch = StampSource(empty, plain(noise_scatter=0.2)).batch(0, 300)
    assert np.log(batch.images.std(axis=(1, 2))).std() == pytest.approx(0.2, rel=0.15)


@pytest.mark.parametrize("length", [0.0, 0.7, 1.5])
def test_correlated_noise(empty, length):
    """A Gaussian kernel of width l gives correlations exp(-d^2 / 4 l^2), and the variance stays."""
    images = StampSource(empty, plain(noise_correlation=(length, length))).batch(0, 400).images
    assert images.std() == pytest.approx(1, abs=0.03)
    assert images.mean() == pytest.approx(0, abs=0.03)
    for distance in (1, 2):
        expected = np.exp(-(distance**2) / (4 * max(length, 1e-3) ** 2))
        for along in (images, images.transpose(0, 2, 1)):
            found = (along[:, distance:] * along[:, :-distance]).mean()
            assert found == pytest.approx(expected, abs=0.03)


def test_each_stamp_has_its_own_correlation(empty):
    images = StampSource(empty, plain(noise_correlation=(0.0, 1.5))).batch(0, 200).images
    found = (images[:, 1:] * images[:, :-1]).mean(axis=(1, 2)) / images.var(axis=(1, 2))
    assert found.min() < 0.05 and found.max() > 0.8


def test_noise_of_a_survey_that_has_it_correlated(store_of):
    correlated = dataclasses.replace(SURVEY, correlation=0.9)
    zero = np.zeros((64, 64))
    store = store_of(field_of(zero), field_of(zero, survey=correlated, index=1), count=400)
    images = StampSource(store, plain()).batch(0, 400).images
    of_field = store.field[draw_views(store, plain(), 0, 0, 400).stamps]
    for number, expected in enumerate((0.0, np.exp(-1 / (4 * 0.9**2)))):
        stamps = images[of_field == number]
        assert stamps.std() == pytest.approx(1, abs=0.03)
        assert (stamps[:, 1:] * stamps[:, :-1]).mean() == pytest.approx(expected, abs=0.03)


@pytest.mark.parametrize("dimmer", [0.0, 1.5])
def test_photon_noise_is_that_of_a_shorter_exposure(store_of, dimmer):
    """Counts of a sky of 10,000 electrons under 30,000 of a source, and of the time that dims it so much."""
    survey = dataclasses.replace(SURVEY, gain=100.0 / SURVEY.sigma)
    store = store_of(field_of(np.full((32, 32), 300.0), survey=survey), count=1)
    images = StampSource(store, plain(depth_range=(NOISE - dimmer, NOISE - dimmer))).batch(0, 100).images
    time = 10 ** (-0.8 * dimmer)  # the noise of the sky falls as its root
    counts = np.random.default_rng(0).poisson(40_000 * time, images.shape)
    exposed = (counts - 10_000 * time) / np.sqrt(10_000 * time)
    assert images.mean() == pytest.approx(exposed.mean(), rel=0.005)
    assert images.var() == pytest.approx(exposed.var(), rel=0.02)


def test_photon_noise_is_that_of_the_simulator(store_of):
    survey = dataclasses.replace(SURVEY, gain=0.5 / SURVEY.sigma, correlation=0.8)
    first, second = blobs()
    store = store_of(field_of(first, second, survey=survey), config=plain(size=96), count=1)
    images = StampSource(store, plain(size=96)).batch(0, 200).images
    light = (first + second) * np.float32(survey.sigma)
    noise = np.array([draw_noise(survey, light, 0, seed, 0) for seed in range(200)]) / survey.sigma
    for part in (light > 0, light == 0):
        for shift in (0, 1):  # variance, and covariance of neighbours
            ours, theirs = (
                (each * np.roll(each, shift, axis=2))[:, part].mean()
                for each in (images - images.mean(axis=0), noise - noise.mean(axis=0))
            )
            assert ours == pytest.approx(theirs, rel=0.05)


def test_fields_without_photon_noise_are_seen_as_before(photon_store, tmp_path):
    seen = StampSource(photon_store, plain(flips=True)).batch(0, 60).images
    # A store of before photon noise was kept.
    older = tmp_path / "older"
    shutil.copytree(photon_store.path, older)
    about = json.loads((older / "stamps.json").read_text())
    assert [field.pop("gain", None) for field in about["fields"]] == [None, 0.5, 0.5]
    (older / "stamps.json").write_text(json.dumps(about))
    before = StampSource(StampStore.open(older), plain(flips=True)).batch(0, 60).images
    field = photon_store.field[draw_views(photon_store, plain(), 0, 0, 60).stamps]
    same = [np.array_equal(*pair) for pair in zip(seen, before, strict=True)]
    lit = photon_store.dense(draw_views(photon_store, plain(), 0, 0, 60).stamps)[:, 0].any(axis=(1, 2))
    np.testing.assert_array_equal(same, (field == 0) | ~lit)
    assert len({*field}) == 3


@pytest.mark.parametrize("dimmer", [0.0, 1.0, 2.5])
def test_light_dims_with_depth(blob_store, dimmer):
    """One stamp of the field's own size, so that only depth and noise change."""
    depth = NOISE - dimmer
    batch = StampSource(blob_store, plain(size=96, depth_range=(depth, depth)), seed=1).batch(0, 40)
    light = np.sum(blobs(), axis=0, dtype=float)
    mean = batch.images.mean(axis=0)  # of forty draws of the noise
    scale = (mean * light).sum() / (light**2).sum()
    error = 1 / np.sqrt(40 * (light**2).sum())
    assert scale == pytest.approx(10 ** (-0.4 * dimmer), abs=5 * error)
    residual = batch.images - 10 ** (-0.4 * dimmer) * light
    assert residual.std() == pytest.approx(1, abs=0.01)


@pytest.mark.parametrize("dimmer", [0.0, 0.7, 2.5])
@pytest.mark.parametrize("threshold", [1.0, 2.0])
def test_truth_is_of_the_stamps_depth(blob_store, dimmer, threshold):
    depth = NOISE - dimmer
    config = plain(size=96, depth_range=(depth, depth), threshold=threshold)
    truth = StampSource(blob_store, config).batch(0, 1).ternary[0]
    first, second = blobs()
    limit = threshold * 10 ** (0.4 * dimmer)  # in units of the field's noise
    np.testing.assert_array_equal(truth, (first > limit).astype(int) + (second > limit))


def test_each_stamp_starts_from_the_depth_of_its_field(store_of):
    deep, shallow = field_of(np.full((32, 32), 100.0)), field_of(np.full((32, 32), 100.0), index=1)
    shallow = dataclasses.replace(shallow, survey=dataclasses.replace(shallow.survey, noise=NOISE - 1.0))
    store = store_of(deep, shallow, count=2)
    # The second field's layers are the same flux, so 2.5 times fewer of its noise.
    np.testing.assert_allclose(store.dense([0, 1])[:, 0, 0, 0], [100, 100 * 10**-0.4], rtol=1e-3)
    images = StampSource(store, plain(depth_range=(25.0, 25.0))).batch(0, 2).images
    np.testing.assert_allclose(images.mean(axis=(1, 2)), 100 * 10 ** (-0.4 * 2), atol=0.2)


def test_depths_fill_their_range_and_favour_the_deep(store_of):
    store = store_of(field_of(np.full((32, 32), 1000.0)))
    for power, median in ((1.0, 0.5), (2.0, 0.25)):
        source = StampSource(store, plain(depth_range=(25.0, 27.0), depth_power=power))
        brightness = source.batch(0, 400).images.mean(axis=(1, 2))
        depth = NOISE + 2.5 * np.log10(brightness / 1000.0)
        assert depth.min() > 24.99 and depth.max() < 27.01
        # range * u^power below the deepest, u uniform with median 1/2.
        assert np.median(depth) == pytest.approx(27.0 - 2.0 * median, abs=0.12)


def test_dimming_starts_from_the_depth_of_each_field(store_of):
    deep, shallow = field_of(np.full((32, 32), 1000.0)), field_of(np.full((32, 32), 1000.0), index=1)
    shallow = dataclasses.replace(shallow, survey=dataclasses.replace(shallow.survey, noise=NOISE - 1.0))
    store = store_of(deep, shallow, count=400)
    source = StampSource(store, plain(dimming_range=(0.5, 2.0), depth_power=1.0))
    views = draw_views(store, source.config, 0, 0, 400)
    bright = store.dense(views.stamps)[:, 0, 0, 0]
    dimming = -2.5 * np.log10(source.batch(0, 400).images.mean(axis=(1, 2)) / bright)
    for field in (0, 1):
        here = dimming[store.field[views.stamps] == field]
        assert here.min() > 0.49 and here.max() < 2.01
        assert np.median(here) == pytest.approx(1.25, abs=0.15)


def test_flips_give_the_eight_orientations_of_image_and_truth_alike(store_of):
    first, second = (8 * layer for layer in blobs())  # brighter than any noise
    store = store_of(field_of(first, second), config=plain(size=96), count=1)
    stamps = StampSource(store, plain(size=96, flips=True)).batch(0, 80)
    light, truth = first + second, (first > 1).astype(np.uint8) + (second > 1)
    turned = [np.rot90(part, turn) for part in (truth, truth.T) for turn in range(4)]
    lights = [np.rot90(part, turn) for part in (light, light.T) for turn in range(4)]
    seen = set()
    for image, ternary in zip(stamps.images, stamps.ternary, strict=True):
        which = [i for i, candidate in enumerate(turned) if np.array_equal(candidate, ternary)]
        assert len(which) == 1
        assert (image - lights[which[0]]).std() == pytest.approx(1, abs=0.05)
        seen.add(which[0])
    assert seen == set(range(8))
    unturned = StampSource(store, plain(size=96)).batch(0, 20).ternary
    assert (unturned == truth).all()


def test_blank_rectangle_is_empty_sky_with_noise(store_of):
    bright = np.full((32, 32), 50.0)
    store = store_of(field_of(bright, bright))
    batch = StampSource(store, plain(blank_share=1.0)).batch(0, 300)
    blank = batch.ternary == 0
    assert blank.any() and (batch.ternary[~blank] == 2).all()
    assert abs(batch.images[blank].mean()) < 0.05
    assert batch.images[blank].std() == pytest.approx(1, abs=0.02)
    assert batch.images[~blank].mean() == pytest.approx(100, abs=0.1)
    for stamp in blank:  # a rectangle, each time
        rows, columns = stamp.any(axis=1), stamp.any(axis=0)
        assert stamp.sum() == rows.sum() * columns.sum()
        for lit in (rows, columns):
            assert np.count_nonzero(np.diff(np.pad(lit.astype(int), 1)) == 1) <= 1
    sides = [blank[:, 0].any(1), blank[:, -1].any(1), blank[:, :, 0].any(1), blank[:, :, -1].any(1)]
    assert 0.4 < np.any(sides, axis=0).mean() < 0.9
    assert min(side.mean() for side in sides) > 0.1
    assert not StampSource(store, plain(blank_share=0.0)).batch(0, 50).ternary.min() == 0


def test_refusals(empty, sky_store):
    with pytest.raises(InputError, match="stamps of 32 pixels; 64 asked for"):
        StampSource(empty, plain(size=64))
    with pytest.raises(InputError, match=r"27\.2.*27\b"):
        StampSource(empty, plain(depth_range=(25.0, 27.2)))
    StampSource(empty, plain(depth_range=(25.0, NOISE)))  # as deep as rendered is fine
    with pytest.raises(InputError, match=r"27\.0.*26\.8"):  # the shallower of two fields decides
        StampSource(sky_store, StampConfig(size=32, depth_range=(25.0, 27.0)))
    with pytest.raises(InputError, match=r"cut with overlap_share 0\.5; 0\.25 asked for"):
        StampSource(sky_store, StampConfig(size=32, overlap_share=0.25))
    with pytest.raises(InputError, match=r"cut with giant_share 0\.05; 0\.0 asked for"):
        StampSource(sky_store, StampConfig(size=32, giant_share=0.0))


def test_a_store_that_does_not_say_its_shares_is_taken(sky_store, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(sky_store.path, older)
    about = json.loads((older / "stamps.json").read_text())
    del about["overlap_share"], about["giant_share"]
    (older / "stamps.json").write_text(json.dumps(about))
    StampSource(StampStore.open(older), StampConfig(size=32, overlap_share=0.25))


@pytest.mark.parametrize(
    "wrong",
    [
        {"depth_range": (27.0, 25.0)},
        {"dimming_range": (-0.5, 1.0)},
        {"noise_correlation": (-0.1, 1.0)},
        {"noise_correlation": (0.0, 9.0)},
        {"background_range": (1.0,)},
    ],
)
def test_ranges_that_are_none(wrong):
    (name,) = wrong
    with pytest.raises(ValueError, match=f"{name} is .*; it must be two numbers"):
        plain(**wrong)


def test_depth_is_said_once():
    with pytest.raises(ValueError, match="give one"):
        plain(depth_range=(25.0, 27.0), dimming_range=(0.0, 1.0))
