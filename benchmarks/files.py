"""What files cost: a `.vnmodel` of about 100 MB beside the same tensors in safetensors and torch.save.

    .venv/bin/python -m benchmarks.files            # writes results/files.md

Wall and CPU milliseconds, the least of interleaved rounds, warm page cache, torch with one thread.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import safetensors.torch
import torch
from amc_venus_export import open_vnmodel, write_vnmodel
from amc_venus_export._crc import crc32
from amc_venus_export._file import write_pieces
from amc_venus_export._header import HEADER_BYTES
from amc_venus_export._limits import DEFAULT_LIMITS
from amc_venus_export._reader import parse_graph
from amc_venus_export._writer import vnmodel_parts

import amc_plugins as amc
from amc_plugins.graph import document_and_tensors
from tests.zoo import resnet

RESULT = Path(__file__).parent / "results" / "files.md"
ROUNDS = 25
NOTE = """The least of interleaved rounds, to names that are free; torch has one thread. `write_vnmodel` is given the document
and the tensors, as `save_file` is given the tensors; `amc.export` and `save_model` are given the network. Nobody waits for the
disk, except where an `fsync` follows. The writer's check of the graph runs while the system copies the tensors: a `.vnmodel`
has less wall time than CPU time. Tensors are views of the mapped file; a `.vnmodel` makes each when it is asked for, so that is
measured with all of them as well."""
COMPARED = {
    "`.vnmodel`, `amc.export`": "safetensors, `save_model`",
    "`.vnmodel`, `write_vnmodel`, then `fsync`": "safetensors, `save_file`, then `fsync`",
    "safetensors, `save_file`, then `fsync`": "safetensors, `save_file`, then `fsync`",
}
"""What a row is compared with; the others with `save_file` or `load_file`."""
PARTS_NOTE = "What `amc.export` does for a `.vnmodel`, part by part, each alone; the check runs while the bytes are copied."


def network() -> amc.ReconstructedNetwork:
    """ResNet-50, 25.6 million parameters."""
    return amc.capture(resnet.resnet50().eval(), torch.rand(1, 3, 64, 64))


def timed(calls: dict[str, Callable[[], object]], folder: Path | None = None) -> dict[str, tuple[float, float]]:
    """Wall and CPU milliseconds by name, each the least of the rounds; files of `folder` are removed before each call."""
    best = {name: (float("inf"), float("inf")) for name in calls}
    for _ in range(ROUNDS):
        for name, call in calls.items():
            for left in folder.iterdir() if folder is not None else ():
                left.unlink()
            gc.collect()  # of what the others left
            wall, cpu = time.perf_counter(), time.process_time()
            kept = call()
            spent = (time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3
            best[name] = min(best[name][0], spent[0]), min(best[name][1], spent[1])
            del kept
    return best


def synchronise(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def parts(captured: amc.ReconstructedNetwork, folder: Path) -> dict[str, Callable[[], object]]:
    """What `amc.export` does for a `.vnmodel`, and copying the bytes of the tensors as safetensors does."""
    document, tensors = document_and_tensors(captured)
    size, found = vnmodel_parts(document, tensors)
    pieces = [*found]
    views = [one for one in pieces if isinstance(one, memoryview)]
    data_bytes = size - -(-(HEADER_BYTES + len(pieces[1])) // 64) * 64

    def buffered() -> None:
        with (folder / "b").open("wb") as file:
            for view in views:
                file.write(view)

    return {
        "graph and tensors of the network": lambda: document_and_tensors(captured),
        "crc32 of every tensor": lambda: [crc32(view) for view in views],
        "graph as JSON": document.to_json,
        "bytes to the file": lambda: write_pieces(folder / "a", size, pieces),
        "the reader's check of the graph": lambda: parse_graph(bytes(pieces[1]), data_bytes, DEFAULT_LIMITS),
        "(bytes to a file that is not reserved)": buffered,
    }


def main() -> None:
    argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0]).parse_args()
    torch.set_num_threads(1)
    captured = network()
    tensors = {name: one.detach() for name, one in captured.state_dict().items()}
    raw = sum(one.nbytes for one in tensors.values())
    with tempfile.TemporaryDirectory() as folder:
        files = {name: Path(folder) / name for name in ("a.vnmodel", "a.safetensors", "a.pt")}

        document, own = document_and_tensors(captured)

        def vnmodel() -> None:
            write_vnmodel(files["a.vnmodel"], document, own)

        def exported() -> None:
            amc.export(captured, "vnmodel", files["a.vnmodel"], verify=False)

        def others() -> None:
            safetensors.torch.save_file(tensors, files["a.safetensors"])

        def module() -> None:
            safetensors.torch.save_model(captured, str(files["a.safetensors"]))

        def synchronised(name: str, write: Callable[[], None]) -> Callable[[], None]:
            def call() -> None:
                write()
                synchronise(files[name])

            return call

        writes = timed({
            "`.vnmodel`, `write_vnmodel`": vnmodel,
            "safetensors, `save_file`": others,
            "`.vnmodel`, `amc.export`": exported,
            "safetensors, `save_model`": module,
            "`.vnmodel`, `write_vnmodel`, then `fsync`": synchronised("a.vnmodel", vnmodel),
            "safetensors, `save_file`, then `fsync`": synchronised("a.safetensors", others),
            "torch.save": lambda: torch.save(tensors, files["a.pt"]),
        }, Path(folder))  # fmt: skip
        spent = timed(parts(captured, Path(folder)), Path(folder))
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
            "safetensors, `load_file`": lambda: safetensors.torch.load_file(files["a.safetensors"]),
            "torch.load, weights_only": lambda: torch.load(files["a.pt"], weights_only=True),
        })  # fmt: skip
        over = files["a.vnmodel"].stat().st_size - raw
    lines = ["# Files", "", *(__doc__ or "").split("\n")[0:1], ""]
    lines += [f"{raw / 1e6:.1f} MB of tensors; a `.vnmodel` is {over:,} bytes longer ({over / raw:.3%}).", ""]
    lines += ["    .venv/bin/python -m benchmarks.files", "", *NOTE.split("\n"), ""]
    for title, found in (("write", writes), ("load", loads)):
        lines += [f"| {title} | wall ms | CPU ms | wall / safetensors | CPU / safetensors |", "|---|---:|---:|---:|---:|"]
        for name, (wall, cpu) in found.items():
            base = found[COMPARED.get(name, f"safetensors, `{'save' if title == 'write' else 'load'}_file`")]
            lines.append(f"| {name} | {wall:.2f} | {cpu:.2f} | {wall / base[0]:.2f} | {cpu / base[1]:.2f} |")
        lines.append("")
    lines += [*PARTS_NOTE.split("\n"), "", "| part | CPU ms |", "|---|---:|"]
    lines += [f"| {name} | {cpu:.2f} |" for name, (_, cpu) in spent.items()]
    RESULT.write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(lines))


if __name__ == "__main__":
    main()
