"""Load networks from files where the libraries of their models cannot be imported: `loaded.py SOCKET`, until it is ended.

`expected.pt` beside a file holds inputs and what the model makes of them. The answer is, per file, `equal`, `differs: ...` or
the error that refused it.
"""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterator
from multiprocessing.connection import Listener
from pathlib import Path
from threading import Thread
from typing import Any

ABSENT = ("torchvision", "timm", "torch_pruning", "benchmarks")
for absent in ABSENT:
    sys.modules[absent] = None  # type: ignore[assignment]  # from now on its import fails

import torch  # noqa: E402

import amc_plugins as amc  # noqa: E402


def tensors_in(tree: Any) -> Iterator[torch.Tensor]:
    if isinstance(tree, torch.Tensor):
        yield tree
    elif isinstance(tree, dict | list | tuple):
        for item in tree.values() if isinstance(tree, dict) else tree:
            yield from tensors_in(item)


def compared(path: Path, inputs: list[Any], expected: list[torch.Tensor]) -> str:
    try:
        network = amc.load(path)
    except amc.AmcError as error:
        return f"{type(error).__name__}: {error}"
    with torch.no_grad():
        given = list(tensors_in(network(*inputs)))
    if len(given) != len(expected):
        return f"differs: {len(given)} outputs instead of {len(expected)}"
    for index, (a, b) in enumerate(zip(expected, given, strict=True)):
        if a.shape != b.shape or not torch.equal(a, b):
            return f"differs: output {index}"
    return "equal"


def serve(address: str) -> None:
    """Each connection sends paths and gets what became of the files, from a process forked for it."""
    with Listener(address, family="AF_UNIX") as listener:
        while True:
            with listener.accept() as connection:
                child = os.fork()
                if child == 0:
                    status = 1
                    try:
                        connection.send(answer(connection.recv()))
                        status = 0
                    finally:
                        os._exit(status)
                os.waitpid(child, 0)


def answer(paths: list[str]) -> dict[str, str]:
    found = {}
    for path in map(Path, paths):
        kept = torch.load(path.with_name("expected.pt"), weights_only=True)
        found[path.suffix[1:]] = compared(path, kept["inputs"], kept["expected"])
    assert all(sys.modules[absent] is None for absent in ABSENT)
    return found


def end_with_parent() -> None:
    """Standard input is a pipe from the process that started this one: it closes when that is killed."""
    sys.stdin.read()
    os._exit(0)


def main() -> int:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    Thread(target=end_with_parent, daemon=True).start()
    serve(sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
