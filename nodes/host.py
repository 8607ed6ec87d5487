"""The bridge to the host's models: a MODEL with its conditioning becomes a denoiser, a VAE an encoder.

The whole optimisation runs as the loop of one host sampler, inside `guider.sample`: the host loads and patches the
models, prepares the conditioning and cleans up, and hands our loop its guided x0 prediction. LoRA, ControlNet, masks,
regional prompts, model patches and any GUIDER apply because they live there.

Four facts about the host shape this bridge:

- A prompt runs under `torch.inference_mode()`. The network is evaluated in that mode (`host_denoiser`), the loop
  outside it (`grad`).
- The weights of loaded modules are inference tensors, which autograd refuses; `vae` makes the VAE differentiable.
- ε and v models keep the variance-exploding coordinates of `msd_core` (z = x0 + σ n); flow models do not. `axis`
  converts.
- The size of a latent's cell is the model's own (`cells`).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider, Sampler
from comfy.sd import VAE
from torch import Tensor, nn

from .axis import Axis
from .beside import Beside
from .caches import leave_out_caches
from .cells import CELL, cell_of
from .fits import check_dimensions
from .grad import grad_mode
from .host_denoiser import HostDenoiser, Rows
from .precision import in_float32, is_half
from .room import more_room
from .sides import Ground, Towards
from .vae import check_vae, decoder, encoder, plain_patcher, shared_room

T = TypeVar("T")
KEY = "mean_shift_distillation"


@dataclass(frozen=True)
class Session:
    """What a loop gets inside the host: denoiser, encoder and decoder (None without a VAE), device, the model's scales.

    `in_float32` is a context in which model and VAE compute in it; None where they do so anyway.
    `decode` is for the image pull and for previews: latent (B, C, h, w) → image (B, 3, H, W) in [0, 1], not
    differentiated.
    """

    denoiser: HostDenoiser
    encode: Callable[[Tensor], Tensor] | None
    decode: Callable[[Tensor], Tensor] | None
    device: torch.device
    model_sampling: nn.Module
    latent_format: LatentFormat
    in_float32: Callable[[], AbstractContextManager[None]] | None = None

    def model(self) -> HostModel:
        """The model as `msd_core` knows one."""
        return HostModel(self, cell_of(self.latent_format))


@dataclass(frozen=True)
class HostModel:
    """A session as a `Model` of `msd_core`; its prompt is the conditioning that its guider holds."""

    session: Session
    cell: int = CELL
    side: int = 512

    @property
    def device(self) -> torch.device:
        """Where the guider wants its latents."""
        return self.session.device

    @property
    def channels(self) -> int:
        """Of the model's latent."""
        return self.session.latent_format.latent_channels

    @property
    def differentiable(self) -> bool:
        """Whether there is an encoder to go through."""
        return self.session.encode is not None

    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None:
        """The session's; None without a VAE."""
        return self.session.encode

    @property
    def decode(self) -> Callable[[Tensor], Tensor] | None:
        """The session's; None without a VAE."""
        return self.session.decode

    def denoiser(self, prompt: object = None, negative: object = None, cfg: float | None = None) -> HostDenoiser:
        """The session's denoiser, whose prompts and cfg are its guider's.

        Args:
            prompt: None; the name of a conditioning that the guider carries beside its own; or the look of a camera,
                or of those of a batch.
            negative, cfg: the guider's; not looked at.

        Raises:
            ValueError: for another prompt: the guider has them already.
        """
        own = self.session.denoiser
        if isinstance(prompt, str) and prompt in own.beside:
            return own.under(prompt)
        looks = [prompt] if isinstance(prompt, (Towards, Ground)) else prompt
        if isinstance(looks, list) and all(isinstance(look, (Towards, Ground)) for look in looks):
            return own.looking(looks)
        if prompt or negative:
            raise ValueError(
                f"prompt: got {prompt!r}, {negative!r}; inside the host the guider holds the conditioning; leave it out"
            )
        return own


class _LoopSampler(Sampler):
    """A host sampler whose `sample` is our loop; what it returned is left in `result`."""

    def __init__(
        self, loop: Callable[[Session], T], vae: VAE | None, loaded: ModelPatcher | None, rows: Rows, beside: Beside
    ) -> None:
        self.loop, self.vae, self.loaded, self.rows, self.beside = loop, vae, loaded, rows, beside
        self.result: T | None = None

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
        model = model_wrap.inner_model
        options = {key: extra_args[key] for key in ("model_options", "seed") if key in extra_args}
        beside = self.beside.prepared(model_wrap, noise, latent_image, extra_args.get("seed"))
        denoiser = HostDenoiser(model_wrap, options, Axis.of(model.model_sampling), self.rows, beside=beside)
        with grad_mode(), torch.enable_grad():
            scales = model.model_sampling, model.latent_format
            pair, module = (None, None), None
            if self.vae is not None:
                module = self.loaded.model
                pair = (make(self.vae, model.latent_format, module) for make in (encoder, decoder))
            whole = partial(in_float32, model, self.vae, module) if is_half(model, self.vae) else None
            self.result = self.loop(Session(denoiser, *pair, noise.device, *scales, whole))
        self.beside.give_back(model_wrap.conds)
        return torch.zeros_like(noise)


def latent_colours(x: Tensor, latent_format: LatentFormat) -> Tensor | None:
    """Rough colours (B, 3, h, w) of a latent by the host's linear factors; None for a model that has none."""
    if latent_format.latent_rgb_factors is None:
        return None
    if reshape := getattr(latent_format, "latent_rgb_factors_reshape", None):
        x = reshape(x)
    factors = torch.tensor(latent_format.latent_rgb_factors, device=x.device, dtype=x.dtype)
    bias = torch.tensor(latent_format.latent_rgb_factors_bias or [0.0] * 3, device=x.device, dtype=x.dtype)
    colours = torch.einsum("bchw,cr->brhw", x.detach(), factors) + bias[:, None, None]
    return ((colours + 1) / 2).clamp(0, 1)


def run(
    guider: CFGGuider,
    loop: Callable[[Session], T],
    height: int,
    width: int,
    *,
    vae: VAE | None = None,
    rows: int = 1,
    pictures: int = 1,
    backward: bool = False,
    in_float32: bool = False,
    seed: int = 0,
) -> T:
    """Run `loop(session)` inside the host's guider and return what it returns.

    height, width: of the latent grid, which must not change within the loop (the host fits masks to it).
    vae: loaded along with the model, with memory reserved for it, when given.
    rows: the largest batch the loop will evaluate; the host frees memory for it.
    pictures: those of the run: the largest batch that goes through the VAE, and what the host cuts a conditioning's own
        pictures to, as those of an inpainting model.
    backward: the loop differentiates the encoder, which takes more memory.
    in_float32: the loop computes in float32 where the model is in half precision, which takes as much again.

    The guider handed in is not touched.
    """
    guider = copy.copy(guider)
    guider.model_options = create_model_options_clone(guider.model_options)
    guider.model_patcher = patcher = guider.model_patcher.clone()
    leave_out_caches(patcher, guider.model_options)
    latent_format = patcher.get_model_object("latent_format")
    check_dimensions(latent_format)
    counter, beside = Rows(), Beside()
    patcher.add_wrapper_with_key(WrappersMP.APPLY_MODEL, KEY, counter)
    patcher.add_wrapper_with_key(
        WrappersMP.PREPARE_SAMPLING, KEY, _prepare(vae, rows, pictures, backward, in_float32, beside)
    )
    loaded = None
    if vae is not None:
        check_vae(vae, latent_format)
        loaded = plain_patcher(vae)
        patcher.set_additional_models(KEY, [loaded])
    sampling = patcher.get_model_object("model_sampling")
    sigmas = torch.stack([torch.as_tensor(s).float().cpu() for s in (sampling.sigma_max, sampling.sigma_min)])
    zeros = torch.zeros(pictures, latent_format.latent_channels, height, width)  # all zero: the host leaves it unscaled
    sampler = _LoopSampler(loop, vae, loaded, counter, beside)
    with torch.inference_mode():
        guider.sample(zeros, zeros.clone(), sampler, sigmas, disable_pbar=True, seed=seed)
    return sampler.result


def _prepare(
    vae: VAE | None, rows: int, pictures: int, backward: bool, in_float32: bool, beside: Beside
) -> Callable[..., Any]:
    """PREPARE_SAMPLING wrapper: ask the host for room for `rows` rows and for the VAE, and take out of the guider what
    it carries beside its own.
    """

    def prepare(
        executor: Callable[..., T], model: ModelPatcher, shape: Sequence[int], *args: object, **kwargs: object
    ) -> T:
        extra = 0.0
        if vae is not None:
            height, width = (side * vae.spacial_compression_encode() for side in shape[-2:])
            extra = shared_room(vae, model, height, width, backward=backward, n=pictures)
        if in_float32 and is_half(model.model, None):
            extra += model.model.memory_required([rows, *shape[1:]])
        with more_room(model.model, extra):
            prepared = executor(model, [rows, *shape[1:]], *args, **kwargs)
        beside.take(prepared[1])
        return prepared

    return prepare
