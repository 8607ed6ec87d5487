"""What a model is: everything that a distillation needs of one, whoever made it.

The demo model is one, the session of a ComfyUI host another; a pipeline of another library becomes one by offering
these members.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from .denoiser import Denoiser
from .echo import shortened, shown
from .registry import Registry
from .validation import as_path, check_text, is_number


class Model(Protocol):
    """A text-to-image diffusion model.

    Attributes:
        cell: pixels a side of a cell of its latent; 1 if it works on pixels.
        channels: of its latent, or 3.
        side: pixels a side at which it draws best: the default size of a run.
        differentiable: whether autograd may go through ``encode``, as the pull "latent" needs it.
        encode: image (B, 3, H, W) in [0, 1] to x (B, channels, H/cell, W/cell); None for a model whose x is the image
            itself. One that works on pixels in [-1, 1] says 2 image - 1 here.
        decode: the way back; None likewise.

    One that does not compute on the CPU says where, as ``device``: `device_of`. One whose ``decode`` cuts what leaves
    [0, 1] may offer the same without, as ``decode_unclamped``, for what is compared with a measurement.
    """

    @property
    def cell(self) -> int: ...
    @property
    def channels(self) -> int: ...
    @property
    def side(self) -> int: ...
    @property
    def differentiable(self) -> bool: ...
    @property
    def encode(self) -> Callable[[Tensor], Tensor] | None: ...
    @property
    def decode(self) -> Callable[[Tensor], Tensor] | None: ...

    def denoiser(self, prompt: Any, negative: Any = "", cfg: float = 1.0) -> Denoiser:  # noqa: ANN401
        """The guided denoiser of a prompt, with the levels of the model's chain (``percent_to_sigma``), and where its
        latents do not have the standard deviation 1, with that (``data_std``).
        """
        ...


MODELS = Registry(
    "model",
    __package__ or "",
    {
        "demo": "demo.model:load_demo_model",
        "solids": "demo.solids.model:load_solid_model",
        "diffusers": "pipelines.model:load_pipeline",
    },
)
"""Name to a function ``(path | None) -> Model``; "demo" and "solids" read the files that the project itself writes."""
SHIPPED = {
    "demo": Path(__file__).with_name("demo") / "illustrated_world.safetensors",
    "solids": Path(__file__).with_name("demo") / "solids/solid_world.safetensors",
}
"""Files of the kinds that need none given."""


def load_model(
    path: str | Path | None = None,
    kind: str = "demo",
    *,
    device: str | None = None,
    dtype: str | None = None,
    offload: str | None = None,
) -> Model:
    """The model in a file; the one that ships of its kind if ``path`` is None.

    Args:
        path: the file, or a folder for kinds that are folders.
        kind: one of `MODELS`.
        device, dtype, offload: where and in which precision it computes, as in `pipelines.model.load_pipeline`; a kind
            that takes no ``device`` is moved there, and computes in float32.

    Raises:
        ValueError: for an unknown kind, a file that is missing, damaged or of another kind, or a setting that the kind
            does not know.
    """
    make = MODELS.find("kind", kind)
    file = None if path is None else as_path("path", path)
    given = {"device": device, "dtype": dtype, "offload": offload}
    placed = _taken(make, kind, {name: value for name, value in given.items() if value is not None})
    try:
        model = make(file, **placed)
        if device not in (None, "cpu") and "device" not in placed:
            model = copy.deepcopy(model).to(device)  # the project's own are read once, and shared
        return model
    except ValueError:
        raise
    except Exception as error:  # another package's code, on a file that somebody else wrote
        raise ValueError(
            f"path: {str(path)!r} cannot be read as a model of the kind {kind!r} ({shortened(error)}). Use another "
            "copy, or another kind."
        ) from error


def _taken(make: Callable[..., Any], kind: str, given: dict[str, Any]) -> dict[str, Any]:
    """What ``make`` takes of the settings ``given``; ``device`` alone may be left over."""
    known = inspect.signature(make).parameters
    for name in given:
        if name not in known and name != "device":
            raise ValueError(
                f"{name}: got {shown(given[name])} for a model of the kind {kind!r}, which does not know it; allowed "
                "are models of diffusers there. Leave it out."
            )
    return {name: value for name, value in given.items() if name in known}


def device_of(model: Model) -> torch.device:
    """Where ``model`` computes, and a run on it: its ``device``, or the CPU for one that has none."""
    return torch.empty(0, device=getattr(model, "device", "cpu")).device  # with its number: "cuda" is "cuda:0"


def encoder_of(model: Model) -> Callable[[Tensor], Tensor]:
    """Image (B, 3, H, W) in [0, 1] to x: the model's own, or x is the image."""
    return (lambda picture: picture) if model.encode is None else model.encode


def decoder_of(model: Model) -> Callable[[Tensor], Tensor]:
    """x to an image (B, 3, H, W): the model's own, or x is the image, which may leave [0, 1]."""
    return (lambda x: x) if model.decode is None else model.decode


def check_model(model: object) -> None:
    """Refuse a ``model`` that gives no denoiser."""
    if not callable(getattr(model, "denoiser", None)):
        raise ValueError(f"model: got {shown(model)}; allowed is a Model, or the path of its file. Pass load_model().")


def prompts_of(prompt: object, negative: object) -> list[str]:
    """The prompts of a model whose ``denoiser`` takes texts: that of all rows, or one a row.

    Raises:
        ValueError: for another ``prompt`` or ``negative``; of a number, which is a guidance scale in its place, that.
    """
    prompts = [prompt] if isinstance(prompt, str) else list(prompt) if isinstance(prompt, Sequence) else []
    if not prompts or not all(isinstance(one, str) for one in prompts):
        raise ValueError(f"prompt: got {shown(prompt)}; allowed is a text, or a list of texts, one a row. Pass one.")
    if not isinstance(negative, str):
        fix = "Pass the guidance scale by its name, cfg" if is_number(negative) else "Pass a str"
        raise ValueError(f"negative: got {shown(negative)}; allowed is a text. {fix}.")
    return prompts


def check_prompt(prompt: object, negative: object, name: str = "prompt") -> None:
    """Refuse a prompt, called ``name``, that is no text, list of texts or function, and a negative that is no text."""
    texts = prompt if isinstance(prompt, list) else [prompt]
    if not callable(prompt) and not all(isinstance(text, str) for text in texts):
        raise ValueError(
            f"{name}: got {shown(prompt)}; allowed is a text, a list of texts, or a function from a view to one. "
            "Pass one."
        )
    check_text("negative", negative)
