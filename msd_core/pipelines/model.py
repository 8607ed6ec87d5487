"""A pipeline of the diffusers library as a `Model`: from a local folder or file, offline.

    pip install 'mean-shift-distillation[diffusers]'
    msd distill "a cup" --model stable-diffusion-v1-5/ --model-kind diffusers --size 512x512

    x = (E[latent | picture] - shift) scale       the latent that the network sees, by the autoencoder's configuration

The denoiser is in the coordinates of the rest, z = x + sigma n, in float32; the networks compute in their own precision
(half on CUDA, float32 elsewhere), wherever the library has put them. Autograd goes through them where gradients with
respect to z are asked for, and nowhere else; their weights have none.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..denoiser import Sigma, data_std, expand_sigma, sigma_range
from ..echo import shown
from ..guidance import guide
from ..model import prompts_of
from ..parametrization import Network
from ..validation import as_path, check_choice, check_device, check_number
from .families import Conditions, StableDiffusion, family_class, family_of
from .hooks import steady
from .layout import index_of, parts_of, settings_of
from .scheduler import AsDenoiser, Parametrization

OFFLOADS = ("none", "model", "sequential")
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}


def load_pipeline(
    path: str | Path | None = None, *, device: str | None = None, dtype: str | None = None, offload: str = "none"
) -> PipelineModel:
    """The model in a folder of the library's layout, or in a single file (`layout`); nothing is downloaded.

    Args:
        path: the folder or the file.
        device: "cpu", "cuda", "mps", ...; `default_device` if left out.
        dtype: "float32", "float16" or "bfloat16"; half precision on CUDA, float32 elsewhere, if left out. An
            autoencoder that the library runs in float32 beside a network in half precision, that of Stable Diffusion
            XL, is in float32 here, too: it would overflow.
        offload: "model" or "sequential" leave on the CPU what is not in use, as the library does it; CUDA alone.

    Raises:
        ValueError: for a path that is missing, a kind of pipeline that is not known, or a bad setting; or if the
            library is not installed.
    """
    if path is None:
        raise ValueError("path: got none; allowed is a folder of diffusers, or a file. Name one, with --model.")
    file = as_path("path", path)
    place = default_device() if device is None else device
    check_device("device", place)
    check_choice("offload", offload, OFFLOADS)
    if offload != "none" and torch.device(place).type == "cpu":
        raise ValueError(f"offload: got {offload!r} on the CPU, where all of it is; allowed is 'none'. Leave it out.")
    kind = ("float16" if place.startswith("cuda") else "float32") if dtype is None else dtype
    check_choice("dtype", kind, DTYPES)
    pipe = _opened(file, DTYPES[kind])
    if DTYPES[kind] == torch.float16 and family_of(pipe).overflows:
        pipe.vae.to(torch.float32)
    if offload == "model":
        pipe.enable_model_cpu_offload(device=place)
    elif offload == "sequential":
        pipe.enable_sequential_cpu_offload(device=place)
    else:
        pipe.to(place)
    return PipelineModel.of(pipe)


def default_device() -> str:
    """The first of CUDA, MPS and the CPU that there is."""
    return "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"


def _opened(file: Path, dtype: torch.dtype) -> Any:  # noqa: ANN401 - the library's
    """The pipeline in a folder or a file, on the CPU; a part that its kind can do without may be missing."""
    diffusers = library()
    options = {_dtype_argument(diffusers.__version__): dtype, "local_files_only": True}
    if not file.exists():
        raise ValueError(f"path: {str(file)!r} is not there. Name a folder of diffusers, or a file.")
    folder = file if file.is_dir() else settings_of(file)
    name, parts = index_of(folder)["_class_name"], parts_of(folder)
    kind = getattr(diffusers, name, type(name, (), {}))
    options |= {part: None for part in family_class(kind).spare if part not in parts}
    if file.is_dir():
        return kind.from_pretrained(str(file), **options)
    return kind.from_single_file(str(file), config=str(folder), **options)


def _dtype_argument(version: str) -> str:
    """What diffusers of that version calls the dtype that it loads in."""
    return "dtype" if tuple(int(part) for part in version.split(".")[:2]) >= (0, 40) else "torch_dtype"


def quiet() -> None:
    """No bars of the library's own while a pipeline loads, where somebody else has one."""
    for name in ("diffusers", "transformers"):
        importlib.import_module(f"{name}.utils.logging").disable_progress_bar()


def library() -> Any:  # noqa: ANN401 - a module
    """The module diffusers.

    Raises:
        ValueError: it is not installed.
    """
    try:
        return importlib.import_module("diffusers")
    except ImportError as error:
        raise ValueError(
            "kind: 'diffusers' needs the library of that name, which is not installed. Run: pip install "
            "'mean-shift-distillation[diffusers]'"
        ) from error


@dataclass(frozen=True)
class PipelineModel:
    """A `Model` around a pipeline; LoRA and adapters that are set up on it apply.

    Args:
        family: what the pipeline is; `of` finds it.
    """

    family: StableDiffusion
    parametrization: Parametrization = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "parametrization", Parametrization(self.family))

    @classmethod
    def of(cls, pipe: object) -> PipelineModel:
        """The model around a pipeline of the library.

        Raises:
            ValueError: for a kind, or a scheduler, that is not known.
        """
        family = family_of(pipe)
        for module in (family.network, family.pipe.vae):
            module.requires_grad_(False)
        made = cls(family)
        made.parametrization()
        return made

    @property
    def cell(self) -> int:
        """Pixels a side of a cell of the latent."""
        return int(self.family.pipe.vae_scale_factor)

    @property
    def pairs(self) -> int:
        """Cells of a side that the network takes together: sizes are multiples of so many."""
        return self.family.pairs

    @property
    def channels(self) -> int:
        """Of the latent."""
        return int(self.family.pipe.vae.config.latent_channels)

    @property
    def side(self) -> int:
        """Pixels a side at which it draws best."""
        return self.family.cells * self.cell

    @property
    def differentiable(self) -> bool:
        """Whether autograd may go through ``encode`` and ``decode``: not where hooks change the weights (`hooks`)."""
        return steady(self.family.pipe.vae, last=True)

    @property
    def device(self) -> torch.device:
        """Where it computes, offloaded or not."""
        return self.family.device

    def encode(self, picture: Tensor) -> Tensor:
        """x (B, C, H/cell, W/cell) of a picture (B, 3, H, W) in [0, 1]; differentiable, if the model is.

        Raises:
            ValueError: a gradient is asked for, and the model is not differentiable.
        """
        vae = self.family.pipe.vae
        self._check_backwards("picture", picture)
        given = (2 * picture - 1).to(self.family.device, vae.dtype)
        return self.family.scaled(vae.encode(given, return_dict=False)[0].mode().to(picture))

    def decode(self, x: Tensor) -> Tensor:
        """The picture (B, 3, H, W) in [0, 1] of x; differentiable, if the model is.

        Raises:
            ValueError: as `encode`.
        """
        return self.decode_unclamped(x).clamp(0, 1)

    def decode_unclamped(self, x: Tensor) -> Tensor:
        """As `decode`, and beyond [0, 1] where the autoencoder overshoots: a gradient comes back from there, too."""
        vae = self.family.pipe.vae
        self._check_backwards("x", x)
        latent = self.family.unscaled(x).to(self.family.device, vae.dtype)
        return vae.decode(latent, return_dict=False)[0].to(x) / 2 + 0.5

    def _check_backwards(self, name: str, given: Tensor) -> None:
        if _asked(given) and not self.differentiable:
            raise ValueError(
                f"{name}: got a tensor whose gradient is asked for, and hooks of the library change the autoencoder's "
                "weights before it could go back; allowed is one without. Call it under no_grad, or leave out the "
                "offload by groups and the cast by layers."
            )

    def denoiser(self, prompt: str | Sequence[str], negative: str = "", cfg: float = 1.0) -> PipelineDenoiser:
        """The guided denoiser of a prompt, or of one a row; it stays with the scheduler that the pipeline has now.

        Raises:
            ValueError: for a cfg below 0, what is no text, or a scheduler that is not known.
        """
        check_number("cfg", cfg, "1 is no guidance; 7.5 is usual for Stable Diffusion 1.", low=0)
        prompts = prompts_of(prompt, negative)
        as_denoiser = self.parametrization()
        self.family.network.requires_grad_(False)  # of LoRA that came meanwhile
        with torch.no_grad():
            cond, uncond = (self.family.encode(words) for words in (prompts, [negative]))
        return PipelineDenoiser(self.family, as_denoiser, cond, uncond, float(cfg))


@dataclass(frozen=True)
class PipelineDenoiser:
    """(z (B, C, h, w), sigma) to E[x | z] under one prompt, or one a row; both sides of the guidance in one batch."""

    family: StableDiffusion
    as_denoiser: AsDenoiser
    cond: Conditions
    negative: Conditions
    cfg: float

    @property
    def cost(self) -> int:
        """Network rows for each row of z: 2 with guidance, 1 without."""
        return 1 if self.cfg == 1.0 else 2

    @property
    def sigma_min(self) -> float:
        """The lowest level."""
        return sigma_range(self._alone(self.cond))[0]

    @property
    def sigma_max(self) -> float:
        """The highest level."""
        return sigma_range(self._alone(self.cond))[1]

    @property
    def data_std(self) -> float:
        """Standard deviation of the latents that the model was trained on."""
        return data_std(self._alone(self.cond))

    @property
    def differentiable(self) -> bool:
        """Whether autograd may go through the network: not where hooks change its weights meanwhile (`hooks`)."""
        return steady(self.family.network)

    def percent_to_sigma(self, percent: float) -> float:
        """The level at a fraction of the model's chain: 0 is all noise, 1 none."""
        return self._alone(self.cond).percent_to_sigma(percent)

    def with_cfg(self, cfg: float) -> PipelineDenoiser:
        """The same prompts at another guidance scale."""
        return replace(self, cfg=float(cfg))

    @property
    def uncond(self) -> PipelineDenoiser:
        """The model under the negative prompt alone."""
        return replace(self, cond=self.negative, cfg=1.0)

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        if self.cfg == 1.0:
            return self._alone(self.cond)(z, sigma)
        cond, uncond = self.parts(z, sigma)
        return guide(cond, uncond, self.cfg)

    def parts(self, z: Tensor, sigma: Sigma) -> tuple[Tensor, Tensor]:
        """Conditional and unconditional result, each of z's shape: two network rows a row of z."""
        rows = len(z)
        told = {name: torch.cat([_rows(self.cond[name], rows), _rows(self.negative[name], rows)]) for name in self.cond}
        level = expand_sigma(sigma, z).reshape(rows).repeat(2)
        cond, uncond = self._alone(told)(z.repeat(2, *[1] * (z.ndim - 1)), level).chunk(2)
        return cond, uncond

    def _alone(self, told: Conditions) -> Any:  # noqa: ANN401 - a denoiser with the levels of its chain
        """The network under these conditions as a denoiser, by what it predicts."""
        return self.as_denoiser(self._network(told))

    def _network(self, told: Conditions) -> Network:
        """(x, t) to the prediction, in the network's own precision and place."""
        network = self.family.network

        def predict(x: Tensor, t: Tensor) -> Tensor:
            pairs = self.family.pairs
            if any(side % pairs for side in x.shape[-2:]):
                raise ValueError(
                    f"z: got {shown(x)}; allowed are heights and widths that are multiples of {pairs} cells for a "
                    f"{type(self.family.pipe).__name__}. Choose another size of the picture."
                )
            device, kind = self.family.device, network.dtype
            own = {name: _rows(tensor, len(x)).to(device, kind) for name, tensor in told.items()}
            with torch.set_grad_enabled(_asked(x)):
                found = self.family(x.to(device, kind), t.to(device), own)
            return found.to(x)

        return predict


def _asked(x: Tensor) -> bool:
    """Whether somebody may ask for a gradient with respect to ``x``."""
    return torch.is_grad_enabled() and x.requires_grad


def _rows(tensor: Tensor, rows: int) -> Tensor:
    """As many rows as asked for: row i is number i mod those that there are."""
    return tensor[torch.arange(rows, device=tensor.device) % len(tensor)]
