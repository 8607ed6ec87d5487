"""Candidates and stopwatch of the study of the ideal denoiser: other forms of it, seconds, peak memory."""

from __future__ import annotations

import contextlib
import importlib
import io
import math
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Denoiser, Sigma
from .setting import Recipe

Timed = Callable[[], object]
Form = Callable[[Tensor, Tensor, float], Tensor]


def plain(data: Tensor, z: Tensor, sigma: float) -> Tensor:
    """The textbook form, with an (N, M) matrix."""
    return (torch.cdist(z, data).square() / (-2 * sigma**2)).softmax(dim=1) @ data


def reference(data: Tensor, z: Tensor, sigma: float) -> Tensor:
    """The float64 answer (N, D), from the differences themselves, in chunks."""
    points, parts = data.double(), []
    for rows in z.double().split(256):
        square = torch.zeros(len(rows), len(points), dtype=torch.float64)
        for axis in range(points.shape[1]):
            square.add_((rows[:, axis, None] - points[:, axis]).square_())
        parts.append(square.div_(-2 * sigma**2).softmax(dim=1) @ points)
    return torch.cat(parts)


@lru_cache(maxsize=1)
def lazy_form() -> Form | None:
    """The same with pykeops, or None where it is missing or does not work."""
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            lazy: Any = importlib.import_module("pykeops.torch").LazyTensor
            form = _lazy_form(lazy)
            data = torch.linspace(0, 1, 100).reshape(50, 2)
            torch.testing.assert_close(form(data, data, 0.5), plain(data, data, 0.5))
    except Exception:  # a library that compiles when it is used fails in many ways
        return None
    return form


def _lazy_form(lazy: Any) -> Form:  # noqa: ANN401
    def form(data: Tensor, z: Tensor, sigma: float) -> Tensor:
        scale = 1 / (math.sqrt(2) * sigma)  # outside of the formula: one compilation for all levels
        rows, points = lazy((z * scale).contiguous()[:, None]), lazy((data * scale).contiguous()[None])
        return (-((rows - points) ** 2).sum(-1)).sumsoftmaxweight(lazy(data.contiguous()[None]), axis=1)

    return form


def fastest(
    candidates: Mapping[str, Timed], rounds: int, prepare: Mapping[str, Timed] | None = None
) -> dict[str, float]:
    """Seconds of each candidate: the least of ``rounds`` rounds, in which they take turns, after one round of warm-up.

    ``prepare[name]`` is called before its candidate, off the clock.
    """
    best = dict.fromkeys(candidates, math.inf)
    for i in range(rounds + 1):
        for name, call in candidates.items():
            if prepare and name in prepare:
                prepare[name]()
            start = time.perf_counter()
            call()
            if i:
                best[name] = min(best[name], time.perf_counter() - start)
    return best


PEAK = """
import re, torch
from msd_core import IdealDenoiser
def peak(): return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1024
def plain(data, z, sigma): return (torch.cdist(z, data).square() / (-2 * sigma**2)).softmax(dim=1) @ data
def ours(data, z, sigma): return IdealDenoiser(data)(z, sigma)
torch.manual_seed(0)
few, data = torch.rand(300, 2).to({dtype}), (3 * torch.rand({size}, 2) - 1.5).to({dtype})
for sigma in {sigmas}: {form}(few, few, sigma)
before = peak()
for sigma in {sigmas}: {form}(data, data, sigma)
print(peak() - before)
"""


def peak_megabytes(form: str, dtype: str, size: int, sigmas: Sequence[float]) -> float | None:
    """Growth of a fresh process's peak memory by ``form``, "ours" or "plain", at all ``sigmas``, in MB.

    The kernel's VmHWM, since ru_maxrss starts from what the parent process held. None where there is no /proc.
    """
    if sys.platform != "linux":
        return None
    script = PEAK.format(form=form, dtype=dtype, size=size, sigmas=tuple(sigmas))
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)  # noqa: S603
    return float(done.stdout) if done.returncode == 0 else None


class Recorder:
    """A denoiser that remembers what it was asked."""

    def __init__(self, denoiser: Denoiser) -> None:
        self.denoiser, self.asked = denoiser, []

    def __call__(self, z: Tensor, sigma: Sigma) -> Tensor:
        self.asked.append((z, sigma))
        return self.denoiser(z, sigma)


def chain_cost(
    denoiser: Denoiser, x: Tensor, bandwidth: float, rng: torch.Generator, rounds: int = 3
) -> dict[str, float]:
    """Seconds of one draw of the exact chain at ``x``, and of its evaluations alone, asked again one by one."""
    method, recorder = Recipe("exact", 2, first=bandwidth, last=bandwidth / 2).make(), Recorder(denoiser)
    state = rng.get_state()

    def walk(asked: Denoiser) -> None:
        rng.set_state(state)
        method(x, asked, step=0, steps=2, rng=rng)

    walk(recorder)
    questions = recorder.asked
    best = fastest(
        {"chain": lambda: walk(denoiser), "evaluations": lambda: [denoiser(z, s) for z, s in questions]}, rounds
    )
    return best | {"count": len(questions)}
