"""The only bridge to the host's models: a MODEL with its conditioning becomes a denoiser, a VAE an encoder.

The whole optimisation runs as the loop of one host sampler, inside `guider.sample`: the host loads and patches the
models, prepares the conditioning and cleans up, and hands our loop its guided x0 prediction. LoRA, ControlNet, masks,
regional prompts, model patches and any GUIDER apply because they live there.

Three facts about the host shape this file:

- A prompt runs under `torch.inference_mode()`. The network is evaluated in that mode, the loop outside it; whatever
  crosses over is cloned.
- The weights of loaded modules are inference tensors, which autograd refuses; `vae` makes the VAE differentiable.
- ε and v models keep the variance-exploding coordinates of `msd_core` (z = x0 + σ n); flow models do not. `axis`
  converts.
- The size of a latent's cell is the model's own (`cells`).
"""

from __future__ import annotations

import copy
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import comfy.model_management
import torch
from comfy.latent_formats import LatentFormat
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.patcher_extension import WrappersMP
from comfy.samplers import CFGGuider, Sampler
from comfy.sd import VAE
from torch import Tensor, nn

from . import sides
from .axis import Axis, data_std_of
from .beside import NEGATIVE, UNCOND, Beside, Sides, is_stock, name_of
from .caches import leave_out_caches
from .cells import CELL, cell_of, grid_of
from .fits import check_conditioning, check_dimensions, check_guider, explain_width
from .precision import in_float32, is_half
from .room import Room, more_room, unit_of
from .sides import Ground, Look, Towards
from .timed import by_level, put_at
from .vae import check_there as check_there
from .vae import check_vae, decoder, encoder, plain_patcher, shared_room
from .vae import vae_bytes as vae_bytes

if TYPE_CHECKING:
    from ..msd_core.generators.base import Canvas

Conditioning = list

T = TypeVar("T")
KEY = "mean_shift_distillation"
OF_BOTH = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function", "disable_cfg1_optimization")
"""What patches put into a guidance of two parts (APG and RescaleCFG do): of no meaning for one part alone."""


def grad_mode() -> torch.inference_mode:
    """Context in which tensors are ordinary ones and autograd works, inside a node."""
    return torch.inference_mode(False)


def own(tensor: Tensor, device: torch.device | None = None) -> Tensor:
    """A private float32 copy of a host tensor that autograd accepts. Call inside `grad_mode()`."""
    return tensor.detach().to(device=device, dtype=torch.float32, copy=True)


class Rows:
    """Counts network rows, exactly: the host's APPLY_MODEL wrapper, called for every batch that reaches the network.

    With several graphics cards the host evaluates the parts of a batch in threads.
    """

    def __init__(self) -> None:
        self.total = 0
        self.lock = threading.Lock()
        self.per_row: dict[tuple[float | None, str | None], int] = {}  # a row of z in the last evaluation

    def __call__(self, executor: Callable[..., Tensor], x: Tensor, *args: object, **kwargs: object) -> Tensor:
        with self.lock:
            self.total += x.shape[0]
        return executor(x, *args, **kwargs)


def capturing(model_options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Options with which a stock guider leaves both parts of its guidance in the second result, cond and uncond."""
    captured: dict[str, Tensor] = {}

    def capture(args: dict[str, Tensor]) -> Tensor:
        captured.update(cond=args["cond_denoised"], uncond=args["uncond_denoised"])
        return args["cond"]

    options = create_model_options_clone(model_options)
    options |= {"sampler_cfg_function": capture, "disable_cfg1_optimization": True}
    options.pop("sampler_post_cfg_function", None)  # its result is not looked at, and it may cost rows of its own
    return options, captured


@dataclass(frozen=True)
class HostDenoiser:
    """The host's guided model as a denoiser of `msd_core`: (z, sigma) → E[x0 | z], in the model's own latent space.

    `cost` is measured: network rows a row of z in the last evaluation (2 with cfg, 1 without, more with regional
    prompts). Every evaluation first gives way to the host's Cancel.
    """

    guider: CFGGuider
    options: dict[str, Any]
    axis: Axis
    rows: Rows
    room: Room = field(default_factory=lambda: Room("model"))
    cfg: float | None = None
    watch: Callable[[], None] | None = None  # called after every evaluation
    beside: Mapping[str, Sides] = field(default_factory=dict)
    prompt: str | None = None  # which of `beside` is asked; None: the guider's own
    looks: tuple[Look, ...] = ()  # of the cameras, row r that of number r mod V; empty: no views

    def __call__(self, z: Tensor, sigma: Tensor | float) -> Tensor:
        """Denoise z (B, C, H, W) at sigma: float, () or (B,). Returns a tensor of z's shape, detached."""
        denoised = self._ask(z, sigma, lambda denoised: denoised)
        if self.watch is not None:
            self.watch()
        return denoised

    def _ask(self, z: Tensor, sigma: Tensor | float, wanted: Callable[[Tensor], Tensor]) -> Tensor:
        """What is ``wanted`` of each evaluation, given its result; as many rows at once as there is room for."""
        comfy.model_management.throw_exception_if_processing_interrupted()
        sigma = torch.as_tensor(sigma, dtype=torch.float32, device=z.device).reshape(-1).expand(z.shape[0])
        x = self.axis.latent(z.detach().float(), sigma.reshape(-1, *[1] * (z.ndim - 1)))
        level = self.axis.level(sigma).contiguous()

        def evaluate(part: slice) -> Tensor:
            rows, at = x[part], level[part]
            found = [
                (some, wanted(self._evaluate(rows[some].contiguous(), at[some], conds)))
                for some, conds in self._groups(at)
            ]
            if len(found) == 1:
                return found[0][1]
            whole = found[0][1].new_empty(len(rows), *found[0][1].shape[1:])
            for some, result in found:
                whole[some] = result
            return whole

        with torch.inference_mode():
            found = self.room.ask(evaluate, len(x), len(self.looks) or unit_of(self._conds))
        with grad_mode():
            return found.to(z.dtype, copy=True)

    @property
    def sigma_min(self) -> float:
        """The model's lowest level, σ."""
        return self.axis.sigma_min

    @property
    def sigma_max(self) -> float:
        """The model's highest level, σ."""
        return self.axis.sigma_max

    @property
    def data_std(self) -> float:
        """The standard deviation of the latents that the model was trained on, after its latent format's scale."""
        return data_std_of(self.guider.inner_model.model_sampling)

    @property
    def differentiable(self) -> bool:
        """The network is evaluated in inference mode."""
        return False

    def percent_to_sigma(self, percent: float) -> float:
        """Progress of sampling in [0, 1] → σ on the model's own schedule, within its range (0: the highest noise)."""
        axis, level = self.axis, self.guider.inner_model.model_sampling.percent_to_sigma(percent)
        return min(max(float(axis.sigma(min(level, axis.level(axis.sigma_max)))), axis.sigma_min), axis.sigma_max)

    def parts(self, z: Tensor, sigma: Tensor | float) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each of z's shape, from one evaluation of two rows a row of z.

        Raises:
            ValueError: for a guider without a negative side, or with a rule of its own.
        """
        self._check_stock("this method needs both parts of its guidance")
        options, captured = capturing(self.options.get("model_options", {}))
        asked = replace(self, options={**self.options, "model_options": options})
        both = asked._ask(z, sigma, lambda _: torch.stack((captured["cond"], captured["uncond"]), dim=1))
        return both[:, 0], both[:, 1]

    def _check_stock(self, purpose: str) -> None:
        """Refuse a guider without a single cfg between a positive and a negative side."""
        if not is_stock(self.guider) or "negative" not in self.guider.original_conds:
            raise ValueError(
                f"guider: {name_of(self.guider)} has no single cfg to change, and {purpose}; "
                "connect a CFGGuider, or leave guider empty and connect model, positive and negative"
            )

    @property
    def _conds(self) -> Sides:
        """The conditionings that are asked."""
        return self.guider.conds if self.prompt is None else self.beside[self.prompt]

    def _groups(self, level: Tensor) -> list[tuple[sides.Rows, Sides]]:
        """Which rows are asked together, and under which conditionings; ``level`` is a level a row, (B,)."""
        groups: list[tuple[sides.Rows, Sides]] = [(slice(None), self._conds)]
        if self.looks:
            groups = sides.groups(self._conds, self.looks, len(level), apart=not is_stock(self.guider))
        found: list[tuple[sides.Rows, Sides]] = []
        for some, conds in groups:
            parts, numbers = by_level(level[some], conds), range(len(level))[some] if isinstance(some, slice) else some
            found += [(some, conds)] if len(parts) == 1 else [([numbers[i] for i in part], conds) for part in parts]
        return found

    def _evaluate(self, x: Tensor, level: Tensor, conds: Sides) -> Tensor:
        guider, own = self.guider, (self.guider.cfg, self.guider.conds)
        guider.cfg = guider.cfg if self.cfg is None else self.cfg
        guider.conds, before = conds, self.rows.total
        try:
            put_at(level[0], conds, self._patchers)
            denoised = guider(x, level, **self.options)
            self.rows.per_row[self.cfg, self.prompt] = math.ceil((self.rows.total - before) / x.shape[0])
            return denoised
        except RuntimeError as error:
            explain_width(error, guider, self.prompt, self.beside)
            raise
        finally:
            guider.cfg, guider.conds = own

    @property
    def _patchers(self) -> list[ModelPatcher]:
        """Of the model: one a device."""
        others = self.options.get("model_options", {}).get("multigpu_clones", {})
        return [self.guider.inner_model.current_patcher, *others.values()]

    def under(self, prompt: str) -> HostDenoiser:
        """The same model under another of the conditionings that its guider carries (`beside`).

        A source has the guidance of the guider's own prompts; the other two are asked without any.
        """
        if prompt in (NEGATIVE, UNCOND):
            return replace(self.without(*OF_BOTH), prompt=prompt, cfg=1.0)
        return replace(self, prompt=prompt, cfg=self.cfg if "negative" in self.beside[prompt] else 1.0)

    def without(self, *names: str) -> HostDenoiser:
        """The same model without these of the host's options of a guidance."""
        options = create_model_options_clone(self.options.get("model_options", {}))
        for name in names:
            options.pop(name, None)
        return replace(self, options={**self.options, "model_options": options})

    def looking(self, looks: Sequence[Look]) -> HostDenoiser:
        """The same model for a batch of views, of one camera a row."""
        return replace(self, looks=tuple(looks))

    @property
    def uncond(self) -> HostDenoiser:
        """The unconditional part alone, one row a row of z.

        Raises:
            ValueError: for a guider without a negative side, or with a rule of its own.
        """
        self._check_stock("this method needs the unconditional part alone")
        return self.under(UNCOND)

    @property
    def cost(self) -> int:
        """Network rows for one row of z; before the first evaluation what the stock guidance will take."""
        guided = "negative" in self.guider.original_conds and (self.guider.cfg if self.cfg is None else self.cfg) != 1
        return self.rows.per_row.get((self.cfg, self.prompt), 2 if guided else 1)

    def with_cfg(self, cfg: float) -> HostDenoiser:
        """The same model under another guidance scale, D_uncond + cfg (D_cond − D_uncond); 1 = off.

        Off is without what a patch makes of the two parts beforehand: there is no second one.
        """
        if cfg != 1 or not is_stock(self.guider):
            self._check_stock("this method needs its own")
        made = self.without("sampler_pre_cfg_function") if cfg == 1 else self
        return replace(made, cfg=float(cfg))


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


def make_guider(
    model: ModelPatcher | None = None,
    positive: Conditioning | None = None,
    negative: Conditioning | None = None,
    cfg: float = 1.0,
    guider: CFGGuider | None = None,
    hint: str = "negative may stay empty at cfg = 1",
) -> CFGGuider:
    """The guider of a node: `guider` if one is connected, else the stock one of model, positive, negative and cfg.

    `hint` is what an error adds where one is missing.
    """
    patcher = model if guider is None else guider.model_patcher
    if patcher is not None:
        check_dimensions(patcher.get_model_object("latent_format"))
    if guider is not None:
        check_guider(guider)
        return guider
    missing = [name for name, value in (("model", model), ("positive", positive)) if value is None]
    if negative is None and cfg != 1:
        missing.append("negative")
    if missing:
        raise ValueError(
            f"{' and '.join(missing)}: not connected; connect model, positive and negative, or a guider instead of "
            f"them ({hint})"
        )
    for name, value in (("positive", positive), ("negative", negative)):
        if value is not None:
            check_conditioning(name, value)
    guider = CFGGuider(model)
    guider.inner_set_conds({"positive": positive} if negative is None else {"positive": positive, "negative": negative})
    guider.set_cfg(cfg)
    return guider


def check_latent(samples: Tensor, guider: CFGGuider) -> Tensor:
    """Refuse a LATENT's `samples` that the guider's model cannot work on; returns them."""
    latent_format = guider.model_patcher.get_model_object("latent_format")
    if samples.ndim != 4 or samples.shape[1] != latent_format.latent_channels:
        raise ValueError(
            f"latent: has shape {tuple(samples.shape)}, the model works on (B, {latent_format.latent_channels}, H, W); "
            "use a latent made for this model"
        )
    return samples


def latent_grid(guider: CFGGuider, canvas: Canvas) -> tuple[int, int]:
    """Height and width of the latents that the guider's model has for a canvas; errors of `grid_of`."""
    return grid_of(canvas, guider.model_patcher.get_model_object("latent_format"))


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
    seed: int = 0,
) -> T:
    """Run `loop(session)` inside the host's guider and return what it returns.

    height, width: of the latent grid, which must not change within the loop (the host fits masks to it).
    vae: loaded along with the model, with memory reserved for it, when given.
    rows: the largest batch the loop will evaluate; the host frees memory for it.
    pictures: the largest batch that goes through the VAE.
    backward: the loop differentiates the encoder, which takes more memory.

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
    patcher.add_wrapper_with_key(WrappersMP.PREPARE_SAMPLING, KEY, _prepare(vae, rows, pictures, backward, beside))
    loaded = None
    if vae is not None:
        check_vae(vae, latent_format)
        loaded = plain_patcher(vae)
        patcher.set_additional_models(KEY, [loaded])
    sampling = patcher.get_model_object("model_sampling")
    sigmas = torch.stack([torch.as_tensor(s).float().cpu() for s in (sampling.sigma_max, sampling.sigma_min)])
    zeros = torch.zeros(1, latent_format.latent_channels, height, width)  # all zero: the host leaves it unscaled
    sampler = _LoopSampler(loop, vae, loaded, counter, beside)
    with torch.inference_mode():
        guider.sample(zeros, zeros.clone(), sampler, sigmas, disable_pbar=True, seed=seed)
    return sampler.result


def _prepare(vae: VAE | None, rows: int, pictures: int, backward: bool, beside: Beside) -> Callable[..., Any]:
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
        with more_room(model.model, extra):
            prepared = executor(model, [rows, *shape[1:]], *args, **kwargs)
        beside.take(prepared[1])
        return prepared

    return prepare
