"""Training in two processes, as the standard launcher starts them."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from amc_training import BaseTrainer
from amc_training.data import digits_set
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

PROGRAM = '''
import json, os, sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from amc_training import BaseTrainer
from amc_training.data import digits_set

class Scaled(nn.Module):  # a criterion that learns
    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, predictions, labels):
        return nn.functional.cross_entropy(self.scale * predictions, labels)

torch.manual_seed(0)
net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
criterion = Scaled()
train, validation = digits_set("train"), digits_set("validation")
batches = DataLoader(TensorDataset(train.images[:192], train.labels[:192]), batch_size=16)
held_out = DataLoader(TensorDataset(validation.images[:75], validation.labels[:75]), batch_size=25)
optimizer = torch.optim.SGD([*net.parameters(), *criterion.parameters()], lr=0.1)
told = []

class Telling(BaseTrainer):
    def epoch_ended(self, epoch, values):
        told.append(epoch)

trainer = Telling(
    batches, held_out, None, net, criterion, optimizer, None, 2, "cpu", None, sys.argv[1], accumulation=2
)
trainer.resume()
result = trainer.run()
rank = int(os.environ["RANK"])
state = {name: one.flatten().tolist() for name, one in result.network.state_dict().items()}
with open(os.path.join(sys.argv[1], f"rank{rank}.json"), "w") as file:
    found = {"history": result.history, "told": told, "state": state, "kind": type(result.network).__name__}
    json.dump({**found, "scale": float(criterion.scale.detach())}, file)
'''


class Scaled(nn.Module):
    """A criterion that learns, as in the program."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, predictions: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        return nn.functional.cross_entropy(self.scale * predictions, labels)


def test_two_processes_train_one_network(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launcher = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node=2", "--master-port=0", "--standalone"]
    done = subprocess.run(
        [*launcher, str(program), str(tmp_path)], check=False, capture_output=True, text=True, cwd=tmp_path, timeout=240
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found = [json.loads((tmp_path / f"rank{rank}.json").read_text()) for rank in (0, 1)]
    assert found[0]["state"] == found[1]["state"] and found[0]["history"] == found[1]["history"]
    assert [one["told"] for one in found] == [[1, 2], []]  # the first process tells observers and writes files
    assert found[0]["kind"] == "Sequential"

    # One process with both parts of every batch takes the same steps: two processes x two batches of 16 are 64 images.
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, 10))
    train, validation = digits_set("train"), digits_set("validation")
    criterion = Scaled()
    optimizer = torch.optim.SGD([*net.parameters(), *criterion.parameters()], lr=0.1)
    whole: Any = BaseTrainer(
        DataLoader(TensorDataset(train.images[:192], train.labels[:192]), batch_size=64),
        DataLoader(TensorDataset(validation.images[:75], validation.labels[:75]), batch_size=25),
        None, net, criterion, optimizer, None, 2, "cpu",
    ).run()  # fmt: skip
    for entry, expected in zip(found[0]["history"], whole.history, strict=True):
        assert entry == pytest.approx(expected, rel=1e-4)
    for name, one in whole.network.state_dict().items():
        assert torch.allclose(one.flatten(), torch.tensor(found[0]["state"][name]), atol=1e-5)
    assert found[0]["scale"] == found[1]["scale"] == pytest.approx(float(criterion.scale.detach()), rel=1e-5)
    assert criterion.scale.item() != pytest.approx(1.0, abs=1e-3)
    assert torch.load(tmp_path / "last.pt", weights_only=True)["epoch"] == 2
