"""One training step, as a Lightning module."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import lightning as L
import torch
import torch.nn.functional as F
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from appulse.network.gaussian import Gaussian, kl_divergence
from appulse.network.punet import ProbabilisticUNet
from appulse.streams import latent_seed
from appulse.training.config import TrainingConfig
from appulse.training.losses import weighted_dice

if TYPE_CHECKING:
    from lightning.pytorch.utilities.types import OptimizerLRSchedulerConfig

# Class shares that the output starts from: the log of these is the bias of the last layer. From zero, the
# first hundreds of steps would go into learning that the sky is empty.
CLASS_SHARES = (0.96, 0.035, 0.005)


class TrainingModule(L.LightningModule):
    """The network with its loss, its averaged copy and its optimiser.

    Parameters
    ----------
    config : TrainingConfig
        Recipe.
    network : ProbabilisticUNet, optional
        Where to start from; by default a fresh one.
    """

    def __init__(self, config: TrainingConfig, network: ProbabilisticUNet | None = None):
        super().__init__()
        self.config = config
        if network is None:
            network = ProbabilisticUNet(config.network)
            last = network.combiner.rest[-1] if len(network.combiner.rest) else network.combiner.of_features
            with torch.no_grad():
                last.bias.copy_(torch.log(torch.tensor(CLASS_SHARES)))
        self.network = network
        self.averaged = AveragedModel(
            network, multi_avg_fn=get_ema_multi_avg_fn(config.average_decay), use_buffers=True
        )
        self.log_scales = None
        if config.trainable_class_weights:
            self.log_scales = torch.nn.Parameter(torch.zeros(len(config.class_weights)))
        # Batches drawn so far, skipped ones included: where the stamps go on after a kill. No buffer: on a
        # GPU each step would have to wait for it.
        self.batches_drawn = 0
        self.register_buffer("steps_skipped", torch.zeros((), dtype=torch.int64))

    def losses(self, images_bhw: torch.Tensor, ternary_bhw: torch.Tensor) -> dict[str, torch.Tensor]:
        """Every term of the loss, and their weighted sum.

        Parameters
        ----------
        images_bhw : (batch, height, width) float tensor, units of the noise
            Stamps.
        ternary_bhw : (batch, height, width) integer tensor
            Truth.

        Returns
        -------
        dict of str to scalar tensor
            ``loss``, ``dice``, ``cross_entropy``, ``kl`` (nats per stamp).
        """
        config = self.config
        stamps_bchw = images_bhw[:, None].contiguous(memory_format=torch.channels_last)
        joined_bchw, prior = self.network.encode(stamps_bchw)
        # Stamps come in random order: which of them are decoded without truth is chance.
        n = round(config.prior_mean_share * len(stamps_bchw))
        posterior = self.network.encode_truth(stamps_bchw[n:], ternary_bhw[n:])
        latents = torch.cat((prior.mean[:n], posterior.at(self._draws(posterior.mean))))
        logits_bchw = self.network.realise(joined_bchw, latents).float()
        dice = weighted_dice(
            logits_bchw.softmax(dim=1),
            ternary_bhw,
            config.class_weights,
            smooth=config.dice_smooth,
            squared=config.dice_squared,
            log_scales=self.log_scales,
        )
        cross_entropy = F.cross_entropy(logits_bchw, ternary_bhw.long())
        # Of each dimension, nats; stamps without truth have none.
        kl = kl_divergence(posterior, Gaussian(prior.mean[n:], prior.log_sigma[n:])).mean(dim=0)
        charged = self._warmth(int(self.global_step)) * kl.clamp(min=config.free_bits).sum()
        loss = dice + config.cross_entropy_weight * cross_entropy + config.kl_weight * charged
        return {"loss": loss, "dice": dice, "cross_entropy": cross_entropy, "kl": kl.sum()}

    def _draws(self, like: torch.Tensor) -> torch.Tensor:
        # Keyed by the batch, not taken from a stream: a run that was killed goes on with the same draws.
        seed = latent_seed(self.config.seed, self.batches_drawn, self.global_rank)
        generator = torch.Generator(like.device).manual_seed(seed)
        return torch.randn(like.shape, generator=generator, device=like.device)

    def _warmth(self, step: int) -> float:
        return min(1.0, (step + 1) / max(1, self.config.warmup_steps))

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the count of batches where checkpoints have always had it: among the buffers."""
        checkpoint["state_dict"]["batches_drawn"] = torch.tensor(self.batches_drawn)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Take the count of batches out of it again, before the state is loaded."""
        self.batches_drawn = int(checkpoint["state_dict"].pop("batches_drawn"))

    def training_step(self, batch: tuple[torch.Tensor, torch.Tensor], _: int) -> torch.Tensor | None:
        """One step; None, and counted, where the loss is not finite."""
        self.batches_drawn += 1
        buffers = [(buffer, buffer.clone()) for buffer in self.network.buffers()]
        losses = self.losses(*batch)
        finite = bool(torch.isfinite(losses["loss"]))
        if not finite:
            self.steps_skipped += 1
            # The forward pass has already put the batch into the running moments of the normalisation.
            for buffer, before in buffers:
                buffer.copy_(before)
        else:
            self.log_dict({f"train_{name}": value.detach() for name, value in losses.items()})
        self.log("steps_skipped", self.steps_skipped.float())
        return losses["loss"] if finite else None

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; drop it, and count, where it is not finite."""
        trained = [parameter for group in optimizer.param_groups for parameter in group["params"]]
        norm = torch.nn.utils.clip_grad_norm_(trained, self.config.gradient_clip)
        if not torch.isfinite(norm):
            self.steps_skipped += 1
            optimizer.zero_grad(set_to_none=True)

    def optimizer_step(self, *arguments: Any, **options: Any) -> None:
        """Step, and let the moving average follow before any checkpoint is written."""
        super().optimizer_step(*arguments, **options)
        self.averaged.update_parameters(self.network)

    def configure_optimizers(self) -> OptimizerLRSchedulerConfig:
        """Adam, its learning rate rising over the warm-up and then falling exponentially."""
        config = self.config
        scales = [] if self.log_scales is None else [self.log_scales]
        optimizer = torch.optim.Adam([*self.network.parameters(), *scales], lr=config.learning_rate)
        fall = config.final_learning_rate / config.learning_rate

        def factor(step: int) -> float:
            return self._warmth(step) * fall ** (step / config.total_steps)

        scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, factor)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}
