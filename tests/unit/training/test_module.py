"""One training step: losses put together by hand, the schedule, and a batch that is not finite."""

import dataclasses

import lightning as L
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from appulse.network.config import NetworkConfig
from appulse.network.gaussian import kl_divergence
from appulse.stamps import StampConfig
from appulse.training import progress
from appulse.training.config import TrainingConfig
from appulse.training.losses import weighted_dice
from appulse.training.module import CLASS_SHARES, TrainingModule

TINY = TrainingConfig(
    network=NetworkConfig(filters=(4, 8, 8), encoder_poolings=2, combiner_filters=8, stamp_size=32),
    stamps=StampConfig(size=32),
    epochs=2,
    stamps_per_epoch=40,
    batch_size=4,
    warmup_steps=5,
)


def batches(n=6, bad=()):
    generator = torch.Generator().manual_seed(3)
    result = []
    for number in range(n):
        images = torch.randn(4, 32, 32, generator=generator)
        truth = torch.randint(0, 3, (4, 32, 32), generator=generator, dtype=torch.uint8)
        if number in bad:
            images[1, 5, 5] = np.nan
        result.append((images, truth))
    return result


def train(module, data, tmp_path, **options):
    trainer = L.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
        **options,
    )
    trainer.fit(module, DataLoader(data, batch_size=None))
    return trainer


def rates(config):
    module = TrainingModule(config)
    setup = module.configure_optimizers()
    optimizer, scheduler = setup["optimizer"], setup["lr_scheduler"]["scheduler"]
    assert setup["lr_scheduler"]["interval"] == "step"
    found = []
    for _ in range(config.total_steps + 1):
        found.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    return np.array(found)


def test_learning_rate_ends():
    config = dataclasses.replace(TINY, warmup_steps=0, learning_rate=1e-3, final_learning_rate=3e-4)
    found = rates(config)
    assert found[0] == pytest.approx(1e-3)
    assert found[config.total_steps] == pytest.approx(3e-4)
    # Exponential: the same ratio at every step.
    np.testing.assert_allclose(found[1:] / found[:-1], 0.3 ** (1 / config.total_steps))


def test_warmup_rises_from_zero_to_the_same_decay():
    warm, cold = rates(TINY), rates(dataclasses.replace(TINY, warmup_steps=0))
    np.testing.assert_allclose(warm[:5] / cold[:5], np.arange(1, 6) / 5)
    np.testing.assert_allclose(warm[5:], cold[5:])


def test_losses_are_the_weighted_sum():
    config = dataclasses.replace(TINY, warmup_steps=0, kl_weight=0.3, cross_entropy_weight=2.0)
    module = TrainingModule(config).eval()
    images, truth = batches(1)[0]
    losses = module.losses(images, truth)
    draws = module._draws(torch.empty(4, 10))
    network = module.network
    joined, prior = network.encode(images[:, None])
    posterior = network.encode_truth(images[:, None], truth)
    logits = network.realise(joined, posterior.at(draws))
    probabilities = logits.softmax(dim=1)
    dice = weighted_dice(probabilities, truth, config.class_weights)
    picked = torch.gather(probabilities, 1, truth[:, None].long())
    cross_entropy, kl = -picked.log().mean(), kl_divergence(posterior, prior).sum(dim=1).mean()
    for name, value in {"dice": dice, "cross_entropy": cross_entropy, "kl": kl}.items():
        torch.testing.assert_close(losses[name], value, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(losses["loss"], dice + 2.0 * cross_entropy + 0.3 * kl, rtol=1e-4, atol=1e-5)


def test_a_share_of_the_batch_is_decoded_at_the_mean_of_the_prior():
    config = dataclasses.replace(TINY, warmup_steps=0, prior_mean_share=0.5)
    module = TrainingModule(config).eval()
    images, truth = batches(1)[0]
    losses = module.losses(images, truth)
    network = module.network
    joined, prior = network.encode(images[:, None])
    posterior = network.encode_truth(images[2:, None], truth[2:])
    latents = torch.cat([prior.mean[:2], posterior.at(module._draws(torch.empty(2, 10)))])
    logits = network.realise(joined, latents)
    torch.testing.assert_close(
        losses["dice"],
        weighted_dice(logits.softmax(dim=1), truth, config.class_weights),
        rtol=1e-4,
        atol=1e-5,
    )
    divergence = kl_divergence(posterior, type(prior)(prior.mean[2:], prior.log_sigma[2:]))
    torch.testing.assert_close(losses["kl"], divergence.sum(dim=1).mean(), rtol=1e-4, atol=1e-5)


def test_divergence_is_warmed_up():
    module = TrainingModule(dataclasses.replace(TINY, kl_weight=1e3)).eval()
    losses = module.losses(*batches(1)[0])
    rest = losses["dice"] + TINY.cross_entropy_weight * losses["cross_entropy"]
    torch.testing.assert_close(losses["loss"] - rest, 1e3 / 5 * losses["kl"], rtol=1e-3, atol=1e-3)


def test_each_dimension_has_its_free_bits():
    config = dataclasses.replace(TINY, warmup_steps=0, kl_weight=1e3)
    module = TrainingModule(config).eval()
    images, truth = batches(1)[0]
    with torch.no_grad():
        _, prior = module.network.encode(images[:, None])
        posterior = module.network.encode_truth(images[:, None], truth)
        each = kl_divergence(posterior, prior).mean(dim=0).numpy()
        free = float(np.median(each))
        module.config = dataclasses.replace(config, free_bits=free)
        losses = {name: float(value) for name, value in module.losses(images, truth).items()}
    rest = losses["dice"] + config.cross_entropy_weight * losses["cross_entropy"]
    assert losses["loss"] - rest == pytest.approx(1e3 * np.maximum(each, free).sum(), rel=1e-4)
    assert losses["kl"] == pytest.approx(each.sum(), rel=1e-4)


def test_within_its_free_bits_the_latent_is_not_pulled():
    module = TrainingModule(dataclasses.replace(TINY, warmup_steps=0)).eval()
    gradients = []
    for changes in ({"kl_weight": 1e6, "free_bits": 1e3}, {"kl_weight": 0.0}):
        module.config = dataclasses.replace(module.config, **changes)
        module.zero_grad()
        module.losses(*batches(1)[0])["loss"].backward()
        gradients.append([p.grad.clone() for p in module.network.posterior.parameters()])
    for pulled, free in zip(*gradients, strict=True):
        torch.testing.assert_close(pulled, free)


def test_weights_of_classes_are_trained_where_asked(tmp_path):
    fixed, trained = (
        TrainingModule(dataclasses.replace(TINY, trainable_class_weights=wanted)) for wanted in (False, True)
    )
    assert "log_scales" not in fixed.state_dict()
    train(trained, batches(4), tmp_path)
    scales = trained.state_dict()["log_scales"]
    assert scales.shape == (3,) and (scales != 0).all()
    # The model that is kept holds none of them.
    assert trained.averaged.module.state_dict().keys() == trained.network.state_dict().keys()


def test_posterior_and_prior_both_learn():
    module = TrainingModule(TINY)
    module.losses(*batches(1)[0])["loss"].backward()
    for part in (
        module.network.unet,
        module.network.prior,
        module.network.posterior,
        module.network.combiner,
    ):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    assert not any(p.requires_grad and p.grad is not None for p in module.averaged.parameters())


@pytest.mark.parametrize("layers", [0, 1])
def test_output_starts_from_the_class_shares(layers):
    module = TrainingModule(
        dataclasses.replace(TINY, network=dataclasses.replace(TINY.network, combiner_layers=layers))
    )
    last = module.network.combiner.rest[-1] if layers else module.network.combiner.of_features
    torch.testing.assert_close(last.bias.softmax(dim=0), torch.tensor(CLASS_SHARES))


def test_average_follows_the_weights(tmp_path):
    config = dataclasses.replace(TINY, average_decay=0.5)
    module = TrainingModule(config)
    followed = {name: p.clone() for name, p in module.network.named_parameters()}
    path = []

    class Record(L.Callback):
        def on_before_zero_grad(self, trainer, module, optimizer):
            path.append({name: p.detach().clone() for name, p in module.network.named_parameters()})

    train(module, batches(4), tmp_path, callbacks=[Record()])
    weights = [*path[1:], {name: p.detach() for name, p in module.network.named_parameters()}]
    assert len(weights) == 4
    followed = weights[0]  # AveragedModel starts from the first weights it is shown
    for step in weights[1:]:
        followed = {name: 0.5 * followed[name] + 0.5 * step[name] for name in followed}
    for name, value in module.averaged.module.named_parameters():
        torch.testing.assert_close(value, followed[name], rtol=1e-4, atol=1e-6)


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
@pytest.mark.parametrize("normalisation", ["none", "batch"])
def test_a_batch_that_is_not_finite_is_skipped_and_counted(tmp_path, normalisation):
    network = dataclasses.replace(TINY.network, normalisation=normalisation)
    module = TrainingModule(dataclasses.replace(TINY, network=network))
    train(module, batches(6, bad=(2,)), tmp_path)
    assert int(module.steps_skipped) == 1 and module.batches_drawn == 6
    # Neither the weights nor the running statistics of the normalisation may carry the NaN on.
    for name, value in module.state_dict().items():
        assert torch.isfinite(value).all(), name


@pytest.mark.filterwarnings("ignore:.training_step. returned .None.")
def test_only_bad_batches_change_no_weight(tmp_path):
    network = dataclasses.replace(TINY.network, normalisation="none")
    module = TrainingModule(dataclasses.replace(TINY, network=network))
    before = {name: p.detach().clone() for name, p in module.network.named_parameters()}
    train(module, batches(3, bad=(0, 1, 2)), tmp_path)
    assert int(module.steps_skipped) == 3
    for name, value in module.network.named_parameters():
        assert torch.equal(value, before[name])


def test_gradient_that_is_not_finite_is_dropped_and_counted(tmp_path):
    module = TrainingModule(TINY)
    before = {name: p.detach().clone() for name, p in module.network.named_parameters()}
    module.network.combiner.of_latent.weight.register_hook(lambda gradient: gradient * np.inf)
    train(module, batches(2), tmp_path)
    assert int(module.steps_skipped) == 2
    for name, value in module.network.named_parameters():
        assert torch.equal(value, before[name])


def test_gradient_is_clipped():
    module = TrainingModule(dataclasses.replace(TINY, gradient_clip=1e-3))
    module.losses(*batches(1)[0])["loss"].backward()
    module.on_before_optimizer_step(module.configure_optimizers()["optimizer"])
    squares = sum(float(p.grad.square().sum()) for p in module.network.parameters() if p.grad is not None)
    assert np.sqrt(squares) == pytest.approx(1e-3, rel=1e-3)
    assert int(module.steps_skipped) == 0


def test_checkpoints_hold_the_count_of_batches_as_a_tensor_of_the_state(tmp_path):
    """As they did when it was a buffer, so that runs of then go on."""
    module = TrainingModule(TINY)
    train(module, batches(6), tmp_path).save_checkpoint(tmp_path / "last.ckpt")
    checkpoint = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert torch.equal(checkpoint["state_dict"]["batches_drawn"], torch.tensor(6))
    other = TrainingModule(TINY)
    other.on_load_checkpoint(checkpoint)
    other.load_state_dict(checkpoint["state_dict"])
    assert other.batches_drawn == 6


def test_a_step_waits_for_its_loss_and_for_its_gradient_once(tmp_path, monkeypatch):
    asked, isfinite = [], torch.isfinite
    monkeypatch.setattr(torch, "isfinite", lambda value: asked.append(value) or isfinite(value))
    train(TrainingModule(TINY), batches(3), tmp_path)
    assert len(asked) == 2 * 3


def test_the_loss_is_asked_for_only_where_a_line_is_due(monkeypatch):
    class Trainer:
        asked = 0

        @property
        def callback_metrics(self):
            self.asked += 1
            return {}

    trainer, module, lines, times = Trainer(), TrainingModule(TINY), [], iter((0.0, 1.0, 2.0, 62.0, 63.0))
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(times))
    talker = progress.ProgressCallback(TINY, say=lines.append)
    talker.on_train_start(trainer, module)
    for _ in range(4):
        module.batches_drawn += 1
        talker.on_train_batch_end(trainer, module)
    assert trainer.asked == 2 and [line.split(",")[0] for line in lines] == ["step 1/20", "step 3/20"]
    for quiet in (progress.ProgressCallback(TINY), progress.ProgressCallback(TINY, lambda *_: None)):
        monkeypatch.setattr(progress.time, "monotonic", lambda: 1e9)
        quiet.on_train_batch_end(trainer, module)
    assert trainer.asked == 2
