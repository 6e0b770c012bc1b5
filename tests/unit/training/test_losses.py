"""Dice against plain NumPy, and its behaviour where a class is absent."""

import numpy as np
import pytest
import torch

from appulse.training.losses import dice_coefficients, weighted_dice


@pytest.fixture
def batch():
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(5, 3, 8, 9, generator=generator)
    return logits.softmax(dim=1), torch.randint(0, 3, (5, 8, 9), generator=generator, dtype=torch.uint8)


def naive_dice(probabilities, truth, smooth, squared):
    result = []
    for label in range(3):
        both = size = 0.0
        for p_chw, y_hw in zip(probabilities.numpy().astype(float), truth.numpy(), strict=True):
            for p, y in zip(p_chw[label].ravel(), (y_hw == label).ravel(), strict=True):
                both += 2 * p * y
                size += (p**2 if squared else p) + y
        result.append((both + smooth) / (size + smooth))
    return np.array(result)


@pytest.mark.parametrize("squared", [False, True])
@pytest.mark.parametrize("smooth", [0.0, 1.0, 100.0])
def test_dice_against_numpy(batch, smooth, squared):
    found = dice_coefficients(*batch, smooth=smooth, squared=squared)
    assert found.dtype == torch.float32
    np.testing.assert_allclose(found, naive_dice(*batch, smooth, squared), rtol=1e-5)


def test_reduced_over_the_batch_not_per_stamp(batch):
    probabilities, truth = batch
    each = torch.stack([dice_coefficients(probabilities[i : i + 1], truth[i : i + 1]) for i in range(5)])
    assert (dice_coefficients(probabilities, truth) - each.mean(dim=0)).abs().max() > 1e-3


def test_weighted_dice_by_hand(batch):
    dice = naive_dice(*batch, 1.0, False)
    # Paper, appendix A: 0.4 background, 0.5 isolated, 0.9 blended.
    expected = (0.4 * (1 - dice[0]) + 0.5 * (1 - dice[1]) + 0.9 * (1 - dice[2])) / 1.8
    assert float(weighted_dice(*batch)) == pytest.approx(expected, rel=1e-5)
    assert float(weighted_dice(*batch, (0, 0, 3))) == pytest.approx(1 - dice[2], rel=1e-5)
    assert float(weighted_dice(*batch, (0, 0, 0))) == 0  # cross-entropy alone


@pytest.mark.parametrize("squared", [False, True])
def test_perfect_and_useless(batch, squared):
    _, truth = batch
    one_hot = torch.nn.functional.one_hot(truth.long(), 3).permute(0, 3, 1, 2).float()
    assert float(weighted_dice(one_hot, truth, squared=squared)) == pytest.approx(0, abs=1e-6)
    assert float(weighted_dice(one_hot.roll(1, dims=1), truth, squared=squared)) > 0.98


def test_order_of_the_batch_does_not_matter(batch):
    probabilities, truth = batch
    order = torch.tensor([3, 0, 4, 1, 2])
    torch.testing.assert_close(
        weighted_dice(probabilities[order], truth[order]), weighted_dice(probabilities, truth)
    )


def test_flipping_does_not_matter(batch):
    probabilities, truth = batch
    torch.testing.assert_close(
        weighted_dice(probabilities.flip(3), truth.flip(2)), weighted_dice(probabilities, truth)
    )


def test_gradient_where_a_class_is_absent():
    """False overlap is pushed down although no pixel of the batch is an overlap."""
    generator = torch.Generator().manual_seed(1)
    logits = torch.randn(4, 3, 16, 16, generator=generator, requires_grad=True)
    truth = torch.randint(0, 2, (4, 16, 16), generator=generator)
    weighted_dice(logits.softmax(dim=1), truth, (0, 0, 1)).backward()
    gradient = logits.grad[:, 2]
    assert torch.isfinite(gradient).all()
    assert (gradient > 0).all()  # going down the gradient lowers every overlap logit


def test_gradient_in_a_stamp_without_the_class():
    generator = torch.Generator().manual_seed(2)
    logits = torch.randn(2, 3, 8, 8, generator=generator, requires_grad=True)
    truth = torch.zeros(2, 8, 8, dtype=torch.uint8)
    truth[0, :4] = 2  # only the first stamp has overlaps
    weighted_dice(logits.softmax(dim=1), truth).backward()
    assert logits.grad[1, 2].abs().min() > 0


def test_half_precision_is_summed_in_float32():
    truth = torch.zeros(16, 64, 64, dtype=torch.uint8)
    truth[:, :32] = 1
    probabilities = torch.full((16, 3, 64, 64), 1 / 3).bfloat16()
    found = dice_coefficients(probabilities, truth)
    expected = naive_third = dice_coefficients(probabilities.float(), truth)
    torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert float(naive_third[0]) == pytest.approx(2 * 0.5 / 3 / (1 / 3 + 0.5), rel=0.01)


def test_scales_end_at_the_loss_of_each_class(batch):
    weights = (0.4, 0.5, 0.9)
    plain = weighted_dice(*batch, weights)
    at_start = weighted_dice(*batch, weights, log_scales=torch.zeros(3))
    assert float(at_start) == pytest.approx(float(plain))
    # In closed form: least at log(1 - D), where it is the weighted mean of 1 + log(1 - D).
    fails = torch.log(1.0 - dice_coefficients(*batch))
    scales = torch.zeros(3, requires_grad=True)
    optimiser = torch.optim.SGD([scales], lr=1.0)
    for _ in range(300):
        optimiser.zero_grad()
        loss = weighted_dice(*batch, weights, log_scales=scales)
        loss.backward()
        optimiser.step()
    torch.testing.assert_close(scales.detach(), fails, rtol=1e-3, atol=1e-3)
    w = torch.tensor(weights)
    torch.testing.assert_close(loss.detach(), (w * (1.0 + fails)).sum() / w.sum(), rtol=1e-4, atol=1e-5)
