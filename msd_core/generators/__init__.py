"""Generators: differentiable pictures. See `base` for what one is, `registry` for which there are, `files` for
saving."""

from __future__ import annotations

from .base import Canvas, Generator, Space, View
from .batch import Batch
from .files import load_generator, save_generator
from .latent import Latent
from .neural_image import FIELDS, NeuralImage
from .pixels import Pixels
from .points import Points
from .registry import GENERATORS, generator_for_size, make_generator

__all__ = [
    "FIELDS",
    "GENERATORS",
    "Batch",
    "Canvas",
    "Generator",
    "Latent",
    "NeuralImage",
    "Pixels",
    "Points",
    "Space",
    "View",
    "generator_for_size",
    "load_generator",
    "make_generator",
    "save_generator",
]
