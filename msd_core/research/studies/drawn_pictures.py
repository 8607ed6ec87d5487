"""Drawn pictures for the studies that change one: scenes, the same with a word changed, and what is compared.

Drawings have no jitter, so that the scene with another word stands where the first one did, to the pixel.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import torch
from torch import Tensor

from ...demo.evaluate import draw_scenes
from ...demo.grammar import MIN_CONTRAST, Scene
from ...demo.grounds import COLOURS, contrast, distance, ground_picture
from ...demo.model import load_demo_model
from ...demo.readings import FOREGROUND
from ...demo.scenes import draw
from ...demo.silhouettes import THINGS

SAME = 0.02
"""Sum of the differences of three colours below which two drawings agree at a pixel."""


@cache
def drawn(count: int, seed: int) -> tuple[list[Scene], Tensor]:
    """Scenes of two and three things, and their pictures (count, 3, side, side)."""
    scenes = draw_scenes(count, seed + 31_000, (2, 3))
    return scenes, draw(scenes, load_demo_model().side)


def reworded(scene: Scene, rng: torch.Generator) -> Scene:
    """``scene`` with the colour or the kind of one thing changed to one that is not in it, and shows on its ground.

    A kind that would move the things, as where one stands on the other, is none of the choices; if none is left, the
    colour is changed.
    """
    number = int(torch.randint(len(scene.things), (), generator=rng))
    colours = [colour for colour in COLOURS if contrast(colour, scene.ground) >= MIN_CONTRAST]
    kinds = [one for one in _others(scene, number, "shape", list(THINGS)) if one.layout() == scene.layout()]
    kind = torch.rand((), generator=rng) >= 0.5 and kinds
    choices = kinds if kind else _others(scene, number, "colour", colours)
    return choices[int(torch.randint(len(choices), (), generator=rng))]


def _others(scene: Scene, number: int, word: str, choices: list[str]) -> list[Scene]:
    """The scene with each of the choices that it does not have."""
    had = {getattr(one, word) for one in scene.things}
    made = [replace(scene.things[number], **{word: choice}) for choice in choices if choice not in had]
    return [replace(scene, things=(*scene.things[:number], one, *scene.things[number + 1 :])) for one in made]


def where_alike(scene: Scene, other: Scene, side: int) -> Tensor:
    """The pixels at which the drawings of two scenes agree, (side, side), bool."""
    return ((draw([scene], side) - draw([other], side)).abs().sum(dim=1) < SAME)[0]


def psnr(a: Tensor, b: Tensor) -> float:
    """Of pixels in [0, 1], dB."""
    return float(-10 * (a - b).double().square().mean().clamp(min=1e-12).log10())


def overlap(picture: Tensor, scene: Scene) -> float:
    """Intersection over union of what is no ground in ``picture`` (3, S, S) and in the scene's own drawing."""
    side = picture.shape[-1]
    ground = ground_picture(scene.ground, side)
    ours, theirs = (distance(one, ground) > FOREGROUND for one in (picture, draw([scene], side)[0]))
    return float((ours & theirs).sum() / (ours | theirs).sum())
