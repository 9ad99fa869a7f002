"""Imported by the process that the others are forked from: what is imported on first use is imported here, once."""

from __future__ import annotations

from benchmarks.zoo.parts import PARTS
from benchmarks.zoo.tracers import TRACERS, warm

for part in PARTS.values():
    part.stages()
for tracer in TRACERS.values():
    warm(tracer)
