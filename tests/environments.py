"""Virtual environments that see this one's packages, and pip without a network: for distributions from outside."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

__all__ = ["SITE", "bare_environment", "environment", "install", "run"]

SITE = Path(sysconfig.get_path("purelib"))


def bare_environment(folder: Path) -> Path:
    """A new environment in `folder` with no packages at all; returns its interpreter."""
    venv.create(folder, with_pip=False)
    return folder / "bin" / "python"


def environment(folder: Path) -> Path:
    """A new environment in `folder` that has this one's packages; returns its interpreter."""
    python = bare_environment(folder)
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    parent = f"import site; site.addsitedir({str(SITE)!r})\n"
    (folder / "lib" / version / "site-packages" / "parent.pth").write_text(parent)
    return python


def install(python: Path, *folders: Path, editable: bool = False) -> None:
    """`pip install` of source folders."""
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq", "--no-build-isolation", "--no-deps"]
    command += ["--no-index", *(part for one in folders for part in (["-e", str(one)] if editable else [str(one)]))]
    subprocess.run(command, check=True, capture_output=True, timeout=300)


def run(python: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """The environment's interpreter in `folder`."""
    return subprocess.run(
        [str(python), *arguments],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
