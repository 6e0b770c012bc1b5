"""`appulse train` and `calibrate` as users meet them: files, refusals before any work, what is fitted."""

import shutil
from importlib import resources

import pytest

from appulse.cli import main
from appulse.files import InputError
from appulse.network.weights import load_model
from appulse.objects import MEASURED
from appulse.sky import Survey, simulate_field, write_field

TINY = """
epochs = 1
stamps_per_epoch = 8
batch_size = 4
warmup_steps = 1
seed = 2
[network]
filters = [4, 8, 8]
encoder_poolings = 2
combiner_filters = 8
stamp_size = 32
[stamps]
size = 32
"""
# As good as no training: what comes of it is the parent.
STILL = """
epochs = 1
stamps_per_epoch = 2
batch_size = 2
learning_rate = 1e-12
final_learning_rate = 1e-12
"""
pytestmark = pytest.mark.filterwarnings("ignore:Experiment logs directory")


def run(*arguments):
    """Exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    """A field to train on, and one for selection, in folders named by their seeds."""
    folder = tmp_path_factory.mktemp("sky")
    for seed, side in ((7, 192), (1007, 192)):
        (folder / str(seed)).mkdir()
        field = simulate_field(Survey.load("euclid-crowded"), side, seed=seed)
        write_field(field, folder / str(seed) / f"field_{seed:04d}_00.fits")
    return folder


@pytest.fixture
def tiny(tmp_path):
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path


def test_a_run_and_what_it_leaves(sky, tiny, tmp_path, capsys):
    command = ("train", "-o", tmp_path / "run", "--fields", sky / "7", "--preset", tiny)
    assert run(*command, "--validation", sky / "1007" / "field_1007_00.fits") == 0
    told = capsys.readouterr()
    assert "stamps in" in told.err and "epoch 1: completeness_isolated" in told.err
    assert f"wrote {tmp_path / 'run' / 'model.safetensors'}" in told.out
    model = load_model(tmp_path / "run" / "model.safetensors")
    assert model.name == "run"
    assert (model.training["seeds"], model.training["selection_seeds"]) == ([7], [1007])
    assert {"model.safetensors", "training.json", "curves.png", "last.ckpt", "log"} <= {
        path.name for path in (tmp_path / "run").iterdir()
    }
    # A run is not trained over, and goes on when asked to.
    assert run(*command) == 1
    assert "--resume" in capsys.readouterr().err
    assert run(*command, "--resume") == 0


@pytest.fixture
def nothing_is_cut(monkeypatch):
    monkeypatch.setattr("appulse.training.run.stored_stamps", lambda *_, **__: pytest.fail("stamps are cut"))


@pytest.mark.usefixtures("nothing_is_cut")
@pytest.mark.parametrize("seed", [7, 1007])
def test_seen_fields_are_refused_for_calibration_before_stamps_are_cut(sky, tiny, tmp_path, capsys, seed):
    command = ("train", "-o", tmp_path / "run", "--fields", sky / "7", "--preset", tiny)
    options = ("--validation", sky / "1007" / "field_1007_00.fits", "--calibration", sky / str(seed))
    assert run(*command, *options) == 2
    assert f"seed {seed}, too" in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("nothing_is_cut")
@pytest.mark.parametrize(
    ("option", "value", "code", "told"),
    [
        ("--validation", "7/field_0007_00.fits", 2, "a field of seed 7, which the model is trained on, too"),
        ("--validation", "7", 1, "not a field"),
        ("--init", "7/none.safetensors", 1, "none.safetensors"),
    ],
)
def test_unfit_options_are_refused_before_stamps_are_cut(
    sky, tiny, tmp_path, capsys, option, value, code, told
):
    assert (
        run("train", "-o", tmp_path / "run", "--fields", sky / "7", "--preset", tiny, option, sky / value)
        == code
    )
    assert told in capsys.readouterr().err


def test_workers_are_those_of_the_stamps_too(sky, tiny, tmp_path, monkeypatch):
    asked = []

    def stored(*_, workers, **__):
        asked.append(workers)
        raise InputError("so far")

    monkeypatch.setattr("appulse.training.run.stored_stamps", stored)
    command = ("train", "-o", tmp_path / "run", "--fields", sky / "7", "--preset", tiny)
    assert [run(*command), run(*command, "--workers", "1"), run(*command, "--workers", "3")] == [1, 1, 1]
    assert asked == [None, 1, 3]


def test_what_was_trained_is_calibrated_into_its_own_file(sky, tiny, tmp_path, monkeypatch, capsys):
    asked = []

    def calibrated(*paths, workers, progress):
        asked.append((*paths, workers))
        return "as it was fitted"

    monkeypatch.setattr("appulse.evaluation.calibrate.calibrate_file", calibrated)
    (tmp_path / "2007").mkdir()
    field = simulate_field(Survey.load("euclid-crowded"), 64, seed=2007)
    write_field(field, tmp_path / "2007" / "field_2007_00.fits")
    options = ("--fields", sky / "7", "--preset", tiny, "--calibration", tmp_path / "2007")
    assert run("train", "-o", tmp_path / "run", *options) == 0
    assert run("train", "-o", tmp_path / "run", *options, "--resume", "--workers", "2") == 0
    path = tmp_path / "run" / "model.safetensors"
    assert asked == [(path, tmp_path / "2007", path, workers) for workers in (1, 2)]
    assert capsys.readouterr().out == f"as it was fitted\nwrote {path}\n" * 2


def test_calibration_refuses_what_it_cannot_do_before_it_begins(sky, tmp_path, capsys):
    shutil.copy(resources.files("appulse") / "weights" / "euclid.safetensors", tmp_path / "model.safetensors")
    command = ("calibrate", "--fields", sky / "7", "--model", "euclid")
    assert run(*command, "-o", tmp_path) == 1
    assert "already holds a model" in capsys.readouterr().err
    # Seed 0 is one of those that `euclid` was trained on.
    field = simulate_field(Survey.load("euclid-crowded"), 192, seed=0)
    (tmp_path / "seen").mkdir()
    write_field(field, tmp_path / "seen" / "field_0000_00.fits")
    assert run("calibrate", "--fields", tmp_path / "seen", "-o", tmp_path / "new") == 2
    assert "seed 0, too" in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_calibration_ends_in_the_weight_file(sky, tmp_path, capsys):
    (tmp_path / "still.toml").write_text(STILL)
    (tmp_path / "calibration").mkdir()
    for index in range(2):
        field = simulate_field(Survey.load("euclid-crowded"), 768, seed=2007, index=index)
        write_field(field, tmp_path / "calibration" / f"field_2007_0{index}.fits")
    command = ("train", "-o", tmp_path / "run", "--fields", sky / "7", "--init", "euclid", "--workers", "2")
    options = ("--preset", tmp_path / "still.toml", "--calibration", tmp_path / "calibration")
    assert run(*command, *options) == 0
    report = (tmp_path / "run" / "calibration.txt").read_text()
    assert report.strip() in capsys.readouterr().out
    model, parent = load_model(tmp_path / "run" / "model.safetensors"), load_model("euclid")
    assert model.training["calibration_seeds"] == [2007]
    assert {*parent.training["seeds"], 7} == set(model.training["seeds"])
    assert set(model.calibration.error_bars) == set(MEASURED)
    # The parent's calibration, found on larger fields, is not far.
    point, before = (each.calibration.operating_points["balanced"] for each in (model, parent))
    assert abs(point.t_galaxy - before.t_galaxy) <= 0.2
    # By itself the same is fitted to the same weights, whatever was fitted to them before.
    trained = tmp_path / "run" / "model.safetensors"
    command = ("calibrate", "-o", tmp_path / "again", "--model", trained, "--workers", "2", "--half")
    assert run(*command, "--fields", tmp_path / "calibration") == 0
    again = load_model(tmp_path / "again" / "model.safetensors")
    assert (again.name, again.calibration, again.training) == ("again", model.calibration, model.training)
    assert again.half and not model.half
    assert (tmp_path / "again" / "calibration.txt").read_text() == report
