"""The store of stamps: its size, how fast it is built, and how fast it feeds training.

usage: python benchmarks/stamp_store.py FIELDS [--count N] [--rounds N]

"one by one" is the usual pattern, which appulse had before its store: whole fields in memory as
half-precision layers, and for each stamp a cut, flips, depth, truth and noise in NumPy. Every round draws
with all variants one after the other; medians are printed. CPU time counts all threads, so on a machine that
others use it says more than wall time; two cores give 2e6 / (us of CPU per stamp) stamps per second. With
zarr installed, what a chunked and compressed array of the same stamps would take is printed beside it.
"""

import argparse
import functools
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

from appulse.sky import field_paths, read_field
from appulse.sky.truth import ternary_map
from appulse.stamps import StampConfig, StampSource, build_store

BATCH, BATCHES = 32, 60
CONFIG = StampConfig(depth_range=(24.6, 25.7))


class OneByOne:
    """Stamps cut at random places from fields in memory, each in NumPy."""

    def __init__(self, paths, config):
        fields = [read_field(path) for path in paths]
        self.config = config
        self.noise = [field.survey.noise for field in fields]
        self.layers = [
            np.stack(
                [np.minimum(layer / field.sigma, 6e4) for layer in (field.light, field.first, field.second)]
            ).astype(np.float16)
            for field in fields
        ]
        self.overlaps = [np.argwhere(layers[2] > 1.0) for layers in self.layers]

    def batches(self, first, end, size):
        for number in range(first, end):
            rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([0, number])))
            yield [np.stack(part) for part in zip(*(self.stamp(rng) for _ in range(size)), strict=True)]

    def stamp(self, rng):
        config, size = self.config, self.config.size
        of = rng.integers(len(self.layers))
        highest = np.array(self.layers[of].shape[1:]) - size
        corner = rng.integers(0, highest + 1)
        if len(self.overlaps[of]) and rng.random() < config.overlap_share:
            centre = self.overlaps[of][rng.integers(len(self.overlaps[of]))]
            corner = np.clip(centre - rng.integers(size // 8, size - size // 8, 2), 0, highest)
        y, x = corner
        cut = np.rot90(self.layers[of][:, y : y + size, x : x + size], int(rng.integers(4)), axes=(1, 2))
        if rng.random() < 0.5:
            cut = cut[:, :, ::-1]
        light, bright, second = cut.astype(np.float32)
        shallowest, deepest = config.depth_range
        depth = deepest - (deepest - shallowest) * rng.random() ** config.depth_power
        ratio = np.float32(10.0 ** (0.4 * (depth - self.noise[of])))
        truth = ternary_map(bright * ratio, second * ratio, config.threshold)
        image = light * ratio + rng.standard_normal(light.shape, dtype=np.float32)
        image += np.float32(config.background_scatter * rng.standard_normal())
        return image * np.float32(np.exp(config.noise_scatter * rng.standard_normal())), truth


def measured(work, n):
    """Wall and CPU time per stamp, microseconds."""
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    return (time.perf_counter() - wall) / n * 1e6, (time.process_time() - cpu) / n * 1e6


def draw(source, number):
    for _ in source.batches(number * BATCHES, (number + 1) * BATCHES, BATCH):
        pass


def read_all(array, chunk):
    order = np.random.default_rng(1).permutation(array.shape[0])
    for first in range(0, array.shape[0], BATCH):
        if chunk == 1:  # any stamp can be asked for
            array.oindex[np.sort(order[first : first + BATCH])]
        else:  # whole chunks only
            array[first : first + BATCH]


def compressed_arrays(store, folder):
    """Size and reading time of the same stamps as a zarr array."""
    try:
        import zarr
        from zarr.codecs import BloscCodec
    except ImportError:
        return
    stamps = np.random.default_rng(0).permutation(len(store))[:1024]
    dense = store.dense(stamps).astype(np.float16)
    for chunk in (1, 32):
        for codec in ("lz4", "zstd"):
            path = Path(folder) / f"{codec}{chunk}"
            array = zarr.create_array(
                path,
                shape=dense.shape,
                chunks=(chunk, *dense.shape[1:]),
                dtype="float16",
                compressors=BloscCodec(cname=codec, clevel=5, shuffle="bitshuffle", typesize=2),
            )
            array[:] = dense
            size = sum(file.stat().st_size for file in path.rglob("*")) / len(dense)
            _, cpu = measured(functools.partial(read_all, array, chunk), len(dense))
            kilobytes = size / 1e3
            print(f"  zarr {codec}, {chunk:2d} per chunk:{kilobytes:6.1f} kB/stamp, {cpu:.0f} us to read")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("fields")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    paths = field_paths(options.fields)
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        store = build_store(Path(folder) / "stamps", options.fields, CONFIG, count=options.count)
        built = time.perf_counter() - start
        print(f"store of {len(store)} stamps: {store.bytes / 1e6:.0f} MB, built in {built:.0f} s")
        print(f"  lit pixels in runs:      {store.bytes / len(store) / 1e3:5.1f} kB/stamp")
        compressed_arrays(store, folder)
        correlated = StampConfig(depth_range=CONFIG.depth_range, noise_correlation=(0.0, 1.0))
        variants = {
            "one by one": OneByOne(paths, CONFIG),
            "store": StampSource(store, CONFIG),
            "store, correlated noise": StampSource(store, correlated),
        }
        times = {name: [] for name in variants}
        for number in range(options.rounds + 1):
            for name, source in variants.items():
                result = measured(lambda source=source, number=number: draw(source, number), BATCH * BATCHES)
                if number:  # the first is a warm-up
                    times[name].append(result)
        middle = {
            name: [median(column) for column in zip(*rows, strict=True)] for name, rows in times.items()
        }
        print(f"batches of {BATCH}, {options.rounds} rounds of {BATCHES} batches, medians")
        for name, (wall, cpu) in middle.items():
            ratio = middle["one by one"][1] / cpu
            print(
                f"  {name:26s} {1e6 / wall:7.0f} stamps/s of wall time; {cpu:5.0f} us of CPU per stamp,"
                f" so {2e6 / cpu:6.0f} stamps/s from two cores; {ratio:.1f} times one by one"
            )


if __name__ == "__main__":
    main()
