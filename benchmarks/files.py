"""What files cost: a `.vnmodel` of about 100 MB beside the same tensors in safetensors and torch.save.

    .venv/bin/python -m benchmarks.files            # writes results/files.md

Wall and CPU milliseconds, the least of interleaved rounds, one thread, warm page cache. `.vnmodel` and the others are written
by their own functions; a `.vnmodel` is synchronised to the disk before it is renamed, so it is also measured without that.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch
import torch
from amc_venus_export import open_vnmodel

import amc_plugins as amc
from tests.zoo import resnet

RESULT = Path(__file__).parent / "results" / "files.md"
ROUNDS = 9


def network() -> amc.ReconstructedNetwork:
    """ResNet-50, 25.6 million parameters."""
    return amc.capture(resnet.resnet50().eval(), torch.rand(1, 3, 64, 64))


@contextmanager
def unsynchronised() -> Iterator[None]:
    """`os.fsync` does nothing."""
    genuine, os.fsync = os.fsync, lambda handle: None
    try:
        yield
    finally:
        os.fsync = genuine


def timed(calls: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds by name, each the least of the rounds."""
    best = {name: (float("inf"), float("inf")) for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            wall, cpu = time.perf_counter(), time.process_time()
            kept = call()
            spent = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
            del kept
    return best


def main() -> None:
    torch.set_num_threads(1)
    captured = network()
    tensors = {name: one.detach() for name, one in captured.state_dict().items()}
    raw = sum(one.nbytes for one in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("a.vnmodel", "b.vnmodel", "a.safetensors", "a.pt")}

        def vnmodel(name: str) -> None:
            amc.export(captured, "vnmodel", files[name], verify=False)

        def quick() -> None:
            with unsynchronised():
                vnmodel("b.vnmodel")

        writes = timed({
            "`.vnmodel`": lambda: vnmodel("a.vnmodel"),
            "`.vnmodel`, not synchronised": quick,
            "safetensors": lambda: safetensors.torch.save_file(tensors, files["a.safetensors"]),
            "torch.save": lambda: torch.save(tensors, files["a.pt"]),
        })  # fmt: skip
        loads = timed({
            "`.vnmodel`, structure checked, crc32 not": lambda: open_vnmodel(files["a.vnmodel"], generic=True, verify=False),
            "`.vnmodel`, every check but ops": lambda: open_vnmodel(files["a.vnmodel"], generic=True),
            "`.vnmodel`, every check (strict)": lambda: open_vnmodel(files["a.vnmodel"]),
            "safetensors": lambda: safetensors.torch.load_file(files["a.safetensors"]),
            "torch.load, weights_only": lambda: torch.load(files["a.pt"], weights_only=True),
        })  # fmt: skip
        over = files["a.vnmodel"].stat().st_size - raw
    lines = ["# Files", "", *(__doc__ or "").split("\n")[0:1], ""]
    lines += [f"{raw / 1e6:.1f} MB of tensors; a `.vnmodel` is {over:,} bytes longer ({over / raw:.3%}).", ""]
    lines += ["    .venv/bin/python -m benchmarks.files", ""]
    for title, found in (("write", writes), ("load", loads)):
        base = found["safetensors"]
        lines += [f"| {title} | wall ms | CPU ms | wall / safetensors | CPU / safetensors |", "|---|---:|---:|---:|---:|"]
        lines += [
            f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |"
            for name, (wall, cpu) in found.items()
        ]
        lines.append("")
    RESULT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
