"""What else could run the network on a CPU: memory kept, other runtimes, 8-bit integers, larger windows.

usage: pip install onnx onnxruntime openvino sympy
       python benchmarks/runtimes.py [--rounds N] [--model NAME|FILE]

One thread, float32, stamps of one simulated `paper` field in batches of 16. Each variant is a process of its
own, for memory is a property of the process; they take turns, and medians of milliseconds per 128 x 128
pixels are printed. Beside them, how far uncalibrated probabilities (at the prior's mean) move from those of
PyTorch on a stamp: the largest change of P(class 1) or P(class 2), and that which one pixel in a thousand
exceeds. Of a larger window only pixels at least 24 from the edges of the stamp in its middle are compared.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch

from appulse.heap import use_large_pages
from appulse.network.weights import load_model
from appulse.sky import Survey, simulate_field

STAMP, BATCH, MARGIN = 128, 16, 24
KEPT = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 30)}
CALIBRATION = 3  # batches that the ranges of integers are taken from


class Encoder(torch.nn.Module):
    """What is run once per stamp, from the scaled stamp on: ONNX has no arcsinh."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, scaled):
        network = self.network
        return network.combiner.of_features(network.unet(scaled)), network.prior(scaled).mean


class Runtime:
    """One variant: takes scaled stamps and returns features and the prior's mean."""

    def __init__(self, variant, network, stamps, folder):
        self.network, self.encoder = network, Encoder(network).eval()
        self.run = getattr(self, variant.split()[0])(variant, stamps, Path(folder))

    def torch(self, variant, stamps, folder):
        return lambda scaled: self.encoder(scaled.contiguous(memory_format=torch.channels_last))

    def onnx(self, stamps, folder):
        path = folder / "encoder.onnx"
        torch.onnx.export(self.encoder, (stamps[:BATCH],), str(path), dynamo=False, input_names=["x"])
        return path

    def integers(self, stamps, folder):
        from onnxruntime import quantization
        from onnxruntime.quantization.shape_inference import quant_pre_process

        class Reader(quantization.CalibrationDataReader):
            batches = iter(stamps[BATCH : (1 + CALIBRATION) * BATCH].split(BATCH))

            def get_next(self):
                batch = next(self.batches, None)
                return None if batch is None else {"x": batch.numpy()}

        quant_pre_process(str(self.onnx(stamps, folder)), str(folder / "prepared.onnx"))
        path = folder / "integers.onnx"
        quantization.quantize_static(
            str(folder / "prepared.onnx"), str(path), Reader(), per_channel=True, reduce_range=True
        )
        return path

    def model(self, variant, stamps, folder):
        return self.integers(stamps, folder) if "int8" in variant else self.onnx(stamps, folder)

    def onnxruntime(self, variant, stamps, folder):
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        path = self.model(variant, stamps, folder)
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda scaled: [torch.from_numpy(part) for part in session.run(None, {"x": scaled.numpy()})]

    def openvino(self, variant, stamps, folder):
        import openvino

        core = openvino.Core()
        settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
        path = self.model(variant, stamps, folder)
        request = core.compile_model(core.read_model(str(path)), "CPU", settings).create_infer_request()

        def run(scaled):
            found = request.infer({0: scaled.numpy()})
            return [torch.from_numpy(found[place].copy()) for place in (0, 1)]

        return run

    def probabilities(self, scaled):
        features, latent = self.run(scaled)
        return torch.softmax(self.network.realise(features, latent), dim=1)[:, 1:]


VARIANTS = {  # width of the window
    "torch": STAMP,
    "torch, memory kept": STAMP,
    "torch, large pages": STAMP,
    "onnxruntime": STAMP,
    "openvino": STAMP,
    "onnxruntime int8": STAMP,
    "openvino int8": STAMP,
    "torch, large pages, windows of 256": 256,
    "torch, large pages, windows of 512": 512,
}


@torch.inference_mode()
def measure(variant, options):
    """Milliseconds per 128 x 128 pixels, and how far probabilities move."""
    if variant not in ("torch", "torch, memory kept"):
        use_large_pages()
    torch.set_num_threads(1)
    network = load_model(options.model).for_inference
    field = simulate_field(Survey.load("paper"), 1536, 9993)
    rng = np.random.default_rng(0)
    image = field.light / field.sigma + rng.standard_normal(field.light.shape, dtype=np.float32)
    side = VARIANTS[variant]
    corners = rng.integers(0, len(image) - side, (BATCH * (1 + CALIBRATION), 2))
    windows = np.stack([image[y : y + side, x : x + side] for y, x in corners]).astype(np.float32)
    scaled = network.scale(torch.from_numpy(windows)[:, None]).contiguous()
    with tempfile.TemporaryDirectory() as folder:
        runtime = Runtime(variant.replace(",", ""), network, scaled, folder)
        pixels = side**2 / STAMP**2
        batch = scaled[: max(round(BATCH / pixels), 1)]
        times = []
        for _ in range(5):
            start = time.perf_counter()
            runtime.run(batch)
            times.append((time.perf_counter() - start) / len(batch) / pixels * 1e3)
        found = torch.cat(
            [runtime.probabilities(scaled[n : n + len(batch)]) for n in range(0, BATCH, len(batch))]
        )
        start = (side - STAMP) // 2
        middle = scaled[:BATCH, :, start : start + STAMP, start : start + STAMP].contiguous()
        expected = Runtime("torch", network, middle, folder).probabilities(middle)
    found = found[..., start : start + STAMP, start : start + STAMP]
    change = (found - expected).abs()[..., MARGIN:-MARGIN, MARGIN:-MARGIN]
    return {
        "ms": median(times[1:]),
        "largest": change.max().item(),
        "rare": float(np.quantile(change, 0.999)),
    }


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--model", default="euclid")
    parser.add_argument("--variant", choices=list(VARIANTS), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.variant:
        print(json.dumps(measure(options.variant, options)))
        return
    found = {variant: [] for variant in VARIANTS}
    for _ in range(options.rounds):
        for variant, results in found.items():
            command = [sys.executable, __file__, "--model", options.model, "--variant", variant]
            environment = os.environ | (KEPT if variant == "torch, memory kept" else {})
            done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
            results.append(json.loads(done.stdout.splitlines()[-1]))
    print(f"model {options.model}, one thread, {options.rounds} rounds, medians; per 128 x 128 pixels")
    print(f"{'':36} {'ms':>6} {'largest change':>15} {'of 1 in 1000':>13}")
    for variant, results in found.items():
        middle = {key: median(each[key] for each in results) for key in results[0]}
        print(f"{variant:36} {middle['ms']:6.1f} {middle['largest']:15.2g} {middle['rare']:13.2g}")


if __name__ == "__main__":
    main()
