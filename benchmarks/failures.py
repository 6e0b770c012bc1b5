"""What bounds the recognition of blends: the paper's test set beside an ideal fit.

usage: python benchmarks/failures.py SCORES TESTSET [--recognised N] [--workers N]

SCORES is the directory of `appulse evaluate --test-set TESTSET`. Of the blends of two galaxies, all that the
model did not recognise are looked at, and N of those that it did, weighted to stand for all of them. The
ideal fit (`appulse.sky.blend_oracle`) claims as few false blends as the model does on isolated objects.
Printed: recognised shares by what is knowable, by separation, flux ratio and signal-to-noise of the fainter
galaxy; and a logistic model of the failures.
"""

import argparse
import itertools
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from astropy.table import Table
from scipy.optimize import minimize

from appulse.sky.blend_oracle import claim_limit, recognised, single_galaxy_misfit
from appulse.sky.oracle import half_width, model_image
from appulse.sky.rendering import Renderer
from appulse.stamps import read_test_set

BINS = {
    "chi squared of one galaxy": ("misfit", (0, 30, 100, 300, 1000, 3000, np.inf)),
    "separation, pixels": ("separation", (0, 2, 4, 6, 9, 13, np.inf)),
    "separation over size": ("separation_over_size", (0, 0.5, 1, 1.5, 2, 3, np.inf)),
    "flux, fainter over brighter": ("flux_ratio", (0, 0.03, 0.1, 0.3, 0.6, 1.01)),
    "S/N of the fainter": ("snr", (0, 20, 40, 80, 160, np.inf)),
}
FEATURES = {"log misfit": "misfit", "log separation over size": "separation_over_size"}
FEATURES |= {"log flux ratio": "flux_ratio", "log S/N of the fainter": "snr"}


def parameters(row):
    """A galaxy of the catalogue, as `single_galaxy_misfit` takes it."""
    ellipticity, angle = float(row["ellipticity"]), np.deg2rad(float(row["orientation"]))
    shear = ellipticity / (2.0 - ellipticity)
    return [
        float(row["flux"]),
        float(row["half_light_radius"]),
        float(row["x"]),
        float(row["y"]),
        shear * np.cos(2 * angle),
        shear * np.sin(2 * angle),
        float(row["sersic_index"]),
    ]


def known(survey, galaxies):
    """Chi squared of the best single galaxy, and the signal-to-noise of the fainter one of two."""
    renderer = Renderer(survey)
    faint = np.array(min(galaxies, key=lambda each: each[0]))
    alone = np.array([*faint[:2], 0.0, 0.0, *faint[4:6]])
    image = model_image(renderer, alone, faint[6], half_width(renderer, alone, faint[6]))
    return single_galaxy_misfit(renderer, galaxies), float(np.sqrt((image**2).sum()) / survey.sigma)


def table_by(blends, title, column, edges, detectors):
    """Recognised shares in bins."""
    print(f"\n| {title} | share of blends | ideal | {' | '.join(detectors)} |")
    print("|---" * (len(detectors) + 3) + "|")
    weights = blends["weight"]
    for low, high in itertools.pairwise(edges):
        inside = (blends[column] >= low) & (blends[column] < high)
        if not inside.any():
            continue
        w = weights[inside]
        cells = [np.average(blends[name][inside], weights=w) for name in ("ideal", *detectors)]
        name = f"{low:g} to {high:g}" if np.isfinite(high) else f"{low:g} and more"
        print(f"| {name} | {w.sum() / weights.sum():.3f} | {' | '.join(f'{c:.3f}' for c in cells)} |")


def failure_model(blends, name):
    """Logistic regression of a detector's failures on what the blend is."""
    columns = np.array([np.log(np.maximum(blends[column], 1e-3)) for column in FEATURES.values()]).T
    columns = (columns - columns.mean(axis=0)) / columns.std(axis=0)
    columns = np.column_stack([np.ones(len(columns)), columns])
    failed, weights = ~np.asarray(blends[name], bool), np.asarray(blends["weight"])

    def loss(coefficients):
        score = columns @ coefficients
        return float((weights * (np.logaddexp(0, score) - failed * score)).sum())

    fitted = minimize(loss, np.zeros(columns.shape[1]))
    constant = minimize(lambda c: loss(np.array([c[0], 0, 0, 0, 0])), np.zeros(1))
    told = ", ".join(f"{label} {c:+.2f}" for label, c in zip(FEATURES, fitted.x[1:], strict=True))
    print(f"  {name}: log odds of failure per standard deviation: {told}")
    print(f"    deviance explained {1 - fitted.fun / constant.fun:.2f}")


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("scores", type=Path)
    parser.add_argument("test_set")
    parser.add_argument("--recognised", type=int, default=200)
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args()
    objects = Table.read(options.scores / "test_set_objects.ecsv")
    names = [name.removeprefix("outcome_") for name in objects.colnames if name.startswith("outcome_")]
    isolated = objects[objects["kind"] == "isolated"]
    false_claims = max((isolated[f"outcome_{names[0]}"] == "blended").mean(), 1 / len(isolated))
    blends = objects[(objects["kind"] == "blended") & (objects["n_galaxies"] == 2)]
    for name in names:
        blends[name] = blends[f"outcome_{name}"] == "blended"
    missed, found = np.flatnonzero(~blends[names[0]]), np.flatnonzero(blends[names[0]])
    shown = np.sort(np.random.default_rng(0).choice(found, min(options.recognised, len(found)), False))
    weights = np.concatenate([np.ones(len(missed)), np.full(len(shown), len(found) / max(len(shown), 1))])
    print(f"{len(blends)} blends of two galaxies, {len(missed)} not recognised by {names[0]}")
    outcomes, numbers = np.unique(blends[f"outcome_{names[0]}"][missed], return_counts=True)
    print("  taken for: " + ", ".join(f"{o} {n}" for o, n in zip(outcomes, numbers, strict=True)))
    blends = blends[np.concatenate([missed, shown])]
    blends["weight"] = weights
    stamps = read_test_set(options.test_set, np.asarray(blends["stamp"]))
    survey = stamps.survey
    if (survey.bulges, survey.clumps, survey.real_galaxies) != (None, None, None):
        raise SystemExit("the fit knows single Sérsic galaxies only: a test set of such is needed")
    members = [[] for _ in blends]
    for row in stamps.galaxies:
        members[row["stamp"]].append(parameters(row))
    with ProcessPoolExecutor(options.workers) as pool:
        found = list(pool.map(known, [stamps.survey] * len(members), members, chunksize=4))
    blends["misfit"], blends["snr"] = np.array(found).T
    renderer = Renderer(stamps.survey)
    brightest = [max(galaxies, key=lambda each: each[0]) for galaxies in members[:: len(members) // 8 or 1]]
    limit = float(np.median([claim_limit(renderer, each, false_claims) for each in brightest]))
    blends["ideal"] = recognised(blends["misfit"], limit)
    print(
        f"false claims of {names[0]} on isolated objects: {false_claims:.5f}; at that rate a fit claims\n"
        f"where a second galaxy improves chi squared by {limit:.1f} (median of {len(brightest)} galaxies)"
    )
    for name in ("ideal", *names):
        print(f"  {name}: {np.average(blends[name], weights=weights):.3f} of them recognised")
    lost = np.asarray(blends["ideal"])[: len(missed)]
    print(f"  of the {len(missed)} that {names[0]} missed, the ideal fit recognises {lost.mean():.3f}")
    for title, (column, edges) in BINS.items():
        table_by(blends, title, column, edges, names)
    print()
    for name in names:
        failure_model(blends, name)


if __name__ == "__main__":
    main()
