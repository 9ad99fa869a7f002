"""How long ONNX Runtime takes over a compressed network, relative to the original: `onnx_latency.py FOLDER` prints JSON.

The folder has `original.pt2` and `compressed.pt2` (`torch.export`, any batch size). Both become ONNX by torch's own exporter.
One thread; CPU time of the least of interleaved rounds.
"""

from __future__ import annotations

import contextlib
import json
import math
import sys
import time
from pathlib import Path
from typing import Any

import onnxruntime
import torch

ROUNDS = {1: (60, 20), 64: (30, 2)}
"""By batch size: rounds, and runs a round."""


def session(program: Path, images: torch.Tensor) -> Any:
    """A session of one exported program, checked against it on `images`."""
    exported = torch.export.load(program)
    path = program.with_suffix(".onnx")
    with contextlib.redirect_stdout(sys.stderr):
        torch.onnx.export(exported, (images,), path, dynamo=True, verbose=False)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    made = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    (got,) = made.run(None, {made.get_inputs()[0].name: images.numpy()})
    with torch.no_grad():
        torch.testing.assert_close(torch.from_numpy(got), exported.module()(images), rtol=1e-3, atol=1e-3)
    return made


def main() -> int:
    folder = Path(sys.argv[1])
    torch.set_num_threads(1)
    images = torch.randn(64, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    sessions = [session(folder / f"{name}.pt2", images) for name in ("original", "compressed")]
    found = {}
    for batch, (rounds, repeats) in ROUNDS.items():
        best = [math.inf, math.inf]
        for round_ in range(rounds + 3):
            for index, one in enumerate(sessions):
                feed = {one.get_inputs()[0].name: images[:batch].numpy()}
                started = time.process_time()
                for _ in range(repeats):
                    one.run(None, feed)
                spent = time.process_time() - started
                if round_ >= 3:
                    best[index] = min(best[index], spent)
        found[f"onnx_{batch}"] = best[1] / best[0]
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
