"""Speed of training: the program beside the usual PyTorch pattern, same network, loss and stamps, in one run.

usage: python benchmarks/training_speed.py FIELDS [--steps N] [--rounds N]

"usual": float32, contiguous, a data set that cuts, turns and exposes one stamp after another from the fields
in memory (a loader without workers, as on two cores), the latent repeated over all pixels and joined to the
features, and Adam; memory as the allocator gives it. "appulse": what `appulse train` does, checkpoints, log
and moving average of the weights included. Each is a process of its own; they take turns, and medians are
printed. The first steps of each are not counted.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from appulse.training.config import TrainingConfig

SKIPPED = 4  # steps; the first reserve memory and choose kernels
RECIPE = {"epochs": 1, "seed": 3}


def appulse_steps(fields, steps, folder):
    """Times at which `train` asks for each batch."""
    from appulse.heap import use_large_pages
    from appulse.training import fit as fitting
    from appulse.training.run import train

    use_large_pages(fitting.WORKING_MEMORY)  # as the command does
    config = TrainingConfig(**RECIPE, stamps_per_epoch=steps * TrainingConfig().batch_size)
    times, source_of = [], fitting._source

    class Timed:
        def __init__(self, source):
            self.source = source

        def batches(self, *which):
            for batch in self.source.batches(*which):
                times.append(time.perf_counter())
                yield batch

    fitting._source = lambda *given: Timed(source_of(*given))
    train(Path(folder) / "run", fields, config)
    return times


def usual_steps(fields, steps):
    """Times at which the loop of the usual pattern asks for each batch."""
    import torch
    from stamp_store import OneByOne
    from torch.nn import functional

    from appulse.network.gaussian import kl_divergence
    from appulse.network.punet import ProbabilisticUNet
    from appulse.sky import field_paths
    from appulse.training.losses import weighted_dice

    config = TrainingConfig(**RECIPE)
    source = OneByOne(field_paths(fields), config.stamps)
    network = ProbabilisticUNet(config.network).train()
    optimiser = torch.optim.Adam(network.parameters(), lr=config.learning_rate)
    times = []
    for images, ternary in source.batches(0, steps, config.batch_size):
        times.append(time.perf_counter())
        images, ternary = torch.from_numpy(images)[:, None].float(), torch.from_numpy(ternary)
        scaled = network.scale(images)
        features, prior = network.unet(scaled), network.prior(scaled)
        posterior = network.encode_truth(images, ternary)
        latent = posterior.at(torch.randn_like(posterior.mean))
        repeated = latent[:, :, None, None].expand(-1, -1, *features.shape[2:])
        combiner = network.combiner
        weight = torch.cat((combiner.of_features.weight, combiner.of_latent.weight[:, :, None, None]), dim=1)
        x = functional.conv2d(torch.cat((features, repeated), dim=1), weight, combiner.of_features.bias)
        for layer in combiner.rest:
            x = layer(torch.relu(x))
        loss = weighted_dice(x.softmax(dim=1), ternary, config.class_weights)
        loss = loss + config.cross_entropy_weight * functional.cross_entropy(x, ternary.long())
        loss = loss + config.kl_weight * kl_divergence(posterior, prior).sum(dim=1).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return times


def rate(variant, options):
    """Stamps per second of a variant, in a process of its own."""
    command = [sys.executable, __file__, options.fields, "--steps", str(options.steps), "--variant", variant]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    times = json.loads(done.stdout.splitlines()[-1])[SKIPPED:]
    return (len(times) - 1) * TrainingConfig().batch_size / (times[-1] - times[0])


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("fields", help="directory of `appulse simulate`")
    parser.add_argument("--steps", type=int, default=20)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--variant", choices=("appulse", "usual"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        with tempfile.TemporaryDirectory() as folder:
            steps = SKIPPED + options.steps
            if options.variant == "usual":
                print(json.dumps(usual_steps(options.fields, steps)))
            else:
                print(json.dumps(appulse_steps(options.fields, steps, folder)))
        return
    rates = {"usual": [], "appulse": []}
    for _ in range(options.rounds):
        for variant, found in rates.items():
            found.append(rate(variant, options))
    middle = {variant: median(found) for variant, found in rates.items()}
    batch = TrainingConfig().batch_size
    print(f"batches of {batch}, {options.rounds} rounds of {options.steps} steps, medians, all cores")
    for variant, found in rates.items():
        print(f"  {variant:8s} {middle[variant]:6.1f} stamps/s   ({', '.join(f'{r:.1f}' for r in found)})")
    print(f"  appulse over the usual pattern: {middle['appulse'] / middle['usual']:.2f}")


if __name__ == "__main__":
    main()
