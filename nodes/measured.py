"""A guider whose pictures agree with a measurement: `msd_core`'s posterior denoisers, under any guider of the host.

The host asks a guider's `predict_noise` for x0, once a step. A wrapper around it asks the guider itself, as often as
the gain needs, and gives what agrees with the measurement: so any GUIDER, sampler and scheduler will do. Nothing goes
backwards through the network, which the host evaluates in inference mode.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider
from comfy.sd import VAE
from torch import Tensor

from .axis import Axis, data_std_of
from .beside import MEASURED, is_measured
from .caches import leave_out_caches
from .cells import cell_of
from .room import is_out_of_memory, more_room, out_of_memory
from .vae import check_vae, decoder, encoder, plain_patcher, shared_room

if TYPE_CHECKING:
    from ..msd_core.denoiser import Denoiser
    from ..msd_core.measurement import Observation
    from ..msd_core.posterior import Gain

T = TypeVar("T")
SMALLER = ["scale the image of Measurement down before", "take fewer at once"]
"""What takes less memory, in words."""


@dataclass(frozen=True)
class _Guider:
    """What is under the wrapper, as a denoiser of `msd_core`."""

    predict: Callable[..., Tensor]
    axis: Axis
    data_std: float
    dtype: torch.dtype
    rest: tuple[Any, ...]
    differentiable = False

    def __call__(self, z: Tensor, sigma: Tensor) -> Tensor:
        """E[x0 | z] for z (B, C, H, W), float32, at sigma (B,)."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        x = self.axis.latent(z, sigma.reshape(-1, *[1] * (z.ndim - 1)))
        return self.predict(x.to(self.dtype), self.axis.level(sigma), *self.rest).float()


@dataclass(frozen=True)
class Latents:
    """A measurement of latents in the model's own space."""

    observation: Observation
    gain: Gain

    def posterior(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser of the latents that agree."""
        from ..msd_core.posterior import PosteriorDenoiser

        return PosteriorDenoiser(denoiser, self.observation, self.gain)


@dataclass(frozen=True)
class Pixels:
    """A measurement of pixels, through the VAE, whose network ``loaded`` holds."""

    observation: Observation
    vae: VAE
    loaded: ModelPatcher
    latent_format: LatentFormat

    def posterior(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser of the latents whose pictures agree."""
        from ..msd_core.manipulation.pixels import PixelPosterior

        given = self.vae, self.latent_format, self.loaded.model
        return PixelPosterior(denoiser, self.observation, encoder(*given), decoder(*given))


@dataclass(frozen=True)
class _Wrapper:
    known: Latents | Pixels
    shape: tuple[int, ...]
    cell: int

    def __call__(self, executor: Any, x: Tensor, timestep: Tensor, *rest: Any) -> Tensor:  # noqa: ANN401 - the host's
        """The host's x0 prediction of noisy ``x`` (B, C, H, W) at its level ``timestep`` (B,)."""
        if x.shape[1:] != self.shape[1:] or self.shape[0] not in (1, len(x)):
            raise ValueError(
                f"latent: what is sampled has shape {tuple(x.shape)}, and what is known is of {self.shape}; allowed is "
                "the same, or one picture for all; connect the latent from Measurement"
            )
        sampling = executor.class_obj.inner_model.model_sampling
        axis = Axis.of(sampling)
        sigma = axis.reached(timestep)
        guider = _Guider(executor, axis, data_std_of(sampling), x.dtype, rest)
        z = axis.exploding(x.float(), sigma.reshape(-1, *[1] * (x.ndim - 1)))
        try:
            return self.known.posterior(guider)(z, sigma).to(x.dtype)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            size = "x".join(str(side * self.cell) for side in (x.shape[-1], x.shape[-2]))
            raise out_of_memory(None, f"a picture of {size} that agrees with it", SMALLER, "image") from error


def measured(guider: CFGGuider, known: Latents | Pixels, shape: Sequence[int]) -> CFGGuider:
    """A copy of ``guider`` whose predictions agree with what is ``known``; works with every sampler that takes one.

    ``shape`` is that of the latents, (B, C, h, w); B = 1 is for any number.

    Raises:
        ValueError: it is of a measurement already; for a VAE of another model, or a cache that cannot be taken out.
    """
    if is_measured(guider):
        raise ValueError(
            "guider: is of a measurement already; allowed is one without; join the two measurements into one, or "
            "connect the guider before the other Measurement"
        )
    guider = copy.copy(guider)
    guider.model_options = create_model_options_clone(guider.model_options)
    guider.model_patcher = patcher = guider.model_patcher.clone()
    leave_out_caches(patcher, guider.model_options)
    if isinstance(known, Pixels):
        check_vae(known.vae, known.latent_format)
        patcher.set_additional_models(MEASURED, [known.loaded])
        patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, MEASURED, partial(_with_room, known.vae))
    cell = cell_of(patcher.get_model_object("latent_format"))
    patcher.add_wrapper_with_key(WrappersMP.PREDICT_NOISE, MEASURED, _Wrapper(known, tuple(shape), cell))
    return guider


def pixels_of(observation: Observation, vae: VAE, guider: CFGGuider) -> Pixels:
    """A measurement of the pixels of ``guider``'s pictures."""
    return Pixels(observation, vae, plain_patcher(vae), guider.model_patcher.get_model_object("latent_format"))


def _with_room(
    vae: VAE,
    executor: Callable[..., T],
    model: ModelPatcher,
    shape: Sequence[int],
    *args: object,
    **kwargs: object,
) -> T:
    """PREPARE_SAMPLING wrapper: ask the host for room for the VAE, too."""
    height, width = (side * vae.spacial_compression_encode() for side in shape[-2:])
    with more_room(model.model, shared_room(vae, model, height, width, n=shape[0])):
        return executor(model, shape, *args, **kwargs)
