"""RED-diff (Mardani et al. 2024, Alg. 1): SDS with a measurement. No chain; y itself is moved, by Adam.

    gradient on y = v A^T (A y - b) / m + lambda (y - D(y + sigma n; sigma)) / d,     sigma descending

(m and d are the numbers of b and of y, the authors' two means; y - D = sigma (eps - n), so the second term is SDS with
the weight sigma.) It ends at one picture, a compromise: for p = N(mean, c) and A = 1 where v (y - b) and omega (y -
mean) cancel, omega = lambda E[sigma^2 / (c + sigma^2)]. That is the posterior's mean only for omega / v = s^2 / c, so
lambda is tuned to the noise, and it means something else for another number of measurements. Nothing goes backwards
through the network.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..denoiser import Denoiser, ask
from ..measurement import Observation
from ..measurement.decoded import Decoded
from ..randomness import Rng, draw_normal
from ..settings import check_settings, setting
from .jump import slope_of
from .walk import Step


@dataclass(frozen=True)
class REDDiff:
    """Score distillation with a measurement: one picture, by Adam, from the measurement put in place.

    Raises:
        ValueError: for an option out of range.
    """

    weight: float = setting(0.25, "λ, of the model beside the measurement", low=0, usual=(0, 100))
    data_weight: float = setting(1.0, "v, of the measurement", low=0, usual=(0, 100), expert=True)
    lr: float = setting(0.1, "Adam's step, in units of y", above=0, usual=(0.001, 10))

    def __post_init__(self) -> None:
        check_settings(self)

    @property
    def rows(self) -> int:
        """One evaluation."""
        return 1

    def walk(
        self, z: Tensor, denoiser: Denoiser, observation: Observation, levels: Sequence[float], rng: Rng | None
    ) -> Iterator[Step]:
        """As `PosteriorWalk`; of ``z`` only the shape is looked at."""
        y = started(observation, z)
        adam = torch.optim.Adam([y], self.lr, betas=(0.9, 0.99))

        def error(at: Tensor) -> Tensor:
            return 0.5 * self.data_weight * observation.missing(at).square().flatten(1).mean(dim=1)

        for sigma, sigma_next in zip(levels, levels[1:], strict=False):
            pull = y - ask(denoiser, y + sigma * draw_normal(y, rng)[0], sigma)
            y.grad = slope_of(error, y) + self.weight / y[0].numel() * pull
            adam.step()
            yield sigma_next, y.clone(), y.clone()


def started(observation: Observation, like: Tensor) -> Tensor:
    """A^+ b, of the shape of ``like`` (B, *), encoded where A is of a decoded latent; A^T b for an A without A^+."""
    given = observation.measurement
    through = given if isinstance(given, Decoded) else Decoded(given)
    put = getattr(through.measurement, "inverse", through.measurement.adjoint)
    return through.encode(put(observation.b.to(like))).expand_as(like).clone()
