"""The flags that say which model a command works with, the model itself, and levels of a named schedule on it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..echo import shown
from .arguments import check_cells

if TYPE_CHECKING:
    from torch import Tensor

    from ..denoiser import Denoiser
    from ..model import Model
    from .arguments import Size

FLAGS = {"path": "--model", "kind": "--model-kind", "device": "--device", "dtype": "--dtype", "offload": "--offload"}
"""What `load_model` calls its arguments, and the command line them."""


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """--model, --model-kind, and where a pipeline computes."""
    from ..model import MODELS

    parser.add_argument("--model", type=Path, help="the model's file or folder (default: the demo model that ships)")
    parser.add_argument("--model-kind", default="demo", help=f"what the file is: {', '.join(MODELS)} (default: demo)")
    pipelines = parser.add_argument_group("pipelines of diffusers")
    pipelines.add_argument("--device", help="where it runs: cuda, mps, cpu (default: the first that there is)")
    pipelines.add_argument("--dtype", help="float32, float16, bfloat16 (default: float16 on cuda, float32 elsewhere)")
    pipelines.add_argument("--offload", help="what stays on the CPU: none, model, sequential (default: none)")


def path_of_model(arguments: argparse.Namespace) -> Path:
    """The file or folder of the model, given or shipped.

    Raises:
        ValueError: for an unknown kind, or one that has to be given a path.
    """
    from ..model import MODELS, SHIPPED

    MODELS.find("--model-kind", arguments.model_kind)
    path = arguments.model or SHIPPED.get(arguments.model_kind)
    if path is None:
        raise ValueError(f"--model: got none with --model-kind {arguments.model_kind}; allowed is its file. Name it.")
    return path


def model_of(arguments: argparse.Namespace, dtype: str | None) -> Model:
    """The model, where it is asked for, in the precision ``dtype``.

    Raises:
        ValueError: naming the flag; for a place or a precision of one of the project's own models, which run in
            float32 on the CPU here, or a file that is missing, damaged or of another kind.
    """
    from ..model import SHIPPED, load_model

    placed = {"device": arguments.device, "dtype": dtype, "offload": arguments.offload}
    for name, value in placed.items():
        if value is not None and arguments.model_kind in SHIPPED:
            raise ValueError(
                f"--{name}: got {shown(value)} with --model-kind {arguments.model_kind}; allowed with pipelines alone. "
                "Leave it out."
            )
    path = path_of_model(arguments)
    try:
        return load_model(path, arguments.model_kind, **placed)
    except ValueError as error:
        name, colon, text = str(error).partition(":")
        raise ValueError(f"{FLAGS.get(name, name)}{colon}{text}") from error


def pixels_of(model: Model) -> int:
    """What the sides of a picture are multiples of, in pixels: cells of the latent, or pairs of them."""
    return model.cell * getattr(model, "pairs", 1)


def size_of(given: Size | None, model: Model) -> Size:
    """Width and height in pixels that were asked for, or the model's own.

    Raises:
        ValueError: they are not made of whole cells of the model.
    """
    size = given or (model.side, model.side)
    check_cells(size, pixels_of(model))
    return size


def levels(name: str, steps: int, model: Model, denoiser: Denoiser) -> Tensor:
    """Noise levels of a sampler by the name of their schedule, falling to 0, (steps + 1,), for any model with a chain.

    A model without a `DiscreteSchedule` has equal parts of its chain where that has trained levels.

    Raises:
        ValueError: for an unknown name, or more steps than the model has levels.
    """
    import torch

    from ..denoiser import level_at, sigma_range
    from ..sampling import chain_levels
    from ..schedule import SIGMA_SCHEDULES, sigma_schedule
    from ..validation import check_choice

    check_choice("--scheduler", name, SIGMA_SCHEDULES)
    schedule = getattr(model, "schedule", None)
    if schedule is not None:
        return sigma_schedule(name, steps, schedule=schedule)
    if name == "sgm_uniform":
        return chain_levels(denoiser, steps)
    if name == "normal":
        return torch.tensor([*(level_at(denoiser, part) for part in torch.linspace(1, 0, steps).tolist()), 0.0])
    low, high = sigma_range(denoiser)
    return sigma_schedule(name, steps, sigma_min=low, sigma_max=high)
