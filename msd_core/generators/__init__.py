"""Generators: differentiable pictures. See `base` for what one is, `registry` for which there are, `files` for
saving; `__init__.pyi` lists the public names."""

from __future__ import annotations

from ..lazy import lazy_package

__all__ = lazy_package(__name__)  # pyright: ignore[reportUnsupportedDunderAll]
