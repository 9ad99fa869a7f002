"""The table of the zoo, from the records of its models.

    python -m benchmarks.zoo.table
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.zoo.__main__ import CACHE

__all__ = ["markdown"]

RESULTS = Path(__file__).resolve().parents[1] / "results"
_HEAD = """# The zoo

{count} models of torchvision and timm, random weights, statistics of batch norms and constant parameters made random.
`captured`: recorded from one sample; equal bits on one and on two other samples, for the record and for the network
rebuilt from its document. `other size`: equal bits on another image size. `pruned`: channel groups at random, one
share for all of them, until half of the MACs are gone; equal to the masked network (float64; float32 above 100
million parameters). Seconds are CPU time of one thread at small image sizes.

    make zoo

**Captured {captured} of {count} ({captured_share:.1%}), pruned {pruned} ({pruned_share:.1%}).** ShuffleNetV2: {shuffle}. Swin:
{swin}. Versions: {versions}.

| model | parameters | captured | other size | groups | free | pruned | capture s | groups s |
|---|---:|---|---|---:|---:|---|---:|---:|"""


def markdown(records: list[dict[str, Any]]) -> str:
    """The table of finished models, and what is not passed with its reason."""
    rows, reasons = [], []
    for record in records:
        stages = record["parts"]["amc"]["stages"]
        cells = {name: stages.get(name, {}) for name in ("build", "capture", "another_size", "groups", "prune")}
        rows.append(
            f"| {record['name']} | {cells['build'].get('parameters', 0):,} | {_state(cells['capture'])} "
            f"| {_state(cells['another_size'])} | {cells['groups'].get('groups', '')} | {cells['groups'].get('free', '')} "
            f"| {_state(cells['prune'])} | {_seconds(cells['capture'], 'capture_seconds')} "
            f"| {_seconds(cells['groups'], 'map_seconds')} |"
        )
        for name, stage in stages.items():
            if stage["state"] not in ("passed", "left out") and name != "another_size":
                reasons.append(f"- {record['name']}, {name} {stage['state']}: {stage.get('why', '')}")
        opaque = stages.get("capture", {}).get("opaque")
        if opaque:
            reasons.append(f"- {record['name']}, kept as it is, without a handler: {opaque[0]}")
    head = _HEAD.format(
        count=len(records),
        captured=_passed(records, "capture"),
        captured_share=_passed(records, "capture") / max(1, len(records)),
        pruned=_passed(records, "prune"),
        pruned_share=_passed(records, "prune") / max(1, len(records)),
        shuffle=_family(records, "shufflenet"),
        swin=_family(records, "swin"),
        versions=", ".join(f"{name} {number}" for name, number in records[0]["versions"].items()),
    )
    return "\n".join([head, *rows, "", "## Not passed, and why", "", *(reasons or ["Nothing."])]) + "\n"


def _passed(records: list[dict[str, Any]], stage: str) -> int:
    return sum(one["parts"]["amc"]["stages"].get(stage, {}).get("state") == "passed" for one in records)


def _family(records: list[dict[str, Any]], word: str) -> str:
    ours = [one for one in records if word in one["name"]]
    return f"{_passed(ours, 'capture')} of {len(ours)} captured, {_passed(ours, 'prune')} pruned"


def _state(stage: dict[str, Any]) -> str:
    return {"passed": "yes", "refused": "refused", "failed": "**no**", "left out": ""}.get(stage.get("state", ""), "")


def _seconds(stage: dict[str, Any], name: str) -> str:
    return f"{stage[name]:.2f}" if name in stage else ""


def main() -> int:
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(CACHE.glob("*.json"))]
    records = [one for one in records if "amc" in one["parts"]]
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
