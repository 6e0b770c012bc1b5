"""`appulse simulate` at scale: time, memory and disk of the command, beside naive GalSim in the same run.

usage: python benchmarks/simulate.py [--survey euclid-wide] [--size 4096] [--fields 1] [--workers N]
       python benchmarks/simulate.py --size 25000 --fields 4      the paper's sky; see what it prints first

Naive is what one writes first: every galaxy convolved with the PSF and drawn by GalSim onto a stamp of the
size that GalSim chooses, one after the other, nothing kept from one to the next, and no field put together.
It is timed on random galaxies of the same catalogue, half of them before the command and half after; once
with the Sérsic indices of the catalogue, which are rounded so that GalSim's own cache serves, and once as
they would be without that thought.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import galsim
import numpy as np

from appulse.sky import Survey
from appulse.sky.rendering import Renderer
from appulse.sky.strips import FieldPlan
from appulse.tasks import usable_cpus

_PAGE = os.sysconf("SC_PAGE_SIZE")
_TICK = os.sysconf("SC_CLK_TCK")


def tree(root):
    """Resident bytes and CPU seconds of a process and of all that it started."""
    children, resident, ticks = {}, {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                stat = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue  # gone meanwhile
            number = int(entry.name)
            children.setdefault(int(stat[1]), []).append(number)
            resident[number] = int(stat[21]) * _PAGE
            ticks[number] = int(stat[11]) + int(stat[12])
    found, waiting = [], [root]
    while waiting:
        number = waiting.pop()
        if number in resident:
            found.append(number)
        waiting += children.get(number, [])
    return sum(resident[n] for n in found), {n: ticks[n] / _TICK for n in found}


def run(command):
    """Wall and CPU seconds of a command, and the peak of its processes' resident memory."""
    start, peak, spent = time.perf_counter(), 0, {}
    with subprocess.Popen(command) as process:
        while process.poll() is None:
            resident, cpu = tree(process.pid)
            peak = max(peak, resident)
            spent |= cpu
            time.sleep(0.2)
    if process.returncode:
        sys.exit(process.returncode)
    return time.perf_counter() - start, sum(spent.values()), peak


def naive(survey, rows):
    """CPU seconds of drawing galaxies one by one without any care, onto stamps of GalSim's choice."""
    start = time.process_time()
    for row in rows:
        galaxy = galsim.Sersic(
            float(row["sersic_index"]),
            half_light_radius=float(row["half_light_radius"]),
            flux=float(row["flux"]),
        )
        angle = float(row["orientation"]) * galsim.degrees
        galaxy = galaxy.shear(galsim.Shear(q=1 - float(row["ellipticity"]), beta=angle))
        if survey.psf.model == "gaussian":
            psf = galsim.Gaussian(fwhm=survey.psf.fwhm)
        else:
            psf = galsim.Moffat(survey.psf.beta, fwhm=survey.psf.fwhm)
        seen = galsim.Convolve(galaxy, psf)
        size = seen.getGoodImageSize(survey.pixel_scale)
        seen.drawImage(nx=size, ny=size, scale=survey.pixel_scale, dtype=np.float32)
    return time.process_time() - start


def ours(survey, rows):
    renderer, start = Renderer(survey), time.process_time()
    for row in rows:
        renderer.draw(row)
    return time.process_time() - start


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--survey", default="euclid-wide")
    parser.add_argument("--size", type=int, default=4096)
    parser.add_argument("--fields", type=int, default=1)
    parser.add_argument("--workers", type=int, default=usable_cpus())
    parser.add_argument("--sample", type=int, default=400, help="galaxies drawn naively")
    parser.add_argument(
        "--output", type=Path, help="kept; by default a temporary directory, removed at the end"
    )
    options = parser.parse_args()

    seed, survey = 9900, Survey.load(options.survey).for_field(9900, 0)
    # Random galaxies of a patch as large as the sample asks for, drawn as the command draws them.
    side = int(60 / survey.pixel_scale * np.sqrt(2 * options.sample / max(survey.population.density, 1)))
    catalog = FieldPlan.draw(survey, (side, side), seed, 0).catalog
    picked = np.random.default_rng(0).permutation(len(catalog))[: options.sample]
    rows = [dict(zip(catalog.colnames, catalog[int(number)], strict=True)) for number in picked]
    naive(survey, rows[:20])
    ours(survey, rows[:20])
    half = len(rows) // 2
    # Indices as a population has them before they are rounded: each is new to GalSim.
    rng = np.random.default_rng(1)
    unrounded = [row | {"sersic_index": row["sersic_index"] + rng.uniform(0, 0.06)} for row in rows[:60]]

    seconds_naive, seconds_ours = naive(survey, rows[:half]), ours(survey, rows[:half])
    output = options.output or Path(tempfile.mkdtemp(prefix="appulse-simulate-"))
    command = [sys.executable, "-m", "appulse", "simulate", "-o", str(output), "--survey", options.survey]
    for name in ("size", "fields", "workers"):
        command += [f"--{name}", str(getattr(options, name))]
    wall, cpu, peak = run([*command, "--seed", str(seed)])
    seconds_ours += ours(survey, rows[half:])
    seconds_naive += naive(survey, rows[half:])
    per_unrounded = naive(survey, unrounded) / len(unrounded)

    plans = [
        FieldPlan.draw(Survey.load(options.survey), (options.size,) * 2, seed, i)
        for i in range(options.fields)
    ]
    galaxies = sum(len(plan.catalog) for plan in plans)
    disk = sum(path.stat().st_size for path in output.rglob("*") if path.is_file())
    pixels = options.fields * options.size**2
    per_naive, per_ours = seconds_naive / len(rows), seconds_ours / len(rows)
    print()
    print(f"{options.survey}: {options.fields} x {options.size}^2 pixels, {galaxies} galaxies")
    print(f"  workers                                   {options.workers:9d}")
    print(f"  wall time, report included                {wall:9.1f} s")
    print(f"  CPU time of all processes                 {cpu:9.1f} s")
    print(f"  galaxies per second, wall                 {galaxies / wall:9.1f}")
    print(f"  galaxies per CPU second                   {galaxies / cpu:9.1f}")
    print(f"  peak resident memory of all processes     {peak / 2**30:9.2f} GiB")
    print(f"  on disk                                   {disk / 1e9:9.2f} GB")
    print(f"  bytes per pixel                           {disk / pixels:9.2f}")
    print(f"  naive GalSim, drawing only                {per_naive * 1e3:9.2f} ms of CPU per galaxy")
    print(f"  the same, indices not rounded             {per_unrounded * 1e3:9.2f} ms of CPU per galaxy")
    print(f"  drawing here                              {per_ours * 1e3:9.2f} ms of CPU per galaxy")
    print(f"  naive drawing over drawing here           {per_naive / per_ours:9.2f}")
    print(f"  naive drawing over the whole command      {per_naive * galaxies / cpu:9.2f}")
    print(f"  naive drawing, wall on as many cores      {per_naive * galaxies / options.workers:9.1f} s")
    if options.output is None:
        shutil.rmtree(output)


if __name__ == "__main__":
    main()
