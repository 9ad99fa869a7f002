"""Starts and ends `loaded.py`. Free of torch."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

__all__ = ["ADDRESS", "loader"]

ADDRESS = "AMC_ZOO_LOADER"
"""The environment variable with the socket of `loaded.py`."""


@contextlib.contextmanager
def loader() -> Iterator[None]:
    """The process that loads files; its address is in the environment."""
    with tempfile.TemporaryDirectory() as folder:
        address = Path(folder) / "socket"
        command = [sys.executable, "-P", str(Path(__file__).with_name("loaded.py")), str(address)]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.PIPE)
        try:
            while not address.exists():
                if process.poll() is not None:
                    raise ChildProcessError(f"the loading process ended with status {process.returncode}")
                time.sleep(0.1)
            os.environ[ADDRESS] = str(address)
            yield
        finally:
            process.kill()
            process.wait()
