"""The conformance kit: checks that authors run on their plugins, and what the checks are made of.

In the tests of a plugin::

    @pytest.mark.parametrize("check", plugin_checks("keep-first"))
    def test_conformance(check: Check) -> None:
        check()

On the command line: `amc plugins check keep-first`.
"""

from __future__ import annotations

from amc_plugins.testing.checks import Check, DoesNotApply, Outcome, check_names, plugin_checks
from amc_plugins.testing.oracle import assert_masked_equals_shrunk, masked_outputs, random_removal
from amc_plugins.testing.rebuilt import assert_rebuilds, assert_same_outputs
from amc_plugins.testing.tuners import assert_tuner, chain_space, every_candidate

__all__ = [
    "Check",
    "DoesNotApply",
    "Outcome",
    "assert_masked_equals_shrunk",
    "assert_rebuilds",
    "assert_same_outputs",
    "assert_tuner",
    "chain_space",
    "check_names",
    "every_candidate",
    "masked_outputs",
    "plugin_checks",
    "random_removal",
]
