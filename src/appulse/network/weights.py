"""Weight files: one ``.safetensors`` with all that a model needs in its header; nothing is unpickled."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import safetensors.torch
import torch

from appulse.files import InputError, UsageError, atomic_write
from appulse.network.bundled import bundled_content, model_names
from appulse.network.calibration import Calibration, OperatingPoint
from appulse.network.config import NetworkConfig
from appulse.network.punet import ProbabilisticUNet
from appulse.network.validity import Validity

_FORMAT = "appulse-1"
# Where a model's history lists the seeds of the fields that had a part in it.
TRAINED_ON, SELECTED_ON, CALIBRATED_ON = "seeds", "selection_seeds", "calibration_seeds"
# Buffers of batch normalisation.
_MOMENTS = ("running_mean", "running_var", "num_batches_tracked")


@dataclass(frozen=True, repr=False)
class Model:
    """A trained network with its calibration and its history.

    Parameters
    ----------
    name : str
        For people and headers.
    network : ProbabilisticUNet
        The network as trained, with its posterior.
    calibration : Calibration
        Thresholds, probabilities, error factors.
    training : dict
        Recipe, surveys and their digests, seeds, steps: plain values.
    sha256 : str
        Of the weight file; empty for a model that was never written.
    half : bool
        Whether the file keeps, or shall keep, the weights in half precision, as those of the bundled models
        do: half the size. The moments of the normalisation, which span many powers of ten, stay as they are;
        in memory all is float32.
    """

    name: str
    network: ProbabilisticUNet
    calibration: Calibration = field(default_factory=Calibration)
    training: dict = field(default_factory=dict)
    sha256: str = ""
    half: bool = False

    def __repr__(self) -> str:
        millions = sum(weights.numel() for weights in self.network.parameters()) / 1e6
        return f"<Model {self.name}: {millions:.1f} million parameters, {self.sha256 or 'not written'}>"

    @functools.cached_property
    def for_inference(self) -> ProbabilisticUNet:
        """Folded copy of the network without its posterior; made once."""
        return self.network.for_inference()

    @functools.cached_property
    def digest(self) -> str:
        """SHA-256 of the file that it was read from, or would be written to."""
        return self.sha256 or hashlib.sha256(_content(self)).hexdigest()

    @functools.cached_property
    def validity(self) -> Validity:
        """What images the model is for."""
        return Validity.of(self.training)

    def __reduce__(self) -> tuple[Callable[..., Model], tuple[NetworkConfig, dict, dict]]:
        # As arrays: torch sends each of some hundred tensors to a process as an open file, and a few
        # processes are then more than the usual limit.
        others = {each.name: getattr(self, each.name) for each in fields(self) if each.name != "network"}
        arrays = {name: value.detach().cpu().numpy() for name, value in self.network.state_dict().items()}
        return _unpickled, (self.network.config, arrays, others)

    def operating_point(self, name: str) -> OperatingPoint:
        """Thresholds by name.

        Parameters
        ----------
        name : str
            Of the operating point.

        Raises
        ------
        InputError
            The model has none of that name.
        """
        points = self.calibration.operating_points
        if name not in points:
            raise InputError(
                f"model {self.name!r} has no operating point {name!r}; it has: {', '.join(points)}."
            )
        return points[name]

    def calibrated(self, calibration: Calibration) -> Model:
        """The same network with another calibration.

        Parameters
        ----------
        calibration : Calibration
            The new one.
        """
        return replace(self, calibration=calibration, sha256="")

    def halved(self) -> Model:
        """The same model with its weights rounded as half precision keeps them, to be calibrated and written.

        Raises
        ------
        ValueError
            A weight is too large for half precision.
        """
        network = ProbabilisticUNet(self.network.config)
        # Loading turns them into float32 again.
        network.load_state_dict(_in_half_precision(self.network.state_dict()))
        return replace(self, network=network.eval(), sha256="", half=True)


def seen_seeds(training: dict, *parts: str) -> set[int]:
    """Seeds of the fields that had a part in a model.

    Parameters
    ----------
    training : dict
        Its history: `Model.training`, or what it will be.
    *parts : str
        Of `TRAINED_ON`, `SELECTED_ON` and `CALIBRATED_ON`; by default all.
    """
    parts = parts or (TRAINED_ON, SELECTED_ON, CALIBRATED_ON)
    return {seed for part in parts for seed in training.get(part, ())}


def _in_half_precision(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    tensors = {name: value if name.endswith(_MOMENTS) else value.half() for name, value in tensors.items()}
    infinite = [name for name, value in tensors.items() if not torch.isfinite(value).all()]
    if infinite:
        raise ValueError(f"{infinite[0]} is not finite in half precision")
    return tensors


def _unpickled(config: NetworkConfig, arrays: dict, others: dict) -> Model:
    network = ProbabilisticUNet(config)
    network.load_state_dict({name: torch.from_numpy(value) for name, value in arrays.items()})
    return Model(network=network.eval(), **others)


def save_model(model: Model, path: str | Path) -> Path:
    """Write a model as one file; written whole or not at all.

    Parameters
    ----------
    model : Model
        To write.
    path : str or Path
        Ends in ``.safetensors``.

    Returns
    -------
    Path

    Raises
    ------
    ValueError
        A weight is too large for half precision.
    """
    content = _content(model)
    atomic_write(path, lambda temporary: temporary.write_bytes(content))
    return Path(path)


def _content(model: Model) -> bytes:
    metadata = {
        "format": _FORMAT,
        "name": model.name,
        "network": json.dumps(model.network.config.to_dict()),
        "calibration": json.dumps(model.calibration.to_dict()),
        "training": json.dumps(model.training),
    }
    tensors = {name: value.detach().cpu().contiguous() for name, value in model.network.state_dict().items()}
    if model.half:
        tensors = _in_half_precision(tensors)
    return _sorted_header(safetensors.torch.save(tensors, metadata=metadata))


def _sorted_header(content: bytes) -> bytes:
    # safetensors writes its header in random order; the same model shall have the same hash.
    length = int.from_bytes(content[:8], "little")
    header = json.dumps(json.loads(content[8 : 8 + length]), sort_keys=True, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + content[8 + length :]


def load_model(name_or_path: str | Path) -> Model:
    """Load a bundled model by name, or a weight file.

    Parameters
    ----------
    name_or_path : str or Path
        One of `model_names`, or a file ending in ``.safetensors``.

    Returns
    -------
    Model

    Raises
    ------
    UsageError
        Unknown name; the known ones are listed.
    InputError
        Missing or damaged file, or weights that do not fit the architecture in their header.
    """
    path = Path(name_or_path)
    if path.suffix == ".safetensors":
        if not path.is_file():
            raise InputError(f"{path}: no such weight file.")
        return _parse(path.read_bytes(), path.name)
    name = str(name_or_path)
    if name not in model_names():
        known = ", ".join(model_names()) or "none"
        raise UsageError(f"unknown model {name!r}; bundled models: {known}. A file must end in .safetensors.")
    return _parse(bundled_content(name), name)


def _parse(content: bytes, source: str) -> Model:
    try:
        length = int.from_bytes(content[:8], "little")
        metadata = json.loads(content[8 : 8 + length])["__metadata__"]
        tensors = safetensors.torch.load(content)
        if metadata.get("format") != _FORMAT:
            raise InputError(
                f"{source}: weight format {metadata.get('format')!r}; this appulse reads {_FORMAT!r}."
            )
        network = ProbabilisticUNet(NetworkConfig(**json.loads(metadata["network"])))
        calibration = Calibration.from_dict(json.loads(metadata["calibration"]))
        training = json.loads(metadata["training"])
        name = metadata["name"]
    except (ValueError, KeyError, TypeError, AttributeError, safetensors.SafetensorError) as error:
        raise InputError(f"{source}: not a weight file, or damaged ({error!r}).") from None
    try:
        network.load_state_dict(tensors)
    except RuntimeError as error:
        raise InputError(f"{source}: weights do not fit the architecture in the header ({error}).") from None
    return Model(
        name=name,
        network=network.eval(),
        calibration=calibration,
        training=training,
        sha256=hashlib.sha256(content).hexdigest(),
        half=any(tensor.dtype == torch.float16 for tensor in tensors.values()),
    )
