"""Irreducible parts of the powers of a unit vector under rotations.

With ŝ uniform on the sphere in R^n, the tensor ŝ^{⊗j} has one part in each space H_l of harmonic
polynomials of degree l = j, j-2, …; its squared norms f_jl are the coefficients of t^j = Σ_l f_jl
P_l(t) in the Gegenbauer polynomials of R^n with P_l(1) = 1. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math

from scipy.special import betaln


def harmonic_dimension(degree: int, n: int) -> int:
    """dim H_l(n) = C(n+l-1, l) - C(n+l-3, l-2), with l = `degree`.

    Examples
    --------
    >>> [[harmonic_dimension(degree, n) for degree in range(4)] for n in (3, 1)]
    [[1, 3, 5, 7], [1, 1, 0, 0]]
    """
    if n == 1:
        return int(degree <= 1)
    lower = math.comb(n + degree - 3, degree - 2) if degree >= 2 else 0
    return math.comb(n + degree - 1, degree) - lower


def harmonic_fraction(power: int, degree: int, n: int) -> float:
    """f_jl, the share of H_l in |ŝ^{⊗j}|² = 1, with j = `power` and l = `degree`.

        f_jl = dim H_l E[t^j P_l(t)],    E[t^j P_l] = j!/(2^l (j-l)! ((n-1)/2)_l) E[t^(j-l) (1-t²)^l]   (Rodrigues)

    with t one coordinate of a unit vector, t² ~ Beta(1/2, (n-1)/2).

    Examples
    --------
    >>> round(harmonic_fraction(2, 0, 5), 6), round(harmonic_fraction(2, 2, 5), 6)
    (0.2, 0.8)
    """
    if degree > power or (power - degree) % 2:
        return 0.0
    if n == 1:
        return float(degree == power % 2)
    half = (n - 1) / 2
    log_moment = betaln((power - degree + 1) / 2, half + degree) - betaln(0.5, half)
    log_factor = math.lgamma(power + 1) - math.lgamma(power - degree + 1) - degree * math.log(2)
    log_factor -= math.lgamma(half + degree) - math.lgamma(half)
    return harmonic_dimension(degree, n) * math.exp(log_factor + log_moment)
