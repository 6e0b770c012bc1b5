"""Training as such: stamps in, weight file out; resumes to the same result after a kill."""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import json
import logging
import signal
import warnings
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from lightning.pytorch.plugins.io import TorchCheckpointIO
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch.utils.data import DataLoader, IterableDataset

from appulse.files import InputError, atomic_write, remove_temporaries, sole_process, write_json
from appulse.network.deepen import deepened
from appulse.network.layers import native_bfloat16
from appulse.network.punet import ProbabilisticUNet
from appulse.network.weights import Model, load_model, save_model
from appulse.progress import Progress
from appulse.stamps import StampSource, StampStore
from appulse.stamps.device import DeviceStamps
from appulse.training.config import TrainingConfig
from appulse.training.history import history_of, refuse_other_recipe
from appulse.training.module import TrainingModule
from appulse.training.progress import (
    CurvesCallback,
    ProgressCallback,
    ValidationCallback,
    next_leg,
    update_curves,
)
from appulse.training.validation import ValidationStamps

CHECKPOINT_MINUTES = 1
# Of stamps, from which new layers of a deeper network take what to expect.
DEEPENING_BATCHES = 8
# Of a step with 32 stamps, forward and back, bytes: what the command lets the process keep.
WORKING_MEMORY = 1 << 30


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that replace the one before when complete; Lightning's own may leave half of one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: object = None
    ) -> None:
        """Write a checkpoint.

        Parameters
        ----------
        checkpoint : dict
        path : str or Path
        storage_options : object, optional
            Not used.
        """
        atomic_write(path, lambda temporary: torch.save(checkpoint, temporary))


class _Batches(IterableDataset):
    # The batches of one epoch, from wherever the run stands.
    def __init__(self, source: StampSource | DeviceStamps, module: TrainingModule, config: TrainingConfig):
        self.source, self.module, self.config = source, module, config

    def __len__(self) -> int:
        return self.config.steps_per_epoch

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        first = self.module.batches_drawn
        end = (first // self.config.steps_per_epoch + 1) * self.config.steps_per_epoch
        for images, ternary in self.source.batches(first, end, self.config.batch_size):
            yield torch.as_tensor(images), torch.as_tensor(ternary)


def fit(
    output: Path,
    store: StampStore,
    config: TrainingConfig,
    *,
    validation: str | Path | None = None,
    init: Model | None = None,
    held: dict | None = None,
    threads: int | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> Path:
    """Train a network on stored stamps.

    The caller's process is left as it was: random states, threads, warnings, loggers.

    Parameters
    ----------
    output : Path
        As `train` takes it.
    store : StampStore
        What it learns from.
    config, validation
        As `train` takes them.
    init : Model, optional
        To start from, named as it was given; it stays as it is.
    held : dict, optional
        From `held_history`, of a run that is to go on.
    threads, progress, say
        As `train` takes them.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    InputError
        Another recipe than that of the run to go on, or a run that another process is at.
    UsageError
        A validation field of a seed that is trained on.
    KeyboardInterrupt
        Stopped; the run can be resumed from its last checkpoint.
    """
    with _settings(threads):
        module = _module(store, config, init)
        history = history_of(store, module.config, init, validation, held)
        if held is not None:
            refuse_other_recipe(output, held, history)
        source = _source(store, module.config)
        if torch.cuda.is_available():
            _compile(module.network)
        with sole_process(output):
            remove_temporaries(output, ["last"])
            if held != json.loads(json.dumps(history)):
                write_json(output / "training.json", history)
            callbacks: list[L.Callback] = [ProgressCallback(module.config, progress, say)]
            if validation is not None:
                stamps = ValidationStamps.read(validation, config.stamps)
                callbacks.append(ValidationCallback(stamps, say))
            return _run(output, module, source, history, callbacks, resume=held is not None)


@contextlib.contextmanager
def _settings(threads: int | None) -> Iterator[None]:
    # Of this process, for as long as the `with` lasts.
    logger, threads_before = logging.getLogger("lightning.pytorch"), torch.get_num_threads()
    level_before = logger.level
    if threads:
        torch.set_num_threads(threads)
    # Lightning's advice on data-loader workers and its hardware report say nothing to an astronomer.
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", module=r"lightning.*")
            yield
    finally:
        logger.setLevel(level_before)
        if threads:
            torch.set_num_threads(threads_before)


def _module(store: StampStore, config: TrainingConfig, init: Model | None) -> TrainingModule:
    network = None
    # Nothing else draws from a state that others share. Weights are made on the CPU, so its state will do.
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(config.seed)
        if init is not None:
            network = _start(init, store, config)
            config = dataclasses.replace(config, network=network.config)
        return TrainingModule(config, network).to(memory_format=torch.channels_last)


def _run(
    output: Path,
    module: TrainingModule,
    source: StampSource | DeviceStamps,
    history: dict,
    callbacks: Sequence[L.Callback],
    *,
    resume: bool,
) -> Path:
    """Train a module to the end of its recipe, and export it."""
    config, checkpoint = module.config, output / "last.ckpt"
    # The rolling file survives a kill between epochs.
    rolling = ModelCheckpoint(
        output,
        "last",
        train_time_interval=timedelta(minutes=CHECKPOINT_MINUTES),
        enable_version_counter=False,
    )
    trainer = L.Trainer(
        max_epochs=config.epochs,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed"
        if native_bfloat16("cuda" if torch.cuda.is_available() else "cpu")
        else "32-true",
        logger=CSVLogger(output / "log", name="", version=next_leg(output), flush_logs_every_n_steps=20),
        callbacks=[rolling, *callbacks, CurvesCallback(output)],
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=output,
        plugins=[WholeCheckpoints()],
    )
    # A loader draws a seed even for no workers: from a generator of its own.
    batches = _Batches(source, module, config)
    loader = DataLoader(batches, batch_size=None, num_workers=0, generator=torch.Generator())
    on_interrupt = signal.getsignal(signal.SIGINT)
    try:
        trainer.fit(module, loader, ckpt_path=str(checkpoint) if resume else None, weights_only=True)
    except MisconfigurationException as error:
        if "max_epochs" not in str(error):
            raise
        raise InputError(
            f"{output}: more epochs are done than the {config.epochs} of the recipe; ask for no fewer."
        ) from None
    except SystemExit:
        # Lightning's answer to an interrupt, after which it would ignore any other.
        signal.signal(signal.SIGINT, on_interrupt)
        raise KeyboardInterrupt from None
    trainer.save_checkpoint(checkpoint)
    # Once more: the scores of the last epoch reach the log only now.
    update_curves(output)
    weights = output / "model.safetensors"
    if resume and weights.exists() and load_model(weights).training.get("steps") == module.batches_drawn:
        return weights  # of no further step: what was calibrated since stays
    (output / "calibration.txt").unlink(missing_ok=True)  # tells of the weights that are replaced now
    return export(module, weights, history)


def _start(init: Model, store: StampStore, config: TrainingConfig) -> ProbabilisticUNet:
    """The network to start from, with as many convolutions per level as the recipe asks for at least."""
    network = copy.deepcopy(init.network)
    wanted = config.network.convolutions_per_level
    if wanted > network.config.convolutions_per_level:
        source = StampSource(store, config.stamps, config.seed)
        stamps = (
            (torch.as_tensor(images)[:, None], torch.as_tensor(ternary))
            for images, ternary in source.batches(0, DEEPENING_BATCHES, config.batch_size)
        )
        network = deepened(network, wanted, stamps)
    return network.train().requires_grad_(True)


def _source(store: StampStore, config: TrainingConfig) -> StampSource | DeviceStamps:
    if torch.cuda.is_available():
        return DeviceStamps(store, config.stamps, config.seed, "cuda")
    return StampSource(store, config.stamps, config.seed)


def _compile(network: ProbabilisticUNet) -> None:
    # On CUDA alone, where Triton comes with torch; on the CPU it would need a C++ compiler.
    for part in ("encode", "encode_truth", "realise"):
        setattr(network, part, torch.compile(getattr(network, part)))


def export(module: TrainingModule, path: str | Path, history: dict) -> Path:
    """Write the averaged weights as a portable weight file.

    Parameters
    ----------
    module : TrainingModule
        Trained.
    path : str or Path
        Ends in ``.safetensors``; its folder's name becomes the model's.
    history : dict
        What the header tells of the training.
    """
    path = Path(path).resolve()  # a folder given as "." has a name, too
    history = history | {
        "steps": module.batches_drawn,
        "stamps": module.batches_drawn * module.config.batch_size,
        "steps_skipped": int(module.steps_skipped),
    }
    network: ProbabilisticUNet = module.averaged.module
    return save_model(Model(path.parent.name, network, training=history), path)
