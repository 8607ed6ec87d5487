"""What the training of a learned denoiser in the plane is made of."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TypeAlias

from ...validation import check_choice, check_count, check_positive
from ..dream import check_dream
from .ema import power_exponent

TARGETS = ("score", "noise")
Json: TypeAlias = "str | int | float | None"


@dataclass(frozen=True)
class ToySettings:
    """A training run; the defaults are those of Karras et al. 2024 (autoguidance), the toy example.

    Args:
        density: name of the density, see `DENSITIES`.
        cls: its class, a model for each ("A" and "B" of the fractal); None for all classes together.
        dim, layers: width and depth of the network.
        sigma_data: standard deviation that its scaling assumes of the data.
        steps, batch: optimisation steps, points in each.
        lr: Adam's rate, with means of rates (.9, .99); after ``lr_hold`` steps it falls as 1/sqrt(step/lr_hold).
        lr_hold: see ``lr``.
        ema: relative standard deviation of the weights' averaging profile, see `msd_core.research.toy.ema`.
        noise_mean, noise_std: of ln sigma in training.
        pool: points that the batches are drawn from, see `msd_core.research.toy.pool`.
        seed: of initial weights, points and noise.
        target: "score", the density's exact score; or "noise", the noise that was added: ordinary denoising score
            matching, which learns the same function from noisier evidence.
        dream: exponent p >= 0 of DREAM (see `msd_core.research.dream`), for the target "noise"; `math.inf` and None are
            training without it.

    Raises:
        ValueError: for a number out of range, an unknown target, or ``dream`` with the target "score".
    """

    density: str = "fractal"
    cls: str | None = None
    dim: int = 64
    layers: int = 4
    sigma_data: float = 0.5
    steps: int = 4096
    batch: int = 4096
    lr: float = 0.01
    lr_hold: int = 512
    ema: float = 0.010
    noise_mean: float = -2.3
    noise_std: float = 1.5
    pool: int = 2**20
    seed: int = 0
    target: str = "score"
    dream: float | None = None

    def __post_init__(self) -> None:
        for name in ("dim", "layers", "steps", "batch", "lr_hold", "pool"):
            check_count(name, getattr(self, name))
        check_count("seed", self.seed, minimum=0)
        for name in ("sigma_data", "lr", "noise_std"):
            check_positive(name, getattr(self, name))
        if not math.isfinite(self.noise_mean):
            raise ValueError(f"noise_mean: got {self.noise_mean!r}; allowed is a finite number. Usual is -2.3.")
        power_exponent(self.ema)
        check_choice("target", self.target, TARGETS)
        if self.dream is None:
            return
        check_dream(self.dream)
        if self.target != "noise":
            raise ValueError(
                f"dream: got {self.dream!r} with target {self.target!r}; allowed is None there, since an exact score "
                "needs no rectified noise. Set target='noise'."
            )

    def as_json(self) -> dict[str, Json]:
        """The settings as plain values; an infinite ``dream`` as the text "inf"."""
        entries = asdict(self)
        return entries | ({"dream": "inf"} if self.dream == math.inf else {})

    def rate(self, step: int) -> float:
        """The learning rate of the ``step``-th update, counted from 0."""
        return self.lr / math.sqrt(max(step / self.lr_hold, 1.0))
