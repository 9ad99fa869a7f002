"""The table of the zoo, from the records of its models.

    python -m benchmarks.zoo.table
"""

from __future__ import annotations

import json
import statistics
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from benchmarks.zoo.__main__ import CACHE
from benchmarks.zoo.parts import PARTS

__all__ = ["markdown"]

Record = dict[str, Any]

RESULTS = Path(__file__).resolve().parents[1] / "results"
_HEAD = """# The zoo

{count} models of torchvision and timm, random weights, statistics of batch norms and constant parameters made random.

    make zoo

| | passed | refused | failed | not measured |
|---|---:|---:|---:|---:|
{totals}

Another size: {other_yes} equal, {other_model} that the model itself refuses, {other_record} refused by name, {other_no} failed.
ShuffleNetV2: {shuffle}. Swin: {swin}. Torch-Pruning on the same models: {peer}.

Capture takes {fx:.1f} times as long as `torch.fx.symbolic_trace` and {export:.2f} times as long as `torch.export`: medians over
the {fx_count} and {export_count} models that they trace.

{groups}

- **captured**: recorded from one sample; equal bits on one and on two other samples, for the record and for the network
  rebuilt from its document.
- **other size**: equal bits on another image size. `refused`: the model itself does not take it, or the reason is below.
- **pruned**: channel groups at random, one share for all, until half of the MACs are gone; equal to the masked network
  within 1e-10 in float64 (1e-3 in float32 above 100 million parameters), with the MACs that were promised.
- **factors**: every convolution without groups and every linear layer that is called once, replaced by two of full rank;
  equal within 1e-9 in float64 (1e-3 in float32 above 100 million parameters). {amplified}
- **lowrank**: half of the MACs gone from every layer that the compressor of that name takes (`scheme="channel"`, four random
  images, without the final refit); runs on other data, finite, with the MACs that were promised. The number is the share
  of the network's MACs that was removed. Refused where it was not tried: networks whose fits take more than some
  20 seconds (a model measured with an earlier, lower limit names that one below).
- **files**: saved as `.pkl` and as `.json`, loaded in a process in which torchvision and timm cannot be imported, equal bits.
- **seconds**: CPU time of one thread at the small image sizes of `zoo/models.py`. Capture with its own checks of the record,
  `fx` and `export`: the same model in the same process, each after a small network. `forward s`: the model on one image, eager,
  and on one of the size that its authors use; `groups s`: finding the channel groups, measured in turns with the first.
- **Torch-Pruning** on the same model: its magnitude pruner in steps of a tenth until half of the MACs are gone by its own
  count, and the model still runs; set up as in its own scripts, 60 CPU seconds and 12 GB. What it computes is not compared.

Versions: {versions}. Fingerprints of the measured code, by part, with the number of
models: {code}.

| model | parameters | captured | other size | groups | free | pruned | factors | lowrank | files | capture s | fx s \
| export s | forward s | native s | groups s | Torch-Pruning |
|---|---:|---|---|---:|---:|---|---|---|---|---:|---:|---:|---:|---:|---:|---|"""

GROUPS_LIMIT = 3.0
"""Forwards that finding the channel groups may take."""
_TOTALS = {
    "captured": "capture",
    "other size": "another_size",
    "pruned": "prune",
    "factors": "factors",
    "lowrank": "lowrank",
    "files": "files",
    "`torch.fx.symbolic_trace`": "fx",
    "`torch.export`": "export",
    "Torch-Pruning": "torch_pruning",
}
_PEERS = ("fx", "export", "torch_pruning")
_PART = {"torch_pruning": "torch_pruning", "fx": "tracers", "export": "tracers", "files": "files"} | dict.fromkeys(
    ("factors", "lowrank"), "lowrank"
)
"""Part of a stage; `amc` has the others."""


def markdown(records: list[Record]) -> str:
    """The table, and what is not passed with its reason."""
    rows = [_row(record) for record in records]
    fx, export = _ratios(records, "fx"), _ratios(records, "export")
    by_model = sum("the model itself" in _stage(one, "another_size").get("why", "") for one in records)
    head = _HEAD.format(
        count=len(records),
        totals="\n".join(_total(records, title, stage) for title, stage in _TOTALS.items()),
        other_yes=_count(records, "another_size", "passed"),
        other_model=by_model,
        other_record=_count(records, "another_size", "refused") - by_model,
        other_no=_count(records, "another_size", "failed") + _count(records, "another_size", "left out"),
        shuffle=_family(records, "shufflenet"),
        swin=_family(records, "swin"),
        peer=f"{_count(records, 'torch_pruning', 'passed')} of {_measured(records, 'torch_pruning')} pruned "
        f"(of ShuffleNetV2 {_peer(records, 'shufflenet')}, of Swin {_peer(records, 'swin')})",
        fx=_median(fx),
        fx_count=len(fx),
        export=_median(export),
        export_count=len(export),
        versions=", ".join(f"{name} {number}" for name, number in records[0]["versions"].items()),
        groups=_groups(records),
        amplified=_amplified(records),
        code="; ".join(f"`{part}` {', '.join(_codes(records, part)) or 'not yet'}" for part in PARTS),
    )
    ours = [line for record in records for line in _reasons(record, peers=False)]
    theirs = [line for record in records for line in _reasons(record, peers=True)]
    return (
        "\n".join(
            [
                *(head, *rows, "", "## Not passed, and why", ""),
                *(ours or ["Nothing."]),
                *("", "## Where the others stop", ""),
                *(theirs or ["Nowhere."]),
            ]
        )
        + "\n"
    )


def _row(record: Record) -> str:
    captured, groups, low = _stage(record, "capture"), _stage(record, "groups"), _stage(record, "lowrank")
    parameters = _stage(record, "build").get("parameters")
    cells = [
        record["name"],
        "" if parameters is None else f"{parameters:,}",
        _state(captured),
        _state(_stage(record, "another_size")),
        str(groups.get("groups", "")),
        str(groups.get("free", "")),
        _state(_stage(record, "prune")),
        _state(_stage(record, "factors")),
        f"{low['removed']:.0%}" if "removed" in low else _state(low),
        _state(_stage(record, "files")),
        *(_seconds(_stage(record, one), "trace_seconds") for one in ("amc_trace", "fx", "export")),
        *(_milli(groups, one) for one in ("forward_seconds", "native_forward_seconds", "map_seconds")),
        _state(_stage(record, "torch_pruning")),
    ]
    return f"| {' | '.join(cells)} |"


def _stage(record: Record, name: str) -> Record:
    part = _PART.get(name, "tracers" if name == "amc_trace" else "amc")
    found: Record = record["parts"].get(part, {}).get("stages", {}).get(name, {})
    return found


def _reasons(record: Record, *, peers: bool) -> list[str]:
    lines = []
    for part in record["parts"].values():
        for name, stage in part["stages"].items():
            if stage["state"] in ("refused", "failed") and (name in _PEERS) == peers:
                lines.append(f"- {record['name']}, {name} {stage['state']}: {_short(stage.get('why', ''), peers)}")
    if not peers and (opaque := _stage(record, "capture").get("opaque")):
        lines.append(f"- {record['name']}, kept as it is, without a handler: {opaque[0]}")
    return lines


def _short(why: str, peers: bool) -> str:
    return why[:160] if peers else why


def _total(records: list[Record], title: str, stage: str) -> str:
    passed, refused, failed = (_count(records, stage, state) for state in ("passed", "refused", "failed"))
    missing = len(records) - _measured(records, stage)
    failed += _count(records, stage, "left out")  # an earlier stage failed
    return f"| {title} | {passed} ({passed / max(1, len(records)):.1%}) | {refused} | {failed} | {missing} |"


def _count(records: list[Record], stage: str, state: str) -> int:
    return sum(_stage(one, stage).get("state") == state for one in records)


def _measured(records: list[Record], stage: str) -> int:
    part = _PART.get(stage, "amc")
    return sum(part in one["parts"] for one in records)


def _family(records: list[Record], word: str) -> str:
    ours = [one for one in records if word in one["name"]]
    return f"{_count(ours, 'capture', 'passed')} of {len(ours)} captured, {_count(ours, 'prune', 'passed')} pruned"


def _peer(records: list[Record], word: str) -> str:
    ours = [one for one in records if word in one["name"]]
    return f"{_count(ours, 'torch_pruning', 'passed')} of {_measured(ours, 'torch_pruning')}"


def _ratios(records: list[Record], tracer: str) -> list[float]:
    """Time of capture by that of a tracer, of the models where both pass."""
    pairs = [(_stage(one, "amc_trace"), _stage(one, tracer)) for one in records]
    return [a["trace_seconds"] / b["trace_seconds"] for a, b in pairs if a.get("state") == b.get("state") == "passed"]


def _median(ratios: list[float]) -> float:
    return statistics.median(ratios) if ratios else float("nan")


def _codes(records: list[Record], part: str) -> list[str]:
    """Fingerprints of the measured code, with the number of models."""
    found = Counter(one["parts"][part]["code"] for one in records if part in one["parts"])
    return [f"{code} ({count})" for code, count in found.most_common()]


def _state(stage: Record) -> str:
    return {"passed": "yes", "refused": "refused", "failed": "**no**", "left out": "**no**"}.get(stage.get("state", ""), "")


def _seconds(stage: Record, name: str) -> str:
    return f"{stage[name]:.2f}" if name in stage else "fails" if stage.get("state") == "failed" else ""


def _milli(stage: Record, name: str) -> str:
    return f"{stage[name]:.3f}" if name in stage else "fails" if stage.get("state") == "failed" else ""


def _groups(records: list[Record]) -> str:
    """What finding the channel groups costs beside a forward, at the small and at the authors' image size."""
    small, native = (_by_forward(records, name) for name in ("forward_seconds", "native_forward_seconds"))
    if not small:
        return "What channel groups cost beside a forward has not been measured."
    within = sum(ratio <= GROUPS_LIMIT for ratio in small.values())
    over = {name: ratio for name, ratio in native.items() if ratio > GROUPS_LIMIT}
    named = ", ".join(f"{name} {ratio:.1f}" for name, ratio in sorted(over.items(), key=lambda item: -item[1]))
    return (
        f"Finding the channel groups takes at most {GROUPS_LIMIT:g} eager forwards of one image of its authors' size in "
        f"{len(native) - len(over)} of {len(native)} models{f' (not in {named})' if named else ''}, with a median of "
        f"{statistics.median(native.values()):.2f}; of one of the small images of this table in {within}, with a median of "
        f"{statistics.median(small.values()):.2f}."
    )


def _by_forward(records: list[Record], name: str) -> dict[str, float]:
    """Time of the channel groups by that of a forward, per model."""
    stages = {one["name"]: _stage(one, "groups") for one in records}
    return {model: stage["map_seconds"] / stage[name] for model, stage in stages.items() if name in stage}


def _amplified(records: list[Record]) -> str:
    names = [one["name"] for one in records if "amplified" in _stage(one, "factors")]
    if not names:
        return ""
    return (
        f"{', '.join(names)}: random weights that amplify rounding by more; there every layer and its factors are equal within "
        "1e-12 on the same inputs, and the outputs within ten times what noise of that size at the same layers does to them."
    )


def main() -> int:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CACHE.glob("*.json"))]
    if not records:
        print("error: nothing has been measured; `make zoo` does", file=sys.stderr)
        return 2
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "zoo.md").write_text(markdown(records), encoding="utf-8")
    (RESULTS / "zoo.json").write_text(json.dumps(records, indent=1) + "\n", encoding="utf-8")
    print(f"wrote {RESULTS / 'zoo.md'}: {len(records)} models")
    return 0


if __name__ == "__main__":
    sys.exit(main())
