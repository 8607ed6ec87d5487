"""The checkpoint of a training, read as a file that may be damaged: all of it is checked before any of it is used.

    {"step", "model": state_dict, "optimizer": state_dict of AdamW, "extra": state_dict, where there is one}

torch writes a zip whose parts are stored as they are. One that is compressed could be of any size once it is read, and
the older format of torch can claim any size at all: both are refused. torch's reader then takes nothing but tensors and
plain containers (``weights_only``).
"""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .echo import shortened
from .layout import check_layout, layout_of


class Stateful(Protocol):
    """What a checkpoint can hold beside the model: a module, an optimizer, or anything with these two methods."""

    def state_dict(self) -> Mapping[str, Any]: ...

    def load_state_dict(self, state_dict: Mapping[str, Any], /) -> object: ...


def read_checkpoint(path: Path, model: nn.Module, optimizer: torch.optim.Optimizer, extra: Stateful | None) -> int:
    """Fill ``model``, ``optimizer`` and ``extra`` from a checkpoint; returns the number of steps done.

    Raises:
        ValueError: the checkpoint is damaged, or of another training.
    """
    try:
        _check_zip(path)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch guesses at what a damaged pickle may be
            saved = torch.load(path, weights_only=True, map_location="cpu")
        _check(saved, model, optimizer, extra)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        if extra is not None:
            extra.load_state_dict(saved["extra"])
    except Exception as error:  # a damaged pickle raises whatever its bytes happen to say
        raise ValueError(
            f"checkpoint: {str(path)!r} is damaged, or of another training ({shortened(error)}); allowed is one that "
            "this training wrote. Delete it to start over, or use another copy."
        ) from error
    return saved["step"]


def _check_zip(path: Path) -> None:
    """Refuse a file that would be larger once it is read."""
    with zipfile.ZipFile(path) as file:
        parts = file.infolist()
    if any(part.compress_type != zipfile.ZIP_STORED or part.file_size != part.compress_size for part in parts):
        raise ValueError("a part of it is compressed, and torch compresses none")
    if sum(part.file_size for part in parts) > path.stat().st_size:
        raise ValueError("its parts are more than the file")


def _check(saved: Any, model: nn.Module, optimizer: torch.optim.Optimizer, extra: Stateful | None) -> None:  # noqa: ANN401
    """Refuse what is not a checkpoint of this training."""
    names = {"step", "model", "optimizer"} | ({"extra"} if extra is not None else set())
    if not isinstance(saved, dict) or set(saved) != names:
        raise ValueError(f"it does not hold {', '.join(sorted(names))}")
    if type(saved["step"]) is not int or saved["step"] < 0:
        raise ValueError("its step is no count")
    _check_tensors("model", saved["model"], model.state_dict())
    if isinstance(extra, nn.Module):
        _check_tensors("extra", saved["extra"], extra.state_dict())
    _check_optimizer(saved["optimizer"], optimizer)


def _check_tensors(name: str, found: Mapping[str, Tensor], wanted: Mapping[str, Tensor]) -> None:
    """Refuse other names, types or shapes, and numbers that are not finite."""
    check_layout(layout_of(found), layout_of(wanted), f"{name}.")
    for key, tensor in found.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name}.{key} holds NaN or infinity")


def _check_optimizer(found: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Refuse other settings than those of ``optimizer``, but for the learning rate, and means that do not fit."""
    wanted = optimizer.state_dict()["param_groups"]
    for one, other in zip(found["param_groups"], wanted, strict=True):
        if {**one, "lr": None} != {**other, "lr": None}:
            raise ValueError("its optimizer has other settings")
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    for index, means in found["state"].items():
        shape = parameters[index]
        like = {"step": torch.zeros(()), "exp_avg": shape, "exp_avg_sq": shape}
        _check_tensors(f"optimizer.{index}", means, like)
        if bool((means["exp_avg_sq"] < 0).any()) or not means["step"] >= 1:
            raise ValueError(f"optimizer.{index} holds numbers that no mean can be")
