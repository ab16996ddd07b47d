"""What ReLU neurons contribute to the modes of parity inputs, in the reduced variables (w_S, s).

    h_{T,j}(w) = 2^-k Σ_σ χ_T(σ) μ_j(w_S·σ, s),        s = |w_rest|

with μ_j the Hermite coefficients of :func:`hermite_coefficients`, here in JAX. ReLU is
u/2 + |u|/2, so that σ and -σ pair up: half of the sign patterns do, h_{T,0} = w_j/2 for T = {j} and
0 for all other odd |T|, and of the modes (i, j) only those with i + j even, or 1, occur. Beyond the
paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from functools import lru_cache, partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from inference.fixed_points.populations.parity import sign_patterns

MAX_ORDER = 4  # largest Hermite degree in the rest that is resolved
_SQRT_2PI = math.sqrt(2 * math.pi)


class BlockFeatures(NamedTuple):
    """Contributions of N neurons."""

    # ψ_i = (h_{T,0})_T, (N, 2^(k-1) + k): the even T, of which the last is S, then single inputs.
    relevant: jax.Array
    powers: jax.Array  # q_ij = Σ_{|T|=i} h_{T,j}² of the modes with j ≥ 1, (N, M)
    tail: jax.Array  # Σ - Σ_{T,j} h_{T,j}², the power beyond the resolved degrees, (N,)


@lru_cache(maxsize=16)
def _patterns(degree: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """σ with last entry +1; χ_T(σ) of even T, or of T without its last input; sizes of both."""
    signs = sign_patterns(degree)[: 2 ** (degree - 1)]
    first = sign_patterns(degree - 1)
    characters = np.array([signs[:, :-1][:, subset == -1].prod(axis=1) for subset in first], dtype=float)
    size = (first == -1).sum(axis=1)
    return signs, characters, size + size % 2, size + 1 - size % 2


def target_position(degree: int) -> int:
    """Position of T = S in `BlockFeatures.relevant`, for even k."""
    return 2 ** (degree - 1) - 1


def rest_modes(degree: int, input_dim: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Degrees i, orders j ≥ 1 and multiplicities of `BlockFeatures.powers`, each (M,).

    Examples
    --------
    >>> [column.tolist() for column in rest_modes(2, 4)]
    [[0, 1, 0, 2], [1, 1, 2, 2], [2.0, 4.0, 1.0, 1.0]]
    """
    rest = input_dim - degree
    orders = range(1, min(MAX_ORDER, rest) + 1)
    pairs = [(i, j) for j in orders for i in range(degree + 1) if (i + j) % 2 == 0 or i + j == 1]
    multiplicities = [float(math.comb(degree, i) * math.comb(rest, j)) for i, j in pairs]
    return *np.array(pairs).T, np.array(multiplicities)


@partial(jax.jit, static_argnums=2)
def block_features(
    relevant_weights: jax.Array,
    rest_norm: jax.Array,
    input_dim: int,
    freedom: jax.Array | None = None,
) -> BlockFeatures:
    """Features of N neurons, from w_S (N, k) with k even and s > 0 (N,); differentiable.

    `freedom` is None for Gaussian inputs outside S. For ±1 inputs it is the number ν of rest
    weights that share s² evenly, d - k under the isotropic prior: averaged over their directions,
    E Σ_j w_j⁴ = 3 s⁴/(ν + 2), so that w_rest·x has the fourth cumulant -6 s⁴/(ν + 2) and h_{T,0}
    the correction -s (t² - 1) φ(t)/(4 (ν + 2)) in each pattern, t = u/s; and of degree j only the
    multilinear part, a share Π_{n<j} (ν - n)/(ν + 2n), is there.

    Examples
    --------
    >>> features = block_features(jnp.array([[1.0, 1.0]]), jnp.array([0.5]), 16)
    >>> features.relevant.shape, features.powers.shape, round(float(features.relevant[0, 1]), 4)
    ((1, 4), (1, 7), 0.4003)
    """
    w, s = relevant_weights, rest_norm[:, None]
    k = w.shape[-1]
    signs, characters, even_sizes, odd_sizes = _patterns(k)
    characters = jnp.asarray(characters, w.dtype) / 2**k
    degrees, orders, _ = rest_modes(k, input_dim)
    u = w @ jnp.asarray(signs.T, w.dtype)
    t = u / s
    density, error = jnp.exp(-0.5 * t * t) / _SQRT_2PI, jax.scipy.special.erf(t / math.sqrt(2))

    smooth = u * error + 2 * s * density
    if freedom is not None:
        smooth = smooth - s * (t * t - 1) * density / (2 * (freedom + 2))
    relevant = jnp.concatenate([smooth @ characters.T, 0.5 * w], axis=1)
    powers = []
    previous, current = jnp.zeros_like(t), jnp.ones_like(t)  # He_n/√(n!), n = j - 2
    for j in range(1, int(orders.max()) + 1):
        if j == 1:
            values = (s * error) @ characters.T
        else:
            scale = 2 * (-1) ** j / math.sqrt(j * (j - 1))
            values = (scale * s * current * density) @ characters.T
            n = j - 2
            previous, current = current, (t * current - math.sqrt(n) * previous) / math.sqrt(n + 1)
        sizes, wanted = odd_sizes if j % 2 else even_sizes, degrees[orders == j]
        power = values**2 @ (sizes[:, None] == wanted).astype(w.dtype)
        if j == 1:  # the linear half of ReLU, h_{∅,1} = s/2
            power = power + (wanted == 0) * (0.5 * s) ** 2
        if freedom is not None:
            for n in range(1, j):
                power = power * (freedom - n) / (freedom + 2 * n)
        powers.append(power)
    powers = jnp.concatenate(powers, axis=1)
    total = 0.5 * ((w**2).sum(axis=1) + rest_norm**2)
    tail = total - (relevant**2).sum(axis=1) - powers.sum(axis=1)
    return BlockFeatures(relevant, powers, jnp.maximum(tail, 0.0))
