"""Prompts by view inside the host: each row is asked as a guider with its own prompt alone would be."""

from __future__ import annotations

import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_perpneg import Guider_PerpNeg
from msd_pack.nodes import host, sides
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.sides import Ground, Look, Towards, marked
from test_bridge import NEGATIVE, latent
from tiny_families import conditioning_of, model_of
from tiny_models import KINDS, conditioning, tiny_model

FRONT, SIDE, BACK = conditioning(3), conditioning(5), conditioning(6)
LOOKS = [Towards(10.0, 0.0), Towards(100.0, 20.0), Towards(-170.0, 0.0), Towards(-80.0, 0.0)]
OF_LOOKS = [FRONT, SIDE, BACK, SIDE]
SIGMAS = torch.tensor([0.5, 3.0, 1.0, 2.0, 0.7, 4.0, 1.5, 0.3])


def by_view(front: list = FRONT, side: list = SIDE, back: list = BACK, blend: float = 0.0) -> list:
    given = {"front": front, "right": side, "back": back, "left": side}
    return [entry for name, cond in given.items() for entry in marked(cond, name, blend)]


def asked(guider: comfy.samplers.CFGGuider, looks: list[Look], rows: int = 8) -> tuple[torch.Tensor, list[int]]:
    """What the denoiser gives for a batch of views, and the sizes of the batches that it asks its guider."""
    sizes: list[int] = []

    def loop(session: host.Session) -> torch.Tensor:
        denoiser = session.model().denoiser(looks)
        own = type(denoiser)._evaluate

        def counting(self: host.HostDenoiser, x: torch.Tensor, *rest: object) -> torch.Tensor:
            sizes.append(len(x))
            return own(self, x, *rest)

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(host.HostDenoiser, "_evaluate", counting)
            return denoiser(latent(rows), SIGMAS[:rows])

    return host.run(guider, loop, 8, 8, rows=rows), sizes


def one_by_one(make, prompts: list[list]) -> torch.Tensor:  # noqa: ANN001 - positive -> guider
    """Each row under its prompt alone, row r under that of number r mod V."""
    rows = []
    for row in range(len(SIGMAS)):

        def loop(session: host.Session, row: int = row) -> torch.Tensor:
            return session.denoiser(latent(8)[row : row + 1], SIGMAS[row : row + 1])

        rows.append(host.run(make(prompts[row % len(prompts)]), loop, 8, 8))
    return torch.cat(rows)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cfg", [1.0, 3.0])
def test_views_are_stacked_and_asked_at_once(kind: str, cfg: float) -> None:
    model = tiny_model(kind)
    found, sizes = asked(make_guider(model, by_view(), NEGATIVE, cfg), LOOKS)
    wanted = one_by_one(lambda positive: make_guider(model, positive, NEGATIVE, cfg), OF_LOOKS)
    assert torch.allclose(found, wanted, atol=1e-4) and sizes == [8]
    assert not torch.allclose(found[0], found[2], atol=1e-3)


def test_a_pooled_text_is_stacked_too() -> None:
    """SDXL's second input."""
    model = model_of("sdxl")
    first, other, negative = (conditioning_of("sdxl", seed) for seed in (1, 2, 3))
    guider = make_guider(model, by_view(first, other, first), negative, 2.0)
    found, sizes = asked(guider, LOOKS)
    prompts = [first, other, first, other]
    wanted = one_by_one(lambda positive: make_guider(model, positive, negative, 2.0), prompts)
    assert torch.allclose(found, wanted, atol=1e-4) and sizes == [8]


def test_what_cannot_be_stacked_is_asked_side_by_side() -> None:
    """Prompts of other lengths, or with an area: once for each side, in any order."""
    model = tiny_model()
    longer = conditioning(8, tokens=154)
    corner = [[SIDE[0][0], SIDE[0][1] | {"area": (4, 4, 0, 0), "strength": 1.0}], *conditioning(9)]
    for side in (longer, corner):
        looks = [*LOOKS[:3], Towards(80.0, 0.0)]
        found, sizes = asked(make_guider(model, by_view(side=side), NEGATIVE, 3.0), looks)
        prompts = [FRONT, side, BACK, side]
        wanted = one_by_one(lambda positive: make_guider(model, positive, NEGATIVE, 3.0), prompts)
        assert torch.allclose(found, wanted, atol=1e-4) and sizes == [2, 4, 2]


def test_a_guider_that_mixes_rows_is_asked_for_one_camera_after_the_other() -> None:
    model = tiny_model()

    def perp(positive: list) -> Guider_PerpNeg:
        guider = Guider_PerpNeg(model)
        guider.set_conds(positive, NEGATIVE, conditioning(11))
        guider.set_cfg(3.0, 1.0)
        return guider

    found, sizes = asked(perp(by_view()), LOOKS, rows=4)
    wanted = torch.cat([one_by_one(perp, OF_LOOKS)[:4]])
    assert torch.allclose(found, wanted, atol=1e-4) and sizes == [1, 1, 1, 1]


def test_between_two_sides_both_count() -> None:
    """At 45 degrees half of each, at 34.5 nothing but the front; the host takes the mean of what they predict."""
    model, looks = tiny_model(), [Towards(45.0, 0.0), Towards(34.5, 0.0), Towards(51.0, 0.0)]
    found, _ = asked(make_guider(model, by_view(blend=20.0), None, 1.0), looks, rows=3)
    front, side = (
        one_by_one(lambda positive: make_guider(model, positive, None, 1.0), [prompt])[:3] for prompt in (FRONT, SIDE)
    )
    shares = torch.tensor([0.5, 0.0, 0.8]).reshape(3, 1, 1, 1)
    assert torch.allclose(found, torch.lerp(front, side, shares), atol=1e-4)


def test_the_negative_prompt_may_be_by_view_too() -> None:
    model = tiny_model()
    found, sizes = asked(make_guider(model, FRONT, by_view(BACK, BACK, SIDE), 3.0), LOOKS)
    wanted = torch.cat(
        [one_by_one(lambda negative: make_guider(model, FRONT, negative, 3.0), [BACK, BACK, SIDE, BACK])]
    )
    assert torch.allclose(found, wanted, atol=1e-4) and sizes == [8]


def test_overhead_and_grounds() -> None:
    entries = [{sides.VIEW: (name, 0.0), "model_conds": {}} for name in ("front", "overhead")]
    said = sides.seen({"positive": entries}, Towards(0.0, 75.0))["positive"]
    assert [entry[sides.VIEW][0] for entry in said] == ["overhead"]
    said = sides.seen({"positive": entries[:1]}, Towards(0.0, 75.0))["positive"]
    assert said == entries[:1], "where none is for above, the sides reach up"
    grounds = [{sides.VIEW: (name, 0.0)} for name in ("white", "blue")]
    assert sides.seen({"positive": grounds}, Ground("blue"))["positive"] == grounds[1:]


def test_memory_that_runs_out_keeps_the_views_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Half of the rows, and whole sets of views."""
    model = tiny_model()
    own = comfy.samplers.CFGGuider.predict_noise

    def small(self: comfy.samplers.CFGGuider, x: torch.Tensor, *rest: object, **more: object) -> torch.Tensor:
        if len(x) > 4:
            raise torch.OutOfMemoryError
        return own(self, x, *rest, **more)

    guider = make_guider(model, by_view(), NEGATIVE, 3.0)
    whole, _ = asked(guider, LOOKS)
    monkeypatch.setattr(comfy.samplers.CFGGuider, "predict_noise", small)
    found, sizes = asked(guider, LOOKS)
    assert torch.allclose(found, whole, atol=1e-4) and sizes[-2:] == [4, 4]
