"""Load networks from files where the libraries of their models cannot be imported: `loaded.py FILE...`.

`expected.pt` beside a file holds inputs and what the model makes of them. Prints, as JSON, what became of each file: `equal`,
`differs: ...` or the error that refused it.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
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


def main() -> int:
    torch.set_num_threads(1)
    logging.disable(logging.WARNING)
    found = {}
    for path in map(Path, sys.argv[1:]):
        kept = torch.load(path.with_name("expected.pt"), weights_only=True)
        found[path.suffix[1:]] = compared(path, kept["inputs"], kept["expected"])
    assert all(sys.modules[absent] is None for absent in ABSENT)
    json.dump(found, sys.stdout)
    return 0


if __name__ == "__main__":
    sys.exit(main())
