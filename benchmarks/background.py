"""How far from the true 0 the background of simulated skies is measured (docs/decisions/0003).

Beside appulse's: SEP's with cells of the same width, and appulse's with the noise's lower tail masked like
its upper one, which has no bias in white noise. Two numbers each, in sigma of the noise: the median of all
pixels, and the mean of the pixels that hold a galaxy, whose fluxes it moves.

usage: python benchmarks/background.py FIELD.fits [FIELD.fits ...]
"""

import sys

import numpy as np
import sep

from appulse.inference.background import measure_noise
from appulse.inference.cells import clipped, measure_cells, source_mask, too_few
from appulse.inference.exposure import ArraySource, Exposure
from appulse.inference.mesh import CELL, cut_cells, join_mesh, mesh_shape
from appulse.inference.mesh_filter import filtered_level
from appulse.sky import read_field


def ours(image):
    """The background that appulse subtracts."""
    noise = measure_noise(Exposure.of(ArraySource(image)))
    return join_mesh(noise.level, image.shape, onwards=True)


def of_both_tails(image):
    """The same where pixels that the mirrored image would take for sources are masked as well."""
    good = np.zeros(image.shape, bool)
    levels = []
    for top in range(0, len(image), CELL):
        cells = cut_cells(image[top : top + CELL], good[top : top + CELL])
        count = len(cells)
        first, sigma = clipped(cells.reshape(count, -1))
        level, _, sources = measure_cells(cells, 0.0)
        below = source_mask(2 * first[:, None, None] - cells, first, sigma)
        sky = np.where(sources | below, np.nan, cells).reshape(count, -1)
        levels.append(np.where(np.isnan(level) | too_few(sky), np.nan, clipped(sky)[0]))
    level = np.stack(levels)
    unknown = np.zeros(mesh_shape(image.shape), bool)
    return join_mesh(filtered_level(level, unknown, image.shape), image.shape, onwards=True)


def seps(image):
    """SEP's, with meshes as wide as appulse's."""
    return sep.Background(image, bw=CELL, bh=CELL).back()


ESTIMATES = {"appulse": ours, "both tails": of_both_tails, "SEP": seps}


def _print_row(name, image, galaxies, sigma):
    row = f"{name:34}"
    for estimate in ESTIMATES.values():
        background = estimate(image) / sigma
        under = f"{background[galaxies].mean():+8.4f}" if galaxies.any() else " " * 8
        row += f"  {np.median(background):+8.4f} {under}"
    print(row, flush=True)


def main(paths):
    print(f"{'':34}" + "".join(f"  {name:>17}" for name in ESTIMATES))
    print(f"{'sky':34}" + f"  {'median':>8} {'galaxies':>8}" * len(ESTIMATES))
    white = np.random.default_rng(0).standard_normal((2048, 2048), dtype=np.float32)
    _print_row("white noise", white, np.zeros(white.shape, bool), 1.0)
    for path in paths:
        field = read_field(path)
        _print_row(
            f"{field.survey.name}, {field.seed}.{field.index}", field.image, field.ternary() > 0, field.sigma
        )


if __name__ == "__main__":
    main(sys.argv[1:])
