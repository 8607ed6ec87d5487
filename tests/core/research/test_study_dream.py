"""The DREAM study: its closed form against the regression it stands for, and a run of the whole at quick settings."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from msd_core.demo.judge import judge
from msd_core.demo.model import DemoModel
from msd_core.demo.scenes import draw
from msd_core.demo.text import tokenize
from msd_core.demo.train import train_denoiser, trained_networks
from msd_core.research.dream import dream_noise
from msd_core.research.studies import dream_demo, dream_pictures, dream_toy, run_study
from msd_core.research.studies.dream_gaussian import converged_denoiser
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core


def retrained(sigma: float, p: float, shrinkage: float) -> float:
    """D(z)/z of the least-squares fit of n' on z', when the estimate is D = shrinkage z; 10^6 rows, float64."""
    generator = torch.Generator().manual_seed(0)
    y, noise = torch.randn(2, 1_000_000, 1, dtype=torch.float64, generator=generator)

    def denoiser(z: Tensor, sigma: Tensor | float) -> Tensor:
        return shrinkage * z

    changed = dream_noise(y, sigma, noise, denoiser, p)
    z = y + sigma * changed
    return 1 - sigma * float((changed * z).sum() / (z * z).sum())


def is_the_end_of_training(sigma: float, p: float, shrinkage: float) -> None:
    assert retrained(sigma, p, shrinkage) == pytest.approx(shrinkage, abs=0.01)


@pytest.mark.parametrize("p", [0.0, 0.5, 1.0, 2.0, math.inf])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 3.0])
def test_the_closed_form_is_a_fixed_point_of_training(sigma: float, p: float) -> None:
    is_the_end_of_training(sigma, p, converged_denoiser(sigma, p))


def test_the_posterior_mean_is_no_fixed_point_of_dream() -> None:
    is_the_end_of_training(1.0, math.inf, 0.5)
    for p in (0.0, 1.0):
        with pytest.raises(AssertionError):
            is_the_end_of_training(1.0, p, 0.5)


def test_the_closed_form_at_its_ends() -> None:
    for sigma in (0.1, 0.5, 2.0):
        assert converged_denoiser(sigma, math.inf) == pytest.approx(1 / (1 + sigma**2))
        assert converged_denoiser(sigma, 60.0) == pytest.approx(1 / (1 + sigma**2), abs=1e-3 if sigma < 1 else 0.02)
        expected = max(0.0, (1 - sigma**2) / (1 + sigma**2))
        assert converged_denoiser(sigma, 0) == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="sigma: got 0"):
        converged_denoiser(0, 1)
    with pytest.raises(ValueError, match="p: got -1"):
        converged_denoiser(1.0, -1)


def trained_on(sigma: float, p: float, shrinkage: float) -> float:
    """Where a training goes that starts with D = shrinkage z and moves by a tenth of what it is told."""
    for _ in range(400):
        shrinkage = 0.9 * shrinkage + 0.1 * retrained_exactly(sigma, p, shrinkage)
    return shrinkage


def test_training_from_nothing_ends_at_the_smallest_root() -> None:
    for sigma, p in ((1.0, 1.0), (0.5, 0.0), (0.5, 2.0), (3.0, 0.0)):  # c = 0 is D = z
        assert trained_on(sigma, p, 1.0) == pytest.approx(converged_denoiser(sigma, p), abs=1e-4)


def test_rectification_alone_can_be_pushed_to_the_wrong_sign() -> None:
    for sigma in (0.5, 1.0, 1.5):
        unstable = min(0.0, (1 - sigma**2) / (1 + sigma**2))
        assert retrained_exactly(sigma, 0.0, unstable) == pytest.approx(unstable, abs=1e-9)
        assert trained_on(sigma, 0.0, unstable - 0.05) == pytest.approx(-1, abs=1e-3)
        assert trained_on(sigma, 1.0, unstable - 0.05) == pytest.approx(converged_denoiser(sigma, 1.0), abs=1e-4)
    assert trained_on(1.5, 0.0, unstable + 0.05) == pytest.approx(0, abs=1e-3)


def retrained_exactly(sigma: float, p: float, shrinkage: float) -> float:
    """As `retrained`, in expectation: second moments instead of rows."""
    trust, c = (sigma / math.hypot(1, sigma)) ** p, (1 - shrinkage) / sigma
    of_y, of_n = -trust * c, 1 + trust - trust * c * sigma  # n' = of_y y + of_n n
    z_y, z_n = 1 + sigma * of_y, sigma * of_n
    return 1 - sigma * (of_y * z_y + of_n * z_n) / (z_y**2 + z_n**2)


def test_fewest() -> None:
    assert dream_pictures.fewest({1: 3.0, 2: 5.0, 4: 4.0}, 4.0) == 2
    assert dream_pictures.fewest({1: 3.0}, 4.0) is None


def held_out_loss(model: DemoModel, held_out: dream_demo.Data, stream: str = "loss") -> list[float]:
    """As the study measures it; ``stream`` names the noises."""
    generator = Context(Path(), quick=True).rng("dream", "demo model", stream)
    return dream_demo.held_out_loss(trained_networks(model), held_out, generator)


def test_the_held_out_loss_of_no_estimate_is_the_noise_itself() -> None:
    held_out = (torch.randn(8, 4, 4, 4), tokenize([""] * 8))
    noise = torch.randn(8, 4, 4, 4, generator=Context(Path(), quick=True).rng("dream", "demo model", "loss"))
    expected = noise.square().unflatten(0, (4, 2)).mean(dim=(1, 2, 3, 4)).tolist()
    fresh = DemoModel.random(0)  # its last layer is zero
    assert held_out_loss(fresh, held_out) == pytest.approx(expected, rel=1e-5)
    with pytest.raises(AssertionError):
        assert held_out_loss(fresh, held_out, "other noises") == pytest.approx(expected, rel=1e-5)


def all_right(numbers: dict[str, list[float]]) -> None:
    assert numbers["accepted"] == numbers["shapes_right"] == [1.0] * 4
    assert min(numbers["iou"]) > 0.8
    assert max(numbers["stray"]) < 0.1


def test_the_judges_figures_of_drawn_pictures_are_all_right(tmp_path: Path) -> None:
    scenes = dream_demo.prompts(Context(tmp_path), dataclasses.replace(dream_demo.QUICK, prompts=4))
    assert all(len(scene.things) == 1 for scene in scenes)
    pictures = draw(scenes, 64, torch.Generator().manual_seed(0))
    all_right(dream_demo.judged([judge(p, s) for p, s in zip(pictures, scenes, strict=True)]))
    with pytest.raises(AssertionError):
        all_right(dream_demo.judged([judge(p, s) for p, s in zip(pictures.roll(1, 0), scenes, strict=True)]))


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of quick cells, so that no training is done twice."""
    return tmp_path_factory.mktemp("quick")


def test_the_demo_models_training_is_the_demos_own(quick: Path, tmp_path: Path) -> None:
    context, plan = Context(quick, quick=True), dream_demo.QUICK
    scenes = dream_demo.data(context, plan)
    numbers = dream_demo.trained(context, plan, 1.0, scenes).numbers
    save_file(dict(zip(("latents", "tokens"), scenes[0], strict=True)), tmp_path / "latents.safetensors")

    def is_the_training(p: float) -> None:
        (tmp_path / "denoiser.pt").unlink(missing_ok=True)
        model = DemoModel.random(context.seed)
        train_denoiser(model, plan.settings(p, context.seed), tmp_path)
        assert held_out_loss(model, scenes[1]) == numbers["held_out"][-1]

    is_the_training(1.0)
    with pytest.raises(AssertionError):
        is_the_training(math.inf)


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = dataclasses.replace(dream_pictures.QUICK, snapshots=(1, 2), held_out=2, draws=1)
    monkeypatch.setattr(dream_pictures, "QUICK", plan)
    monkeypatch.setattr(dream_toy, "QUICK", dataclasses.replace(dream_toy.QUICK, snapshots=(1, 2), points=16))


@pytest.mark.long
def test_a_quick_run_is_whole_and_the_second_time_read_back(small: None, quick: Path) -> None:
    result = run_study("dream", Context(quick, quick=True))
    networks = [f"dream-{kind}-{name}" for kind in ("steps", "iterations") for name in ("velocity", "noise")]
    assert [t.name for t in result.tables] == ["dream-equal", *networks, "dream-gaussian", "dream-demo", "dream-toy"]
    assert len(result.figures) == 7
    assert not list((quick / "cells").glob("*.pt"))  # what a training needs to go on is gone when it is done
    cells = {path: path.stat().st_mtime_ns for path in (quick / "cells").glob("*.safetensors")}
    again = run_study("dream", Context(quick, quick=True))
    assert {path: path.stat().st_mtime_ns for path in cells} == cells
    assert [t.rows for t in again.tables] == [t.rows for t in result.tables]
