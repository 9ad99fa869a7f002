"""k x k and 1 x 1: the closed forms against samples, against each other, and on a deep chain of layers."""

from __future__ import annotations

import pytest
import torch
from amc_lowrank._channel import ChannelScheme, reduced_rank
from amc_lowrank._layers import LayerInfo, find_layers
from amc_lowrank._options import Statistics, rank_grid
from torch import Tensor, nn

from amc_plugins.compression import Calibration, Moments, collect_moments, linear_map
from amc_plugins.graph import ReconstructedNetwork, capture


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def one_conv(stride: int = 1) -> tuple[ReconstructedNetwork, LayerInfo, Tensor]:
    """A convolution on correlated inputs, followed by a BN whose channels differ in scale."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(6, 10, 3, stride, 1), nn.BatchNorm2d(10), nn.ReLU()).eval()
    with torch.no_grad():
        model[1].weight.copy_(torch.linspace(0.2, 2.0, 10))
        model[1].running_var.copy_(torch.linspace(0.5, 1.5, 10))
    x = torch.einsum("nchw,cd->ndhw", normal(60, 6, 9, 9), normal(6, 6, seed=1)) + 0.5
    x[:, :, 1:] += 0.7 * x[:, :, :-1]
    network = capture(model, x[:2])
    (info,) = find_layers(network)[0]
    return network, info, x


def statistics_of(network: ReconstructedNetwork, x: Tensor) -> Statistics:
    return Statistics.of(collect_moments(network, Calibration(x), ["0"], per_sample=81)["0"])


def samples_of(network: ReconstructedNetwork, x: Tensor) -> tuple[Tensor, Tensor]:
    linear = linear_map(network, "0")
    assert linear is not None
    y = network.layer("0")(x).detach()
    positions = linear.positions(tuple(y.shape), None, torch.Generator())
    return linear.patches(x, positions).double(), linear.responses(y, positions).double()


def shifted(x: Tensor, y: Tensor) -> Statistics:
    """Moments of patches that a compressed network would give, with the responses of the original."""
    moments = Moments(x.shape[1], y.shape[1])
    moments.update(x, y)
    return Statistics.of(moments)


def relative(error: Tensor, y: Tensor, metric: Tensor) -> float:
    return float((error @ metric).square().sum() / ((y - y.mean(0)) @ metric).square().sum())


def test_on_clean_input_it_is_the_pca_of_the_responses() -> None:
    network, info, x = one_conv()
    _, y = samples_of(network, x)
    scaled = (y - y.mean(0)) * info.scale
    values, vectors = torch.linalg.eigh(scaled.T @ scaled / len(y))
    left, right, errors = reduced_rank(statistics_of(network, x), info, "rrr", 0.0)
    for rank in (1, 4, 9):
        top = vectors[:, -rank:]
        pca = torch.diag(1 / info.scale) @ top @ top.T @ torch.diag(info.scale) @ info.weight
        assert torch.allclose(left[:, :rank] @ right[:rank], pca, atol=1e-5)
        assert float(errors[rank]) == pytest.approx(float(values[:-rank].sum() / values.sum()), rel=1e-4)
    assert float(errors[10]) < 1e-9


def test_a_free_solve_of_clean_moments_gives_the_same_as_the_shortcut() -> None:
    """With y = W x the system need not be solved; solving it must not change the answer."""
    network, info, x = one_conv()
    known = statistics_of(network, x)
    solved = shifted(*samples_of(network, x))
    assert known.weight is not None and solved.weight is None
    a, b = reduced_rank(known, info, "rrr", 1e-10), reduced_rank(solved, info, "rrr", 1e-10)
    assert torch.allclose(a[2], b[2], atol=1e-6)
    assert torch.allclose(a[0][:, :5] @ a[1][:5], b[0][:, :5] @ b[1][:5], atol=1e-4)


def test_reduced_rank_regression_is_the_truncated_svd_of_the_whitened_problem() -> None:
    network, info, x = one_conv()
    patches, y = samples_of(network, x)
    patches = patches + 0.3 * normal(*patches.shape, seed=4).double() * patches.std(0)
    statistics = shifted(patches, y)
    left, right, errors = reduced_rank(statistics, info, "rrr", 1e-10)
    factor = torch.linalg.cholesky(statistics.gram)
    whitened = info.metric @ torch.linalg.solve_triangular(factor, statistics.cross, upper=False).T
    u, s, v = torch.linalg.svd(whitened, full_matrices=False)
    total = float(((info.metric @ statistics.output_gram) * info.metric).sum())
    for rank in (1, 5):
        best = (u[:, :rank] * s[:rank]) @ v[:rank] @ torch.linalg.inv(factor)
        assert torch.allclose(info.metric @ left[:, :rank] @ right[:rank], best, atol=1e-6)
        assert float(errors[rank]) == pytest.approx(1 - float(s[:rank].square().sum()) / total, rel=1e-6)


def test_solvers_are_ordered_on_perturbed_input() -> None:
    """Free first filters are no worse than mixed ones, those no worse than projections; errors are those of the samples."""
    network, info, x = one_conv()
    patches, y = samples_of(network, x)
    patches = patches + 0.5 * normal(*patches.shape, seed=4).double() * patches.std(0) + 0.2
    statistics = shifted(patches, y)
    found: dict[str, float] = {}
    for solver in ("rrr", "gsvd", "svd"):
        scheme = ChannelScheme(solver, 1e-10)
        fitted = scheme.fit(info, statistics_of(network, x))
        option = fitted.options[2]
        (first, second), error = scheme.refit(info, fitted, option, statistics)
        weight = second.weight.flatten(1).double() @ first.weight.flatten(1).double()  # type: ignore[union-attr,operator]
        made = (patches @ weight.T + second.bias.double()).detach()  # type: ignore[union-attr,operator]
        found[solver] = relative(made - y, y, info.metric)
        if solver != "svd":  # the projection does not know the error that its input adds
            assert found[solver] == pytest.approx(error, rel=1e-4)
        assert float((made - y).mean(0).abs().max()) < 1e-4  # the bias takes up every shift of the means
    assert found["rrr"] < 0.97 * found["gsvd"] < found["svd"]


@pytest.mark.parametrize("stride", [1, 2])
def test_the_chain_has_the_error_of_the_curve(stride: int) -> None:
    network, info, x = one_conv(stride)
    _, y = samples_of(network, x)
    fitted = ChannelScheme().fit(info, statistics_of(network, x))
    assert [option.ranks[0] for option in fitted.options] == list(range(1, 9))  # 9 (54 + 10) is no less than 54 * 10
    errors = [option.error for option in fitted.options]
    assert errors == sorted(errors, reverse=True)
    for option in fitted.options[::3]:
        chain = nn.Sequential(*fitted.chain(info, option))
        made = chain(x).detach().movedim(1, -1).flatten(0, 2).double()
        assert relative(made - y, y, info.metric) == pytest.approx(option.error, rel=1e-3, abs=1e-9)
        assert option.macs == option.ranks[0] * (54 + 10) * info.out_map[0] * info.out_map[1]


def test_a_linear_layer_becomes_two() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 4)).eval()
    x = normal(500, 20) @ normal(20, 20, seed=1)
    network = capture(model, x[:2])
    infos, _ = find_layers(network)
    assert [info.name for info in infos] == ["0", "2"]
    fitted = ChannelScheme().fit(infos[0], statistics_of(network, x))
    assert [option.ranks[0] for option in fitted.options] == list(range(1, 9))
    chain = nn.Sequential(*fitted.chain(infos[0], fitted.options[-1]))
    y = model[0](x).detach()
    assert relative((chain(x).detach() - y).double(), y.double(), infos[0].metric) == pytest.approx(
        fitted.options[-1].error, rel=1e-3
    )


def test_rank_grids() -> None:
    assert rank_grid(5, 48) == [1, 2, 3, 4, 5]
    assert rank_grid(480, 48)[-2:] == [470, 480] and len(rank_grid(480, 48)) == 48
    assert rank_grid(50, 48)[0] == 1 and rank_grid(50, 48)[-1] == 50


def test_weights_stay_near_what_they_were_where_inputs_hardly_vary() -> None:
    """Inputs of nearly low rank, a target that they cannot explain: a weak ridge makes large weights of next to nothing."""
    network, info, x = one_conv()
    patches, y = samples_of(network, x)
    directions = torch.linalg.svd(patches - patches.mean(0), full_matrices=False)[2][:5]
    flat = patches @ directions.T @ directions + 1e-4 * normal(*patches.shape, seed=7)
    statistics = shifted(flat, y)
    norms, errors = [], []
    for ridge in (1e-9, 1e-2):
        left, right, found = reduced_rank(statistics, info, "rrr", ridge)
        norms.append(float((left @ right).norm() / info.weight.norm()))
        errors.append(float(found[-1]))
    assert norms[0] > 20 and norms[1] < 2
    assert errors[1] < errors[0] + 0.05
