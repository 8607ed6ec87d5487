"""A grid file: which cells a sweep has.

    prompts:                      a list of prompts, or so many drawn ones: {drawn: 100, seed: 4, things: [2, 3]}
    seeds: [0, 1, 2]
    settings:                     a name for each line of the summary, and its options
      fast: {method: msd, preset: fast}
      sample: {method: ddim}      a sample; "fit": a sample, and the generator fitted to it
    grid: {cfg: [2, 3]}           further options, each combination on every setting
    size: [128, 128]              pixels, width first; the model's own if left out
    generator: fourier
    model: model.safetensors      the demo model if left out
    model_kind: demo              or "diffusers": a folder of that library, or a file with its settings beside it
    dtype: float16                of a pipeline; half precision on CUDA and float32 elsewhere if left out
    offload: model                of a pipeline on CUDA: "none", "model" or "sequential"
    batch: 8                      pictures in one batch

Options are those of `Preset` by plain name, and ``method``, ``start`` ("sample"), ``negative`` and ``preset``, the name
of settings in the model's own units (`named`). ``offload`` and ``batch`` change nothing but speed and memory.
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
from ..model import MODELS, SHIPPED
from ..settings import settings_of
from ..validation import check_choice, check_count, check_seed, check_text
from .plan import plan_of

MOST_CELLS = 1_000_000


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
    model_kind: str = "demo"
    dtype: str | None = None
    offload: str | None = None
    batch: int = 8

    def __post_init__(self) -> None:
        if not isinstance(self.seeds, list) or not self.seeds:
            raise ValueError(f"seeds: got {shown(self.seeds)}; allowed is a list of whole numbers. Write [0].")
        for seed in self.seeds:
            check_seed("seeds", seed)
        check_count("batch", self.batch, maximum=1024)
        check_choice("generator", self.generator, GENERATORS)
        if "views" in settings_of(GENERATORS[self.generator].settings):
            raise ValueError(
                f"generator: got {self.generator!r}, which is seen from several sides; allowed are those of one view "
                "in a sweep. Run its cells one by one, with msd distill."
            )
        _check_model(self)
        _check_texts(self.prompts)
        _check_tables(self.settings, self.grid)
        if self.size is not None:
            if not isinstance(self.size, (list, tuple)) or len(self.size) != 2:
                raise ValueError(f"size: got {shown(self.size)}; allowed is [width, height]. Write two whole numbers.")
            for side in self.size:
                check_count("size", side)
        for name, options in self.combinations():
            try:
                plan_of(options, self.generator)
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
        """16 digits that are the cell's own; ``model`` is the digest of the model's files.

        What its options leave to defaults counts as they do: with other defaults it is another cell.
        """
        plan = plan_of(cell.options, self.generator).to_json()
        own = [cell.prompt, cell.seed, self.size, self.generator, model, self.model_kind, self.dtype]
        parts = [dict(cell.options), plan, *own]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


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
    sides = tuple(size) if isinstance(size, list) else size
    fields = {**content, "prompts": _prompts(content["prompts"]), "size": sides}
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


def _check_model(grid: Grid) -> None:
    """Refuse a kind that is none, one without its file, and settings of a pipeline that are none."""
    from ..pipelines.model import DTYPES, OFFLOADS

    check_choice("model_kind", grid.model_kind, MODELS)
    if grid.model is not None:
        check_text("model", grid.model)
    if not grid.model and grid.model_kind not in SHIPPED:
        raise ValueError(f"model: got none with model_kind {grid.model_kind}; allowed is its file or folder. Name it.")
    for name, choices in (("dtype", DTYPES), ("offload", OFFLOADS)):
        value = getattr(grid, name)
        if value is not None:
            check_choice(name, value, choices)
            if grid.model_kind in SHIPPED:
                raise ValueError(
                    f"{name}: got {value!r} with model_kind {grid.model_kind}; allowed with diffusers alone. Leave it "
                    "out."
                )


def _check_tables(settings: object, grid: object) -> None:
    if not isinstance(settings, Mapping) or not settings or not all(isinstance(s, Mapping) for s in settings.values()):
        raise ValueError(
            f"settings: got {shown(settings)}; allowed is a name and its options for each. Write plain: "
            "{method: msd}."
        )
    if not isinstance(grid, Mapping) or not all(isinstance(v, list) and v for v in grid.values()):
        raise ValueError(f"grid: got {shown(grid)}; allowed is a list of values for each option. Write cfg: [2, 3].")
