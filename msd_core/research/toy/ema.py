"""Averaging the weights of a training with a power-function profile (Karras et al. 2024, EDM2, section 3.1).

    average_t = integral_0^t tau^gamma theta(tau) dtau (gamma + 1)/t^(gamma + 1)

In steps of one, with theta_i held from i - 1 to i, this is a running mean with a rate that depends on the step:

    average_i = beta_i average_{i-1} + (1 - beta_i) theta_i,      beta_i = (1 - 1/i)^(gamma + 1)

so that after n steps theta_i has the weight (i^(gamma+1) - (i-1)^(gamma+1))/n^(gamma+1). The profile's width grows with
the training: its standard deviation is always the fraction ``std`` of the time so far,

    std^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)).
"""

from __future__ import annotations

from ...validation import check_count

_WIDEST = 12**-0.5  # gamma = 0, the mean of all weights so far


def power_exponent(std: float) -> float:
    """gamma of the profile with relative standard deviation ``std``, by bisection (std falls as gamma grows).

    Raises:
        ValueError: if ``std`` is not between 0 and 1/sqrt(12), exclusive.
    """
    if not 1e-6 <= std < _WIDEST:
        raise ValueError(f"std: got {std!r}; allowed is 0 < std < {_WIDEST:.4f}, that of the plain mean. Usual is .01.")
    low, high = 0.0, 1 / std
    for _ in range(200):
        middle = (low + high) / 2
        wide = (middle + 1) / ((middle + 2) ** 2 * (middle + 3)) > std**2
        low, high = (middle, high) if wide else (low, middle)
    return (low + high) / 2


def power_rate(step: int, exponent: float) -> float:
    """beta_i of step i = ``step`` >= 1; 0 in the first, which starts the average.

    Raises:
        ValueError: if ``step`` is not a whole number of at least 1.
    """
    check_count("step", step)
    return (1 - 1 / step) ** (exponent + 1)
