"""The demo model: a small text-conditioned latent diffusion model that the project ships and uses when there is no
checkpoint.

A picture is encoded to a latent x (B, 4, H/8, W/8); the denoiser works there, in the coordinates z = x + sigma n of
the rest of the core. The file holds the three networks under the names of a Stable Diffusion 1 checkpoint, in half
precision, and their configurations in its metadata.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from ..guidance import guide
from ..jsontext import entry, parse_json
from ..layout import Layout, check_layout, layout_of, part
from ..model import SHIPPED, prompts_of
from ..parametrization import EpsDenoiser
from ..schedule import DiscreteSchedule, sd15_schedule
from ..tensorfile import read_tensors
from .autoencoder import DDCONFIG, Autoencoder
from .scenes import SIDE
from .text import TEXT_CONFIG, VOCABULARY, TextEncoder, token_ids, tokenize
from .unet import UNET_CONFIG, UNet

LATENT_SCALE = 0.18215
"""Stable Diffusion 1's factor between the autoencoder's latent and the denoiser's."""

FORMAT, VERSION = "msd-demo-model", "2"
DEMO_MODEL_PATH = SHIPPED["demo"]
FORMER_VERSIONS = {"1": "coloured shapes at 64×64 pixels"}
"""What the versions drew that this release reads no more."""
FORMER_MODELS = {"c52dd09a72a09dca9c9c92fb4afdbf71eb81b1d7fa8452b41c5537b788a12d8c": "1"}
"""SHA-256 of the files that shipped earlier, as saved runs keep it, and their versions."""

CONFIGS = {"autoencoder": DDCONFIG, "text": TEXT_CONFIG, "unet": UNET_CONFIG}
_REMEDY = f"Pass the {DEMO_MODEL_PATH.name} that ships with the project, or train one with `msd train-demo`."
_PREFIXES = {
    "autoencoder": "first_stage_model.",
    "text": "cond_stage_model.transformer.",
    "unet": "model.diffusion_model.",
}


class DemoModel(nn.Module):
    """Autoencoder, text encoder and noise-predicting UNet of the demo model.

    Pictures are (B, 3, H, W) in [0, 1], H and W multiples of 8; latents x are (B, 4, H/8, W/8) with about unit
    variance. It is a `Model` of the rest of the core.
    """

    cell, channels, side, differentiable = 8, 4, SIDE, True
    configs: ClassVar[Mapping[str, Any]] = CONFIGS
    vocabulary: ClassVar[tuple[str, ...]] = VOCABULARY
    token_ids: ClassVar[Callable[[str], list[int]]] = staticmethod(token_ids)
    format: ClassVar[tuple[str, str]] = FORMAT, VERSION
    remedy: ClassVar[str] = _REMEDY

    def __init__(self) -> None:
        super().__init__()
        self.autoencoder = Autoencoder()
        self.text = TextEncoder()
        self.unet = UNet()
        self.schedule: DiscreteSchedule = sd15_schedule()
        self.float()  # whatever torch's default type is

    @classmethod
    def random(cls, seed: int) -> DemoModel:
        """A model with freshly initialised weights; the global random state is left as it was."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            return cls()

    @property
    def device(self) -> torch.device:
        """Where its weights are."""
        return next(self.parameters()).device

    def encode(self, picture: Tensor) -> Tensor:
        """Latent x (B, 4, H/8, W/8) of ``picture`` (B, 3, H, W) in [0, 1]: the posterior's mean, scaled;
        differentiable.
        """
        height, width = picture.shape[-2:]
        if picture.ndim != 4 or picture.shape[1] != 3 or height % 8 or width % 8:
            raise ValueError(
                f"picture: got shape {tuple(picture.shape)}; the demo model takes (B, 3, H, W) with H and W multiples "
                f"of 8"
            )
        return self.autoencoder.encode(2 * picture - 1) * LATENT_SCALE

    def decode(self, x: Tensor) -> Tensor:
        """Picture (B, 3, H, W) in [0, 1] of the latent ``x`` (B, 4, H/8, W/8)."""
        return ((self.autoencoder.decode(x / LATENT_SCALE) + 1) / 2).clamp(0, 1)

    @torch.no_grad()
    def context(self, prompts: Sequence[str]) -> Tensor:
        """Encoded ``prompts``, (B, CONTEXT_LENGTH, context_dim)."""
        return self.text(tokenize(list(prompts)).to(self.device))

    def denoiser(self, prompt: str | Sequence[str], negative: str = "", cfg: float = 1.0) -> PromptDenoiser:
        """The guided denoiser of ``prompt``: uncond + cfg (cond - uncond), uncond being ``negative``; cfg = 1 is off.

        One prompt serves any batch; a sequence of B prompts serves batches of B, each row its own.

        Raises:
            ValueError: for what is no text, or words that the model does not know.
        """
        prompts = prompts_of(prompt, negative)
        return PromptDenoiser(self, self.context(prompts), self.context([negative]), float(cfg))

    def save(self, path: str | Path) -> None:
        """Write the model as safetensors, half precision, in the layout of a Stable Diffusion 1 checkpoint."""
        tensors = {
            prefix + key: tensor.half().contiguous()
            for name, prefix in _PREFIXES.items()
            for key, tensor in getattr(self, name).state_dict().items()
        }
        kind, version = self.format
        save_file(tensors, str(path), {"format": kind, "version": version, "config": json.dumps(self.configs)})

    def load(self, path: str | Path) -> DemoModel:
        """Fill the weights from a file that :meth:`save` wrote; returns self.

        Raises:
            ValueError: the file is missing, truncated, of another kind, version or layout, or its weights draw nothing
                finite.
        """
        try:
            tensors, _ = read_tensors(path, *self.format, self._check)
            for name, tensor in tensors.items():
                if not torch.isfinite(tensor).all():
                    raise ValueError(f"path: {name} in {str(path)!r} holds NaN or infinity; allowed are numbers.")
            for name, prefix in _PREFIXES.items():
                getattr(self, name).load_state_dict({key: t.float() for key, t in part(tensors, prefix).items()})
            self._try(path)
        except ValueError as error:
            raise ValueError(f"{error} {self.remedy}") from error
        return self

    def _check(self, layout: Layout, metadata: Mapping[str, str]) -> None:
        """Refuse a file of other networks than these, by its header."""
        configs = parse_json("config", entry(metadata, "config"))
        own = self.configs
        if configs != own:
            other = [name for name in own if not isinstance(configs, dict) or configs.get(name) != own[name]]
            raise ValueError(f"config: its {', '.join(other) or 'networks'} are not those of this release.")
        parts = {name: layout_of(getattr(self, name).state_dict()) for name in _PREFIXES}
        check_layout(layout, {_PREFIXES[n] + key: one for n, inner in parts.items() for key, one in inner.items()})

    @torch.no_grad()
    def _try(self, path: str | Path) -> None:
        """Refuse weights that are finite, but too large to draw anything finite with: asked once, at one level."""
        z = torch.linspace(-1, 1, 4 * 64, dtype=torch.float32).reshape(1, 4, 8, 8)
        denoised = self.denoiser("")(z, 1.0)
        picture = self.decode(denoised)
        if not all(torch.isfinite(x).all() for x in (denoised, picture, self.encode(picture))):
            raise ValueError(
                f"path: {str(path)!r} draws NaN or infinity, although its weights are finite; allowed are models whose "
                "pictures are."
            )


def former_model(digest: str) -> str:
    """What to say of a saved run whose model file has the SHA-256 ``digest``; "" unless that file shipped earlier."""
    if digest not in FORMER_MODELS:
        return ""
    version = FORMER_MODELS[digest]
    return (
        f"the run is on the demo model of version {version} ({FORMER_VERSIONS[version]}), which this release does not "
        f"read; finish it with the release that it was started with, or start a new run in another folder"
    )


@dataclass(frozen=True, eq=False)
class PromptDenoiser:
    """(z, sigma) -> denoised of the demo model under one prompt; conditional and unconditional rows share one batch.

    ``z`` is (B, 4, h, w), ``sigma`` a float or a tensor () or (B,). Classifier-free guidance: Ho & Salimans 2022.
    """

    model: DemoModel
    context: Tensor
    negative: Tensor
    cfg: float
    _eps: EpsDenoiser = field(init=False, repr=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_eps", EpsDenoiser(self._network, self.model.schedule))

    @property
    def cost(self) -> int:
        """Network rows for each row of z: 2 with guidance, 1 without."""
        return 1 if self.cfg == 1.0 else 2

    @property
    def sigma_min(self) -> float:
        """The lowest trained level."""
        return self.model.schedule.sigma_min

    @property
    def sigma_max(self) -> float:
        """The highest trained level."""
        return self.model.schedule.sigma_max

    def percent_to_sigma(self, percent: float) -> float:
        """The level at a fraction of the model's chain: 0 is all noise, 1 none."""
        return self.model.schedule.percent_to_sigma(percent)

    def with_cfg(self, cfg: float) -> PromptDenoiser:
        """The same prompts at another guidance scale."""
        return replace(self, cfg=float(cfg))

    @property
    def uncond(self) -> PromptDenoiser:
        """The model under the negative prompt alone."""
        return replace(self, context=self.negative, cfg=1.0)

    @property
    def embedding(self) -> Tensor:
        """The encoded negative prompt, (1, CONTEXT_LENGTH, context_dim)."""
        return self.negative

    def with_embedding(self, embedding: Tensor) -> PromptDenoiser:
        """The same prompt with another encoding of the negative one, (1 or B, CONTEXT_LENGTH, context_dim)."""
        return replace(self, negative=embedding)

    def parts(self, z: Tensor, sigma: float | Tensor) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each of z's shape: two network rows a row of z."""
        self._check(z)
        both = EpsDenoiser(self._both, self.model.schedule)
        level = torch.as_tensor(sigma, device=z.device).reshape(-1).expand(len(z)).repeat(2)
        cond, uncond = both(z.repeat(2, 1, 1, 1), level).chunk(2)
        return cond, uncond

    def _rows(self, context: Tensor, rows: int) -> Tensor:
        """A context for each of ``rows`` rows: the prompts, once a draw where there are several draws a prompt."""
        return context.expand(rows, -1, -1) if len(context) == 1 else context.repeat(rows // len(context), 1, 1)

    def _both(self, x: Tensor, t: Tensor) -> Tensor:
        """Predicted noise of rows that are there twice: first under the prompt, then under the negative one."""
        rows = len(x) // 2
        both = torch.cat([self._rows(self.context, rows), self._rows(self.negative, rows)])
        return self.model.unet(x.float(), t, both)

    def _network(self, x: Tensor, t: Tensor) -> Tensor:
        if self.cfg == 1.0:
            return self.model.unet(x.float(), t, self._rows(self.context, len(x)))
        cond, uncond = self._both(x.repeat(2, 1, 1, 1), t.repeat(2)).chunk(2)
        return guide(cond, uncond, self.cfg)

    def _check(self, z: Tensor) -> None:
        if z.ndim != 4 or z.shape[1] != UNET_CONFIG["in_channels"] or len(z) % len(self.context):
            raise ValueError(
                f"z: got shape {tuple(z.shape)} for {len(self.context)} prompts; the demo model denoises latents "
                "(B, 4, h, w) under one prompt, or a multiple of B rows under B prompts. Encode pictures first, or "
                "give as many prompts as rows"
            )

    def __call__(self, z: Tensor, sigma: float | Tensor) -> Tensor:
        self._check(z)
        return self._eps(z, sigma)


@cache
def load_demo_model(path: str | Path | None = None) -> DemoModel:
    """The demo model, ready to use (evaluation mode, frozen); ``path`` defaults to the file that ships with the
    project.
    """
    return DemoModel.random(0).load(path or DEMO_MODEL_PATH).eval().requires_grad_(False)
