"""Do realisations mean what they say? Modes latent and copula, for models of different losses, on one field.

usage: python benchmarks/modes.py [MODEL ...] [--field FIELD.fits] [--side 1280] [--samples 50]

A model is a bundled name or a .safetensors file, with the calibration that is stored in it; without one, the
default. Without a field, a small one like the paper's is simulated; one that a model has seen is refused. The
table is Markdown: calibration error of the frequencies over realisations (over pixels with one of 0.02 to
0.98), coverage of the 68 % intervals, energy score and diversity of objects, each with its 95 % interval.
"""

import argparse

from appulse.evaluation.fields import refuse_seen_seeds
from appulse.evaluation.modes import mode_table
from appulse.network.weights import load_model
from appulse.sky import Survey, open_field, simulate_field

COLUMNS = {
    "error_galaxy": "error, galaxy",
    "error_overlap": "error, overlap",
    "coverage_area": "coverage, area",
    "coverage_flux": "coverage, flux",
    "energy": "energy",
    "diversity": "diversity",
}


def loss_of(model):
    """Terms of the loss that a model was trained with, from its header."""
    recipe = model.training.get("recipe", {})
    if "cross_entropy_weight" not in recipe:
        return "unknown"
    entropy = recipe["cross_entropy_weight"]
    terms = ["Dice", *([f"{entropy:g} cross-entropy"] if entropy else []), f"{recipe['kl_weight']:g} KL"]
    return " + ".join(terms)


def lines_of(model, table):
    """Rows of the Markdown table, one per mode."""
    for row in table:
        cells = [model.name, loss_of(model), row["mode"]]
        for column in COLUMNS:
            value, low, high = (row[column + end] for end in ("", "_low", "_high"))
            cells.append(f"{value:.3f} ({low:.3f} to {high:.3f})")
        yield "| " + " | ".join(cells) + " |"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("models", nargs="*", default=["euclid"], metavar="MODEL")
    parser.add_argument("--field")
    parser.add_argument("--side", type=int, default=1280)
    parser.add_argument("--samples", type=int, default=50)
    options = parser.parse_args()
    if options.field:
        with open_field(options.field) as opened:
            side = slice(min(options.side, *opened.shape))
            field = opened.read((side, side))
    else:
        field = simulate_field(Survey.load("paper"), 512, seed=9000)
    models = [load_model(name) for name in options.models]
    for model in models:
        refuse_seen_seeds(model, [field.seed])
    height, width = field.image.shape
    print(
        f"{field.survey.name}, seed {field.seed}, {width} x {height} pixels, {options.samples} realisations\n"
    )
    print("| model | loss | mode | " + " | ".join(COLUMNS.values()) + " |")
    print("|" + "---|" * (3 + len(COLUMNS)))
    for model in models:
        print("\n".join(lines_of(model, mode_table(model, field, samples=options.samples))), flush=True)


if __name__ == "__main__":
    main()
