"""The Markdown of the table of figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

__all__ = ["BARS", "markdown"]

TITLES = {"vgg": "VGG-like", "resnet20": "ResNet-20-like", "mobilenetv2": "MobileNetV2-like"}
BARS: dict[tuple[str, float], tuple[float | None, float | None, float | None]] = {
    ("lowrank", 0.5): (0.4, 0.4, 1.0),
    ("pruning", 0.5): (0.8, 1.2, 0.8),
    ("mixed", 0.5): (0.4, 0.4, 0.7),
    ("lowrank", 0.7): (0.8, 1.2, None),
    ("pruning", 0.7): (2.3, 3.0, 1.8),
    ("mixed", 0.7): (0.9, 1.2, 1.8),
}
"""Test points that a method may lose before any retraining, on the three networks."""

_HEAD = """# Compression without retraining, and after a short fine-tune

Fashion-MNIST, networks of `benchmarks/networks.py`. Accuracies in per cent of the 10,000 test images (standard error about
0.28): right after compression, after batch norms saw the 4,096 unlabelled calibration images once more, and after 80 SGD steps
(the best on validation images of three learning rates, the same for every method). `lost` is the original's accuracy less the
first of these; in brackets what this project allows itself. CPU seconds and peak memory are those of the compression, its
statistics included, one thread; memory is that of the whole process, with torch and the data ({start} MiB before).
Latency is CPU time relative to the original's, eager, one thread, at batch 1 and 64; [latency.md](latency.md) has budgets of
latency and ONNX Runtime. Peers go through the same code in environments of their own.

    {command}
"""

_COLUMNS = "| method | removed | compressed | lost | BN re-estimated | fine-tuned | CPU s | peak MiB | latency 1 | latency 64 |"


def markdown(cells: Sequence[Mapping[str, Any]], command: str, missing: Sequence[str] = ()) -> str:
    """One section a network, one table a budget. `cells` come sorted by network and budget; `missing` has no cells yet."""
    start = min(int(cell["start_mib"]) for cell in cells)
    lines = [_HEAD.format(start=start, command=command)]
    if missing:
        lines.append(f"**Partial.** Not measured yet: {', '.join(missing)}.\n")
    for (network, budget), group in groupby(cells, key=lambda one: (one["network"], one["budget"])):
        rows = list(group)
        lines.append(f"## {TITLES[network]} ({rows[0]['original']:.2f} %), {100 * budget:g} % of the MACs removed\n")
        lines.append(_COLUMNS)
        lines.append("|---|" + "---:|" * 9)
        lines += [_row(cell) for cell in rows]
        lines.append("")
    return "\n".join(lines)


def _row(cell: Mapping[str, Any]) -> str:
    bar = BARS.get((cell["method"], cell["budget"]), (None, None, None))[list(TITLES).index(cell["network"])]
    lost = f"{cell['original'] - cell['compressed']:.2f}" + ("" if bar is None else f" ({bar:g})")
    return (
        f"| {cell['method']} | {100 * cell['removed']:.1f} % | {cell['compressed']:.2f} | {lost} | {cell['norms']:.2f} "
        f"| {cell['tuned']:.2f} | {cell['cpu_seconds']:.1f} | {cell['peak_mib']} "
        f"| {cell['latency_1']:.2f} | {cell['latency_64']:.2f} |"
    )
