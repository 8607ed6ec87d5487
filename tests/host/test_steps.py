"""The step nodes: they run as the host runs them, under inference mode, and behave in its cache."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import pytest
import torch
from msd_pack.msd_core.distillation import METHODS
from msd_pack.msd_core.distillation.base import needs_of
from msd_pack.msd_core.finite import NonFiniteError
from msd_pack.msd_core.generators import GENERATORS
from msd_pack.msd_core.preset import preset_of
from msd_pack.nodes import progress
from msd_pack.nodes.distill import STEPS as NODES
from msd_pack.nodes.generators import ELSEWHERE, HostGenerator, NeuralImageGenerator
from tiny_models import KINDS, conditioning, tiny_model, tiny_vae

POSITIVE, NEGATIVE = conditioning(3), conditioning(4)
SOURCE = torch.rand(1, 16, 32, 3, generator=torch.Generator().manual_seed(0))
COMMON = {"steps": 3, "seed": 0, "cfg": 2.0, "learning_rate": 0.01, "optimizer": "adam"}
MSD = {"estimator": "exact", "solver": "ddim", "solver_steps": 3, "samples": 1}
SDS = {"weighting": "sigma", "anneal": "none", "t_min": 0.02, "t_max": 0.98}
SDI = {"anneal": "linear", "inversion_steps": 3}
PULLED = ({"pull": "image"}, {"pull": "latent"}, {})
STEPS = {name: (NODES[name], {"msd": MSD, "sds": SDS, "sdi": SDI}.get(name, {})) for name in NODES}


def born(representation: str = "fourier", **inputs: object) -> HostGenerator:
    settings = {"width": 32, "height": 16, "seed": 0, "hidden": 8, "layers": 1, "channels": 4}
    with torch.inference_mode():
        return NeuralImageGenerator.execute(representation, **settings | inputs).args[0]


def step(method: str, generator: HostGenerator, kind: str = "eps", **inputs: object) -> tuple:
    """One node, as the host calls it: everything is made and run under inference mode."""
    node, settings = STEPS[method]
    with torch.inference_mode():
        sockets = {"model": tiny_model(kind), "positive": POSITIVE, "negative": NEGATIVE}
        needs = needs_of(METHODS[method])
        if generator.generator.space == "image" or "source" in needs:
            sockets["vae"] = tiny_vae()
        if "source" in needs:
            sockets |= {"source": SOURCE, "source_positive": conditioning(6)}
        if "negative" in needs:
            sockets["unconditional"] = conditioning(7)
        return node.execute(generator, **COMMON | settings | sockets | inputs).args


def values(generator: HostGenerator) -> torch.Tensor:
    return torch.cat([p.detach().flatten() for p in generator.generator.parameters()])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("method", STEPS)
def test_it_moves_a_copy_and_leaves_its_input(method: str, kind: str) -> None:
    start = born()
    before = values(start).clone()
    made, picture, plot, losses = step(method, start, kind)
    assert torch.equal(values(start), before)
    assert not torch.equal(values(made), before)
    assert not any(p.is_inference() for p in made.generator.parameters())
    assert picture.shape == (1, 16, 32, 3) and bool(picture.isfinite().all())
    assert plot.shape[-1] == 3 and float(plot.std()) > 0
    assert len(losses["loss"]) == 3 and all(loss > 0 for loss in losses["loss"])


@pytest.mark.parametrize(("representation", "vae"), [("fourier", True), ("latent", True), ("latent", False)])
def test_the_preview_is_the_picture_beside_what_the_model_wants(
    representation: str, vae: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a VAE a latent has rough colours of both, where the model's latents have any."""
    shown: list[torch.Tensor | None] = []
    monkeypatch.setattr(progress.Progress, "update", lambda self, picture=None: shown.append(picture and picture()))
    step("msd", born(representation), **({"vae": tiny_vae()} if vae else {}))
    assert len(shown) == 3
    for picture in shown:
        assert picture is not None and len(picture) == 2
        assert picture.shape[1] == 3 and bool((picture >= 0).all()) and not torch.equal(picture[0], picture[1])


@pytest.mark.parametrize("representation", [kind for kind in GENERATORS if kind not in ELSEWHERE])
def test_every_representation_is_optimised(representation: str) -> None:
    start = born(representation)
    made, picture, *_ = step("msd", start)
    assert not torch.equal(values(made), values(start))
    assert picture.shape[-1] == 3


@pytest.mark.parametrize("method", STEPS)
def test_the_same_inputs_give_the_same_bits(method: str) -> None:
    first, second = (values(step(method, born())[0]) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, values(step(method, born(), seed=1)[0]))


def test_a_cached_step_is_not_touched_by_the_steps_after_it() -> None:
    """As when only the last node's widget changes: the first step's output is used again."""
    first = step("sds", born())[0]
    before = values(first).clone()
    once = values(step("msd", first)[0])
    step("msd", first, learning_rate=0.1)
    assert torch.equal(values(first), before)
    assert torch.equal(values(step("msd", first)[0]), once)


def test_a_guider_replaces_model_and_prompts() -> None:
    guider = comfy.samplers.CFGGuider(tiny_model())
    guider.set_conds(POSITIVE, NEGATIVE)
    guider.set_cfg(2.0)
    absent = {"model": None, "positive": None, "negative": None, "cfg": 99.0}
    by_guider = values(step("msd", born(), guider=guider, **absent)[0])
    assert torch.equal(by_guider, values(step("msd", born())[0]))


def test_a_patched_model_is_what_is_distilled() -> None:
    patched = tiny_model().clone()
    key = "diffusion_model.middle_block.1.transformer_blocks.0.attn2.to_v.weight"
    shape = patched.model.state_dict()[key].shape
    patched.add_patches({key: ("diff", (torch.randn(shape, generator=torch.Generator().manual_seed(0)),))}, 1.0)
    assert not torch.equal(values(step("msd", born(), model=patched)[0]), values(step("msd", born())[0]))


@pytest.mark.parametrize("optimizer", ["adam", "gd"])
@pytest.mark.parametrize("estimator", ["split", "exact", "one-step"])
def test_estimators_and_optimisers(estimator: str, optimizer: str) -> None:
    assert bool(values(step("msd", born(), estimator=estimator, optimizer=optimizer)[0]).isfinite().all())


@pytest.mark.parametrize("method", STEPS)
def test_the_pull_is_on_the_picture_or_through_the_encoder(method: str) -> None:
    image, latent, default = (values(step(method, born(), **pull)[0]) for pull in PULLED)
    assert not torch.equal(image, latent)
    assert torch.equal({"image": image, "latent": latent}[preset_of(method).pull], default)
    latents = [values(step(method, born("latent"), **pull)[0]) for pull in PULLED]
    assert torch.equal(latents[0], latents[1])  # nothing to decode


def test_bandwidths_are_walked() -> None:
    wide, narrow = torch.tensor([8.0, 7.0, 6.0]), torch.tensor([0.8, 0.7, 0.6])
    results = [values(step("msd", born(), bandwidths=curve)[0]) for curve in (wide, narrow)]
    assert not torch.equal(*results)


@pytest.mark.parametrize("method", STEPS)
def test_cancel_ends_it(method: str) -> None:
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        step(method, born())
    step(method, born())


@pytest.mark.parametrize(
    ("generator", "inputs", "message"),
    [
        ({}, {"vae": None}, "vae: not connected"),
        ({}, {"model": None}, "model: not connected"),
        ({}, {"bandwidths": torch.tensor([1.0, 2.0, 3.0])}, "never rise"),
        ({}, {"bandwidths": torch.tensor([1.0, 0.0, 0.5])}, "entry 1 is 0.0"),
        ({}, {"centre": "inversion"}, "centre: got 'inversion' with the estimator 'exact'"),
        ({}, {"truncation": 2.0}, "truncation: got 2.0 .* 'exact'; allowed with split. Set its widget back, or"),
        ({}, {"interval": "high"}, "interval: got 'high'"),
        ({}, {"interval": "2:1", "estimator": "split"}, "0 <= low < high"),
        ({"representation": "latent", "channels": 16}, {}, r"^generator: .* \(SD15\) works on 4; set channels to 4 in"),
    ],
)
def test_wrong_inputs(generator: dict, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step("msd", born(**generator), **inputs)


def test_nan_from_a_model_is_named_and_loses_nothing() -> None:
    broken = tiny_model()
    broken.set_model_sampler_post_cfg_function(lambda args: args["denoised"] * float("nan"))
    start = born()
    before = values(start).clone()
    with pytest.raises(NonFiniteError, match="denoiser: NaN or infinity .* in step 1"):
        step("msd", start, model=broken)
    assert torch.equal(values(start), before)
