"""The C++ runtime as an engine: where its library is looked for, and what it computes where there is one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from amc_venus_export._engine import LIBRARY, VenusRuntime

import amc_plugins as amc
from amc_plugins.exporting import MissingEngineError


def test_without_a_library_the_error_says_how_to_get_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(LIBRARY, raising=False)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingEngineError) as caught:
        VenusRuntime(tmp_path / "a.vnmodel", 1)
    assert "amc-venus-runtime" in str(caught.value.hint) and LIBRARY in str(caught.value.hint)


def test_what_is_not_the_library_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "libvn.so").write_bytes(b"no library")
    monkeypatch.setenv(LIBRARY, str(tmp_path / "libvn.so"))
    with pytest.raises(amc.AmcError, match="is not the runtime's library"):
        VenusRuntime(tmp_path / "a.vnmodel", 1)


@pytest.mark.skipif(LIBRARY not in os.environ, reason=f"{LIBRARY} names no library of the runtime")
def test_the_library_computes_what_the_network_does(tmp_path: Path) -> None:
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.Flatten(), torch.nn.Linear(4 * 36, 5))
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    path = amc.export(amc.capture(model.eval(), x), "vnmodel", tmp_path / "a.vnmodel")
    engine = VenusRuntime(path, 1)
    (given,) = engine([x.numpy()])
    expected = model(x).detach()
    assert float((torch.from_numpy(given) - expected).abs().max()) <= 1e-5 * float(expected.abs().max())
    assert engine.version.startswith("1.")
    assert (VenusRuntime(path, 2)([x.numpy()])[0] == given).all()
    with pytest.raises(amc.AmcError, match="does not run on 0 threads: 0 threads, expected 1 to 256"):
        VenusRuntime(path, 0)
    with pytest.raises(amc.AmcError, match="the C\\+\\+ runtime fails"):
        engine([x.numpy()[:, :2]])
    (tmp_path / "b.vnmodel").write_bytes(path.read_bytes()[:200])
    with pytest.raises(amc.AmcError, match="refuses"):
        VenusRuntime(tmp_path / "b.vnmodel", 1)
