"""One model for all surveys beside models trained for each: strict scores on the same unseen fields.

usage: python benchmarks/specialists.py MIXED --survey FIELDS MODEL [--survey FIELDS MODEL ...] [--samples 10]

MIXED and every MODEL are bundled names or .safetensors files, MODEL `none` where there is none; FIELDS is a
directory of `appulse simulate` of test seeds, which neither may have seen. Each field is segmented by both,
two-step, thresholds `balanced` of each. A table in Markdown with 95 % intervals, and the difference of the
two; a model that was not calibrated has thresholds of 0.5, and no error bars to speak of.
"""

import argparse
import functools
import operator

from appulse.evaluation.comparison import score_table
from appulse.evaluation.fields import read_fields, unseen_paths
from appulse.evaluation.interval_coverage import LEVEL_68, covered
from appulse.evaluation.intervals import Interval
from appulse.evaluation.scoring import Scoring, evidence_of
from appulse.network.weights import load_model
from appulse.sky import open_field

SCORES = (
    "isolated completeness",
    "isolated purity",
    "blended completeness",
    "blended purity",
    "mean IoU of isolated galaxies",
    "mean IoU of blended galaxies",
    "coverage of area, 68 %",
    "coverage of flux, 68 %",
    "calibration error of P_GALAXY",
    "calibration error of P_OVERLAP",
)


def scored(model, paths, samples):
    """Scores of a model on fields, by name."""
    scoring = Scoring(samples=samples, details=False)
    each = (evidence_of(model, field, scoring=scoring) for field in read_fields(paths))
    evidence = functools.reduce(operator.add, each)
    table = score_table(evidence, {})
    found = {row["score"]: Interval(row["value"], row["low"], row["high"]) for row in table}
    for quantity in ("area", "flux"):
        found[f"coverage of {quantity}, 68 %"] = covered(
            evidence.measured, quantity, model.calibration, LEVEL_68
        )
    for event in ("P_GALAXY", "P_OVERLAP"):
        found[f"calibration error of {event}"] = evidence.pixels[event].calibration_error()
    return found


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("mixed")
    parser.add_argument("--survey", nargs=2, action="append", required=True, metavar=("FIELDS", "MODEL"))
    parser.add_argument("--samples", type=int, default=10)
    options = parser.parse_args()
    mixed = load_model(options.mixed)
    print(f"| survey | score | {mixed.name} | trained for it | difference |")
    print("|---|---|---|---|---|")
    for fields, model in options.survey:
        paths = unseen_paths(fields, mixed)
        with open_field(paths[0]) as field:
            survey = field.survey.name
        one, other, told = scored(mixed, paths, options.samples), {}, "none"
        if model != "none":
            specialist = load_model(model)
            other, told = (
                scored(specialist, unseen_paths(fields, specialist), options.samples),
                specialist.name,
            )
        for name in SCORES:
            beside = (
                f"{told}: {other[name]} | {one[name].value - other[name].value:+.3f}" if other else "- | -"
            )
            print(f"| {survey} | {name} | {one[name]} | {beside} |", flush=True)


if __name__ == "__main__":
    main()
