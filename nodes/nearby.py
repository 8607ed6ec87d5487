"""What lies near a picture: samples of the product density around it, and the mode next to it.

    Product Sampler      y ~ p(y) N(y; x, λ²), by any of the host's samplers under any guider
    Mean-Shift Refine    x ← x + m(x), m(x) = E[y | x] − x under that density, while λ falls

Both ask the host's model where `msd_core.product` says, at a level below λ: no evaluation more than the sampler's own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import comfy.utils
import torch
from comfy.model_patcher import ModelPatcher
from comfy.samplers import CFGGuider, Sampler
from comfy_api.latest import io
from torch import Tensor

from ..msd_core.bandwidth import Exponential
from ..msd_core.finite import NonFiniteError, check_finite
from ..msd_core.mean_shift import ESTIMATORS
from ..msd_core.mean_shift.base import Walking
from ..msd_core.preset import preset_of
from ..msd_core.product import ProductDenoiser
from ..msd_core.settings import build
from ..msd_core.validation import check_positive
from . import host
from .axis import Axis
from .bandwidth import CATEGORY
from .fits import check_dimensions
from .grad import grad_mode, owned
from .guiders import Conditioning, check_latent, make_guider
from .progress import Progress, tell
from .run import plot
from .schema import FOLDED, schema, seed_input

BANDWIDTH = "Standard deviation λ of what may change, in the units of the model's latents, whose own spread is about 1."


class _Near:
    """A guider, as a sampler sees it, of the product density around ``x`` in the model's own latent space."""

    def __init__(self, model: CFGGuider, x: Tensor, bandwidth: float) -> None:
        self.model, self.x, self.bandwidth = model, x, bandwidth
        self.axis = Axis.of(model.inner_model.model_sampling)

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - whatever a sampler looks at
        return getattr(self.model, name)

    def __call__(self, x: Tensor, sigma: Tensor, **options: Any) -> Tensor:  # noqa: ANN401 - the host's
        """The product density's x0 prediction of the host's noisy ``x`` (B, C, H, W) at its level ``sigma`` (B,)."""
        axis = self.axis
        own, share = axis.reached(sigma), (-1, *[1] * (x.ndim - 1))
        z = axis.exploding(x.float(), own.reshape(share))
        product = ProductDenoiser(lambda z, _: z, self.x.to(z), self.bandwidth)
        place, lower = product.to_model(z, own)
        lower = lower.clamp(min=axis.sigma_min)
        asked = axis.latent(place, lower.reshape(share)).to(x.dtype)
        return self.model(asked, axis.level(lower).to(sigma.dtype), **options)


class NearSampler(Sampler):
    """One of the host's samplers, on the product density around a latent (B, C, H, W) in the host's own scale."""

    def __init__(self, sampler: Sampler, samples: Tensor, bandwidth: float) -> None:
        self.sampler, self.samples, self.bandwidth = sampler, samples, bandwidth

    def sample(  # the host's signature
        self,
        model_wrap: CFGGuider,
        sigmas: Tensor,
        extra_args: dict[str, Any],
        callback: Callable[..., None] | None,
        noise: Tensor,
        latent_image: Tensor | None = None,
        denoise_mask: Tensor | None = None,
        disable_pbar: bool = False,
    ) -> Tensor:
        check_dimensions(model_wrap.inner_model.latent_format)
        if self.samples.shape[1:] != noise.shape[1:] or len(self.samples) not in (1, len(noise)):
            raise ValueError(
                f"latent: has shape {tuple(self.samples.shape)}, and what is sampled {tuple(noise.shape)}; allowed is "
                "the same, or one for all; connect an empty latent of the picture's size to the sampler"
            )
        x = model_wrap.inner_model.process_latent_in(self.samples.to(noise))
        near = _Near(model_wrap, x, self.bandwidth)
        return self.sampler.sample(near, sigmas, extra_args, callback, noise, latent_image, denoise_mask, disable_pbar)


class ProductSampler(io.ComfyNode):
    """`NearSampler` as a node."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_ProductSampler",
            display_name="Product Sampler",
            category=CATEGORY,
            description="Variations of a picture within λ: any sampler, on the product of the model's density and a "
            "Gaussian around the picture. For SamplerCustomAdvanced, with full denoise and an empty latent.",
            search_aliases=["variations", "img2img", "similar images", "product density", "proximal"],
            inputs=[
                io.Sampler.Input("sampler"),
                io.Latent.Input("latent", tooltip="The picture, from VAE Encode."),
                io.Float.Input(
                    "bandwidth",
                    default=1.0,
                    min=0.01,
                    max=1000.0,
                    step=0.1,
                    round=False,
                    tooltip=f"{BANDWIDTH} The demo model at 0.3 paints anew what is there, at 1 lets its shapes go, "
                    "and from 2 on follows the prompt alone.",
                ),
            ],
            outputs=[io.Sampler.Output("sampler", display_name="sampler")],
        )

    @classmethod
    def execute(cls, sampler: Sampler, latent: dict[str, Tensor], bandwidth: float) -> io.NodeOutput:
        check_positive("bandwidth", bandwidth)
        return io.NodeOutput(NearSampler(sampler, _samples(latent), bandwidth))


def _samples(latent: dict[str, Tensor]) -> Tensor:
    """The tensor of a LATENT.

    Raises:
        ValueError: it is none of pictures.
    """
    samples = latent["samples"]
    if samples.ndim != 4 or samples.numel() == 0:
        raise ValueError(
            f"latent: has shape {tuple(samples.shape)}; allowed is (B, C, H, W), not empty; connect a VAE Encode"
        )
    return samples


BROKEN = "Lower cfg, use the estimator 'exact', or another model."
"""What to do about a shift that is not finite in float32 either."""


class MeanShiftRefine(io.ComfyNode):
    """Mean-shift iterations on a latent."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return schema(
            node_id="MSD_MeanShiftRefine",
            display_name="Mean-Shift Refine",
            category=CATEGORY,
            description="Moves a picture to the mode next to it: what the model finds more typical, near to what is "
            "there. Each step is the mean of the model's pictures within λ.",
            search_aliases=["mode seeking", "refine", "detailer", "clean up", "regenerate"],
            inputs=[
                io.Latent.Input("latent", tooltip="From VAE Encode, or a sampler. Its noise mask is heeded."),
                io.Int.Input("steps", default=6, min=1, max=1000, tooltip="Mean shifts. 4 to 20 are usual."),
                io.Float.Input(
                    "start", default=2.0, min=0.01, max=1000.0, step=0.1, round=False, tooltip=f"First λ. {BANDWIDTH}"
                ),
                io.Float.Input(
                    "end",
                    default=0.7,
                    min=0.01,
                    max=1000.0,
                    step=0.1,
                    round=False,
                    tooltip="Last λ, at most the first.",
                ),
                io.Float.Input("cfg", default=3.0, min=0.0, max=100.0, step=0.1, round=0.01, tooltip="1: no guidance."),
                seed_input("Of the noise.", 2**63 - 1),
                io.Model.Input("model", optional=True),
                io.Conditioning.Input("positive", optional=True, tooltip="What the picture shows."),
                io.Conditioning.Input("negative", optional=True, tooltip="May stay empty at cfg 1."),
                io.Guider.Input("guider", optional=True, tooltip="Replaces model, positive, negative and cfg."),
                io.Combo.Input(
                    "estimator",
                    options=list(ESTIMATORS),
                    default="exact",
                    optional=True,
                    tooltip="exact: a walk of solver_steps; one-step: a single evaluation, rougher.",
                    extra_dict=FOLDED,
                ),
                io.Int.Input(
                    "solver_steps",
                    default=4,
                    min=1,
                    max=1000,
                    optional=True,
                    tooltip="Evaluations of a walk. 3 to 8 are usual.",
                    extra_dict=FOLDED,
                ),
            ],
            outputs=[
                io.Latent.Output("latent", display_name="latent"),
                io.Image.Output("plot", display_name="plot", tooltip="λ and the size of the shift, step by step."),
            ],
            hidden=[io.Hidden.unique_id],
        )

    @classmethod
    def execute(
        cls,
        latent: dict[str, Tensor],
        steps: int,
        start: float,
        end: float,
        cfg: float,
        seed: int,
        model: ModelPatcher | None = None,
        positive: Conditioning | None = None,
        negative: Conditioning | None = None,
        guider: CFGGuider | None = None,
        estimator: str = "exact",
        solver_steps: int = 4,
    ) -> io.NodeOutput:
        guider = make_guider(model, positive, negative, cfg, guider)
        samples = check_latent(_samples(latent), guider)
        check_finite("latent", [samples], "pictures", "Encode or sample them anew.")
        options = {"estimator": estimator, "solver_steps": solver_steps}
        if not issubclass(ESTIMATORS.find("estimator", estimator), Walking):  # it asks the model once
            del options["solver_steps"]
        with grad_mode():
            method = build(preset_of("msd"), options).method
            method = type(method)(Exponential(start, end), method.estimator)
            mask = _mask_of(latent, samples)
        n = len(samples)

        def loop(session: host.Session) -> tuple[Tensor, list[Any]]:
            x = session.latent_format.process_in(owned(samples, session.device))
            rng = [torch.Generator().manual_seed((seed + i) % 2**63) for i in range(len(x))]
            progress, history = Progress(steps), []
            with torch.no_grad():
                for step in range(steps):
                    gradient, info = method(x, session.denoiser, step=step, steps=steps, rng=rng)
                    check_finite("model", [gradient], "mean shift", BROKEN)
                    x = x - (gradient if mask is None else gradient * mask.to(x))
                    history.append(info)
                    shown = f"{step + 1}/{steps}   λ {info.bandwidth:.3g}   |m| {info.norm:.3g}"
                    tell(cls.hidden.unique_id if cls.hidden else None, shown)
                    progress.update(lambda: host.latent_colours(x, session.latent_format))  # noqa: B023 (called at once)
            return session.latent_format.process_out(x).cpu(), history

        def surely(session: host.Session) -> tuple[Tensor, list[Any]]:
            try:
                return loop(session)
            except NonFiniteError:
                if session.in_float32 is None:
                    raise
            logging.warning("NaN or infinity in the mean shift; all steps are done again in float32")
            with session.in_float32():
                return loop(session)

        made, history = host.run(guider, surely, *samples.shape[-2:], rows=n, pictures=n, seed=seed)
        return io.NodeOutput({**latent, "samples": made}, plot(tuple(history)))


def _mask_of(latent: dict[str, Tensor], samples: Tensor) -> Tensor | None:
    """Where a LATENT may change, (B, 1, H, W) in [0, 1]; None without a noise mask.

    Of fewer masks than pictures the first ones come again, and more are left out, as in the host's samplers.
    """
    mask = latent.get("noise_mask")
    if mask is None:
        return None
    own = owned(mask).reshape(-1, 1, *mask.shape[-2:])
    own = comfy.utils.repeat_to_batch_size(own, len(samples))
    return torch.nn.functional.interpolate(own, samples.shape[-2:], mode="area").clamp(0, 1)


NODES = [ProductSampler, MeanShiftRefine]
