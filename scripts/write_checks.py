"""Write docs/checks.md: what every conformance check proves, from the docstrings of the checks."""

from __future__ import annotations

import inspect
from pathlib import Path

from amc_plugins.core.discovery import KINDS, kind_word
from amc_plugins.testing.checks import checks_of

PAGE = Path(__file__).resolve().parent.parent / "docs" / "checks.md"

HEAD = """# Conformance checks

What a plugin has shown when it passes. `amc plugins check NAME` runs the checks of a plugin's kind, and so do its tests with
`amc_plugins.testing.plugin_checks` (see [writing a plugin](plugins.md)). Each runs on small networks and digits of 8 x 8
pixels. Built-in plugins pass them, or have the exception and its reason in their declaration; and for every check the tests
have a plugin that is wrong in the way that it finds (`tests/fixtures/wrong`). `scripts/write_checks.py` writes this page.
"""


def page() -> str:
    """The page."""
    shared = set.intersection(*(set(checks_of(kind).values()) for kind in KINDS if kind != "layer_handlers"))
    parts = [HEAD, "\n## Every kind\n\nLayer handlers have no settings, so those three are not for them.\n\n"]
    observers = checks_of("observers")
    parts += [_line(name, function) for name, function in observers.items() if function in shared]
    for kind in KINDS:
        parts.append(f"\n## {kind_word(kind).capitalize()}s\n\n")
        parts += [_line(name, function) for name, function in checks_of(kind).items() if function not in shared]
    return "".join(parts)


def _line(name: str, function: object) -> str:
    words = " ".join((inspect.getdoc(function) or "").split())
    return f"- **`{name}`** {words}\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
