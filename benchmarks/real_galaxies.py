"""Real galaxies that are taken for two: what becomes of lone ones on a sky of real images.

usage: python benchmarks/real_galaxies.py FIELDS MODEL [MODEL ...] [--validation DIR] [--side N] [--samples 4]

FIELDS is a directory of `appulse simulate` with a survey that has `real_galaxies`, such as GalSim's COSMOS
sample, shallower than its images: their own noise makes knots. Of each field the corner of N pixels is used.
A lone galaxy is a true object of one galaxy; each MODEL is a bundled name or a .safetensors file, at
`balanced`. With validation fields SEP, and SExtractor where it is installed, stand beside them, tuned as
`appulse compare` tunes. A table in Markdown: lone galaxies of real images, and what they are taken for, with
95 % intervals; from how many images those come that are taken for blends; and how many of these the network
claims itself.
"""

import argparse
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np

from appulse.baselines import tuned_detectors
from appulse.evaluation.evidence import claim
from appulse.evaluation.intervals import wilson
from appulse.evaluation.matching import match_objects
from appulse.network.weights import load_model
from appulse.objects.components import MIN_OVERLAP
from appulse.segmentation import segment
from appulse.sky import open_field
from appulse.sky.true_objects import Kind, true_objects


def corners(folder, side):
    """The corner of each field of a directory."""
    for path in sorted(Path(folder).glob("field_*.fits")):
        with open_field(path) as field:
            yield field.read((slice(0, side), slice(0, side)))


def lone_galaxies(field, truth):
    """Labels of the true objects of one galaxy, and the image that each was drawn from; -1 is none."""
    labels = np.flatnonzero(~truth.ignored & (truth.kind == Kind.ISOLATED))
    inside = truth.labels > 0
    galaxy = np.zeros(len(truth.kind), int)
    galaxy[truth.labels[inside]] = field.id1[inside]
    return labels, np.asarray(field.galaxies(galaxy[labels])["real_index"])


def report(name, tally):
    """One row of the table."""
    n = sum(tally["kind"].values())
    blends = tally["kind"][Kind.BLENDED]
    row = [name, n, *(tally["kind"][kind] for kind in Kind), wilson(blends, n)]
    row += [len(tally["images"]), tally["network"] if "network" in tally else "-", tally["smooth"]]
    print("| " + " | ".join(map(str, row)) + " |", flush=True)


def count(tally, detection, truth, labels, images):
    """Add what became of a field's lone galaxies; returns the objects that blends are claimed on."""
    predicted = match_objects(truth.labels, detection.objects).predicted[labels]
    kinds = detection.kinds[predicted]
    real, blended = images >= 0, kinds == Kind.BLENDED
    tally["kind"].update(Kind(kind) for kind in kinds[real])
    tally["images"] |= set(images[real & blended].tolist())
    tally["smooth"] += int(np.count_nonzero(blended & ~real))
    return predicted[real & blended]


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--validation")
    parser.add_argument("--side", type=int, default=2500)
    parser.add_argument("--samples", type=int, default=4)
    options = parser.parse_args()
    models = [load_model(name) for name in options.models]
    detectors = []
    if options.validation:
        with tempfile.TemporaryDirectory() as folder:
            detectors, _ = tuned_detectors(options.validation, elsewhere=Path(folder))
    empty = {"kind": Counter(), "smooth": 0}
    tallies = [empty | {"kind": Counter(), "images": set(), "network": 0} for _ in models]
    beside = [empty | {"kind": Counter(), "images": set()} for _ in detectors]
    for field in corners(options.fields, options.side):
        truth = true_objects(field.ternary(), field.id1, field.id2)
        labels, images = lone_galaxies(field, truth)
        for model, tally in zip(models, tallies, strict=True):
            result = segment(field.image, model=model, samples=options.samples, seed=field.seed)
            point = model.operating_point("balanced")
            detection = claim(result, point)
            for label in count(tally, detection, truth, labels, images):
                own = result.p_overlap[detection.objects == label] > point.t_overlap
                tally["network"] += int(np.count_nonzero(own) >= MIN_OVERLAP)
        for detector, tally in zip(detectors, beside, strict=True):
            count(tally, detector.detect(result.image), truth, labels, images)
    kinds = [kind.name.lower().replace("none", "missed") for kind in Kind]
    heads = ["detector", "lone real galaxies", *kinds, "taken for a blend", "images of those"]
    heads += ["by the network itself", "smooth galaxies taken for a blend"]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    for detector, tally in zip([*models, *detectors], [*tallies, *beside], strict=True):
        report(detector.name, tally)


if __name__ == "__main__":
    main()
