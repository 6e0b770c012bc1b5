"""Writes the measured half of a model card: what stands between its headings "Scores" and "Limits".

usage: python benchmarks/card.py CARD SCORES CALIBRATION [--also SURVEY SCORES ...]

CARD         the card, with both headings; what stands outside them is left as it is.
SCORES       directory of `appulse evaluate` with --test-set: scores.json and the tables beside it.
CALIBRATION  calibration.txt of `calibrate_file`.
--also       another survey, and a directory of `appulse evaluate` on fields of it.
"""

import argparse
import json
import re
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.evaluation.comparison import PAPER_TABLE1
from appulse.network.weights import load_model

TEST_SET = (
    "isolated completeness",
    "isolated purity",
    "blended completeness",
    "blended purity",
    "blended purity, touching false",
    "unrecognised blends",
    "false blends",
    "mean IoU of isolated galaxies",
    "mean IoU of blended galaxies",
)
FIELDS = (
    *TEST_SET[:4],
    "half-and-half purity of blends",
    *TEST_SET[4:7],
    "galaxies found (masks)",
    "galaxies right (masks)",
    *TEST_SET[7:],
    "Brier score of galaxy pixels",
    "Brier score of overlap pixels",
)
# Table 1 of the paper, in its own scoring.
PAPER = {
    f"{kind} {score}": f"{value:.3f}"
    for kind, values in PAPER_TABLE1.items()
    for score, value in zip(("completeness", "purity"), values, strict=True)
}
MODE_COLUMNS = ("error_galaxy", "error_overlap", "coverage_area", "coverage_flux", "energy", "diversity")
CARD = """## Scores

A test set as the paper's, on a sky of ours (depth, density, sizes and PSF: docs/decisions/0001): isolated
and blended objects, each in a centred stamp, one pass of the network; thresholds `balanced`, strict scores
(docs/glossary.md), 95 % intervals. The paper's own scoring was more lenient, and its sky another. The
paper's purity of isolated objects is out of reach where as many blends as isolated objects are looked at:
each blend taken for one galaxy counts.

{test_set}

{test_confusion}

Whole fields ({fields}; {blends} true blends), two-step, 50 realisations, the same thresholds and detectors:

{scores}

{headline}

The largest completeness of blends, over thresholds on P_OVERLAP, at which {name} is at least as pure as a
detector (a dash: never); thresholds are read off these objects themselves:

{tradeoff}

Mean IoU by magnitude beside the ideal fit that knows the profile's family, and mean variance over
realisations inside the isolated galaxies that were found:

{magnitudes}

- Standard deviation over realisations, mean over galaxies: {border} in the outermost pixels, {core} inside;
  at the border it is the larger one in {share} of the galaxies.
- Pure-noise stamps in which nothing is found: {noise}.
- Rank correlation of spread and error of a galaxy's area over {galaxies} galaxies: {rank}; at the
  same true area: {given_area}.
- Expected calibration error over uncertain pixels: P_GALAXY {p_galaxy}, P_OVERLAP {p_overlap}; of the
  frequencies over realisations: {frequency_galaxy} and {frequency_overlap}. The project aims at 0.02.
  Noise alone would make {noise_galaxy} and {noise_overlap} of perfect probabilities, on as few objects.

{coverage}

How often a galaxy of the catalogue is a true one (its mask, by an IoU of 0.5), and one of those overlaps
another by at least 4 pixels, by the catalogue's probabilities, which are shares of realisations; behind it
how many there are:

{probabilities}

Pixels of the first field, with and without calibration:

{gain}

Modes of realisations, on a corner of that field:

{modes}

{confusion}

{notes}

{also}## Calibration

```
{calibration}
```

{points}

"""


ALSO = """### On `{survey}`

Whole fields ({fields}; {blends} true blends), as above; detectors tuned on validation fields of this survey:

{scores}

{headline}

{magnitudes}

- Pure-noise stamps in which nothing is found: {noise}.
- Rank correlation of spread and error of a galaxy's area over {galaxies} galaxies: {rank}; at the
  same true area: {given_area}.
- Expected calibration error over uncertain pixels: P_GALAXY {p_galaxy}, P_OVERLAP {p_overlap}; by noise alone
  {noise_galaxy} and {noise_overlap}.
{notes}

{coverage}

"""


def interval(value):
    number, low, high = value
    if number is None:
        return "-"
    digits = 3 if abs(number) >= 0.01 or number == 0 else 5
    return f"{number:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def table(head, rows):
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in cells)} |" for cells in lines)


def confusion(counts, where):
    rows = "\n".join("".join(f"{count:8d}" for count in row) for row in counts)
    return (
        f"Confusion of the {where} (rows: truth; columns: prediction; none, isolated, touching, blended):\n\n"
        f"```\n{rows}\n```"
    )


def at_equal_purity(scores, folder, name):
    """Where a model's curve of thresholds passes the points of the other detectors."""
    sets = (
        ("test set", "test_set_tradeoff", scores["test_set"]["detectors"]),
        ("fields", "tradeoff", scores["detectors"]),
    )
    rows = []
    for where, table_name, detectors in sets:
        curve = Table.read(folder / f"{table_name}.ecsv")
        curve = curve[curve["detector"] == name]
        for other in detectors:
            if other == name:
                continue
            purity = detectors[other]["blended purity"]
            # Without any claim there is no purity, and nothing to be as pure as.
            enough = curve[curve["purity_blended"] >= (2.0 if purity[0] is None else purity[0])]
            cells = ["-", "-"]
            if len(enough):
                best = enough[int(np.argmax(enough["completeness_blended"]))]
                low, high = (best[f"completeness_blended_{end}"] for end in ("low", "high"))
                cells = [interval((best["completeness_blended"], low, high)), f"{best['threshold']:g}"]
            completeness = detectors[other]["blended completeness"]
            rows.append([where, other, interval(purity), interval(completeness), *cells])
    return table(["on", "detector", "its purity", "its completeness", name, "threshold"], rows)


def iou_by_magnitude(folder, name):
    """Figure 2 as rows by upper edge; the oracle, in bins of its own, is interpolated between middles."""
    ious = Table.read(folder / "figure2.ecsv")

    def means(detector, kind):
        chosen = ious[(ious["detector"] == detector) & (ious["kind"] == kind)]
        return {_edge(row): row for row in chosen}

    isolated, blended = means(name, "isolated"), means(name, "blended")
    limit = ious[(ious["detector"] == "oracle") & np.isfinite(ious["mean"])]
    middles = 0.5 * np.asarray(limit["low_edge"] + limit["high_edge"])
    rows = {}
    for edge, row in isolated.items():
        if not row["n"]:
            continue
        ideal = np.interp(0.5 * (row["low_edge"] + row["high_edge"]), middles, limit["mean"])
        of_blends = f"{blended[edge]['mean']:.3f} ({blended[edge]['n']})" if blended[edge]["n"] else "-"
        magnitudes = f"{row['low_edge']:.1f} to {row['high_edge']:.1f}"
        rows[edge] = [magnitudes, f"{row['mean']:.3f} ({row['n']})", f"{ideal:.3f}", of_blends]
    return rows


IOU_HEADS = ["magnitude", "isolated (galaxies)", "ideal fit", "blended (galaxies)"]


def by_magnitude(folder, name):
    """Figures 2 and 3 as one table."""
    variance = Table.read(folder / "figure3.ecsv")
    variance = variance[variance["kind"] == "isolated"]
    spreads = [
        {_edge(row): row["mean"] for row in variance[variance["variance"] == of]}
        for of in ("class", "galaxy or sky")
    ]
    rows = [
        [*cells, *(f"{spread[edge]:.4f}" for spread in spreads)]
        for edge, cells in iou_by_magnitude(folder, name).items()
    ]
    return table([*IOU_HEADS, "variance of the class", "of galaxy or sky"], rows)


def _edge(row):
    return round(float(row["high_edge"]), 2)


def probability_table(folder):
    """Share of the catalogue's galaxies of which it is true, by each of its probabilities."""
    names = {"p_detect": "`p_detect`", "share_realised": "`n_realisations` over all", "p_blend": "`p_blend`"}
    found = Table.read(folder / "probabilities.ecsv")
    by_bin = {}
    for row in found:
        exact = row["from"] == row["to"]
        name = f"{row['from']:g}" if exact else f"{row['from']:g} to {row['to']:g}"
        share = interval(_with_bounds(row, "share")) if row["n"] else "-"
        by_bin.setdefault(name, {})[row["probability"]] = f"{share} ({row['n']})"
    rows = [[name, *(cells[each] for each in names)] for name, cells in by_bin.items()]
    return table(["probability", *names.values()], rows)


def coverage_table(scores, folder):
    """Coverage of both intervals, where the truth lies in them, and how often within value and `_std`."""
    groups = Table.read(folder / "coverage.ecsv")
    by_group = {(row["quantity"], row["group"]): row for row in groups}
    rows = [
        [
            name,
            *(
                interval(_with_bounds(by_group[name, kind], f"coverage_{level}"))
                for level in (68, 95)
                for kind in ("alone", "overlapping")
            ),
            # Not -0.00.
            *(
                f"{round(float(by_group[name, 'all'][f'pull_{of}']), 2) + 0.0:.2f}"
                for of in ("median", "width")
            ),
            *(
                interval(_with_bounds(by_group[name, kind], "within_std"))
                for kind in ("alone", "overlapping")
            ),
        ]
        for name in scores["coverage_68"]
    ]
    return (
        "Coverage of the intervals (of a flux with its pixel noise) of the galaxies that were found, of\n"
        "those that overlap no other and of those that do; pulls of all: the truth less the middle of the\n"
        "interval, over half the width of the 68 % one; and the share of the truths within the value plus\n"
        "or minus its `_std` (of a flux with its pixel noise), 0.68 for a Gaussian.\n\n"
    ) + table(
        [
            "quantity",
            "68 %, alone",
            "overlapping",
            "95 %, alone",
            "overlapping",
            "median pull",
            "width of the pulls",
            "within `_std`, alone",
            "overlapping",
        ],
        rows,
    )


def _with_bounds(row, name):
    values = (float(row[column]) for column in (name, f"{name}_low", f"{name}_high"))
    return [value if np.isfinite(value) else None for value in values]


def of_fields(scores):
    """The table of scores of whole fields."""
    detectors = scores["detectors"]
    shown = [key for key in FIELDS if all(key in each for each in detectors.values())]
    return table(
        ["", *detectors], [[key, *(interval(each[key]) for each in detectors.values())] for key in shown]
    )


def also_on(survey, folder, sha256):
    """What the same weights do on another survey."""
    scores = scores_of(folder, sha256)
    name = next(iter(scores["detectors"]))
    return ALSO.format(
        survey=survey,
        fields=scores["facts"]["fields"],
        blends=sum(scores["confusion"][3]),
        scores=of_fields(scores),
        headline=scores["headline"],
        magnitudes=table(IOU_HEADS, iou_by_magnitude(folder, name).values()),
        noise=interval(scores["detectors"][name]["pure-noise stamps without detection"]),
        galaxies=scores["matched_galaxies"],
        rank=interval(scores["area_rank_correlation"]),
        given_area=interval(scores["area_rank_correlation_given_area"]),
        p_galaxy=interval(scores["calibration_error"]["P_GALAXY"]),
        p_overlap=interval(scores["calibration_error"]["P_OVERLAP"]),
        **calibration_noise(scores),
        coverage=coverage_table(scores, folder),
        notes="\n".join(f"- {note}" for note in scores["notes"]),
    )


def calibration_noise(scores):
    noise = scores["calibration_noise"]
    return {f"noise_{event}": f"{noise[f'P_{event.upper()}']:.3f}" for event in ("galaxy", "overlap")}


def scores_of(folder, sha256):
    """What `appulse evaluate` found for these weights."""
    scores = json.loads((folder / "scores.json").read_text())
    if scores["sha256"] != sha256:
        raise SystemExit(f"{folder} scored other weights: SHA-256 {scores['sha256']}.")
    return scores


def measured(scores, folder, calibration, points, also):
    """The text between the headings."""
    detectors, stamps, errors = scores["detectors"], scores["test_set"], scores["calibration_error"]
    names = list(detectors)
    galaxies = Table.read(folder / "galaxies.ecsv")
    both = np.isfinite(galaxies["std_border"]) & np.isfinite(galaxies["std_core"])
    border, core = (np.asarray(galaxies[f"std_{place}"])[both] for place in ("border", "core"))
    gain, modes = (Table.read(folder / f"{name}.ecsv") for name in ("calibration", "modes"))
    return CARD.format(
        test_set=table(
            ["", "the paper", *names],
            [
                [key, PAPER.get(key, ""), *(interval(stamps["detectors"][name][key]) for name in names)]
                for key in TEST_SET
            ],
        ),
        test_confusion=confusion(stamps["confusion"][names[0]], "test set"),
        fields=scores["facts"]["fields"],
        blends=sum(scores["confusion"][3]),
        scores=of_fields(scores),
        headline=scores["headline"],
        name=names[0],
        tradeoff=at_equal_purity(scores, folder, names[0]),
        magnitudes=by_magnitude(folder, names[0]),
        border=f"{border.mean():.3f}",
        core=f"{core.mean():.3f}",
        share=f"{(border > core).mean():.3f}",
        noise=interval(detectors[names[0]]["pure-noise stamps without detection"]),
        galaxies=scores["matched_galaxies"],
        rank=interval(scores["area_rank_correlation"]),
        given_area=interval(scores["area_rank_correlation_given_area"]),
        **calibration_noise(scores),
        p_galaxy=interval(errors["P_GALAXY"]),
        p_overlap=interval(errors["P_OVERLAP"]),
        frequency_galaxy=interval(errors["frequency_galaxy"]),
        frequency_overlap=interval(errors["frequency_overlap"]),
        probabilities=probability_table(folder),
        coverage=coverage_table(scores, folder),
        gain=table(
            ["map", "calibrated", "Brier score", "log loss, nats", "calibration error"],
            [
                [
                    row["map"],
                    "yes" if row["calibrated"] else "no",
                    f"{row['brier']:.6f}",
                    f"{row['log_loss']:.5f}",
                    f"{row['calibration_error']:.4f}",
                ]
                for row in gain
            ],
        ),
        modes=table(
            [
                "mode",
                "error of frequencies, galaxy",
                "overlap",
                "coverage of area",
                "of flux",
                "energy score",
                "diversity",
            ],
            [[row["mode"], *(f"{row[name]:.3f}" for name in MODE_COLUMNS)] for row in modes],
        ),
        confusion=confusion(scores["confusion"], "fields"),
        notes="\n".join(f"- {note}" for note in scores["notes"]),
        also=also,
        calibration=calibration,
        points=table(
            ["operating point", "P_GALAXY", "P_OVERLAP", "smallest object, pixels"],
            [[name, point.t_galaxy, point.t_overlap, point.min_area] for name, point in points.items()],
        ),
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name in ("card", "scores", "calibration"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--also", nargs=2, action="append", default=[], metavar=("SURVEY", "SCORES"))
    options = parser.parse_args()
    model = load_model(options.card.with_suffix(".safetensors"))
    text = measured(
        scores_of(options.scores, model.sha256),
        options.scores,
        options.calibration.read_text().rstrip(),
        model.calibration.operating_points,
        "".join(also_on(survey, Path(folder), model.sha256) for survey, folder in options.also),
    )
    card, n = re.subn(
        r"^## Scores\n.*?(?=^## Limits\n)",
        lambda _: text,
        options.card.read_text(),
        flags=re.DOTALL | re.MULTILINE,
    )
    if n != 1:
        raise SystemExit(f"{options.card} has no headings Scores and Limits.")
    options.card.write_text(card)


if __name__ == "__main__":
    main()
