"""The library, built once a session into a folder that is kept."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from typing import Any

import pytest


def _native() -> Any:
    """The module `native` beside this file, whatever the import mode."""
    spec = importlib.util.spec_from_file_location("vn_native", Path(__file__).with_name("native.py"))
    assert spec is not None and spec.loader is not None
    if spec.name not in sys.modules:
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module
        spec.loader.exec_module(module)
    return sys.modules[spec.name]


@pytest.fixture(scope="session")
def native() -> Any:
    """The tests' view of the library; skips where it cannot be built."""
    module = _native()
    if (why := module.missing_tools()) is not None:
        pytest.skip(f"the C++ runtime cannot be built: {why}")
    return module


@pytest.fixture(scope="session")
def library(native: Any) -> Any:
    return native.Library(native.built())
