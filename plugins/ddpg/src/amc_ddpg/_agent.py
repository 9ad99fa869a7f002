"""The agent: deep deterministic policy gradient (Lillicrap et al., ICLR 2016) with the baseline of He et al., ECCV 2018."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from amc_ddpg.plugin import DdpgSettings

__all__ = ["Actor", "Agent", "Critic"]


_IMITATION_RATE, _IMITATION_STEPS, _IMITATED = 1e-3, 400, 1e-4
"""Adam's rate, the most steps, and the mean squared error of an action that is near enough."""


class Actor(nn.Module):
    """states (N, s) -> actions (N, 1) in [0, 1]."""

    def __init__(self, states: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.first = _linear(states, hidden, generator)
        self.second = _linear(hidden, hidden, generator)
        self.last = _linear(hidden, 1, generator)

    def forward(self, states: Tensor) -> Tensor:
        acted: Tensor = torch.sigmoid(self.last(F.relu(self.second(F.relu(self.first(states))))))
        return acted


class Critic(nn.Module):
    """states (N, s) and actions (N, 1) -> values (N, 1)."""

    def __init__(self, states: int, hidden: int, generator: torch.Generator) -> None:
        super().__init__()
        self.state = _linear(states, hidden, generator)
        self.action = _linear(1, hidden, generator)
        self.second = _linear(hidden, hidden, generator)
        self.last = _linear(hidden, 1, generator)

    def forward(self, states: Tensor, actions: Tensor) -> Tensor:
        value: Tensor = self.last(F.relu(self.second(F.relu(self.state(states) + self.action(actions)))))
        return value


def _linear(inputs: int, outputs: int, generator: torch.Generator) -> nn.Linear:
    """A linear layer with torch's own initial distribution, drawn from `generator`."""
    layer: nn.Linear = nn.utils.skip_init(nn.Linear, inputs, outputs)
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


class Agent:
    """Actor, critic, their slow targets, and the replay memory.

    One update takes a batch of transitions (s, a, R, s') and moves the critic towards `(R - b) + discount * Q'(s', mu'(s'))`
    (the second term 0 at the end of a walk; R is the whole episode's reward, b the moving average of the batches' mean
    rewards), the actor up the critic's gradient, and the targets by `tau` towards both.
    """

    def __init__(self, states: int, settings: DdpgSettings, seed: int, *, scale_rewards: bool = False) -> None:
        self.settings = settings
        self._generator = torch.Generator().manual_seed(seed)
        self.actor = Actor(states, settings.hidden, self._generator)
        self.critic = Critic(states, settings.hidden, self._generator)
        self.target_actor = Actor(states, settings.hidden, self._generator)
        self.target_critic = Critic(states, settings.hidden, self._generator)
        self.target_actor.load_state_dict(self.actor.state_dict())
        self.target_critic.load_state_dict(self.critic.state_dict())
        self._actor_adam = torch.optim.Adam(self.actor.parameters(), lr=settings.actor_rate)
        self._critic_adam = torch.optim.Adam(self.critic.parameters(), lr=settings.critic_rate)
        self._memory = torch.zeros(settings.replay, 2 * states + 3)
        """Rows of s, s', action, reward, end of walk."""
        self._states = states
        self._scale_rewards = scale_rewards
        self._count = 0
        """Transitions ever remembered."""
        self.baseline: float | None = None

    def act(self, state: tuple[float, ...]) -> float:
        """The policy's action, without noise."""
        with torch.no_grad():
            return float(self.actor(torch.tensor([state])))

    def remember(self, state: tuple[float, ...], action: float, reward: float, after: tuple[float, ...], *, end: bool) -> None:
        row = torch.tensor([*state, *after, action, reward, float(end)])
        self._memory[self._count % len(self._memory)] = row
        self._count += 1

    def update(self) -> None:
        """One step of critic, actor and targets; nothing while less than a batch is remembered."""
        filled = min(self._count, len(self._memory))
        if filled < self.settings.batch:
            return
        rows = self._memory[torch.randperm(filled, generator=self._generator)[: self.settings.batch]]
        states, after, actions, rewards, ends = rows.split([self._states, self._states, 1, 1, 1], 1)
        if self._scale_rewards:
            spread = float(self._memory[:filled, -2].std(correction=0))
            rewards = rewards / spread if spread > 0.0 else rewards
        mean = float(rewards.mean())
        self.baseline = mean if self.baseline is None else self.baseline + self.settings.baseline_rate * (mean - self.baseline)
        with torch.no_grad():
            later = self.target_critic(after, self.target_actor(after))
            targets = rewards - self.baseline + self.settings.discount * (1.0 - ends) * later
        self._critic_adam.zero_grad()
        F.mse_loss(self.critic(states, actions), targets).backward()
        self._critic_adam.step()
        self._actor_adam.zero_grad()
        (-self.critic(states, self.actor(states)).mean()).backward()
        self._actor_adam.step()
        with torch.no_grad():
            for target, trained in ((self.target_actor, self.actor), (self.target_critic, self.critic)):
                torch._foreach_lerp_(list(target.parameters()), list(trained.parameters()), self.settings.tau)

    def imitate(self, states: Sequence[tuple[float, ...]], actions: Sequence[float]) -> None:
        """Fit the actor, and its target, to the actions of one walk."""
        given, wanted = torch.tensor(states), torch.tensor(actions)[:, None]
        adam = torch.optim.Adam(self.actor.parameters(), lr=_IMITATION_RATE)
        for _ in range(_IMITATION_STEPS):
            loss = F.mse_loss(self.actor(given), wanted)
            if float(loss.detach()) < _IMITATED:
                break
            adam.zero_grad()
            loss.backward()
            adam.step()
        self.target_actor.load_state_dict(self.actor.state_dict())

    # --- state ---

    def _modules(self) -> dict[str, nn.Module]:
        return {
            "actor": self.actor,
            "critic": self.critic,
            "target_actor": self.target_actor,
            "target_critic": self.target_critic,
        }

    def _optimizers(self) -> Iterator[tuple[str, torch.optim.Adam]]:
        yield "actor_adam", self._actor_adam
        yield "critic_adam", self._critic_adam

    def state(self) -> dict[str, Any]:
        """All of it as JSON data; arrays as one base64 `.npz`. `restore` brings back the same bits."""
        arrays: dict[str, np.ndarray[Any, Any]] = {"memory": self._memory[: min(self._count, len(self._memory))].numpy()}
        for name, module in self._modules().items():
            arrays |= {f"{name}/{key}": tensor.numpy() for key, tensor in module.state_dict().items()}
        for name, optimizer in self._optimizers():
            for index, entry in optimizer.state_dict()["state"].items():
                arrays |= {f"{name}/{index}/{key}": tensor.numpy() for key, tensor in entry.items()}
        arrays["generator"] = self._generator.get_state().numpy()
        held = io.BytesIO()
        np.savez(held, **arrays)  # type: ignore[arg-type]
        text = base64.b64encode(held.getvalue()).decode("ascii")
        return {"arrays": text, "count": self._count, "baseline": self.baseline}

    def restore(self, state: Mapping[str, Any]) -> None:
        with np.load(io.BytesIO(base64.b64decode(state["arrays"])), allow_pickle=False) as held:
            arrays = {name: torch.from_numpy(held[name]) for name in held.files}
        for name, module in self._modules().items():
            module.load_state_dict({key: arrays[f"{name}/{key}"] for key in module.state_dict()})
        for name, optimizer in self._optimizers():
            entries: dict[int, dict[str, Tensor]] = {}
            for key, array in arrays.items():
                if key.startswith(f"{name}/"):
                    _, index, slot = key.split("/")
                    entries.setdefault(int(index), {})[slot] = array
            optimizer.load_state_dict({"state": entries, "param_groups": optimizer.state_dict()["param_groups"]})
        self._memory.zero_()
        self._memory[: len(arrays["memory"])] = arrays["memory"]
        self._generator.set_state(arrays["generator"])
        self._count = int(state["count"])
        self.baseline = state["baseline"]
