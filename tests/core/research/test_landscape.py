"""Landscapes against known potentials, a dense least-squares twin, and fields that are no gradients."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture

pytest.importorskip("scipy")

from msd_core.research.landscape import Extent, grid, integrate_gradient, residual  # noqa: E402

pytestmark = pytest.mark.core
EXTENT = (-1.0, 1.4, -0.7, 1.0)


def wave(nodes: Tensor) -> tuple[Tensor, Tensor]:
    """A potential without symmetry and its gradient."""
    x, y = nodes.unbind(dim=2)
    potential = (2 * x + 0.3).sin() * (3 * y).cos() + 0.3 * x * y**2
    fx = 2 * (2 * x + 0.3).cos() * (3 * y).cos() + 0.3 * y**2
    fy = -3 * (2 * x + 0.3).sin() * (3 * y).sin() + 0.6 * x * y
    return potential, torch.stack([fx, fy], dim=2)


def worst(shape: tuple[int, int], change: Callable[[Tensor], Tensor] = lambda field: field) -> float:
    """Largest error of the potential of `wave`, after ``change`` of its gradient."""
    potential, field = wave(grid(EXTENT, shape))
    return float((integrate_gradient(change(field), EXTENT) - (potential - potential.mean())).abs().max())


def test_the_grid_is_laid_out_as_promised() -> None:
    nodes = grid(EXTENT, (3, 5))
    torch.testing.assert_close(nodes[0, 0], torch.tensor([-1.0, -0.7], dtype=torch.float64))
    torch.testing.assert_close(nodes[0, 4], torch.tensor([1.4, -0.7], dtype=torch.float64))
    torch.testing.assert_close(nodes[2, 1], torch.tensor([-0.4, 1.0], dtype=torch.float64))


def test_a_quadratic_is_recovered_exactly() -> None:
    x, y = grid(EXTENT, (23, 31)).unbind(dim=2)
    potential = 0.7 * x**2 - 1.3 * y**2 + 0.4 * x * y - x + 2 * y
    field = torch.stack([1.4 * x + 0.4 * y - 1, -2.6 * y + 0.4 * x + 2], dim=2)
    for zero, constant in (("mean", potential.mean()), ("max", potential.max()), ("min", potential.min())):
        found = integrate_gradient(field, EXTENT, zero=zero)
        torch.testing.assert_close(found, potential - constant, rtol=0, atol=1e-12)
    assert residual(field, EXTENT) < 1e-24


def assert_second_order(change: Callable[[Tensor], Tensor] = lambda field: field) -> None:
    errors = [worst((n, n), change) for n in (26, 51, 101, 201)]
    orders = [math.log2(a / b) for a, b in zip(errors, errors[1:], strict=False)]
    assert worst((100, 100), change) < 2e-3
    assert all(abs(order - 2) < 0.1 for order in orders), orders


def test_the_error_is_of_second_order() -> None:
    assert_second_order()
    for planted in (lambda f: f.flip(2), lambda f: -f, lambda f: f.transpose(0, 1)):
        with pytest.raises(AssertionError):
            assert_second_order(planted)


def test_it_is_the_least_squares_solution() -> None:
    """Of a field that is no gradient, by a dense solver on a 4 x 6 grid with unequal spacings."""
    field = torch.randn(4, 6, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    dx, dy = (EXTENT[1] - EXTENT[0]) / 5, (EXTENT[3] - EXTENT[2]) / 3
    rows, values, areas = [], [], []
    for axis, (i_step, j_step), length in ((0, (0, 1), dx), (1, (1, 0), dy)):
        for i in range(4 - i_step):
            for j in range(6 - j_step):
                row = torch.zeros(4, 6, dtype=torch.float64)
                row[i, j], row[i + i_step, j + j_step] = -1 / length, 1 / length
                rows.append(row.flatten())
                values.append((field[i, j, axis] + field[i + i_step, j + j_step, axis]) / 2)
                areas.append(0.5 if (i in (0, 3), j in (0, 5))[axis] else 1.0)
    weight = torch.tensor(areas, dtype=torch.float64).sqrt()
    matrix, target = torch.stack(rows) * weight[:, None], torch.stack(values) * weight
    truth = torch.linalg.lstsq(matrix, target[:, None], driver="gelsd").solution[:, 0]
    found = integrate_gradient(field, EXTENT)
    torch.testing.assert_close(found.flatten(), truth - truth.mean(), rtol=1e-10, atol=1e-12)
    left = (matrix @ truth - target).square().sum() / target.square().sum()
    assert residual(field, EXTENT) == pytest.approx(float(left), rel=1e-10)
    assert residual(field, EXTENT, found + 0.1 * field[..., 0]) > residual(field, EXTENT)


def swirl(nodes: Tensor) -> Tensor:
    """A rotation that does not cross the border of [-1, 1]^2: the curl of cos(pi x / 2) cos(pi y / 2)."""
    x, y = (math.pi / 2 * nodes).unbind(dim=2)
    return torch.stack([-x.cos() * y.sin(), x.sin() * y.cos()], dim=2)


def test_what_no_landscape_shows() -> None:
    square: Extent = (-1.0, 1.0, -1.0, 1.0)
    nodes = grid(square, (101, 101))
    assert residual(swirl(nodes), square) == pytest.approx(1, abs=1e-12)
    assert integrate_gradient(swirl(nodes), square).abs().max() < 1e-12
    rigid = torch.stack([-nodes[..., 1], nodes[..., 0]], dim=2)  # torsion of a square bar: 0.14058 a^4 of a^4 / 6
    assert residual(rigid, square) == pytest.approx(6 * 0.140577, abs=3e-4)
    _, field = wave(nodes)
    assert residual(field, square) < 1e-6
    half = field / field.norm() + swirl(nodes) / swirl(nodes).norm()  # orthogonal: about half the square each
    assert residual(half, square) == pytest.approx(0.5, abs=2e-3)
    assert residual(torch.zeros_like(nodes), square) == 0


def test_the_score_of_a_mixture_gives_its_log_density(mixture: GaussianMixture) -> None:
    extent: Extent = (-2.0, 2.0, -2.0, 2.0)
    nodes = grid(extent, (161, 161))
    score = mixture.score(nodes.reshape(-1, 2), 0.3).reshape(nodes.shape)
    log_prob = mixture.log_prob(nodes.reshape(-1, 2), 0.3).reshape(161, 161)
    found = integrate_gradient(score, extent, zero="max")
    assert (found - (log_prob - log_prob.max())).abs().max() < 1e-2


def test_linear_and_in_the_fields_precision() -> None:
    nodes = grid(EXTENT, (20, 30))
    a, b = wave(nodes)[1], swirl(nodes)
    parts = 2 * integrate_gradient(a, EXTENT) - 3 * integrate_gradient(b, EXTENT)
    torch.testing.assert_close(integrate_gradient(2 * a - 3 * b, EXTENT), parts, rtol=1e-10, atol=1e-12)
    assert integrate_gradient(a.float(), EXTENT).dtype == torch.float32
    assert residual(5 * b, EXTENT) == pytest.approx(residual(b, EXTENT), rel=1e-12)
    turned = integrate_gradient(a.flip(0) * torch.tensor([1.0, -1.0]), EXTENT)
    torch.testing.assert_close(turned.flip(0), integrate_gradient(a, EXTENT), rtol=1e-10, atol=1e-12)


def test_wrong_input() -> None:
    field = torch.zeros(4, 5, 2)
    for bad in (torch.zeros(4, 5), torch.zeros(1, 5, 2), torch.zeros(4, 5, 3), field / 0, field.int()):
        with pytest.raises(ValueError, match="^field: got"):
            integrate_gradient(bad, EXTENT)
    for extent in ((1.0, 0.0, 0.0, 1.0), (0.0, 1.0, 1.0, 1.0), (0.0, math.inf, 0.0, 1.0), (0.0, 1.0)):
        with pytest.raises(ValueError, match="^extent: got"):
            integrate_gradient(field, extent)
    with pytest.raises(ValueError, match="^zero: got 'median'"):
        integrate_gradient(field, EXTENT, zero="median")
    with pytest.raises(ValueError, match=r"^potential: got shape \(5, 4\)"):
        residual(field, EXTENT, torch.zeros(5, 4))
    with pytest.raises(ValueError, match=r"^shape\[1\]: got 1"):
        grid(EXTENT, (3, 1))
