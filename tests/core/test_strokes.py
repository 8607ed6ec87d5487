"""Strokes: the rasteriser against closed forms, a slow twin and finite differences; degenerate lines."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from msd_core.generators.vector import stroke
from msd_core.generators.vector.coverage import coverages
from msd_core.generators.vector.outline import at, circles, flattened
from msd_core.generators.vector.stroke import directions, lines, outlined

pytestmark = pytest.mark.core


def scattered(count: int, size: int, *, closed: bool = False, segments: int = 2, seed: int = 0) -> Tensor:
    """Lines that cross themselves and each other, (Q, K, 2) in float64."""
    rng = torch.Generator().manual_seed(seed)
    points = 3 * segments + (0 if closed else 1)
    place, shape = torch.rand(count, 1, 2, generator=rng), torch.rand(count, points, 2, generator=rng) - 0.5
    return ((place + 0.6 * shape) * size).double()


def drawn(points: Tensor, radii: Tensor, height: int, width: int, *, closed: bool = False) -> Tensor:
    return coverages(outlined(points, radii, closed, height, width), len(points), height, width)


def by_distance(points: Tensor, radii: Tensor, height: int, width: int, *, closed: bool = False) -> Tensor:
    """The slow twin: each pixel by the distance of its centre from the line, as if a pixel were a disc."""
    rows, columns = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    centres, found = torch.stack([columns, rows], dim=-1).view(-1, 1, 2).to(points), []
    for whole, radius in zip(lines(points, closed), radii, strict=True):
        curve, start, stop = flattened(whole)
        begin, along = at(whole[curve], start), at(whole[curve], stop) - at(whole[curve], start)
        share = ((centres - begin) * along).sum(-1) / along.square().sum(-1).clamp(min=1e-12)
        far = (centres - begin - share.clamp(0, 1)[..., None] * along).square().sum(-1).amin(dim=1).sqrt()
        shares = (far + 0.5).clamp(-radius, radius) - (far - 0.5).clamp(-radius, radius)
        found.append(shares.view(height, width))
    return torch.stack(found)


def psnr(a: Tensor, b: Tensor) -> float:
    return -10 * math.log10(float((a - b).double().square().mean()))


def straight(*points: tuple[float, float]) -> Tensor:
    """A stroke (1, 4, 2) between two points."""
    begin, end = torch.tensor(points, dtype=torch.float64)
    return torch.stack([begin, begin + (end - begin) / 3, begin + 2 * (end - begin) / 3, end])[None]


def ring(x: float, y: float, radius: float) -> Tensor:
    """A closed stroke (1, 12, 2)."""
    return circles(torch.tensor([[x, y]]).double(), torch.tensor([radius]).double(), 4).flatten(1, 2)


def radius(value: float) -> Tensor:
    return torch.tensor([value], dtype=torch.float64)


def test_the_side_of_a_straight_stroke_cuts_pixels_by_their_area() -> None:
    found = drawn(straight((-20, 4.3), (40, 4.3)), radius(1.6), 9, 8)[0]
    rows = torch.tensor([0, 0, 0.3, 1, 1, 0.9, 0, 0, 0]).double()
    torch.testing.assert_close(found, rows[:, None].expand(9, 8), atol=1e-7, rtol=0)


@pytest.mark.parametrize("half", [0.2, 1.0, 4.5])
def test_the_sum_of_the_coverage_is_length_times_width_and_two_round_ends(half: float) -> None:
    found = drawn(straight((8.2, 9.1), (23.7, 14.6)), radius(half), 26, 34)
    length = math.hypot(23.7 - 8.2, 14.6 - 9.1)
    assert float(found.sum()) == pytest.approx(2 * half * length + math.pi * half**2, rel=2e-3)


def test_the_area_of_a_ring_and_its_hole() -> None:
    """The hole is kept as long as there is one: a pen that reaches the middle from everywhere fills it."""
    found = drawn(ring(16, 16, 9.0), radius(2.0), 32, 32, closed=True)[0]
    assert float(found.sum()) == pytest.approx(2 * math.pi * 9 * 4, rel=2e-3) and abs(float(found[16, 16])) < 1e-9
    full = drawn(ring(16, 16, 3.0), radius(7.0), 32, 32, closed=True)[0]
    assert float(full.sum()) == pytest.approx(math.pi * 10**2, rel=5e-3) and float(full[16, 16]) > 1 - 1e-9


def test_without_caps_a_small_ring_would_have_a_hole(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stroke, "_loops", lambda whole, radii: torch.ones_like(radii, dtype=torch.bool))
    assert float(drawn(ring(16, 16, 3.0), radius(7.0), 32, 32, closed=True)[0, 16, 16]) < 1e-9


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("half", [0.4, 1.5, 6.0])
def test_it_covers_what_is_nearer_than_the_radius(half: float, closed: bool) -> None:
    """The slow twin, on lines that bend more than the pen is thin and cross themselves; a wrong radius is seen."""
    points, radii = scattered(12, 48, closed=closed, seed=3), torch.full((12,), half).double()
    found, twin = drawn(points, radii, 48, 48, closed=closed), by_distance(points, radii, 48, 48, closed=closed)
    assert psnr(found, twin) > 35 and float((found - twin).abs().mean()) < 3e-3
    assert psnr(drawn(points, 1.3 * radii, 48, 48, closed=closed), twin) < 33
    assert float(found.amax()) <= 1 + 1e-9


def test_a_cusp_and_a_hairpin_have_round_ends() -> None:
    """There and back: the line turns by half a turn inside of a curve, and between two."""
    cusp = torch.tensor([[[8, 16], [30, 16], [2, 16.0], [24, 16]]]).double()
    there, back = straight((8, 16), (24, 16)), straight((24, 16), (12, 16))
    hairpin = torch.cat([there, back[:, 1:]], dim=1)
    for points in (hairpin, cusp):
        found = drawn(points, radius(4.0), 32, 40)[0]
        twin = by_distance(points, radius(4.0), 32, 40)[0]
        assert float(found[16, 26]) > 1 - 1e-9 and float((found - twin).abs().mean()) < 6e-3


def test_chords_are_at_most_a_pixel_long() -> None:
    """Longer ones would be drawn wrongly without a word (`coverage`)."""
    for closed in (False, True):
        found = outlined(scattered(20, 64, closed=closed), torch.linspace(0, 40, 20).double(), closed)
        assert float((found.end - found.begin).abs().max()) <= 1 + 1e-9 and len(found.path.unique()) == 20


def test_a_stroke_backwards_and_strokes_one_by_one_are_the_same() -> None:
    points, radii = scattered(5, 32, seed=1), torch.linspace(0.3, 5, 5).double()
    whole = drawn(points, radii, 32, 32)
    torch.testing.assert_close(drawn(points.flip(1), radii, 32, 32), whole, atol=1e-9, rtol=0)
    for i in range(5):
        torch.testing.assert_close(drawn(points[i : i + 1], radii[i : i + 1], 32, 32)[0], whole[i], atol=1e-9, rtol=0)


def test_directions_at_ends_without_a_handle_are_where_the_curve_goes() -> None:
    control = torch.tensor([[[0, 0], [0, 0], [0, 5], [5, 5.0]], [[1, 1], [1, 1], [1, 1], [1, 1]]]).double()
    assert directions(control, control.new_zeros(2)).tolist() == [[0, 1], [1, 0]]
    assert directions(control[:1], control.new_ones(1)).tolist() == [[1, 0]]


@pytest.mark.parametrize("closed", [False, True])
def test_gradients_are_those_of_finite_differences(closed: bool) -> None:
    """For points and radii: exact, since no sampling is in it."""
    points = scattered(2, 12, closed=closed, seed=7).requires_grad_()
    radii = torch.tensor([0.8, 2.3]).double().requires_grad_()
    weight = torch.linspace(-1, 1, 2 * 168).double().view(2, 12, 14).sin()

    def loss(points: Tensor, radii: Tensor) -> Tensor:
        return (drawn(points, radii, 12, 14, closed=closed) * weight).sum()

    assert torch.autograd.gradcheck(loss, (points, radii), atol=1e-5)
    assert all(float(g.abs().max()) > 0.05 for g in torch.autograd.grad(loss(points, radii), [points, radii]))


def test_the_area_grows_with_the_radius_by_the_length_of_the_border() -> None:
    half = radius(3.0).requires_grad_()
    (slope,) = torch.autograd.grad(drawn(straight((12, 12), (30, 20)), half, 32, 44).sum(), half)
    assert float(slope) == pytest.approx(2 * math.hypot(18, 8) + 2 * math.pi * 3, rel=5e-3)


@pytest.mark.parametrize("closed", [False, True])
@pytest.mark.parametrize("half", [0.0, 1e-9, 0.7, 500.0])
@pytest.mark.parametrize(
    "points",
    [
        torch.zeros(6, 2),
        torch.full((6, 2), 4.0),
        torch.full((6, 2), -1e5),
        torch.linspace(-1e3, 1e3, 12).view(6, 2),
        torch.tensor([[0.0, 4], [8, 4]]).repeat(3, 1),
        torch.tensor([[4.0, 4.0]]).repeat(6, 1) + 1e-6 * torch.arange(12.0).view(6, 2).sin(),
    ],
)
def test_degenerate_strokes_have_numbers_and_gradients(points: Tensor, half: float, closed: bool) -> None:
    given = points if closed else torch.cat([points, points[:1]])
    given, radii = given[None].clone().requires_grad_(), torch.tensor([half], requires_grad=True)
    found = drawn(given, radii, 8, 8, closed=closed)
    gradients = torch.autograd.grad(found.sum(), [given, radii])
    assert all(bool(torch.isfinite(part).all()) for part in (found, *gradients))
    found = found.detach()
    assert 0 <= float(found.amin()) and float(found.amax()) <= 1 + 1e-5
    if half == 0:
        assert float(found.amax()) < 1e-6


def test_a_point_is_a_dot() -> None:
    found = drawn(torch.full((1, 4, 2), 8.0).double(), radius(5.0), 16, 16)
    assert float(found.sum()) == pytest.approx(math.pi * 25, rel=2e-3)
