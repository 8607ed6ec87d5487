"""A grid file: which cells a sweep has.

    prompts:                      a list of prompts, or so many drawn ones: {drawn: 100, seed: 4, things: [2, 3]}
    seeds: [0, 1, 2]
    settings:                     a name for each line of the summary, and its options
      balanced: {method: msd, steps: 30}
      sample: {method: ddim}      a sample; "fit": a sample, and the generator fitted to it
    grid: {cfg: [2, 3]}           further options, each combination on every setting
    size: [128, 128]              pixels, width first; the model's own if left out
    generator: fourier
    model: model.safetensors      the demo model if left out
    batch: 8                      pictures in one batch

Options are those of `Preset` by plain name, ``method`` and ``start`` ("sample") among them.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..echo import shown
from ..generators import GENERATORS
from ..preset import Preset, preset_of
from ..validation import check_choice, check_count, check_seed

SAMPLED = ("ddim", "fit")
"""Methods of a sweep that distil nothing."""
MOST_CELLS = 1_000_000
_SAMPLE_OPTIONS = {"cfg": 3.0, "steps": 32}


@dataclass(frozen=True)
class Cell:
    """One picture to make: ``options`` are those of its setting, the grid's among them."""

    setting: str
    options: Mapping[str, Any]
    prompt: str
    seed: int


@dataclass(frozen=True)
class Grid:
    """All cells of a sweep; see the module for its fields.

    Raises:
        ValueError: for a field that is not allowed.
    """

    prompts: list[str]
    settings: dict[str, dict[str, Any]]
    seeds: list[int] = field(default_factory=lambda: [0])
    grid: dict[str, list[Any]] = field(default_factory=dict)
    size: tuple[int, int] | None = None
    generator: str = "fourier"
    model: str | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.seeds, list) or not self.seeds:
            raise ValueError(f"seeds: got {shown(self.seeds)}; allowed is a list of whole numbers. Write [0].")
        for seed in self.seeds:
            check_seed("seeds", seed)
        check_count("batch", self.batch, maximum=1024)
        check_choice("generator", self.generator, GENERATORS)
        _check_texts(self.prompts)
        _check_tables(self.settings, self.grid)
        if self.size is not None:
            if not isinstance(self.size, (list, tuple)) or len(self.size) != 2:
                raise ValueError(f"size: got {shown(self.size)}; allowed is [width, height]. Write two whole numbers.")
            for side in self.size:
                check_count("size", side)
        for name, options in self.combinations():
            try:
                plan_of(options)
            except ValueError as error:
                raise ValueError(f"settings: {name!r}: {error}") from error
        if len(self) > MOST_CELLS:
            raise ValueError(f"grid: has {len(self):,} cells; allowed are {MOST_CELLS:,}. Split it.")

    def __len__(self) -> int:
        """How many cells there are."""
        return len(list(self.combinations())) * len(self.prompts) * len(self.seeds)

    def combinations(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """The name and the options of every setting, once a combination of the grid's values."""
        for name, options in self.settings.items():
            for values in itertools.product(*self.grid.values()):
                yield name, {**options, **dict(zip(self.grid, values, strict=True))}

    def cells(self) -> Iterator[Cell]:
        """Setting by setting, seed by seed, prompt by prompt."""
        for (name, options), seed, prompt in itertools.product(self.combinations(), self.seeds, self.prompts):
            yield Cell(name, options, prompt, seed)

    def identity(self, cell: Cell, model: str) -> str:
        """16 digits that are the cell's own; ``model`` is the digest of the model's file."""
        parts = [dict(cell.options), cell.prompt, cell.seed, self.size, self.generator, model]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Plan:
    """What the options of a cell ask for.

    Attributes:
        preset: of the distillation; None where nothing is distilled.
        start: "" or "sample".
        fit: whether a generator is fitted to the sample that is no distillation.
        cfg, steps: of the sample.
    """

    preset: Preset | None
    start: str = ""
    fit: bool = False
    cfg: float = 3.0
    steps: int = 32


def plan_of(options: Mapping[str, Any]) -> Plan:
    """What ``options`` ask for.

    Raises:
        ValueError: for one that is unknown or not allowed.
    """
    rest = {name: _tuples(value) for name, value in options.items()}
    method = rest.pop("method", "msd")
    if method in SAMPLED:
        for name in rest:
            check_choice(f"option of {method}", name, _SAMPLE_OPTIONS)
        return Plan(None, fit=method == "fit", **{**_SAMPLE_OPTIONS, **rest})
    start = rest.pop("start", "")
    check_choice("start", start, ("", "sample"))
    preset = preset_of(method, **rest)
    return Plan(preset, start=start, cfg=preset.cfg)


def grid_of(content: object) -> Grid:
    """The grid that ``content``, read from a file, describes.

    Raises:
        ValueError: for an entry that is missing, unknown or not allowed.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"grid: got {shown(content)}; allowed is a mapping with prompts and settings. Write one.")
    known = Grid.__dataclass_fields__
    for name in content:
        check_choice("entry", name, known)
    for name in ("prompts", "settings"):
        if name not in content:
            raise ValueError(f"{name}: is missing in the grid; it is needed. Add it.")
    size = content.get("size")
    fields = {**content, "prompts": _prompts(content["prompts"]), "size": tuple(size) if size else None}
    return Grid(**fields)


def read_grid(path: Path) -> Grid:
    """The grid in a YAML or JSON file.

    Raises:
        ValueError: the file cannot be read, or describes none.
    """
    import yaml

    try:
        text = path.read_text(encoding="utf-8")
        content = yaml.safe_load(text)
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"grid: {str(path)!r} cannot be read as YAML ({str(error)[:200]}). Correct it.") from error
    return grid_of(content)


def _prompts(entry: Any) -> list[str]:  # noqa: ANN401 - whatever the file holds
    """The prompts themselves, or as many scenes of the demo model's world as are asked for."""
    if not isinstance(entry, Mapping):
        return entry
    from ..demo.evaluate import draw_scenes
    from ..demo.scenes import caption

    for name in entry:
        check_choice("entry of prompts", name, ("drawn", "seed", "things"))
    count, seed, things = entry.get("drawn"), entry.get("seed", 0), entry.get("things", [1, 2, 3])
    check_count("drawn", count, maximum=100_000)
    check_seed("seed", seed)
    if not isinstance(things, list) or not things or any(n not in (1, 2, 3) for n in things):
        raise ValueError(f"things: got {shown(things)}; allowed is a list of 1, 2 and 3. Write [2, 3].")
    assert isinstance(count, int)  # noqa: S101 - checked
    return [caption(scene) for scene in draw_scenes(count, seed, things)]


def _check_texts(prompts: object) -> None:
    if not isinstance(prompts, list) or not prompts or not all(isinstance(p, str) for p in prompts):
        raise ValueError(f"prompts: got {shown(prompts)}; allowed is a list of texts, or drawn ones. Write one.")
    if len(set(prompts)) < len(prompts):
        twice = next(p for p in prompts if prompts.count(p) > 1)
        raise ValueError(f"prompts: got {shown(twice)} twice; allowed is each once. Leave one out, or add a seed.")


def _check_tables(settings: object, grid: object) -> None:
    if not isinstance(settings, Mapping) or not settings or not all(isinstance(s, Mapping) for s in settings.values()):
        raise ValueError(
            f"settings: got {shown(settings)}; allowed is a name and its options for each. Write plain: "
            "{method: msd}."
        )
    if not isinstance(grid, Mapping) or not all(isinstance(v, list) and v for v in grid.values()):
        raise ValueError(f"grid: got {shown(grid)}; allowed is a list of values for each option. Write cfg: [2, 3].")


def _tuples(value: Any) -> Any:  # noqa: ANN401
    return tuple(_tuples(part) for part in value) if isinstance(value, list) else value
