"""What a distillation is made of: everything that decides its result, in a form that can be written as JSON."""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..generators import GENERATORS, Generator, make_generator
from ..presets import PRESETS, Preset
from ..validation import check_choice
from .arguments import CELL

DEFAULTS: dict[str, Any] = {"method": "msd", "generator": "fourier", "size": (64, 64), "seed": 0, "negative": ""}
"""Of what is no part of a method's preset."""

PRESET_OPTIONS = tuple(dict.fromkeys(field.name for preset in PRESETS.values() for field in dataclasses.fields(preset)))


@dataclass(frozen=True)
class Settings:
    """One run; two runs of equal settings give equal files. ``model`` is the SHA-256 of the model's file."""

    prompt: str
    negative: str
    method: str
    preset: Preset
    generator: str
    size: tuple[int, int]
    seed: int
    model: str

    def make_generator(self) -> Generator:
        """The generator at its start."""
        width, height = self.size
        options: dict[str, Any] = {"resolution": max(width, height), "seed": self.seed}
        if self.generator == "pixels":
            options = {"height": height, "width": width}
        elif self.generator == "latent":
            options = {"channels": 4, "height": height // CELL, "width": width // CELL, "seed": self.seed}
        return make_generator(self.generator, **options)

    def grid(self) -> tuple[int, int]:
        """Height and width at which the generator is optimised: in pixels, or in cells of a latent."""
        width, height = self.size
        return (height // CELL, width // CELL) if self.generator == "latent" else (height, width)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, saved: dict[str, Any]) -> Settings:
        """The settings that `to_json` gave."""
        preset = dataclasses.replace(PRESETS[saved["method"]], **saved["preset"])
        return cls(**saved | {"preset": preset, "size": tuple(saved["size"])})


def new_settings(arguments: argparse.Namespace, model: str) -> Settings:
    """The settings of a new run: what was given, and the defaults for the rest.

    Raises:
        ValueError: there is no prompt, a name is unknown, or an option is no option of the method.
    """
    given = _given(arguments)
    if "prompt" not in given:
        raise ValueError("PROMPT: got none; a new run needs one. Write e.g. msd distill 'a red circle' --out out")
    run = DEFAULTS | {name: value for name, value in given.items() if name not in PRESET_OPTIONS}
    check_choice("--method", run["method"], PRESETS)
    check_choice("--generator", run["generator"], GENERATORS)
    preset, changes = PRESETS[run["method"]], {name: given[name] for name in PRESET_OPTIONS if name in given}
    for name, value in changes.items():
        if not hasattr(preset, name):
            users = ", ".join(method for method, other in PRESETS.items() if hasattr(other, name))
            raise ValueError(
                f"{_flag(name)}: got {value!r} with --method {run['method']}; allowed with {users}. "
                "Leave it out or change the method."
            )
    return Settings(**run, preset=dataclasses.replace(preset, **changes), model=model)


def check_unchanged(arguments: argparse.Namespace, settings: Settings, model: str) -> None:
    """Refuse to resume with arguments, or with a model, other than the run's own.

    Raises:
        ValueError: naming the first that differs.
    """
    saved = settings.to_json()
    saved |= saved.pop("preset")
    for name, value in _given(arguments).items():
        if _plain(value) != _plain(saved.get(name)):
            raise ValueError(
                f"{_flag(name)}: got {value!r}, but the run to resume has {saved.get(name)!r}; leave it out, or "
                "start a new run in another folder"
            )
    if settings.model != model:
        raise ValueError("--model: got another file than that of the run to resume; pass the same one")


def digest(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _given(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that stand on the command line."""
    values = {name: getattr(arguments, name) for name in ("prompt", *DEFAULTS, *PRESET_OPTIONS)}
    return {name: value for name, value in values.items() if value is not None}


def _flag(name: str) -> str:
    return "PROMPT" if name == "prompt" else f"--{name.replace('_', '-')}"


def _plain(value: object) -> object:
    """Tuples and lists alike, as JSON does not tell them apart."""
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
