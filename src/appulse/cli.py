"""The command line: verbs, their options, and how their errors are shown."""

from __future__ import annotations

import errno
import json
import os
import shlex
import sys
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import App, CycloptsError, MissingArgumentError, Parameter, validators

from appulse.bars import field_bar, stage_bars
from appulse.heap import use_large_pages
from appulse.version import __version__

EXIT_FAILED, EXIT_USAGE = 1, 2
EXIT_PIPE = 128 + 13  # as a shell tells of SIGPIPE: of images that were to follow nothing is known
# Verbs that keep what they have finished when they are stopped.
KEEPING = ("segment", "simulate", "train", "evaluate", "compare", "demo")
# Errors of the system that are the disk's, not ours.
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE, errno.EFBIG)

app = App(
    name="appulse",
    version=__version__,
    help="Finds galaxies in FITS images, says which pixels two of them share, and how sure it is.",
    help_format="plaintext",
    suppress_keyboard_interrupt=False,  # `main` says what became of the work
)


def _check_output(_: type, directory: Path) -> None:
    from appulse.files import refuse_unwritable

    refuse_unwritable(directory)


Output = Annotated[Path, Parameter(name=("--output", "-o"), validator=_check_output)]
Files = Annotated[tuple[str, ...] | None, Parameter(consume_multiple=True, negative=())]


@app.command
def segment(
    *images: Path,
    output: Output,
    rms: Files = None,
    variance: Files = None,
    weight: Files = None,
    mask: Files = None,
    hdu: str | None = None,
    background: bool = True,
    origin: Annotated[tuple[int, int], Parameter(negative=())] = (0, 0),
    model: str = "euclid",
    samples: int = 50,
    seed: int = 0,
    method: Literal["two-step", "sliding", "grid"] = "two-step",
    operating_point: str = "balanced",
    mode: Literal["copula", "latent"] = "copula",
    keep_realisations: bool = False,
    keep_background: bool = False,
    catalog: Literal["fits", "ecsv", "parquet"] = "fits",
    regions: bool = False,
    preview: bool = True,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    block: int = 2048,
    workers: int = 1,
    dask: str | None = None,
    shard: str | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
) -> int:
    """Segment FITS images: maps of background, galaxy and overlap, and a catalogue with error bars.

    For field.fits it writes field_segmentation.fits, field_catalog.fits, field_preview.png and
    field_summary.json. The same command again goes on where it was stopped.

    Parameters
    ----------
    images
        FITS files (.fits, .fits.gz, .fits.fz); segmentations and catalogues of appulse are left out.
    output
        Directory for the products.
    rms
        Noise maps: one file per image, in order, or a template such as {stem}_rms.fits. By default the noise
        found in the image's own file; none leaves that out, and the noise is measured.
    variance
        Variance maps, in the same way.
    weight
        Inverse-variance maps, in the same way; zero is bad.
    mask
        Masks, in the same way; non-zero is bad, and none leaves out the mask in the image's own file.
    hdu
        HDU of the image, by name or number; SCI[0] is plane 0 of a cube.
    background
        Estimate and subtract the background.
    origin
        Y X of the images' first pixel in a larger one that they were cut from, in multiples of 448 pixels:
        away from the cut they then give what the larger one does.
    model
        A bundled model, or a .safetensors file.
    samples
        Realisations drawn for each object.
    seed
        Of all randomness; the same seed gives the same result.
    method
        two-step draws every object in its own centred stamp; sliding is one pass of overlapping stamps; grid
        is one pass, and fastest.
    operating_point
        Thresholds of the model: balanced; complete, for more overlaps and more false ones; or pure, for sure
        ones, as where galaxies are irregular.
    mode
        How realisations are drawn; latent is the paper's.
    keep_realisations
        Write every realisation into the segmentation file.
    keep_background
        Write the background and its noise into the segmentation file.
    catalog
        Format of the catalogue.
    regions
        Write ellipses for DS9 as well.
    preview
        Draw the picture.
    device
        Where the network runs.
    block
        Width of the blocks of work, in pixels; smaller ones need less memory, and give the same products.
    workers
        Processes on this machine.
    dask
        Address of a Dask scheduler, whose cluster sees the same files.
    shard
        I/N: this is run I of N that share the work by way of the file system (SLURM, HTCondor).
    overwrite
        Begin again in a directory that holds results of other inputs or options.
    dry_run
        Check inputs and options, print what would be written and what it takes, and stop.
    """
    from appulse.batch import BatchOptions, run_batch
    from appulse.engine.settings import Settings

    maps = {"rms": rms, "variance": variance, "weight": weight, "mask": mask}
    if not images:
        _tell_where_images_went(maps)
    options = BatchOptions(
        output=output,
        model=model,
        hdu=hdu,
        settings=Settings(
            samples=samples,
            seed=seed,
            method=method,
            operating_point=operating_point,
            mode=mode,
            subtract_background=background,
            origin=origin,
            device=device,
            block=block,
        ),
        keep_realisations=keep_realisations,
        keep_background=keep_background,
        catalog_format=catalog,
        regions=regions,
        preview=preview,
    )
    with field_bar() as progress:
        return run_batch(
            images,
            maps,
            options,
            overwrite=overwrite,
            dry_run=dry_run,
            workers=workers,
            dask=dask,
            shard=shard,
            progress=progress,
        )


def _tell_where_images_went(maps: dict[str, tuple[str, ...] | None]) -> None:
    """An option of several files takes all that follow it, images too."""
    from appulse.files import UsageError

    for kind, files in maps.items():
        if files:
            took = " and ".join(files) if len(files) < 3 else f"{len(files)} files"
            raise UsageError(
                f"no image given: --{kind} took {took}. Put the images first: "
                f"appulse segment IMAGE [IMAGE ...] --{kind} F -o DIR"
            )


@app.command
def simulate(
    *,
    output: Output,
    survey: str = "euclid-wide",
    size: int = 4096,
    fields: int = 1,
    seed: int = 0,
    workers: int | None = None,
    dask: str | None = None,
) -> int:
    """Simulate fields of a survey: noisy image, noise-free layers, true class map and catalogue.

    Writes field_SSSS_FF.fits (seed, number), sky.json and sky.png. The same command again goes on where it
    was stopped; fields that are there already are kept.

    Parameters
    ----------
    output
        Directory for the fields.
    survey
        A bundled survey (appulse models lists them), or a TOML file.
    size
        Width and height of a field, in pixels.
    fields
        How many.
    seed
        0 to 999 to train on, 1000s to select with, 2000s to calibrate with, 9000s to test on.
    workers
        Processes; by default one for each CPU. The result does not depend on them.
    dask
        Address of a Dask scheduler whose workers draw instead; they must see the same directory.
    """
    from appulse.sky.simulate import simulate_fields

    with stage_bars() as progress:
        reports = simulate_fields(
            output,
            survey,
            size=size,
            fields=fields,
            seed=seed,
            workers=workers,
            dask=dask,
            progress=progress,
            say=print,
        )
    print("\n\n".join(map(str, reports)))
    return 0


@app.command
def train(
    *,
    output: Output,
    fields: Path,
    validation: Path | None = None,
    calibration: Path | None = None,
    preset: str = "default",
    init: str | None = None,
    resume: bool = False,
    workers: int | None = None,
) -> int:
    """Train a model on simulated fields; writes model.safetensors, the log and curves.png.

    Parameters
    ----------
    output
        Directory of the run; its name becomes the model's.
    fields
        Directory of simulated fields to train on. Stamps are cut from them once, into a folder stamps-*
        beside them that later runs share.
    validation
        A simulated field (seeds 1000s) that is scored after every epoch.
    calibration
        Directory of simulated fields (seeds 2000s): thresholds, probabilities and error bars are fitted on
        them at the end and stored in the weight file.
    preset
        default, paper, mixed, or a TOML file, in which `preset = "paper"` names what it changes.
    init
        Start from this model, bundled or a file (fine-tuning). It brings its architecture; the recipe may add
        convolutions per level.
    resume
        Go on from the last checkpoint.
    workers
        Processes that cut the stamps, of 1 GB of memory each, by default up to one for each CPU; and that
        share the fields of --calibration, of a few GB each, by default one.
    """
    from appulse.training.config import TrainingConfig
    from appulse.training.fit import WORKING_MEMORY
    from appulse.training.run import train as run_training

    use_large_pages(WORKING_MEMORY)
    with stage_bars() as progress:
        path, report = run_training(
            output,
            fields,
            TrainingConfig.load(preset),
            validation=validation,
            calibration=calibration,
            init=init,
            resume=resume,
            workers=workers,
            progress=progress,
            say=lambda line: print(line, file=sys.stderr),
        )
    if report is not None:
        print(report)
    print(f"wrote {path}")
    return 0


@app.command
def calibrate(
    *,
    output: Output,
    fields: Path,
    model: str = "euclid",
    half: bool = False,
    workers: int = 1,
) -> int:
    """Fit a model's thresholds, probabilities and error bars to another sky; nothing is trained.

    Writes model.safetensors, for --model of the other commands, and calibration.txt, what was fitted. This
    takes minutes, where training takes hours: try it first when a model finds the galaxies of your survey but
    its probabilities are off there.

    Parameters
    ----------
    output
        Directory for the calibrated model; its name becomes the model's.
    fields
        Directory of simulated fields (seeds 2000s) of your survey, with some thousand galaxies.
    model
        A bundled model, or a .safetensors file.
    half
        Round the weights to half precision: a file half as large, as those of the bundled models are.
    workers
        Processes that share the fields, of a few GB of memory each.
    """
    from appulse.evaluation.calibrate import calibrate_file
    from appulse.files import InputError

    path = output / "model.safetensors"
    if path.exists():
        raise InputError(f"{output} already holds a model; choose another directory.")
    with stage_bars() as progress:
        print(calibrate_file(model, fields, path, half=half, workers=workers, progress=progress))
    print(f"wrote {path}")
    return 0


@app.command
def evaluate(
    *,
    output: Output,
    fields: Path,
    test_set: Path | None = None,
    validation: Path | None = None,
    model: str = "euclid",
    method: Literal["two-step", "grid"] = "two-step",
    samples: Annotated[int | None, Parameter(validator=validators.Number(gte=2))] = None,
    quick: bool = False,
    workers: int = 1,
    allow_training_seeds: bool = False,
) -> int:
    """Score a model on simulated fields beside other detectors: the paper's table and figures, and more.

    Writes report.html, which holds everything, and its tables and figures as table1.ecsv, figure2.png and so
    on, and prints the scores.

    Parameters
    ----------
    output
        Directory for the report.
    fields
        Directory of simulated fields (seeds 9000s).
    test_set
        Besides, a set of as many isolated as blended objects in stamps of their own, as the paper tests on: a
        FITS file that appulse.stamps.build_test_set makes from fields.
    validation
        Directory of simulated fields (seeds 2000s) on which the other detectors are tuned; without it they
        run with their default parameters. What is chosen is kept there for later runs.
    model
        A bundled model, or a .safetensors file.
    method
        As in appulse segment.
    samples
        Realisations; 50, or 16 for a quick run.
    quick
        Take a part of one field, and of the test set, only: a first look, in about two minutes.
    workers
        Processes that take fields, and parts of the test set; the scores do not depend on them.
    allow_training_seeds
        Score fields that the model was trained on all the same.
    """
    from appulse.baselines.tuning import tuned_detectors
    from appulse.evaluation.run import FULL, QUICK, evaluate_model, unseen_sky
    from appulse.network.weights import load_model

    effort = (QUICK if quick else FULL).drawing(method, samples)
    loaded = load_model(model)
    # Not after minutes of tuning.
    unseen_sky(loaded, fields, test_set, validation, effort=effort, allow_training_seeds=allow_training_seeds)
    with stage_bars() as progress:
        detectors, notes = tuned_detectors(
            validation,
            side=effort.side,
            fields=effort.fields,
            elsewhere=output,
            workers=workers,
            progress=progress,
        )
        scores = evaluate_model(
            output,
            fields,
            loaded,
            detectors,
            test_set=test_set,
            validation=validation,
            notes=notes,
            effort=effort,
            workers=workers,
            allow_training_seeds=allow_training_seeds,
            command=shlex.join(["appulse", *sys.argv[1:]]),
            progress=progress,
        )
    print(scores)
    if quick:
        print("a quick look at a part of one field: do not quote it")
    print(f"wrote {output / 'report.html'}")
    return 0


@app.command
def compare(
    *,
    output: Output,
    fields: Path,
    validation: Path,
    model: str = "euclid",
    trials: int = 96,
) -> int:
    """Score the model and every installed detector, tuned, on the same fields, side by side.

    Parameters
    ----------
    output
        Directory for the scores.
    fields
        Directory of simulated fields (seeds 9000s).
    validation
        Directory of simulated fields (seeds 2000s) on which the other detectors are tuned.
    model
        A bundled model, or a .safetensors file.
    trials
        Parameter sets tried for each.
    """
    from appulse.baselines.compare import compare_detectors

    with stage_bars() as progress:
        print(compare_detectors(output, fields, validation, model, trials=trials, progress=progress))
    return 0


@app.command
def check(
    image: Path,
    *,
    hdu: str | None = None,
    model: str = "euclid",
) -> int:
    """Measure an image and say whether a model fits it: noise, its correlation, stellar width, density.

    Parameters
    ----------
    image
        FITS file.
    hdu
        HDU of the image.
    model
        A bundled model, or a .safetensors file.
    """
    from appulse.check import check_image

    report = check_image(image, hdu=hdu, model=model)
    print(report)
    return 0 if report.fits else EXIT_FAILED


@app.command
def models(name: str | None = None) -> int:
    """List the bundled models and surveys, or print a model's card.

    Parameters
    ----------
    name
        A bundled model; of a .safetensors file, which has no card, what it records is printed.
    """
    from appulse.network.bundled import model_card, model_names
    from appulse.sky.survey import Survey, survey_names

    if name in model_names():
        print(model_card(name))
        return 0
    if name is not None:
        from appulse.network.weights import load_model

        model = load_model(name)
        points = model.calibration.to_dict()["operating_points"]
        recorded = {"name": model.name, "sha256": model.sha256, "operating_points": points}
        print(json.dumps({**recorded, "training": model.training}, indent=2))
        return 0
    print("models:")
    for each in model_names():
        title = model_card(each).splitlines()[0].lstrip("# ")
        print(f"  {each:16s} {title}")
    print("surveys:")
    for each in survey_names():
        print(f"  {each:16s} {Survey.load(each).description}")
    return 0


@app.command
def demo(*, output: Output, size: int = 1024) -> int:
    """Simulate a Euclid-like field and take the real Hubble Deep Field, segment both, and show what came out.

    Parameters
    ----------
    output
        Directory for everything.
    size
        Width of the simulated field, in pixels.
    """
    from appulse.demo import run_demo

    with stage_bars() as progress:
        print(run_demo(output, size=size, progress=progress))
    return 0


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 some inputs failed, 2 usage.

    Parameters
    ----------
    arguments : list of str, optional
        By default those of the process.
    """
    from appulse.files import InputError, UsageError

    use_large_pages()
    try:
        status = app(arguments, exit_on_error=False, print_error=False, result_action="return_value")
    except (CycloptsError, UsageError) as error:
        print(f"appulse: {_in_words(error)}", file=sys.stderr)
        sys.exit(EXIT_USAGE)
    except InputError as error:
        print(f"appulse: {error}", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except BrokenPipeError:  # appulse models euclid | head
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the flush at exit must not fail, too
        sys.exit(EXIT_PIPE)
    except OSError as error:
        if error.errno not in OF_THE_DISK:
            raise
        print(f"appulse: {error.filename or 'the output'}: {error.strerror}.", file=sys.stderr)
        sys.exit(EXIT_FAILED)
    except KeyboardInterrupt:
        verb = next(iter(arguments or sys.argv[1:]), "")
        kept = "what was finished is kept" if verb in KEEPING else "nothing is kept"
        print(f"appulse: stopped; {kept}.", file=sys.stderr)
        sys.exit(130)
    sys.exit(status)


def _in_words(error: Exception) -> str:
    # Of an option that is not there at all, cyclopts says that it requires an argument.
    if not isinstance(error, MissingArgumentError) or error.argument is None or error.keyword is not None:
        return str(error)
    argument, verb = error.argument, " ".join(error.command_chain or ())
    name = " or ".join(argument.names)
    if argument.index is not None:  # given by its place
        name = argument.name.removeprefix("--").upper()
    return f"{name} is missing; see appulse {verb} --help."


if __name__ == "__main__":
    main()
