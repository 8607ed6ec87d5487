"""The ideal denoiser at 10^4 x 10^4: seconds, memory and error, beside the forms that it replaces.

At every noise level the candidates take turns, so that whatever else the machine does meets them all, and the best of
their rounds counts:

    plain          (-cdist^2/(2 sigma^2)).softmax @ y, an N x M matrix
    exponentials   e^x in place of an N x M matrix of float32 and nothing else: what any form pays that leaves none out
    float32, 64    `IdealDenoiser`
    pykeops        softmax-weighted sum of lazy tensors, where the library is installed; compiled beforehand

Errors are against differences in float64, in chunks. Peak memory is that of a fresh process each.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from ...denoiser import Denoiser
from ...densities import IdealDenoiser
from ...generators.points import Points
from ...optimize import optimize, start
from ..toy import ToyDenoiser, ToySettings
from ..toy.train import initial_training, toy_network
from .result import Result, Table
from .setting import FIRST_BANDWIDTH, LAST_BANDWIDTH, Recipe, make_case, size_of, start_points, truth_points
from .study import Cell, Context, OnStep
from .timing import Timed, chain_cost, fastest, lazy_form, peak_megabytes, plain, reference

IN_ALL = True
CASE = "fractal"
SIGMAS = (5.0, 1.0, 0.3, 0.1, 0.03, 0.01, 0.002)
QUERIES = ("grid", "noisy data")
ROUNDS, CHAIN_ROUNDS, STEPS, BANDWIDTHS = 3, 5, 150, (FIRST_BANDWIDTH, 0.1, LAST_BANDWIDTH)
FASTER, WITHIN, MEGABYTES, ERROR, SECONDS = 5.0, 2.0, 200.0, 1e-5, 60.0
"""What is wanted: times plain, or times the exponentials; MB; error; seconds for the one-step descent."""


def query_points(data: Tensor, kind: str, sigma: float, rng: torch.Generator) -> Tensor:
    """Where the denoiser is asked, as many points as data: the starting grid, or noised data."""
    if kind == "grid":
        return start_points(math.isqrt(len(data)))
    return data + sigma * torch.randn(data.shape, generator=rng)


def one_level(context: Context, data: Tensor, kind: str, sigma: float) -> dict[str, float]:
    """Seconds of every candidate at one noise level, and the errors of ours."""

    def compute(progress: OnStep) -> Cell:
        z = query_points(data, kind, sigma, context.rng("queries", kind, sigma))
        z64, ideal, keops = z.double(), IdealDenoiser(data), lazy_form()
        logits = torch.empty(len(z), len(data))
        row = torch.linspace(-80, 0, len(data))
        candidates: dict[str, Timed] = {
            "plain": lambda: plain(data, z, sigma),
            "exponentials": logits.exp_,
            "float32": lambda: ideal(z, sigma),
            "float64": lambda: ideal(z64, sigma),
        }
        if keops is not None:
            candidates["pykeops"] = lambda: keops(data, z, sigma)
        refill = {"exponentials": lambda: logits.copy_(row.expand_as(logits))}
        numbers = fastest(candidates, ROUNDS, refill)
        progress(1, 2)
        true = reference(data, z, sigma)
        answers = {"32": ideal(z, sigma), "64": ideal(z64, sigma), "plain": plain(data, z, sigma)}
        errors = {f"error {name}": float((got.double() - true).abs().max()) for name, got in answers.items()}
        progress(2, 2)
        return Cell(numbers | errors)

    key = {"queries": kind, "sigma": sigma, "size": len(data), "rounds": ROUNDS, "threads": torch.get_num_threads()}
    return context.cell("ideal", key, compute).numbers


def memory(context: Context, size: int) -> dict[str, float | None]:
    """Peak memory of ours in both precisions and of the plain form."""

    def compute(_: OnStep) -> Cell:
        forms = {"float32": ("ours", "torch.float32"), "float64": ("ours", "torch.float64")}
        forms["plain"] = ("plain", "torch.float32")
        return Cell({name: peak_megabytes(form, dtype, size, SIGMAS) for name, (form, dtype) in forms.items()})

    return context.cell("ideal", {"what": "memory", "size": size, "version": 2}, compute).numbers


def network() -> ToyDenoiser:
    """A network of the learned denoiser's size, untrained: its speed does not depend on its weights."""
    settings = ToySettings()
    return ToyDenoiser(toy_network(settings, initial_training(settings, 2).parameters))


def chains(context: Context, data: Tensor) -> list[list[Any]]:
    """Rows of the chain's table."""
    rows = []
    for kind, denoiser in (("ideal", IdealDenoiser(data)), ("network", network())):
        for bandwidth in BANDWIDTHS:

            def compute(_: OnStep, denoiser: Denoiser = denoiser, bandwidth: float = bandwidth) -> Cell:
                x = start_points(size_of(context).side)
                return Cell(chain_cost(denoiser, x, bandwidth, context.rng("chain", bandwidth), CHAIN_ROUNDS))

            key = {"what": "chain", "denoiser": kind, "bandwidth": bandwidth, "size": len(data)}
            n = context.cell("ideal", key | {"threads": torch.get_num_threads()}, compute).numbers
            rows.append([kind, bandwidth, n["count"], n["evaluations"], n["chain"], n["chain"] / n["evaluations"]])
    return rows


def descent(context: Context, data: Tensor) -> float:
    """Seconds of the one-step estimator on the ideal denoiser, all points and steps, Adam as in the paper."""

    def compute(progress: OnStep) -> Cell:
        recipe, ideal, x = Recipe("one-step", STEPS), IdealDenoiser(data), start_points(size_of(context).side)
        before, began = start(Points(x), steps=STEPS, rng=context.rng("descent")), time.perf_counter()
        for state in optimize(before, recipe.make(), ideal, optimizer=recipe.optimiser()):
            progress(state.step, STEPS)
        return Cell({"seconds": time.perf_counter() - began})

    key = {"what": "descent", "steps": STEPS, "size": len(data), "threads": torch.get_num_threads()}
    return context.cell("ideal", key, compute).numbers["seconds"]


def run(context: Context) -> Result:
    """Tables of time, memory and error."""
    data = truth_points(context, make_case(CASE), "data")
    context.plan("ideal", len(SIGMAS) * len(QUERIES) + 2 + 2 * len(BANDWIDTHS))
    found = {(kind, sigma): one_level(context, data, kind, sigma) for sigma in SIGMAS for kind in QUERIES}
    used, walk, seconds = memory(context, len(data)), chains(context, data), descent(context, data)
    tables = [speed_table(found, len(data)), *other_tables(used, walk, seconds, size_of(context).side, len(data))]
    text = [verdict(found, used), _chain_verdict(walk, seconds)]
    settings = {"data": len(data), "rounds": ROUNDS, "threads": torch.get_num_threads(), "density": CASE}
    return Result("ideal", "The ideal denoiser", tables, paragraphs=text, settings=settings)


def speed_table(found: Mapping[tuple[str, float], Mapping[str, float]], size: int) -> Table:
    """Seconds and errors at every noise level and kind of query."""
    columns = ("σ", "queries", "plain s", "exponentials s", "float32 s", "float64 s", "pykeops s")
    more = ("× faster than plain", "of the exponentials", "error float32", "error float64", "error plain")
    rows = []
    for (kind, sigma), n in found.items():
        times = [n["plain"], n["exponentials"], n["float32"], n["float64"], n.get("pykeops")]
        ratios = [n["plain"] / n["float32"], n["float32"] / n["exponentials"]]
        rows.append([f"{sigma:g}", kind, *times, *ratios, n["error 32"], n["error 64"], n["error plain"]])
    formats = (
        {column: ".3f" for column in columns[2:]} | dict.fromkeys(more[:2], ".2f") | dict.fromkeys(more[2:], ".1e")
    )
    note = (
        f"{size:,} queries, {size:,} samples of the {CASE}, {torch.get_num_threads()} threads; seconds, the best of "
        f"{ROUNDS} rounds in which the forms take turns after one round of warm-up. *Plain*: cdist, softmax and matrix "
        "product in float32. *Exponentials*: eˣ in place on a float32 matrix of that size. *pykeops*: a "
        "softmax-weighted sum of lazy tensors in float32, compiled before the clock starts; – where it is not "
        "installed. The ratios are of *float32*: seconds of plain over its seconds, and its seconds over those of the "
        "exponentials. *Error*: largest difference from float64 differences, in units of the data, whose radius is "
        "about 1."
    )
    return Table("ideal", "One evaluation of the ideal denoiser", columns + more, rows, note, formats)


def other_tables(
    used: Mapping[str, float | None], walk: list[list[Any]], seconds: float, side: int, size: int
) -> list[Table]:
    """Memory, the chain's overhead, and the descent."""
    memory_rows = [[name, used[name]] for name in ("float32", "float64", "plain")]
    memory_note = f"Growth of a fresh process's peak over all σ of the table above, {size:,} × {size:,}; – off Linux."
    columns = ("denoiser", "λ", "evaluations", "evaluations alone s", "chain s", "chain / evaluations")
    formats = {"λ": ".3f", "evaluations alone s": ".3f", "chain s": ".3f", "chain / evaluations": ".3f"}
    chain_note = (
        f"One draw at each of {side}² points by the exact estimator (Heun). *Evaluations alone*: the same questions "
        f"put to the denoiser again without the chain; best of {CHAIN_ROUNDS}, in turns. *network*: of the learned "
        "denoiser's size, untrained."
    )
    descent_row = [[side**2, size, STEPS, seconds]]
    return [
        Table("memory", "Memory above the data", ("form", "MB"), memory_rows, memory_note, {"MB": ".0f"}),
        Table("chain", "The exact chain and its evaluations", columns, walk, chain_note, formats),
        Table(
            "descent",
            "Descent by the one-step estimator",
            ("points", "data", "steps", "seconds"),
            descent_row,
            f"On the ideal denoiser, by Adam, λ from √.1 to {LAST_BANDWIDTH:g}; one evaluation a step.",
            {"seconds": ".1f"},
        ),
    ]


def verdict(found: Mapping[tuple[str, float], Mapping[str, float]], used: Mapping[str, float | None]) -> str:
    """Whether each case is fast enough, small enough and right, counted from the numbers."""
    slow = [
        f"σ = {sigma:g} at the {kind} ({n['plain'] / n['float32']:.1f} times plain, "
        f"{n['float32'] / n['exponentials']:.1f} times the exponentials)"
        for (kind, sigma), n in found.items()
        if n["plain"] < FASTER * n["float32"] and n["float32"] > WITHIN * n["exponentials"]
    ]
    worst = max(n["error 32"] for n in found.values())
    text = (
        f"Wanted at every σ: {FASTER:g} times faster than the plain form, or within {WITHIN:g} times of the "
        f"exponentials alone. In float32 this holds in {len(found) - len(slow)} of {len(found)} cases"
    )
    text += f", and not at {'; '.join(slow)}." if slow else "."
    text += f" The largest error of float32 is {worst:.1e} ({_against(worst, ERROR)} {ERROR:g})."
    if (most := used["float32"]) is not None:
        text += f" Above the data it needs {most:.0f} MB ({_against(most, MEGABYTES)} {MEGABYTES:g})."
    if all("pykeops" in n for n in found.values()):
        ratios = sorted(n["pykeops"] / n["float32"] for n in found.values())
        text += f" Against pykeops it takes 1/{ratios[0]:.2g} to 1/{ratios[-1]:.2g} of the time."
    return text


def _chain_verdict(walk: list[list[Any]], seconds: float) -> str:
    overheads = {kind: max(1.0, *(row[-1] for row in walk if row[0] == kind)) - 1 for kind in ("ideal", "network")}
    return (
        f"The chain of the exact estimator costs its evaluations and at most {overheads['ideal']:.0%} more with the "
        f"ideal denoiser, {overheads['network']:.0%} with the network. The descent takes {seconds:.0f} s "
        f"({_against(seconds, SECONDS)} {SECONDS:g})."
    )


def _against(value: float, bound: float) -> str:
    return "below" if value < bound else "not below"
