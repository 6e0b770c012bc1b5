"""Every score of every detector in one table, and who is better at what."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence

import numpy as np
from astropy.table import Table, vstack

from appulse.evaluation.evidence import EVENTS, GALAXY_MATCHES, Evidence
from appulse.evaluation.intervals import Interval, bootstrap_mean, difference
from appulse.evaluation.scores import ObjectCounts, table1
from appulse.evaluation.truth_tables import objects_of
from appulse.sky.true_objects import Kind

# The paper's numbers (its Table 1): completeness and purity by kind, and by score.
PAPER_TABLE1 = {"isolated": (0.991, 0.985), "blended": (0.873, 0.936)}
PAPER = {
    "isolated completeness": PAPER_TABLE1["isolated"][0],
    "blended completeness": PAPER_TABLE1["blended"][0],
    "half-and-half purity of isolated": PAPER_TABLE1["isolated"][1],
    "half-and-half purity of blends": PAPER_TABLE1["blended"][1],
}
SMALLER_IS_BETTER = (
    "unrecognised blends",
    "false blends",
    "Brier score of galaxy pixels",
    "Brier score of overlap pixels",
)
# What the verdict is about: questions with a vote each, and the scores that answer them. Three scores of how
# well isophotes are placed shall not outvote two of what is found.
QUESTIONS = {
    "isolated objects": ("isolated completeness", "isolated purity"),
    "blends": ("blended completeness", "blended purity", "unrecognised blends"),
    "galaxies": ("galaxies found (masks)", "galaxies right (masks)"),
    "areas": (
        "mean IoU of isolated galaxies",
        "mean IoU of blended galaxies",
        "Brier score of galaxy pixels",
    ),
}
VERDICT = tuple(itertools.chain.from_iterable(QUESTIONS.values()))


def paper_table1(evidence: Evidence) -> Table:
    """The paper's Table 1 for every detector, its own numbers beside it.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    astropy.table.Table
        As `appulse.evaluation.table1`, with a first column ``detector``, and ``paper_completeness`` and
        ``paper_purity``.
    """
    tables = []
    for name, counts in evidence.counts.items():
        table = table1(counts)
        table.add_column([name] * len(table), name="detector", index=0)
        for number, score in enumerate(("completeness", "purity")):
            table[f"paper_{score}"] = [PAPER_TABLE1[kind][number] for kind in table["kind"]]
        tables.append(table)
    return vstack(tables, metadata_conflicts="silent")


def score_table(
    evidence: Evidence, clean_noise: Mapping[str, Interval], stamps: Evidence | None = None
) -> Table:
    """One row per detector and score, with its 95 % interval and the paper's number where it has one.

    Parameters
    ----------
    evidence : Evidence
        Of all fields.
    clean_noise : mapping of str to Interval
        Share of pure-noise stamps without any detection, by detector.
    stamps : Evidence, optional
        Of the paper's test set; see `half_and_half`.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``score``, ``value``, ``low``, ``high``, ``paper`` (NaN where it gives none).
    """
    rows = []
    for number, (name, counts) in enumerate(evidence.counts.items()):
        scores = _object_scores(counts)
        scores["half-and-half purity of isolated"] = half_and_half(evidence, stamps, name, Kind.ISOLATED)
        scores["half-and-half purity of blends"] = half_and_half(evidence, stamps, name, Kind.BLENDED)
        scores["blended purity (lenient rule)"] = evidence.lenient[name].purity()
        for match in GALAXY_MATCHES:
            galaxies = evidence.galaxy_counts[name, match]
            scores[f"galaxies found ({match})"] = galaxies.completeness()
            scores[f"galaxies right ({match})"] = galaxies.purity()
        scores |= _mean_iou(evidence, name)
        for event in EVENTS:
            scores[f"Brier score of {event} pixels"] = (
                evidence.pixels[f"P_{event.upper()}"].brier()
                if number == 0
                else evidence.hard[name, event].best_brier()
            )
        if name in clean_noise:
            scores["pure-noise stamps without detection"] = clean_noise[name]
        rows += _rows(name, scores, PAPER)
    return Table(rows=rows, names=_COLUMNS)


def stamp_score_table(stamps: Evidence) -> Table:
    """The scores that the paper's test set gives, as `score_table`: its purities need no conversion.

    Parameters
    ----------
    stamps : Evidence
        Of the test set.

    Returns
    -------
    astropy.table.Table
    """
    paper = {
        f"{kind} {score}": value
        for kind, values in PAPER_TABLE1.items()
        for score, value in zip(("completeness", "purity"), values, strict=True)
    }
    rows = []
    for name, counts in stamps.counts.items():
        rows += _rows(name, _object_scores(counts) | _mean_iou(stamps, name), paper)
    return Table(rows=rows, names=_COLUMNS)


_COLUMNS = ("detector", "score", "value", "low", "high", "paper")


def _rows(name: str, scores: Mapping[str, Interval], paper: Mapping[str, float]) -> list[tuple]:
    return [(name, score, i.value, i.low, i.high, paper.get(score, np.nan)) for score, i in scores.items()]


def half_and_half(evidence: Evidence, stamps: Evidence | None, name: str, kind: Kind) -> Interval:
    """Purity where blended objects are as many as isolated ones: what the paper's is to be compared with.

    Parameters
    ----------
    evidence : Evidence
        Of the fields.
    stamps : Evidence or None
        Of the test set, which measures it where it holds as many of both kinds.
    name : str
        Of the detector.
    kind : Kind
        ``ISOLATED`` or ``BLENDED``.

    Returns
    -------
    Interval
        Without such a test set that of blends follows from the counts of the fields; that of isolated
        objects is NaN.
    """
    counts = (evidence if stamps is None else stamps).counts[name]
    if stamps is not None and counts.n_true(Kind.ISOLATED) == counts.n_true(Kind.BLENDED):
        return counts.purity(kind)
    return counts.half_and_half_purity() if kind is Kind.BLENDED else Interval(np.nan, np.nan, np.nan)


def _mean_iou(evidence: Evidence, name: str) -> dict[str, Interval]:
    scores = {}
    for kind in ("isolated", "blended"):
        chosen = evidence.galaxies[evidence.galaxies["kind"] == kind]
        iou, groups = np.asarray(chosen[f"iou_{name}"]), objects_of(chosen)
        scores[f"mean IoU of {kind} galaxies"] = bootstrap_mean(iou, groups=groups)
    return scores


def _object_scores(counts: ObjectCounts) -> dict[str, Interval]:
    scores = {}
    for kind in (Kind.ISOLATED, Kind.BLENDED):
        for score in ("completeness", "purity"):
            scores[f"{kind.name.lower()} {score}"] = getattr(counts, score)(kind)
    scores["blended purity, touching false"] = counts.overlap_purity()
    scores["unrecognised blends"] = counts.unrecognised_blend_rate()
    scores["false blends"] = counts.false_blend_rate()
    return scores


def verdicts(scores: Table) -> Table:
    """Whether the model, the first detector, is better than each of the others, score by score.

    Parameters
    ----------
    scores : Table
        From `score_table` or `stamp_score_table`.

    Returns
    -------
    astropy.table.Table
        ``score``, ``detector``, ``model`` and ``other`` (values), ``gain`` (positive where the model is
        better), ``gain_low``, ``gain_high``, and ``verdict``: better or worse where the interval leaves out
        0, else level; no verdict without both values.
    """
    model = scores["detector"][0]
    intervals = {
        (row["detector"], row["score"]): Interval(row["value"], row["low"], row["high"]) for row in scores
    }
    rows = []
    for other in dict.fromkeys(scores["detector"][scores["detector"] != model]):
        for score in VERDICT:
            if (model, score) not in intervals:
                continue
            ours, theirs = intervals[model, score], intervals[other, score]
            if not np.isfinite([ours.value, theirs.value]).all():
                continue
            pair = (theirs, ours) if score in SMALLER_IS_BETTER else (ours, theirs)
            gain = difference(*pair)
            verdict = "better" if gain.low > 0 else "worse" if gain.high < 0 else "level"
            rows.append((score, other, ours.value, theirs.value, gain.value, gain.low, gain.high, verdict))
    names = ("score", "detector", "model", "other", "gain", "gain_low", "gain_high", "verdict")
    if not rows:
        return Table(names=names, dtype=("U1", "U1", *("f8",) * 5, "U6"))
    return Table(rows=rows, names=names)


def headline(model: str, table: Table, of_stamps: Table | None = None) -> str:
    """Say in one line whether the model beats the others, and where.

    It does with more of `QUESTIONS` won than lost: better in some of their scores and worse in none.

    Parameters
    ----------
    model : str
        Its name.
    table : Table
        From `verdicts`, on fields.
    of_stamps : Table, optional
        The same on the test set, whose many blends show what the fields do not.

    Returns
    -------
    str
    """
    sentences = []
    for other in dict.fromkeys(table["detector"]):
        better, level, worse = _by_verdict(table, other)
        beaten = _votes(better, worse) > _votes(worse, better)
        on_stamps = [] if of_stamps is None else _by_verdict(of_stamps, other)[2]
        parts = [
            f"{word} in {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names
        ]
        if level:
            number = "score" if len(level) == 1 else f"{len(level)} scores"
            parts.append(f"level in {'the other' if parts else 'all'} {number}")
        if on_stamps:
            parts.append(f"on the test set worse in {', '.join(on_stamps)}")
        opening = (
            f"{model} beats {other}"
            if beaten
            else f"{model} does not beat {other}" + ("" if better else " and is not worth using instead")
        )
        but = ", but not everywhere" if beaten and (worse or on_stamps) else ""
        sentences.append(f"{opening}{but}: {'; '.join(parts)}.")
    return " ".join(sentences) or f"{model} stands alone: nothing to compare it with."


def _votes(scores: Sequence[str], against: Sequence[str]) -> int:
    """How many questions some scores decide, without others that say the contrary."""
    return sum(
        any(score in scores for score in answers) and not any(score in against for score in answers)
        for answers in QUESTIONS.values()
    )


def _by_verdict(table: Table, other: str) -> list[list[str]]:
    rows = table[table["detector"] == other]
    return [
        [str(score) for score in rows["score"][rows["verdict"] == verdict]]
        for verdict in ("better", "level", "worse")
    ]
