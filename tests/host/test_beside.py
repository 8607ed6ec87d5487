"""What a method asks the model beside the run's own prompts, against guiders of their own, to the last bit."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_apg import APG
from comfy_extras.nodes_model_advanced import RescaleCFG
from comfy_extras.nodes_pag import PerturbedAttentionGuidance
from msd_pack.nodes import host
from msd_pack.nodes.beside import NEGATIVE as ALONE
from msd_pack.nodes.beside import SOURCE, with_source, with_unconditional
from msd_pack.nodes.guiders import make_guider
from test_bridge import NEGATIVE, POSITIVE, guider_of, latent
from test_steps import born, step, values
from tiny_models import KINDS, conditioning, tiny_model

OTHER = conditioning(6)
CORNER = [[OTHER[0][0], OTHER[0][1] | {"area": (4, 4, 0, 0), "strength": 1.0}], *conditioning(8)]
SIGMAS = torch.tensor([0.5, 3.0])


def of(guider: comfy.samplers.CFGGuider, prompt: str | None = None) -> torch.Tensor:
    """What a guider predicts under one of its prompts; None: its own."""

    def loop(session: host.Session) -> torch.Tensor:
        return session.model().denoiser(prompt)(latent(2), SIGMAS)

    return host.run(guider, loop, 8, 8, rows=2)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", [OTHER, CORNER], ids=["whole", "regional"])
def test_a_source_is_a_guider_of_its_own(kind: str, source: list) -> None:
    """And the run's own prompts are as they are without it: no area of one gets into the other."""
    model = tiny_model(kind)
    both, own = with_source(guider_of(model), source), of(guider_of(model))
    assert torch.equal(of(both, SOURCE), of(make_guider(model, source, NEGATIVE, 3.0)))
    assert torch.equal(of(both), own)
    assert not torch.allclose(of(both, SOURCE), own, atol=1e-4)


def test_the_negative_alone_and_the_unconditional_are_guiders_of_their_own() -> None:
    model = tiny_model()
    made = with_unconditional(guider_of(model), OTHER)
    assert torch.equal(of(made), of(make_guider(model, POSITIVE, OTHER, 3.0)))
    assert torch.equal(of(made, ALONE), of(make_guider(model, NEGATIVE, None, 1.0)))


def test_the_unconditional_part_is_asked_alone() -> None:
    """One row, equal to that of both; a guidance function of a patch has no part in it."""
    model = tiny_model()
    model.set_model_sampler_cfg_function(lambda args: 2 * args["cond"] - args["uncond"])

    def loop(session: host.Session) -> tuple:
        denoiser, before = session.denoiser, session.denoiser.rows.total
        alone = denoiser.uncond(latent(2), SIGMAS)
        asked = denoiser.rows.total - before
        return alone, denoiser.parts(latent(2), SIGMAS), asked, denoiser.uncond.cost

    alone, (cond, uncond), asked, cost = host.run(guider_of(model), loop, 8, 8, rows=2)
    assert torch.allclose(alone, uncond, atol=1e-5) and not torch.allclose(alone, cond, atol=1e-4)
    assert torch.equal(alone, of(make_guider(tiny_model(), NEGATIVE, None, 1.0)))
    assert (asked, cost) == (2, 1)


PATCHES = {
    "projected": lambda model: APG.execute(model, 1.0, 0.0, 0.0).args[0],
    "projected, to a norm": lambda model: APG.execute(model, 1.0, 5.0, 0.0).args[0],
    "perturbed attention": lambda model: PerturbedAttentionGuidance.execute(model, 3.0).args[0],
    "rescaled": lambda model: RescaleCFG().patch(model, 0.7)[0],
}
"""Of a guidance of two parts; the host itself doubles the one part that there is at cfg 1 under the first."""


@pytest.mark.parametrize("name", PATCHES)
def test_what_patches_a_guidance_has_no_part_in_one_side_alone(name: str) -> None:
    def sides(model: object) -> dict[str, torch.Tensor]:
        def loop(session: host.Session) -> dict[str, torch.Tensor]:
            denoiser = session.denoiser
            asked = {"uncond": denoiser.uncond, "negative": denoiser.under(ALONE), "guided": denoiser}
            return {name: each(latent(2), SIGMAS) for name, each in asked.items()}

        return host.run(with_unconditional(guider_of(model), OTHER), loop, 8, 8, rows=2)

    plain, patched = sides(tiny_model()), sides(PATCHES[name](tiny_model()))
    assert torch.equal(patched["uncond"], plain["uncond"]) and torch.equal(patched["negative"], plain["negative"])
    assert not torch.allclose(patched["guided"], plain["guided"], atol=1e-3), "which the guidance does have"


@pytest.mark.parametrize("name", ["projected", "projected, to a norm"])
def test_no_guidance_is_without_what_patches_its_two_parts(name: str) -> None:
    """At a cfg of 1 by a method's own wish; a run's own cfg of 1 stays the host's."""

    def off(model: object) -> torch.Tensor:
        return host.run(guider_of(model), lambda session: session.denoiser.with_cfg(1.0)(latent(2), SIGMAS), 8, 8)

    patched, plain = PATCHES[name](tiny_model()), off(tiny_model())
    assert torch.equal(off(patched), plain)
    of_host = of(make_guider(patched, POSITIVE, NEGATIVE, 1.0))
    assert float(of_host.norm() / plain.norm()) > 1.2


def test_what_has_no_second_prompt_is_refused() -> None:
    class Own(comfy.samplers.CFGGuider):
        def predict_noise(self, *args: object, **kwargs: object) -> torch.Tensor:
            return super().predict_noise(*args, **kwargs)

    with pytest.raises(ValueError, match="guider: Own has a rule of its own"):
        with_source(Own(tiny_model()), OTHER)
    with pytest.raises(ValueError, match="negative: not connected"):
        with_unconditional(make_guider(tiny_model(), POSITIVE, None, 1.0), OTHER)
    with pytest.raises(ValueError, match="prompt: got 'source'"):
        of(guider_of(tiny_model()), SOURCE)


def test_the_guider_handed_in_does_not_carry_it() -> None:
    guider = guider_of(tiny_model())
    before = dict(guider.original_conds)
    of(with_source(guider, OTHER), SOURCE)
    assert guider.original_conds == before


@pytest.mark.parametrize("method", ["dds", "pds"])
def test_an_edit_of_the_source_into_itself_does_nothing(method: str) -> None:
    grey = {"source": torch.full((1, 16, 32, 3), 0.5), "optimizer": "gd", "learning_rate": 10.0, "steps": 1}
    start = born("pixels")
    prompts = {"itself": POSITIVE, "another": OTHER}
    change = {
        name: (values(step(method, start, source_positive=prompt, **grey)[0]) - values(start)).abs().max()
        for name, prompt in prompts.items()
    }
    assert change["another"] > 0 and change["itself"] < 1e-3 * change["another"]


@pytest.mark.parametrize(
    ("method", "inputs", "message"),
    [
        ("dds", {"source": None}, "source: not connected; DDS needs source and source_positive; connect it"),
        ("lusd", {"source": None, "source_positive": None}, "source and source_positive: not connected; LUSD"),
        ("nfsd", {"unconditional": None}, "unconditional: not connected; NFSD needs unconditional"),
        ("nfsd", {"negative": None, "cfg": 1.0}, "negative: not connected, and this method"),
        ("pds", {"source": torch.zeros(1, 32, 16, 3)}, r"source: got shape \(1, 32, 16, 3\); allowed is \(1, 16, 32"),
        ("dds", {"source": torch.zeros(2, 16, 32, 3)}, "or one a picture of the generator"),
    ],
)
def test_a_step_without_what_it_needs_is_refused(method: str, inputs: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        step(method, born(), **inputs)


def test_a_source_needs_a_vae() -> None:
    with pytest.raises(ValueError, match="vae: not connected, and the source is a picture"):
        step("dds", born("latent"), vae=None)
