"""Single-index teachers: Gaussian inputs and the target He_p(z)/√(p!), z = u·x.

Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import betaln

from inference.fixed_points.populations.hermite import hermite_coefficients, mean_square
from inference.fixed_points.populations.modes import Mode


@dataclass(frozen=True)
class SingleIndexPopulation:
    """The modes He_i(z) times harmonics of degree l_B in every block of the other directions.

    w = w_u u + Σ_B s_B ŝ_B with ŝ_B a unit vector of block B. From φ(rζ + b) = Σ_n μ_n(b, r)
    He_n(ζ)/√(n!) and the addition theorem of Hermite polynomials the component along He_i(z) and
    degree j_B in block B is

        h = √(n!/(i! Π_B j_B!)) (w_u/r)^i Π_B (s_B/r)^{j_B} μ_n(b, r),    n = i + Σ_B j_B,    r = |w|

    and its part in the harmonics of degree l_B is h Π_B √f_{j_B l_B}. Rotations of the blocks and
    w_u → -w_u are symmetries, so that a sector is (parity of i, l_1, l_2, …), of dimension Π_B dim
    H_{l_B}; modes of one sector mix.

    Parameters
    ----------
    activation
        Of the network.
    degree
        p.
    input_dim, num_relevant
        d and k.
    anisotropic
        True: blocks S ⊖ u and the other inputs (ARD); False: one block, all that is orthogonal to
        u.
    max_degree, max_order
        Largest n, and largest Σ_B j_B, that are resolved.
    target_only
        Whether only the modes that mix with the target are kept, which are all that a mean
        prediction can hold.

    Examples
    --------
    >>> geometry = SingleIndexPopulation("relu", 2, 5, 2, False, 2, 2)
    >>> [(mode.degrees, mode.sector[1:], mode.multiplicity) for mode in geometry.modes][:4]
    [((0, 0), (0,), 1), ((0, 2), (0,), 1), ((2, 0), (0,), 1), ((1, 0), (0,), 1)]
    """

    activation: str
    degree: int
    input_dim: int
    num_relevant: int
    anisotropic: bool
    max_degree: int
    max_order: int
    target_only: bool = False

    num_components = 1

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Dimensions of the blocks."""
        k, d = self.num_relevant, self.input_dim
        return tuple(n for n in ((k - 1, d - k) if self.anisotropic else (d - 1,)) if n > 0)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """See :class:`Population`."""
        found = []
        for orders in itertools.product(range(self.max_order + 1), repeat=len(self.blocks)):
            if sum(orders) > self.max_order:
                continue
            harmonics = [range(j % 2, j + 1, 2) for j in orders]
            for i in range(self.max_degree - sum(orders) + 1):
                for parts in itertools.product(*harmonics):
                    sizes = [harmonic_dimension(part, n) for part, n in zip(parts, self.blocks, strict=True)]
                    if math.prod(sizes):
                        found.append(Mode((i % 2, *parts), math.prod(sizes), (i, *orders)))
        if self.target_only:
            found = [m for m in found if m.sector[0] == self.degree % 2 and not any(m.sector[1:])]
        # The target's sector need not be first; modes of a sector stay together.
        return tuple(sorted(found, key=lambda mode: (mode.sector[1:], mode.sector[0], mode.degrees)))

    @cached_property
    def target(self) -> int:
        """See :class:`Population`."""
        zero = (0,) * len(self.blocks)
        return next(
            index
            for index, mode in enumerate(self.modes)
            if mode.degrees == (self.degree, *zero) and mode.sector[1:] == zero
        )

    @cached_property
    def _factors(self) -> np.ndarray:
        """√(n!/(i! Π j!)) Π √f of every mode."""
        out = []
        for mode in self.modes:
            value = math.factorial(sum(mode.degrees)) / math.prod(map(math.factorial, mode.degrees))
            for j, part, n in zip(mode.degrees[1:], mode.sector[1:], self.blocks, strict=True):
                value *= harmonic_fraction(j, part, n)
            out.append(math.sqrt(value))
        return np.array(out)

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Population`."""
        parts = np.concatenate([v, s], axis=1)
        r = np.sqrt((parts**2).sum(axis=1))
        mu = hermite_coefficients(self.activation, self.max_degree, b, r)
        powers = (parts / r[:, None])[:, :, None] ** np.arange(self.max_degree + 1)
        degrees = np.array([mode.degrees for mode in self.modes])
        out = mu[degrees.sum(axis=1)].T * self._factors
        for axis in range(parts.shape[1]):
            out *= powers[:, axis][:, degrees[:, axis]]
        return out, mean_square(self.activation, b, r)

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """See :class:`Population`."""
        k, d = self.num_relevant, self.input_dim
        relevant, squares = v[:, 0] ** 2, s**2
        if not self.anisotropic:
            total = squares.sum(axis=1)
            share = (k - 1) / (d - 1) if d > 1 else 0.0
            return np.column_stack([relevant + share * total, (1 - share) * total])
        rest = squares[:, -1] if d > k else np.zeros(len(v))
        return np.column_stack([relevant + squares.sum(axis=1) - rest, rest])

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Population`."""
        k, d, sign = self.num_relevant, self.input_dim, rng.choice([-1.0, 1.0], len(v))
        # An orthonormal basis of R^d whose first vector is u and whose first k span S.
        basis = np.eye(d)
        basis[:k, :k] = np.linalg.qr(np.column_stack([np.full(k, k**-0.5), np.eye(k)[:, : k - 1]]))[0]
        basis[:k, 0] = k**-0.5
        coordinates = [(sign * v[:, 0])[:, None]]
        for norm, size in zip(s.T, self.blocks, strict=True):
            direction = rng.standard_normal((len(v), size))
            coordinates.append(direction * (norm / np.linalg.norm(direction, axis=1))[:, None])
        return np.concatenate(coordinates, axis=1) @ basis.T, sign**self.degree


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
    """f_jl, the share of H_l in |ŝ^{⊗j}|² = 1, ŝ uniform on the sphere in R^n, j = `power`, l =
    `degree`.

    The coefficients of t^j = Σ_l f_jl P_l(t) in the Gegenbauer polynomials of R^n with P_l(1) = 1:

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
