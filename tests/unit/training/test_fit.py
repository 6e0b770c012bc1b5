"""Whole runs of a tiny network: files, learning, resuming after a kill, refusals."""

import csv
import dataclasses
import json
import logging
import os
import random
import re
import shutil
import signal
import warnings

import numpy as np
import pytest
import safetensors.torch
import torch

from appulse.files import InputError, UsageError, sole_process
from appulse.network.calibration import Calibration
from appulse.network.config import NetworkConfig
from appulse.network.weights import load_model, save_model
from appulse.sky import Population, Survey, simulate_field, write_field
from appulse.stamps import StampConfig, StampSource
from appulse.training import fit as fit_module
from appulse.training.config import TrainingConfig
from appulse.training.fit import WholeCheckpoints
from appulse.training.history import refuse_inputs
from appulse.training.module import TrainingModule
from appulse.training.run import train

# Eight batches in two epochs.
TINY = TrainingConfig(
    network=NetworkConfig(filters=(4, 8, 8), encoder_poolings=2, combiner_filters=8, stamp_size=32),
    stamps=StampConfig(size=32),
    epochs=2,
    stamps_per_epoch=16,
    batch_size=4,
    warmup_steps=3,
    average_decay=0.9,
    seed=3,
)
pytestmark = pytest.mark.filterwarnings(
    "ignore:Experiment logs directory", "ignore:.training_step. returned .None."
)


class Killed(Exception):
    """Stands for the end of the job's time."""


def one_field(directory, seed):
    """A directory with one small field."""
    survey = dataclasses.replace(
        Survey.load("paper"),
        population=Population(density=200.0, magnitude_bright=21.0, magnitude_faint=24.5),
    )
    write_field(simulate_field(survey, 96, seed=seed), directory / f"field_{seed:04d}_00.fits")
    return directory


@pytest.fixture(scope="module")
def fields(tmp_path_factory):
    return one_field(tmp_path_factory.mktemp("fields"), 12)


@pytest.fixture(scope="module")
def validation(tmp_path_factory):
    path = tmp_path_factory.mktemp("validation") / "field_1000_00.fits"
    survey = dataclasses.replace(Survey.load("paper"), population=Population(density=120.0))
    write_field(simulate_field(survey, 128, seed=1000), path)
    return path


@pytest.fixture(scope="module")
def whole(fields, validation, tmp_path_factory):
    """A run that nothing disturbed."""
    output = tmp_path_factory.mktemp("run") / "whole"
    train(output, fields, TINY, validation=validation, threads=1)
    return output


def rows(output):
    with open(output / "log" / "metrics.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def weights_of(output):
    return safetensors.torch.load_file(output / "model.safetensors")


def killed_and_resumed(output, fields, config, at, monkeypatch, **options):
    """Stop a run where it asks for batch ``at``, with a checkpoint after every step, and go on."""
    draw = StampSource.batch

    def until(self, number, size):
        if number == at:
            raise Killed
        return draw(self, number, size)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "CHECKPOINT_MINUTES", 0)
        patch.setattr(StampSource, "batch", until)
        with pytest.raises(Killed):
            train(output, fields, config, threads=1, **options)
    assert (output / "last.ckpt").exists() and not (output / "model.safetensors").exists()
    drawn = []

    def recorded(self, number, size):
        drawn.append(number)
        return draw(self, number, size)

    with monkeypatch.context() as patch:
        patch.setattr(StampSource, "batch", recorded)
        train(output, fields, config, resume=True, threads=1, **options)
    return drawn


def test_files_of_a_run(whole):
    names = {path.name for path in whole.iterdir()}
    assert {"model.safetensors", "last.ckpt", "training.json", "curves.png", "log"} <= names
    assert (whole / "curves.png").read_bytes().startswith(b"\x89PNG")
    assert not [name for name in names if name.startswith(".")]


def test_weight_file_of_a_run(whole):
    model = load_model(whole / "model.safetensors")
    assert model.name == "whole" and model.network.config == TINY.network
    training = model.training
    assert training["seeds"] == [12] and training["fields"] == 1 and training["stamps_stored"] == 256
    assert list(training["surveys"]) == ["paper"] and len(training["surveys"]["paper"]) == 64
    assert training["recipe"] == json.loads(json.dumps(TINY.to_dict()))
    assert (training["steps"], training["stamps"], training["steps_skipped"]) == (8, 32, 0)
    assert all(torch.isfinite(value).all() for value in model.network.state_dict().values())


def test_validation_is_logged(whole):
    found = [row for row in rows(whole) if row.get("val_kl")]
    assert len(found) == 2  # once an epoch
    assert {"val_dice_overlap", "val_completeness_isolated", "val_kl_0", "val_diversity"} <= set(found[0])


def test_a_recipe_with_more_convolutions_deepens_the_model_that_it_starts_from(whole, fields, tmp_path):
    deeper = dataclasses.replace(TINY.network, convolutions_per_level=TINY.network.convolutions_per_level + 1)
    recipe = dataclasses.replace(TINY, network=deeper, learning_rate=1e-9, final_learning_rate=1e-9)
    options = {"init": whole / "model.safetensors"}
    train(tmp_path / "deeper", fields, dataclasses.replace(recipe, epochs=1), threads=1, **options)
    train(tmp_path / "deeper", fields, recipe, threads=1, resume=True, **options)
    model, start = load_model(tmp_path / "deeper" / "model.safetensors"), load_model(options["init"])
    assert model.network.config == deeper and model.training["init"] == "model.safetensors"
    assert model.training["stamps"] == TINY.epochs * TINY.stamps_per_epoch
    held = start.network.state_dict()
    learnt = dict(model.network.named_parameters())
    for name in held.keys() & learnt.keys():
        torch.testing.assert_close(learnt[name], held[name], rtol=1e-3, atol=1e-6)
    assert set(learnt) - set(held)


def test_a_run_is_reproducible(whole, fields, validation, tmp_path):
    train(tmp_path / "again", fields, TINY, validation=validation, threads=1)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(tmp_path / "again")[name]), name


def test_validation_does_not_change_the_training(whole, fields, tmp_path):
    train(tmp_path / "blind", fields, TINY, threads=1)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(tmp_path / "blind")[name]), name


@pytest.mark.parametrize("at", [2, 4, 6], ids=["first epoch", "between epochs", "second epoch"])
def test_killed_and_resumed_equals_undisturbed(whole, fields, validation, tmp_path, monkeypatch, at):
    output = tmp_path / "killed"
    drawn = killed_and_resumed(output, fields, TINY, at, monkeypatch, validation=validation)
    # A checkpoint may be a step behind the kill, never more; no batch is left out or seen twice.
    assert drawn == list(range(drawn[0], 8)) and at - 2 <= drawn[0] <= at
    model = load_model(output / "model.safetensors")
    assert model.training["steps"] == 8
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(output)[name]), name


def test_log_of_a_killed_run_is_kept(fields, tmp_path, monkeypatch):
    # Logged every ten steps, so before and after the kill.
    config = dataclasses.replace(TINY, epochs=1, stamps_per_epoch=4 * 60)
    killed_and_resumed(tmp_path / "run", fields, config, 42, monkeypatch)
    steps = [int(row["step"]) for row in rows(tmp_path / "run") if row.get("train_loss")]
    assert steps == sorted(set(steps))
    assert steps[0] < 15, "what was logged before the kill is gone"


def state_of_the_process():
    """What a library must leave alone."""
    return (
        random.getstate(),
        [np.asarray(part).tolist() for part in np.random.get_state()],  # noqa: NPY002
        torch.get_rng_state().tolist(),
        torch.get_num_threads(),
        dict(os.environ),
        warnings.filters[:],
        logging.getLogger("lightning.pytorch").level,
    )


def test_a_run_leaves_the_process_as_it_was(whole, fields, validation, tmp_path, monkeypatch):
    """Whether it is killed or comes to its end; and what the process draws of it is no matter."""
    torch.manual_seed(77)
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)  # others than the run is given
    try:
        before = state_of_the_process()
        killed_and_resumed(tmp_path / "run", fields, TINY, 4, monkeypatch, validation=validation)
        for now, then in zip(state_of_the_process(), before, strict=True):
            assert now == then
    finally:
        torch.set_num_threads(threads)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(tmp_path / "run")[name]), name


def test_weights_begin_as_the_seed_of_the_recipe_says():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(TINY.seed)
        expected = TrainingModule(TINY).state_dict()
    for name, value in fit_module._module(None, TINY, None).state_dict().items():
        assert torch.equal(value, expected[name]), name


def test_a_run_is_silent_unless_it_is_asked(fields, validation, tmp_path, capfd):
    config = dataclasses.replace(TINY, stamps_per_epoch=4)
    train(tmp_path / "silent", fields, config, validation=validation, threads=1)
    assert capfd.readouterr() == ("", "")
    lines, stages = [], []
    told = {"say": lines.append, "progress": lambda *stage: stages.append(stage)}
    train(tmp_path / "told", fields, config, validation=validation, threads=1, **told)
    assert capfd.readouterr() == ("", "")
    assert [line.split(":")[0].split(",")[0] for line in lines[1:]] == ["step 1/2", "epoch 1", "epoch 2"]
    assert re.fullmatch(r"256 stamps in .*stamps-\w{8} \(\d+ MB\)", lines[0])
    assert re.fullmatch(r"step 1/2, \d+\.\d stamps/s, loss \d+\.\d{4}, \d+ min left", lines[1])
    assert re.match(r"epoch 2: completeness_isolated \S+, purity_isolated .*, kl \d+\.\d{3}$", lines[3])
    assert stages == [("training", done, 2) for done in range(3)]


def test_a_model_to_start_from_stays_as_it_is(whole, fields, tmp_path):
    model = load_model(whole / "model.safetensors")
    before = {name: value.clone() for name, value in model.network.state_dict().items()}
    config = dataclasses.replace(TINY, epochs=1)
    train(tmp_path / "of_model", fields, config, init=model, threads=1)
    train(tmp_path / "of_file", fields, config, init=whole / "model.safetensors", threads=1)
    for name, value in model.network.state_dict().items():
        assert torch.equal(value, before[name]), name
    for name, value in weights_of(tmp_path / "of_file").items():
        assert torch.equal(value, weights_of(tmp_path / "of_model")[name]), name
    assert load_model(tmp_path / "of_model" / "model.safetensors").training["init"] == "whole"


def test_existing_run_is_refused(whole, fields):
    before = (whole / "model.safetensors").read_bytes()
    with pytest.raises(InputError, match=r"already holds a run.*--resume"):
        train(whole, fields, TINY)
    assert (whole / "model.safetensors").read_bytes() == before


def test_resume_without_a_run(fields, tmp_path):
    with pytest.raises(InputError, match=r"last\.ckpt"):
        train(tmp_path / "none", fields, TINY, resume=True)


def test_resuming_a_finished_run_changes_nothing(whole, fields, validation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    weights, note = run / "model.safetensors", run / "training.json"
    save_model(load_model(weights).calibrated(Calibration(latent_scale=0.25)), weights)
    (run / "calibration.txt").write_text("what was fitted")
    before = weights.read_bytes(), note.read_bytes(), note.stat().st_ino
    train(run, fields, TINY, validation=validation, resume=True, threads=1)
    assert (weights.read_bytes(), note.read_bytes(), note.stat().st_ino) == before
    assert (run / "calibration.txt").exists()
    # A further epoch makes other weights, to be calibrated anew.
    train(run, fields, dataclasses.replace(TINY, epochs=3), validation=validation, resume=True, threads=1)
    model = load_model(weights)
    assert model.training["steps"] == 12 and model.calibration == Calibration()
    assert not (run / "calibration.txt").exists()
    assert json.loads(note.read_text())["recipe"]["epochs"] == 3


def test_what_earlier_legs_have_seen_is_seen(whole, validation, tmp_path):
    """A leg on other fields must not be validated on those of the leg before."""
    run, fresh = tmp_path / "run", tmp_path / "fresh"
    shutil.copytree(whole, run)
    fresh.mkdir()
    one_field(fresh, 13)
    one_field(tmp_path, 12)
    longer = dataclasses.replace(TINY, epochs=3)
    with pytest.raises(UsageError, match="a field of seed 12"):
        train(run, fresh, longer, validation=tmp_path / "field_0012_00.fits", resume=True, threads=1)
    train(run, fresh, longer, validation=validation, resume=True, threads=1)
    before, after = (load_model(each / "model.safetensors").training for each in (whole, run))
    assert after["seeds"] == [12, 13]
    # Both fields are of surveys of one name and content.
    assert after["surveys"] == before["surveys"]


def test_fewer_epochs_than_are_done_are_refused(whole, fields, validation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    shorter = dataclasses.replace(TINY, epochs=1)
    with pytest.raises(InputError, match="more epochs are done than the 1"):
        train(run, fields, shorter, validation=validation, resume=True, threads=1)


def test_a_checkpoint_cut_short_leaves_the_one_before(tmp_path, monkeypatch):
    path, whole_one = tmp_path / "last.ckpt", WholeCheckpoints()
    whole_one.save_checkpoint({"step": torch.tensor(1)}, path)

    def cut_short(content, temporary):
        temporary.write_bytes(b"half")
        raise Killed

    monkeypatch.setattr(torch, "save", cut_short)
    with pytest.raises(Killed):
        whole_one.save_checkpoint({"step": torch.tensor(2)}, path)
    assert torch.load(path, weights_only=True)["step"] == 1
    assert [*tmp_path.iterdir()] == [path]


def test_a_run_in_the_current_directory_has_its_name(whole, fields, validation, tmp_path, monkeypatch):
    shutil.copytree(whole, tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    train(".", fields, dataclasses.replace(TINY, epochs=3), validation=validation, resume=True, threads=1)
    assert load_model("model.safetensors").training["steps"] == 12
    with safetensors.safe_open("model.safetensors", "pt") as file:
        assert file.metadata()["name"] == "mine"


def test_a_run_that_another_process_is_at_is_refused(whole, fields, validation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    before = {path.name: path.stat().st_mtime_ns for path in run.iterdir()}
    with sole_process(run), pytest.raises(InputError, match="another process is at work there"):
        train(run, fields, dataclasses.replace(TINY, epochs=3), validation=validation, resume=True, threads=1)
    assert {path.name: path.stat().st_mtime_ns for path in run.iterdir()} == before


def test_a_run_that_ended_before_its_weights_were_written(whole, fields, validation, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(whole, run)
    (run / "model.safetensors").unlink()
    train(run, fields, TINY, validation=validation, resume=True, threads=1)
    for name, value in weights_of(whole).items():
        assert torch.equal(value, weights_of(run)[name]), name


def test_a_run_of_before_an_option_goes_on(whole, fields, validation, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(whole, older)
    history = json.loads((older / "training.json").read_text())
    del history["recipe"]["stamps"]["dimming_range"], history["noise_correlation"]
    history["psf_fwhm_pixels"] = [1.0, 1.2]  # of a leg on other fields
    (older / "training.json").write_text(json.dumps(history))
    longer = dataclasses.replace(TINY, epochs=3)
    train(older, fields, longer, validation=validation, resume=True, threads=1)
    training = load_model(older / "model.safetensors").training
    assert training["noise_correlation"] == [0.0, 0.0]
    assert training["psf_fwhm_pixels"] == pytest.approx([1.0, 1.8])


def test_unfit_fields(fields, tmp_path):
    with pytest.raises(InputError, match="no simulated fields"):
        train(tmp_path / "run", tmp_path, TINY)
    deep = dataclasses.replace(TINY, stamps=StampConfig(size=32, depth_range=(25.0, 28.0)))
    with pytest.raises(InputError, match="28"):
        train(tmp_path / "run", fields, deep)
    assert not (tmp_path / "run" / "last.ckpt").exists()


def test_a_validation_field_of_a_training_seed_is_refused(whole, fields, validation, tmp_path):
    fresh = one_field(tmp_path, 13)
    for options in (
        {"validation": fresh / "field_0013_00.fits"},
        # What the parent was trained on.
        {"validation": fields / "field_0012_00.fits", "init": whole / "model.safetensors"},
    ):
        with pytest.raises(UsageError, match=r"a field of seed 1[23], which the model is trained on"):
            train(tmp_path / "run", fresh, TINY, **options)
    assert [*tmp_path.iterdir()] == [fresh / "field_0013_00.fits"]
    # Of a store, too, which may have been cut from fields that are gone.
    store = next(fields.glob("stamps-*"))
    with pytest.raises(UsageError, match="a field of seed 12"):
        refuse_inputs(store, TINY, validation=fields / "field_0012_00.fits")
    assert refuse_inputs(store, TINY, validation=validation) == {"seeds": [12], "selection_seeds": [1000]}


def test_a_field_of_a_training_seed_is_refused_under_another_name(fields, tmp_path):
    renamed = shutil.copy(fields / "field_0012_00.fits", tmp_path / "field_0099_00.fits")
    with pytest.raises(UsageError, match="a field of seed 12"):
        refuse_inputs(tmp_path, TINY, validation=fields / "field_0012_00.fits")
    with pytest.raises(UsageError, match="a field of seed 12"):
        refuse_inputs(fields, TINY, validation=renamed)


def test_what_is_unfit_is_refused_before_stamps_are_cut(whole, validation, tmp_path):
    fresh = one_field(tmp_path, 13)
    small = tmp_path / "small.fits"
    write_field(simulate_field(Survey.load("paper"), 24, seed=1001), small)
    (tmp_path / "no.safetensors").write_bytes(b"nothing")
    before = sorted(tmp_path.iterdir())
    for options, error in (
        ({"validation": small}, r"small\.fits: a field of \(24, 24\) pixels is smaller than a stamp of 32"),
        ({"validation": tmp_path / "none.fits"}, "not a field"),
        ({"init": tmp_path / "no.safetensors"}, r"no\.safetensors"),
    ):
        with pytest.raises(InputError, match=error):
            train(tmp_path / "run", fresh, TINY, **options)
    assert sorted(tmp_path.iterdir()) == before


def test_init_takes_weights_architecture_and_what_was_seen(whole, tmp_path):
    fields = one_field(tmp_path, 13)
    other = dataclasses.replace(
        TINY,
        network=dataclasses.replace(TINY.network, filters=(4, 4, 4)),
        epochs=1,
        stamps_per_epoch=4,
        learning_rate=1e-12,
        final_learning_rate=1e-12,
    )
    train(tmp_path / "tuned", fields, other, init=whole / "model.safetensors", threads=1)
    model = load_model(tmp_path / "tuned" / "model.safetensors")
    assert model.network.config == TINY.network
    assert model.training["init"].endswith("model.safetensors")
    # What the parent has seen, its child has seen.
    assert model.training["seeds"] == [12, 13] and model.training["selection_seeds"] == [1000]
    start = load_model(whole / "model.safetensors").network
    for (name, value), ours in zip(model.network.named_parameters(), start.parameters(), strict=True):
        torch.testing.assert_close(value, ours, rtol=1e-5, atol=1e-6, msg=name)


def test_a_parent_of_other_stamps_is_refused(whole, fields, tmp_path):
    wider = dataclasses.replace(
        TINY,
        network=dataclasses.replace(TINY.network, stamp_size=64),
        stamps=dataclasses.replace(TINY.stamps, size=64),
    )
    with pytest.raises(InputError, match=r"model\.safetensors: stamps have 64 pixels, the network takes 32"):
        train(tmp_path / "run", fields, wider, init=whole / "model.safetensors", threads=1)


def test_an_interrupt_is_one_and_leaves_the_next_one_heard(fields, tmp_path, monkeypatch):
    draw, heard = StampSource.batch, signal.getsignal(signal.SIGINT)

    def until(self, number, size):
        if number == 3:
            raise KeyboardInterrupt
        return draw(self, number, size)

    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "CHECKPOINT_MINUTES", 0)
        patch.setattr(StampSource, "batch", until)
        with pytest.raises(KeyboardInterrupt):
            train(tmp_path / "run", fields, TINY, threads=1)
    assert signal.getsignal(signal.SIGINT) is heard
    train(tmp_path / "run", fields, TINY, resume=True, threads=1)


def test_learns_bright_galaxies(fields, tmp_path):
    config = dataclasses.replace(
        TINY, epochs=1, stamps_per_epoch=8 * 80, batch_size=8, learning_rate=1e-2, final_learning_rate=5e-3
    )
    train(tmp_path / "run", fields, config, threads=1)
    found = [row for row in rows(tmp_path / "run") if row.get("train_loss")]
    loss, dice = (np.array([float(row[name]) for row in found]) for name in ("train_loss", "train_dice"))
    assert np.isfinite(loss).all() and len(loss) >= 8
    assert loss[-2:].mean() < 0.8 * loss[:2].mean()
    assert dice[-2:].mean() < 0.9 * dice[:2].mean()


def test_a_bad_batch_does_not_spoil_the_run(fields, validation, tmp_path, monkeypatch):
    draw = StampSource.batch

    def spoilt(self, number, size):
        batch = draw(self, number, size)
        if number == 3:
            batch.images[0, 4, 4] = np.inf
        return batch

    monkeypatch.setattr(StampSource, "batch", spoilt)
    train(tmp_path / "run", fields, TINY, validation=validation, threads=1)
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.training["steps_skipped"] == 1 and model.training["steps"] == 8
    for name, value in model.network.state_dict().items():
        assert torch.isfinite(value).all(), name
