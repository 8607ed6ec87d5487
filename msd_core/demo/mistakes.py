"""The judge judged: what share of true drawings it accepts, and of drawings with one planted mistake it refuses.

    python -m msd_core.demo.mistakes --count 500

A mistake is planted in the drawing, never in the caption: the scene of another caption is drawn, equal in all else.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from .grammar import GROUPS, MIN_CONTRAST, POSITIONS, RELATIONS, Scene, random_scene
from .grounds import COLOURS, GROUNDS, contrast, ground_picture
from .judge import judge
from .readings import ink_shows
from .scenes import SIDE, draw
from .silhouettes import THINGS


@dataclass(frozen=True)
class Planted:
    """What is drawn instead of a scene: another one, perhaps with one of its things left out."""

    scene: Scene
    left_out: int | None = None


def _other(options: tuple[str, ...], generator: torch.Generator) -> str | None:
    return options[int(torch.randint(len(options), (), generator=generator))] if options else None


def _with_thing(scene: Scene, number: int, **changed: str) -> Scene:
    things = list(scene.things)
    things[number] = replace(things[number], **changed)
    return replace(scene, things=tuple(things))


def _some_thing(scene: Scene, generator: torch.Generator) -> int:
    return int(torch.randint(len(scene.things), (), generator=generator))


def wrong_colour(scene: Scene, generator: torch.Generator) -> Planted | None:
    """One thing in a colour that no thing of the scene has, and that stands out from the ground."""
    used = {thing.colour for thing in scene.things}
    free = tuple(c for c in COLOURS if c not in used and contrast(c, scene.ground) >= MIN_CONTRAST)
    colour = _other(free, generator)
    return Planted(_with_thing(scene, _some_thing(scene, generator), colour=colour)) if colour else None


def wrong_thing(scene: Scene, generator: torch.Generator) -> Planted | None:
    """Another thing in the place of one."""
    number = _some_thing(scene, generator)
    shape = _other(tuple(t for t in THINGS if t != scene.things[number].shape), generator)
    return Planted(_with_thing(scene, number, shape=str(shape)))


def missing(scene: Scene, generator: torch.Generator) -> Planted | None:
    """One thing less."""
    return Planted(scene, _some_thing(scene, generator))


def wrong_relation(scene: Scene, generator: torch.Generator) -> Planted | None:
    """The same things in another relation, or a single thing in another place; "and" says the same as "left of"."""
    if len(scene.things) == 1:
        place = _other(tuple(p for p in POSITIONS if p != scene.position), generator)
        return Planted(replace(scene, position=str(place)))
    same = {"left of", "and"} if scene.relation in ("left of", "and") else {scene.relation}
    options = RELATIONS if len(scene.things) == 2 else tuple(GROUPS)
    relation = _other(tuple(r for r in options if r not in same), generator)
    return Planted(replace(scene, relation=str(relation)))


def wrong_ground(scene: Scene, generator: torch.Generator) -> Planted | None:
    """The same things on another ground from which they stand out."""
    options = (g for g in GROUNDS if g != scene.ground)
    fitting = (g for g in options if all(contrast(t.colour, g) >= MIN_CONTRAST for t in scene.things))
    ground = _other(tuple(fitting), generator)
    return None if ground is None else Planted(replace(scene, ground=ground))


def wrong_style(scene: Scene, generator: torch.Generator) -> Planted | None:
    """Outlined for flat or flat for outlined; None where ink cannot be seen: on dark grounds and on black things."""
    if not ink_shows(ground_picture(scene.ground, 32)) or all(thing.colour == "black" for thing in scene.things):
        return None
    return Planted(replace(scene, style="flat" if scene.style == "outlined" else "outlined"))


MISTAKES: dict[str, Callable[[Scene, torch.Generator], Planted | None]] = {
    "colour": wrong_colour,
    "thing": wrong_thing,
    "missing": missing,
    "relation": wrong_relation,
    "ground": wrong_ground,
    "style": wrong_style,
}
"""Kinds of mistakes: a scene to what is drawn instead, None where the mistake could not be seen."""


def cases(kind: str | None, count: int, seed: int) -> list[tuple[Scene, Tensor]]:
    """``count`` scenes, each with a picture (3, SIDE, SIDE) that has one mistake of ``kind``, or none for None."""
    generator, pairs = torch.Generator().manual_seed(seed), []
    while len(pairs) < count:
        scene = random_scene(generator)
        planted = Planted(scene) if kind is None else MISTAKES[kind](scene, generator)
        if planted is not None:
            pairs.append((scene, draw([planted.scene], SIDE, generator, [planted.left_out])[0]))
    return pairs


def accepted_share(kind: str | None, count: int, seed: int) -> float:
    """Share of the drawings of `cases` that the judge accepts."""
    bar = tqdm(cases(kind, count, seed), desc=kind or "true drawings", mininterval=2.0)
    return sum(judge(picture, scene).accepted for scene, picture in bar) / count


def table(count: int, seed: int) -> dict[str, float]:
    """Shares of drawings on which the judge is right: true ones accepted, and each kind of mistake refused."""
    return {
        "true drawings accepted": accepted_share(None, count, seed),
        **{f"{kind} refused": 1 - accepted_share(kind, count, seed + 1 + i) for i, kind in enumerate(MISTAKES)},
    }


def standard_error(share: float, count: int) -> float:
    """Standard error of a share of ``count`` independent cases."""
    return math.sqrt(share * (1 - share) / count)


def main() -> None:
    parser = argparse.ArgumentParser(description="Judge the judge: true drawings and planted mistakes.")
    parser.add_argument("--count", type=int, default=500, help="drawings of each kind")
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    shares = table(arguments.count, arguments.seed)
    report = {
        name: {"share": share, "standard error": round(standard_error(share, arguments.count), 4)}
        for name, share in shares.items()
    }
    print(json.dumps({"drawings of each kind": arguments.count, **report}, indent=2))


if __name__ == "__main__":
    main()
