"""Whole fields: memory, speed by size, the stages against the machine's limits, and what others take.

usage: python benchmarks/engine.py --what memory|throughput|stages|samples|pattern [options]

memory      `appulse segment`, one worker, on 4096 x 4096 and 8192 x 8192 pixels and a band 25,000 wide: peak
            memory, disk, and time per pixel over that of the first, measured before and after each.
throughput  `appulse segment` by every method with --workers processes, SExtractor and SEP, on one field.
stages      each stage of a method as a share of the run; the network against the machine's
            measured float32 or bfloat16 peak, the others against its memory bandwidth.
samples     50 realisations against 1, whole program and network with kernel alone.
pattern     the usual pattern (benchmarks/speed.py: float32, contiguous, a loop over the combiner, every
            realisation kept) against the program, same weights, stamps of the same field; both with the
            program's memory kept in large pages, which helps the usual pattern more.

A field is a mosaic of one tile of the euclid-wide sky, which `appulse simulate` makes; the tile is turned and
mirrored by its place, and noise is drawn afresh, strip by strip. Times are the processes' CPU seconds, which
other work on the machine changes little, and seconds by the clock, which it does change: leave it alone for
those. Memory is that of the process and its children together: Pss (proportional set size, of anonymous and
shared pages, from /proc/PID/smaps_rollup), its peak among samples every 0.2 s.

A band of R rows stands for 25,000 rows: blocks are done one after the other, and only this grows with their
number: a bit per pixel while the background is measured (78 MB), 32 bright pixels per mesh cell where a noise
map is given (117 MB), and in the end the catalogue (a kilobyte per object). The first line of output says R.
"""

import argparse
import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from astropy.io import fits

from appulse.baselines.sextractor import find_program

SURVEY, SEED = "euclid-wide", 9991
SEP = """
import sys, numpy as np, sep
from astropy.io import fits
sep.set_extract_pixstack(10**7)
image = fits.getdata(sys.argv[1]).astype(np.float32)
background = sep.Background(image)
objects, segments = sep.extract(
    image - background, 1.2, err=background.rms(), minarea=8, segmentation_map=True
)
print(len(objects), "objects")
"""
SEXTRACTOR = {
    "CATALOG_NAME": "catalog.txt",
    "PARAMETERS_NAME": "columns.param",
    "DETECT_THRESH": 1.2,
    "ANALYSIS_THRESH": 1.2,
    "DETECT_MINAREA": 8,
    "FILTER_NAME": "kernel.conv",
    "CHECKIMAGE_TYPE": "SEGMENTATION",
    "CHECKIMAGE_NAME": "segments.fits",
    "MEMORY_PIXSTACK": 10_000_000,
    "MEMORY_OBJSTACK": 30_000,
    "VERBOSE_TYPE": "QUIET",
}
# Bytes per pixel that a stage must read and write at the least: those of the image and of the store's arrays
# that it touches, with 50 realisations in 14 bytes.
BYTES = {
    "background": 3 * 4,
    "rebuilding": 4 + 2 * (8 + 14) + 4 + 5,
    "parting": 8,
    "bridges": 8,
    "galaxies": 43,
}


# ------------------------------------------------------------------------------------------------- fields


def make_tile(folder, side):
    """Image and sigma of noise-free light of one simulated tile."""
    command = [sys.executable, "-m", "appulse", "simulate", "-o", str(folder / "sky"), "--survey", SURVEY]
    subprocess.run([*command, "--size", str(side), "--seed", str(SEED)], check=True, capture_output=True)
    from appulse.sky import read_field

    field = read_field(next((folder / "sky").glob("field_*.fits")))
    return field.light, field.sigma


def write_mosaic(path, light, sigma, shape):
    """A FITS file of tiles, each turned or mirrored by its place, in strips."""
    height, width = shape
    side, random = len(light), np.random.default_rng(SEED)
    header = fits.Header({"SIMPLE": True, "BITPIX": -32, "NAXIS": 2, "NAXIS1": width, "NAXIS2": height})
    with open(path, "wb") as file:
        file.write(header.tostring().encode())
        for top in range(0, height, side):
            tiles = [turned(light, top // side * 3 + left // side) for left in range(0, width, side)]
            strip = np.concatenate(tiles, axis=1)[: height - top, :width]
            for row in range(0, len(strip), 64):
                noise = random.standard_normal(strip[row : row + 64].shape, dtype=np.float32)
                file.write((strip[row : row + 64] + sigma * noise).astype(">f4").tobytes())
        file.write(b"\0" * (-file.tell() % 2880))


def turned(light, number):
    tile = np.rot90(light, number % 4)
    return tile[:, ::-1] if number // 4 % 2 else tile


# ------------------------------------------------------------------------------------------------- watching


def family(pid):
    """A process and all that descend from it."""
    found = [pid]
    for parent in found:
        for task in Path(f"/proc/{parent}/task").glob("*/children"):
            with contextlib.suppress(OSError):
                found += [int(child) for child in task.read_text().split()]
    return found


def memory(pid):
    """Pss of anonymous and shared pages of a process and its children, bytes."""
    total = 0
    for each in family(pid):
        with contextlib.suppress(OSError):
            lines = Path(f"/proc/{each}/smaps_rollup").read_text().splitlines()
            sizes = (line.split()[1] for line in lines if line.startswith(("Pss_Anon:", "Pss_Shmem:")))
            total += sum(int(size) * 1024 for size in sizes)
    return total


def disk(folder):
    total = 0
    for path in folder.rglob("*"):
        with contextlib.suppress(OSError):
            total += path.stat().st_blocks * 512
    return total


def watch(command, folder, **options):
    """Seconds, CPU seconds, peak memory, peak disk and output of a command."""
    start, peak_memory, peak_disk, looked = time.perf_counter(), 0, 0, 0.0
    before = os.times()
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, **options) as process:
        while process.poll() is None:
            peak_memory = max(peak_memory, memory(process.pid))
            if time.perf_counter() - looked > 5:
                peak_disk, looked = max(peak_disk, disk(folder)), time.perf_counter()
            time.sleep(0.2)
        output = process.stdout.read().strip()
    if process.returncode:
        raise SystemExit(f"{command} failed")
    after = os.times()
    processor = after.children_user + after.children_system - before.children_user - before.children_system
    return time.perf_counter() - start, processor, peak_memory, peak_disk, output.splitlines()


def segment(path, folder, options, method):
    """`appulse segment` in a process of its own."""
    out = folder / f"out-{path.stem}-{method}"
    command = [sys.executable, "-m", "appulse", "segment", str(path), "-o", str(out), "--overwrite"]
    command += ["--block", str(options.block), "--workers", str(options.workers), "--model", options.model]
    command += ["--samples", str(options.samples), "--method", method]
    taken = watch(command, out)
    shutil.rmtree(out)
    return taken


HEAD = (
    f"{'width x height':>14} {'what':10} {'s':>8} {'CPU s':>8} {'Mpix/s':>7} {'us/pix CPU':>10} {'GiB':>6} "
    f"{'disk B/pix':>10}"
)


def line(shape, what, taken):
    seconds, processor, most, on_disk, output = taken
    pixels = shape[0] * shape[1]
    print(
        f"{shape[1]:7d}x{shape[0]:<6d} {what:10} {seconds:8.1f} {processor:8.1f} "
        f"{pixels / seconds / 1e6:7.3f} {processor / pixels * 1e6:10.3f} {most / 2**30:6.2f} "
        f"{on_disk / pixels:10.1f}   "
        f"{output[-1].split(': ')[-1] if output else ''}",
        flush=True,
    )
    return processor / pixels, most


# ------------------------------------------------------------------------------------------------- benchmarks


def measure_memory(folder, light, sigma, options):
    print(
        f"{options.method}, {options.samples} realisations, block {options.block}, "
        f"{options.workers} worker(s)"
    )
    print(HEAD)
    found, reference = {}, []

    def measured(shape):
        path = folder / f"field-{shape[0]}.fits"
        write_mosaic(path, light, sigma, shape)
        taken = line(shape, "appulse", segment(path, folder, options, options.method))
        path.unlink()
        return taken

    first, *others = options.shapes
    reference.append(measured(first))
    for shape in others:
        found[shape] = measured(shape)
        reference.append(measured(first))
    most = max(largest for _, largest in [*found.values(), *reference])
    # A shared machine drifts by more than this is about: the first is measured before and after each.
    for (before, _), (after, _), (shape, (processor, largest)) in zip(
        reference, reference[1:], found.items(), strict=False
    ):
        ratio = 2 * processor / (before + after)
        print(f"{shape[1]:7d}x{shape[0]:<6d} time per pixel {ratio:.3f} of the first ", end="")
        print(f"({processor / before:.3f} before, {processor / after:.3f} after), ", end="")
        print(f"memory {largest / most:.3f} of the largest")


def measure_throughput(folder, light, sigma, options):
    shape = options.shapes[0]
    path = folder / "field.fits"
    write_mosaic(path, light, sigma, shape)
    print(
        f"{options.samples} realisations, block {options.block}, {options.workers} worker(s); "
        "the others have one thread"
    )
    print(HEAD)
    for method in ("two-step", "sliding", "grid"):
        line(shape, method, segment(path, folder, options, method))
    place = folder / "sextractor"
    place.mkdir()
    (place / "kernel.conv").write_text("CONV NORM\n1 2 1\n2 4 2\n1 2 1\n")
    (place / "columns.param").write_text("NUMBER\nX_IMAGE\nY_IMAGE\nFLUX_AUTO\nFLUX_RADIUS\nELLIPTICITY\n")
    (place / "settings.sex").write_text("".join(f"{key} {value}\n" for key, value in SEXTRACTOR.items()))
    taken = watch([find_program(), str(path), "-c", "settings.sex"], place, cwd=place)
    rows = [row for row in (place / "catalog.txt").read_text().splitlines() if not row.startswith("#")]
    line(shape, "SExtractor", (*taken[:4], [f"{len(rows)} objects"]))
    line(shape, "SEP", watch([sys.executable, "-c", SEP, str(path)], place))


def peaks():
    """Largest rates of matrix products, FLOP/s by type, and of copying, bytes/s: of one thread."""
    import torch

    rates = {}
    for name, dtype in (("float32", torch.float32), ("bfloat16", torch.bfloat16)):
        a = torch.randn(1024, 1024).to(dtype)
        rates[name] = 2 * 1024**3 / min(timed(lambda a=a: a @ a) for _ in range(4))
    source = np.ones(2**26, np.float32)
    target = np.empty_like(source)
    rates["bandwidth"] = 2 * source.nbytes / min(timed(lambda: np.copyto(target, source)) for _ in range(4))
    return rates


def timed(work):
    start = time.process_time()
    work()
    return time.process_time() - start


def measure_stages(folder, light, sigma, options):
    from torch.utils.flop_counter import FlopCounterMode

    from appulse.inference.sampler import BATCH, Sampler
    from appulse.network.layers import native_bfloat16
    from appulse.network.weights import load_model
    from appulse.segmentation import segment

    path = folder / "field.fits"
    write_mosaic(path, light, sigma, options.shapes[0])
    image, model = fits.getdata(path).astype(np.float32), load_model(options.model)
    limits = peaks()
    print("one thread; measured peaks:", end=" ")
    print(f"{limits['float32'] / 1e9:.0f} GFLOP/s float32, {limits['bfloat16'] / 1e9:.0f} bfloat16, ", end="")
    print(f"{limits['bandwidth'] / 1e9:.1f} GB/s")
    used = "bfloat16" if native_bfloat16("cpu") else "float32"
    sampler = Sampler(model, options.samples)
    size, width = sampler.size, sampler.network.combiner.of_features.out_channels
    sky = image[:size, : BATCH * size]
    origins = [(0, slot * size) for slot in range(BATCH)]
    stamps = np.stack([sampler.cut(sky, origin) for origin in origins])
    with FlopCounterMode(display=False) as counter:
        sampler.encode(stamps, origins)
    list(sampler.draw(sky, origins))
    encode = median(timed(lambda: sampler.encode(stamps, origins)) for _ in range(options.rounds)) / BATCH
    drawn = median(timed(lambda: list(sampler.draw(sky, origins))) for _ in range(options.rounds)) / BATCH
    flop = counter.get_total_flops() / BATCH
    # Of the kernel, what it must read and write: the features, the copula's fields, the classes.
    in_kernel = (sampler.latents * width * 4 + options.samples * (4 + 1)) * size**2
    print(f"  network ({used})  {encode * 1e3:7.2f} ms per stamp, {flop / 1e9:.2f} GFLOP: ", end="")
    print(f"{flop / encode / limits[used]:.0%} of the peak")
    print(f"  {options.samples} realisations  {(drawn - encode) * 1e3:7.2f} ms per stamp, ", end="")
    print(
        f"{in_kernel / 1e6:.2f} MB: {in_kernel / (drawn - encode) / limits['bandwidth']:.0%} of the bandwidth"
    )
    for method in ("two-step", "sliding"):
        segment(image[:256, :256], model=model, samples=options.samples, method=method)  # compiles
        spent, steps, last = {}, {}, [time.process_time()]

        def progress(stage, done, total, spent=spent, steps=steps, last=last):
            now = time.process_time()
            spent[stage], steps[stage], last[0] = spent.get(stage, 0) + now - last[0], total, now

        given = {"model": model, "samples": options.samples, "method": method, "progress": progress}
        whole = timed(lambda given=given: segment(image, **given))
        print(f"{method}: {image.size / whole / 1e6:.3f} Mpix per CPU second")
        spent["the rest"] = whole - sum(spent.values())
        for stage, seconds in spent.items():
            limit = ""
            if stage in BYTES:
                limit = f"{BYTES[stage] * image.size / seconds / limits['bandwidth']:.1%} of the bandwidth"
            elif stage in ("first pass", "second pass"):
                of_stage = steps[stage] * flop / seconds / limits[used]
                limit = f"{of_stage:.0%} of the {used} peak, counting the network's work alone"
            print(f"  {stage:12s} {seconds:7.2f} CPU s {seconds / whole:6.1%} of the run   {limit}")


def measure_samples(folder, light, sigma, options):
    from appulse.inference.sampler import BATCH, Sampler
    from appulse.network.weights import load_model
    from appulse.segmentation import segment

    path = folder / "field.fits"
    write_mosaic(path, light, sigma, options.shapes[0])
    image, model = fits.getdata(path).astype(np.float32), load_model(options.model)
    work = {}
    for samples in (1, 50):
        sampler = Sampler(model, samples)
        sky, origins = image[: sampler.size], [(0, slot * sampler.size) for slot in range(BATCH)]
        work["network and kernel", samples] = lambda s=sampler, o=origins, i=sky: list(s.draw(i, o))
        for method in ("two-step", "sliding"):
            given = {"model": model, "samples": samples, "method": method}
            work[f"{method}, whole program", samples] = lambda given=given: segment(image, **given)
    times = {name: [] for name in work}
    for round_number in range(options.rounds + 1):
        for name, run in work.items():  # all in turn, so that a drift of the machine meets them alike
            seconds = timed(run)
            if round_number:  # the first compiles
                times[name].append(seconds)
    for name in dict.fromkeys(name for name, _ in work):
        one, fifty = (median(times[name, samples]) for samples in (1, 50))
        print(f"{name:24s} {one:8.3f} CPU s for 1, {fifty:8.3f} for 50: {fifty / one:.2f} times as much")


def measure_pattern(folder, light, sigma, options):
    import torch
    from speed import plain_realisations

    from appulse.inference.sampler import BATCH, Sampler
    from appulse.network.weights import load_model

    path = folder / "field.fits"
    write_mosaic(path, light, sigma, options.shapes[0])
    image, model = fits.getdata(path).astype(np.float32) / sigma, load_model(options.model)
    sampler = Sampler(model, options.samples)
    plain = load_model(options.model).network.eval().requires_grad_(False)
    draws = torch.randn(options.samples, BATCH, plain.config.latent_dimensions)
    rows, columns = (length // sampler.size for length in image.shape)
    every = [(y * sampler.size, x * sampler.size) for y in range(rows) for x in range(columns)]
    chosen = np.random.default_rng(0).permutation(len(every))[: BATCH * options.rounds]
    times, seen = {"plain": [], "program": []}, 0
    for start in range(-BATCH, len(chosen) - BATCH + 1, BATCH):
        origins = [every[place] for place in chosen[max(start, 0) : max(start, 0) + BATCH]]
        stamps = np.stack([sampler.cut(image, origin) for origin in origins])[:, None]

        def naive(stamps=stamps):
            with torch.inference_mode():
                kept = plain_realisations(plain, torch.from_numpy(stamps).contiguous(), draws)
                classes = kept.argmax(dim=2).float()
                return kept.mean(dim=0), classes.mean(dim=0), classes.std(dim=0, correction=0)

        taken = {"plain": timed(naive), "program": timed(lambda o=origins: list(sampler.draw(image, o)))}
        if start < 0:  # compiles
            continue
        for name, seconds in taken.items():
            times[name].append(seconds / BATCH * 1e3)
        seen += len(origins)
    plain_ms, program_ms = (median(times[name]) for name in ("plain", "program"))
    print(f"{seen} stamps, {options.samples} realisations, {torch.get_num_threads()} thread(s)")
    print(
        f"usual pattern {plain_ms:.1f} ms per stamp (CPU), appulse {program_ms:.1f}: "
        f"ratio {plain_ms / program_ms:.1f}"
    )


BENCHMARKS = {
    "memory": measure_memory,
    "throughput": measure_throughput,
    "stages": measure_stages,
    "samples": measure_samples,
    "pattern": measure_pattern,
}
# Height and width; of throughput, stages, samples and pattern the first.
SHAPES = {
    "memory": ((4096, 4096), (8192, 8192), (4096, 25_000)),
    "throughput": ((4096, 4096),),
    "stages": ((2048, 2048),),
    "samples": ((2048, 2048),),
    "pattern": ((2048, 2048),),
}


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--what", choices=list(BENCHMARKS), required=True)
    parser.add_argument("--shapes", nargs="*", metavar="HEIGHTxWIDTH", help="pixels")
    parser.add_argument("--tile", type=int, default=2048, help="width of the simulated tile")
    parser.add_argument("--model", default="euclid")
    parser.add_argument("--samples", type=int, default=50)
    parser.add_argument("--method", default="two-step", help="of memory")
    parser.add_argument("--block", type=int, default=2048)
    parser.add_argument("--workers", type=int, help="of memory (1) and throughput (2)")
    parser.add_argument("--rounds", type=int, default=3, help="of stages, samples and pattern")
    options = parser.parse_args()
    options.workers = options.workers or (2 if options.what == "throughput" else 1)
    given = options.shapes and [tuple(map(int, shape.split("x"))) for shape in options.shapes]
    options.shapes = given or SHAPES[options.what]
    if options.what in ("stages", "samples", "pattern"):
        from appulse.engine.workers import use_one_thread
        from appulse.heap import use_large_pages

        use_large_pages()  # as the program does
        use_one_thread()
    with tempfile.TemporaryDirectory(prefix="appulse-engine-") as folder:
        folder = Path(folder)
        light, sigma = make_tile(folder, options.tile)
        print(f"{options.what}: {', '.join(f'{h} rows of {w} pixels' for h, w in options.shapes)}; ", end="")
        print(f"{SURVEY}, tile {options.tile}, model {options.model}", flush=True)
        BENCHMARKS[options.what](folder, light, sigma, options)


if __name__ == "__main__":
    main()
