"""Mean-Shift Distillation without a host: denoisers, samplers, estimators, methods, generators, and the loop.

Everything speaks one coordinate system, z = y + sigma n, and one function type, ``denoiser(z, sigma) -> E[y | z]``.
Public names are imported from their files when they are first asked for; `__init__.pyi` says where they live.
"""

from __future__ import annotations

from typing import Any

from .lazy import lazy_package

__all__ = lazy_package(__name__)  # pyright: ignore[reportUnsupportedDunderAll]


def register_method(name: str, method: type) -> None:
    """Add a distillation method, a frozen dataclass as `distillation.base` says: to the command line and the nodes.

    Raises:
        ValueError: the name is taken.
    """
    from .distillation import METHODS

    METHODS.register(name, method)


def register_estimator(name: str, estimator: type) -> None:
    """Add an estimator of the mean shift, a frozen dataclass as `mean_shift.base` says.

    Raises:
        ValueError: the name is taken.
    """
    from .mean_shift import ESTIMATORS

    ESTIMATORS.register(name, estimator)


def register_generator(name: str, generator: Any) -> None:  # noqa: ANN401 - a class, or what stands for one
    """Add a kind of generator, as `generators.base` says; its ``kind`` must be ``name``.

    Raises:
        ValueError: the name is taken.
    """
    from .generators import GENERATORS

    GENERATORS.register(name, generator)
