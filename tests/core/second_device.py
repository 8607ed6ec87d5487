"""A second device that is none: it calculates on the CPU, and refuses tensors that lie elsewhere, as CUDA does, and
numbers in float64, as Apple's does.

A tensor on it wraps one on the CPU. torch's own backend for devices in Python (PrivateUse1) sends every operation
here, where the wrappers are taken off; an operand that has none, and more than one number, is an error. Four ways of
making a tensor of numbers do not pass there, and are led by way of the CPU.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._pytree import tree_map

NAME = "second"
COPIES = (torch.ops.aten._to_copy.default, torch.ops.aten.copy_.default)
INDEXED = ("index.", "index_put")
"""Operations that CUDA takes with indices on the CPU."""


class Second(Tensor):
    """A tensor on the second device: ``raw`` is on the CPU."""

    raw: Tensor

    @staticmethod
    def __new__(cls: type[Second], raw: Tensor) -> Second:
        layout = {"strides": raw.stride(), "storage_offset": raw.storage_offset(), "dtype": raw.dtype}
        made = Tensor._make_wrapper_subclass(cls, raw.shape, device=f"{NAME}:0", **layout)
        made.raw = raw
        return made

    def __init__(self, raw: Tensor) -> None:
        pass

    def tolist(self) -> Any:  # noqa: ANN401 - torch's own
        return self.raw.tolist()

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):  # noqa: ANN001, ANN206 - torch's own
        return _calculated(func, args, kwargs or {})


def _calculated(func: Any, args: tuple, kwargs: dict[str, Any]) -> Any:  # noqa: ANN401 - whatever it returns
    """``func`` on the CPU; its tensors are on the second device again, unless they were asked for elsewhere."""
    if func is torch.ops.aten._has_compatible_shallow_copy_type.default:
        return False  # a module's parameters are replaced, and not filled, on their way there
    if func not in COPIES and not any(part in str(func) for part in INDEXED):
        tree_map(lambda value: _check(func, value), (args, kwargs))
    place = kwargs.get("device")
    if place is not None:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    own = tree_map(lambda value: value.raw if isinstance(value, Second) else value, (args, kwargs))
    found = func(*own[0], **own[1])
    if place is not None and torch.device(place).type == "cpu":
        return found
    if args and isinstance(args[0], Second) and found is args[0].raw:
        return args[0]
    return tree_map(lambda value: _there(func, value) if isinstance(value, Tensor) else value, found)


def _there(func: Any, raw: Tensor) -> Second:  # noqa: ANN401
    if raw.dtype == torch.float64:
        raise TypeError(f"{func}: makes a tensor of float64, which {NAME}:0 does not have")
    return Second(raw)


def _check(func: Any, value: Any) -> None:  # noqa: ANN401
    if isinstance(value, Tensor) and not isinstance(value, Second) and value.ndim:
        raise RuntimeError(f"{func}: a tensor of shape {tuple(value.shape)} is on the CPU, others on {NAME}:0")


def install() -> None:
    """Tell torch of the device, once a process.

    Skips the test where this torch has no devices in Python.
    """
    backends = pytest.importorskip("torch.utils.backend_registration")
    if not hasattr(backends, "_setup_privateuseone_for_python_backend"):
        pytest.skip(f"torch {torch.__version__} has no devices written in Python; 2.10 has")
    if hasattr(torch, NAME):
        return

    class Module(backends._DummyBackendModule):
        """What torch asks a backend for."""

        def get_amp_supported_dtype(self) -> list[torch.dtype]:
            return [torch.float16, torch.bfloat16]

    backends._setup_privateuseone_for_python_backend(NAME, backend_module=Module())
    library = torch.library.Library("_", "IMPL")
    library.fallback(lambda func, *args, **kwargs: _calculated(func, args, kwargs), "PrivateUse1")
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []
"""It ends with the last reference."""


@pytest.fixture
def second(monkeypatch: pytest.MonkeyPatch) -> torch.device:
    """The device."""
    install()

    def by_way_of_the_cpu(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
        def made(*args: Any, device: Any = None, **kwargs: Any) -> Tensor:  # noqa: ANN401
            if device is None or torch.device(device).type != NAME:
                return make(*args, **kwargs, **({} if device is None else {"device": device}))
            return make(*args, **kwargs).to(device)

        return made

    for name in ("tensor", "as_tensor", "arange"):
        monkeypatch.setattr(torch, name, by_way_of_the_cpu(getattr(torch, name)))
    plain = Tensor.new_tensor

    def new_tensor(self: Tensor, data: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        if not isinstance(self, Second):
            return plain(self, data, **kwargs)
        return torch.tensor(data, dtype=kwargs.get("dtype", self.dtype)).to(self.device)

    monkeypatch.setattr(Tensor, "new_tensor", new_tensor)
    return torch.device(NAME, 0)
