"""Real galaxies that are taken for two: what becomes of lone ones on a sky of real images.

usage: python benchmarks/real_galaxies.py FIELDS MODEL [MODEL ...] [--validation DIR] [--side N] [--samples 4]
           [--operating-points balanced pure]

FIELDS is a directory of `appulse simulate` with a survey that has `real_galaxies`, such as GalSim's COSMOS
sample, shallower than its images: their own noise makes knots. Of each field the corner of N pixels is used.
A lone galaxy is a true object of one galaxy; each MODEL is a bundled name or a .safetensors file, at each of
the operating points. With validation fields SEP, and SExtractor where it is installed, stand beside them,
tuned as `appulse compare` tunes. A table in Markdown: lone galaxies of real images, and what they are taken
for, with 95 % intervals; from how many images those come that are taken for blends; and how many of these the
network claims itself.
"""

import argparse
import tempfile
from collections import Counter
from dataclasses import dataclass, field
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
from appulse.sky.stored_field import field_paths
from appulse.sky.true_objects import Kind, true_objects


@dataclass
class Tally:
    """What a detector takes lone galaxies for.

    Parameters
    ----------
    kinds : Counter
        Of those with real images, by `Kind`.
    images : set of int
        That those come from which are taken for blends.
    network : int
        How many of those the network claims itself.
    smooth : int
        Galaxies of a smooth profile that are taken for blends.
    """

    kinds: Counter = field(default_factory=Counter)
    images: set = field(default_factory=set)
    network: int = 0
    smooth: int = 0

    def add(self, detection, truth, labels, images):
        """Add a field's lone galaxies; returns the objects that blends are claimed on."""
        predicted = match_objects(truth.labels, detection.objects).predicted[labels]
        kinds = detection.kinds[predicted]
        real, blended = images >= 0, kinds == Kind.BLENDED
        self.kinds.update(Kind(kind) for kind in kinds[real])
        self.images |= set(images[real & blended].tolist())
        self.smooth += int(np.count_nonzero(blended & ~real))
        return predicted[real & blended]

    def row(self, network):
        """Of the table."""
        n, blends = self.kinds.total(), self.kinds[Kind.BLENDED]
        counts = [self.kinds[kind] for kind in Kind]
        return [
            n,
            *counts,
            wilson(blends, n),
            len(self.images),
            self.network if network else "-",
            self.smooth,
        ]


def lone_galaxies(field, truth):
    """Labels of the true objects of one galaxy, and the image that each was drawn from; -1 is none."""
    labels = np.flatnonzero(~truth.ignored & (truth.kind == Kind.ISOLATED))
    inside = truth.labels > 0
    galaxy = np.zeros(len(truth.kind), int)
    galaxy[truth.labels[inside]] = field.id1[inside]
    return labels, np.asarray(field.galaxies(galaxy[labels])["real_index"])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields")
    parser.add_argument("models", nargs="+")
    parser.add_argument("--validation")
    parser.add_argument("--side", type=int, default=2500)
    parser.add_argument("--samples", type=int, default=4)
    parser.add_argument("--operating-points", nargs="+", default=["balanced", "pure"])
    options = parser.parse_args()
    models = [(load_model(name), point) for name in options.models for point in options.operating_points]
    detectors = []
    if options.validation:
        with tempfile.TemporaryDirectory() as folder:
            detectors, _ = tuned_detectors(options.validation, elsewhere=Path(folder))
    tallies, beside = [Tally() for _ in models], [Tally() for _ in detectors]
    for path in field_paths(options.fields):
        with open_field(path) as opened:
            sky = opened.read((slice(0, options.side), slice(0, options.side)))
        truth = true_objects(sky.ternary(), sky.id1, sky.id2)
        labels, images = lone_galaxies(sky, truth)
        for (model, name), tally in zip(models, tallies, strict=True):
            result = segment(
                sky.image, model=model, samples=options.samples, seed=sky.seed, operating_point=name
            )
            point = model.operating_point(name)
            detection = claim(result, point)
            for label in tally.add(detection, truth, labels, images):
                own = result.p_overlap[detection.objects == label] > point.t_overlap
                tally.network += int(np.count_nonzero(own) >= MIN_OVERLAP)
        for detector, tally in zip(detectors, beside, strict=True):
            tally.add(detector.detect(result.image), truth, labels, images)
    kinds = [kind.name.lower().replace("none", "missed") for kind in Kind]
    heads = ["detector", "lone real galaxies", *kinds, "taken for a blend", "images of those"]
    heads += ["by the network itself", "smooth galaxies taken for a blend"]
    print("| " + " | ".join(heads) + " |")
    print("|" + "---|" * len(heads))
    rows = [
        (f"{model.name}, {point}", tally.row(network=True))
        for (model, point), tally in zip(models, tallies, strict=True)
    ]
    rows += [(each.name, tally.row(network=False)) for each, tally in zip(detectors, beside, strict=True)]
    for name, row in rows:
        print("| " + " | ".join(map(str, [name, *row])) + " |")


if __name__ == "__main__":
    main()
