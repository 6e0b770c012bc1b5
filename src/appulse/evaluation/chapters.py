"""The words of the report: what every figure and table shows, and how to read it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.evaluation.model_scores import Scores
from appulse.evaluation.report import Listing, Picture, Section
from appulse.evaluation.scores import ObjectCounts
from appulse.evaluation.tables import STAMPS, confusion_table
from appulse.sky.true_objects import Kind


def chapters(scores: Scores, tables: Mapping[str, Table], pictures: Mapping[str, Path]) -> list[Section]:
    """Every section of the report.

    Parameters
    ----------
    scores : Scores
    tables : mapping of str to Table
        By the name of their ECSV file.
    pictures : mapping of str to Path
        PNG files by name.

    Returns
    -------
    list of Section
    """
    return [
        _table1(scores, tables),
        *([] if scores.stamps is None else [_test_set(scores.stamps.counts[scores.name], tables, pictures)]),
        _against_others(tables),
        _figures(pictures, tables),
        _blends(pictures, tables),
        _probabilities(pictures, tables),
        _realisations(tables, scores),
        _intervals(pictures, tables),
        _galleries(pictures),
    ]


def _table1(scores: Scores, tables: Mapping[str, Table]) -> Section:
    order = ("detector", "kind", "completeness", "paper_completeness", "purity", "half_and_half_purity")
    shown = [name for name in order for name in (name, f"{name}_low", f"{name}_high")]
    shown = [name for name in shown if name in tables["table1"].colnames]
    table = tables["table1"][*shown, "paper_purity", "n_true", "n_predicted"]
    confusion = confusion_table({scores.name: scores.counts})
    confusion.remove_column("detector")
    fair = (
        "which is what these detections of blends would have there"
        if scores.stamps is None
        else "measured on such a set in the next chapter"
    )
    return Section(
        "Table 1",
        "An object is a connected piece of the class map. It is found if a predicted object of the same "
        "kind overlaps it with IoU of at least 0.5; one wrong kind costs completeness of one and purity of "
        "the other. Intervals hold 95 %.",
        [
            Listing(
                "table1",
                table,
                "Completeness and purity",
                "The paper's test set holds as many blended as isolated objects; compare its purity with "
                f"the half-and-half purity, {fair}. The purity beside it is that on this sky.",
            ),
            Listing(
                "confusion",
                confusion,
                f"What {scores.name} makes of every object",
                "Rows: what an object is. Columns: what it is taken for. Touching objects (several galaxies "
                "that share fewer than 4 pixels) count neither for nor against.",
            ),
        ],
    )


def _test_set(counts: ObjectCounts, tables: Mapping[str, Table], pictures: Mapping[str, Path]) -> Section:
    table1 = tables[f"{STAMPS}table1"]
    order = ("detector", "kind", "completeness", "paper_completeness", "purity", "paper_purity")
    shown = [name for name in order for name in (name, f"{name}_low", f"{name}_high")]
    shown = [name for name in shown if name in table1.colnames]
    return Section(
        "The paper's test set",
        f"{counts.n_true(Kind.ISOLATED)} isolated and {counts.n_true(Kind.BLENDED)} blended objects, each in "
        "the middle of a stamp of its own, which the network sees once. Only the central object and what is "
        "predicted on it count; the rules are those of Table 1. Other detectors find their objects in the "
        "same stamps, laid side by side with empty sky between them.",
        [
            Listing(
                f"{STAMPS}table1",
                table1[*shown, "n_true", "n_predicted"],
                "Completeness and purity beside the paper's",
                "The paper's Table 1 is for a set like this one. Objects are real neighbours in its sky, not "
                "injected pairs; how thin an overlap may be (4 pixels here), and how deep the image is, the "
                "paper does not say, and both decide the numbers of the blends. A blend taken for isolated "
                "counts against the purity of isolated objects here. The paper's 0.985 leaves hardly room "
                "for that, although 12.7 % of its blends are not found as such: they were missed altogether "
                "there, or did not count.",
            ),
            Listing(
                f"{STAMPS}confusion",
                tables[f"{STAMPS}confusion"],
                "What becomes of every object",
                "Rows: what an object is. Columns: what it is taken for. A blend taken for isolated is an "
                "unrecognised one. Row no object: predictions that touch a central object and match none.",
            ),
            Listing(
                f"{STAMPS}verdicts",
                tables[f"{STAMPS}verdicts"],
                "Against other detectors, score by score",
                "As in the next chapter.",
            ),
            Picture(
                pictures[f"{STAMPS}figure2"],
                "Figure 2 on the test set",
                "As the paper made it: intersection over union of each galaxy of a central object with the "
                "one found for it, 0 where none was. The paper: above 0.8 for isolated and above 0.55 for "
                "blended galaxies at every magnitude. Dotted: the limit of an ideal fit.",
            ),
            Picture(
                pictures[f"{STAMPS}blends"],
                "Which blends are recognised",
                "Above: IoU of the galaxies in blends. Below: share of the blends that are recognised. "
                "Separations are in half-light radii.",
            ),
            Picture(
                pictures[f"{STAMPS}tradeoff"],
                "Trade-off on the test set",
                "Completeness and purity of blends where they are as many as isolated objects. Thin overlaps "
                "that the light itself shows are claimed at any threshold. Rings mark what is in use.",
            ),
        ],
    )


def _against_others(tables: Mapping[str, Table]) -> Section:
    wide = _side_by_side(tables["comparison"])
    return Section(
        "Against other detectors",
        "The same images, the same truth, the same scores. Other detectors read a blend where two segments "
        "share at least 4 border pixels, of any light or above twice the noise as the model's galaxies do, "
        "whichever serves them better; their parameters are chosen by the objective that chose the model's "
        "thresholds, with as many trials and a refinement of the best, on validation fields where given.",
        [
            Listing(
                "verdicts",
                tables["verdicts"],
                "Score by score",
                "A gain is positive where the model is better. The verdict is better or worse only where "
                "the 95 % interval of the gain leaves out 0; the intervals treat detectors as independent, "
                "which is cautious.",
            ),
            Listing(
                "comparison",
                wide,
                "All scores",
                "Galaxies are matched one to one by their masks (IoU of at least 0.5) or centres. The "
                "lenient rule is that of the paper's precursor and serves comparison with its numbers only: "
                "a predicted blend also counts as right if its box holds two catalogued galaxies. Brier "
                "scores of detectors without probabilities are the best that two fixed probabilities could "
                "give them.",
            ),
        ],
    )


def _side_by_side(scores: Table) -> Table:
    """One row per score, one column per detector, the paper's number last."""
    names = list(dict.fromkeys(scores["detector"]))
    wide = Table({"score": list(dict.fromkeys(scores["score"]))})
    for name in names:
        rows = {row["score"]: row for row in scores[scores["detector"] == name]}
        for suffix, column in (("", "value"), ("_low", "low"), ("_high", "high")):
            wide[name + suffix] = [rows[s][column] if s in rows else np.nan for s in wide["score"]]
    paper = {row["score"]: row["paper"] for row in scores[scores["detector"] == names[0]]}
    wide["paper"] = [paper[score] for score in wide["score"]]
    return wide


def _figures(pictures: Mapping[str, Path], tables: Mapping[str, Table]) -> Section:
    return Section(
        "The paper's figures",
        "In the layout of Bretonnière et al. 2021; those of numbers are also data files (ECSV) beside this "
        "page.",
        [
            Picture(
                pictures["figure1"],
                "Figure 1: stamps",
                "From left to right: image, truth, mean and standard deviation of the realisations, and "
                "what the mean gets wrong. Rows: the stamp with most overlap, the one with most galaxy and "
                "no overlap, and the emptiest. A good model is uncertain (bright in the fourth column) "
                "where it errs (fifth), and black in both on an empty stamp.",
            ),
            Picture(
                pictures["figure2"],
                "Figure 2: IoU by magnitude",
                "Intersection over union of each galaxy's mask with the one found for it, 0 where none was. "
                "Higher is better. The dotted line: what an ideal fit to one galaxy's profile reaches, which "
                "knows nothing of how galaxies are distributed. The paper: above 0.8 for isolated and above "
                "0.55 for blended galaxies at every magnitude.",
            ),
            Picture(
                pictures["figure3"],
                "Figure 3: variance by magnitude",
                "Mean variance of the class over realisations, inside the galaxies found; dashed, the "
                "part between galaxy and sky, which should rise towards faint galaxies. The rest "
                "is doubt about overlaps, of which there may be more in bright galaxies.",
            ),
            Picture(
                pictures["figure5"],
                "Figure 5: a field",
                "The part of the first field with most overlap. The dispersion should light up where the "
                "residual does.",
            ),
            Listing(
                "figure5-data",
                tables["figure5"],
                "Figure 5 in numbers",
                "Mean residual of the pixels by their dispersion: it should rise with it.",
            ),
        ],
    )


def _blends(pictures: Mapping[str, Path], tables: Mapping[str, Table]) -> Section:
    return Section(
        "Blends",
        "Where blends are found, and what it costs to find more of them.",
        [
            Picture(
                pictures["blends"],
                "Blends by separation, flux ratio and blendedness",
                "Above: IoU of the galaxies in blends. Below: share of the true blends that are recognised "
                "as such. Close pairs, faint companions and little shared light are hard for everyone. "
                "Separations are in half-light radii.",
            ),
            Picture(
                pictures["tradeoff"],
                "Trade-off",
                "Left: completeness and purity of blends against the threshold on P_OVERLAP, with the one "
                "in use and, where validation fields were given, the best one there. Thin overlaps that the "
                "light itself shows are claimed at any threshold, so the curves level off. Right: the two "
                "against each other, for the other detectors along their deblending contrast; rings mark "
                "what is in use. Up and right is better.",
            ),
        ],
    )


def _probabilities(pictures: Mapping[str, Path], tables: Mapping[str, Table]) -> Section:
    return Section(
        "Probabilities of pixels",
        "P_GALAXY and P_OVERLAP are probabilities only if pixels with P = 0.3 are galaxy in 30 % of cases. "
        "Errors are over pixels with 0.02 < P < 0.98; intervals come from resampling squares of 256 pixels "
        "of sky.",
        [
            Picture(
                pictures["reliability"],
                "Reliability",
                "On the dotted line, what is predicted is what happens; below it, the model is too sure "
                "that there is light. Orange: the share of realisations that contain the pixel.",
            ),
            Listing(
                "pixels",
                tables["pixels"],
                "Scores of every map",
                "Smaller is better in each column. The calibration error should be at most 0.02; "
                "calibration_noise is what perfect probabilities would show on as few objects. Log loss in "
                "nats per pixel.",
            ),
            Listing(
                "calibration",
                tables["calibration"],
                "With and without calibration",
                "Maps of the first field with the calibration stored in the weight file and without it.",
            ),
        ],
    )


def _realisations(tables: Mapping[str, Table], scores: Scores) -> Section:
    length = scores.model.calibration.correlation_length
    return Section(
        "Realisations",
        "A realisation is one plausible class map. Mode latent is the paper's: the most probable class for "
        "each draw of the latent. Mode copula, the default, also lets a smooth random field (length "
        f"{length:g} pixels) threshold the probabilities.",
        [
            Listing(
                "modes",
                tables["modes"],
                "The two modes",
                "On a corner of the first field, to be compared with each other; those of all fields stand "
                "above. Error: of the frequencies over realisations. Coverage: of the 68 % intervals "
                "(those of latent not calibrated). Energy: smaller is better, for realisations that are both "
                "near the truth and as different from each other as from it.",
            ),
            Listing(
                "ensembles",
                tables["ensembles"],
                "Energy score and diversity",
                "Over the windows of the true objects, mode copula. Diversity is the mean of 1 - IoU between "
                "realisations: 0 means that all are copies.",
            ),
        ],
    )


def _intervals(pictures: Mapping[str, Path], tables: Mapping[str, Table]) -> Section:
    coverage = tables["coverage"]
    main = coverage[np.isin(coverage["group"], ("all", "alone", "overlapping"))]
    rest = coverage[~np.isin(coverage["group"], ("all", "alone", "overlapping"))]
    return Section(
        "Error bars of galaxies",
        "The truth of a quantity is the same measurement on the galaxy's own noise-free image inside its "
        "true mask. The intervals are the catalogue's, with the pixel noise of the flux added.",
        [
            Picture(
                pictures["coverage"],
                "Coverage",
                "Share of the truths inside the 68 % and 95 % intervals (dotted). Left: by quantity, for "
                "all galaxies, those alone and those that overlap another. Right: area and flux by "
                "magnitude.",
            ),
            Listing(
                "coverage",
                main,
                "Coverage and pulls",
                "A pull is the error over half the 68 % interval; its median should be 0 and its width 1. "
                "Within std: share of the truths within the value plus or minus its standard deviation "
                "(of a flux with its pixel noise); 0.68 for a Gaussian.",
            ),
            Listing(
                "coverage-bins",
                rest,
                "The same by magnitude and blendedness",
                "Few galaxies make wide intervals.",
                folded=True,
            ),
            Picture(
                pictures["ranks"],
                "Ranks of the truth",
                "Flat at the dotted line where truths are like realisations; a slope is a bias, a valley "
                "means spreads that are too small, a hill too large ones.",
            ),
            Listing(
                "probabilities",
                tables["probabilities"],
                "Whether a galaxy is there, and overlaps another",
                "Share of the catalogue's galaxies of which it is true, by the probability that the "
                "catalogue gives; the last bin holds those of which all realisations agree. Real: a true "
                "galaxy has its mask, by an IoU of at least 0.5. Overlapping: of the real ones, those that "
                "share at least 4 pixels with another. These probabilities are shares of realisations, and "
                "not calibrated. share_realised is n_realisations over the number drawn.",
            ),
        ],
    )


def _galleries(pictures: Mapping[str, Path]) -> Section:
    return Section(
        "Galleries",
        "What to look at before trusting a number.",
        [
            Picture(
                pictures["failures"],
                "The worst failures",
                "The brightest true objects that are missed or taken for something else.",
            ),
            Picture(
                pictures["uncertain"],
                "The least certain blends",
                "The objects of which closest to half of the realisations say that two galaxies overlap.",
            ),
        ],
    )
