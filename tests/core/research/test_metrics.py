"""The metrics of points: against closed forms, brute force, and what two samples of one density must give."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from msd_core import GaussianMixture

pytest.importorskip("scipy")

from scipy.spatial import KDTree  # noqa: E402

from msd_core.randomness import seeded  # noqa: E402
from msd_core.research.metrics import (  # noqa: E402
    covered,
    distance_to_nearest,
    mmd,
    modes_reached,
    nll,
    precision_recall,
    radii,
    sliced_wasserstein,
)

pytestmark = pytest.mark.core


def draw(n: int, seed: int, scale: float = 1.0) -> Tensor:
    return scale * torch.randn(n, 2, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def moved(points: Tensor) -> Tensor:
    """A rotation by .7, and a shift."""
    c, s = math.cos(0.7), math.sin(0.7)
    return points @ torch.tensor([[c, s], [-s, c]], dtype=points.dtype) + torch.tensor([3.0, -1.0], dtype=points.dtype)


# likelihood


def assert_nll(function: Callable[[Tensor, GaussianMixture], float], mixture: GaussianMixture) -> None:
    s = 0.3
    one = GaussianMixture(torch.ones(1), torch.tensor([[1.0, 2.0]]), s**2 * torch.eye(2)[None])
    points = torch.tensor([[1.0, 2.0], [1.3, 2.0], [1001.0, 2.0]], dtype=torch.float64)
    squares = torch.tensor([0.0, 1.0, (1000 / s) ** 2], dtype=torch.float64)
    truth = float((squares / 2 + math.log(2 * math.pi * s**2)).mean())
    assert function(points, one) == pytest.approx(truth, rel=1e-6)  # variance .09 in float32
    assert function(points[:2], one) == pytest.approx(0.25 + math.log(2 * math.pi * s**2), rel=1e-6)
    many = mixture.sample(2500, rng=torch.Generator().manual_seed(0))
    assert function(many, mixture) == pytest.approx(-float(mixture.log_prob(many).mean()), rel=1e-12)


def test_nll(mixture: GaussianMixture) -> None:
    assert_nll(nll, mixture)
    planted: tuple[Callable[[Tensor, GaussianMixture], float], ...] = (
        lambda x, p: -nll(x, p),
        lambda x, p: nll(x, p) / math.log(2),  # bits
        lambda x, p: -float(p.log_prob(x).clamp(min=-100).mean()),
        lambda x, p: nll(x[:1024], p),  # the first chunk alone
    )
    for error in planted:
        with pytest.raises(AssertionError):
            assert_nll(error, mixture)


# precision and recall


def brute_radii(points: Tensor, k: int) -> Tensor:
    return torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").sort(dim=1).values[:, k]


def brute_covered(points: Tensor, centres: Tensor, reach: Tensor) -> Tensor:
    return (torch.cdist(points, centres, compute_mode="donot_use_mm_for_euclid_dist") <= reach).any(dim=1)


def cases() -> dict[str, tuple[Tensor, Tensor]]:
    x, y = draw(700, 1), draw(500, 2)
    outliers = x.clone()
    outliers[:9] *= 1e4
    places = x[:5][torch.arange(700) % 5]
    repeated = torch.cat([x[:150], x[:150], x[:100], x[:300]])  # up to 4 at a place
    return {
        "random": (x, y),
        "far outliers": (outliers, y),
        "five places": (places, y),
        "five tight heaps": (places + draw(700, 3, 1e-6), y),
        "repeated": (repeated, y),
        "a subset": (y[:100], y),
        "one place": (x[:1].expand(700, 2), y),
        "on a line": (x * torch.tensor([1.0, 0.0]), y),
        "a lattice": (torch.cartesian_prod(torch.arange(25.0), torch.arange(25.0)).double() / 8 - 1.5, y),
    }


@pytest.mark.parametrize("name", list(cases()))
@pytest.mark.parametrize("k", [1, 3])
def test_precision_recall_is_that_of_brute_force(name: str, k: int) -> None:
    x, y = cases()[name]
    r_x, r_y = brute_radii(x, k), brute_radii(y, k)
    torch.testing.assert_close(radii(x, k), r_x, rtol=1e-12, atol=0)
    assert torch.equal(covered(x, y, radii(y, k)), brute_covered(x, y, r_y))
    assert torch.equal(covered(y, x, radii(x, k)), brute_covered(y, x, r_x))
    truth = float(brute_covered(x, y, r_y).double().mean()), float(brute_covered(y, x, r_x).double().mean())
    assert precision_recall(x, y, k) == pytest.approx(truth, abs=1e-12)


def test_the_nearest_centre_alone_is_not_enough() -> None:
    """A point outside the small ball of its nearest centre, inside the large one of another."""
    centres, reach = torch.tensor([[0.0, 0.0], [3.0, 0.0]]), torch.tensor([0.5, 2.5])
    points = torch.tensor([[1.0, 0.0], [-0.6, 0.0], [5.5, 0.0], [5.6, 0.0]])
    assert covered(points, centres, reach).tolist() == [True, False, True, False]


def nearest_ball_alone(x: Tensor, y: Tensor) -> tuple[float, float]:
    """A common short cut, wrong: only the ball of the nearest centre is asked."""

    def share(points: Tensor, centres: Tensor) -> float:
        distance, nearest = KDTree(centres.numpy()).query(points.numpy())
        return float((torch.from_numpy(distance) <= radii(centres)[torch.from_numpy(nearest)]).double().mean())

    return share(x, y), share(y, x)


def test_radii_by_hand() -> None:
    line = torch.tensor([[0.0, 0], [1, 0], [3, 0], [3, 0], [3, 0], [7, 0]])
    assert radii(line, 1).tolist() == [1, 1, 0, 0, 0, 4]
    assert radii(line, 2).tolist() == [3, 2, 0, 0, 0, 4]
    assert radii(line, 3).tolist() == [3, 2, 2, 2, 2, 4]
    assert radii(line, 5).tolist() == [7, 6, 4, 4, 4, 7]


def test_precision_recall_at_its_ends() -> None:
    x, y = draw(400, 1), draw(400, 2)
    assert precision_recall(x, x) == (1, 1)
    assert precision_recall(x, y + 1e3) == (0, 0)
    assert precision_recall(x[:1].expand(400, 2), torch.cat([x, y])) == (1, 1 / 800)  # collapsed onto a true point


def test_precision_recall_invariances() -> None:
    x, y = draw(600, 1), 0.8 * draw(500, 2)
    pair = precision_recall(x, y)
    assert precision_recall(y, x) == pair[::-1]
    order = torch.randperm(600, generator=torch.Generator().manual_seed(0))
    assert precision_recall(x[order], y) == pair
    assert precision_recall(moved(1e-3 * x), moved(1e-3 * y)) == pytest.approx(pair, abs=1e-12)


def assert_truth_against_itself(function: Callable[[Tensor, Tensor], tuple[float, float]]) -> None:
    """Two samples of the fractal: .972 each, with a standard error of .002 (eight pairs of samples)."""
    from msd_core.research.densities import make_density

    fractal = make_density("fractal").of("A")
    generator = torch.Generator().manual_seed(0)
    x, y = (fractal.sample(10_000, rng=generator) for _ in range(2))
    assert function(x, y) == pytest.approx((0.972, 0.972), abs=0.006)


def test_truth_against_itself() -> None:
    assert_truth_against_itself(precision_recall)
    with pytest.raises(AssertionError):  # each point its own first neighbour
        assert_truth_against_itself(lambda x, y: precision_recall(x, y, k=2))
    with pytest.raises(AssertionError):  # the nearest ball alone
        assert_truth_against_itself(nearest_ball_alone)


def test_ten_thousand_points_take_little_time() -> None:
    y = draw(10_000, 2)
    outliers = draw(10_000, 1)
    outliers[:100] *= 1e4
    for x in (outliers, outliers[-5:].repeat(2000, 1)):
        start = time.process_time()
        precision_recall(x, y)
        assert time.process_time() - start < 3


# maximum mean discrepancy


def brute_mmd(x: Tensor, y: Tensor, h: float, *, diagonal: bool = False) -> float:
    """The U-statistic, or with ``diagonal`` the biased V-statistic."""

    def kernel(a: Tensor, b: Tensor) -> Tensor:
        return (-(a[:, None] - b[None]).square().sum(dim=2) / (2 * h**2)).exp()

    def within(a: Tensor) -> Tensor:
        n = a.shape[0]
        return kernel(a, a).mean() if diagonal else (kernel(a, a).sum() - n) / (n * (n - 1))

    return float(within(x) + within(y) - 2 * kernel(x, y).mean())


@pytest.mark.parametrize("n", [2, 256, 257, 600])
@pytest.mark.parametrize("h", [0.02, 1.0])
def test_mmd_is_that_of_brute_force(n: int, h: float) -> None:
    x, y = draw(n, 1), 0.7 * draw(300, 2) + 0.1
    assert mmd(x, y, h) == pytest.approx(brute_mmd(x, y, h), rel=1e-10, abs=1e-14)
    assert mmd(x, y, (h, 0.3)) == pytest.approx((mmd(x, y, h) + mmd(x, y, 0.3)) / 2, rel=1e-10, abs=1e-14)


def overlap(variance: float, distance2: float, h: float) -> float:
    """E k(a, b) for a - b ~ N(d, variance I) in the plane, |d|^2 = distance2."""
    return h**2 / (h**2 + variance) * math.exp(-distance2 / (2 * (h**2 + variance)))


def assert_unbiased(function: Callable[[Tensor, Tensor, float], float]) -> None:
    """The mean of 40 repetitions with 50 points against the closed form for two Gaussians, and against 0."""
    h, s, t, d = 0.5, 0.6, 0.4, torch.tensor([0.5, -0.2], dtype=torch.float64)
    truth = overlap(2 * s**2, 0, h) + overlap(2 * t**2, 0, h) - 2 * overlap(s**2 + t**2, float(d.square().sum()), h)
    pairs = [(draw(50, 2 * i, s), draw(50, 2 * i + 1, t) + d) for i in range(40)]
    twins = [(draw(50, 2 * i, s), draw(50, 2 * i + 1, s)) for i in range(40)]
    for sets, expected in ((pairs, truth), (twins, 0.0)):
        values = torch.tensor([function(x, y, h) for x, y in sets], dtype=torch.float64)
        assert abs(float(values.mean()) - expected) < 4 * float(values.std()) / math.sqrt(40)


def test_mmd_is_unbiased() -> None:
    assert_unbiased(mmd)
    with pytest.raises(AssertionError):
        assert_unbiased(lambda x, y, h: brute_mmd(x, y, h, diagonal=True))
    with pytest.raises(AssertionError):
        assert_unbiased(lambda x, y, h: mmd(x, y, h / math.sqrt(2)))  # exp(-d^2 / h^2)


def test_mmd_invariances() -> None:
    x, y = draw(300, 1), 0.8 * draw(200, 2)
    value = mmd(x, y)
    assert mmd(y, x) == pytest.approx(value, rel=1e-12)
    assert mmd(x.flip(0), y) == pytest.approx(value, rel=1e-12)
    assert mmd(moved(x), moved(y)) == pytest.approx(value, rel=1e-9)
    assert mmd(5 * x, 5 * y, 0.5) == pytest.approx(value, rel=1e-9)
    assert mmd(torch.zeros(9, 2), torch.full((7, 2), 1e3)) == pytest.approx(2, abs=1e-12)
    assert mmd(torch.full((9, 2), 1e8), torch.full((7, 2), 1e8)) == pytest.approx(0, abs=1e-12)


# modes


def test_modes() -> None:
    modes = torch.tensor([[0.0, 0.0], [1.0, 0.0], [0.0, 4.0], [9.0, 9.0]])
    points = torch.tensor([[0.1, 0.0], [0.0, -0.3], [1.0, 0.2]])
    distances = distance_to_nearest(points, modes)
    torch.testing.assert_close(distances, torch.tensor([0.1, 0.3, 0.2], dtype=torch.float64), rtol=1e-6, atol=0)
    assert [modes_reached(points, modes, r) for r in (0.05, 0.15, 0.25, 4.25)] == [0, 0.25, 0.5, 0.75]
    x, y = draw(300, 1), draw(40, 2)
    torch.testing.assert_close(distance_to_nearest(x, y), torch.cdist(x, y).amin(dim=1), rtol=1e-9, atol=1e-12)
    assert modes_reached(x, y, 0.1) == pytest.approx(float((torch.cdist(y, x).amin(dim=1) <= 0.1).double().mean()))
    assert modes_reached(x[:1].expand(300, 2), y, 0.5) < 0.5  # a share of the modes, not of the points


# wrong input

LOST = torch.tensor([[0.0, 0.0], [math.nan, 0.0], [1.0, 1.0], [2.0, 0.0], [3.0, math.inf]])


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda p: nll(LOST, p), "^points: got 2 of 5 rows that are not finite"),
        (lambda p: nll(torch.zeros(3, 4), p), r"^points: got shape \(3, 4\); allowed is \(N, 2\)"),
        (lambda p: nll(torch.zeros(0, 2), p), r"^points: got shape \(0, 2\)"),
        (lambda p: precision_recall(torch.zeros(3, 2), torch.zeros(9, 2)), r"^generated: got shape \(3, 2\).*N >= 4"),
        (lambda p: precision_recall(torch.zeros(9, 2), torch.zeros(9, 3)), r"^reference: got shape \(9, 3\)"),
        (lambda p: precision_recall(torch.zeros(9, 2), LOST), "^reference: got 2 of 5 rows"),
        (lambda p: precision_recall(torch.zeros(9, 2), torch.zeros(9, 2), k=0), "^k: got 0"),
        (lambda p: radii(torch.zeros(9), 3), r"^points: got shape \(9,\)"),
        (lambda p: covered(torch.zeros(9, 2), torch.zeros(2, 2), torch.zeros(3)), r"^radii: got shape \(3,\)"),
        (lambda p: covered(torch.zeros(9, 2), torch.zeros(2, 2), -torch.ones(2)), "^radii: got .*smallest -1"),
        (lambda p: mmd(torch.zeros(1, 2), torch.zeros(9, 2)), r"^generated: got shape \(1, 2\).*N >= 2"),
        (lambda p: mmd(torch.zeros(9, 2), torch.zeros(9, 2), 0.0), "^bandwidth: got 0.0"),
        (lambda p: mmd(torch.zeros(9, 2), torch.zeros(9, 2), ()), "^bandwidth: got none"),
        (lambda p: modes_reached(torch.zeros(9, 2), torch.zeros(2, 2), -1.0), "^radius: got -1.0"),
        (lambda p: distance_to_nearest(torch.zeros(9, 2), torch.zeros(2, 3)), r"^modes: got shape \(2, 3\)"),
        (lambda p: distance_to_nearest(torch.zeros(9, 2).int(), torch.zeros(2, 2)), "^points: got torch.int32"),
    ],
)
def test_wrong_input(call: Callable[[GaussianMixture], object], message: str, mixture: GaussianMixture) -> None:
    with pytest.raises(ValueError, match=message):
        call(mixture)


# --- sliced Wasserstein -----------------------------------------------------------------------------------------------


def test_sliced_wasserstein_of_known_moves() -> None:
    """A move by t: |t| / sqrt(D); a normal widened by a: a; the order of points plays no part."""
    x, seeds = torch.randn(4000, 3, generator=seeded(0), dtype=torch.float64), (seeded(i) for i in range(9))
    moved = torch.tensor([3.0, 0.0, 4.0]).double()
    assert sliced_wasserstein(x + moved, x, next(seeds), 4000) == pytest.approx(5 / math.sqrt(3), rel=0.02)
    assert sliced_wasserstein(3 * x, x, next(seeds)) == pytest.approx(2, rel=0.02)
    assert sliced_wasserstein(x.flip(0), x, next(seeds)) == 0
    line = x[:, :1]
    exact = float((line.sort(dim=0).values - (2 * line + 1).sort(dim=0).values).square().mean().sqrt())
    assert sliced_wasserstein(line, 2 * line + 1, next(seeds)) == pytest.approx(exact, rel=1e-9)
    unsorted = float((line - (-2 * line + 1)).square().mean().sqrt())
    assert abs(unsorted - sliced_wasserstein(line, -2 * line + 1, next(seeds))) > 0.5, "pairs are by order"


def test_sliced_wasserstein_sees_the_weights_of_modes() -> None:
    def two(share: float) -> Tensor:
        return torch.where(torch.arange(1000)[:, None] < 1000 * share, -1.0, 1.0).double().expand(-1, 2)

    near, far = (sliced_wasserstein(two(0.5), two(share), seeded(0)) for share in (0.6, 0.9))
    assert 0 < near < far


@pytest.mark.parametrize(
    ("x", "y", "directions", "message"),
    [
        (torch.ones(3, 2), torch.ones(4, 2), 8, "reference: got 4 points for 3"),
        (torch.ones(3, 2), torch.ones(3, 3), 8, "reference: got shape"),
        (torch.full((3, 2), float("nan")), torch.ones(3, 2), 8, "generated: got 3 of 3 rows"),
        (torch.ones(3, 2), torch.ones(3, 2), 0, "directions: got 0"),
    ],
)
def test_sliced_wasserstein_refuses(x: Tensor, y: Tensor, directions: int, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        sliced_wasserstein(x, y, seeded(0), directions)
