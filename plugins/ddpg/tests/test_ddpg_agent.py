"""The agent: networks, one update against the formulas, learning, and the same bits after a restart."""

from __future__ import annotations

import json

import pytest
import torch
from amc_ddpg._agent import Agent
from amc_ddpg.plugin import DdpgSettings


def filled(seed: int = 0, transitions: int = 40, **settings: float) -> Agent:
    agent = Agent(3, DdpgSettings.model_validate({"hidden": 16, "batch": 8, "replay": 30, **settings}), seed)
    generator = torch.Generator().manual_seed(7)
    for index in range(transitions):
        row = torch.rand(8, generator=generator).tolist()
        agent.remember(tuple(row[:3]), row[3], row[4], tuple(row[5:]), end=index % 4 == 3)
    return agent


def parameters(agent: Agent) -> list[torch.Tensor]:
    modules = (agent.actor, agent.critic, agent.target_actor, agent.target_critic)
    return [one.detach().clone() for module in modules for one in module.parameters()]


def test_shapes_and_initial_weights() -> None:
    agent = Agent(11, DdpgSettings(), 0)
    assert [tuple(one.shape) for one in agent.actor.parameters()] == [(300, 11), (300,), (300, 300), (300,), (1, 300), (1,)]
    assert sum(one.numel() for one in agent.critic.parameters()) == 11 * 300 + 300 + 300 + 300 + 300 * 300 + 300 + 301
    assert 0.0 < agent.act((0.5,) * 11) < 1.0
    weights = agent.actor.second.weight.detach()
    assert float(weights.abs().max()) <= 300**-0.5 and float(weights.std()) == pytest.approx(300**-0.5 / 3**0.5, rel=0.02)
    assert torch.equal(weights, Agent(11, DdpgSettings(), 0).actor.second.weight)
    assert not torch.equal(weights, Agent(11, DdpgSettings(), 1).actor.second.weight)


def test_one_update_is_that_of_the_paper() -> None:
    """The critic's first Adam step has the sign of the gradient of the squared temporal difference; targets move by tau."""
    agent = filled(transitions=8, tau=0.1)  # one batch holds everything, so the draw does not matter
    rows = agent._memory[:8].clone()
    states, after, actions, rewards, ends = rows.split([3, 3, 1, 1, 1], 1)
    with torch.no_grad():
        later = agent.target_critic(after, agent.target_actor(after))
        targets = (rewards - rewards.mean()) + (1 - ends) * later  # the first baseline is the first batch's mean
    loss = (agent.critic(states, actions) - targets).square().mean()
    gradients = torch.autograd.grad(loss, list(agent.critic.parameters()))
    before = [one.detach().clone() for one in agent.critic.parameters()]
    old_target = [one.detach().clone() for one in agent.target_critic.parameters()]
    agent.update()
    assert agent.baseline == pytest.approx(float(rewards.mean()))
    for old, new, gradient in zip(before, agent.critic.parameters(), gradients, strict=True):
        clear = gradient.abs() > 1e-5
        assert torch.allclose((new - old)[clear], -1e-3 * gradient[clear].sign(), atol=2e-5)
    for old, target, new in zip(old_target, agent.target_critic.parameters(), agent.critic.parameters(), strict=True):
        assert torch.allclose(target, 0.9 * old + 0.1 * new, atol=1e-7)
    agent.update()
    assert agent.baseline == pytest.approx(float(rewards.mean()))  # moves by half of nothing


def test_the_baseline_is_a_moving_average() -> None:
    agent = filled(transitions=8, replay=8, baseline_rate=0.25)
    agent.update()
    first = agent.baseline
    assert first is not None
    agent._memory[:, 7] += 1.0  # all rewards
    agent.update()
    assert agent.baseline == pytest.approx(first + 0.25)


def test_nothing_happens_before_a_batch_is_remembered_and_old_transitions_go() -> None:
    agent = filled(transitions=7)
    before = parameters(agent)
    agent.update()
    assert agent.baseline is None and all(map(torch.equal, before, parameters(agent)))
    agent = filled(transitions=40)  # 30 places: the last 10 took those of the first 10
    other = filled(transitions=30)
    assert torch.equal(agent._memory[10:], other._memory[10:])
    assert not torch.equal(agent._memory[:10], other._memory[:10])


def test_it_learns_which_action_pays() -> None:
    """One-step walks whose reward peaks where the action is 0.8 less half the state: the policy gets there."""
    agent = Agent(1, DdpgSettings(hidden=64, actor_rate=1e-3, batch=64), 0)
    generator = torch.Generator().manual_seed(3)

    def wanted(state: float) -> float:
        return 0.8 - 0.5 * state

    for _ in range(500):
        state, action = torch.rand(2, generator=generator).tolist()
        agent.remember((state,), action, -((action - wanted(state)) ** 2), (state,), end=True)
    for _ in range(600):
        agent.update()
    errors = [abs(agent.act((state,)) - wanted(state)) for state in (0.1, 0.3, 0.5, 0.7, 0.9)]
    assert max(errors) < 0.12, errors


def test_a_restored_agent_goes_on_bit_for_bit() -> None:
    first = filled()
    for _ in range(5):
        first.update()
    text = json.dumps(first.state())
    second = filled(seed=9, transitions=3)
    second.restore(json.loads(text))
    assert json.dumps(second.state()) == text
    for _ in range(5):
        first.update()
        second.update()
    assert first.baseline == second.baseline
    assert all(map(torch.equal, parameters(first), parameters(second)))
    first.remember((0.1, 0.2, 0.3), 0.4, 0.5, (0.6, 0.7, 0.8), end=True)
    second.remember((0.1, 0.2, 0.3), 0.4, 0.5, (0.6, 0.7, 0.8), end=True)
    assert torch.equal(first._memory, second._memory)


def test_the_state_of_an_agent_that_never_learned() -> None:
    first, second = filled(transitions=0), filled(seed=4)
    second.restore(json.loads(json.dumps(first.state())))
    assert all(map(torch.equal, parameters(first), parameters(second)))
    assert second.baseline is None and float(second._memory.abs().sum()) == 0.0


def test_scaled_rewards_make_one_update_whatever_their_unit() -> None:
    """Rewards in thousandths or as they are: the critic sees the same, in units of their deviation."""
    agents = []
    for unit in (1.0, 1024.0):
        agent = Agent(3, DdpgSettings(hidden=16, batch=8, replay=30), 0, scale_rewards=True)
        generator = torch.Generator().manual_seed(7)
        for index in range(20):
            row = torch.rand(8, generator=generator).tolist()
            agent.remember(tuple(row[:3]), row[3], unit * row[4], tuple(row[5:]), end=index % 4 == 3)
        agent.update()
        agents.append(agent)
    assert agents[0].baseline == pytest.approx(agents[1].baseline, rel=1e-6)
    for one, other in zip(*map(parameters, agents), strict=True):
        assert torch.allclose(one, other, atol=1e-6)
    assert agents[0].baseline is not None and agents[0].baseline > 1.0  # a mean near 1/2 over a deviation near 0.3
