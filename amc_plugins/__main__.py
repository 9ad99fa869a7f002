"""`python -m amc_plugins` is `amc`."""

from __future__ import annotations

from amc_plugins.cli.app import main

if __name__ == "__main__":
    main()
