"""Check the import contracts with import-linter. The packages come from the folders, so a new plugin cannot be forgotten.

Imports under `TYPE_CHECKING` bind nothing at run time and are left out; tests/test_architecture.py looks at those of plugins.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from importlinter import cli

ROOT = Path(__file__).resolve().parent.parent

SESSION = """
[importlinter]
root_packages = {packages}
exclude_type_checking_imports = True
"""

ALWAYS = """
[importlinter:contract:layers]
name = Layers: the command line on top, the errors at the bottom
type = layers
layers =
    amc_plugins.cli
    amc_plugins.core.capture : amc_plugins.core.engine : amc_plugins.core.network
    amc_plugins.core.document | amc_plugins.core.specs
    amc_plugins.core.errors
"""

WITH_PLUGINS = """
[importlinter:contract:core]
name = The core imports no plugin
type = forbidden
source_modules = amc_plugins
forbidden_modules = {plugins}

[importlinter:contract:plugins]
name = A plugin imports the author's API, never what is behind it
type = forbidden
source_modules = {plugins}
forbidden_modules =
    amc_plugins.core
    amc_plugins.cli
allow_indirect_imports = True

[importlinter:contract:independent]
name = No plugin imports another
type = independence
modules = {plugins}
"""


def plugin_folders(root: Path = ROOT) -> list[Path]:
    """The folders of the plugin distributions, in order."""
    return sorted(path.parent for pattern in ("plugins/*", "plugins/ops/*") for path in root.glob(f"{pattern}/pyproject.toml"))


def plugin_packages(root: Path = ROOT) -> dict[str, Path]:
    """The import packages of the plugin distributions, by name."""
    found = (init.parent for folder in plugin_folders(root) for init in folder.glob("src/*/__init__.py"))
    return {package.name: package for package in sorted(found)}


def contracts(plugins: list[str]) -> str:
    """The configuration of import-linter for these plugin packages."""
    text = SESSION.format(packages="\n    ".join(["", "amc_plugins", *plugins])) + ALWAYS
    return text + WITH_PLUGINS.format(plugins="\n    ".join(["", *plugins])) if plugins else text


def main() -> int:
    """Run import-linter; its exit status."""
    plugins = plugin_packages()
    sys.path[:0] = [str(ROOT), *(str(package.parent) for package in plugins.values())]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "contracts.ini"
        config.write_text(contracts(list(plugins)), encoding="utf-8")
        return cli.lint_imports(config_filename=str(config), no_cache=True, no_logo=True)


if __name__ == "__main__":
    sys.exit(main())
