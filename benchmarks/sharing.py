"""How well the light of true blends is shared among their galaxies: docs/decisions/0016.

Masks and light are the truth's, so that the sharing alone errs: of each galaxy with an overlap, the
noise-free light that its shares give it is compared with its own. The shares are fitted to the noisy image.

usage: python benchmarks/sharing.py FIELD.fits [FIELD.fits ...]
"""

import sys
import time

import numpy as np
from scipy import ndimage

from appulse.objects import light_shares
from appulse.objects.components import MIN_OVERLAP
from appulse.sky import read_field
from appulse.sky.true_objects import Kind, true_galaxy_masks, true_objects

MARGIN = 4
ROUNDS = (0, 1, 2, 3, 5, 10)


def blends(path):
    """Noisy image, masks and noise-free light of the galaxies of each true blend."""
    field = read_field(path)
    ternary = field.ternary()
    truth = true_objects(ternary, field.id1, field.id2)
    boxes = ndimage.find_objects(truth.labels)
    for label in np.flatnonzero((truth.kind == Kind.BLENDED) & ~truth.ignored):
        window = tuple(slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in boxes[label - 1])
        part = field.cut(window)
        classes = np.where(truth.labels[window] == label, ternary[window], 0)
        ids, found = true_galaxy_masks(classes, field.id1[window], field.id2[window])
        masks = np.zeros((len(ids), *classes.shape), bool)
        for mask, (box, inside) in zip(masks, found, strict=True):
            mask[box] = inside
        brightest = np.where(field.id1[window] == ids[:, None, None], part.first, 0)
        second = np.where(field.id2[window] == ids[:, None, None], part.second, 0)
        yield part.image / field.sigma, masks, masks * (brightest + second) / field.sigma


def main(paths):
    scenes = [scene for path in paths for scene in blends(path)]
    light_shares(*scenes[0][:2])  # compiled
    print(f"{len(scenes)} blends; error of a flux by the sharing alone, in %, and time for a blend")
    print("rounds   all: mean   90 % below   fainter: mean   brightest: mean   time, ms")
    for rounds in ROUNDS:
        errors, is_brightest = [], []
        began = time.process_time()
        shared = [light_shares(image, masks, rounds) for image, masks, _ in scenes]
        spent = 1e3 * (time.process_time() - began) / len(scenes)
        for (_, masks, light), shares in zip(scenes, shared, strict=True):
            true = light.sum(axis=(1, 2))
            given = (shares * light.sum(axis=0)).sum(axis=(1, 2))
            overlap = (masks & (masks.sum(axis=0) > 1)).sum(axis=(1, 2)) >= MIN_OVERLAP
            errors += (100 * np.abs(given - true) / true)[overlap].tolist()
            is_brightest += (true == true.max())[overlap].tolist()
        errors, is_brightest = np.array(errors), np.array(is_brightest)
        of_fainter, of_brightest = errors[~is_brightest].mean(), errors[is_brightest].mean()
        row = f"{rounds:6d} {errors.mean():11.2f} {np.quantile(errors, 0.9):12.1f}"
        print(f"{row} {of_fainter:15.2f} {of_brightest:17.2f} {spent:10.2f}")


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
