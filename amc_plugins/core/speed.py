"""The speed of a run's networks, in PyTorch and on deployed engines: what every report states, in a second or two."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from amc_plugins.core.bench import bench
from amc_plugins.core.errors import AmcError
from amc_plugins.core.macs import profile
from amc_plugins.core.network import ReconstructedNetwork

__all__ = ["measured_speed"]

logger = logging.getLogger("amc_plugins.run.speed")

_MOST = 5_000_000_000
"""MACs of a call above which a run does not time it."""
_SECONDS = 0.15
"""Of measuring, for each network and engine."""


def measured_speed(networks: Mapping[str, ReconstructedNetwork]) -> dict[str, Any]:
    """Timings as `results.json` holds them: `rows` of `amc_plugins.core.bench`, and a `note` where there are none, and why."""
    first = next(iter(networks.values()))
    batch = next((spec.shape[0] for spec in first.graph.inputs if spec.shape and spec.shape[0] is not None), 1)
    if (macs := profile(first).total_macs) > _MOST:
        note = f"A call of {macs / 1e9:.3g} billion MACs is not timed by a run: `amc bench` does that."
        return {"rows": [], "note": note}
    try:
        rows = bench(networks, batch=batch, seconds=_SECONDS, isolated=False)
    except AmcError as error:
        logger.warning("the speed is not measured: %s", error)
        return {"rows": [], "note": f"The speed was not measured: {error}"}
    return {"rows": [row.plain() for row in rows]}
