"""Generators: differentiable pictures. See `base` for what one is, `registry` for which there are, `files` for
saving."""

from __future__ import annotations

from .base import Generator, Space
from .files import load_generator, save_generator
from .latent import Latent
from .neural_image import ENCODINGS, NeuralImage
from .pixels import Pixels
from .registry import GENERATORS, make_generator

__all__ = [
    "ENCODINGS",
    "GENERATORS",
    "Generator",
    "Latent",
    "NeuralImage",
    "Pixels",
    "Space",
    "load_generator",
    "make_generator",
    "save_generator",
]
