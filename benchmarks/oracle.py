"""What an ideal fit reaches per magnitude bin, for surveys and depths: docs/decisions/0001.

usage: python benchmarks/oracle.py [SURVEY[@NOISE] ...]
"""

import dataclasses
import sys

import numpy as np

from appulse.sky import Survey
from appulse.sky.oracle import oracle_scores

EDGES = np.array([21.0, 22.0, 23.0, 24.0, 24.5, 25.0, 25.2])


def main(names):
    for name in names or ["paper", "euclid-wide", "euclid-wide@24.65"]:
        survey, _, noise = name.partition("@")
        survey = Survey.load(survey)
        if noise:
            survey = dataclasses.replace(survey, noise=float(noise))
        print(f"{survey.name}, noise {survey.noise} mag/arcsec^2 per pixel")
        table = oracle_scores(survey, EDGES, galaxies=300)
        for column in ("visible", "completeness", "iou", "iou_error"):
            table[column].format = ".3f"
        print("\n".join(table.pformat(max_width=-1)))


if __name__ == "__main__":
    main(sys.argv[1:])
