"""The conformance kit: checks that authors run on their plugins."""

from __future__ import annotations

from amc_plugins.testing.oracle import assert_masked_equals_shrunk, masked_outputs, random_removal
from amc_plugins.testing.rebuilt import assert_rebuilds, assert_same_outputs
from amc_plugins.testing.tuners import assert_tuner, chain_space, every_candidate

__all__ = [
    "assert_masked_equals_shrunk",
    "assert_rebuilds",
    "assert_same_outputs",
    "assert_tuner",
    "chain_space",
    "every_candidate",
    "masked_outputs",
    "random_removal",
]
