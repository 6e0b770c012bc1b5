"""What a model has seen, which its weight file tells, and what no run may begin with."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

from appulse.files import InputError, UsageError
from appulse.network.weights import SELECTED_ON, TRAINED_ON, Model, seen_seeds
from appulse.sky.stored_field import field_paths, open_field, seeds_of
from appulse.stamps import StampStore
from appulse.stamps.store import ABOUT, joined_digests
from appulse.training.config import TrainingConfig
from appulse.version import __version__


def refuse_run(output: Path, *, resume: bool = False) -> dict | None:
    """Raise where a run cannot begin, or go on, in a directory.

    Parameters
    ----------
    output, resume
        As `train` takes them.

    Returns
    -------
    dict or None
        Of a run that is to go on, its `held_history`.

    Raises
    ------
    InputError
        The output already holds a run, or none to resume.
    """
    there = (output / "last.ckpt").exists()
    if there and not resume:
        raise InputError(f"{output} already holds a run; go on with --resume, or choose another directory.")
    if resume and not there:
        raise InputError(f"{output}: no last.ckpt to resume from.")
    return held_history(output) if resume else None


def refuse_inputs(
    fields: str | Path,
    config: TrainingConfig,
    *,
    validation: str | Path | None = None,
    init: Model | None = None,
    held: dict | None = None,
) -> dict[str, list[int]]:
    """Raise where a run cannot begin with what it is given.

    Parameters
    ----------
    fields : str or Path
        As `train` takes them.
    config : TrainingConfig
        Recipe.
    validation : str or Path, optional
        As `train` takes it.
    init : Model, optional
        Named as it was given.
    held : dict, optional
        From `held_history`, of a run that is to go on.

    Returns
    -------
    dict of str to list of int
        ``seeds`` and ``selection_seeds``: what the trained model will have seen.

    Raises
    ------
    InputError
        No fields, a model of other stamps, no validation field or one smaller than a stamp.
    UsageError
        A validation field of a seed that is trained on.
    """
    fields = Path(fields)
    stored = (fields / ABOUT).is_file()
    trained = StampStore.open(fields).seeds if stored else seeds_of(field_paths(fields))
    if validation is not None:
        with open_field(validation) as field:
            config.stamps.refuse_small(field.shape, validation)
    if init is not None:
        try:
            dataclasses.replace(config, network=init.network.config)
        except ValueError as error:
            raise InputError(f"{init.name}: {error}.") from None
    return _seen_seeds(trained, (_before(init), held or {}), validation)


def _before(init: Model | None) -> dict:
    return {} if init is None else init.training


def _seen_seeds(
    trained: Iterable[int], before: Sequence[dict], validation: str | Path | None
) -> dict[str, list[int]]:
    # What the parent has seen, its child has seen, and what earlier legs have, later ones.
    seeds = {*trained}.union(*(seen_seeds(each, TRAINED_ON) for each in before))
    selection = set().union(*(seen_seeds(each, SELECTED_ON) for each in before))
    if validation is not None:
        with open_field(validation) as field:
            seed = int(field.seed)
        if seed in seeds:
            raise UsageError(
                f"{validation}: a field of seed {seed}, which the model is trained on, too; validate it on "
                "one of the selection seeds (1000s)."
            )
        selection.add(seed)
    return {TRAINED_ON: sorted(seeds), SELECTED_ON: sorted(selection)}


def history_of(
    store: StampStore,
    config: TrainingConfig,
    init: Model | None,
    validation: str | Path | None,
    held: dict | None = None,
) -> dict:
    """What the header of a weight file tells of its training, before that has begun.

    Parameters
    ----------
    store : StampStore
        What it learns from.
    config : TrainingConfig
        Recipe.
    init : Model, optional
        Named as it was given.
    validation : str or Path, optional
        As `train` takes it.
    held : dict, optional
        From `held_history`, of a run that goes on.

    Returns
    -------
    dict
        Plain values; among them ``seeds`` and ``selection_seeds``, with those of the model it starts from and
        of earlier legs.

    Raises
    ------
    UsageError
        A validation field of a seed that is trained on.
    """
    surveys, widths = dict(store.surveys), list(store.psf_fwhm_pixels)
    lengths = [*(config.stamps.noise_correlation or map(float, store.correlation))]
    parent, held = _before(init), held or {}
    for before in (parent, held):
        surveys = joined_digests(surveys, before.get("surveys", {}))
        widths += before.get("psf_fwhm_pixels", [])
        lengths += before.get("noise_correlation", [])
    return {
        "version": __version__,
        "recipe": config.to_dict(),
        "surveys": surveys,
        **_seen_seeds(store.seeds, (parent, held), validation),
        "fields": len(store.noise),
        "stamps_stored": len(store),
        "psf_fwhm_pixels": [min(widths), max(widths)],
        "noise_correlation": [min(lengths), max(lengths)],
        "init": held["init"] if held else Path(init.name).name if init is not None else None,
    }


def held_history(output: Path) -> dict:
    """What a run to be resumed has recorded.

    Parameters
    ----------
    output : Path
        Of the run.

    Returns
    -------
    dict
        Of ``training.json``.
    """
    return json.loads((output / "training.json").read_text())


def refuse_other_recipe(output: Path, held: dict, history: dict) -> None:
    """Raise where a run would go on with another recipe; its length may change.

    Parameters
    ----------
    output : Path
        Of the run.
    held : dict
        From `held_history`.
    history : dict
        From `history_of`, of how it shall go on.

    Raises
    ------
    InputError
        It was begun with another recipe.
    """
    # Through the configuration: a recipe of before an option was there is one with its default.
    wanted, begun = (
        TrainingConfig.from_dict(recipe).to_dict() for recipe in (history["recipe"], held["recipe"])
    )
    differing = sorted(key for key in wanted if begun[key] != wanted[key] and key != "epochs")
    if differing:
        parent = f" and --init {held['init']}" if held["init"] else ""
        raise InputError(
            f"{output} was begun with another recipe ({', '.join(differing)}); resume with the same{parent}, "
            "or start elsewhere with --init."
        )
