"""Environments that lack chosen plugin distributions: neither their entry points nor their packages are there."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Collection
from pathlib import Path

from scripts.check_imports import ROOT, plugin_folders
from tests.environments import SITE, bare_environment

__all__ = ["BUILT_IN", "environment_with", "link_metadata", "link_site", "package_of"]


_SOURCES = "_checkout.pth"
"""In a site folder of `link_site`: where the packages of this checkout are."""


def package_of(distribution: str) -> str:
    """`amc-op-conv` -> `amc_op_conv`."""
    return distribution.replace("-", "_")


BUILT_IN: dict[str, Path] = {
    f"amc-{'op-' if one.parent.name == 'ops' else ''}{one.name.replace('_', '-')}": one for one in plugin_folders()
}
"""Distribution -> folder, of every plugin in this repository."""


def link_site(folder: Path, keep: Collection[str]) -> Path:
    """A site folder with links to what is installed here, and of the plugin distributions only those in `keep`.

    The core and the kept plugins are imported from this checkout, whatever checkout they were installed from.
    """
    folder.mkdir(parents=True, exist_ok=True)
    ours = {package_of(one) for one in BUILT_IN} | {"amc_plugins"}
    kept = {package_of(one) for one in keep} | {"amc_plugins"}
    for entry in SITE.iterdir():
        owner = _owner(entry.name, ours)
        if entry.name == _SOURCES:  # of an environment of this kind, which this one is made from: not to be written through
            continue
        if owner is None or (owner in kept and entry.name.endswith(".dist-info")):
            (folder / entry.name).symlink_to(entry)
    sources = [ROOT, *(BUILT_IN[one] / "src" for one in sorted(keep))]
    (folder / _SOURCES).write_text("".join(f"{one}\n" for one in sources))
    return folder


def environment_with(folder: Path, keep: Collection[str]) -> Path:
    """A virtual environment with `link_site`'s packages and the scripts of this one; returns its interpreter."""
    python = bare_environment(folder)
    link_site(next(folder.glob("lib/python*/site-packages")), keep)
    for script in Path(sys.executable).parent.iterdir():
        here = python.parent / script.name
        if not here.exists() and not script.name.startswith(("amc", "activate", "Activate", "pip", "python")):
            here.symlink_to(script)
    amc = python.parent / "amc"
    amc.write_text(f"#!{python}\nfrom amc_plugins.cli.app import main\nmain()\n")
    os.chmod(amc, 0o755)
    return python


def link_metadata(folder: Path) -> Path:
    """`folder/DISTRIBUTION` for every built-in plugin: on the path, it makes the distribution installed."""
    for distribution in BUILT_IN:
        (folder / distribution).mkdir(parents=True)
        for entry in SITE.glob(f"{package_of(distribution)}-*.dist-info"):
            (folder / distribution / entry.name).symlink_to(entry)
    return folder


def _owner(entry: str, packages: Collection[str]) -> str | None:
    """The package of ours that an entry of a site folder belongs to: its code, its metadata, or its path file."""
    found = re.match(r"(?:_editable_impl_|__editable__\.)?(\w+?)(?:-[^/]*)?(?:\.dist-info|\.pth)?$", entry)
    return found[1] if found is not None and found[1] in packages else None
