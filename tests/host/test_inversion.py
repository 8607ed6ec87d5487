"""DDIM Inversion: the stock sampler reproduces the inverted state and gives the picture back."""

from __future__ import annotations

import comfy.model_management
import comfy.samplers
import pytest
import torch
from comfy_extras.nodes_custom_sampler import Noise_EmptyNoise, SamplerCustomAdvanced
from msd_pack.nodes.axis import Axis
from msd_pack.nodes.guiders import make_guider
from msd_pack.nodes.inversion import DDIMInversion, own_levels
from tiny_models import KINDS, conditioning, tiny_model

POSITIVE, NEGATIVE = conditioning(3), conditioning(4)
STEPS = 24


def picture(seed: int = 0, batch: int = 1, scale: float = 5.0) -> dict:
    return {"samples": scale * torch.randn(batch, 4, 8, 8, generator=torch.Generator().manual_seed(seed))}


def invert(kind: str, latent: dict, **inputs: object) -> tuple:
    with torch.inference_mode():
        return DDIMInversion.execute(
            latent, model=tiny_model(kind), positive=POSITIVE, negative=NEGATIVE, cfg=1.0, **{"steps": STEPS} | inputs
        ).args


def sample(kind: str, noise: object, sigmas: torch.Tensor, latent: dict) -> torch.Tensor:
    with torch.inference_mode():
        guider = make_guider(tiny_model(kind), POSITIVE, NEGATIVE, 1.0)
        euler = comfy.samplers.sampler_object("euler")
        return SamplerCustomAdvanced.execute(noise, guider, euler, sigmas, latent).args[0]["samples"]


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


@pytest.mark.parametrize("kind", KINDS)
def test_noise_gives_the_picture_back_from_any_latent(kind: str) -> None:
    latent = picture()
    inverted, _, noise, sigmas, *_ = invert(kind, latent, scheduler="simple")
    for start in (latent, picture(seed=7), {"samples": torch.zeros(1, 4, 8, 8)}):
        assert relative(sample(kind, noise, sigmas, start), latent["samples"]) < 0.1
    back = sample(kind, Noise_EmptyNoise(), sigmas, inverted)
    assert relative(back, latent["samples"]) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_more_steps_come_closer(kind: str) -> None:
    latent = picture()

    def error(steps: int) -> float:
        _, _, noise, sigmas, *_ = invert(kind, latent, scheduler="karras", steps=steps)
        return relative(sample(kind, noise, sigmas, latent), latent["samples"])

    coarse, fine = error(12), error(48)
    assert fine < coarse / 2.5  # first order


@pytest.mark.parametrize("kind", KINDS)
def test_stock_sampler_starts_at_the_inverted_state(kind: str) -> None:
    latent = picture(batch=2)
    inverted, _, noise, sigmas, *_ = invert(kind, latent, scheduler="simple", steps=5)
    sampling = tiny_model(kind).get_model_object("model_sampling")
    latent_format = tiny_model(kind).get_model_object("latent_format")
    highest = bool(sigmas[0] >= float(sampling.sigma_max) * (1 - 1e-5))
    start = sampling.noise_scaling(
        sigmas[0], noise.generate_noise(latent), latent_format.process_in(latent["samples"]), highest
    )
    state = latent_format.process_in(inverted["samples"])
    assert torch.allclose(start, state * (1 - sigmas[0]) if kind == "flow" else state, rtol=1e-4, atol=1e-4)


def test_trajectory_runs_from_the_picture_to_the_inverted_latent() -> None:
    latent = picture(batch=2)
    inverted, trajectory, _, sigmas, *_ = invert("eps", latent, steps=6)
    states = trajectory["samples"].unflatten(0, (-1, 2))
    assert len(states) == len(sigmas) == 7
    assert torch.allclose(states[0], latent["samples"], atol=1e-5)
    assert torch.equal(states[-1], inverted["samples"])


def test_a_batch_equals_a_loop_and_the_input_is_not_mutated() -> None:
    latent = picture(batch=2)
    before = latent["samples"].clone()
    together = invert("eps", latent, steps=4)[0]["samples"]
    for i in range(2):
        alone = invert("eps", {"samples": before[i : i + 1]}, steps=4)[0]["samples"]
        assert torch.allclose(together[i : i + 1], alone, rtol=1e-3, atol=1e-3)
    assert torch.equal(latent["samples"], before)


def test_sigmas_replace_steps_and_scheduler() -> None:
    own = torch.tensor([10.0, 3.0, 1.0, 0.0])
    assert torch.equal(invert("eps", picture(), sigmas=own)[3], own)


@pytest.mark.parametrize(
    ("kind", "sigmas", "message"),
    [
        ("eps", [3.0, 1.0], "decrease strictly to 0"),
        ("eps", [1.0, 3.0, 0.0], "decrease strictly to 0"),
        ("eps", [0.0], "at least two levels"),
        ("flow", [1.0, 0.5, 0.0], "starts at 1.0"),
    ],
)
def test_wrong_sigmas(kind: str, sigmas: list[float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        invert(kind, picture(), sigmas=torch.tensor(sigmas))


def test_wrong_latents() -> None:
    with pytest.raises(ValueError, match=r"has shape \(1, 16, 8, 8\), the model works on \(B, 4, H, W\)"):
        invert("eps", {"samples": torch.zeros(1, 16, 8, 8)})
    noise = invert("eps", picture(), steps=2)[2]
    with pytest.raises(ValueError, match=r"inverted from a latent of shape \(1, 4, 8, 8\)"):
        noise.generate_noise({"samples": torch.zeros(1, 4, 16, 16)})


def test_cancel_ends_the_inversion() -> None:
    comfy.model_management.interrupt_current_processing()
    with pytest.raises(comfy.model_management.InterruptProcessingException):
        invert("eps", picture())


# --- methods and report -----------------------------------------------------------------------------------------------


CASES = [(kind, method, "euler") for kind in KINDS for method in ("implicit", "uni-inv")]
CASES += [(kind, f"implicit-{n}", n.replace("-", "_")) for kind in ("eps", "v") for n in ("heun", "dpmpp-2m")]


@pytest.mark.parametrize(("kind", "method", "name"), CASES)
def test_a_method_comes_back_by_the_host_s_sampler_of_its_name(kind: str, method: str, name: str) -> None:
    latent = picture()
    _, _, noise, sigmas, told, returned, plot, _ = invert(kind, latent, method=method, steps=10, check=True)
    with torch.inference_mode():
        guider = make_guider(tiny_model(kind), POSITIVE, NEGATIVE, 1.0)
        sampler, empty = comfy.samplers.sampler_object(name), {"samples": torch.zeros_like(latent["samples"])}
        back = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, empty).args[0]["samples"]
    limit = 0.2 if method == "uni-inv" else 2e-3
    assert relative(back, latent["samples"]) < limit
    assert relative(returned["samples"], back) < 2e-3
    assert plot.shape == (1, 480, 640, 3) and 0 < float(plot.std())
    assert "evaluations in 10 steps" in told and "comes back at" in told and "white noise" in told


def test_a_noise_mask_plays_no_part_and_the_report_says_so() -> None:
    latent = picture()
    masked = latent | {"noise_mask": torch.ones(1, 64, 64)}
    plain, told = (invert("eps", one, steps=3) for one in (latent, masked))
    assert torch.equal(plain[0]["samples"], told[0]["samples"]) and "noise_mask" not in told[0]
    assert "noise mask plays no part: connect it to mask" in told[4] and "noise mask" not in plain[4]


MASK = torch.zeros(1, 64, 64)
MASK[:, 3:40, 20:61] = 1.0  # of cells of 8 pixels: rows 0 to 4, columns 2 to 7, touched


@pytest.mark.parametrize(
    ("kind", "method", "name"), [*((kind, "implicit", "euler") for kind in KINDS), ("eps", "implicit-heun", "heun")]
)
def test_inside_a_mask_the_host_s_masked_sampling_gives_the_picture_back(kind: str, method: str, name: str) -> None:
    given, inside = picture(batch=2), torch.zeros(8, 8, dtype=torch.bool)
    inside[:5, 2:] = True
    outputs = invert(kind, given, scheduler="simple", method=method, steps=10, mask=MASK, check=True, tolerance=1e-6)
    noise, sigmas, returned, latent = outputs[2], outputs[3], outputs[5], outputs[7]
    assert torch.equal(latent["samples"], given["samples"]) and latent["noise_mask"].shape == (1, 8, 8)
    assert torch.equal(latent["noise_mask"][0] > 0, inside)
    with torch.inference_mode():
        guider = make_guider(tiny_model(kind), POSITIVE, NEGATIVE, 1.0)
        sampler = comfy.samplers.sampler_object(name)
        back = SamplerCustomAdvanced.execute(noise, guider, sampler, sigmas, latent).args[0]["samples"]
    for found in (back, returned["samples"]):
        assert relative(found[..., ~inside], given["samples"][..., ~inside]) < 1e-6
        assert relative(found[..., inside], given["samples"][..., inside]) < 2e-3
    other = invert(kind, given, scheduler="simple", method=method, steps=10, mask=MASK, seed=1)[2]
    drawn = [made.generate_noise(latent)[..., ~inside] for made in (noise, other)]
    assert relative(*drawn) > 1


def test_noise_from_inside_a_mask_is_refused_without_that_mask() -> None:
    given = picture()
    noise = invert("eps", given, steps=2, mask=MASK)[2]
    for latent, words in [
        (given, "noise mask has none"),
        (given | {"noise_mask": torch.ones(1, 64, 64)}, "noise mask has another one"),
    ]:
        with pytest.raises(ValueError, match=words + ".*sample the latent output of DDIM Inversion"):
            noise.generate_noise(latent)
    whole = torch.zeros(1, 64, 64)
    whole[:, :40, 16:] = 1.0  # the same cells, as Set Latent Noise Mask would have them
    assert noise.generate_noise(given | {"noise_mask": whole}).shape == (1, 4, 8, 8)


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (torch.zeros(1, 64, 64), "has no part above one half"),
        (torch.ones(3, 64, 64), r"got shape \(3, 64, 64\) for 2 latents"),
        (torch.ones(2, 0, 64), r"got shape \(2, 0, 64\)"),
    ],
)
def test_a_mask_that_does_not_fit_is_refused(mask: torch.Tensor, words: str) -> None:
    with pytest.raises(ValueError, match="mask: " + words):
        invert("eps", picture(batch=2), steps=2, mask=mask)


def test_implicit_is_better_than_explicit_and_the_report_says_so() -> None:
    reports = {
        method: invert("eps", picture(), method=method, steps=8, check=True)[4] for method in ("explicit", "implicit")
    }
    found = {method: float(told.split("comes back at ")[1].split(" dB")[0]) for method, told in reports.items()}
    assert found["implicit"] > found["explicit"] + 10, reports


def test_without_check_nothing_is_walked_back() -> None:
    *_, told, returned, _, _ = invert("eps", picture(), steps=4)
    assert "comes back" not in told and type(returned).__name__ == "ExecutionBlocker"
    assert told.startswith("4 evaluations in 4 steps")


@pytest.mark.parametrize("kind", KINDS)
def test_its_levels_are_taken_again(kind: str) -> None:
    inverted, _, _, levels, *_ = invert(kind, picture(), steps=4)
    again, _, _, same, *_ = invert(kind, picture(), sigmas=levels)
    assert torch.equal(levels, same) and torch.equal(inverted["samples"], again["samples"])


def test_the_noise_does_not_hold_the_whole_way() -> None:
    noise = invert("eps", picture(), steps=4)[2]
    assert noise.state.untyped_storage().nbytes() == noise.state.nbytes


def test_the_warning_names_what_the_host_has() -> None:
    told = invert("eps", picture(), steps=8)[4]
    assert "warning" in told and "DreamSampler Edit by 'direct'" in told


def test_an_unknown_method_is_named() -> None:
    with pytest.raises(ValueError, match="method: got 'null-text'; allowed are 'explicit'"):
        invert("eps", picture(), method="null-text")
    with pytest.raises(ValueError, match="method: got 'implicit-heun' with a flow model"):
        invert("flow", picture(), method="implicit-heun")


@pytest.mark.parametrize("steps", [50, 1000])
@pytest.mark.parametrize("scheduler", ["simple", "beta", "linear_quadratic", "normal", "sgm_uniform", "karras"])
@pytest.mark.parametrize("kind", KINDS)
def test_own_levels_fall(kind: str, scheduler: str, steps: int) -> None:
    """Whatever the scheduler: of levels that are equal, or become so where a flow model's are bounded, one is left."""
    sampling = tiny_model(kind).get_model_object("model_sampling")
    axis = Axis.of(sampling)
    levels = own_levels(sampling, axis, scheduler, steps)
    assert bool((levels[1:] < levels[:-1]).all()) and levels[-1] == 0 and len(levels) > 0.8 * steps
    assert not axis.flow or float(levels[0]) == pytest.approx(0.999)
