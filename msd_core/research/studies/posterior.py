"""Solvers of inverse problems where the posterior is known: mixtures on pictures of eight pixels, at equal rows.

A mixture stays one when it is measured (`densities.conditioned`), so its mean, its modes' weights and its samples are
exact. Each solver draws from noise, for several measurements of points of the prior. A back-pass is counted as a row. A
solver that has a knob gets the setting of its grid that comes nearest to the samples of *other* measurements, for each
prior, task and budget on its own: ours as the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor

from ...densities import GaussianMixture, conditioned
from ...dreamsampler import Denoised, dream_sample, unit_share
from ...measurement import Measurement, Observation
from ...measurement.blur import Blur
from ...measurement.mask import Mask
from ...measurement.pool import Pool
from ...posterior import INVERSE_SOLVERS, PosteriorDenoiser, posterior_sample
from ...posterior.ddrm import DDRM
from ...posterior.dps import DPS
from ...posterior.kalman import Kalman
from ...posterior.pigdm import PiGDM
from ...posterior.proximal import Proximal
from ...posterior.psld import PSLD
from ...posterior.red_diff import REDDiff
from ...posterior.replacement import Replacement
from ...randomness import seeded
from ...schedule import sigma_schedule
from ...settings import settings_of, to_json
from ..metrics import sliced_wasserstein
from .result import Result, Table
from .study import Cell, Context, OnStep

IN_ALL = False
SHAPE, NOISE = (1, 2, 4), 0.1
TASKS: dict[str, Measurement] = {
    "mask": Mask(torch.tensor([[1.0, 1.0, 0.0, 0.0]]).expand(2, 4)),
    "pool": Pool(2),
    "blur": Blur(0.8),
}
HIDDEN = torch.tensor([[0.0, 0.0, 0.5, -0.5], [0.0, 0.0, -0.5, 0.5]], dtype=torch.float64)
"""In the hole, of mean 0, and of the highest frequency."""
PRIORS = {"three modes": 3, "one Gaussian": 1}
"""Components of each."""
WALKS: dict[str, float | Callable[[float], float]] = {"ODE": 1.0, "renoised": unit_share}
"""How a gain walks: the noise that a step keeps."""
GRIDS: dict[str, Sequence[Any]] = {
    "kalman": [Kalman(steps) for steps in (1, 2, 4)],
    "proximal": [Proximal(error) for error in (None, 0.5, 2.0)],
    "replacement": [Replacement()],
    "pigdm": [PiGDM(eta=eta) for eta in (1.0, 0.5, 0.0)],
    "ddrm": [DDRM(eta) for eta in (0.5, 0.85, 1.0)],
    "red-diff": [REDDiff(weight, lr=lr) for weight in (0.01, 0.1, 0.3, 1.0) for lr in (0.1, 0.5)],
    "dps": [DPS(zeta) for zeta in (1.0, 2.0, 5.0, 10.0, 20.0)],
    "psld": [PSLD(omega, omega / 10) for omega in (0.3, 0.6, 1.0, 2.0, 4.0)],
}
"""Settings that are tried, of gains with either walk; of `pigdm` its own walk, and the gain with either."""
REFERENCES = ("exact samples", "exact denoiser, ODE", "exact denoiser, renoised", "no measurement")
Way = tuple[Any, str]
"""A solver with its settings, or one of `REFERENCES`; and the name of the walk."""
FIGURES = ("mean", "W2", "weights")


@dataclass(frozen=True)
class Size:
    """How large the study is: network rows a sample; measurements and samples of each, in the end and for tuning."""

    rows: tuple[int, ...] = (48, 192)
    tested: tuple[int, int] = (16, 250)
    tuned: tuple[int, int] = (6, 100)


FULL, QUICK = Size(), Size((24,), (4, 100), (2, 50))


def prior(components: int) -> GaussianMixture:
    """Modes of unequal weight and shape; what tells them apart no task sees well, so that several stay likely."""
    rng, d = seeded(31), 8
    apart = torch.tensor([-2.0, 0.4, 2.0], dtype=torch.float64)[:, None] * HIDDEN.flatten()
    means = 0.3 * torch.randn(3, d, generator=rng, dtype=torch.float64) + apart
    parts = torch.randn(3, d, d, generator=rng, dtype=torch.float64)
    covariances = 0.04 * parts @ parts.mT + 0.04 * torch.eye(d, dtype=torch.float64)
    weights = torch.tensor([0.5, 0.3, 0.2], dtype=torch.float64)[:components]
    return GaussianMixture(weights / weights.sum(), means[:components], covariances[:components])


def matrix_of(measurement: Measurement) -> Tensor:
    """A, (m, 8)."""
    return measurement.apply(torch.eye(8, dtype=torch.float64).reshape(8, *SHAPE)).flatten(1).T


def able(solver: Any, measurement: Measurement) -> bool:  # noqa: ANN401 - a solver
    """Whether the solver takes the operator."""
    wanted = {Replacement: "inverse", DDRM: "singular"}.get(type(solver))
    return wanted is None or hasattr(measurement, wanted)


@dataclass(frozen=True)
class Case:
    """One prior and task, several measurements of it, and their posteriors."""

    p: GaussianMixture
    measurement: Measurement
    b: Tensor
    posteriors: Sequence[GaussianMixture]

    @classmethod
    def of(cls, components: int, task: str, count: int, rng: torch.Generator) -> Case:
        """Measurements of ``count`` points of the prior."""
        p, measurement = prior(components), TASKS[task]
        b = measurement.apply(p.sample(count, rng=rng).reshape(-1, *SHAPE))
        b = b + NOISE * torch.randn(b.shape, generator=rng, dtype=torch.float64)
        if isinstance(measurement, Mask):  # nothing is measured in the hole, and no noise either
            b = measurement.apply(b)
        return cls(p, measurement, b, [conditioned(p, matrix_of(measurement), row, NOISE) for row in b])

    def drawn(self, solver: Any, walk: str, steps: int, samples: int, rng: torch.Generator) -> Tensor:  # noqa: ANN401
        """Samples (measurements, samples, 8) of a solver, or of one of `REFERENCES`."""
        count = len(self.b)
        if solver == "exact samples":
            return torch.stack([one.sample(samples, rng=rng) for one in self.posteriors])
        if solver == "no measurement":
            return self.p.sample(count * samples, rng=rng).unflatten(0, (count, samples))
        sigmas = sigma_schedule("karras", steps, sigma_min=0.01, sigma_max=20.0).double()
        z = torch.randn(count * samples, *SHAPE, generator=rng, dtype=torch.float64) * (1 + sigmas[0] ** 2).sqrt()
        if isinstance(solver, str):
            kept = WALKS[solver.rpartition(", ")[2]]
            parts = zip(z.split(samples), self.posteriors, strict=True)
            ends = [dream_sample(part, Denoised(one), sigmas, kept=kept, rng=rng) for part, one in parts]
            return torch.stack(ends).flatten(2)
        seen = Observation(self.measurement, self.b.repeat_interleave(samples, 0), NOISE)
        if walk:
            gained = Denoised(PosteriorDenoiser(self.p, seen, solver))
            ends = dream_sample(z, gained, sigmas, kept=WALKS[walk], rng=rng)
        else:
            ends = posterior_sample(z, self.p, seen, sigmas, solver=solver, rng=rng)
        return ends.flatten(1).unflatten(0, (count, samples))

    def figures(self, drawn: Tensor, rng: torch.Generator) -> dict[str, list[float]]:
        """`FIGURES` of each measurement: errors of the mean and W2 in the posterior's own standard deviations."""
        found: dict[str, list[float]] = {name: [] for name in FIGURES}
        for x, posterior in zip(drawn, self.posteriors, strict=True):
            mean, variance = posterior.mean(), float(moments(posterior).diagonal().sum())
            exact = posterior.sample(len(x), rng=rng)
            found["mean"].append(float((x.mean(0) - mean).norm()) / variance**0.5)
            found["W2"].append(sliced_wasserstein(x, exact, rng) / (variance / x.shape[1]) ** 0.5)
            found["weights"].append(float((shares(posterior, x) - posterior.weights).abs().sum() / 2))
        return found


def moments(mixture: GaussianMixture) -> Tensor:
    """Its covariance, (D, D)."""
    apart = mixture.means - mixture.mean()
    return torch.einsum("k,kij->ij", mixture.weights, mixture.covariances + apart[:, :, None] * apart[:, None, :])


def shares(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """How much of the points x (N, D) each component has, (K,): their mean responsibilities."""
    normals = [
        torch.distributions.MultivariateNormal(mean, covariance).log_prob(x)
        for mean, covariance in zip(mixture.means, mixture.covariances, strict=True)
    ]
    return (torch.stack(normals, dim=1) + mixture.weights.log()).softmax(dim=1).mean(dim=0)


def found(context: Context, name: str, way: Way, **key: Any) -> dict[str, list[float]]:  # noqa: ANN401
    """The figures of one solver with its settings and walk; ``key``: components, task, rows, whether for tuning."""
    size, (solver, walk) = QUICK if context.quick else FULL, way
    count, samples = size.tuned if key["tuning"] else size.tested
    own = {} if isinstance(solver, str) else {"settings": to_json(solver), "walk": walk}

    def compute(progress: OnStep) -> Cell:
        rng = context.rng("posterior", *key.values())
        same = context.rng("measurements", key["components"], key["task"], key["tuning"])
        case = Case.of(key["components"], key["task"], count, same)
        steps = key["rows"] // (1 if isinstance(solver, str) else solver.rows)
        return Cell(case.figures(case.drawn(solver, walk, steps, samples, rng), rng))

    whole = {"solver": name, **key, **own, "measurements": count, "samples": samples}
    return context.cell("posterior", whole, compute).numbers


def ways(name: str, task: str) -> list[Way]:
    """What is tried of a solver: settings that take the operator, by its own walk or, as a gain, by each of `WALKS`."""
    tried = [solver for solver in GRIDS[name] if able(solver, TASKS[task])]
    own = [(solver, "") for solver in tried if hasattr(solver, "walk")]
    gains = tried[:1] if own else tried  # where there is a walk, its settings are of no account to the gain
    return own + [(solver, walk) for solver in gains if callable(solver) for walk in WALKS]


def chosen(context: Context, name: str, **key: Any) -> Way | None:  # noqa: ANN401
    """The way with the least W2 on the measurements for tuning; None where the solver cannot measure so."""
    tried = ways(name, key["task"])
    if len(tried) < 2:
        return tried[0] if tried else None
    return min(tried, key=lambda way: sum(found(context, name, way, **key, tuning=True)["W2"]))


def words(way: Way) -> str:
    """The walk, and what was set where it is not the default."""
    solver, walk = way
    own = {entry.flag: (getattr(solver, name), entry.default) for name, entry in settings_of(solver).items()}
    changed = [f"{flag} {value:g}" for flag, (value, default) in own.items() if value != default]
    return ", ".join([*([walk] if walk else []), *changed]) or "default"


def rows_of(context: Context, components: int, rows: int) -> Iterator[list[Any]]:
    """The table's rows of one prior and budget."""
    for task in TASKS:
        key = {"components": components, "task": task, "rows": rows}
        for name in (*REFERENCES, *INVERSE_SOLVERS):
            way = chosen(context, name, **key) if name in GRIDS else (name, "")
            if way is None:
                yield [task, name, "cannot", *[None] * 2 * len(FIGURES)]
                continue
            numbers = found(context, name, way, **key, tuning=False)
            pairs = [mean_and_interval(numbers[figure]) for figure in FIGURES[: 2 + (components > 1)]]
            pairs += [(None, None)] * (len(FIGURES) - len(pairs))
            yield [task, name, words(way) if name in GRIDS else "", *(value for pair in pairs for value in pair)]


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    """Mean, and half of its 95 % interval."""
    every = torch.tensor(values, dtype=torch.float64)
    return float(every.mean()), float(1.96 * every.std() / len(every) ** 0.5)


def run(context: Context) -> Result:
    """A table a prior and a budget."""
    size = QUICK if context.quick else FULL
    tried = [len(ways(name, task)) for name in GRIDS for task in TASKS]
    cells = sum(count + 1 if count > 1 else count for count in tried) + len(REFERENCES) * len(TASKS)
    context.plan("posterior", cells * len(PRIORS) * len(size.rows))
    columns = ("task", "solver", "setting", *(name for figure in FIGURES for name in (figure, f"± {figure}")))
    note = (
        f"{size.tested[0]} measurements, {size.tested[1]} samples each, noise {NOISE:g}; ± is half of the 95 % "
        "interval over the measurements. Mean: error of the samples' mean; W2: sliced Wasserstein distance to as many "
        "exact samples; both in the posterior's own standard deviations. Weights: total variation of the modes' "
        "shares. Settings: the best of a grid on other measurements."
    )
    tables = []
    for kind, components in PRIORS.items():
        for rows in size.rows:
            formats = {name: ".2f" for name in columns[3:]}
            title = f"{kind.capitalize()}, {rows} network rows a sample"
            found = list(rows_of(context, components, rows))
            tables.append(Table(f"posterior-{components}-{rows}", title, columns, found, note, formats))
    settings: Mapping[str, Any] = {"rows": list(size.rows), "noise": NOISE, "priors": cast("dict[str, Any]", PRIORS)}
    return Result("posterior", "Inverse problems whose posterior is known", tables, settings=settings)
