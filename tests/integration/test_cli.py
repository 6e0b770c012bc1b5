"""The command line as a user meets it: exit codes, messages, files. The bundled model does the work."""

import contextlib
import errno
import hashlib
import json
import os
import pty
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from scipy import ndimage

import appulse
from appulse.cli import main
from appulse.network.weights import save_model
from appulse.objects import COLUMNS
from appulse.products import PROVENANCE, read_catalog, read_segmentation
from appulse.sky import Survey, simulate_field, write_field

VERBS = ("segment", "simulate", "train", "evaluate", "compare", "check", "models", "demo")
GALAXIES = ((40, 45), (110, 95))
WITH_A_TERMINAL = os.environ | {"TERM": "xterm"}
QUICK = ("--samples", "10", "--no-preview")
WCS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.1 / 3600, "CDELT2": 0.1 / 3600}


def run(*arguments):
    """Exit code of the command line, in this process."""
    with pytest.raises(SystemExit) as stopped:
        main([str(argument) for argument in arguments])
    return stopped.value.code or 0  # None is success


def write_sky(path, seed=0, galaxies=GALAXIES, shape=(130, 140), **cards):
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = np.random.default_rng(seed).standard_normal(shape)
    for x0, y0 in galaxies:
        image += 50 * np.exp(-np.hypot(x - x0, y - y0) / 3)
    fits.writeto(path, (5 * image + 100).astype(np.float32), fits.Header(WCS | {"BUNIT": "nJy"} | cards))
    return path


@pytest.fixture
def field(tmp_path):
    return write_sky(tmp_path / "field.fits")


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A directory in which everything was asked for."""
    folder = tmp_path_factory.mktemp("done")
    write_sky(folder / "field.fits")
    options = ("--samples", "10", "--seed", "3", "--keep-realisations", "--keep-background")
    options += ("--regions", "--catalog", "ecsv")
    code = run("segment", folder / "field.fits", "-o", folder / "out", *options)
    return folder, code, options


def names(directory):
    return sorted(path.name for path in directory.glob("[!.]*"))


def contents(directory):
    return {path.name: path.read_bytes() for path in directory.glob("[!.]*")}


# ---------------------------------------------------------------------------------------------- products


def test_every_product_is_there_and_says_what_the_contract_says(done):
    folder, code, _ = done
    assert code == 0
    products = ("catalog.ecsv", "preview.png", "regions.reg", "segmentation.fits", "summary.json")
    assert names(folder / "out") == ["appulse.json", *(f"field_{each}" for each in products)]

    catalog = read_catalog(folder / "out" / "field_catalog.ecsv")
    assert catalog.colnames == [column.name for column in COLUMNS]
    assert catalog["flux"].unit == "nJy" and catalog["half_light_radius"].unit == "arcsec"
    for x, y in GALAXIES:
        distance = np.hypot(catalog["x_centroid"].value - x, catalog["y_centroid"].value - y)
        assert distance.min() < 2

    path = folder / "out" / "field_segmentation.fits"
    layers = "TERNARY MEAN STD P_GALAXY P_OVERLAP SEGM SEGM2 FLAGS PAIRS".split()
    layers += ["BACKGROUND", "BACKGROUND_RMS", "REALISATIONS"]
    with fits.open(path) as hdus:
        assert [hdu.name for hdu in hdus] == ["PRIMARY", *layers]
        assert hdus[0].data is None and not {"DATE", "ORIGIN"} & set(hdus[0].header)
        assert {key: hdus[0].header[key] for key in PROVENANCE.values()} == {
            "APPULSE": appulse.__version__,
            "MODEL": "euclid",
            "MODELSHA": appulse.load_model("euclid").sha256,
            "SEED": 3,
            "SAMPLES": 10,
            "METHOD": "two-step",
        }
        with fits.open(folder / "field.fits") as image:
            for key in WCS:
                assert str(hdus["MEAN"].header.cards[key]) == str(image[0].header.cards[key])
    maps = read_segmentation(path)
    assert maps["realisations"].shape == (10, 130, 140)
    np.testing.assert_array_equal(maps["mean"], maps["realisations"].mean(axis=0).astype(np.float32))
    np.testing.assert_array_equal(np.unique(maps["segm"])[1:], catalog["label"])

    summary = json.loads((folder / "out" / "field_summary.json").read_text())
    assert summary["galaxies"] == len(catalog) and summary["seed"] == 3 and summary["model"] == "euclid"
    regions = (folder / "out" / "field_regions.reg").read_text().splitlines()
    assert sum(line.startswith("ellipse(") for line in regions) == len(catalog)
    assert (folder / "out" / "field_preview.png").read_bytes().startswith(b"\x89PNG")


def test_by_default_four_files_are_written(field, tmp_path, capsys):
    assert run("segment", field, "-o", tmp_path / "out", "--samples", "10") == 0
    products = ("catalog.fits", "preview.png", "segmentation.fits", "summary.json")
    assert names(tmp_path / "out") == ["appulse.json", *(f"field_{each}" for each in products)]
    captured = capsys.readouterr()
    assert "field.fits: " in captured.out and "galaxies" in captured.out and captured.err == ""


def test_two_runs_give_the_same_bytes_wherever_they_run(done, tmp_path):
    folder, _, options = done
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    shutil.copy(folder / "field.fits", elsewhere / "field.fits")
    assert run("segment", elsewhere / "field.fits", "-o", elsewhere / "results", *options) == 0
    assert contents(elsewhere / "results") == contents(folder / "out")
    assert all(str(folder).encode() not in content for content in contents(folder / "out").values())


def test_the_same_command_again_skips_what_is_done_and_other_options_are_refused(done, tmp_path, capsys):
    folder, _, options = done
    shutil.copytree(folder / "out", tmp_path / "out")
    before = contents(tmp_path / "out")
    assert run("segment", folder / "field.fits", "-o", tmp_path / "out", *options) == 0
    assert "done before" in capsys.readouterr().out
    other = ["5" if option == "3" else option for option in options]
    assert run("segment", folder / "field.fits", "-o", tmp_path / "out", *other) == 2
    error = capsys.readouterr().err
    assert "seed" in error and "--overwrite" in error and len(error.splitlines()) == 1
    assert contents(tmp_path / "out") == before
    assert run("segment", folder / "field.fits", "-o", tmp_path / "out", *other, "--overwrite") == 0
    summary = json.loads((tmp_path / "out" / "field_summary.json").read_text())
    assert summary["seed"] == 5


def test_another_image_of_the_same_name_is_refused(done, tmp_path, capsys):
    folder, _, options = done
    shutil.copytree(folder / "out", tmp_path / "out")
    write_sky(tmp_path / "field.fits", seed=8)
    assert run("segment", tmp_path / "field.fits", "-o", tmp_path / "out", *options) == 2
    assert "field" in capsys.readouterr().err
    assert contents(tmp_path / "out") == contents(folder / "out")


def test_parquet_compressed_input_and_a_sky_without_galaxies(tmp_path):
    path = write_sky(tmp_path / "empty.fits.gz", galaxies=())
    assert run("segment", path, "-o", tmp_path / "out", *QUICK, "--catalog", "parquet") == 0
    catalog = read_catalog(tmp_path / "out" / "empty_catalog.parquet")
    assert catalog.colnames == [column.name for column in COLUMNS] and len(catalog) <= 1


def test_masks_by_template_and_noise_by_list(tmp_path):
    for name in ("a", "b"):
        write_sky(tmp_path / f"{name}.fits", seed=ord(name))
        mask = np.zeros((130, 140), np.uint8)
        mask[:, : 10 if name == "a" else 20] = 1
        fits.writeto(tmp_path / f"{name}_mask.fits", mask)
        fits.writeto(tmp_path / f"{name}_rms.fits", np.full((130, 140), 5.0))
    images, noise = ([tmp_path / f"{name}{kind}.fits" for name in ("a", "b")] for kind in ("", "_rms"))
    maps = ("--rms", *noise, "--mask", tmp_path / "{stem}_mask.fits")
    assert run("segment", *images, "-o", tmp_path / "out", *QUICK, "--method", "grid", *maps) == 0
    for name, columns in (("a", 10), ("b", 20)):
        bad = np.isnan(read_segmentation(tmp_path / "out" / f"{name}_segmentation.fits")["p_galaxy"])
        assert bad[:, :columns].all() and not bad[:, columns:].any()


# -------------------------------------------------------------------------------------------- exit codes


def test_a_missing_or_broken_input_fails_and_the_others_go_on(field, tmp_path, capsys):
    broken = tmp_path / "broken.fits"
    broken.write_bytes(field.read_bytes()[:5000])
    cube = tmp_path / "cube.fits"
    fits.writeto(cube, np.zeros((2, 40, 40), np.float32))
    inputs = (tmp_path / "missing.fits", broken, cube, field)
    assert run("segment", *inputs, "-o", tmp_path / "out", *QUICK) == 1
    captured = capsys.readouterr()
    errors = captured.err.strip().splitlines()
    assert len(errors) == 3
    assert all(str(path) in line for path, line in zip(inputs, errors, strict=False))
    assert "--hdu" in errors[2] and "Traceback" not in captured.err
    assert "1 of 4 images done" in captured.out
    assert {name.split("_")[0] for name in names(tmp_path / "out")} == {"appulse.json", "field"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--model", "andromeda"), "unknown model 'andromeda'; bundled models: .*euclid"),
        (("--model", "absent.safetensors"), "no such weight file"),
        (("--samples", "0"), "samples"),
        (("--samples", "many"), "samples"),
        (("--seed", "-1"), "seed"),
        (("--method", "magic"), "(?i)method"),
        (("--catalog", "csv"), "(?i)catalog"),
        (("--operating-point", "perfect"), "operating point 'perfect'"),
        (("--rms", "a.fits", "b.fits"), "--rms has 2 files for 1 images"),
        (("night2/field.fits.gz",), "share the stem field"),
        (("--nonsense",), "nonsense"),
        (("--device", "abacus"), "(?i)device"),
    ],
    ids=lambda value: "-".join(value).strip("-") if isinstance(value, tuple) else None,
)
def test_wrong_usage_is_told_and_writes_nothing(field, tmp_path, capsys, arguments, message):
    assert run("segment", field, "-o", tmp_path / "out", *arguments) == 2
    captured = capsys.readouterr()
    text = " ".join((captured.err + captured.out).split())
    assert re.search(message, text) and "Traceback" not in text
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "arguments", [("segment",), ("segment", "field.fits"), ("segment", "-o", "out"), ("paint",)], ids=" ".join
)
def test_missing_arguments_and_unknown_verbs_are_usage_errors(arguments, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert run(*arguments) == 2
    assert names(tmp_path) == []


@pytest.mark.parametrize("option", ["--rms", "--mask"])
def test_an_option_that_took_the_image_is_named(field, tmp_path, capsys, option):
    assert run("segment", option, "map.fits", field, "-o", tmp_path / "out") == 2
    error = capsys.readouterr().err
    assert f"no image given: {option} took map.fits and {field}" in error
    assert "Put the images first" in error and not (tmp_path / "out").exists()


def test_an_image_with_its_hdu_in_brackets_is_told_of_the_option(field, tmp_path, capsys):
    assert run("segment", f"{field}[0]", "-o", tmp_path / "out") == 1
    assert f"{field} is there; choose its HDU with --hdu 0" in capsys.readouterr().err


def test_a_dry_run_writes_nothing_and_fails_where_the_run_would(field, tmp_path, capsys):
    assert run("segment", field, tmp_path / "missing.fits", "-o", tmp_path / "out", "--dry-run") == 1
    captured = capsys.readouterr()
    assert "field.fits: would write" in captured.out and "missing.fits" in captured.err
    assert not (tmp_path / "out").exists()


# ------------------------------------------------------------------------------------------ other verbs


def test_help_lists_every_verb(capsys):
    assert run("--help") == 0
    text = capsys.readouterr().out
    assert all(verb in text for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_explains_itself(verb, capsys):
    assert run(verb, "--help") == 0
    assert len(capsys.readouterr().out) > 100


def test_the_help_of_segment_names_every_option_of_the_contract(capsys):
    run("segment", "--help")
    text = capsys.readouterr().out
    options = "rms variance weight mask hdu no-background model samples seed method operating-point"
    options += " keep-realisations keep-background catalog regions device overwrite dry-run no-preview"
    assert [option for option in options.split() if f"--{option}" not in text] == []


def test_models_lists_models_and_surveys_and_prints_cards(capsys):
    assert run("models") == 0
    text = capsys.readouterr().out
    assert "euclid" in text and all(survey in text for survey in ("paper", "euclid-wide"))
    assert run("models", "euclid") == 0
    assert len(capsys.readouterr().out) > 200
    assert run("models", "andromeda") == 2
    assert "euclid" in capsys.readouterr().err


def test_models_prints_what_a_weight_file_records(tmp_path, capsys):
    model = appulse.load_model("paper")
    path = save_model(replace(model, name="mine"), tmp_path / "mine.safetensors")
    assert run("models", path) == 0
    recorded = json.loads(capsys.readouterr().out)
    assert recorded["name"] == "mine" and recorded["training"] == model.training
    assert recorded["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert set(recorded["operating_points"]) == {"balanced", "complete", "pure"}


@pytest.mark.parametrize(
    ("verb", "works", "message"),
    [
        (("segment", "f.fits"), "batch.run_batch", "what was finished is kept"),
        (("compare", "--fields", "f", "--validation", "v"), "baselines.compare.compare_detectors", "what"),
        (("calibrate", "--fields", "f"), "evaluation.calibrate.calibrate_file", "nothing is kept"),
    ],
    ids=lambda value: value[0] if isinstance(value, tuple) else "",
)
def test_a_verb_that_is_stopped_says_what_is_kept(tmp_path, monkeypatch, capsys, verb, works, message):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(f"appulse.{works}", interrupted)
    assert run(*verb, "-o", tmp_path / "out") == 130
    assert f"stopped; {message}" in capsys.readouterr().err


def test_simulate_writes_fields_once_and_a_report(tmp_path, capsys):
    arguments = ("simulate", "-o", tmp_path, "--survey", "paper", "--size", "96", "--seed", "9100")
    assert run(*arguments) == 0
    assert "9" in capsys.readouterr().out
    assert names(tmp_path) == ["field_9100_00.fits", "oracle.ecsv", "sky.json", "sky.png"]
    with fits.open(tmp_path / "field_9100_00.fits") as hdus:
        layers = {hdu.name: hdu for hdu in hdus}
        assert {"IMAGE", "FIRST", "SECOND", "ID1", "ID2", "TERNARY", "CATALOG"} <= layers.keys()
        assert layers["IMAGE"].data.shape == (96, 96)
        first, second = layers["FIRST"].data, layers["SECOND"].data
        assert (second <= first).all()
    before = (tmp_path / "field_9100_00.fits").stat().st_mtime_ns
    assert run(*arguments, "--fields", "2") == 0
    assert (tmp_path / "field_9100_00.fits").stat().st_mtime_ns == before
    assert names(tmp_path) == [
        "field_9100_00.fits",
        "field_9100_01.fits",
        "oracle.ecsv",
        "sky.json",
        "sky.png",
    ]
    capsys.readouterr()
    assert run(*arguments[:6], "5") == 2
    assert run(*arguments[:4], "andromeda") == 2
    assert "euclid-wide" in capsys.readouterr().err


def test_check_says_whether_the_model_fits(field, tmp_path, capsys):
    assert run("check", field) == 0
    text = capsys.readouterr().out
    assert "euclid" in text and "0.100 arcsec" in text and "nothing measured stands against the model" in text
    smooth = ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((150, 150)), 1.2)
    fits.writeto(tmp_path / "drizzled.fits", smooth)
    assert run("check", tmp_path / "drizzled.fits") == 1
    assert "correlate" in capsys.readouterr().out
    assert run("check") == 2 and "IMAGE is missing" in capsys.readouterr().err
    assert run("segment", tmp_path, "-o", tmp_path / "out") == 1
    assert "is a directory" in capsys.readouterr().err
    assert run("check", tmp_path / "missing.fits") == 1
    assert "no such file" in capsys.readouterr().err
    assert run("check", field, "--model", "andromeda") == 2
    assert "euclid" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------- a real process


def in_a_process(*arguments, **options):
    command = [sys.executable, "-m", "appulse", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False, **options)


def test_a_process_reports_its_version_and_usage_errors():
    version = in_a_process("--version")
    assert (version.returncode, version.stdout.strip()) == (0, appulse.__version__)
    wrong = in_a_process("segment", "field.fits")
    assert wrong.returncode == 2 and wrong.stderr == (
        "appulse: --output or -o is missing; see appulse segment --help.\n"
    )


@pytest.mark.parametrize("verb", ["segment", "simulate", "train", "calibrate", "evaluate", "compare", "demo"])
def test_an_output_that_cannot_be_is_told_before_any_work(verb, tmp_path, capsys):
    (tmp_path / "file").write_text("in the way")
    needed = {"segment": [tmp_path / "a.fits"], "train": ["--fields", tmp_path]}
    needed |= {"calibrate": ["--fields", tmp_path]}
    needed |= {name: ["--fields", tmp_path, "--validation", tmp_path] for name in ("evaluate", "compare")}
    assert run(verb, *needed.get(verb, ()), "-o", tmp_path / "file" / "out") == 2
    assert f"{tmp_path / 'file'} is a file, not a directory" in capsys.readouterr().err


def test_an_output_that_the_system_will_not_hear_of_gets_a_line_and_no_traceback(
    tmp_path, capsys, monkeypatch
):
    def told(place):
        assert run("demo", "-o", place) == 2
        return capsys.readouterr().err

    assert "aaa: File name too long; choose another directory." in told(tmp_path / ("a" * 300))
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    assert "loop: Too many levels of symbolic links" in told(tmp_path / "loop")
    stat = Path.stat

    def forbidden(path, **options):  # root may enter any folder
        if path.name == "out":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return stat(path, **options)

    monkeypatch.setattr(Path, "stat", forbidden)
    assert "out: Permission denied; choose another directory." in told(tmp_path / "closed" / "out")


def test_a_reader_that_has_seen_enough_gets_no_traceback():
    command = [sys.executable, "-m", "appulse", "models", "euclid"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_full_disk_gets_a_line_and_no_traceback():
    with open("/dev/full", "w") as full:
        command = [sys.executable, "-u", "-m", "appulse", "models", "euclid"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "appulse: the output: No space left on device.\n")


def test_results_go_where_they_are_sent_beside_a_bar_on_a_terminal(field, tmp_path):
    """Standard error is a terminal, standard output a file."""
    ours, theirs = pty.openpty()
    with open(tmp_path / "log", "wb") as log:
        command = [sys.executable, "-m", "appulse", "segment", field, "-o", tmp_path / "out", *QUICK]
        process = subprocess.Popen(list(map(str, command)), stdout=log, stderr=theirs, env=WITH_A_TERMINAL)
        os.close(theirs)
        with contextlib.suppress(OSError):  # the other end is closed
            while os.read(ours, 4096):
                pass
        assert process.wait() == 0
    os.close(ours)
    assert "2 galaxies" in (tmp_path / "log").read_text()


def test_a_link_gives_what_a_file_of_its_name_gives(field, tmp_path):
    run("segment", field, "-o", tmp_path / "plain", *QUICK)
    stored = tmp_path / "store" / "0123abcd.data"
    stored.parent.mkdir()
    field.rename(stored)
    field.symlink_to(stored)
    assert run("segment", field, "-o", tmp_path / "linked", *QUICK) == 0
    assert contents(tmp_path / "linked") == contents(tmp_path / "plain")


def test_a_loop_of_links_fails_and_the_others_go_on(field, tmp_path, capsys):
    (tmp_path / "loop.fits").symlink_to(tmp_path / "loop.fits")
    assert run("segment", tmp_path / "loop.fits", field, "-o", tmp_path / "out", *QUICK) == 1
    assert (tmp_path / "out" / "field_catalog.fits").exists()
    assert "loop.fits" in capsys.readouterr().err


def test_check_refuses_what_segment_refuses(tmp_path, capsys):
    path = write_sky(tmp_path / "a.fits", BUNIT="mag")
    for verb in (("check", path), ("segment", path, "-o", tmp_path / "out")):
        assert run(*verb) == 1
        assert "needs a linear unit" in capsys.readouterr().err


def test_a_process_writes_what_this_process_writes(done, tmp_path):
    folder, _, options = done
    finished = in_a_process("segment", folder / "field.fits", "-o", "out", *options, cwd=tmp_path)
    assert finished.returncode == 0, finished.stderr
    assert finished.stderr == ""
    assert contents(tmp_path / "out") == contents(folder / "out")


def test_evaluate_refuses_fields_that_the_model_has_seen_before_it_tunes_anything(tmp_path, capsys):
    # Whatever its name says.
    write_field(simulate_field(Survey.load("paper"), 32, seed=2000), tmp_path / "field_9000_00.fits")
    code = run("evaluate", "-o", tmp_path / "out", "--fields", tmp_path, "--validation", tmp_path, "--quick")
    assert code == 2
    assert "seed 2000" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_evaluate_refuses_nothing_for_fields_that_a_quick_run_leaves_out(tmp_path, capsys):
    for name, seed in (("field_9000_00.fits", 9000), ("field_9001_00.fits", 2000)):
        write_field(simulate_field(Survey.load("paper"), 32, seed=seed), tmp_path / name)
    code = run("evaluate", "-o", tmp_path / "out", "--fields", tmp_path, "--validation", tmp_path, "--quick")
    assert code == 2
    # The first field only, which others would be tuned on.
    assert "seed 9000 is tested on, too" in capsys.readouterr().err


def test_evaluate_looks_for_its_test_set_before_it_tunes_anything(tmp_path, capsys):
    write_field(simulate_field(Survey.load("paper"), 32, seed=9000), tmp_path / "field_9000_00.fits")
    missing = tmp_path / "set.fits"
    code = run("evaluate", "-o", tmp_path / "out", "--fields", tmp_path, "--test-set", missing, "--quick")
    assert code == 1
    error = capsys.readouterr().err
    assert "set.fits: no such file" in error and "build_test_set" in error
    missing.write_bytes((tmp_path / "field_9000_00.fits").read_bytes())
    assert run("evaluate", "-o", tmp_path / "out", "--fields", tmp_path, "--test-set", missing) == 1
    assert "not a test set" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
