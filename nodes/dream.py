"""DreamSampler as a SAMPLER: the core's solver with its switches, under any guider of the host.

    y, ε = inner(z, σ)                        renoise, ddim: the guider's x0;  edit: a little towards the prompt
    z'   = y + σ' (a ε + √(1 − a²) ξ)         renoise: a = σ/√(1 + σ²);  ddim, edit: a = 1

Noise scaling and a latent's mask are the host's own (`KSAMPLER`).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from comfy.samplers import KSAMPLER, CFGGuider, KSamplerX0Inpaint
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.dreamsampler import check_temperature
from ..msd_core.validation import check_choice, check_number
from .axis import Axis, share_of_chain
from .bandwidth import CATEGORY
from .beside import is_stock, name_of
from .host_denoiser import capturing
from .schema import schema

if TYPE_CHECKING:
    from ..msd_core.denoiser import Denoiser
    from ..msd_core.dreamsampler import Inner

MODES = ("renoise", "ddim", "edit")


@dataclass(frozen=True)
class _Sampled:
    """What a sampler of the host is given, as a denoiser of `msd_core`."""

    model: KSamplerX0Inpaint
    axis: Axis
    options: dict[str, Any]

    def __call__(self, z: Tensor, sigma: float) -> Tensor:
        """E[x0 | z] for z (B, C, H, W); a mask of the latent is heeded."""
        return self._asked(z, sigma, self.options)

    def _asked(self, z: Tensor, sigma: float, options: dict[str, Any]) -> Tensor:
        level = torch.full((len(z),), float(self.axis.level(sigma)), device=z.device, dtype=z.dtype)
        return self.model(self.axis.latent(z, sigma), level, **options)

    def parts(self, z: Tensor, sigma: float) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each of z's shape."""
        options, captured = capturing(self.options.get("model_options", {}))
        self._asked(z, sigma, {**self.options, "model_options": options})
        return self._kept(captured["cond"]), self._kept(captured["uncond"])

    def _kept(self, found: Tensor) -> Tensor:
        mask = self.options.get("denoise_mask")
        return found if mask is None else found * mask + self.model.latent_image * (1 - mask)

    def with_cfg(self, cfg: float) -> Denoiser:
        """The same model under another guidance scale."""
        from ..msd_core.guidance import guide

        return lambda z, sigma: guide(*self.parts(z, sigma), cfg)


def dream(  # the host's signature
    model: KSamplerX0Inpaint,
    x: Tensor,
    sigmas: Tensor,
    extra_args: dict[str, Any] | None = None,
    callback: Any = None,  # noqa: ANN401
    disable: bool | None = None,
    mode: str = "renoise",
    strength: float = 0.2,
    temperature: float = 1.0,
) -> Tensor:
    """The end of the walk from the host's ``x`` (B, C, H, W) over its levels ``sigmas``."""
    from ..msd_core.dreamsampler import Denoised, Edited, dream_steps, unit_share

    options = dict(extra_args or {})
    sampling = model.inner_model.inner_model.model_sampling
    axis = Axis.of(sampling)
    levels = axis.reached(sigmas).cpu().double()
    moved = (levels[:-1] == levels[1:]) & (sigmas[:-1] > sigmas[1:]).cpu()  # several of a flow's, all above the highest
    taken = [i for i in range(len(levels)) if i == len(levels) - 1 or not moved[i]]
    levels = levels[taken]
    denoiser = _Sampled(model, axis, options)
    inner: Inner = Denoised(denoiser)
    if mode == "edit":
        _check_guider(model.inner_model)
        whole = (len(levels) - 1) / share_of_chain(sampling, sigmas[0], sigmas[-1])
        inner = Edited(denoiser, strength, max(1, round(whole)))
    seed = options.get("seed") or 0
    rng = [torch.Generator().manual_seed((seed + 1 + row) % 2**64) for row in range(len(x))]  # not that of x itself
    z = axis.exploding(x, float(levels[0]))
    if temperature < 1:
        z = model.latent_image + temperature * (z - model.latent_image)
    kept = unit_share if mode == "renoise" else 1.0
    walk = dream_steps(z, inner, levels, kept=kept, rng=rng, temperature=temperature)
    for step, (_, state, y) in enumerate(walk):
        z = state
        if callback is not None:
            at = taken[step]
            callback({"x": z, "i": at, "sigma": sigmas[at], "sigma_hat": sigmas[at], "denoised": y})
    return axis.latent(z, float(levels[-1]))


def temperature_input() -> io.Input:
    """How much of the noise is drawn, for every node that draws pictures which agree with something."""
    return io.Float.Input(
        "temperature",
        default=1.0,
        min=0.0,
        max=1.0,
        step=0.05,
        round=0.001,
        optional=True,
        tooltip="Scale of all noise. 1: a sample, another with every seed. 0: none, near the likeliest picture, "
        "whatever the seed.",
    )


def _check_guider(guider: object) -> None:
    """Refuse a guider without the two parts of a guidance.

    Raises:
        ValueError: it has a rule of its own, or no negative side.
    """
    if isinstance(guider, CFGGuider) and is_stock(guider) and "negative" in guider.original_conds:
        return
    got = name_of(guider) if isinstance(guider, CFGGuider) else "one around which another node has put something"
    raise ValueError(
        f"guider: is {got}, and 'edit' needs a single cfg between a positive and a negative side; allowed is a "
        "CFGGuider; connect one, or use the mode 'renoise'"
    )


class DreamSampler(io.ComfyNode):
    """`dream` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_DreamSampler",
            display_name="DreamSampler",
            category=CATEGORY,
            description="DreamSampler's solver for SamplerCustomAdvanced, any guider: renoise fills holes and restores "
            "with a Measurement; edit brings an inverted picture towards the prompt.",
            search_aliases=["sampler", "CFG++", "ddim", "inpaint sampler", "edit sampler", "distillation"],
            inputs=[
                io.Combo.Input(
                    "mode",
                    options=list(MODES),
                    default="renoise",
                    tooltip="renoise: each step keeps σ/√(1+σ²) of its noise and draws the rest, best with a "
                    "Measurement. ddim: keeps all of it, as euler does. edit: from an inversion without a prompt, "
                    "towards the guider's positive one.",
                ),
                io.Float.Input(
                    "strength",
                    default=0.2,
                    min=0.0,
                    max=100.0,
                    step=0.01,
                    round=0.001,
                    tooltip="Of an edit, per 200 steps: it does not depend on steps. 0.1 to 1 are usual.",
                ),
                temperature_input(),
            ],
            outputs=[io.Sampler.Output("sampler", display_name="sampler")],
        )

    @classmethod
    def execute(cls, mode: str, strength: float, temperature: float = 1.0) -> io.NodeOutput:
        check_choice("mode", mode, MODES)
        check_number("strength", strength, "0.1 to 1 are usual; 0 changes nothing.", low=0)
        check_temperature(temperature)
        if mode == "edit" and temperature != 1:
            raise ValueError(
                f"temperature: got {temperature:g} with the mode 'edit', whose noise is the picture's own; allowed is 1"
                " there; set it, or choose another mode"
            )
        return io.NodeOutput(KSAMPLER(dream, {"mode": mode, "strength": strength, "temperature": temperature}))


NODES = [DreamSampler]
