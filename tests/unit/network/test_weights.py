"""Weight files: bit for bit there and back, and nothing in them is ever run."""

import dataclasses
import hashlib
import json
import os
import pickle
import struct
from multiprocessing.reduction import ForkingPickler

import pytest
import safetensors
import safetensors.torch
import torch

from appulse.files import InputError
from appulse.network import bundled
from appulse.network.bundled import bundled_ranges, model_names, range_warnings
from appulse.network.calibration import IDENTITY, Calibration, ErrorBars, OperatingPoint
from appulse.network.config import NetworkConfig
from appulse.network.punet import ProbabilisticUNet
from appulse.network.validity import Validity
from appulse.network.weights import Model, load_model, save_model

TINY = NetworkConfig(filters=(4, 8, 8), encoder_poolings=2, combiner_filters=8, stamp_size=32)
CALIBRATION = Calibration(
    tuple(0.8 * logit + 0.1 for logit in IDENTITY),
    tuple(1.2 * logit - 0.3 for logit in IDENTITY),
    2.5,
    {"pure": OperatingPoint(0.6, 1 / 3, 7)},
    {"flux": ErrorBars((3.0,), (1.1, 0.1 + 0.2), (1.9, 2.1), (-0.3, 0.1))},
)


@pytest.fixture
def model():
    torch.manual_seed(1)
    network = ProbabilisticUNet(TINY).train()
    network.encode(torch.randn(4, 1, 32, 32))  # running statistics of their own
    return Model("tiny", network, CALIBRATION, {"seeds": [0, 1], "steps": 12, "surveys": {"paper": "ab"}})


@pytest.fixture
def path(model, tmp_path):
    return save_model(model, tmp_path / "tiny.safetensors")


def rewrite(path, change):
    """The same file with ``change`` made to its tensors and metadata."""
    with safetensors.safe_open(path, "pt") as file:
        metadata = dict(file.metadata())
    tensors = safetensors.torch.load_file(path)
    change(tensors, metadata)
    safetensors.torch.save_file(tensors, path, metadata)


def test_round_trip_is_bit_exact(model, path):
    back = load_model(path)
    ours, theirs = model.network.state_dict(), back.network.state_dict()
    assert list(ours) == list(theirs)
    for name, value in ours.items():
        assert value.dtype == theirs[name].dtype and torch.equal(value, theirs[name])
    assert back.network.config == TINY and not back.network.training
    assert (back.name, back.calibration, back.training) == ("tiny", CALIBRATION, model.training)
    images, latents = torch.randn(2, 1, 32, 32), torch.randn(2, 10)
    with torch.no_grad():
        maps = [
            network.realise(network.encode(images)[0], latents)
            for network in (model.network.eval(), back.network)
        ]
    assert torch.equal(*maps)


def test_half_precision_halves_the_file_and_keeps_the_moments(model, path, tmp_path):
    half_path = save_model(dataclasses.replace(model, half=True), tmp_path / "half.safetensors")
    ours, theirs = model.network.state_dict(), load_model(half_path).network.state_dict()
    stored = safetensors.torch.load_file(half_path)
    for name, value in ours.items():
        if "running" in name or "tracked" in name:
            assert torch.equal(value, theirs[name])
        else:
            assert stored[name].dtype == torch.float16 and theirs[name].dtype == torch.float32
            torch.testing.assert_close(theirs[name], value, rtol=2**-11, atol=2**-25)  # IEEE 754 binary16
    sizes = [sum(t.nbytes for t in safetensors.torch.load_file(p).values()) for p in (half_path, path)]
    assert sizes[0] < 0.53 * sizes[1]
    # Read and written again, or rounded before it is written, as calibration does, it is the same file.
    for number, same in enumerate((load_model(half_path), model.halved())):
        again = save_model(same, tmp_path / f"again{number}.safetensors")
        assert again.read_bytes() == half_path.read_bytes()
    rounded = model.halved().network.state_dict()
    assert all(torch.equal(rounded[name], value) for name, value in theirs.items())
    assert {name: value.dtype for name, value in rounded.items()} == {n: v.dtype for n, v in ours.items()}
    with torch.no_grad():
        next(model.network.parameters()).view(-1)[0] = 1e5
    with pytest.raises(ValueError, match="not finite in half precision"):
        model.halved()
    with pytest.raises(ValueError, match="not finite in half precision"):
        save_model(dataclasses.replace(model, half=True), tmp_path / "large.safetensors")


def test_channels_last_weights_are_saved_too(model, path, tmp_path):
    model.network.to(memory_format=torch.channels_last)
    again = save_model(model, tmp_path / "again.safetensors")
    assert again.read_bytes() == path.read_bytes()


def test_header_holds_everything(path):
    with safetensors.safe_open(path, "pt") as file:
        metadata = file.metadata()
    assert metadata["name"] == "tiny"
    assert NetworkConfig(**json.loads(metadata["network"])) == TINY
    assert Calibration.from_dict(json.loads(metadata["calibration"])) == CALIBRATION
    assert json.loads(metadata["training"])["seeds"] == [0, 1]


def test_sha256_is_the_files(model, path, tmp_path):
    back = load_model(path)
    assert back.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert model.sha256 == ""
    with torch.no_grad():
        model.network.combiner.of_features.bias += 1e-6
    other = load_model(save_model(model, tmp_path / "other.safetensors"))
    recalibrated = load_model(
        save_model(back.calibrated(Calibration(correlation_length=2.0)), tmp_path / "calibrated.safetensors")
    )
    assert len({back.sha256, other.sha256, recalibrated.sha256}) == 3


def test_digest_is_that_of_the_file_that_a_model_was_or_would_be_read_from(path, tmp_path):
    back = load_model(path)
    assert back.digest == back.sha256
    for changed in (back.calibrated(Calibration(correlation_length=2.0)), back.halved()):
        saved = load_model(save_model(changed, tmp_path / "changed.safetensors"))
        assert changed.digest == saved.sha256 != back.digest


def test_calibrated_keeps_the_network(path):
    back = load_model(path)
    assert back.for_inference is back.for_inference
    new = back.calibrated(Calibration())
    assert new.network is back.network and new.calibration == Calibration()
    assert new.sha256 == "" and new.name == back.name and new.training == back.training


def test_saving_the_same_model_twice_gives_the_same_bytes(model, path, tmp_path):
    assert save_model(model, tmp_path / "twice.safetensors").read_bytes() == path.read_bytes()
    assert not list(tmp_path.glob(".*"))


def test_unknown_name_lists_the_known():
    with pytest.raises(InputError, match="'euclidd'") as caught:
        load_model("euclidd")
    assert ", ".join(model_names()) in str(caught.value)
    assert ".safetensors" in str(caught.value)


def test_bundled_file_that_is_not_the_released_one(path, monkeypatch, tmp_path):
    monkeypatch.setattr(bundled, "_BUNDLED", tmp_path)
    assert model_names() == ["tiny"]
    with pytest.raises(InputError, match="bundled model 'tiny'"):
        load_model("tiny")
    monkeypatch.setitem(bundled.BUNDLED_SHA256, "tiny", hashlib.sha256(path.read_bytes()).hexdigest())
    assert load_model("tiny").name == "tiny"


@pytest.mark.parametrize("name", ["weights.pt", "weights.ckpt", "weights"])
def test_wrong_suffix(path, name):
    other = path.with_name(name)
    path.rename(other)
    with pytest.raises(InputError, match=r"\.safetensors"):
        load_model(other)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.safetensors: no such"):
        load_model(tmp_path / "none.safetensors")


@pytest.mark.parametrize("keep", [0, 5, 100, 0.5, 0.999])
def test_truncated_file(path, keep):
    content = path.read_bytes()
    path.write_bytes(content[: keep if isinstance(keep, int) else int(keep * len(content))])
    with pytest.raises(InputError, match=r"tiny\.safetensors.*damaged"):
        load_model(path)


def test_files_of_others(path):
    header = json.dumps([1, 2]).encode()
    bad = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    for content in (
        b"\x89PNG not weights at all",
        bytes(range(256)) * 10,
        struct.pack("<Q", len(header)) + header,
        struct.pack("<Q", len(bad)) + bad + bytes(4),  # sound, but without appulse's header
    ):
        path.write_bytes(content)
        with pytest.raises(InputError, match=r"tiny\.safetensors"):
            load_model(path)


def test_unknown_format(path):
    rewrite(path, lambda _, metadata: metadata.update(format="appulse-99"))
    with pytest.raises(InputError, match="appulse-99"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda tensors, _: tensors.pop("combiner.of_features.weight"),
        lambda tensors, _: tensors.update(extra=torch.zeros(2)),
        lambda tensors, _: tensors.update({"combiner.of_features.bias": torch.zeros(9)}),
        lambda _, metadata: metadata.update(network=json.dumps(TINY.to_dict() | {"filters": [4, 8, 16]})),
    ],
)
def test_weights_that_do_not_fit_the_header(path, change):
    rewrite(path, change)
    with pytest.raises(InputError, match=r"tiny\.safetensors.*do not fit"):
        load_model(path)


@pytest.mark.parametrize(
    "change",
    [
        lambda metadata: metadata.pop("network"),
        lambda metadata: metadata.pop("calibration"),
        lambda metadata: metadata.update(network="{"),
        lambda metadata: metadata.update(network=json.dumps(TINY.to_dict() | {"stamp_size": 31})),
        lambda metadata: metadata.update(network=json.dumps(TINY.to_dict() | {"attention": True})),
        lambda metadata: metadata.update(calibration="{}"),
    ],
)
def test_damaged_header(path, change):
    rewrite(path, lambda _, metadata: change(metadata))
    with pytest.raises(InputError, match=r"tiny\.safetensors"):
        load_model(path)


class _Bomb:
    def __reduce__(self):
        return (exec, ("import pathlib, os; pathlib.Path(os.environ['APPULSE_BOMB']).touch()",))


def test_a_pickle_is_not_executed(path, tmp_path, monkeypatch):
    fired = tmp_path / "fired"
    monkeypatch.setenv("APPULSE_BOMB", str(fired))
    pickle.loads(pickle.dumps(_Bomb()))
    assert fired.exists()  # the bomb works
    fired.unlink()
    torch.save(_Bomb(), tmp_path / "zip.safetensors")
    (tmp_path / "raw.safetensors").write_bytes(pickle.dumps(_Bomb()))
    for name in ("zip", "raw"):
        with pytest.raises(InputError):
            load_model(tmp_path / f"{name}.safetensors")
    assert not fired.exists()


def test_loading_needs_no_unpickler(path, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("unpickled")

    for name in ("load", "loads", "Unpickler"):
        monkeypatch.setattr(pickle, name, refuse)
    monkeypatch.setattr(torch, "load", refuse)
    assert load_model(path).name == "tiny"


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts open files in /proc")
def test_a_model_goes_to_other_processes_without_open_files(model):
    model.for_inference.encode(torch.zeros(1, 1, 32, 32))  # what is cached stays here
    before = len(os.listdir("/proc/self/fd"))
    sent = [ForkingPickler.dumps(model) for _ in range(3)]
    assert len(os.listdir("/proc/self/fd")) == before
    again = pickle.loads(sent[0])
    assert dataclasses.replace(again, network=model.network) == model
    assert again.network.config == model.network.config and not again.network.training
    for (name, ours), theirs in zip(
        model.network.state_dict().items(), again.network.state_dict().values(), strict=True
    ):
        assert torch.equal(ours, theirs), name


def test_warnings_name_the_bundled_model_that_fits():
    euclid = bundled_ranges()["euclid"]
    assert euclid == load_model("euclid").validity
    assert range_warnings(euclid, 0.0, 0.1, 2.0) == []
    # Seeing of five pixels, and noise as a drizzled image has it.
    found = range_warnings(euclid, 0.5, 0.1, 6.0)
    assert len(found) == 3 and "'mixed'" in found[-1]
    # What no model knows.
    assert len(range_warnings(euclid, 0.0, 0.1, 60.0)) == 1
    assert range_warnings(bundled_ranges()["mixed"], 0.5, 0.1, 6.0) == []
    # `paper` knows such an image too, and no better than they.
    assert bundled_ranges()["paper"].warnings(0.0, 0.1, 2.0) == []
    assert range_warnings(Validity(psf_fwhm_pixels=(8.0,)), 0.0, 0.1, 2.0)[-1].startswith(
        "model 'euclid' or 'mixed' knows"
    )
