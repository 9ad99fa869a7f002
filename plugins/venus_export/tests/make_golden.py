"""Makes the golden files of a version of the format: `python make_golden.py golden/1.0`, in this folder.

Run once for each version of the format, into a folder of its own. What was released stays: every later reader must open it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy
import torch
from amc_venus_export import write_vnmodel
from amc_venus_export.drafts import sample, stored_sample
from conftest import Net, hand_made, trained

import amc_plugins as amc

SETTINGS = {
    "float32": {},
    "float16": {"storage": "float16", "metadata": {"x-made-for": "a test"}},
    "int8": {"storage": "int8", "model_id": 4_000_000_000, "model_base_size_hw": (640, 480)},
    "folded": {"fold_norms": True, "align": 4096},
}


def example() -> torch.Tensor:
    """The input of every golden network: (2, 3, 8, 8)."""
    return torch.linspace(-1, 1, 2 * 3 * 8 * 8).reshape(2, 3, 8, 8)


def main(folder: Path) -> None:
    """Write each file and, beside those that run, the scores they give for `example()`."""
    folder.mkdir(parents=True)
    network = amc.capture(trained(Net()), example()[:1])
    for name, settings in SETTINGS.items():
        amc.export(network, "vnmodel", folder / f"{name}.vnmodel", **settings)
        with torch.no_grad():
            scores = amc.load(folder / f"{name}.vnmodel")(example())["scores"]
        numpy.save(folder / f"{name}.npy", scores.numpy())
    write_vnmodel(folder / "unknown.vnmodel", *hand_made(w=torch.arange(6.0).reshape(2, 3), flags=torch.tensor([True, False])))
    (folder / "sample.vnmodel").write_bytes(sample().pack())
    (folder / "stored.vnmodel").write_bytes(stored_sample().pack())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
