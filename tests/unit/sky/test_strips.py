"""Strips against a field in one piece, and against all galaxies drawn into whole arrays."""

import dataclasses

import numpy as np
import pytest

from appulse.sky import Population, Survey, simulate_field, strips
from appulse.sky.population import Clumps
from appulse.sky.rendering import Renderer
from appulse.sky.strips import FieldPlan, draw_strip

CROWDED = dataclasses.replace(
    Survey.load("paper"),
    name="crowded",
    population=Population(density=400.0, magnitude_bright=19.0, size_factor=2.5),
    clumps=Clumps(0.5),
)
SHAPE = (200, 160)
EXACT = ("image", "light", "first", "second", "id1", "id2")


@pytest.fixture(scope="module")
def whole():
    return simulate_field(CROWDED, SHAPE, seed=3)


def sparse(field):
    return sorted(
        zip(*(np.asarray(field.deeper[name]).tolist() for name in ("y", "x", "id", "flux")), strict=True)
    )


@pytest.mark.parametrize("rows", [64, 128])
def test_the_height_of_strips_does_not_matter(whole, rows, monkeypatch):
    monkeypatch.setattr(strips, "STRIP_ROWS", rows)
    parts = simulate_field(CROWDED, SHAPE, seed=3)
    for name in EXACT:
        np.testing.assert_array_equal(getattr(parts, name), getattr(whole, name), err_msg=name)
    assert sparse(parts) == sparse(whole) and len(whole.deeper) > 0
    for name in whole.catalog.colnames:
        # A galaxy's two sums may differ in their last bits where it straddles strips.
        rtol = 1e-6 if name == "blendedness" else 0
        np.testing.assert_allclose(
            parts.catalog[name], whole.catalog[name], rtol=rtol, atol=rtol, err_msg=name
        )


def test_all_galaxies_drawn_into_whole_arrays(whole):
    renderer, padding = Renderer(CROWDED), 500
    stack = np.zeros((len(whole.catalog), *SHAPE), np.float32)
    for plane, row in zip(stack, whole.catalog, strict=True):
        source = renderer.draw(row)
        if source is not None:
            canvas = np.zeros([side + 2 * padding for side in SHAPE], np.float32)
            y, x = source.y0 + padding, source.x0 + padding
            canvas[y : y + source.image.shape[0], x : x + source.image.shape[1]] = source.image
            plane[:] = canvas[padding:-padding, padding:-padding]
    order = np.argsort(-stack, axis=0, kind="stable")
    ranked = np.take_along_axis(stack, order, axis=0)
    np.testing.assert_array_equal(whole.first, ranked[0])
    np.testing.assert_array_equal(whole.second, ranked[1])
    np.testing.assert_array_equal(whole.id1, np.where(ranked[0] > 0, order[0] + 1, 0))
    np.testing.assert_array_equal(whole.id2, np.where(ranked[1] > 0, order[1] + 1, 0))
    np.testing.assert_allclose(whole.light, stack.sum(axis=0), rtol=1e-5)


def test_no_galaxy_that_was_left_out_has_light_on_the_field():
    # The bounding box is known before the galaxy is drawn; it must not be too small.
    plan = FieldPlan.draw(CROWDED, SHAPE, 3, 0)
    sources = strips.draw_sources(CROWDED, SHAPE, 3, 0)
    assert len(sources) > len(plan.sources) > 0
    renderer = Renderer(CROWDED)
    for row in sources:
        source = renderer.draw(row)
        if source is None:
            continue
        y_low, y_high, x_low, x_high = renderer.box(row)
        height, width = source.image.shape
        assert y_low <= source.y0 and source.y0 + height <= y_high
        assert x_low <= source.x0 and source.x0 + width <= x_high


def test_every_galaxy_is_measured_by_one_strip(monkeypatch):
    monkeypatch.setattr(strips, "STRIP_ROWS", 64)
    plan = FieldPlan.draw(CROWDED, SHAPE, 3, 0)
    tasks = plan.tasks()
    assert [(task.y0, task.rows) for task in tasks] == [(0, 64), (64, 64), (128, 64), (192, 8)]
    owned = np.concatenate([draw_strip(task).measured["owned"] for task in tasks])
    assert sorted(owned) == list(range(1, len(plan.catalog) + 1))
    assert sum(task.galaxies for task in tasks) == len(plan.catalog)


def test_unlabelled_sources_have_light_and_no_identity(monkeypatch):
    drawn = strips.draw_sources

    def every_third_without_label(*arguments):
        sources = drawn(*arguments)
        sources["kind"][::3] = 1
        return sources

    labelled = simulate_field(CROWDED, SHAPE, seed=3)
    monkeypatch.setattr(strips, "draw_sources", every_third_without_label)
    field = simulate_field(CROWDED, SHAPE, seed=3)
    assert field.catalog["id"].tolist() == list(range(1, len(field.catalog) + 1))
    assert 0.5 < len(field.catalog) / len(labelled.catalog) < 0.8
    assert field.other.any() and set(np.unique(field.id1)) <= {0, *field.catalog["id"]}
    # The sky is the same, however its light is told apart.
    np.testing.assert_allclose(field.light, labelled.light, rtol=1e-5)
    np.testing.assert_allclose(field.image, labelled.image, rtol=1e-5, atol=1e-5 * CROWDED.sigma)
