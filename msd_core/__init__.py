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
        ValueError: the name is taken, or the class is none that the settings can describe.
    """
    from .distillation import METHODS
    from .settings import check_owner

    check_owner(method)
    METHODS.register(name, method)


def register_estimator(name: str, estimator: type) -> None:
    """Add an estimator of the mean shift, a frozen dataclass as `mean_shift.base` says.

    Raises:
        ValueError: the name is taken, or the class is none that the settings can describe.
    """
    from .mean_shift import ESTIMATORS
    from .settings import check_owner

    check_owner(estimator)
    ESTIMATORS.register(name, estimator)


def register_generator(name: str, generator: Any) -> None:  # noqa: ANN401 - a class, or what stands for one
    """Add a kind of generator, as `generators.base` says; its ``kind`` must be ``name``.

    Raises:
        ValueError: the name is taken.
    """
    from .echo import shown
    from .generators.registry import GENERATORS, OTHERS

    if isinstance(name, str) and name in OTHERS:
        raise ValueError(
            f"name: {shown(name)} is the name of another generator; allowed is one that is free. Rename it."
        )
    GENERATORS.register(name, generator)
