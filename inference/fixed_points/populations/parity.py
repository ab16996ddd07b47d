"""Sparse parity: inputs ±1 and the target χ_S, the inputs outside S replaced by Gaussians.

Split w·x into u = w_S·σ on the relevant inputs (σ ∈ {±1}^k) and the rest, which is replaced by s g
with g ~ Normal(0, 1) and s = |w_rest|. The replacement is exact for Gaussian inputs outside S; for
±1 inputs it overestimates |J| of prior-like neurons by about 10 % at d = 35, k = 4 and of aligned
ones by 0.2 %. Beyond the paper (arXiv:2510.15174), which evaluates these averages by sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from inference.fixed_points.populations.hermite import hermite_coefficients, mean_square
from inference.fixed_points.populations.modes import Mode

_CHUNK = 1 << 15  # sign patterns times neurons at a time, so that the arrays stay in cache


@dataclass(frozen=True)
class ParityPopulation:
    """The modes (i, j) of Walsh degree i on S times Hermite degree j in the rest.

        h_{T,j} = 2^-k Σ_σ χ_T(σ) μ_j(w_S·σ + b, s),      amplitude of (i, j): √(Σ_{|T|=i} h_{T,j}²)

    with multiplicity C(k, i) C(d-k, j). Flips of the sign of any one weight, at fixed b, and
    permutations within S and outside it leave prior and density unchanged: different modes do not
    mix, and v may be taken positive and sorted.

    Parameters
    ----------
    activation
        Of the network.
    degree, input_dim
        k and d > k.
    max_order
        Largest degree j in the rest that is resolved.
    target_only
        Whether only the target's mode (k, 0) is kept, which is all that a mean prediction holds.
    """

    activation: str
    degree: int
    input_dim: int
    max_order: int
    target_only: bool = False

    @property
    def num_components(self) -> int:
        """k weights, sorted and positive."""
        return self.degree

    @property
    def blocks(self) -> tuple[int, ...]:
        """One block, the d - k other inputs."""
        return (self.input_dim - self.degree,)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """The target's first."""
        k, rest = self.degree, self.input_dim - self.degree
        orders = range(0 if self.target_only else min(self.max_order, rest) + 1)
        pairs = [(k, 0), *((i, j) for j in orders for i in range(k + 1) if (i, j) != (k, 0))]
        return tuple(Mode((i, j), math.comb(k, i) * math.comb(rest, j), (i, j)) for i, j in pairs)

    @property
    def target(self) -> int:
        """Position of the mode (k, 0)."""
        return 0

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The target's with its sign, which the readouts need, the others' without."""
        out, power = np.empty((len(v), len(self.modes))), np.empty(len(v))
        chunk = max(_CHUNK >> self.degree, 1)
        for start in range(0, len(v), chunk):
            part = slice(start, start + chunk)
            out[part], power[part] = self._amplitudes(v[part], s[part], b[part])
        return out, power

    def _amplitudes(self, v, s, b):
        k, order = self.degree, max(mode.degrees[1] for mode in self.modes)
        patterns = sign_patterns(k)
        u, norm = v @ patterns.T + b[:, None], s[:, :1]
        mu = hermite_coefficients(self.activation, order, u, norm)
        if self.activation == "relu" and not b.any():  # half of E[u²], by symmetry
            power = 0.5 * ((v**2).sum(axis=1) + norm[:, 0] ** 2)
        else:
            power = mean_square(self.activation, u, norm).mean(axis=1)
        if self.target_only:
            return mu[0] @ patterns.prod(axis=1)[:, None] / 2**k, power
        size = (patterns == -1).sum(axis=1)
        of_degree = (size[:, None] == np.arange(k + 1)).astype(float)
        walsh = [walsh_transform(each) for each in mu]
        shares = np.sqrt(np.stack([each**2 @ of_degree for each in walsh], axis=1))
        degrees, orders = np.array([mode.degrees for mode in self.modes]).T
        out = shares[:, orders, degrees]
        out[:, 0] = walsh[0][:, -1]
        return out, power

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """See :class:`Population`."""
        return np.column_stack([(v**2).sum(axis=1), s[:, 0] ** 2])

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Population`."""
        signs = rng.choice([-1.0, 1.0], v.shape)
        relevant = signs * rng.permuted(v, axis=1)
        rest = rng.standard_normal((len(v), self.blocks[0]))
        rest *= (s[:, 0] / np.linalg.norm(rest, axis=1))[:, None]
        return np.concatenate([relevant, rest], axis=1), signs.prod(axis=1)


def sign_patterns(degree: int) -> np.ndarray:
    """All σ ∈ {±1}^k, shape (2^k, k); row r and row 2^k - 1 - r are opposite.

    Examples
    --------
    >>> sign_patterns(2).tolist()
    [[1, 1], [-1, 1], [1, -1], [-1, -1]]
    """
    bits = (np.arange(2**degree)[:, None] >> np.arange(degree)) & 1
    return 1 - 2 * bits


def walsh_transform(values: np.ndarray) -> np.ndarray:
    """2^-k Σ_σ χ_T(σ) values(σ) for every T, shape (n, 2^k) like `values`; T in the order of σ.

    The matrix of characters is a Kronecker product: one half of the relevant inputs, then the
    other.
    """
    k = values.shape[-1].bit_length() - 1
    low, high = _characters(k // 2), _characters(k - k // 2)
    first = (values.reshape(-1, len(low)) @ low).reshape(-1, len(high), len(low))
    return (high @ first).reshape(values.shape) / values.shape[-1]


@lru_cache(maxsize=16)
def _characters(degree: int) -> np.ndarray:
    """χ_T(σ), (2^k, 2^k), both axes in the order of `sign_patterns`; symmetric."""
    patterns = sign_patterns(degree)
    return np.array([patterns[:, subset == -1].prod(axis=1) for subset in patterns], dtype=float)
