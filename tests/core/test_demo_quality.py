"""Distances between pictures and the world: closed forms, unbiasedness, intervals, wrong input."""

from __future__ import annotations

import pytest
import torch

from msd_core.demo.features import FEATURES, convolutions, latents, measurements
from msd_core.demo.model import DemoModel
from msd_core.demo.quality import bootstrap, frechet_distance, mmd_squared, quality
from msd_core.demo.scenes import caption, draw, random_scene


def test_frechet_distance_of_gaussians_with_known_moments() -> None:
    """Rows with exactly the moments (m, C) and (m', C'), both covariances diagonal: sum (s - s')² + |m - m'|²."""
    signs = torch.tensor([[1.0, 1], [1, -1], [-1, 1], [-1, -1]], dtype=torch.float64)
    unit = signs * (3 / 4) ** 0.5  # covariance with N - 1 is the identity
    scale, moved = torch.tensor([2.0, 0.5], dtype=torch.float64), torch.tensor([1.0, -3.0], dtype=torch.float64)
    distance = frechet_distance(unit, unit * scale + moved)
    assert float(distance) == pytest.approx((2 - 1) ** 2 + (0.5 - 1) ** 2 + 10)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    assert float(frechet_distance(unit @ turn, (unit * scale + moved) @ turn)) == pytest.approx(float(distance))


def test_weights_count_rows() -> None:
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 12, 3, generator=generator, dtype=torch.float64)
    rows = torch.tensor([0, 0, 1, 3, 3, 3, 5, 6, 7, 8, 9, 11])
    counts = torch.bincount(rows, minlength=12)
    assert float(frechet_distance(x, y, counts, counts)) == pytest.approx(float(frechet_distance(x[rows], y[rows])))


def test_mmd_is_unbiased_for_pairs_that_depend_on_each_other() -> None:
    """Pictures and drawings share their prompts. Equal laws: the mean over many small sets is 0 within 4 standard
    errors; the biased one, with the pairs themselves, is not.
    """
    generator, values, biased = torch.Generator().manual_seed(1), [], []
    for _ in range(400):
        shared = torch.randn(10, 4, generator=generator, dtype=torch.float64)
        x, y = (shared + 0.3 * torch.randn(10, 4, generator=generator, dtype=torch.float64) for _ in range(2))
        values.append(float(mmd_squared(x, y)))
        own, across = ((a @ b.T / 4 + 1) ** 3 for a, b in ((x, x), (x, y)))
        biased.append(float(own.sum() - own.trace()) / 90 + float(own.sum() - own.trace()) / 90 - 2 * across.mean())
    mean, error = torch.tensor(values).mean(), torch.tensor(values).std() / 20
    assert abs(float(mean)) < 4 * float(error)
    assert abs(float(torch.tensor(biased).mean())) > 4 * float(error)


def test_mmd_sees_another_law() -> None:
    generator = torch.Generator().manual_seed(2)
    x, y = torch.randn(2, 200, 4, generator=generator, dtype=torch.float64)
    assert float(mmd_squared(x, y + 1)) > 1 > 10 * abs(float(mmd_squared(x, y)))


def test_bootstrap_intervals_cover_a_mean_as_often_as_they_say() -> None:
    """The 80 % interval of a mean of 40 rows covers the true one in 80 % of 200 cases, within 4 standard errors."""
    generator, hits = torch.Generator().manual_seed(3), 0
    for _ in range(200):
        rows = torch.randn(40, generator=generator, dtype=torch.float64)
        estimate = bootstrap(lambda w, rows=rows: (w * rows).sum() / w.sum(), 40, generator, 60, 0.8)
        assert estimate.low <= estimate.value <= estimate.high
        hits += estimate.low <= 0 <= estimate.high
    assert abs(hits / 200 - 0.8) < 4 * (0.8 * 0.2 / 200) ** 0.5


@pytest.fixture(scope="module")
def drawn() -> tuple[torch.Tensor, list[str]]:
    generator = torch.Generator().manual_seed(4)
    scenes = [random_scene(generator) for _ in range(24)]
    return draw(scenes, 128, generator), [caption(scene) for scene in scenes]


def test_drawings_are_nearer_to_the_world_than_spoilt_ones(drawn: tuple[torch.Tensor, list[str]]) -> None:
    pictures, prompts = drawn
    blurred = torch.nn.functional.avg_pool2d(pictures, 7, 1, 3, count_include_pad=False)
    true, spoilt = (quality(some, prompts, resamples=20) for some in (pictures, blurred))
    assert true.accepted.value > 0.9 and true.count == 24
    assert spoilt.frechet.low > true.frechet.high and spoilt.mmd.low > true.mmd.high
    assert true.mmd.low <= 0 <= true.mmd.high


def test_features_have_their_sizes_and_need_no_files(drawn: tuple[torch.Tensor, list[str]]) -> None:
    pictures = drawn[0][:3]
    scenes = [random_scene(torch.Generator().manual_seed(s)) for s in range(3)]
    assert set(FEATURES) == {"convolutions", "measurements", "latents"}
    assert convolutions(pictures).shape == (3, 64) and measurements(pictures, scenes).shape == (3, 9)
    assert latents(pictures, model=DemoModel.random(0).eval().requires_grad_(False)).shape == (3, 64)
    one_by_one = torch.cat([convolutions(p[None]) for p in pictures])
    torch.testing.assert_close(convolutions(pictures), one_by_one, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    "count, prompts, features, message",
    [
        (2, ["a red circle"], "convolutions", "pictures: got shape .* for 1 prompts"),
        (1, ["a red circle"], "convolutions", "B ≥ 2"),
        (2, ["a red circle", "a dog"], "convolutions", "caption: 'a dog'"),
        (2, ["a red circle"] * 2, "inception", "features: got 'inception'; allowed are convolutions"),
    ],
)
def test_bad_input_is_refused(count: int, prompts: list[str], features: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        quality(torch.zeros(count, 3, 32, 32), prompts, features=features)
