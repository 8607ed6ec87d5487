"""Generators: differentiable pictures. See `base` for what one is, `registry` for which there are, `files` for
saving."""

from __future__ import annotations

from ..lazy import lazy_package

_FILES = {
    "base": "Canvas Generator Space View",
    "batch": "Batch",
    "files": "load_generator save_generator",
    "latent": "Latent",
    "neural_image": "FIELDS NeuralImage",
    "pixels": "Pixels",
    "points": "Points",
    "registry": "GENERATORS generator_for_size make_generator",
}
__all__ = lazy_package(__name__, _FILES)  # pyright: ignore[reportUnsupportedDunderAll]
