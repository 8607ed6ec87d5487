"""Ways from a latent to its noise and back inside ComfyUI: DDIM Inversion, flipped sigmas, and unsampler packs.

Every node runs through its own function. To be imported in the host's Python, with the host and the pack imported
(tests/host/conftest.py). All ways walk the same levels, at cfg 1, and come back by Euler unless they have a sampler of
their own.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import comfy.model_base
import comfy.model_sampling
import torch
from comfy_extras.nodes_custom_sampler import (
    BasicScheduler,
    CFGGuider,
    DisableNoise,
    FlipSigmas,
    KSamplerSelect,
    SamplerCustomAdvanced,
)
from host_ways import SCHEDULER, Loaded, call
from msd_pack.nodes.inversion import DDIMInversion
from torch import Tensor, nn

from nodes import CLIPTextEncode, KSamplerAdvanced, VAEDecode, VAEEncode

Nodes = Mapping[str, Any]
"""Of other packs: identifier to class."""


class FlowUNet(nn.Module):
    """The demo network, an eps model, in a flow model's coordinates: x = (1 - t) x0 + t n to v = n - x0."""

    def __init__(self, network: nn.Module, sampling: nn.Module) -> None:
        super().__init__()
        self.network, self.sampling, self.dtype = network, sampling, network.dtype

    def forward(self, x: Tensor, timesteps: Tensor, *args: Any, **options: Any) -> Tensor:  # noqa: ANN401 - the host's
        t = timesteps.view(-1, 1, 1, 1).to(x)
        sigma = (t / (1 - t)).clamp(min=float(self.sampling.sigma_min))
        known = x / (t.square() + (1 - t).square()).sqrt()
        noise = self.network(known, self.sampling.timestep(sigma.flatten()).float(), *args, **options)
        return (noise - x) / (1 - t)


class FluxLike(comfy.model_sampling.ModelSamplingFlux, comfy.model_sampling.CONST):
    """Levels as the host has them for Flux, without shift."""


def flow_of(loaded: Loaded) -> Loaded:
    """``loaded``, its own model turned into a flow model."""
    model = loaded.model.model
    model.diffusion_model = FlowUNet(model.diffusion_model, model.model_sampling)
    model.model_sampling = FluxLike()
    model.model_sampling.set_parameters(shift=0.0)
    return loaded


@dataclass(frozen=True)
class Trip:
    """What a way is given.

    Attributes:
        loaded: the demo model as it is, or by `flow_of`; it counts its rows.
        latent: LATENT of the picture.
        words: its caption.
        levels: SIGMAS by the number of steps, of the model as it is.
        packs: nodes of other packs.
        flow: whether it is a flow model.
    """

    loaded: Loaded
    latent: dict[str, Tensor]
    words: str
    levels: Callable[[int], Tensor]
    packs: Nodes = field(default_factory=dict)
    flow: bool = False

    def prompts(self) -> dict[str, Any]:
        """The caption, and nothing."""
        said = {"positive": self.words, "negative": ""}
        return {name: call(CLIPTextEncode, clip=self.loaded.clip, text=text)[0] for name, text in said.items()}

    def guider(self, model: Any = None) -> Any:  # noqa: ANN401
        """GUIDER at cfg 1."""
        return call(CFGGuider, model=model or self.loaded.model, cfg=1.0, **self.prompts())[0]

    def sigmas(self, steps: int) -> Tensor:
        """SIGMAS; of a flow model at the same places of the path."""
        levels = self.levels(steps)
        return levels / (1 + levels) if self.flow else levels

    def run(self, guider: Any, sigmas: Tensor, latent: Any, sampler: Any = None, noise: Any = None) -> Any:  # noqa: ANN401
        """The LATENT of SamplerCustomAdvanced, by Euler and without noise unless others are given."""
        sampler = call(KSamplerSelect, sampler_name="euler")[0] if sampler is None else sampler
        noise = call(DisableNoise)[0] if noise is None else noise
        inputs = {"noise": noise, "guider": guider, "sampler": sampler, "sigmas": sigmas, "latent_image": latent}
        return call(SamplerCustomAdvanced, **inputs)[0]


Way = Callable[[Trip, int], dict[str, Tensor]]
"""In so many steps, to the LATENT that came back."""


def flipped(trip: Trip, steps: int) -> dict[str, Tensor]:
    """FlipSigmas under the stock Euler sampler, and Euler back."""
    sigmas, guider = trip.sigmas(steps), trip.guider()
    up = call(FlipSigmas, sigmas=sigmas)[0]
    return trip.run(guider, sigmas, trip.run(guider, up, trip.latent))


def ours(method: str, end: str = "noise") -> Way:
    """**DDIM Inversion**; back from its NOISE, with an empty latent, or from its LATENT without noise."""

    def way(trip: Trip, steps: int) -> dict[str, Tensor]:
        guider = trip.guider()
        inputs = {"latent_image": trip.latent, "guider": guider, "sigmas": trip.sigmas(steps), "method": method}
        inverted, _, noise, sigmas, *_ = call(DDIMInversion, **inputs)
        if end == "latent":
            return trip.run(guider, sigmas, inverted)
        return trip.run(guider, sigmas, {"samples": torch.zeros_like(trip.latent["samples"])}, noise=noise)

    return way


def bnk(trip: Trip, steps: int) -> dict[str, Tensor]:
    """Unsampler of ComfyUI_Noise, and KSampler (Advanced) without noise, as its examples have it."""
    inputs = {"steps": steps, "cfg": 1.0, "sampler_name": "euler", "scheduler": SCHEDULER, **trip.prompts()}
    inputs["model"] = trip.loaded.model
    up = {"latent_image": trip.latent, "end_at_step": 0, "normalize": "disable"}
    (inverted,) = call(trip.packs["BNK_Unsampler"], **inputs, **up)
    down = {"latent_image": inverted, "add_noise": "disable", "noise_seed": 0, "return_with_leftover_noise": "disable"}
    return call(KSamplerAdvanced, **inputs, **down, start_at_step=0, end_at_step=10_000)[0]


def _flux(trip: Trip, steps: int, up: Any, down: Callable[[Any], Any]) -> dict[str, Tensor]:  # noqa: ANN401
    """By Fluxtapoz's samplers on a model that is patched for the way up, and for the way down."""
    packs, sigmas = trip.packs, trip.sigmas(steps)
    told = {"model": trip.loaded.model, "max_shift": 0.0, "base_shift": 0.0, "width": 128, "height": 128}
    (rising,) = call(packs["InFluxModelSamplingPred"], **told)
    (falling,) = call(packs["OutFluxModelSamplingPred"], **told, reverse_ode=True)
    inverted = trip.run(trip.guider(rising), call(FlipSigmas, sigmas=sigmas)[0], trip.latent, up)
    return trip.run(trip.guider(falling), sigmas, inverted, down(falling))


def rf_edit(order: str) -> Way:
    """Fluxtapoz's RF-Solver ("second") or FireFlow, up and down."""

    def way(trip: Trip, steps: int) -> dict[str, Tensor]:
        up, bank = call(trip.packs["FlowEditForwardSampler"], save_steps=0, order=order)
        node = trip.packs["FlowEditReverseSampler"]
        return _flux(trip, steps, up, lambda _: call(node, attn_inj=bank, inject_steps=0, order=order)[0])

    return way


def rf_inversion(trip: Trip, steps: int) -> dict[str, Tensor]:
    """Fluxtapoz's RF-Inversion with its defaults."""
    (up,) = call(trip.packs["FluxForwardODESampler"], gamma=0.5)
    node, told = trip.packs["FluxReverseODESampler"], {"eta": 0.8, "start_step": 0, "end_step": 5}
    return _flux(trip, steps, up, lambda model: call(node, model=model, latent_image=trip.latent, **told)[0])


OWN: dict[str, Way] = {
    "Flip Sigmas, Euler": flipped,
    "DDIM Inversion, explicit": ours("explicit"),
    "DDIM Inversion, uni-inv": ours("uni-inv"),
    "DDIM Inversion, implicit": ours("implicit"),
    "DDIM Inversion, implicit, from its LATENT": ours("implicit", "latent"),
}
"""With an eps and with a flow model, no other pack needed."""
EPS: dict[str, tuple[Way, str]] = {"Unsampler (ComfyUI_Noise)": (bnk, "BNK_Unsampler")}
FLOW: dict[str, tuple[Way, str]] = {
    "RF-Inversion (Fluxtapoz)": (rf_inversion, "FluxReverseODESampler"),
    "RF-Solver (Fluxtapoz)": (rf_edit("second"), "FlowEditReverseSampler"),
    "FireFlow (Fluxtapoz)": (rf_edit("fireflow"), "FlowEditReverseSampler"),
}
"""Name to the way and a node that it needs."""
ROWS_A_STEP = {"RF-Solver (Fluxtapoz)": 4}
"""Network rows up and down; of the others 2."""


def levels_of(loaded: Loaded) -> Callable[[int], Tensor]:
    """The stock levels of a model that is as it is."""
    return lambda steps: call(BasicScheduler, model=loaded.model, scheduler=SCHEDULER, steps=steps, denoise=1.0)[0]


def ways(flow: bool, packs: Nodes) -> dict[str, Way]:
    """Those that can run with these packs."""
    return OWN | {name: way for name, (way, node) in (FLOW if flow else EPS).items() if node in packs}


def nodes_of(folder: Path) -> Nodes:
    """The nodes of a pack, imported as the host imports it.

    Raises:
        ValueError: the folder holds no pack.
    """
    if not (folder / "__init__.py").is_file():
        raise ValueError(f"--packs: {folder} has no __init__.py; allowed are folders of nodes. Give the clones.")
    name = "pack_" + "".join(c if c.isalnum() else "_" for c in folder.name)
    spec = importlib.util.spec_from_file_location(
        name, folder / "__init__.py", submodule_search_locations=[str(folder)]
    )
    assert spec is not None and spec.loader is not None  # noqa: S101
    made = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(made)
    return made.NODE_CLASS_MAPPINGS


def decoded(loaded: Loaded, latent: dict[str, Tensor]) -> Tensor:
    """IMAGE of a LATENT."""
    return call(VAEDecode, vae=loaded.vae, samples=latent)[0]


def encoded(loaded: Loaded, image: Tensor) -> dict[str, Tensor]:
    """LATENT of an IMAGE."""
    return call(VAEEncode, vae=loaded.vae, pixels=image)[0]
