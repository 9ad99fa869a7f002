"""Write constraints.txt: the exact version of every third-party distribution in this environment."""

from __future__ import annotations

import re
from importlib.metadata import distributions
from pathlib import Path

TARGET = Path(__file__).resolve().parent.parent / "constraints.txt"
OURS = re.compile(r"amc-")
TOOLS = {"pip", "setuptools", "wheel"}
HEADER = """\
# The versions that the tests run with: `pip install -c constraints.txt ...`, as `make install` does.
# To refresh: in a fresh .venv `pip install` what should be newer, see `make test` pass, then `make constraints`.
# A local version (torch 2.13.0+cpu) is written without its suffix, so that every machine takes the wheel it has.
"""


def main() -> None:
    """Write the file, sorted, one `name==version` a line."""
    found: dict[str, str] = {}
    for distribution in distributions():
        found[re.sub(r"[-_.]+", "-", distribution.name).lower()] = distribution.version.partition("+")[0]
    pins = [f"{name}=={version}" for name, version in sorted(found.items()) if not OURS.match(name) and name not in TOOLS]
    TARGET.write_text(HEADER + "\n".join(pins) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
