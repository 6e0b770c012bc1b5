"""Speed of the network, of its realisations and of the sky, as ratios measured side by side.

usage: python benchmarks/speed.py [--rounds N] [--model NAME|FILE]

Every round times all variants one after the other, so that a drift of the machine meets them alike; medians
are printed. "plain" is the usual PyTorch pattern: float32, contiguous, normalisation layers not folded, and a
loop that concatenates the latent to the features, runs the combiner and keeps every realisation.
"""

import argparse
import subprocess
import sys
import time
from statistics import median

import numpy as np
import torch

from appulse.inference.sampler import BATCH, Sampler
from appulse.network.weights import load_model
from appulse.sky import Survey, simulate_field

SAMPLES = 50


def plain_realisations(network, images, draws):
    """Fifty realisations as a loop over the combiner, the latent concatenated to the features."""
    combiner = network.combiner
    weight = torch.cat((combiner.of_features.weight, combiner.of_latent.weight[:, :, None, None]), dim=1)
    scaled = network.scale(images)
    features, prior = network.unet(scaled), network.prior(scaled)
    kept = []
    for draw in draws:
        latent = prior.at(draw)[:, :, None, None].expand(-1, -1, *features.shape[2:])
        x = torch.nn.functional.conv2d(
            torch.cat((features, latent), dim=1), weight, combiner.of_features.bias
        )
        for layer in combiner.rest:
            x = layer(torch.relu(x))
        kept.append(x.softmax(dim=1))
    return torch.stack(kept)


@torch.inference_mode()
def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", default="euclid")
    options = parser.parse_args()
    model = load_model(options.model)
    fifty, one = Sampler(model, SAMPLES), Sampler(model, 1)
    size = fifty.size
    image = np.random.default_rng(0).standard_normal((size, BATCH * size), dtype=np.float32)
    origins = [(0, column * size) for column in range(BATCH)]
    stamps = np.stack([fifty.cut(image, origin) for origin in origins])
    plain = load_model(options.model).network.eval().requires_grad_(False)
    contiguous = torch.from_numpy(stamps)[:, None].contiguous()
    draws = torch.randn(SAMPLES, BATCH, model.network.config.latent_dimensions)
    variants = {
        "network, plain (float32, contiguous, not folded)": lambda: plain.encode(contiguous),
        "network, as the program runs it": lambda: fifty.encode(stamps, origins),
        "network and 1 realisation": lambda: list(one.draw(image, origins)),
        "network and 50 realisations": lambda: list(fifty.draw(image, origins)),
        "network and 50 realisations, plain": lambda: plain_realisations(plain, contiguous, draws),
    }
    times = {name: [] for name in variants}
    for round_number in range(options.rounds + 1):
        for name, run in variants.items():
            start = time.perf_counter()
            run()
            if round_number:  # the first is a warm-up
                times[name].append((time.perf_counter() - start) / BATCH * 1e3)
    middle = {name: median(values) for name, values in times.items()}
    print(f"model {model.name}, {torch.get_num_threads()} threads, {options.rounds} rounds, medians")
    for name, value in middle.items():
        print(f"  {name:52s} {value:8.2f} ms per stamp")
    keys = list(middle)
    print(f"  plain network over the program's          {middle[keys[0]] / middle[keys[1]]:6.2f}")
    print(f"  50 realisations over 1, network included  {middle[keys[3]] / middle[keys[2]]:6.2f}")
    print(f"  plain 50 realisations over the program's  {middle[keys[4]] / middle[keys[3]]:6.2f}")

    start = time.perf_counter()
    field = simulate_field(Survey.load("paper"), 2048, 9990)
    rate = len(field.catalog) / (time.perf_counter() - start)
    print(
        f"  galaxies simulated, one core              {rate:6.0f} per second (survey paper, truth included)"
    )
    starts = []
    for _ in range(options.rounds):
        start = time.perf_counter()
        subprocess.run([sys.executable, "-m", "appulse", "--help"], check=True, capture_output=True)
        starts.append(time.perf_counter() - start)
    print(f"  appulse --help                            {median(starts):6.2f} s")


if __name__ == "__main__":
    main()
