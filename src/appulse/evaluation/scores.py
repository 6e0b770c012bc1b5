"""Completeness and purity of objects: counts first, ratios last, so that fields pool."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from appulse.evaluation.detection import Detection
from appulse.evaluation.intervals import DEFAULT_CONFIDENCE, Interval, bounded, wilson
from appulse.evaluation.matching import ObjectMatch, excluded_predictions, match_objects
from appulse.sky.true_objects import Kind, TrueObjects


@dataclass(frozen=True, eq=False)
class ObjectCounts:
    """How often true objects of each kind were predicted as each kind.

    Counts of several fields pool by ``+`` (``sum(counts, start=ObjectCounts.empty())``).

    Parameters
    ----------
    table : (4, 4) int64 array, indexed by :class:`Kind`
        ``table[true, predicted]``. Column ``NONE``: true objects that were missed. Row ``NONE``: predicted
        objects that match nothing. ``table[NONE, NONE]`` is 0. Ignored true objects, and the predictions tied
        to them (:func:`excluded_predictions`), are not in the table.
    stray_blends : int
        Of the predicted blends that match nothing, those that lie on a true blend: pieces of it, say.

    Notes
    -----
    The strict scores: a true object counts as found only if the matched prediction (IoU >= 0.5) is of the
    same kind. Touching objects (several galaxies, hardly a shared pixel) are reported apart, in the table:
    to call them isolated or blended is neither right nor wrong, so predictions matched to them do not enter
    the purity of either.
    """

    table: np.ndarray
    stray_blends: int = 0

    @classmethod
    def empty(cls) -> ObjectCounts:
        """Counts of no field at all."""
        return cls(np.zeros((len(Kind), len(Kind)), dtype=np.int64))

    def __add__(self, other: ObjectCounts) -> ObjectCounts:
        return ObjectCounts(self.table + other.table, self.stray_blends + other.stray_blends)

    def n_true(self, kind: Kind) -> int:
        """Count the true objects of a kind that are not ignored."""
        return int(self.table[kind].sum())

    def n_predicted(self, kind: Kind) -> int:
        """Count the predicted objects of a kind that enter its purity: not those matched to touching ones."""
        return int(self.table[:, kind].sum() - self.table[Kind.TOUCHING, kind])

    def completeness(self, kind: Kind) -> Interval:
        """Share of the true objects of a kind that are matched to a predicted object of this kind.

        Parameters
        ----------
        kind : Kind
            ``ISOLATED`` or ``BLENDED``.

        Returns
        -------
        Interval
            Wilson's; NaN without such objects.
        """
        return wilson(int(self.table[kind, kind]), self.n_true(kind))

    def purity(self, kind: Kind) -> Interval:
        """Share of the predicted objects of a kind that are matched to a true object of this kind.

        Parameters
        ----------
        kind : Kind
            ``ISOLATED`` or ``BLENDED``.

        Returns
        -------
        Interval
            Wilson's; NaN without such predictions.
        """
        return wilson(int(self.table[kind, kind]), self.n_predicted(kind))

    def f_score(self, kind: Kind) -> float:
        """Harmonic mean of completeness and purity, 0 when nothing of this kind is right."""
        n_right = int(self.table[kind, kind])
        return 2 * n_right / (self.n_true(kind) + self.n_predicted(kind)) if n_right else 0.0

    def false_blend_rate(self) -> Interval:
        """Share of the true isolated objects that are predicted as blended."""
        n_false = int(self.table[Kind.ISOLATED, Kind.BLENDED])
        return wilson(n_false, self.n_true(Kind.ISOLATED))

    def unrecognised_blend_rate(self) -> Interval:
        """Share of the true blended objects that are predicted as isolated: an overlap, one detection."""
        n_unrecognised = int(self.table[Kind.BLENDED, Kind.ISOLATED])
        return wilson(n_unrecognised, self.n_true(Kind.BLENDED))

    def overlap_purity(self) -> Interval:
        """Purity of blends in which a claim on objects that only touch is false."""
        claims = self.table[:, Kind.BLENDED]
        return wilson(int(claims[Kind.BLENDED]), int(claims.sum()))

    def blend_purity_at(self, prevalence: float) -> Interval:
        """Purity of blends on a sky where blends are another share of the isolated and blended objects.

        With the completeness of blends c, the false blends per true blend g (those that match nothing and lie
        on one), the others per true isolated object f (isolated objects predicted as blended, and predicted
        blends that match nothing elsewhere) and the prevalence q, the purity is
        ``q c / (q (c + g) + (1 - q) f)``.

        Parameters
        ----------
        prevalence : float
            Share of blended objects among the isolated and blended, between 0 and 1.

        Returns
        -------
        Interval
            Bounds from Jeffreys posteriors of c (a proportion, beta) and f (a rate, gamma), and the posterior
            of g that is 0 where none was seen, drawn with a fixed seed. NaN if either kind is absent.
        """
        n_isolated, n_blended = self.n_true(Kind.ISOLATED), self.n_true(Kind.BLENDED)
        if not n_isolated or not n_blended:
            return Interval(np.nan, 0.0, 1.0)
        n_right = int(self.table[Kind.BLENDED, Kind.BLENDED])
        n_false = int(self.table[[Kind.ISOLATED, Kind.NONE], Kind.BLENDED].sum()) - self.stray_blends

        def purity(completeness: np.ndarray, strays: np.ndarray, false_rate: np.ndarray) -> np.ndarray:
            right = prevalence * completeness
            wrong = prevalence * strays + (1 - prevalence) * false_rate
            return np.divide(right, right + wrong, out=np.full_like(right, np.nan), where=right + wrong > 0)

        rng = np.random.default_rng(0)
        completeness = rng.beta(n_right + 0.5, n_blended - n_right + 0.5, 20_000)
        false_rate = rng.gamma(n_false + 0.5, size=20_000) / n_isolated
        # Half a stray, as Jeffreys has it, would be much of what a hundred blends are wrong in.
        strays = rng.gamma(self.stray_blends, size=20_000) / n_blended
        tail = (1 - DEFAULT_CONFIDENCE) / 2
        low, high = np.quantile(purity(completeness, strays, false_rate), [tail, 1 - tail])
        measured = n_right / n_blended, self.stray_blends / n_blended, n_false / n_isolated
        value = float(purity(*map(np.array, measured)))
        # The posterior's quantile excludes the ends; the closed form may lie on them.
        return Interval(value, float(np.fmin(low, value)), float(np.fmax(high, value)))

    def half_and_half_purity(self) -> Interval:
        """Purity of blends on the paper's test set of as many isolated as blended objects (its section 4).

        ``c / (c + g + f)``: :meth:`blend_purity_at` with a prevalence of one half. Compare this with the
        paper's 93.6 %, never the purity on an unbiased sky.
        """
        return self.blend_purity_at(0.5)


def tally(
    truth: TrueObjects, match: ObjectMatch, predicted_kinds: np.ndarray, excluded: np.ndarray
) -> ObjectCounts:
    """Fill the table from a match; the matching itself does not look at the predicted kinds.

    Parameters
    ----------
    truth : TrueObjects
    match : ObjectMatch
    predicted_kinds : (n_predicted + 1,) int array
        :class:`Kind` of each predicted object; ``NONE`` drops the object.
    excluded : (n_predicted + 1,) bool array
        From :func:`excluded_predictions`.

    Returns
    -------
    ObjectCounts
    """
    table = ObjectCounts.empty().table
    counted = ~truth.ignored
    counted[0] = False
    np.add.at(table, (truth.kind[counted], predicted_kinds[match.predicted[counted]]), 1)
    false = (match.true == 0) & ~excluded
    false[0] = False
    np.add.at(table[Kind.NONE], predicted_kinds[false], 1)
    table[Kind.NONE, Kind.NONE] = 0
    on_blends = false & (truth.kind[match.best_true] == Kind.BLENDED)
    return ObjectCounts(table, int(np.count_nonzero(on_blends & (predicted_kinds == Kind.BLENDED))))


def count_objects(truth: TrueObjects, detection: Detection) -> ObjectCounts:
    """Score a detection against the true objects of the same image.

    Parameters
    ----------
    truth : TrueObjects
    detection : Detection

    Returns
    -------
    ObjectCounts
    """
    match = match_objects(truth.labels, detection.objects)
    excluded = excluded_predictions(truth, detection.objects, match)
    return tally(truth, match, detection.kinds, excluded)


def table1(counts: ObjectCounts) -> Table:
    """The paper's Table 1: strict completeness and purity of isolated and blended objects.

    Parameters
    ----------
    counts : ObjectCounts

    Returns
    -------
    astropy.table.Table
        Columns kind, completeness, completeness_low, completeness_high, purity, purity_low, purity_high,
        n_true, n_predicted; one row per kind. The bounds are Wilson's.
    """
    rows = []
    for kind in (Kind.ISOLATED, Kind.BLENDED):
        row: dict[str, object] = {"kind": kind.name.lower()}
        row |= bounded("completeness", counts.completeness(kind)) | bounded("purity", counts.purity(kind))
        rows.append(row | {"n_true": counts.n_true(kind), "n_predicted": counts.n_predicted(kind)})
    return Table(rows=rows, meta={"confidence": DEFAULT_CONFIDENCE})


def format_table(counts: ObjectCounts) -> str:
    """Write out the whole table of true against predicted kinds.

    Parameters
    ----------
    counts : ObjectCounts

    Returns
    -------
    str
        One line per true kind (the last: predictions that match nothing), one column per predicted kind.
    """
    names = [kind.name.lower() for kind in Kind]
    lines = [f"{'true':<12}" + "".join(f"{name:>10}" for name in ["missed", *names[1:]])]
    for kind in (Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED):
        lines.append(f"{names[kind]:<12}" + "".join(f"{count:>10}" for count in counts.table[kind]))
    lines.append(f"{'no object':<12}{'':>10}" + "".join(f"{count:>10}" for count in counts.table[0, 1:]))
    return "\n".join(lines)
