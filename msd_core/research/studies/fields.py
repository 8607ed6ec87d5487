"""Gradient fields of the methods on a grid, and the landscapes that they are the slopes of (Figs. 1 and 3).

A method gives a vector at every node of a regular grid over the square; `integrate_gradient` finds the potential that
fits these vectors best. What the potential should be is known:

    MSD   m(x)/lambda^2 = grad log (p * N(0, lambda^2))(x): the log of the smoothed density
    SDS   -E[w (eps_hat - n)] = grad E_t[w sigma (log p_sigma * N(0, sigma^2))](x), p_sigma = p * N(0, sigma^2), since
          E[n] = 0 and eps_hat = -sigma grad log p_sigma: logs, smoothed and averaged over all noise levels

so both fields are gradients when the denoiser is that of a density. SDS's expectation is a midpoint rule over t and
antithetic draws of n. Where there is noise, the field is drawn in two independent halves, whose difference says how
much is left.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from scipy.ndimage import maximum_filter
from scipy.stats import spearmanr
from torch import Tensor

from ...denoiser import Denoiser
from ...densities import GaussianMixture
from ...distillation import SDS, sds_gradient
from ..densities.modes import find_modes
from ..landscape import grid, integrate_gradient, residual
from ..metrics import distance_to_nearest
from .setting import SQUARE, Case, Recipe, make_denoiser, sampler_level, size_of
from .study import Cell, Context, OnStep

_ROWS = 4096
REACH = 4
"""Nodes: 2 lambda at both resolutions, nearer than which two Gaussians of width lambda make one mode."""


@dataclass(frozen=True)
class Resolution:
    """How finely a field is known.

    Attributes:
        side: nodes a side of the square.
        bandwidth: lambda of the mean-shift fields.
        levels: of the midpoint rule over SDS's t.
        pairs: of noises n and -n a node and level (SDS), even.
        chains: a node ("exact"), even.
    """

    side: int = 120
    bandwidth: float = 0.05
    levels: int = 24
    pairs: int = 2
    chains: int = 8

    @property
    def spacing(self) -> float:
        """Distance of two neighbouring nodes."""
        return (SQUARE[1] - SQUARE[0]) / (self.side - 1)


FINE, COARSE = Resolution(), Resolution(side=40, bandwidth=0.15, levels=8)


def resolution_of(context: Context) -> Resolution:
    """The resolution that the context asks for."""
    return COARSE if context.quick else FINE


def smoothed(mixture: GaussianMixture, bandwidth: float) -> GaussianMixture:
    """p * N(0, bandwidth^2), whose log the mean-shift field integrates to."""
    wide = bandwidth**2 * torch.eye(mixture.means.shape[1], dtype=torch.float64)
    return GaussianMixture(mixture.weights, mixture.means, mixture.covariances.double() + wide)


def landscape(context: Context, case: Case, kind: str, method: str) -> Cell:
    """The landscape of ``method`` with the denoiser ``kind``, one of "ideal", "learned" and "exact".

    Returns:
        Tensors "field" (H, W, 2) and "potential" (H, W), float64; numbers "residual", the share of the field that is no
        gradient, "noise", the share of it that is left of the draws, and "evaluations" a node.
    """
    resolution, size = resolution_of(context), size_of(context)
    walk = {"method": method, "solver_steps": Recipe(method, 2).solver_steps}
    key = {**case.key, "denoiser": kind, **walk, "data": size.data, **asdict(resolution)}
    denoiser = make_denoiser(context, case, kind)

    def compute(progress: OnStep) -> Cell:
        rng = context.rng("field", case.name, kind, method)
        return integrated(*draw_field(denoiser, method, resolution, rng, progress))

    return context.cell("landscape", key, compute)


def integrated(halves: Tensor, evaluations: float) -> Cell:
    """The cell of `landscape` from the halves (2 or 1, H, W, 2) of a field."""
    field = halves.mean(dim=0)
    noise = float((halves - field).square().mean() / field.square().mean()) if len(halves) == 2 else 0.0
    potential = integrate_gradient(field, SQUARE, zero="max")
    numbers = {"residual": residual(field, SQUARE, potential), "noise": noise, "evaluations": evaluations}
    return Cell(numbers, {"field": field, "potential": potential})


def draw_field(
    denoiser: Denoiser, method: str, resolution: Resolution, rng: torch.Generator, progress: OnStep
) -> tuple[Tensor, float]:
    """The ascent field in independent halves (2, H, W, 2), or (1, H, W, 2) if nothing is drawn; evaluations a node."""
    blocks = grid(SQUARE, (resolution.side, resolution.side)).flatten(0, 1).float().split(_ROWS)
    halves = 2 if method in ("sds", "exact") else 1
    vectors, spent = [], 0
    for i in range(halves * len(blocks)):
        x = blocks[i % len(blocks)]
        part, evaluations = (_sds if method == "sds" else _msd)(x, denoiser, method, resolution, rng)
        vectors.append(part.double())
        spent += evaluations
        progress(i + 1, halves * len(blocks))
    field = torch.cat(vectors).reshape(halves, resolution.side, resolution.side, 2)
    return field, spent / resolution.side**2


def _msd(
    x: Tensor, denoiser: Denoiser, method: str, resolution: Resolution, rng: torch.Generator
) -> tuple[Tensor, int]:
    """m(x)/lambda^2 (B, 2) by the estimator ``method``, and the evaluations spent."""
    bandwidth, chains = resolution.bandwidth, resolution.chains // 2 if method == "exact" else 1
    recipe = Recipe(method, 2, first=bandwidth, last=bandwidth / 2, samples=chains)
    gradient, info = recipe.make()(x, denoiser, step=0, steps=2, rng=rng)
    return -gradient / bandwidth**2, info.evaluations


def _sds(
    x: Tensor, denoiser: Denoiser, method: str, resolution: Resolution, rng: torch.Generator
) -> tuple[Tensor, int]:
    """-E[w (eps_hat - n)] (B, 2) over t and n, and the evaluations spent."""
    sds = Recipe(method, 2).make()
    assert isinstance(sds, SDS)  # noqa: S101 - what the recipe makes of this name
    total, evaluations = torch.zeros_like(x), 0
    for i in range(resolution.levels):
        t = sds.t_min + (sds.t_max - sds.t_min) * (i + 0.5) / resolution.levels
        sigma = sampler_level(1 - t)
        for _ in range(resolution.pairs // 2):
            noise = torch.randn(x.shape, generator=rng)
            for signed in (noise, -noise):
                total -= sds_gradient(x, denoiser, sigma, signed, sds.weighting)
                evaluations += len(x)
    return total * len(x) / evaluations, evaluations


def peaks(potential: Tensor) -> Tensor:
    """Nodes (x, y) that are the highest within `REACH` nodes each way, border excepted: (M, 2), float64."""
    values = potential.numpy()
    highest = torch.from_numpy((values == maximum_filter(values, size=2 * REACH + 1)) & (values > values.min()))
    inside = torch.zeros_like(highest)
    inside[1:-1, 1:-1] = True
    return grid(SQUARE, (values.shape[0], values.shape[1]))[highest & inside]


@dataclass(frozen=True)
class Truth:
    """What a landscape is compared with: the density, smoothed as far as the landscape is.

    Attributes:
        potential: log of the smoothed density on the grid (H, W), its largest value 0.
        modes: of the smoothed density (M, 2).
        support: nodes where the smoothed density is at least as high as at all but 1 in 1,000 of its samples.
        floor: log p of the unsmoothed density below which 1 in 1,000 of its samples lies.
    """

    potential: Tensor
    modes: Tensor
    support: Tensor
    floor: float


def truth_of(context: Context, case: Case) -> Truth:
    """The truth behind the landscapes of ``case``, a cell."""
    resolution = resolution_of(context)

    def compute(_: OnStep) -> Cell:
        wide = smoothed(case.truth, resolution.bandwidth)
        nodes = grid(SQUARE, (resolution.side, resolution.side))
        values = log_density(wide, nodes.flatten(0, 1))
        rng = context.rng("support", case.name)
        seen = log_density(wide, wide.sample(20_000, rng=rng).double())
        own = log_density(case.truth, case.truth.sample(20_000, rng=rng).double())
        support = (values >= seen.quantile(0.001)).reshape(nodes.shape[:2])
        potential = (values - values.max()).reshape(nodes.shape[:2])
        tensors = {"potential": potential, "modes": find_modes(wide), "support": support}
        return Cell({"floor": float(own.quantile(0.001))}, tensors)

    cell = context.cell("landscape-truth", {**case.key, **asdict(resolution)}, compute)
    return Truth(cell.tensors["potential"], cell.tensors["modes"], cell.tensors["support"], cell.numbers["floor"])


def log_density(mixture: GaussianMixture, x: Tensor) -> Tensor:
    """log p (B,) in small blocks, which stay in the processor's cache."""
    return torch.cat([mixture.log_prob(rows) for rows in x.split(128)])


def off_support(case: Case, truth: Truth, x: Tensor) -> float:
    """Share of the points ``x`` that are less likely than all but 1 in 1,000 samples of the density."""
    return float((log_density(case.truth, x.double()) < truth.floor).double().mean())


def compare(potential: Tensor, truth: Truth) -> dict[str, float]:
    """How well a landscape shows the modes of the smoothed density, and its order.

    Returns:
        "peaks", how many there are; "peak to mode", median distance of a peak to the nearest mode; "peaks at a mode",
        the share within two spacings of one; "modes with a peak" likewise; "rise at a peak", median nats by which the
        log of the smoothed density is higher somewhere within two spacings; "peaks off support"; "order" and "order on
        support", Spearman's rank correlation with that log.
    """
    found, side = peaks(potential), potential.shape[0]
    spacing = (SQUARE[1] - SQUARE[0]) / (side - 1)
    mine, true = potential.double(), truth.potential
    order = {"order": _spearman(mine, true), "order on support": _spearman(mine[truth.support], true[truth.support])}
    if not len(found):
        nothing = dict.fromkeys(
            ("peak to mode", "peaks at a mode", "rise at a peak", "peaks off support"), float("nan")
        )
        return {"peaks": 0, **nothing, "modes with a peak": 0.0, **order}
    distances = distance_to_nearest(found, truth.modes)
    nodes = ((found - found.new_tensor([SQUARE[0], SQUARE[2]])) / spacing).round().long()
    rise = torch.from_numpy(maximum_filter(true.numpy(), size=5)) - true
    return {
        "peaks": len(found),
        "peak to mode": float(distances.median()),
        "peaks at a mode": float((distances < 2 * spacing).double().mean()),
        "rise at a peak": float(rise[nodes[:, 1], nodes[:, 0]].median()),
        "peaks off support": float((~truth.support[nodes[:, 1], nodes[:, 0]]).double().mean()),
        "modes with a peak": float((distance_to_nearest(truth.modes, found) < 2 * spacing).double().mean()),
        **order,
    }


def _spearman(a: Tensor, b: Tensor) -> float:
    return float(np.asarray(spearmanr(a.flatten().numpy(), b.flatten().numpy()))[0])
