"""Memory, disk and speed of whole fields of any size, and SEP beside.

usage: python benchmarks/engine.py [SIZE ...] [--block N] [--workers N] [--samples N] [--method M]
                                   [--keep DIR]

Every SIZE x SIZE field is a mosaic of one simulated 2048-pixel tile of the euclid-wide sky, turned, mirrored,
and with fresh noise; it is written in strips. `appulse segment` runs in a process of its own, whose anonymous
and shared memory, children included, and whose work on disk are sampled while it runs. SEP (background,
noise, extraction with deblending) then runs on the same file, in a process of its own as well.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.sky import Survey, simulate_field

TILE = 2048
SEP = """
import sys, numpy as np, sep
from astropy.io import fits
sep.set_extract_pixstack(10**7)
image = fits.getdata(sys.argv[1]).astype(np.float32)
background = sep.Background(image)
print(len(sep.extract(image - background, 1.5, err=background.rms(), minarea=5)))
"""


def write_mosaic(path, light, sigma, size, seed=0):
    """Strips of tiles, each turned or mirrored by its place."""
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": size, "NAXIS2": size})
    random = np.random.default_rng(seed)
    with open(path, "wb") as file:
        file.write(header.tostring().encode())
        for top in range(0, size, TILE):
            strip = np.concatenate(
                [turned(light, top // TILE * 3 + left // TILE) for left in range(0, size, TILE)], axis=1
            )[: size - top, :size]
            for row in range(0, len(strip), 64):
                noise = random.standard_normal(strip[row : row + 64].shape, dtype=np.float32)
                file.write((strip[row : row + 64] + sigma * noise).astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def turned(light, number):
    tile = np.rot90(light, number % 4)
    return tile[:, ::-1] if number // 4 % 2 else tile


def family(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            try:
                found += [int(child) for child in task.read_text().split()]
            except OSError:
                continue
    return found


def memory(pid):
    """Anonymous and shared memory of a process and its children, bytes."""
    total = 0
    for each in family(pid):
        try:
            lines = Path(f"/proc/{each}/status").read_text().splitlines()
        except OSError:
            continue
        values = dict(line.split(":", 1) for line in lines if line.startswith(("RssAnon", "RssShmem")))
        total += sum(int(value.split()[0]) * 1024 for value in values.values())
    return total


def disk(folder):
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_blocks * 512
        except OSError:
            continue
    return total


def watch(command, folder=None):
    """Seconds, processor seconds, peak memory, peak disk and output of a command."""
    start, peak_memory, peak_disk, looked = time.perf_counter(), 0, 0, 0.0
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            peak_memory = max(peak_memory, memory(process.pid))
            if folder is not None and time.perf_counter() - looked > 5:
                peak_disk, looked = max(peak_disk, disk(folder)), time.perf_counter()
            time.sleep(0.1)
        output = process.stdout.read().strip()
    if process.returncode:
        raise SystemExit(f"{command} failed")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, processor, peak_memory, peak_disk, output


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("sizes", nargs="*", type=int, default=[2048, 4096])
    parser.add_argument("--block", type=int, default=2048)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--method", default="two-step")
    parser.add_argument("--keep", type=Path, help="directory for mosaics and products, which are kept")
    options = parser.parse_args()
    field = simulate_field(Survey.load("euclid-wide"), TILE, 9991)
    folder = options.keep or Path(tempfile.mkdtemp(prefix="appulse-engine-"))
    folder.mkdir(parents=True, exist_ok=True)
    print(
        f"method {options.method}, {options.samples} realisations, block {options.block}, "
        f"{options.workers} worker(s)"
    )
    print(
        f"{'size':>7} {'what':8} {'s':>8} {'CPU s':>8} {'Mpix/s':>8} "
        f"{'GiB':>6} {'bytes/pix':>9} {'disk, bytes/pix':>16}"
    )
    for size in options.sizes:
        path = folder / f"mosaic_{size}.fits"
        write_mosaic(path, field.light, field.sigma, size)
        command = [sys.executable, "-m", "appulse", "segment", str(path), "-o", str(folder / f"out_{size}")]
        command += ["--block", str(options.block), "--workers", str(options.workers)]
        command += ["--samples", str(options.samples), "--method", options.method, "--overwrite"]
        for what, run in (("appulse", command), ("SEP", [sys.executable, "-c", SEP, str(path)])):
            out = folder / f"out_{size}" if what == "appulse" else None
            seconds, processor, most, on_disk, output = watch(run, out)
            pixels = size**2
            print(
                f"{size:7d} {what:8} {seconds:8.1f} {processor:8.1f} {pixels / seconds / 1e6:8.3f} "
                f"{most / 2**30:6.2f} {most / pixels:9.1f} {on_disk / pixels:16.1f}   "
                f"{output.splitlines()[-1].split(': ')[-1]}",
                flush=True,
            )
    if options.keep is None:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
