"""Noise levels and latents of the host's models against those of `msd_core`: z = x0 + σ n.

The host's `model_sampling` says how a model's x is made of picture and noise; its level is what it calls sigma:

    variance-exploding   x = x0 + σ n                     z = x,             σ = level
    flow (CONST)         x = (1 − t) x0 + t s n           z = x / (1 − t),   σ = s t / (1 − t),   t = level

s is the model's `noise_scale`, 1 where it has none. σ is infinite at t = 1; flow models are used up to t = 0.999.
What each of the host's classes is, and which models have it:

| prediction | x | models |
|---|---|---|
| EPS | variance-exploding | SD1.5, SDXL, Stable Cascade; with zero terminal SNR σ reaches 4518 |
| V_PREDICTION | variance-exploding | SD2 (v); with EDM's or the cosine's levels: SVD, Playground, Stable Audio |
| EDM | variance-exploding | Playground 2.5, Cosmos 1 |
| X0 | variance-exploding | models patched with "x0" |
| COSMOS_RFLOW | variance-exploding; the network alone works in t = σ / (1 + σ) | Cosmos Predict 2 |
| CONST | flow | SD3, AuraFlow, Flux, Flux 2, Chroma, HunyuanImage; HiDream-O1 with s = 8 |
| IMG_TO_IMG, IMG_TO_IMG_FLOW | none: the network is shown a picture without noise | Lotus, FlowRVS |
| V_PREDICTION_DDPM | none: x is taken for √ᾱ x0 + √(1 − ᾱ) n, but started as x0 + σ n | CogVideoX |

A class that is derived from one of these is taken for that one: the host's own distilled models (LCM) are ε models.
The tests hold each line to the host's own functions (tests/host/test_axis.py).
"""

from __future__ import annotations

from dataclasses import dataclass

import comfy.model_sampling
from torch import Tensor, nn

FLOW_T_MAX = 0.999  # σ = 999 s; the same limit as msd_core's FlowDenoiser
WITHOUT_NOISE = ("IMG_TO_IMG", "IMG_TO_IMG_FLOW", "V_PREDICTION_DDPM")
EXPLODING = ("EPS", "COSMOS_RFLOW")
FLOWS = ("CONST",)


@dataclass(frozen=True)
class Axis:
    """The conversion above: `flow`, σ's range, and the noise scale s of a flow model."""

    flow: bool
    sigma_min: float
    sigma_max: float
    scale: float = 1.0

    @classmethod
    def of(cls, model_sampling: nn.Module) -> Axis:
        """The axis of a host `model_sampling` object.

        Raises:
            ValueError: its x is no mixture of picture and noise that is known here, or has no noise.
        """
        kind = _kind(model_sampling)
        low, high = float(model_sampling.sigma_min), float(model_sampling.sigma_max)
        if kind not in FLOWS:
            return cls(False, low, high)
        scale = float(getattr(model_sampling, "noise_scale", 1.0))
        if not scale > 0:
            raise ValueError(
                f"model: its noise_scale is {scale:g}; allowed is a number above 0, since at 0 there is no noise. Set "
                "the one that the model was trained with."
            )
        high = min(high, FLOW_T_MAX)
        return cls(True, scale * low / (1 - low), scale * high / (1 - high), scale)

    def level(self, sigma: Tensor | float) -> Tensor | float:
        """σ → the host's level: t = σ / (s + σ) for flow models."""
        return sigma / (self.scale + sigma) if self.flow else sigma

    def sigma(self, level: Tensor | float) -> Tensor | float:
        """The host's level → σ: s t / (1 − t) for flow models, defined below t = 1."""
        return self.scale * level / (1 - level) if self.flow else level

    def latent(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """z (B, *) at σ, () or (B, 1, …) → the host's x: z (1 − t) = z s / (s + σ) for flow models."""
        return z * self.scale / (self.scale + sigma) if self.flow else z

    def exploding(self, x: Tensor, sigma: Tensor | float) -> Tensor:
        """The host's x (B, *) at σ, () or (B, 1, …) → z; the inverse of `latent`."""
        return x * (self.scale + sigma) / self.scale if self.flow else x

    def reached(self, level: Tensor) -> Tensor:
        """σ of the host's levels, those of a flow model above 0.999 taken for it."""
        return self.sigma(level.clamp(max=FLOW_T_MAX) if self.flow else level).float()


def share_of_chain(model_sampling: nn.Module, high: Tensor | float, low: Tensor | float) -> float:
    """The fraction of the model's own chain, in (0, 1], that the host's levels from ``high`` down to ``low`` cover."""
    ends = []
    for level in (float(high), float(low)):
        above, below = 0.0, 1.0  # progress of sampling: the level falls with it
        for _ in range(40):
            middle = (above + below) / 2
            above, below = (
                (middle, below) if float(model_sampling.percent_to_sigma(middle)) > level else (above, middle)
            )
        ends.append(1 - below if level > 0 else 0.0)
    return min(max(ends[0] - ends[1], 1e-6), 1.0)


def data_std_of(model_sampling: nn.Module) -> float:
    """Standard deviation of the data, per coordinate, in the units of the model's latents.

    The host's latent formats scale an encoder's latents to 1, by the figures that the model was trained with. EDM's
    preconditioning (Karras et al. 2022, Table 1) takes them at another, and says so in ``sigma_data``.
    """
    stated = float(getattr(model_sampling, "sigma_data", 1.0))
    return stated if stated > 0 else 1.0


def _kind(model_sampling: nn.Module) -> str:
    """Name of the host's class that says how x is made.

    Raises:
        ValueError: there is none, or one without noise.
    """
    names = [base.__name__ for base in type(model_sampling).__mro__ if base.__module__ == comfy.model_sampling.__name__]
    found = next((name for name in names if name in (*WITHOUT_NOISE, *EXPLODING, *FLOWS)), None)
    if found is None or found in WITHOUT_NOISE:
        got = found or " and ".join(base.__name__ for base in type(model_sampling).__bases__)
        raise ValueError(
            f"model: its sampling is {got}; allowed are the kinds whose x is a picture with noise added (EPS, "
            "V_PREDICTION, EDM, X0, COSMOS_RFLOW) or a flow from picture to noise (CONST). Load a model that makes "
            "pictures from noise."
        )
    return found
