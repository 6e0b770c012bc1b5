"""Test fields, one after another, and never those that a model has seen."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from appulse.files import UsageError
from appulse.network.weights import Model, seen_seeds
from appulse.sky.field import Field
from appulse.sky.stored_field import field_paths, open_field, seeds_of
from appulse.sky.survey import Survey


def refuse_seen_seeds(model: Model, seeds: Iterable[int]) -> None:
    """Raise where a model would be tested on what it was trained on.

    Parameters
    ----------
    model : Model
        Its header lists seeds.
    seeds : iterable of int
        Of the fields to test on.

    Raises
    ------
    UsageError
        A field has a training, selection or calibration seed of the model.
    """
    shared = sorted(set(seeds) & seen_seeds(model.training))
    if shared:
        raise UsageError(
            f"model {model.name!r} was trained, selected or calibrated on seed "
            f"{', '.join(map(str, shared))}: its scores there would be too good. "
            "Use test seeds (9000s), or --allow-training-seeds."
        )


def unseen_paths(
    directory: str | Path, model: Model, most: int | None = None, *, allow_training_seeds: bool = False
) -> list[Path]:
    """The fields of a directory, refused by their headers where the model has seen them.

    Parameters
    ----------
    directory : str or Path
        Of simulated fields.
    model : Model
    most : int, optional
        So many of them, the first by name; by default all.
    allow_training_seeds : bool
        Whether fields that the model has seen may be scored.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        There are none, or one of them is no field.
    UsageError
        As of `refuse_seen_seeds`.
    """
    paths = field_paths(directory)[:most]
    if not allow_training_seeds:
        refuse_seen_seeds(model, seeds_of(paths))
    return paths


def refuse_tuned_seeds(validation: str | Path | None, tested: Iterable[int]) -> None:
    """Raise where detectors would be tuned on the sky that they are tested on.

    Parameters
    ----------
    validation : str or Path or None
        Directory of the fields for tuning.
    tested : iterable of int
        Seeds of the fields, and of the test set.

    Raises
    ------
    UsageError
        They share a seed.
    """
    shared = sorted(seeds_of(field_paths(validation)) & set(tested)) if validation is not None else []
    if shared:
        raise UsageError(
            f"{validation}: seed {', '.join(map(str, shared))} is tested on, too, and what is tuned there "
            "would score too well. Use validation fields of seeds of their own (2000s)."
        )


def read_fields(paths: Sequence[Path], side: int | None = None) -> Iterator[Field]:
    """Fields one after another, so that only one is held.

    Parameters
    ----------
    paths : sequence of Path
    side : int, pixels, optional
        Only the corner of this width of each.

    Yields
    ------
    Field

    Raises
    ------
    UsageError
        Close pairs were injected into a field: what is measured there holds for no real sky.
    """
    window = None if side is None else (slice(side), slice(side))
    for path in paths:
        with open_field(path) as opened:
            refuse_biased(opened.survey, path)
            yield opened.read(window)


def refuse_biased(survey: Survey, path: Path) -> None:
    """Raise where close pairs were injected into a field, or into those of a test set.

    Parameters
    ----------
    survey : Survey
        Theirs.
    path : Path
        For the message.

    Raises
    ------
    UsageError
        They were: what is measured there holds for no real sky.
    """
    if not survey.is_unbiased:
        raise UsageError(
            f"{path}: survey {survey.name!r} has injected pairs, which serve training only. "
            "Test and calibrate on fields without them."
        )
