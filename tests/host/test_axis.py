"""nodes/axis.py against every `model_sampling` that the host has: x is made there as z = x0 + σ n says it is here."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import comfy.model_sampling
import pytest
import torch
from comfy.model_base import ModelType
from msd_pack.nodes.axis import Axis
from msd_pack.nodes.host import Rows
from msd_pack.nodes.inverted import InvertedNoise
from tiny_families import sampling_of

Oracle = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.nn.Module], torch.Tensor]
ORACLES: dict[str, Oracle] = {
    "EPS": lambda x0, n, sigma, _: n,
    "V_PREDICTION": lambda x0, n, sigma, s: (n * s.sigma_data**2 - sigma * x0) / s.sigma_data / root(sigma, s),
    "EDM": lambda x0, n, sigma, s: (sigma * x0 - n * s.sigma_data**2) / s.sigma_data / root(sigma, s),
    "X0": lambda x0, n, sigma, _: x0,
    "COSMOS_RFLOW": lambda x0, n, sigma, _: n - x0,
    "CONST": lambda x0, n, sigma, s: getattr(s, "noise_scale", 1.0) * n - x0,
}
"""What a perfect network answers where x is made of x0 and n, written down from the papers' definitions."""

SAMPLINGS = {
    "EPS": ("EPS", lambda: sampling_of(ModelType.EPS)),
    "EPS, zero terminal SNR": ("EPS", lambda: sampling_of(ModelType.EPS, zsnr=True)),
    "EPS, Stable Cascade": ("EPS", lambda: sampling_of(ModelType.STABLE_CASCADE)),
    "v": ("V_PREDICTION", lambda: sampling_of(ModelType.V_PREDICTION)),
    "v, zero terminal SNR": ("V_PREDICTION", lambda: sampling_of(ModelType.V_PREDICTION, zsnr=True)),
    "v, EDM's levels": ("V_PREDICTION", lambda: sampling_of(ModelType.V_PREDICTION_EDM, sigma_max=700.0)),
    "v, continuous": ("V_PREDICTION", lambda: sampling_of(ModelType.V_PREDICTION_CONTINUOUS)),
    "EDM": ("EDM", lambda: sampling_of(ModelType.EDM, sigma_data=0.5, sigma_max=80.0)),
    "x0": ("X0", lambda: patched("X0")),
    "Cosmos flow": ("COSMOS_RFLOW", lambda: sampling_of(ModelType.FLOW_COSMOS)),
    "flow, shift 3": ("CONST", lambda: sampling_of(ModelType.FLOW, shift=3.0)),
    "flow, Flux": ("CONST", lambda: sampling_of(ModelType.FLUX)),
}
if hasattr(comfy.model_sampling.ModelSamplingDiscreteFlow, "set_noise_scale"):
    SAMPLINGS["flow, noise 8"] = ("CONST", lambda: sampling_of(ModelType.FLOW, noise_scale=8.0))
WITHOUT_AXIS = [
    name for name in ("IMG_TO_IMG", "IMG_TO_IMG_FLOW", "V_PREDICTION_DDPM") if hasattr(comfy.model_sampling, name)
]


def root(sigma: torch.Tensor, sampling: torch.nn.Module) -> torch.Tensor:
    return (sigma**2 + sampling.sigma_data**2).sqrt()


def patched(prediction: str) -> torch.nn.Module:
    """As the host's own node ModelSamplingDiscrete makes one."""
    kinds = (comfy.model_sampling.ModelSamplingDiscrete, getattr(comfy.model_sampling, prediction))
    return type("ModelSamplingAdvanced", kinds, {})()


def levels(axis: Axis) -> list[float]:
    return [axis.sigma_min, 0.2, 1.0, 6.0, axis.sigma_max]


@pytest.mark.parametrize("name", SAMPLINGS)
def test_the_hosts_x_is_the_one_of_the_axis_and_a_perfect_network_finds_the_picture(name: str) -> None:
    prediction, make = SAMPLINGS[name]
    sampling = make().double()
    axis = Axis.of(sampling)
    assert axis.flow == (prediction == "CONST")
    x0, n = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64).unbind()
    for sigma in levels(axis):
        level = torch.tensor(axis.level(sigma), dtype=torch.float64)
        x = sampling.noise_scaling(level, n.clone(), x0.clone())
        assert torch.allclose(axis.latent(x0 + sigma * n, sigma), x, rtol=1e-9, atol=1e-9), f"at sigma {sigma}"
        answer = ORACLES[prediction](x0, n, torch.tensor(sigma, dtype=torch.float64), sampling)
        found = sampling.calculate_denoised(level, answer, x)
        assert torch.allclose(found, x0, rtol=1e-6, atol=1e-6 * (1 + sigma)), f"at sigma {sigma}"
        assert float(axis.sigma(axis.level(sigma))) == pytest.approx(sigma, rel=1e-6)


def test_another_axis_would_be_seen() -> None:
    """The negative control of the test above: a flow taken for a variance-exploding model, and for one of noise 8."""
    x0, n = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    flow = sampling_of(ModelType.FLOW, shift=1.0)
    x = flow.noise_scaling(torch.tensor(0.5), n.clone(), x0.clone())
    assert not torch.allclose(Axis(False, 0, 1).latent(x0 + 0.5 * n, 0.5), x, rtol=1e-2)
    assert not torch.allclose(Axis(True, 0, 1, 8.0).latent(x0 + n, 1.0), x, rtol=1e-2)


@pytest.mark.skipif("V_PREDICTION_DDPM" not in WITHOUT_AXIS, reason="this host has no such prediction")
def test_why_cogvideo_s_prediction_is_refused() -> None:
    """x is started variance-exploding, and read variance-preserving: the perfect network does not find the picture."""
    sampling = sampling_of(ModelType.V_PREDICTION_DDPM)
    x0, n = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    sigma = torch.tensor(1.0)
    x = sampling.noise_scaling(sigma, n.clone(), x0.clone())
    answer = ORACLES["V_PREDICTION"](x0, n, sigma, SimpleNamespace(sigma_data=1.0))
    assert not torch.allclose(sampling.calculate_denoised(sigma, answer, x), x0, rtol=0.1)
    assert torch.allclose(sampling.calculate_denoised(sigma, answer, x / (1 + sigma**2).sqrt()), x0, atol=1e-5)


@pytest.mark.parametrize("name", WITHOUT_AXIS)
def test_what_is_no_mixture_of_picture_and_noise_is_refused_by_name(name: str) -> None:
    with pytest.raises(ValueError, match=f"model: its sampling is {name}; allowed are"):
        Axis.of(patched(name))


def test_an_unknown_sampling_and_a_noise_of_nothing_are_refused() -> None:
    class Own:
        pass

    unknown = type("Sampling", (comfy.model_sampling.ModelSamplingDiscrete, Own), {})()
    with pytest.raises(ValueError, match="model: its sampling is ModelSamplingDiscrete and Own"):
        Axis.of(unknown)
    flow = sampling_of(ModelType.FLOW)
    flow.noise_scale = 0.0
    with pytest.raises(ValueError, match="model: its noise_scale is 0"):
        Axis.of(flow)


@pytest.mark.parametrize("name", [name for name in SAMPLINGS if name != "EPS, Stable Cascade"])
def test_a_stock_sampler_starts_at_the_inverted_state(name: str) -> None:
    """`InvertedNoise` is the inverse of the host's `noise_scaling`, the noise scale included."""
    sampling = SAMPLINGS[name][1]()
    axis = Axis.of(sampling)
    latent, state = torch.randn(2, 1, 4, 3, 3, generator=torch.Generator().manual_seed(0)).unbind()
    latent_format = SimpleNamespace(process_in=lambda latent: 0.5 * latent)
    sigma = 2.0
    level = float(axis.level(sigma))
    noise = InvertedNoise(state, level, float(sampling.sigma_max), axis, latent_format)
    x = sampling.noise_scaling(torch.tensor(level), noise.generate_noise({"samples": latent}), 0.5 * latent)
    assert torch.allclose(x, axis.latent(state, sigma), atol=1e-5)


def test_the_row_counter_is_safe_with_threads() -> None:
    """Each addition is held up within, so that without a lock they would all read the same total."""

    class Slow(int):
        def __radd__(self, total: int) -> int:
            time.sleep(0.002)
            return total + int(self)

    rows, batch = Rows(), SimpleNamespace(shape=(Slow(3),))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: rows(lambda x: x, batch), range(40)))
    assert rows.total == 120
