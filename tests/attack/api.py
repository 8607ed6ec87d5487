# ruff: noqa: ANN401 - arguments of any kind are the matter here
"""An attack on the Python API: seeded calls of everything public with good and odd arguments.

    python tests/attack/api.py --count 5000 --seed 3

A call draws good arguments and then replaces some of them by odd ones: wrong shapes and types, the device "meta", NaN,
infinity, negative and huge numbers, None, texts, lists, arrays, denoisers that broadcast or return a tuple. A result is
right if it has x's shape, is finite where everything given was, and if lists and arrays give what tensors give. All
else must be a ValueError of readable length that names one of the call's arguments.

Not attacked: huge sizes of pictures and networks, which are a matter of memory; protocols and records (`RECORDS`).
"""

from __future__ import annotations

import argparse
import contextlib
import random
import re
import signal
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from api_targets import RECORDS, Target, core_targets, research_targets
from api_values import BAD_DENOISERS, GOOD, ODD, OWN_ODD, Case, nan_denoiser, never_right
from torch import Tensor

from msd_core.echo import shown

SECONDS, LONGEST = 10, 1500
__all__ = ["BAD_DENOISERS", "RECORDS"]


def tame(value: Any) -> bool:
    """Whether a value is finite and of usual size, so that a result has to be finite."""
    if isinstance(value, Tensor):
        usual = value.layout == torch.strided and value.dtype != torch.float8_e5m2
        plain = usual and value.is_floating_point() and not value.is_meta
        return plain and bool((value.detach().abs() < 1e6).all())
    if isinstance(value, (int, float, np.number)):
        return bool(abs(value) < 1e6)
    if isinstance(value, (list, tuple)):
        return all(map(tame, value))
    return value is not nan_denoiser and not isinstance(value, np.ndarray)


def as_other(value: Tensor, r: random.Random) -> Any:
    """A tensor as a list or an array of the same numbers and, for a list, of the same type."""
    return value.tolist() if r.random() < 0.5 and value.dtype == torch.get_default_dtype() else value.numpy()


def numbers_of(result: Any) -> list[Tensor]:
    """The tensors in a result."""
    if isinstance(result, Tensor):
        return [result]
    return [t for part in result for t in numbers_of(part)] if isinstance(result, (tuple, list)) else []


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise TimeoutError after `SECONDS` of this process's time."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"over {SECONDS} s")

    before = signal.signal(signal.SIGPROF, stop)
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)


@contextlib.contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def fault_of(target: Target, given: dict[str, Any], odd: set[str], reference: Any = None) -> tuple[str, Any]:
    """What is wrong with a call, or nothing; and its result, None if it was refused."""
    try:
        with limited(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            result = target.call(**given)
    except ValueError as error:
        text = str(error)
        names = re.split(r", ", text.partition(":")[0])
        known = {"z", *given, *target.also, *(part for name in target.also for part in name.split(", "))}
        if not odd and not target.refuses:
            return f"good arguments were refused: {text[:300]}", None
        if len(text) > LONGEST:
            return f"a message of {len(text)} characters: {text[:80]}", None
        unnamed = not all(name.split("[")[0] in known for name in names)
        return (f"names no argument of its own: {text[:300]}" if unnamed else ""), None
    except Exception as error:  # noqa: BLE001 - what the attack looks for
        return f"{type(error).__name__}: {str(error)[:300]}", None
    for name in odd:
        if never_right(target.kinds[name], given[name]):
            return f"accepted {name}", result
    return _wrong(target, given, result, reference), result


def _wrong(target: Target, given: dict[str, Any], result: Any, reference: Any) -> str:
    """What is wrong with a result."""
    if target.shaped:
        shape = (
            np.shape(given[target.shaped])
            if not isinstance(given[target.shaped], Tensor)
            else given[target.shaped].shape
        )
        if not isinstance(result, Tensor) or tuple(result.shape) != tuple(shape):
            return f"result of {getattr(result, 'shape', type(result))}, not of {target.shaped}'s shape {tuple(shape)}"
        if all(map(tame, given.values())) and not bool(torch.isfinite(result.detach()).all()):
            return "a result that is not finite, of finite arguments"
    for got, wanted in zip(numbers_of(result), numbers_of(reference), strict=False):
        if not torch.allclose(got.detach().double(), wanted.detach().double(), rtol=1e-4, atol=1e-5, equal_nan=True):
            return "lists or arrays give another result than tensors"
    return ""


def attack(seed: int, targets: list[Target]) -> tuple[str, str, str]:
    """One call: (target, outcome, fault)."""
    c = Case(seed)
    target = c.r.choice(targets)
    how = c.r.choice(["good", "other", "odd", "odd", "odd", "odd"])
    with default_dtype(c.r.choice([torch.float32] * 4 + [torch.float64])):
        given = {name: GOOD[kind](c) for name, kind in target.kinds.items()}
        if how == "other":
            state = c.torch.get_state()
            fault, reference = fault_of(target, given, set())
            changed = {k: as_other(v, c.r) for k, v in given.items() if _convertible(target.kinds[k], v)}
            c.torch.set_state(state)
            fresh = {k: GOOD["rng"](c) if target.kinds[k] == "rng" else v for k, v in given.items()}
            given = fresh | changed
            fault = fault or fault_of(target, given, set(), reference)[0]
            return target.name, "equal", fault and f"{fault} [{_told(given, set(changed))}]"
        names = c.r.sample(list(given), k=min(len(given), c.r.choice([1, 1, 2]))) if how == "odd" else []
        for name in names:
            own = OWN_ODD.get(target.kinds[name], [])
            given[name] = c.r.choice(own) if own and c.r.random() < 0.5 else c.r.choice(ODD)(c)
            if target.kinds[name] in ("estimator", "solver_estimator", "upward", "method") and callable(given[name]):
                given[name] = (
                    object()
                )  # a function is an estimator, step or method of one's own, and may do what it likes
        fault, result = fault_of(target, given, set(names))
    outcome = "refused" if result is None else "returned"
    return target.name, outcome, fault and f"{fault} [{_told(given, set(names))}]"


_WHOLE = ("leaf",)


def _convertible(kind: str, value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim > 0 and kind not in _WHOLE and not value.requires_grad


def _told(given: dict[str, Any], names: set[str]) -> str:
    return f"default {torch.get_default_dtype()}; " + ", ".join(
        f"{name}={shown(given[name])[:80]}" for name in sorted(names)
    )


def run(count: int, seed: int) -> tuple[Counter[str], list[str]]:
    """``count`` calls; outcomes, and a line for each fault."""
    targets = core_targets() + research_targets()
    outcomes: Counter[str] = Counter()
    faults = []
    for number in range(count):
        name, outcome, fault = attack(seed * 1_000_003 + number, targets)
        outcomes["fault" if fault else outcome] += 1
        if fault:
            faults.append(f"{seed * 1_000_003 + number} {name}: {fault}")
    return outcomes, faults


def main() -> int:
    parser = argparse.ArgumentParser(description="Attack the Python API.")
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    outcomes, faults = run(arguments.count, arguments.seed)
    print(*faults, sep="\n")
    print(f"{arguments.count} calls, seed {arguments.seed}: {dict(outcomes)}")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
