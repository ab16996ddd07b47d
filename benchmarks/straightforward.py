"""The adaptive-kernel equations solved the straightforward way: the benchmark's peer, and an oracle
for the tests.

Fixed importance-sampling nodes over all k + 1 variables (w_S, s), the damped iteration of the
equations with a bisection for λ_k0 inside, one cell of the phase diagram at a time. Nothing of the
library's node sets, radial rule, Newton steps or continuation is used; of its closed forms only the
Hermite modes of ReLU.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq
from scipy.stats import norm, qmc

from inference.fixed_points.populations.parity import ParityPopulation

_SIZE, _DEVIATION, _REST = (-4.5, 2.5), (-7.0, 1.0), (-4.5, 1.0)  # ranges of log a, log λ and log s


def mode_powers(relevant_weights: np.ndarray, rest_norm: np.ndarray, order: int) -> np.ndarray:
    """q_ij of ReLU, shape (n, k + 1, order + 1), for w_S (n, k) and s (n,)."""
    n, k = relevant_weights.shape
    population = ParityPopulation("relu", k, k + order, order)
    amplitudes, _ = population.amplitudes(relevant_weights, rest_norm[:, None], np.zeros(n))
    out = np.empty((n, k + 1, order + 1))
    for mode, column in zip(population.modes, amplitudes.T, strict=True):
        out[:, mode.degrees[0], mode.degrees[1]] = column**2
    return out


@dataclass(frozen=True)
class Nodes:
    """Nodes w_S = a (1 + λ ω), a, λ and s log-uniform, ω uniform on the sphere orthogonal to (1, …,
    1).

    Parameters
    ----------
    power
        q_ij, shape (n, k + 1, order + 1).
    tail
        Σ - Σ_ij q_ij, shape (n,).
    log_measure
        Log of the volume that a node stands for, with s^(d-k-1), shape (n,).
    norms
        |w_S|² and s², shape (n, 2).
    """

    power: np.ndarray
    tail: np.ndarray
    log_measure: np.ndarray
    norms: np.ndarray

    @classmethod
    def draw(cls, d: int, k: int, num: int, order: int = 4, seed: int = 0):
        """`num` scrambled Sobol points, less those outside the positive orthant."""
        uniform = qmc.Sobol(k + 3, rng=seed).random(num)
        ranges = np.array([_SIZE, _DEVIATION, _REST])
        log_a, log_l, log_s = ranges[:, :1] + (ranges[:, 1:] - ranges[:, :1]) * uniform[:, :3].T
        gauss = norm.ppf(uniform[:, 3:])
        gauss -= gauss.mean(axis=1, keepdims=True)
        omega = gauss / np.linalg.norm(gauss, axis=1, keepdims=True)
        w = np.exp(log_a)[:, None] * (1 + np.exp(log_l)[:, None] * omega)
        kept = (w > 0).all(axis=1)
        w, log_a, log_l, log_s = w[kept], log_a[kept], log_l[kept], log_s[kept]
        s = np.exp(log_s)
        parts = zip(np.array_split(w, 64), np.array_split(s, 64), strict=True)
        power = np.concatenate([mode_powers(*part, order) for part in parts])
        tail = np.maximum(0.5 * ((w**2).sum(axis=1) + s**2) - power.sum(axis=(1, 2)), 0)
        # dw_S ∝ a^(k-1) λ^(k-2) da dλ dω, da = a dlog a, dλ = λ dlog λ, and s^(d-k-1) ds.
        measure = k * log_a + (k - 1) * log_l + (d - k) * log_s
        return cls(power, tail, measure, np.stack([(w**2).sum(axis=1), s**2], axis=1))


def solve(
    nodes: Nodes, d: int, k: int, width: int, kappa: float, num_data: int | None, tolerance: float = 1e-6
) -> tuple[float, float]:
    """m and the test MSE of a draw with the isotropic prior at γ = 1/2, σ_w = σ_a = 1."""
    order = nodes.power.shape[2] - 1
    c = 1 / width
    multiplicity = np.array(
        [[math.comb(k, i) * math.comb(d - k, j) for j in range(order + 1)] for i in range(k + 1)]
    )
    log_prior = nodes.log_measure - 0.5 * d * nodes.norms.sum(axis=1)
    value, ridge = np.full((k + 1, order + 1), 1e-4), kappa**2 + (0 if num_data is None else 0.5 / num_data)

    def density(log_target):
        inverse = 1 / (ridge + value)
        inverse[k, 0] = 1 / (ridge + math.exp(log_target))
        g = np.tensordot(nodes.power, inverse, 2) + nodes.tail / ridge
        pull = nodes.power[:, k, 0] * inverse[k, 0] ** 2
        log_p = log_prior - 0.5 * np.log1p(c * g) + 0.5 * c * pull / (1 + c * g)
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    for _ in range(200):
        log_target = brentq(lambda x: math.log(density(x) @ nodes.power[:, k, 0]) - x, -25, 5, xtol=1e-6)
        p = density(log_target)
        new = np.tensordot(p, nodes.power, 1) / multiplicity.clip(1)
        unresolved, new_ridge = p @ nodes.tail, kappa**2
        if num_data is not None:
            new_ridge += ((multiplicity * new * ridge / (new + ridge)).sum() + unresolved) / num_data
        change = max(np.abs(np.log((new + 1e-12) / (value + 1e-12))).max(), abs(math.log(new_ridge / ridge)))
        value, ridge = new, 0.5 * (ridge + new_ridge)
        if change < tolerance:
            break
    m = value[k, 0] / (ridge + value[k, 0])
    share = 0 if num_data is None else (multiplicity * (value / (value + ridge)) ** 2).sum() / num_data
    return m, (1 - m) ** 2 / (1 - share) + (multiplicity * value * ridge / (value + ridge)).sum() + unresolved
