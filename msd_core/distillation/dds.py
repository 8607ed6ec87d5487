"""Delta Denoising Score: an edit, by what the new prompt predicts and the old one does not.

    gradient = w(t) (eps_hat(z; prompt) - eps_hat(z_src; source prompt)),   z = x + sigma n,   z_src = x_src + sigma n

(Hertz et al. 2023), with the same noise and level for both, t ~ U(t_min, t_max). What SDS would do to the source under
its own prompt is the error that it makes anywhere, and is taken off: nothing moves while picture and prompt are the
source's. With D = z - sigma eps_hat it is computed as w ((x - D) - (x_src - D_src))/sigma.

An edit is pulled in the latent, as its authors do it: the image pull would also draw the picture to what the decoder
makes of its latent, over and over, and with the demo model that destroys it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor

from ..companions import source_of
from ..denoiser import RowCounter, expand_sigma
from .base import t_max_setting, t_min_setting
from .noising import WEIGHTINGS, Noising, weighting_setting


def delta(x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, purpose: str) -> Tensor:
    """``sigma (eps_hat - eps_hat_src)`` (N, *) for rows ``x`` (N, *) and their source, under one noise.

    Args:
        x: (N, *).
        denoiser: the guided denoiser, with a source; it counts the source's rows too.
        sigma: a level a row, (N,).
        noise: n, of x's shape.
        purpose: what an error calls the method.
    """
    source, spread = source_of(denoiser, purpose), expand_sigma(sigma, x)
    given, asked = source.like(x), RowCounter(source.denoiser)
    of_source = given - asked(given + spread * noise, sigma)
    denoiser.rows += asked.rows
    return x - denoiser(x + spread * noise, sigma) - of_source


@dataclass(frozen=True)
class DDS(Noising):
    """Delta Denoising Score: edits a picture towards another prompt, and leaves what both prompts say alike.

    Raises:
        ValueError: for an unknown weighting or annealing, times out of order, or no sample; when called, for a
            denoiser without source.
    """

    label: ClassVar[str] = "DDS"
    needs: ClassVar[tuple[str, ...]] = ("source",)
    recommended: ClassVar[Mapping[str, object]] = {
        "steps": 200,
        "cfg": 7.5,
        "optimizer": "gd",
        "lr": 0.05,
        "pull": "latent",
    }

    weighting: str = weighting_setting("uniform")
    t_min: float = t_min_setting(0.05)
    t_max: float = t_max_setting(0.95)

    def at(self, x: Tensor, denoiser: RowCounter, sigma: Tensor, noise: Tensor, times: Sequence[float]) -> Tensor:
        """w (eps_hat - eps_hat_src) (N, *) at x + sigma noise and x_src + sigma noise."""
        spread = expand_sigma(sigma, x)
        return WEIGHTINGS[self.weighting](spread) / spread * delta(x, denoiser, sigma, noise, "DDS")
