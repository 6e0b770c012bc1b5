"""The fixed grid of validation stamps."""

import dataclasses

import numpy as np

from appulse.stamps import grid_stamps
from appulse.stamps.grid import cut_grid, join_grid
from skies_by_hand import field_of, plain


def test_grid_stamps_reassemble_the_field():
    first = np.arange(70 * 101, dtype=np.float32).reshape(70, 101) % 1024
    field = field_of(first, np.minimum(first, 1.5))
    # The noise is the field's own, whatever its correlation.
    noise = np.random.default_rng(0).normal(size=(70, 101)).astype(np.float32)
    field = dataclasses.replace(field, image=field.image + noise * np.float32(field.sigma))
    batch = grid_stamps(field, plain())
    assert batch.images.shape == (2 * 3, 32, 32) and batch.images.dtype == np.float32
    for index in range(6):
        window = (
            slice(32 * (index // 3), 32 * (index // 3) + 32),
            slice(32 * (index % 3), 32 * (index % 3) + 32),
        )
        np.testing.assert_allclose(batch.images[index] * field.sigma, field.image[window], rtol=1e-6)
        np.testing.assert_array_equal(batch.ternary[index], field.ternary()[window])


def test_augmentation_is_ignored_and_the_threshold_is_not():
    field = field_of(np.full((64, 64), 1.5))
    plainly = grid_stamps(field, plain())
    augmented = grid_stamps(field, plain(flips=True, blank_share=1.0, depth_range=(20.0, 21.0)))
    np.testing.assert_array_equal(augmented.images, plainly.images)
    assert plainly.ternary.all() and not grid_stamps(field, plain(threshold=2.0)).ternary.any()


def test_stamps_laid_side_by_side_are_the_image():
    image = np.random.default_rng(1).random((70, 101))
    np.testing.assert_array_equal(join_grid(cut_grid(image, 32), 2), image[:64, :96])
