"""`kill -9` at random moments: nothing is lost but the step under way."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

PROGRAM = """
import sys
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
from amc_training import BaseTrainer
from amc_training.data import digits_set

torch.set_num_threads(1)
torch.manual_seed(0)
net = nn.Sequential(
    nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.Flatten(), nn.Dropout(0.2), nn.Linear(1024, 10)
)
train, validation = digits_set("train"), digits_set("validation")
generator = torch.Generator().manual_seed(3)
batches = DataLoader(TensorDataset(train.images, train.labels), batch_size=16, shuffle=True, generator=generator)
held_out = DataLoader(TensorDataset(validation.images, validation.labels), batch_size=100)
optimizer = torch.optim.SGD(net.parameters(), lr=0.02, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 10, 0.5)
trainer = BaseTrainer(
    batches, held_out, None, net, nn.CrossEntropyLoss(), optimizer, scheduler, 60, "cpu", None, sys.argv[1], seed=5,
    ema_decay=0.95, checkpoint_steps=20,
)
trainer.resume()
print("started", flush=True)
result = trainer.run()
torch.save({"network": result.network.state_dict(), "history": result.history}, sys.argv[1] + "/result.pt")
"""


def start(program: Path, folder: Path) -> subprocess.Popen[str]:
    folder.mkdir(exist_ok=True)
    process = subprocess.Popen([sys.executable, str(program), str(folder)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "started\n"
    process.stdout.close()
    return process


@pytest.mark.slow
def test_ten_kills_end_with_the_bits_of_a_training_that_was_left_alone(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    began = time.monotonic()
    assert start(program, tmp_path / "whole").wait(timeout=300) == 0
    seconds = time.monotonic() - began
    rng = random.Random(0)
    within = 0
    for _ in range(10):
        process = start(program, tmp_path / "killed")
        time.sleep(rng.uniform(0.02, 0.08) * seconds)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        left = torch.load(tmp_path / "killed" / "last.pt", weights_only=True)
        within += left["position"] is not None
    assert within >= 3  # most of the checkpoints that were gone on from are of the middle of an epoch
    assert start(program, tmp_path / "killed").wait(timeout=300) == 0
    whole, killed = (torch.load(tmp_path / name / "result.pt", weights_only=True) for name in ("whole", "killed"))
    assert killed["history"] == whole["history"]
    for name, one in whole["network"].items():
        assert torch.equal(killed["network"][name], one), name
