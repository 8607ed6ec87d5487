"""What DREAM converges to where everything is linear: data from N(0, 1), noise estimate eps_hat(z) = c z.

Training to convergence makes c the regression coefficient of the noise n' on the noisy sample z' = y + sigma n' that c
itself leads to. With lambda = s^p, n' = n + lambda (n - c (y + sigma n)) = B n - lambda c y and z' = A y + sigma B n,
where A = 1 - sigma lambda c and B = 1 + lambda - lambda sigma c, so that

    c (A^2 + sigma^2 B^2) = sigma B^2 - lambda c A.

The denoiser is D(z) = (1 - sigma c) z; without DREAM it is E[y | z] = z/(1 + sigma^2). Of the cubic's real roots the
smallest is where a training from c = 0 ends. At p = 0 they are D/z = (1 - sigma^2)/(1 + sigma^2), 0 and -1, so that a
training from c = 0 ends at twice the posterior mean's shrinkage below sigma = 1 and at the data's mean above. But
D = -z attracts too, the root in the middle is what keeps a training from it, and at sigma = 1 that meets the first:
there nothing does, and small fluctuations are enough.
"""

from __future__ import annotations

import math

from numpy.polynomial import Polynomial

from ...validation import check_positive
from ..dream import check_dream


def converged_denoiser(sigma: float, p: float) -> float:
    """D(z; sigma)/z for data from N(0, 1), after training with DREAM's exponent ``p``; equation above.

    Raises:
        ValueError: for a level that is not > 0, or an exponent outside [0, infinity].
    """
    check_positive("sigma", sigma)
    check_dream(p)
    trust = 0.0 if math.isinf(p) else (sigma / math.hypot(1, sigma)) ** p
    c = Polynomial([0, 1])
    a, b = 1 - sigma * trust * c, 1 + trust - trust * sigma * c
    excess = c * (a**2 + sigma**2 * b**2) - sigma * b**2 + trust * c * a
    slope, root = excess.deriv(), 0.0
    for _ in range(100):  # Newton from below; halves the distance to the double root of p = 0
        root -= float(excess(root) / slope(root)) if slope(root) else 0.0
    return max(0.0, 1 - sigma * root)
