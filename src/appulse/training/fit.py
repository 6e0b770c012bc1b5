"""The training run: fields in, weight file out; resumes to the same result after a kill."""

from __future__ import annotations

import dataclasses
import json
import logging
import signal
import warnings
from collections.abc import Iterator
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
from appulse.stamps import StampSource, StampStore, stored_stamps
from appulse.stamps.device import DeviceStamps
from appulse.training.config import TrainingConfig
from appulse.training.history import held_history, history_of, refuse_other_recipe, refuse_run
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
        first = int(self.module.batches_drawn)
        end = (first // self.config.steps_per_epoch + 1) * self.config.steps_per_epoch
        for images, ternary in self.source.batches(first, end, self.config.batch_size):
            yield torch.as_tensor(images), torch.as_tensor(ternary)


def fit(
    output: str | Path,
    fields: str | Path,
    config: TrainingConfig | None = None,
    *,
    validation: str | Path | None = None,
    init: str | Path | None = None,
    resume: bool = False,
    threads: int | None = None,
) -> Path:
    """Train a network on simulated fields.

    Parameters
    ----------
    output : str or Path
        Directory for checkpoints, log, curves and ``model.safetensors``.
    fields : str or Path
        Directory of ``appulse simulate`` to train on, or a store of stamps cut from one. Of a directory, the
        store is built beside the fields, or in ``output`` where they are read-only, and kept for other runs.
    config : TrainingConfig, optional
        Recipe; by default the preset ``default``.
    validation : str or Path, optional
        A field of the selection seeds (1000s); without one nothing is validated.
    init : str or Path, optional
        Model to start from; its architecture replaces the recipe's. A recipe with more convolutions per level
        adds them, as layers that change nothing at first (`appulse.network.deepen`).
    resume : bool
        Go on from the last checkpoint in ``output``; a finished run keeps its weight file.
    threads : int, optional
        Threads of torch on the CPU.

    Returns
    -------
    Path
        The weight file.

    Raises
    ------
    InputError
        No or unfit fields, an output that already holds a run, or none (or one of another recipe) to resume,
        or one that another process is at.
    UsageError
        A validation field of a seed that is trained on.
    KeyboardInterrupt
        Stopped; the run can be resumed from its last checkpoint.
    """
    output = Path(output)
    config = config or TrainingConfig()
    refuse_run(output, fields, config, validation=validation, init=init, resume=resume)
    held = held_history(output) if resume else {}
    store = stored_stamps(fields, config.stamps, elsewhere=output)
    if threads:
        torch.set_num_threads(threads)
    L.seed_everything(config.seed, verbose=False)
    network = None
    if init is not None:
        network = _start(init, store, config)
        config = dataclasses.replace(config, network=network.config)
    module = TrainingModule(config, network).to(memory_format=torch.channels_last)
    history = history_of(store, config, init, validation, held)
    if resume:
        refuse_other_recipe(output, held, history)
    source = _source(store, config)
    if torch.cuda.is_available():
        _compile(module.network)
    with sole_process(output):
        remove_temporaries(output, ["last"])
        if held != json.loads(json.dumps(history)):
            write_json(output / "training.json", history)
        return _run(output, module, source, history, validation=validation, resume=resume)


def _run(
    output: Path,
    module: TrainingModule,
    source: StampSource | DeviceStamps,
    history: dict,
    *,
    validation: str | Path | None,
    resume: bool,
) -> Path:
    """Train a module to the end of its recipe, and export it."""
    config, checkpoint = module.config, output / "last.ckpt"
    callbacks: list[L.Callback] = [
        # The rolling file survives a kill between epochs.
        ModelCheckpoint(
            output,
            "last",
            train_time_interval=timedelta(minutes=CHECKPOINT_MINUTES),
            enable_version_counter=False,
        ),
        ProgressCallback(config),
    ]
    if validation is not None:
        callbacks.append(ValidationCallback(ValidationStamps.read(validation, config.stamps)))
    callbacks.append(CurvesCallback(output))
    _quiet()
    trainer = L.Trainer(
        max_epochs=config.epochs,
        accelerator="auto",
        devices=1,
        precision="bf16-mixed"
        if native_bfloat16("cuda" if torch.cuda.is_available() else "cpu")
        else "32-true",
        logger=CSVLogger(output / "log", name="", version=next_leg(output), flush_logs_every_n_steps=20),
        callbacks=callbacks,
        log_every_n_steps=10,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=output,
        plugins=[WholeCheckpoints()],
    )
    loader = DataLoader(_Batches(source, module, config), batch_size=None, num_workers=0)
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
    if resume and weights.exists() and load_model(weights).training.get("steps") == int(module.batches_drawn):
        return weights  # of no further step: what was calibrated since stays
    (output / "calibration.txt").unlink(missing_ok=True)  # tells of the weights that are replaced now
    return export(module, weights, history)


def _start(init: str | Path, store: StampStore, config: TrainingConfig) -> ProbabilisticUNet:
    """The network to start from, with as many convolutions per level as the recipe asks for at least."""
    network = load_model(init).network
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
        "steps": int(module.batches_drawn),
        "stamps": int(module.batches_drawn) * module.config.batch_size,
        "steps_skipped": int(module.steps_skipped),
    }
    network: ProbabilisticUNet = module.averaged.module
    return save_model(Model(path.parent.name, network, training=history), path)


def export_checkpoint(checkpoint: str | Path, path: str | Path) -> Path:
    """Write the weights of a run that has not ended.

    Parameters
    ----------
    checkpoint : str or Path
        ``last.ckpt`` of a run, beside its ``training.json``.
    path : str or Path
        Weight file to write.
    """
    checkpoint = Path(checkpoint)
    history = json.loads((checkpoint.parent / "training.json").read_text())
    module = TrainingModule(TrainingConfig.from_dict(history["recipe"]))
    module.load_state_dict(torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"])
    return export(module, path, history)


def _quiet() -> None:
    # Lightning's advice on data-loader workers and its hardware report say nothing to an astronomer.
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore", module=r"lightning.*")
