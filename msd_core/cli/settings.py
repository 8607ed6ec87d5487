"""What a distillation is made of: everything that decides its result, in a form that can be written as JSON."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from ..demo.model import former_model
from ..distillation import METHODS
from ..distillation.base import needs_of
from ..echo import shown
from ..generators import GENERATORS, Generator, generator_for_size
from ..generators.base import SIDE
from ..generators.registry import checked_options
from ..model import Model
from ..named import NAMED, preset_at
from ..pipelines.model import DTYPES
from ..preset import Preset, preset_of
from ..settings import build, flatten
from ..units import units_of
from ..validation import check_choice, check_count
from .arguments import check_cells
from .digests import digest_of
from .flags import flag_of, generator_flags, given

MOST_THREADS = 1024
SAMPLE = "sample"
"""The run begins with a sample of its own prompt."""

DEFAULTS: dict[str, Any] = {
    "generator": "fourier",
    "size": None,
    "seed": 0,
    "negative": "",
    "threads": None,
    "start": "",
    "source": "",
    "source_prompt": "",
    "dtype": None,
}
"""Of what is no part of a preset; the size is the model's own, the threads are torch's."""


@dataclass(frozen=True)
class Settings:
    """One run; two runs of equal settings give equal files.

    ``model`` is the SHA-256 of the model's file, ``start`` that of the picture to begin with, or "sample", or nothing;
    ``source`` that of the picture to edit, or nothing, and ``source_prompt`` what it shows.
    ``options`` are the generator's own, all of them, by plain name. ``dtype`` is a pipeline's, None where its device
    decides.
    ``threads`` of the processor belong to it: sums are split among them, and the last bits of a result depend on how.
    """

    prompt: str
    negative: str
    preset: Preset
    generator: str
    size: tuple[int, int]
    seed: int
    model: str
    threads: int
    start: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    dtype: str | None = None
    source: str = ""
    source_prompt: str = ""

    @property
    def method(self) -> str:
        """Name of the method."""
        return METHODS.name_of(self.preset.method)

    def make_generator(self, model: Model) -> Generator:
        """The generator at its start."""
        sizes = {"channels": model.channels, "cell": model.cell}
        return generator_for_size(self.generator, *self.size, seed=self.seed, **sizes, **self.options)

    def to_json(self) -> dict[str, Any]:
        """Nested dictionaries of plain values."""
        return {**vars(self), "preset": self.preset.to_json()}

    @classmethod
    def from_json(cls, saved: Mapping[str, Any]) -> Settings:
        """The settings that `to_json` gave, in this release or an earlier one.

        Raises:
            ValueError: an entry is missing, unknown or not allowed.
        """
        try:
            entries: dict[str, Any] = {"threads": torch.get_num_threads(), **saved}
            old = entries.pop("method", None)
            preset = Preset.from_json(entries["preset"]) if old is None else _upgraded(old, entries["preset"])
            options = {name: _plain(value) for name, value in entries.get("options", {}).items()}
            settings = cls(**entries | {"preset": preset, "size": tuple(entries["size"]), "options": options})
            settings._check()
            return settings
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"settings: the saved ones are damaged ({error}). Start a new run.") from error

    def _check(self) -> None:
        """Refuse entries that are not a preset's and not what `new_settings` makes."""
        for name in ("prompt", "negative", "model", "start", "source", "source_prompt"):
            if not isinstance(getattr(self, name), str):
                raise ValueError(f"{name}: got {getattr(self, name)!r}; allowed is a text. Start a new run.")
        checked_options(self.generator, self.options)
        if self.dtype is not None:
            check_choice("dtype", self.dtype, DTYPES)
        check_count("seed", self.seed, minimum=0, maximum=2**64 - 1)
        check_count("threads", self.threads, maximum=MOST_THREADS)
        if len(self.size) != 2:
            raise ValueError(f"size: got {self.size}; allowed are a width and a height. Start a new run.")
        for side in self.size:
            check_count("size", side, maximum=SIDE)


def _upgraded(method: str, saved: Mapping[str, Any]) -> Preset:
    """The preset of a run of version 0.1: all its options side by side under plain names, the unused ones too."""
    values = {name: tuple(map(_plain, value)) if isinstance(value, list) else value for name, value in saved.items()}
    kinds = {name: values[name] for name in ("estimator", "bandwidth_schedule") if name in values}
    chosen = build(preset_of(method), kinds)
    known = flatten(chosen)
    return build(chosen, {name: value for name, value in values.items() if name in known and value is not None})


def new_settings(arguments: argparse.Namespace, model: Model, digest: str) -> Settings:
    """The settings of a new run: what was given, and the defaults for the rest.

    Raises:
        ValueError: there is no prompt, a name is unknown, or an option is no option of the method.
    """
    if arguments.prompt is None:
        raise ValueError("PROMPT: got none; a new run needs one. Write e.g. msd distill 'a red circle' --out out")
    run = {
        name: default if getattr(arguments, name) is None else getattr(arguments, name)
        for name, default in DEFAULTS.items()
    }
    run["size"] = run["size"] or (model.side, model.side)
    run["threads"] = run["threads"] or torch.get_num_threads()
    run["source"] = source_of(run["source"])
    run["start"] = start_of(run["start"] or started(arguments.preset)) or run["source"]
    check_cells(run["size"], model.cell)
    check_choice("--generator", run["generator"], GENERATORS)
    changes = given(arguments)
    method = changes.pop("method", "msd")
    check_choice("--method", method, METHODS)
    try:
        kind = GENERATORS[run["generator"]]
        preset = preset_at(lambda: units_of(model, *run["size"]), method, changes, kind, arguments.preset)
        options = checked_options(run["generator"], given(arguments, generator_flags()))
    except ValueError as error:
        raise ValueError(by_flag(str(error))) from error
    return Settings(prompt=arguments.prompt, preset=preset, model=digest, options=options, **run)


def drawing() -> list[str]:
    """Names of the methods that draw a picture from its prompt; the others edit one."""
    return [name for name, kind in METHODS.items() if "source" not in needs_of(kind)]


def started(preset: str | None) -> str:
    """What a preset of this name begins with: nothing, or a "sample".

    Raises:
        ValueError: for an unknown name.
    """
    if preset is None:
        return ""
    check_choice("--preset", preset, NAMED)
    return NAMED[preset].start


def start_of(given: str) -> str:
    """What `Settings` says of ``--start``.

    Raises:
        ValueError: it is neither "sample" nor a file.
    """
    if given in ("", SAMPLE):
        return given
    digest = digest_of(Path(given))
    if not digest:
        raise ValueError(f"--start: got {shown(given)}, which is no file; allowed are a picture and 'sample': name one")
    return digest


def source_of(given: Path | str) -> str:
    """What `Settings` says of ``--source``.

    Raises:
        ValueError: it is no file.
    """
    digest = digest_of(Path(given)) if given else ""
    if given and not digest:
        raise ValueError(f"--source: got {shown(str(given))}, which is no file; allowed is a picture: name one")
    return digest


def by_flag(message: str) -> str:
    """An error's text that begins with a plain name, beginning with its flag instead."""
    names, colon, text = message.partition(":")
    plain = names.split(", ")
    if not all(name.isidentifier() for name in plain):
        return message
    return f"{', '.join(map(flag_of, plain))}{colon}{text}"


def check_unchanged(arguments: argparse.Namespace, settings: Settings, digest: str) -> None:
    """Refuse to resume with arguments, or with a model, other than the run's own.

    Raises:
        ValueError: naming the first that differs.
    """
    if arguments.preset is not None:
        raise ValueError(
            f"--preset: got {shown(arguments.preset)} with --resume; the run to resume has its numbers already. Leave "
            "it out, or start a new run in another folder."
        )
    saved = {**settings.to_json(), **flatten(settings.preset), **settings.options}
    names = {name: getattr(arguments, name) for name in ("prompt", *DEFAULTS) if getattr(arguments, name) is not None}
    if "start" in names:
        names["start"] = start_of(names["start"])
    if "source" in names:
        names["source"] = source_of(names["source"])
    for name, value in {**names, **given(arguments), **given(arguments, generator_flags())}.items():
        if _plain(value) != _plain(saved.get(name)):
            flag = "PROMPT" if name == "prompt" else flag_of(name)
            raise ValueError(
                f"{flag}: got {value!r}, but the run to resume has {saved.get(name)!r}; leave it out, or "
                "start a new run in another folder"
            )
    if settings.model != digest:
        former = former_model(settings.model)
        raise ValueError(
            f"--model: got other weights than those of the run to resume; {former or 'pass the same model'}"
        )


def _plain(value: object) -> object:
    """Lists as tuples, as JSON does not tell them apart."""
    return tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else value
