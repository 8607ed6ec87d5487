"""Null-text optimisation: an unconditional embedding for every level, with which guided sampling follows the inversion.

    z*_i   explicit DDIM upwards at cfg 1
    e_i  = argmin |z*_i - down(z_{i+1}; e)|^2,   z_i = down(z_{i+1}; e_i),   from the top down, at the given cfg

(Mokady et al. 2022.) The search is Adam's, from the e of the level above; a sample stops at the tolerance and keeps the
best embedding that it met. Here a residual is the distance of z_i from z*_i: that of the lowest level is the picture's
error. The denoiser must be an `Embedded` one, through which autograd may go. Kept: an embedding a level.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Protocol, cast

import torch
from torch import Tensor

from ..denoiser import Denoiser, RowCounter, differentiable, name_of
from ..guidance import at_cfg
from ..randomness import Rng
from ..settings import check_settings, setting
from .base import Rise, ddim_down, residual_of
from .explicit import ExplicitStep
from .trajectory import inversion_steps

if TYPE_CHECKING:
    from .trajectory import Trajectory


class Embedded(Protocol):
    """A guided denoiser that is a function of its unconditional embedding."""

    @property
    def embedding(self) -> Tensor:
        """The unconditional embedding: (1, *) for all rows, or (B, *)."""
        ...

    def with_embedding(self, embedding: Tensor, /) -> Denoiser:
        """The same denoiser with another ``embedding`` (B, *), differentiable in it."""
        ...


def embedded(denoiser: Denoiser) -> Embedded:
    """``denoiser`` itself, if it is a function of its unconditional embedding.

    Raises:
        ValueError: it is not, or autograd may not go through it.
    """
    missing = not (hasattr(denoiser, "embedding") and hasattr(denoiser, "with_embedding"))
    if missing or not differentiable(denoiser):
        why = "has no unconditional embedding (embedding, with_embedding)" if missing else "is not differentiable"
        raise ValueError(
            f"denoiser: {name_of(denoiser)} {why}, and null-text optimises that embedding; allowed is one that has it. "
            "Use the inversion 'direct', which needs none and is exact."
        )
    return cast("Embedded", denoiser)


@dataclass(frozen=True, kw_only=True)
class NullText:
    """The walk above; one evaluation a level upwards, and up to ``evaluations`` with their gradients on the way down.

    Raises:
        ValueError: for a value out of range.
    """

    sampler: ClassVar[str] = "null-text"
    local: ClassVar[bool] = False

    evaluations: int = setting(10, "most evaluations of a level's search, each with a gradient", low=1, usual=(1, 100))
    lr: float = setting(0.01, "learning rate of the embedding (Adam)", above=0)
    tolerance: float = setting(
        1e-4, "distance from the inversion, relative to the state's size, at which a sample stops", low=0
    )

    def __post_init__(self) -> None:
        check_settings(self)

    def walk(self, x: Tensor, denoiser: RowCounter, levels: Sequence[float], rng: Rng | None = None) -> Iterator[Rise]:
        """A `Rise` for each of ``levels`` but the first; its kept "embedding" belongs to the step back down.

        Raises:
            ValueError: the denoiser has no unconditional embedding, or does not depend on it.
        """
        family = embedded(denoiser.denoiser)
        upward = RowCounter(at_cfg(denoiser.denoiser, 1.0))
        states = [x, *inversion_steps(x, upward, levels, ExplicitStep())]
        start = family.embedding.detach()
        embedding = start.expand(x.shape[0], *start.shape[1:])
        z, rows, found = states[-1], upward.rows, []
        for i in range(len(levels) - 2, -1, -1):
            search = _Search(family, z, states[i], levels[i + 1], levels[i], embedding)
            search.run(self)
            z, embedding, rows = search.best_end, search.best, rows + search.rows
            spent = search.used + (len(levels) - 1 if i == 0 else 0)
            found.append(Rise(states[i + 1], search.least, spent, {"embedding": embedding}, search.rows))
        found[-1] = Rise(**{**vars(found[-1]), "extra_rows": found[-1].extra_rows + upward.rows})
        yield from reversed(found)

    def descend(self, trajectory: Trajectory, denoiser: RowCounter, top: int) -> Iterator[Tensor]:
        """Yield the state (B, *) after each step down from level number ``top``.

        Raises:
            ValueError: the denoiser has no unconditional embedding.
        """
        family = embedded(denoiser.denoiser)
        levels, z = trajectory.sigmas.tolist(), trajectory.states[top]
        for i in range(top - 1, -1, -1):
            asked = family.with_embedding(trajectory.kept["embedding"][i])
            z = ddim_down(z, asked(z, levels[i + 1]), levels[i + 1], levels[i])
            yield z


class _Search:
    """The search for the embedding of one level."""

    def __init__(
        self, family: Embedded, z: Tensor, wanted: Tensor, sigma: float, sigma_next: float, embedding: Tensor
    ) -> None:
        self._family, self._z, self._wanted, self._levels = family, z, wanted, (sigma, sigma_next)
        self.best, self.best_end, self.rows = embedding, z, 0
        self.least = torch.full((z.shape[0],), torch.inf, dtype=z.dtype, device=z.device)
        self.used = torch.zeros(z.shape[0], dtype=torch.int64)

    @torch.enable_grad()
    def run(self, settings: NullText) -> None:
        """Adam on the embedding, every sample for itself."""
        embedding = self.best.clone().requires_grad_()
        optimizer = torch.optim.Adam([embedding], settings.lr)
        sigma, sigma_next = self._levels
        for k in range(settings.evaluations):
            counted = RowCounter(self._family.with_embedding(embedding))
            end = ddim_down(self._z, counted(self._z, sigma), sigma, sigma_next)
            size = residual_of(self._wanted - end, sigma)
            self.rows += counted.rows
            if not end.requires_grad:
                raise ValueError(
                    f"denoiser: {name_of(counted)} does not depend on its unconditional embedding, as at cfg 1, and "
                    "null-text optimises that; allowed is a guided one. Raise its cfg, or use the inversion 'implicit'."
                )
            self._take(embedding.detach(), end.detach(), size.detach(), settings.tolerance)
            if k == settings.evaluations - 1 or bool((self.least <= settings.tolerance).all()):
                return
            (embedding.grad,) = torch.autograd.grad(size.square().sum(), embedding)
            optimizer.step()

    def _take(self, embedding: Tensor, end: Tensor, size: Tensor, tolerance: float) -> None:
        """Keep what is the best so far of each sample that is still searching."""
        going = self.least > tolerance
        self.used += going.cpu()
        better = going & (size < self.least)
        self.least = torch.where(better, size, self.least)
        self.best = torch.where(better.reshape(-1, *(1,) * (embedding.ndim - 1)), embedding, self.best)
        self.best_end = torch.where(better.reshape(-1, *(1,) * (end.ndim - 1)), end, self.best_end)
