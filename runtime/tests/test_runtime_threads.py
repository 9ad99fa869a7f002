"""Several threads share the work of a run: the same bits, whatever their number."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import amc_plugins as amc


class Layers(nn.Module):
    """What is shared among threads, each large enough for it and cut in another way."""

    def __init__(self) -> None:
        super().__init__()
        self.wide = nn.Conv2d(8, 30, 3, padding=1)  # by rows
        self.grouped = nn.Conv2d(30, 36, 3, stride=2, groups=3, bias=False)
        self.depthwise = nn.Conv2d(36, 72, 5, padding=2, groups=36)
        self.pointwise = nn.Conv2d(72, 22, 1)
        self.deep = nn.Conv2d(22, 270, 3, stride=8)  # by channels
        self.up = nn.ConvTranspose2d(270, 14, 4, stride=2, groups=2)
        self.line = nn.Conv1d(14, 50, 7, dtype=torch.float64)
        self.rows = nn.Linear(50, 37)
        self.columns = nn.Linear(37, 211)
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.recurrent = nn.LSTM(64, 80, batch_first=True)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        wide = torch.nn.functional.gelu(torch.nn.functional.relu6(self.wide(torch.cat([x, x], 3))))
        maps = self.up(self.deep(self.pointwise(self.depthwise(self.grouped(wide)))))
        rows = self.line(maps.flatten(2).double()).float().transpose(1, 2)
        columns = self.columns(self.rows(rows))
        sequence = columns[:, :, :64]
        states = self.recurrent(self.attention(sequence, sequence, sequence)[0])[0]
        return maps, rows, columns, columns @ columns.transpose(1, 2), columns.double() @ columns.double()[0].T, states


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Tensor]:
    torch.manual_seed(0)
    x = torch.randn(2, 8, 70, 75)
    path = tmp_path_factory.mktemp("threads") / "layers.vnmodel"
    return amc.export(amc.capture(Layers().eval(), x), "vnmodel", path), x


def same(one: list[Tensor], other: list[Tensor]) -> bool:
    return len(one) == len(other) and all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def tasks() -> set[str]:
    return set(os.listdir("/proc/self/task"))


def busy(task: str) -> int:
    """Nanoseconds that a thread of this process has run."""
    return int(Path(f"/proc/self/task/{task}/schedstat").read_text().split()[0])


def test_outputs_are_the_same_bits(library: Any, exported: Any) -> None:
    path, x = exported
    model = library.open(path)
    one = model.run(x)
    assert all(output.isfinite().all() and output.std() > 0 for output in one)
    for count in (2, 3, 7, 1):
        model.set_threads(count)
        assert same(model.run(x), one), count
        assert same(model.run(x[:1]), library.open(path).run(x[:1])), count


def test_the_threads_are_there_and_work(library: Any, exported: Any) -> None:
    if not Path("/proc/self/schedstat").exists():
        pytest.skip("this system does not say what threads do")
    path, x = exported
    model, before = library.open(path), tasks()
    model.set_threads(3)
    mine = tasks() - before
    assert len(mine) == 2
    idle = {task: busy(task) for task in mine}
    for _ in range(200):  # one that the system does not run in time is not waited for
        model.run(x)
        if all(busy(task) > idle[task] for task in mine):
            break
    else:
        pytest.fail("a thread never worked")
    model.set_threads(1)
    assert not tasks() & mine
    model.set_threads(2)
    del model
    assert not tasks() - before


def test_runs_at_a_time_share_the_threads(library: Any, exported: Any) -> None:
    path, x = exported
    model = library.open(path)
    expected = model.run(x)
    model.set_threads(2)
    problems: list[object] = []

    def work() -> None:
        for count in (2, 3):
            if not same(model.run(x), expected):
                problems.append("other bits")
            model.set_threads(count)  # also while others run

    threads = [threading.Thread(target=work) for _ in range(4)]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    assert not problems


@pytest.mark.parametrize("count", [0, -1, 257])
def test_numbers_of_threads_that_cannot_be(native: Any, library: Any, exported: Any, count: int) -> None:
    path, x = exported
    model = library.open(path)
    with pytest.raises(native.RefusedError, match="expected 1 to 256") as caught:
        model.set_threads(count)
    assert caught.value.code == "ARGUMENT"
    assert len(model.run(x)) == 6


@pytest.mark.slow
def test_xnnpack_gives_the_same_bits(native: Any, exported: Any) -> None:
    if not any((Path(folder) / "xnnpack.h").exists() for folder in ("/usr/include", "/usr/local/include")):
        pytest.skip("XNNPACK is not installed (Debian: libxnnpack-dev and libpthreadpool-dev)")
    path, x = exported
    model = native.Library(native.built("xnnpack", ("vn",), VN_XNNPACK="ON", VN_BUILD_TOOL="OFF")).open(path)
    one = model.run(x)
    for count in (2, 3, 1):
        model.set_threads(count)
        assert same(model.run(x), one), count
