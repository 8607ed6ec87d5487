"""Which noise levels to walk when the target is a product density p(y) N(y; x, lambda^2).

Let the product density be Gaussian of spread s, and write sigma = s tan(theta). The probability-flow ODE takes a
deviation from the mean down by cos(theta_a)/cos(theta_b) between two levels; a DDIM step takes it down by that times
cos(theta_a - theta_b). The spread lost over a walk is smallest when all steps are equal in theta:

    sigma_i = s tan(theta_i),   theta_i = (pi/2) (steps - i)/(steps + 1),   i = 0 .. steps

(theta = pi/2, that is sigma = infinity, is where the start comes from). The kernel bounds s by lambda, the data bounds
it by its own standard deviation: s = min(lambda, data_std). With s = lambda the model itself is asked at the levels
lambda sin(theta): they saturate at lambda, so that many levels far above lambda would be spent on nothing.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..validation import MOST_STEPS, check_count, check_number, check_positive


def product_sigmas(bandwidth: float, steps: int, *, data_std: float = 1.0, sigma_max: float = math.inf) -> Tensor:
    """Noise levels for a walk on a product density: descending, ending in 0, shape (steps + 1,), float32.

    Args:
        bandwidth: standard deviation lambda of the kernel.
        steps: number of steps.
        data_std: standard deviation of the data, in units of x; about 1 for the latents of Stable Diffusion.
        sigma_max: cap on the first level, for a model that knows none above it.

    Raises:
        ValueError: for a bandwidth, data_std or sigma_max that is not positive, or fewer than one step.
    """
    check_positive("bandwidth", bandwidth)
    check_positive("data_std", data_std)
    check_count("steps", steps, maximum=MOST_STEPS)
    check_number("sigma_max", sigma_max, "Infinity is no cap.", low=0, infinite=True)
    if not sigma_max > 0:
        raise ValueError(f"sigma_max: got {sigma_max}; allowed is a number > 0, or infinity for no cap.")
    spread = min(float(bandwidth), float(data_std))
    top = min(math.pi / 2 * steps / (steps + 1), math.atan(sigma_max / spread))
    return (spread * torch.linspace(top, 0, steps + 1, dtype=torch.float64).tan()).float()
