"""The named densities against their recipes and known numbers, and the modes of a mixture."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture
from msd_core.research.densities import (
    DENSITIES,
    Density,
    entropy,
    find_modes,
    fractal,
    make_density,
    pinwheel,
    spiral,
)
from msd_core.research.densities.paraboloids import Paraboloids

pytestmark = pytest.mark.core

ENTROPY = {"spiral": -1.40, "pinwheel": -1.27}
"""In nats: between the NLLs of the paper's two DDIM rows, for which the widths are chosen."""


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def moments(mixture: GaussianMixture) -> tuple[Tensor, Tensor]:
    """Mean (2,) and covariance (2, 2) in closed form."""
    weights, centred = mixture.weights, mixture.means - mixture.weights @ mixture.means
    return weights @ mixture.means, torch.einsum("k,kij->ij", weights, mixture.covariances) + (
        centred.T * weights
    ) @ centred


def assert_entropy(mixture: GaussianMixture, truth: float, slack: float, n: int = 4000) -> None:
    """Within three standard errors, and ``slack`` for the digits of ``truth``."""
    value, error = entropy(mixture, n, generator())
    assert abs(value - truth) < 3 * error + slack


# The fractal: what is known of it


def assert_fractal_entropies(density: Density) -> None:
    assert_entropy(density.of("A"), -1.365, 0.001)
    assert_entropy(density.mixture, -0.64, 0.005)


def mass(tree: GaussianMixture) -> Tensor:
    """Weight of a tree before it is brought to 1, from the root: weight ~ its length, of which its pieces span .86."""
    length = ((tree.means[7] - tree.means[0]) / torch.from_numpy(fractal.SCALE)).norm() / 0.86
    return length / tree.weights[0]


def assert_fractal_stream(density: Density) -> None:
    """Origin and scale bring both trees, weighed by their mass, to mean 0 and deviation .5: one order of draws does."""
    masses = torch.stack([mass(tree) for tree in density.classes.values()])
    weights = (masses / masses.sum()).repeat_interleave(1016) * density.mixture.weights * 2
    mean, covariance = moments(GaussianMixture(weights, density.mixture.means, density.mixture.covariances))
    assert mean.abs().max() < 0.002
    assert (covariance.diagonal().sqrt() - 0.5).abs().max() < 0.002
    assert float(density.of("A").log_prob(density.of("A").means).max()) == pytest.approx(2.90, abs=0.01)


def test_fractal() -> None:
    density = make_density("fractal")
    assert {name: len(mixture.weights) for name, mixture in density.classes.items()} == {"A": 1016, "B": 1016}
    assert float(density.mixture.weights[:1016].sum()) == pytest.approx(0.5)
    assert density.mixture.means.abs().max() < 1.5
    assert_fractal_entropies(density)
    assert_fractal_stream(density)


def test_another_fractal_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(fractal, "SHRINK", 0.75)
        with pytest.raises(AssertionError):
            assert_fractal_entropies(make_density("fractal"))
    for name, value in (("ROOTS", dict(reversed(fractal.ROOTS.items()))), ("SEED", 3)):
        with monkeypatch.context() as patch:
            patch.setattr(fractal, name, value)
            with pytest.raises(AssertionError):
                assert_fractal_stream(make_density("fractal"))


# All of them


def assert_moments(mixture: GaussianMixture, points: Tensor) -> None:
    """Mean and covariance of samples within five standard errors of the closed form."""
    mean, covariance = moments(mixture)
    centred = points.double() - mean
    products = centred[:, :, None] * centred[:, None, :]
    root = len(points) ** 0.5
    assert (centred.mean(dim=0).abs() < 5 * centred.std(dim=0) / root).all()
    assert ((products.mean(dim=0) - covariance).abs() < 5 * products.std(dim=0) / root).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_samples(name: str) -> None:
    density = make_density(name)
    assert density.name == name
    points = density.sample(20_000, rng=generator())
    assert points.shape == (20_000, 2) and points.dtype == torch.float32
    assert torch.equal(points, density.sample(20_000, rng=generator()))
    assert not torch.equal(points, density.sample(20_000, rng=generator(1)))
    assert_moments(density.mixture, points)
    with pytest.raises(AssertionError):
        assert_moments(density.mixture, 1.05 * points)
    with pytest.raises(AssertionError):
        assert_moments(density.mixture, points + 0.05)
    xmin, xmax, ymin, ymax = density.extent
    assert (points >= torch.tensor([xmin, ymin])).all() and (points <= torch.tensor([xmax, ymax])).all()


@pytest.mark.parametrize("name", DENSITIES)
def test_every_making_is_the_same(name: str) -> None:
    one, other = make_density(name).mixture, make_density(name).mixture
    for key in ("weights", "means", "covariances"):
        assert torch.equal(getattr(one, key), getattr(other, key))


@pytest.mark.parametrize("sigma", [0.0, 0.1])
def test_score_is_the_gradient(sigma: float) -> None:
    mixture = make_density("fractal").of("A")
    points = mixture.sample(64, rng=generator()).double() + 0.01
    z = points.clone().requires_grad_()
    (truth,) = torch.autograd.grad(mixture.log_prob(z, sigma).sum(), z)
    torch.testing.assert_close(mixture.score(points, sigma), truth, rtol=1e-8, atol=1e-8)


@pytest.mark.parametrize(("name", "module"), [("spiral", spiral), ("pinwheel", pinwheel)])
def test_widths_give_the_entropies(name: str, module: object, monkeypatch: pytest.MonkeyPatch) -> None:
    assert_entropy(make_density(name).mixture, ENTROPY[name], 0.0)
    monkeypatch.setattr(module, "WIDTH", 1.2 * module.WIDTH)  # type: ignore[attr-defined]
    with pytest.raises(AssertionError):
        assert_entropy(make_density(name).mixture, ENTROPY[name], 0.0)


# Each against its recipe


def assert_on_the_spiral(points: Tensor) -> None:
    """Across the curve, samples spread by the stated width; seen from the centre, r - phi's radius is a whole pitch."""
    pitch = (spiral.OUTER - spiral.INNER) / spiral.TURNS
    x, y = points.double().T
    turns = torch.atan2(y, x) / (2 * math.pi)
    off = torch.hypot(x, y) - spiral.INNER - pitch * turns
    off = (off + pitch / 2).remainder(pitch) - pitch / 2
    assert (off.abs() < 6 * spiral.WIDTH).double().mean() > 0.99


def test_spiral() -> None:
    points = make_density("spiral").sample(5000, rng=generator())
    assert_on_the_spiral(points)
    with pytest.raises(AssertionError):
        assert_on_the_spiral(points * torch.tensor([1.0, -1.0]))


def turned(points: Tensor, angle: float) -> Tensor:
    c, s = math.cos(angle), math.sin(angle)
    return points @ torch.tensor([[c, s], [-s, c]], dtype=points.dtype)


def assert_arms(mixture: GaussianMixture, count: int) -> None:
    points = mixture.sample(500, rng=generator()).double()
    torch.testing.assert_close(mixture.log_prob(turned(points, 2 * math.pi / count)), mixture.log_prob(points))


def pinwheel_draws(n: int, *, rate: float = pinwheel.RATE) -> Tensor:
    """Samples of the recipe itself, at the density's own width."""
    radial, across = torch.randn(2, n, dtype=torch.float64, generator=generator(1))
    arm = torch.randint(pinwheel.ARMS, (n,), generator=generator(2))
    r, y = 1 + pinwheel.RADIAL * radial, pinwheel.WIDTH * across
    angle = 2 * math.pi * arm / pinwheel.ARMS + rate * r.exp()
    x, y = r * angle.cos() - y * angle.sin(), r * angle.sin() + y * angle.cos()
    return torch.stack([x, y], dim=1) / pinwheel.SHRINK


def assert_close_to_recipe(mixture: GaussianMixture, draws: Tensor, excess: float) -> None:
    """The draws' mean NLL over the mixture's entropy: 0 if the mixture is the recipe; their heaviest 2 % left out."""
    nll = -mixture.log_prob(draws)
    own = -mixture.log_prob(mixture.sample(len(draws), rng=generator()).double())
    difference = (nll.sort().values - own.sort().values)[: int(0.98 * len(draws))].mean()
    assert abs(float(difference)) < excess


def test_pinwheel() -> None:
    mixture = make_density("pinwheel").mixture
    assert_arms(mixture, 5)
    with pytest.raises(AssertionError):
        assert_arms(mixture, 4)
    excess = 0.045  # three errors of .015; over 12 draws of this size it is -.002 +- .004
    assert_close_to_recipe(mixture, pinwheel_draws(10_000), excess)
    for wrong in (pinwheel_draws(10_000, rate=0.3), pinwheel_draws(10_000) * torch.tensor([1.0, -1.0])):
        with pytest.raises(AssertionError):
            assert_close_to_recipe(mixture, wrong, excess)


def test_two_spirals() -> None:
    density = make_density("two-spirals")
    n = 4000
    phi = torch.rand(n, dtype=torch.float64, generator=generator(1)).sqrt() * 3 * math.pi
    shift = torch.rand(n, 2, dtype=torch.float64, generator=generator(2)) / 2
    noise = 0.1 * torch.randn(n, 2, dtype=torch.float64, generator=generator(3))
    draws = ((torch.stack([-phi * phi.cos(), phi * phi.sin()], dim=1) + shift) / 3 + noise) / 4
    assert_close_to_recipe(density.of("A"), draws, 0.03)
    assert_moments(density.of("A"), draws)
    assert_close_to_recipe(density.of("B"), -draws, 0.03)
    with pytest.raises(AssertionError):
        assert_close_to_recipe(density.of("B"), draws, 0.03)
    torch.testing.assert_close(density.of("B").log_prob(-draws), density.of("A").log_prob(draws))


def assert_board(points: Tensor, colour: int) -> None:
    """Nearly all points in the squares of one colour, alike many in each."""
    at = ((points + 1) / 0.5).floor().long()
    right = at[((at.sum(dim=1) % 2) == colour) & (at >= 0).all(dim=1) & (at < 4).all(dim=1)]
    assert len(right) > 0.75 * len(points)
    counts = torch.bincount(right[:, 0] * 4 + right[:, 1]).float()
    assert (counts[counts > 0] - counts.sum() / 8).abs().max() < 5 * (counts.sum() / 8).sqrt()


def test_checkerboard() -> None:
    points = make_density("checkerboard").sample(20_000, rng=generator())
    assert_board(points, 0)
    with pytest.raises(AssertionError):
        assert_board(points, 1)


# Classes


def test_classes() -> None:
    density = make_density("fractal")
    assert density.of("B") is density.classes["B"]
    torch.testing.assert_close(
        density.sample(5, rng=generator(), cls="A"), density.of("A").sample(5, rng=generator()).float()
    )
    with pytest.raises(ValueError, match="cls: got 'C'; allowed are 'A', 'B'"):
        density.of("C")
    with pytest.raises(ValueError, match="name: got 'circle'; allowed are 'fractal'"):
        make_density("circle")


def test_wrong_dimension() -> None:
    solid = GaussianMixture(torch.ones(1), torch.zeros(1, 3), torch.eye(3)[None])
    with pytest.raises(ValueError, match=r"classes: got 1 with dimensions \[3\]"):
        Density("solid", {"all": solid})
    with pytest.raises(ValueError, match="at least one mixture"):
        Density("empty", {})


# Modes and entropy


def pair(distance: float, weight: float = 0.5) -> GaussianMixture:
    """Two unit Gaussians of the plane, ``distance`` apart."""
    means = torch.tensor([[-distance / 2, 0.0], [distance / 2, 0.0]], dtype=torch.float64)
    weights = torch.tensor([weight, 1 - weight], dtype=torch.float64)
    return GaussianMixture(weights, means, torch.eye(2, dtype=torch.float64).repeat(2, 1, 1))


def corner() -> GaussianMixture:
    """Two long Gaussians that cross: a third mode where no mean is (Carreira-Perpinan and Williams 2003)."""
    means = torch.tensor([[1.0, 0.0], [0.0, 1.0]], dtype=torch.float64)
    covariances = torch.diag_embed(torch.tensor([[1.0, 0.01], [0.01, 1.0]], dtype=torch.float64))
    return GaussianMixture(torch.full((2,), 0.5, dtype=torch.float64), means, covariances)


def assert_is_modes(mixture: GaussianMixture, modes: Tensor) -> None:
    """Every one is a peak: no gradient, and lower all around; and they come highest first."""
    assert mixture.score(modes).norm(dim=1).max() < 1e-4
    height = mixture.log_prob(modes)
    assert (height.diff() <= 0).all()
    for k in range(16):
        around = modes + 1e-3 * turned(torch.tensor([[1.0, 0.0]], dtype=torch.float64), math.pi * k / 8)
        assert (mixture.log_prob(around) < height).all()


def assert_modes_of_pairs(finder: Callable[[GaussianMixture], Tensor]) -> None:
    """One mode up to a distance of 2 deviations, two above: there x = (d/2) tanh(x d/2)."""
    torch.testing.assert_close(finder(pair(1.9)), torch.zeros(1, 2, dtype=torch.float64), atol=1e-6, rtol=0)
    modes = finder(pair(3.0))
    x = modes[:, 0].sort().values
    assert modes.shape == (2, 2)
    torch.testing.assert_close(x, 1.5 * (1.5 * x).tanh(), atol=1e-8, rtol=0)
    assert x[0] < -1 and x[1] > 1
    assert finder(pair(3.0, 0.9))[0, 0] < 0


def test_modes_of_pairs() -> None:
    assert_modes_of_pairs(find_modes)
    with pytest.raises(AssertionError):
        assert_modes_of_pairs(lambda mixture: mixture.means)


def assert_modes_on_a_grid(mixture: GaussianMixture, modes: Tensor) -> None:
    """At each mode, and nowhere else, points of a fine grid that are higher than their eight neighbours."""
    axis = torch.arange(-2.5, 2.5, 0.01, dtype=torch.float64)
    grid = torch.cartesian_prod(axis, axis)
    height = mixture.log_prob(grid).reshape(1, 1, len(axis), -1)
    peaks = grid[(height == torch.nn.functional.max_pool2d(height, 3, stride=1, padding=1)).flatten()]
    distance = torch.cdist(peaks, modes)
    assert distance.amin(dim=0).max() < 0.01
    assert distance.amin(dim=1).max() < 0.05


def test_modes_of_a_mixture(mixture: GaussianMixture) -> None:
    modes = find_modes(mixture)
    assert_modes_on_a_grid(mixture, modes)
    assert_is_modes(mixture, modes)
    for wrong in (mixture.means, modes[1:], torch.cat([modes, modes[:1] + 0.3])):
        with pytest.raises(AssertionError):
            assert_modes_on_a_grid(mixture, wrong)
    with pytest.raises(AssertionError):
        assert_is_modes(mixture, mixture.means)


def test_mode_without_a_mean() -> None:
    crossing = corner()
    modes = find_modes(crossing, starts=torch.zeros(1, 2))
    assert_is_modes(crossing, modes)
    assert_modes_on_a_grid(crossing, modes)


def assert_modes_of_the_fractal(mixture: GaussianMixture, modes: Tensor) -> None:
    """685 of 1,016 components make a mode: so counts mean shift with Newton's steps held in their basins, too."""
    assert len(modes) == 685
    assert float(mixture.log_prob(modes[:1])) == pytest.approx(2.90, abs=0.01)
    assert torch.cdist(modes, modes).fill_diagonal_(1).min() > 1e-4
    assert_is_fractal_modes(mixture, modes)


def test_modes_of_the_fractal(monkeypatch: pytest.MonkeyPatch) -> None:
    mixture = make_density("fractal").of("A")
    assert_modes_of_the_fractal(mixture, find_modes(mixture))
    with pytest.raises(AssertionError):
        assert_modes_of_the_fractal(mixture, mixture.means[:685])
    with pytest.raises(AssertionError):
        assert_is_fractal_modes(mixture, mixture.means)
    monkeypatch.setattr("msd_core.research.densities.modes._settle", lambda curves, x: x)
    with pytest.raises(AssertionError):  # the shallow ones are lost where only a rise in height counts
        assert_modes_of_the_fractal(mixture, find_modes(mixture))


def assert_is_fractal_modes(mixture: GaussianMixture, modes: Tensor) -> None:
    """No gradient, in units of the narrowest component's inverse width, and the Hessian, by differences, negative."""
    width = float(torch.linalg.eigvalsh(mixture.covariances).min().sqrt())
    assert mixture.score(modes).norm(dim=1).max() * width < 1e-5
    step = 1e-3 * width * torch.eye(2, dtype=torch.float64)
    columns = [(mixture.score(modes + s) - mixture.score(modes - s)) / (2e-3 * width) for s in step]
    hessian = torch.stack(columns, dim=2)
    assert torch.linalg.eigvalsh((hessian + hessian.mT) / 2).max() < 0


def test_modes_of_the_ring() -> None:
    density = make_density("ring")
    modes = find_modes(density.mixture)
    assert modes.shape == (8, 2)
    torch.testing.assert_close(modes.norm(dim=1), torch.ones(8, dtype=torch.float64), atol=1e-6, rtol=0)


def test_modes_move_with_the_mixture(mixture: GaussianMixture) -> None:
    moved = GaussianMixture(mixture.weights, 3 * mixture.means + 1, 9 * mixture.covariances)
    torch.testing.assert_close(find_modes(moved), 3 * find_modes(mixture) + 1, atol=1e-6, rtol=0)


def test_entropy() -> None:
    mixture = GaussianMixture(torch.ones(1), torch.zeros(1, 2), torch.diag(torch.tensor([1.0, 0.01]))[None])
    truth = 1 + math.log(2 * math.pi) + 0.5 * math.log(0.01)
    value, error = entropy(mixture, 10_000, generator())
    assert error == pytest.approx(0.01, rel=0.05)  # the variance of -log p is D/2
    assert_entropy(mixture, truth, 0.0)
    with pytest.raises(AssertionError):
        assert_entropy(mixture, truth + 0.1, 0.0)
    assert value == entropy(mixture, 10_000, generator())[0]


def test_wrong_input(mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match="tolerance: got 0; allowed is"):
        find_modes(mixture, tolerance=0)
    with pytest.raises(ValueError, match="n: got 1; allowed is a whole number of at least 2"):
        entropy(mixture, 1, generator())


def test_paraboloids_are_the_mixture_at_one_level(mixture: GaussianMixture, points: Tensor) -> None:
    """All but the density's constant, far out and at a vanishing level too; at another level they are not."""
    far = torch.cat([points, torch.tensor([[9.0, -4.0]]).double()])
    for sigma in (0.0, 0.002, 0.1, 1.0, 5.0):
        curves = Paraboloids.of(mixture, sigma)
        torch.testing.assert_close(curves.score(far), mixture.score(far, sigma), rtol=1e-7, atol=1e-7)
        off = curves.log_joint(points).logsumexp(dim=1) - mixture.log_prob(points, sigma)
        torch.testing.assert_close(off, off[:1].expand(len(off)), rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(curves.responsibilities(points).sum(dim=1), torch.ones_like(off))
        with pytest.raises(AssertionError):
            torch.testing.assert_close(curves.score(far), mixture.score(far, sigma + 0.1), rtol=1e-7, atol=1e-7)
