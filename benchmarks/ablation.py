"""Ablations of the training recipe: one change at a time, same budget, same validation field, several seeds.

usage: python benchmarks/ablation.py FIELDS VALIDATION OUTPUT [--stamps N] [--seeds N] [--only NAME ...]
           [--done]

Every run is `appulse train` with a preset of its own, in a directory of its own under OUTPUT; one that is
there already is not done again, one that was stopped goes on; with --done nothing is run, and the table tells
what is there. A table in Markdown: mean over seeds and, behind it, half the distance between the best and the
worst seed. Scores are those of
`appulse.training.validation` on stamps in a grid: strict, thresholds of 0.5, latents from the prior.
"""

import argparse
import csv
import subprocess
import sys
from pathlib import Path

WIDE = "filters = [32, 64, 128, 192, 192, 192, 256]"
# Name: lines of the preset, of its table of stamps, of its table of the network.
VARIANTS = {
    "reference": ((), (), ()),
    "no normalisation, learning rate from 1e-3": (("learning_rate = 1e-3",), (), ('normalisation = "none"',)),
    "input over its maximum": ((), (), ('input_scaling = "maximum"',)),
    "Dice alone": (("cross_entropy_weight = 0.0",), (), ()),
    # Adam and the clipping see directions: with a hundredfold weight the Dice term is as good as absent.
    "cross-entropy alone": (("cross_entropy_weight = 100.0", "kl_weight = 0.2"), (), ()),
    "divergence 1e-3": (("kl_weight = 1e-3",), (), ()),
    "divergence 0.1": (("kl_weight = 0.1",), (), ()),
    "three quarters at the prior's mean": (("prior_mean_share = 0.75",), (), ()),
    "a quarter around overlaps": ((), ("overlap_share = 0.25",), ()),
    "no stamps chosen": ((), ("overlap_share = 0.0", "giant_share = 0.0"), ()),
    "no flips": ((), ("flips = false",), ()),
    "no averaging of weights": (("average_decay = 0.0",), (), ()),
    "twice as wide": ((), (), (WIDE,)),
    "three convolutions per level": ((), (), ("convolutions_per_level = 3",)),
    "three hidden layers in the combiner": ((), (), ("combiner_layers = 3",)),
    "trainable weights of the classes": (("trainable_class_weights = true",), (), ()),
    "half a nat free in each dimension": (("free_bits = 0.5",), (), ()),
    # Four times as many of them, so as much sky; scored on a grid of such stamps, which is another test.
    "stamps of 64 pixels": (("batch_size = 128",), ("size = 64",), ("stamp_size = 64",)),
    "seven poolings in the encoders": ((), (), ("encoder_poolings = 7",)),
}
COLUMNS = {
    "isolated completeness": "completeness_isolated",
    "purity": "purity_isolated",
    "blended completeness": "completeness_blended",
    "blended purity": "purity_blended",
    "Dice, overlap": "dice_overlap",
    "cross-entropy, 1e-3": "cross_entropy",
    "divergence, nats": "kl",
    "active": "active_dimensions",
    "diversity": "diversity",
}


def preset(name, stamps, seed):
    """The text of a variant's preset."""
    recipe, of_stamps, of_network = VARIANTS[name]
    # The mean is shorter than in the default: a run of a few hundred steps would end on its beginning.
    values = {"epochs": 1, "batch_size": 32, "warmup_steps": 60, "seed": seed, "average_decay": 0.98}
    values |= dict(line.split(" = ") for line in recipe)
    # As many steps, whatever the batch.
    values["stamps_per_epoch"] = stamps * int(values["batch_size"]) // 32
    lines = [f"{key} = {value}" for key, value in values.items()]
    return "\n".join([*lines, "[stamps]", *of_stamps, "[network]", *of_network]) + "\n"


def folder_of(name, seed, options):
    """Where a run lives."""
    return Path(options.output) / f"{name.replace(' ', '-').replace(',', '')}-{options.stamps}-{seed}"


def is_done(name, seed, options):
    """Whether a run came to its end."""
    return (folder_of(name, seed, options) / "model.safetensors").exists()


def run(name, seed, options):
    """Train one variant with one seed, unless that is done; its scores."""
    folder = folder_of(name, seed, options)
    if not is_done(name, seed, options):
        folder.mkdir(parents=True, exist_ok=True)
        recipe = folder / "preset.toml"
        recipe.write_text(preset(name, options.stamps, seed))
        command = [sys.executable, "-m", "appulse", "train", "-o", folder, "--fields", options.fields]
        command += ["--validation", options.validation, "--preset", recipe]
        if (folder / "last.ckpt").exists():
            command.append("--resume")
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    with open(folder / "log" / "metrics.csv", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row.get("val_cross_entropy")]
    return {column: float(rows[-1].get(f"val_{key}") or "nan") for column, key in COLUMNS.items()}


def print_table(found):
    """A row for every variant."""
    print(f"| one change | seeds | {' | '.join(COLUMNS)} |")
    print("|---" * (len(COLUMNS) + 2) + "|")
    for name, runs in found.items():
        cells = []
        for column in COLUMNS:
            values = [scores[column] * (1e3 if "1e-3" in column else 1.0) for scores in runs]
            spread = f" ({(max(values) - min(values)) / 2:.3f})" if len(values) > 1 else ""
            cells.append(f"{sum(values) / len(values):.3f}{spread}")
        print(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    sys.stdout.flush()


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields", help="directory of `appulse simulate`, training seeds")
    parser.add_argument("validation", help="field of the selection seeds")
    parser.add_argument("output", help="directory for the runs")
    parser.add_argument("--stamps", type=int, default=9600)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS), metavar="NAME")
    parser.add_argument("--done", action="store_true", help="run nothing; the table of what is there")
    options = parser.parse_args()
    found = {}
    # All variants with one seed before any with the next: a run that must end early still compares all.
    for seed in range(options.seeds):
        for name in options.only:
            if options.done and not is_done(name, seed, options):
                continue
            found.setdefault(name, []).append(run(name, seed, options))
            if not options.done:
                print(f"{name}, seed {seed}: {found[name][-1]}", file=sys.stderr, flush=True)
    print_table(found)


if __name__ == "__main__":
    main()
