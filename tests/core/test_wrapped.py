"""What every denoiser made of another one passes on, and what it must not: no way leads past what it makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor

from msd_core import (
    GuidedDenoiser,
    Source,
    cost,
    guide,
    guided,
    sd15_schedule,
    sigma_range,
    with_companions,
    with_levels,
)
from msd_core.blended import blended
from msd_core.denoiser import Denoiser, RowCounter, Unchanged, Wrapped, data_std, differentiable, level_at, name_of
from msd_core.distillation.csd import CSD
from msd_core.distillation.ism import ISM
from msd_core.distillation.lusd import LUSD
from msd_core.dreamsampler import Edited
from msd_core.guidance import unconditional, with_cfg
from msd_core.inversion.masked import Inside, MaskedDenoiser, Outside
from msd_core.inversion.null_text import embedded
from msd_core.manipulation.pixels import PixelPosterior
from msd_core.measurement import Observation
from msd_core.measurement.mask import Mask
from msd_core.posterior import PosteriorDenoiser
from msd_core.posterior.conditional import OfConditional, _Shifted
from msd_core.regions import Regional

pytestmark = pytest.mark.core
SHAPE = (3, 4, 4)
HALF = Mask(torch.tensor([1.0, 1.0, 0.0, 0.0]).expand(4, 4))
SEEN = Observation(HALF, HALF.apply(torch.full((1, *SHAPE), 0.9)))


@dataclass(frozen=True)
class Network:
    """A guided model that has every optional member; its pictures, too, are within [0, 1]."""

    cfg: float = 3.0
    embedding: Tensor = torch.zeros(1)
    sigma_min, sigma_max, data_std, differentiable, parts_cost = 0.1, 5.0, 0.5, True, 6

    @property
    def cost(self) -> int:
        return 3 if self.cfg == 1 else 6

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        return 0.1 * z.clamp(-1, 1) + 0.1 * self.cfg + self.embedding

    def parts(self, z: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        return self.with_cfg(1.0)(z, sigma), self.uncond(z, sigma)

    def with_cfg(self, cfg: float) -> Network:
        return replace(self, cfg=cfg)

    @property
    def uncond(self) -> Network:
        return self.with_cfg(0.0)

    def with_embedding(self, embedding: Tensor) -> Network:
        return replace(self, embedding=embedding)

    def percent_to_sigma(self, percent: float) -> float:
        return 0.1 + 4.9 * (1 - percent)


def regional(model: Denoiser) -> Denoiser:
    return Regional(model, [(HALF.mask, replace(model, embedding=torch.ones(1)))])  # type: ignore[type-var]


def pixels(model: Denoiser) -> Denoiser:
    return PixelPosterior(model, SEEN, lambda p: 2 * p - 1, lambda x: (x + 1) / 2)


def masked(model: Denoiser) -> Denoiser:
    return MaskedDenoiser(model, Outside.drawn(torch.full((1, *SHAPE), 0.5), HALF.mask[..., :4, :4], torch.Generator()))


SAME: dict[str, Callable[[Denoiser], Denoiser]] = {
    "counter": RowCounter,
    "levels": lambda model: with_levels(model, sd15_schedule()),
    "companions": lambda model: with_companions(model, negative=model),
}
OTHER: dict[str, Callable[[Denoiser], Denoiser]] = {
    "posterior": lambda model: PosteriorDenoiser(model, SEEN, "replacement"),
    "of the conditional": lambda model: PosteriorDenoiser(model, SEEN, OfConditional("replacement")),
    "pixels": pixels,
    "masked": masked,
    "inside": lambda model: Inside(masked(model), HALF.mask[..., :4, :4]),
    "regions": regional,
    "blend": lambda model: blended([model, model.with_cfg(5.0)], [[0.5, 0.5]]),  # type: ignore[attr-defined]
}
POSTERIORS = ["posterior", "pixels"]


def x(seed: int = 0) -> Tensor:
    return torch.randn((1, *SHAPE), generator=torch.Generator().manual_seed(seed))


def test_no_wrapper_is_forgotten() -> None:
    """Whoever adds one enters it above; what lives within one call of a gain has no guidance scale to change."""
    tried = {type(make(Network())) for make in (SAME | OTHER).values()}
    found, left = set(), [Wrapped]
    while left:
        left += (below := left.pop().__subclasses__())
        found |= {one for one in below if one.__module__.startswith("msd_core") and not issubclass(one, tuple(tried))}
    assert found == {Unchanged, _Shifted}


@pytest.mark.parametrize("name", SAME | OTHER)
def test_what_is_true_of_the_model_is_passed_on(name: str) -> None:
    model = Network()
    made = (SAME | OTHER)[name](model)
    assert sigma_range(made) == (0.1, 5.0) and data_std(made) == 0.5
    assert level_at(made, 0.3) == (sd15_schedule().percent_to_sigma(0.7) if name == "levels" else level_at(model, 0.3))
    assert differentiable(made) == (name != "pixels")
    assert not hasattr(made, "nothing") and not hasattr(made, "__nothing")
    again = copy.deepcopy(made)
    assert torch.equal(again(x(), 1.0), made(x(), 1.0)) and again.denoiser is not model  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", SAME)
def test_what_changes_nothing_passes_on_all(name: str) -> None:
    made = SAME[name](Network())
    assert cost(made) == 6 and getattr(made, "parts_cost") == 6 and name_of(made) == "Network"  # noqa: B009
    assert torch.equal(embedded(made).embedding, torch.zeros(1)) and guided(made, "this") is made
    assert torch.equal(unconditional(made, "this")(x(), 1.0), Network(0.0)(x(), 1.0))
    other = with_cfg(made, 7.0)
    assert torch.equal(other(x(), 1.0), Network(7.0)(x(), 1.0))
    assert isinstance(other, type(made)) or name == "counter", "levels and companions stay at another scale"


@pytest.mark.parametrize("name", OTHER)
def test_what_makes_another_denoiser_hides_what_belongs_to_the_one_inside(name: str) -> None:
    made = OTHER[name](Network())
    for hidden in ("embedding", "with_embedding", *([] if name == "blend" else ["uncond", "companions"])):
        assert not hasattr(made, hidden), hidden
    with pytest.raises(ValueError, match=f"{type(made).__name__} has no unconditional embedding"):
        embedded(made)
    assert not hasattr(made, "cfg")
    for cfg in (1.0, 0.0, 7.0):
        scaled, wanted = with_cfg(made, cfg), OTHER[name](Network(cfg))
        assert type(scaled) is type(made)
        if name == "blend":  # of two scales, one of which stays in what is made anew
            wanted = blended([Network(cfg)] * 2, [[0.5, 0.5]])
        assert torch.equal(scaled(x(), 1.0), wanted(x(), 1.0)) and cost(scaled) == cost(wanted)


def test_without_guidance_inside_there_is_none() -> None:
    plain = OTHER["posterior"](lambda z, _: z)
    assert not hasattr(plain, "with_cfg") and with_cfg(plain, None) is plain
    with pytest.raises(ValueError, match="inversion_cfg: got 2.0, but PosteriorDenoiser has no with_cfg"):
        with_cfg(plain, 2.0)


@pytest.mark.parametrize("name", POSTERIORS)
def test_no_method_gets_past_a_measurement(name: str) -> None:
    """What is asked under it agrees with what is known at every scale; methods that take it apart are refused."""
    made, z = OTHER[name](Network()), x()
    known = 0.9 if name == "posterior" else 0.8  # of pixels, as x
    for cfg in (1.0, 0.0, 7.0):
        assert float((with_cfg(made, cfg)(z, 1.0)[..., :2] - known).abs().max()) < 1e-5
        assert float((Network(cfg)(z, 1.0)[..., :2] - known).abs().max()) > 0.1, "which the model alone does not"
    source = Source(z, made)
    accompanied = with_companions(made, source=source)
    words = f"denoiser: {type(made).__name__} has no guidance .parts, with_cfg., and {{}} needs it; .*Pass Guided"
    rng = torch.Generator().manual_seed(0)
    for method, purpose in ((CSD(), "CSD"), (ISM(), "ISM"), (LUSD(), "LUSD")):
        with pytest.raises(ValueError, match=words.format(purpose)):
            method(z, accompanied, step=0, steps=2, rng=rng)
    with pytest.raises(ValueError, match=words.format("editing")):
        Edited(made)
    apart = GuidedDenoiser(with_cfg(made, 1.0), with_cfg(made, 0.0), 3.0)
    assert all(float((part[..., :2] - known).abs().max()) < 1e-5 for part in apart.parts(z, 1.0))


@pytest.mark.parametrize("name", OTHER)
def test_a_counter_has_parts_only_where_there_are_some(name: str) -> None:
    made, counter = OTHER[name](Network()), RowCounter(OTHER[name](Network()))
    assert hasattr(counter, "parts") == hasattr(made, "parts") == (name in ("regions", "blend"))


def test_regions_and_blends_give_both_parts_of_their_own() -> None:
    for name in ("regions", "blend"):
        made, z = OTHER[name](Network(1.0)), x()
        cond, uncond = guided(made, "this").parts(z, 1.0)
        torch.testing.assert_close(guide(cond, uncond, 4.0), with_cfg(made, 4.0)(z, 1.0))
        torch.testing.assert_close(unconditional(made, "this")(z, 1.0), uncond)
