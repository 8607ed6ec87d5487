"""A model on another device takes its runs there, whole, and their pictures are those of the CPU.

To rounding: torch takes attention and norms apart in another way there. `test_device` runs this file in a
process of its own, which has not calculated gradients before it hears of the device.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

sys.path.insert(0, str(Path(__file__).parent))
from second_device import second  # noqa: F401 - a fixture
from tiny_model import last

import msd_core
from msd_core import GENERATORS, INVERSIONS, METHODS, State, distil, load_model, load_state, run, save_state, start
from msd_core.distillation.base import needs_of
from msd_core.inversion.words import described, inversion_curves
from msd_core.measurement.pool import Pool
from msd_core.model import device_of
from msd_core.settings import settings_of

pytestmark = pytest.mark.core
PROMPT = "a red boat left of a yellow house at sea"
QUICK = {"size": (32, 32), "steps": 1, "inner_steps": 1, "solver_steps": 2}
PICTURE = torch.rand(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))
HOLE = torch.zeros(32, 32)
HOLE[8:20, 8:20] = 1
SKIPPED = ("batch", "points")


def alike(there: Tensor, here: Tensor) -> None:
    """As pictures, of the same noise: another would be another by .1 and more."""
    assert there.device != here.device
    torch.testing.assert_close(there.cpu(), here, rtol=0, atol=1e-2)


def on_both(device: torch.device, **options: Any) -> State:  # noqa: ANN401
    """The last state of a run on the device, after it was held against the CPU's."""
    quick = {**QUICK, **options}
    there = last(distil(PROMPT, model=load_model(device=str(device)), **quick))
    here = last(distil(PROMPT, model=load_model(), **quick))
    assert all(tensor.device == device for tensor in there.generator.state_dict().values())
    assert all(tensor.device == device for tensor in there.optimizer_state.values())
    alike(there.picture(), here.picture())
    return there


def test_the_device_refuses_tensors_of_two(second: torch.device) -> None:  # noqa: F811
    """Else nothing below says anything."""
    there, here = torch.ones(3, device="cpu").to(second), torch.ones(3)
    with pytest.raises(RuntimeError, match="is on the CPU"):
        there + here
    assert (there + 1).cpu().tolist() == [2, 2, 2] and (there + there).device == second
    with pytest.raises(RuntimeError, match="is on the CPU"):
        load_model(device=str(second)).encode(PICTURE)
    assert device_of(load_model()) == torch.device("cpu") and device_of(object()) == torch.device("cpu")  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", [name for name in GENERATORS if name not in SKIPPED])
def test_every_generator(kind: str, second: torch.device, tmp_path: Path) -> None:  # noqa: F811
    """Distilled there, saved, and gone on with there from a file that was read on the CPU."""
    model = load_model(device=str(second))
    options = {"paths": 4} if kind == "vector" else {"rays": 64, "samples": 8} if kind == "volume" else {}
    state = on_both(second, generator=kind, **options)
    save_state(state, tmp_path / "state.safetensors")
    read = load_state(tmp_path / "state.safetensors")
    assert read.to(torch.device("cpu")) is read and state.to(second) is state
    preset = msd_core.preset_of("msd", steps=1, solver_steps=2, inner_steps=1)
    more = last(run(start(read.generator, steps=1), preset, model, PROMPT))
    assert all(tensor.device == second for tensor in more.generator.state_dict().values())


@pytest.mark.parametrize(
    "options",
    [
        {"pull": "latent"},
        {"optimizer": "gd"},
        {"start": "sample", "generator": "pixels"},
        {"mask": HOLE},
        {"n": 2},
        {"observation": msd_core.observe(PICTURE, Pool(4))},
        {"estimator": "split", "centre": "inversion"},
    ],
    ids=["latent", "gd", "sample", "mask", "two", "observation", "inverted"],
)
def test_every_kind_of_run(options: dict[str, Any], second: torch.device) -> None:  # noqa: F811
    on_both(second, **options)


@pytest.mark.parametrize("method", ["sds", "sdi", "pds"])
def test_every_method(method: str, second: torch.device) -> None:  # noqa: F811
    edits = {"source": PICTURE, "source_prompt": PROMPT} if "source" in needs_of(METHODS[method]) else {}
    there, here = (
        last(distil(PROMPT, model=load_model(device=place), method=method, size=(32, 32), steps=1, **edits))
        for place in (str(second), "cpu")
    )
    alike(there.picture(), here.picture())


@pytest.mark.parametrize("solver", ["kalman", "pigdm", "ddrm"])
def test_holes(solver: str, second: torch.device) -> None:  # noqa: F811
    there, here = (
        msd_core.inpaint(PICTURE, HOLE, PROMPT, model=load_model(device=place), steps=2, solver=solver).picture
        for place in (str(second), "cpu")
    )
    alike(there, here)


@pytest.mark.parametrize("solver", ["proximal", "psld"])
def test_restoration(solver: str, second: torch.device) -> None:  # noqa: F811
    seen = msd_core.observe(PICTURE, Pool(4))
    there, here = (
        msd_core.restore(seen, (32, 32), PROMPT, model=load_model(device=place), steps=2, solver=solver).picture
        for place in (str(second), "cpu")
    )
    alike(there, here)


@pytest.mark.parametrize("source", ["", PROMPT])
def test_edits(source: str, second: torch.device) -> None:  # noqa: F811
    there, here = (
        msd_core.edit(PICTURE, PROMPT, source=source, model=load_model(device=place), steps=2, mask=HOLE).picture
        for place in (str(second), "cpu")
    )
    alike(there, here)


SHORT = {"evaluations": 2, "sweeps": 1}
"""Of inversions that search."""


@pytest.mark.parametrize("name", ["implicit", "implicit-dpmpp-2m", "direct", "rf-inversion"])
def test_inversions(name: str, second: torch.device) -> None:  # noqa: F811
    known = settings_of(INVERSIONS[name])
    inversion = INVERSIONS[name](**{key: value for key, value in SHORT.items() if key in known})
    ends = []
    for place in (str(second), "cpu"):
        model = load_model(device=place)
        denoiser, rng = model.denoiser(PROMPT, "", 3.0), torch.Generator().manual_seed(0)
        with torch.no_grad():
            x = model.encode(PICTURE.to(device_of(model)))
        trajectory = msd_core.invert(x, denoiser, torch.tensor([10.0, 2.0, 0.2, 0.0]), inversion, rng=rng)
        ends.append(msd_core.resample(trajectory, denoiser))
        assert "come back" in described(trajectory, ends[-1]) or "comes back" in described(trajectory, ends[-1])
        assert len(inversion_curves(trajectory)) >= 2
    alike(*ends)
