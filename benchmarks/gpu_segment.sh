#!/usr/bin/env bash
# Segmentation on a GPU: Mpix/s with 50 realisations, and the network's share of the device's bfloat16 peak.
#
# usage: benchmarks/gpu_segment.sh [SIZE]        (DEVICE=cpu tries the script where there is no GPU)
#
# The first pass of SIZE x SIZE pixels (4096) of sky is timed, transfers included, and the largest rate of a
# bfloat16 matrix product on the same device. Then the whole command runs on the same sky, written as FITS.
set -euo pipefail
cd "$(dirname "$0")/.."
export SIZE="${1:-4096}" DEVICE="${DEVICE:-cuda}"
PYTHON="${PYTHON:-python}"
FOLDER="$(mktemp -d)"
trap 'rm -rf "$FOLDER"' EXIT
export FOLDER

"$PYTHON" - <<'CODE'
import os
import time

import numpy as np
import torch
from astropy.io import fits
from torch.utils.flop_counter import FlopCounterMode

from appulse.inference.sampler import Sampler
from appulse.inference.two_step import first_pass
from appulse.network.weights import load_model

size, device = int(os.environ["SIZE"]), os.environ["DEVICE"]
wait = torch.cuda.synchronize if device == "cuda" else (lambda: None)
print(torch.cuda.get_device_name() if device == "cuda" else "CPU", torch.__version__)


def seconds(work):
    work()
    wait()
    start = time.perf_counter()
    work()
    wait()
    return time.perf_counter() - start


n = 8192 if device == "cuda" else 1024
a = torch.randn(n, n, device=device, dtype=torch.bfloat16)
peak = 2 * n**3 / min(seconds(lambda: a @ a) for _ in range(5))
sky = np.random.default_rng(0).standard_normal((size, size), dtype=np.float32)
fits.writeto(f"{os.environ['FOLDER']}/sky.fits", sky)
sampler = Sampler(load_model("euclid"), 50, 0, "copula", device)
stamps = sky[: sampler.size, : sampler.size][None].repeat(sampler.batch, axis=0)
origins = [(0, 0)] * sampler.batch
with FlopCounterMode(display=False) as counter:
    sampler.encode(stamps, origins)
flops = counter.get_total_flops() / sampler.batch
encode = seconds(lambda: sampler.encode(stamps, origins)) / sampler.batch
drawn = seconds(lambda: first_pass(sky, sampler))
print(f"bfloat16 peak measured        {peak / 1e12:10.2f} TFLOP/s")
print(f"network, per stamp            {flops / 1e9:10.2f} GFLOP in {encode * 1e3:.3f} ms, ", end="")
print(f"{flops / encode / peak:.1%} of the peak")
print(f"first pass, 50 realisations   {size**2 / drawn / 1e6:10.3f} Mpix/s")
CODE

time "$PYTHON" -m appulse segment "$FOLDER/sky.fits" -o "$FOLDER/out" --device "$DEVICE" --no-preview
