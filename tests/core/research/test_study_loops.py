"""The study of loops on diffusers: both sides compute the same thing, and every row is there."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip("diffusers")

from msd_core.denoiser import RowCounter
from msd_core.distillation import SDS
from msd_core.pipelines.model import PipelineModel
from msd_core.research.random_pipeline import stable_diffusion
from msd_core.research.studies import loops
from msd_core.research.studies.study import Context

pytestmark = pytest.mark.core


def test_a_short_run(tmp_path: Path) -> None:
    table = loops.run(Context(tmp_path, quick=True)).tables[0]
    assert [row[0] for row in table.rows] == ["SDS", "SDI", "MSD"]
    for _, rows_of_theirs, rows_of_ours, theirs, ours, *each, ratio in table.rows:
        assert each == pytest.approx([theirs / rows_of_theirs, ours / rows_of_ours]), "one step is its own median"
        assert ratio == pytest.approx(each[0] / each[1]) and min(each) > 0
    assert [row[1:3] for row in table.rows][::2] == [[2, 2], [8, 8]]


def test_both_sides_compute_the_same(tmp_path: Path) -> None:
    pipe = stable_diffusion(tmp_path)
    theirs, denoiser = loops.Loop(pipe, 32), PipelineModel.of(pipe).denoiser("a red cup", "", loops.CFG)
    rng = torch.Generator().manual_seed(3)
    x, noise, t = torch.randn(1, 4, 16, 16, generator=rng), torch.randn(1, 4, 16, 16, generator=rng), 500
    level = (1 / theirs.ddim.alphas_cumprod[t] - 1).sqrt()
    predicted = theirs.noise(theirs.ddim.add_noise(x, noise, torch.tensor([t])), torch.tensor([t]))
    ours = SDS(weighting="sigma").at(x, RowCounter(denoiser), level.reshape(1), noise, [t / 1000])
    assert torch.cosine_similarity(ours.flatten(), (predicted - noise).flatten(), 0) > 0.9999
    wrong = (predicted - torch.randn(x.shape, generator=rng)).flatten()
    assert torch.cosine_similarity(ours.flatten(), wrong, 0) < 0.99, "another noise is another gradient"


def test_the_product_is_near_its_centre(tmp_path: Path) -> None:
    theirs = loops.Loop(stable_diffusion(tmp_path), 32)
    x = torch.randn(1, 4, 16, 16, generator=torch.Generator().manual_seed(3))
    near, far = ((theirs.product_sample(x, b) - x).square().mean().sqrt() for b in (0.05, 20.0))
    assert near < 0.2 < 0.5 < far, (float(near), float(far))
