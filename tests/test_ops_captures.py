"""The built-in handlers capture functions under the names that torch gives them."""

from __future__ import annotations

from torch.overrides import resolve_name

from amc_plugins.core import catalog
from amc_plugins.core.claims import Claims, _resolve
from amc_plugins.core.registry import registry


def test_every_alias_of_a_captured_function_is_captured() -> None:
    """torch reports some functions under another name than they were called by (`torch.mm` as `torch.spmm`)."""
    claims = Claims.installed()
    missing = {}
    for spec in registry().handlers():
        if spec.op not in catalog.OPS:
            continue
        for dotted in spec.captures:
            function = _resolve(dotted)
            if function is None or isinstance(function, type) or dotted.endswith(".__get__"):
                continue
            reported = resolve_name(function)
            if reported is not None and claims.for_function(reported) is not claims.for_function(dotted):
                missing[dotted] = reported
    assert missing == {}
