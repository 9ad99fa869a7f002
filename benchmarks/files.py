"""What files cost: a `.vnmodel` of about 100 MB beside the same tensors in safetensors and torch.save.

    .venv/bin/python -m benchmarks.files            # writes results/files.md

Wall and CPU milliseconds, the least of interleaved rounds, warm page cache, torch with one thread.
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
ROUNDS = 15
NOTE = """The least of interleaved rounds, to names that are free, all on one thread. A `.vnmodel` is synchronised to the disk
before it gets its name; safetensors leaves that to its caller. So both are measured without it and with it, and the ratios
compare like with like (torch.save is not synchronised). Beyond the bytes a `.vnmodel` costs the document, a check of it by the
reader, and a checksum of every tensor (ISA-L's crc32), about 10 ms; where the disk is waited for, that is not seen. Tensors
are views of the mapped file; a `.vnmodel` makes each when it is asked for, so that is measured with all of them as well."""


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


def timed(calls: dict[str, Callable[[], object]], folder: Path | None = None) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds by name, each the least of the rounds; files of `folder` are removed before each call."""
    best = {name: (float("inf"), float("inf")) for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for left in folder.iterdir() if folder is not None else ():
                left.unlink()
            wall, cpu = time.perf_counter(), time.process_time()
            kept = call()
            spent = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
            del kept
    return best


def synchronise(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def main() -> None:
    torch.set_num_threads(1)
    captured = network()
    tensors = {name: one.detach() for name, one in captured.state_dict().items()}
    raw = sum(one.nbytes for one in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("a.vnmodel", "a.safetensors", "a.pt")}

        def vnmodel() -> None:
            amc.export(captured, "vnmodel", files["a.vnmodel"], verify=False)

        def quick() -> None:
            with unsynchronised():
                vnmodel()

        def others() -> None:
            safetensors.torch.save_file(tensors, files["a.safetensors"])

        def careful() -> None:
            others()
            synchronise(files["a.safetensors"])

        writes = timed({
            "`.vnmodel`, not synchronised": quick,
            "safetensors": others,
            "`.vnmodel`": vnmodel,
            "safetensors, synchronised": careful,
            "torch.save": lambda: torch.save(tensors, files["a.pt"]),
        }, Path(folder))  # fmt: skip
        vnmodel()
        others()
        torch.save(tensors, files["a.pt"])
        loads = timed({
            "`.vnmodel`, structure checked, crc32 not": lambda: open_vnmodel(files["a.vnmodel"], generic=True, verify=False),
            "`.vnmodel`, the same and every tensor": lambda: dict(
                open_vnmodel(files["a.vnmodel"], generic=True, verify=False).tensors
            ),
            "`.vnmodel`, every check but ops": lambda: open_vnmodel(files["a.vnmodel"], generic=True),
            "`.vnmodel`, every check (strict)": lambda: open_vnmodel(files["a.vnmodel"]),
            "safetensors": lambda: safetensors.torch.load_file(files["a.safetensors"]),
            "torch.load, weights_only": lambda: torch.load(files["a.pt"], weights_only=True),
        })  # fmt: skip
        over = files["a.vnmodel"].stat().st_size - raw
    lines = ["# Files", "", *(__doc__ or "").split("\n")[0:1], ""]
    lines += [f"{raw / 1e6:.1f} MB of tensors; a `.vnmodel` is {over:,} bytes longer ({over / raw:.3%}).", ""]
    lines += ["    .venv/bin/python -m benchmarks.files", "", *NOTE.split("\n"), ""]
    for title, found in (("write", writes), ("load", loads)):
        lines += [f"| {title} | wall ms | CPU ms | wall / safetensors | CPU / safetensors |", "|---|---:|---:|---:|---:|"]
        for name, (wall, cpu) in found.items():
            with_sync = name in ("`.vnmodel`", "safetensors, synchronised")
            base = found["safetensors, synchronised" if with_sync else "safetensors"]
            lines.append(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |")
        lines.append("")
    RESULT.write_text("\n".join(lines), encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
