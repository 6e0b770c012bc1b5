"""Every score of every detector in one table, and who is better at what."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from astropy.table import Table

from appulse.evaluation.evidence import EVENTS, GALAXY_MATCHES, Evidence
from appulse.evaluation.intervals import Interval, bootstrap, difference
from appulse.evaluation.scores import ObjectCounts
from appulse.sky.true_objects import Kind

# The paper's numbers (its Table 1): completeness and purity by kind, and by score.
PAPER_TABLE1 = {"isolated": (0.991, 0.985), "blended": (0.873, 0.936)}
PAPER = {
    "isolated completeness": PAPER_TABLE1["isolated"][0],
    "isolated purity": PAPER_TABLE1["isolated"][1],
    "blended completeness": PAPER_TABLE1["blended"][0],
    "half-and-half purity of blends": PAPER_TABLE1["blended"][1],
}
SMALLER_IS_BETTER = (
    "unrecognised blends",
    "false blends",
    "Brier score of galaxy pixels",
    "Brier score of overlap pixels",
)
# What the verdict is about: each says something that the others do not.
VERDICT = (
    "isolated completeness",
    "isolated purity",
    "blended completeness",
    "blended purity",
    "unrecognised blends",
    "galaxies found (masks)",
    "galaxies right (masks)",
    "mean IoU of isolated galaxies",
    "mean IoU of blended galaxies",
    "Brier score of galaxy pixels",
)


def score_table(evidence: Evidence, clean_noise: Mapping[str, Interval]) -> Table:
    """One row per detector and score, with its 95 % interval and the paper's number where it has one.

    Parameters
    ----------
    evidence : Evidence
        Of all fields.
    clean_noise : mapping of str to Interval
        Share of pure-noise stamps without any detection, by detector.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``score``, ``value``, ``low``, ``high``, ``paper`` (NaN where it gives none).
    """
    rows = []
    for number, (name, counts) in enumerate(evidence.counts.items()):
        scores = _object_scores(counts)
        scores["blended purity (lenient rule)"] = evidence.lenient[name].purity()
        for match in GALAXY_MATCHES:
            galaxies = evidence.galaxy_counts[name, match]
            scores[f"galaxies found ({match})"] = galaxies.completeness()
            scores[f"galaxies right ({match})"] = galaxies.purity()
        for kind in ("isolated", "blended"):
            iou = np.asarray(evidence.galaxies[f"iou_{name}"])[evidence.galaxies["kind"] == kind]
            scores[f"mean IoU of {kind} galaxies"] = bootstrap(np.mean, iou)
        for event in EVENTS:
            scores[f"Brier score of {event} pixels"] = (
                evidence.pixels[f"P_{event.upper()}"].brier()
                if number == 0
                else evidence.hard[name, event].best_brier()
            )
        if name in clean_noise:
            scores["pure-noise stamps without detection"] = clean_noise[name]
        for score, interval in scores.items():
            paper = PAPER.get(score, np.nan)
            rows.append((name, score, interval.value, interval.low, interval.high, paper))
    return Table(rows=rows, names=("detector", "score", "value", "low", "high", "paper"))


def _object_scores(counts: ObjectCounts) -> dict[str, Interval]:
    scores = {}
    for kind in (Kind.ISOLATED, Kind.BLENDED):
        for score in ("completeness", "purity"):
            scores[f"{kind.name.lower()} {score}"] = getattr(counts, score)(kind)
    scores["half-and-half purity of blends"] = counts.half_and_half_purity()
    scores["unrecognised blends"] = counts.unrecognised_blend_rate()
    scores["false blends"] = counts.false_blend_rate()
    return scores


def verdicts(scores: Table) -> Table:
    """Whether the model, the first detector, is better than each of the others, score by score.

    Parameters
    ----------
    scores : Table
        From `score_table`.

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


def headline(model: str, table: Table) -> str:
    """Say in one line whether the model beats the others, and where.

    Parameters
    ----------
    model : str
        Its name.
    table : Table
        From `verdicts`.

    Returns
    -------
    str
    """
    sentences = []
    for other in dict.fromkeys(table["detector"]):
        rows = table[table["detector"] == other]
        better, level, worse = (
            [str(score) for score in rows["score"][rows["verdict"] == verdict]]
            for verdict in ("better", "level", "worse")
        )
        beaten = len(better) > len(worse)
        parts = [
            f"{word} in {', '.join(names)}" for word, names in (("better", better), ("worse", worse)) if names
        ]
        if level:
            parts.append(f"level in {'the other ' if parts else 'all '}{len(level)} scores")
        opening = f"{model} {'beats' if beaten else 'does not beat'} {other}"
        sentences.append(
            f"{opening}{', but not everywhere' if beaten and worse else ''}: {'; '.join(parts)}."
        )
    return " ".join(sentences) or f"{model} stands alone: nothing to compare it with."
