"""The host's guided model, asked for single evaluations: a denoiser of `msd_core` that counts its network rows."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import comfy.model_management
import torch
from comfy.model_patcher import ModelPatcher, create_model_options_clone
from comfy.samplers import CFGGuider
from torch import Tensor

from . import sides
from .axis import Axis, data_std_of
from .beside import NEGATIVE, UNCOND, Sides, is_stock, name_of
from .fits import explain_width
from .grad import grad_mode
from .room import Room, unit_of
from .sides import Look
from .timed import by_level, put_at

OF_BOTH = ("sampler_cfg_function", "sampler_pre_cfg_function", "sampler_post_cfg_function", "disable_cfg1_optimization")
"""What patches put into a guidance of two parts (APG and RescaleCFG do): of no meaning for one part alone."""


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
        if self.watch is not None:
            self.watch()
        return both[:, 0], both[:, 1]

    def _check_stock(self, purpose: str) -> None:
        """Refuse a guider without a single cfg between a positive and a negative side."""
        if is_stock(self.guider) and "negative" not in self.guider.original_conds:
            raise ValueError(f"negative: not connected, and {purpose}; connect a conditioning, best the empty prompt")
        if not is_stock(self.guider):
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
