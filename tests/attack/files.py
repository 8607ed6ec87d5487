"""Damaged and forged files, by the thousand: `python tests/attack/files.py --count 10000 --seed 1 [--memory-gb 2]`.

A file of every kind that the project reads is spoilt, as bytes or in its structure, and read. Allowed are two ends: a
ValueError, or something that loads and of which all that is drawn is finite; within a second of this process's own
time, and without memory that stays. Number i of a seed is always the same file, whatever was read before it.

The limit of memory (RLIMIT_AS) counts addresses, not pages: torch alone maps gigabytes. So it is set once everything is
imported and each sample was read once, to what is mapped then and --memory-gb more. A refusal because of it is a
failure: the file should have been refused for what it says.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import itertools
import json
import math
import random
import resource
import signal
import struct
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import msd_core  # noqa: E402
from msd_core import load_generator, load_model, make_generator, optimize, save_generator, save_state  # noqa: E402
from msd_core.cli.settings import Settings  # noqa: E402
from msd_core.cli.unfinished import read_frames, saved_settings  # noqa: E402
from msd_core.demo.model import DEMO_MODEL_PATH, load_demo_model  # noqa: E402
from msd_core.tensorfile import write_tensors  # noqa: E402
from msd_core.training import training_steps  # noqa: E402

SECONDS, HANGS = 1.0, 10.0
"""Most time of the process for a file; after the second number it is stopped."""
SMALL = {"hidden": 8, "layers": 2, "resolution": 16}
OPTIONS = {
    "pixels": {"height": 6, "width": 8},
    "latent": {"channels": 4, "height": 4, "width": 6},
    "vector": {"height": 6, "width": 8, "paths": 4, "strokes": 3},
    "pixel-art": {"height": 6, "width": 8, "cells": 8, "colours": 3},
    "volume": {"height": 6, "width": 8, "rays": 4, "ray_samples": 4},
    "sticker": {"height": 6, "width": 8, "hidden": 8, "layers": 1},
}
NUMBERS = (0, -1, 1, 2, 7, 100, 16000, 10**6, 2**31, 2**63, 2**64, 10**30, 10**400, 0.5, -2.5, 1e-300, 1e38, 1e300)
VALUES = (
    *NUMBERS,
    math.nan,
    math.inf,
    True,
    None,
    "",
    "8",
    "é" * 500,
    [],
    [1],
    [[2, 3]] * 9,
    {},
    {"a": 1},
    [2**20] * 3,
)
TEXTS = ("", "0", "-3", "7", "9" * 5000, "nan", "1e999", "{", "[" * 5000, '{"a":' * 900, "\x00", "é" * 4000, "[1, 2]")
DTYPES = ("F64", "F16", "BF16", "F8_E4M3", "F8_E5M2", "C64", "I64", "U64", "U8", "BOOL", "F4", "F32", "X", "", 3, None)
FLOATS = (math.nan, math.inf, -math.inf, 3.4e38, -3.4e38, 1e38, 1e30, 1e20, -1e10, 1e6, 1e-45)


class Hang(BaseException):
    """Not an Exception, so that nothing takes it for an error of its own."""


@dataclass(frozen=True)
class Sample:
    """A good file, and how it is read: the reader returns all that can be drawn of it."""

    name: str
    content: bytes
    read: Callable[[Path], list[Tensor]]
    share: float = 1.0


# --- the good files ---------------------------------------------------------------------------------------------------


def drawn(generator: msd_core.Generator) -> list[Tensor]:
    sizes = [(5, 7), (64, 64), (90, 31)]
    with torch.no_grad():
        return [generator.render(generator.frame(*size)) for size in sizes]


def read_state(path: Path) -> list[Tensor]:
    state = msd_core.load_state(path)
    saved_settings(path, state.metadata)
    return [*drawn(state.generator), state.picture(9, 9)]


def read_model(path: Path) -> list[Tensor]:
    load_demo_model.cache_clear()
    model = load_model(path)
    denoised = model.denoiser("a red circle", cfg=3.0)(torch.linspace(-3, 3, 256).reshape(1, 4, 8, 8), 2.0)
    assert model.decode is not None
    return [denoised, model.decode(denoised)]


def read_checkpoint(path: Path) -> list[Tensor]:
    model = nn.Linear(3, 2)
    steps = training_steps(
        model, lambda step: model.weight.square().sum() + model.bias.square().sum(), path,
        steps=3, lr=0.1, decay_fraction=0.5, save_every=2, extra=nn.Linear(3, 2),
    )  # fmt: skip
    losses = [step.loss for step in steps]
    return [torch.tensor(losses), *model.parameters()]


def samples(folder: Path) -> list[Sample]:
    """A sample of every kind of file, made in ``folder``."""
    path, found = folder / "sample", []
    kinds = {kind: make_generator(kind, **OPTIONS.get(kind, SMALL)) for kind in msd_core.GENERATORS}
    kinds["batch"] = msd_core.Batch([make_generator("siren", **SMALL, seed=i) for i in range(2)])
    kinds["points"] = msd_core.Points(torch.linspace(0, 1, 6, dtype=torch.float64).reshape(3, 2))
    for kind, generator in kinds.items():
        save_generator(generator, path)
        found.append(Sample(kind, path.read_bytes(), lambda p: drawn(load_generator(p))))
    settings = Settings("a", "", msd_core.preset_of("msd"), "fourier", (64, 64), 0, "0" * 64, 1)
    denoiser = msd_core.with_levels(lambda z, sigma: z * 0.5, msd_core.sd15_schedule())
    about = {"settings": json.dumps(settings.to_json()), "seconds": "1.5"}
    for kind, optimizer in itertools.product(("fourier", "batch"), ("adam", "gd")):
        first = msd_core.start(kinds[kind], steps=4, seed=1)
        config = msd_core.OptimizerConfig(optimizer)
        *_, state = itertools.islice(optimize(first, msd_core.SDS(), denoiser, optimizer=config), 2)
        save_state(state, path, about)
        found.append(Sample(f"state, {kind}, {optimizer}", path.read_bytes(), read_state))
    frames = {f"{step:08}": torch.full((8, 9, 3), step, dtype=torch.uint8) for step in (1, 2)}
    write_tensors(path, frames, "msd-frames", "1", {})
    found.append(Sample("frames", path.read_bytes(), lambda p: [] if read_frames(p) else []))
    path.unlink()
    read_checkpoint(path)
    found.append(Sample("checkpoint", path.read_bytes(), read_checkpoint, 2.0))
    return [*found, Sample("model", DEMO_MODEL_PATH.read_bytes(), read_model, 0.3)]


# --- what is done to them ---------------------------------------------------------------------------------------------


def spoil_bytes(content: bytes, rng: random.Random) -> bytes:
    """Bytes changed, cut off, cut out, put in, or the length of the header."""
    data, first = bytearray(content), rng.choice([9, 200, 2000, len(content)])
    at, length = rng.randrange(min(first, len(data))), rng.choice([1, 4, 64, 1000])
    way = rng.randrange(7)
    if way == 0:
        for _ in range(rng.choice([1, 3, 16])):
            data[rng.randrange(min(first, len(data)))] = rng.randrange(256)
    elif way == 1:
        return content[:at]
    elif way == 2:
        del data[at : at + length]
    elif way == 3:
        data[at:at] = rng.randbytes(length)
    elif way == 4:
        data[at : at + length] = bytes([rng.choice([0, 255, 127, 34, 91])]) * length
    elif way == 5:
        data[:8] = struct.pack("<Q", rng.choice([0, 1, 7, 2**20, 2**26, 2**40, 2**64 - 1, len(data), len(data) - 8]))
    else:
        data += rng.randbytes(length)
    return bytes(data)


def spoil_structure(content: bytes, rng: random.Random) -> bytes:
    """One to three changes of the header, its text, its config, or the numbers."""
    size = int.from_bytes(content[:8], "little")
    header, data = json.loads(content[8 : 8 + size]), bytearray(content[8 + size :])
    for _ in range(rng.choice([1, 1, 1, 2, 3])):
        edit = rng.choice([_entry, _entry, _names, _text, _config, _config, _config, _numbers, _numbers, _flood])
        with contextlib.suppress(TypeError, LookupError, ValueError, ArithmeticError):  # no room for it
            edit(header, data, rng)
    text = json.dumps(header, ensure_ascii=rng.random() < 0.9).encode("utf-8", "replace")
    return len(text).to_bytes(8, "little") + text + bytes(data)


def _tensor(header: dict, rng: random.Random) -> str:
    return rng.choice([name for name in header if name != "__metadata__"] or ["x"])


def _entry(header: dict, data: bytearray, rng: random.Random) -> None:
    """Another type, shape or place of a tensor; the place fits the shape in half of them."""
    name = _tensor(header, rng)
    one = header.get(name)
    if not isinstance(one, dict) or rng.random() < 0.05:
        header[name] = rng.choice(VALUES)
        return
    way = rng.randrange(5)
    if way == 0:
        one["dtype"] = rng.choice(DTYPES)
        width = {"F64": 8, "C64": 8, "I64": 8, "U64": 8, "F16": 2, "BF16": 2, "F32": 4, "F4": 0.5}.get(one["dtype"], 1)
        if rng.random() < 0.8 and isinstance(one.get("shape"), list):
            _resize(header, data, name, int(math.prod(s for s in one["shape"] if isinstance(s, int)) * width))
    elif way == 1 and one.get("shape"):
        one["shape"][rng.randrange(len(one["shape"]))] = rng.choice(VALUES)
    elif way == 2 and isinstance(one.get("shape"), list):
        one["shape"] = rng.choice([one["shape"][::-1], [*one["shape"], 1], one["shape"][1:], [1] * 3000, [0, 2**62]])
    elif way == 3:
        one["data_offsets"] = [rng.choice(NUMBERS), rng.choice(NUMBERS)]
    else:
        one[rng.choice(["dtype", "shape", "data_offsets", "more"])] = rng.choice(VALUES)


def _resize(header: dict, data: bytearray, name: str, size: int) -> None:
    """Give a tensor as many bytes as its new type needs, and move those behind it."""
    start, end = header[name]["data_offsets"]
    size = min(size, 2**20)
    data[start:end] = (bytes(data[start:end]) * (size // max(end - start, 1) + 1))[:size]
    for other, one in header.items():
        if other != "__metadata__" and isinstance(one, dict) and one["data_offsets"][0] >= end:
            one["data_offsets"] = [place + size - (end - start) for place in one["data_offsets"]]
    header[name]["data_offsets"] = [start, start + size]


def _names(header: dict, data: bytearray, rng: random.Random) -> None:
    """A tensor renamed, missing, or there twice."""
    name, one = (lambda name: (name, header.pop(name, {})))(_tensor(header, rng))
    new = rng.choice([name + ".x", "generator." + name, name[1:], "", "é" * 300, "__metadata", "rng", "00000009", name])
    if rng.random() < 0.7:
        header[new] = one
    if rng.random() < 0.3:
        header["more"] = {"dtype": "F32", "shape": [1], "data_offsets": [len(data), len(data) + 4]}
        data += bytes(4)


def _text(header: dict, data: bytearray, rng: random.Random) -> None:
    about = header.get("__metadata__")
    if not isinstance(about, dict) or not about:
        return
    name = rng.choice(list(about))
    way = rng.random()
    if way < 0.3:
        del about[name]
    elif way < 0.9:
        about[name] = rng.choice([*TEXTS, *about.values(), *map(str, NUMBERS)])
    else:
        about[name] = rng.choice(VALUES)


def _config(header: dict, data: bytearray, rng: random.Random) -> None:
    """One value of a text entry that is JSON."""
    about = header.get("__metadata__")
    names = [n for n in ("config", "settings", "seed") if isinstance(about, dict) and n in about]
    if not names:
        return
    name = rng.choice(names)
    try:
        config = json.loads(about[name])
    except (TypeError, ValueError, RecursionError):
        return
    holders = list(_holders(config))
    if not holders:
        about[name] = json.dumps(rng.choice(VALUES))
        return
    holder = rng.choice(holders)
    keys = list(holder) if isinstance(holder, dict) else list(range(len(holder)))
    if not keys:
        return
    key, way = rng.choice(keys), rng.random()
    if way < 0.1:
        del holder[key]
    elif way < 0.2 and isinstance(holder, dict):
        holder[rng.choice(["more", "kind", "seed", "levels", "x", "members", "hidden"])] = rng.choice(VALUES)
    elif way < 0.3 and isinstance(holder[key], (int, float)):
        holder[key] = holder[key] * rng.choice([2, 0.5, -1]) + rng.choice([0, 1])
    else:
        holder[key] = rng.choice(VALUES)
    about[name] = json.dumps(config)


def _holders(value: object) -> Iterator[dict | list]:
    if isinstance(value, (dict, list)):
        yield value
        for part in value.values() if isinstance(value, dict) else value:
            yield from _holders(part)


def _numbers(header: dict, data: bytearray, rng: random.Random) -> None:
    """Numbers of a tensor replaced by extreme ones, or by bits."""
    one = header.get(_tensor(header, rng))
    if not isinstance(one, dict) or not isinstance(one.get("data_offsets"), list) or not data:
        return
    kind, size = {"F64": ("<d", 8), "F16": ("<H", 2)}.get(str(one.get("dtype")), ("<f", 4))
    number = rng.randrange(2**16) if size == 2 else rng.choice(FLOATS)
    packed = struct.pack(kind, number)
    start, end = (min(max(int(place), 0), len(data)) for place in map(_finite, one["data_offsets"]))
    count = max(end - start, 0) // size
    chosen = range(count) if rng.random() < 0.5 else [rng.randrange(count) for _ in range(min(count, 3))]
    for i in chosen:
        place = start + i * size
        data[place : place + size] = rng.randbytes(size) if number == 1e-45 else packed
        if rng.random() < 0.1 and size > 2:
            data[place + size - 1] ^= 128


def _finite(value: object) -> float:
    return value if isinstance(value, (int, float)) and abs(value) < 1e15 else 0.0


def _flood(header: dict, data: bytearray, rng: random.Random) -> None:
    """Very many tensors, very much text, or very deep text."""
    way = rng.randrange(4)
    if way == 0:
        count = rng.choice([500, 20_000])
        header.update({f"{rng.random()}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for _ in range(count)})
    elif isinstance(header.get("__metadata__"), dict):
        name = rng.choice(["config", "settings", "seed", "more"])
        texts = (
            "[" * 200_000,
            "9" * 200_000,
            json.dumps([[]] * 100_000),
            json.dumps({"members": [["siren", {}]] * 9999}),
        )
        header["__metadata__"][name] = rng.choice(texts)


def spoil_checkpoint(content: bytes, rng: random.Random) -> bytes:
    """One value inside of a checkpoint."""
    saved = torch.load(io.BytesIO(content), weights_only=True)
    holders = [holder for holder in _holders(saved) if holder]
    holder = rng.choice(holders)
    key = rng.choice(list(holder) if isinstance(holder, dict) else list(range(len(holder))))
    value, way = holder[key], rng.random()
    if way < 0.15:
        del holder[key]
    elif way < 0.25 and isinstance(holder, dict):
        holder["more"] = value
    elif isinstance(value, Tensor) and way < 0.9:
        numbers = [torch.full_like(value, number) for number in FLOATS]
        types = [value.double(), value.half(), value.to(torch.complex64), value.int(), value.to(torch.float8_e4m3fn)]
        holder[key] = rng.choice([*numbers, *types, value[None], value.flatten()[:1], torch.zeros(1).expand(2**30)])
    else:
        holder[key] = rng.choice(VALUES)
    buffer = io.BytesIO()
    torch.save(saved, buffer)
    return buffer.getvalue()


def spoilt(sample: Sample, rng: random.Random) -> bytes:
    """``sample`` in one of these ways."""
    if rng.random() < 0.3:
        return spoil_bytes(sample.content, rng)
    return (spoil_checkpoint if sample.name == "checkpoint" else spoil_structure)(sample.content, rng)


# --- judging ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """What came of a file: "refused", "loaded", or what is wrong; and the seconds that it took."""

    what: str
    seconds: float = 0.0

    @property
    def good(self) -> bool:
        return self.what in ("refused", "loaded")


def judge(read: Callable[[Path], list[Tensor]], path: Path) -> Verdict:
    """Read a file, under a clock that counts this process's own time."""
    signal.signal(signal.SIGPROF, _hang)
    signal.setitimer(signal.ITIMER_PROF, HANGS)
    began = time.process_time()
    try:
        verdict = _judged(read, path)
    except Hang:
        verdict = Verdict("hangs")
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    seconds = time.process_time() - began
    return replace(verdict if seconds < SECONDS or not verdict.good else Verdict("takes too long"), seconds=seconds)


def _hang(*_: object) -> None:
    raise Hang


def _judged(read: Callable[[Path], list[Tensor]], path: Path) -> Verdict:
    try:
        pictures = read(path)
    except ValueError as error:
        told = str(error)
        if "allocate" in told or "mmap" in told or "memory" in told.replace("memory of", ""):
            return Verdict(f"memory: {told[:200]}")
        return Verdict("refused" if len(told) < 2000 and ": " in told else f"unclear: {told[:200]}")
    except Exception as error:
        return Verdict(f"{type(error).__name__}: {str(error)[:200]}")
    if not all(torch.isfinite(picture).all() for picture in pictures):
        return Verdict("draws NaN or infinity")
    return Verdict("loaded")


def resident() -> float:
    """MB of memory in use."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize() / 1e6


def limit_memory(gigabytes: float) -> None:
    """See the module."""
    mapped = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (mapped + int(gigabytes * 1e9),) * 2)


def attack(count: int, seed: int, folder: Path, known: list[Sample], keep: Path | None = None) -> int:
    """Read ``count`` spoilt files and print what came of them; the number of failures."""
    ends: Counter[str] = Counter()
    usage: list[float] = []
    slowest, path = 0.0, folder / "spoilt"
    for i in range(count):
        rng = random.Random(f"{seed}/{i}")  # noqa: S311
        sample = rng.choices(known, [one.share for one in known])[0]
        content = spoilt(sample, rng)
        path.write_bytes(content)
        verdict = judge(sample.read, path)
        slowest = max(slowest, verdict.seconds)
        ends[verdict.what if verdict.good else "failures"] += 1
        if not verdict.good:
            print(
                f"{seed}/{i} {sample.name}, {len(content)} bytes, {verdict.seconds:.2f} s: {verdict.what}", flush=True
            )
            if keep is not None:
                (keep / f"{seed}-{i}").write_bytes(content)
        if i % 100 == 99:
            usage.append(resident())
    half = usage[len(usage) // 2 :]
    growth = 10 * float(np.polyfit(range(len(half)), half, 1)[0]) if len(half) > 1 else 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    print(
        f"seed {seed}: {count} files, {ends['refused']} refused, {ends['loaded']} loaded and drew numbers, "
        f"{ends['failures']} failures; slowest {slowest:.2f} s; memory at most {peak:.0f} MB, "
        f"in the second half {growth:+.2f} MB a thousand files"
    )
    return ends["failures"] + (growth > 5 and count >= 5000)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--memory-gb", type=float, default=2.0)
    parser.add_argument("--keep", type=Path, help="folder for the files that fail")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as name:
        known = samples(Path(name))
        for sample in known:
            (Path(name) / "good").write_bytes(sample.content)
            verdict = judge(sample.read, Path(name) / "good")
            if verdict.what != "loaded":
                raise SystemExit(f"{sample.name}, which is good: {verdict.what}")
        limit_memory(arguments.memory_gb)
        return min(1, attack(arguments.count, arguments.seed, Path(name), known, arguments.keep))


if __name__ == "__main__":
    sys.exit(main())
