"""Node sets over the direction of a neuron, shared by every parity theory.

A neuron is w = R × direction, and a parity theory needs of the direction only the relevant weights w_S, in the
positive orthant by sign symmetry, and s = |w_rest|. Coordinates that put the narrow aligned mode (equal |w_j|)
at a corner:

    w_S = a (1 + λ ω),   s = a r,   R = a D,   D² = k + λ² + r²,    ω ∈ S^(k-2) orthogonal to (1, …, 1)
    dw_S s^(d-k-1) ds  ∝  R^(d-1) dR · λ^(k-2) r^(d-k-1) D^(-d) dλ dr dω,    0 ≤ λ ≤ λ_max = -1/min_j ω_j

λ and r run over trapezoid rules in stretched variables, whose error falls exponentially; ω and the shifts of
both rules over a scrambled Sobol sequence. Independent scrambles are independent replicates, which give the
error estimate. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import lru_cache

import numpy as np
from scipy.special import log_expit
from scipy.stats import qmc

from inference.fixed_points.radial import radial_offsets
from inference.fixed_points.relu import parity_overlap
from models import checks

NUM_REPLICATES = 8


@dataclass(frozen=True)
class Resolution:
    """How fine a node set is.

    Parameters
    ----------
    num_deviations
        Sobol points over ω and the two shifts; a power of 2.
    steps
        Steps of log λ in units of 1/√(2(k-1)), at most 0.7, and of log r in units of 1/√(2(d-k)), at most 0.75/√(2k):
        the widths of log λ in a Gaussian cusp, of log s under a Gaussian, and of log r under the prior. In a cusp the
        step of log r can be longer than a width since the rule's shift differs from one Sobol point to the next.
        Under the prior it has to be exact to 1e-6: a wide ARD network's precisions amplify its error by N/(2 α0).
    """

    num_deviations: int
    steps: tuple[float, float]


def default_resolution(degree: int, coarse: bool = False, refinement: int = 1) -> Resolution:
    """Resolution for degree k: a sphere S^(k-2) of deviations needs more points as k grows.

    Parameters
    ----------
    degree
        k.
    coarse
        For the set on which curves are followed and idle cells are found. It shares the grid of the fine ones.
    refinement
        This many times the Sobol points of the fine sets; a power of 2.
    """
    # With k > 2 the deviations limit the accuracy, and the steps need not be as fine.
    steps = (0.7, 1.7) if degree == 2 else (1.7, 3.2)
    if coarse:
        return Resolution({2: 4, 4: 8}.get(degree, 16), steps)
    return Resolution(refinement * {2: 8, 4: 64}.get(degree, 128), steps)


def check_refinement(refinement: int) -> None:
    """``ValueError`` unless `refinement` is a power of 2: Sobol sequences are balanced at those."""
    checks.whole("refinement", refinement, 1)
    if refinement & (refinement - 1):
        raise ValueError(f"refinement must be a power of 2, got {refinement}.")


@dataclass(frozen=True)
class Grid:
    """The trapezoid rules in x (of λ) and z (of r), before their shifts, and that over the radius.

    λ = λ_max ξ with log(ξ/(1-ξ)) = stretch(x), and log r = stretch(z), where outside an interval (y₋, y₊)
    stretch(y) = y + ½ exp(2(y - y₊)) - ½ exp(-2(y - y₋)) makes algebraic tails fall doubly exponentially.
    """

    degree: int
    input_dim: int
    x: np.ndarray
    z: np.ndarray
    x_step: float
    z_step: float
    radial_offsets: np.ndarray

    @classmethod
    def build(cls, degree: int, input_dim: int, resolution: Resolution) -> Grid:
        """Rules that reach out until what is left of the measure is below 1e-7."""
        rest = input_dim - degree
        x_step = min(resolution.steps[0] / math.sqrt(2 * (degree - 1)), 0.7)
        z_step = min(resolution.steps[1] / math.sqrt(2 * rest), 0.75 / math.sqrt(2 * degree))
        # The measure falls as ξ^(k-1) towards the aligned corner and as 1-ξ towards the other end; as r^(d-k)
        # towards 0 and as r^(-k) towards infinity.
        x = _rule(_DEVIATION_INTERVAL, degree - 1, 1, x_step)
        z = _rule(_norm_interval(input_dim), rest, degree, z_step)
        offsets = radial_offsets(input_dim)
        return cls(degree, input_dim, x, z, x_step, z_step, offsets)

    def deviations(self, omega: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """λ and the log of λ^(k-2) dλ/dx at ω (..., k) and x (...)."""
        logit, log_slope = _stretch(x, _DEVIATION_INTERVAL)
        log_deviation = log_expit(logit) - np.log(-omega.min(axis=-1))
        log_jacobian = log_deviation + log_expit(-logit) + log_slope
        return np.exp(log_deviation), (self.degree - 2) * log_deviation + log_jacobian

    def ratios(self, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """r and the log of r^(d-k-1) dr/dz at z (...)."""
        log_ratio, log_slope = _stretch(z, _norm_interval(self.input_dim))
        return np.exp(log_ratio), (self.input_dim - self.degree) * log_ratio + log_slope


# log(ξ/(1-ξ)) between a cusp of relative width 2e-3 and the far end of the orthant.
_DEVIATION_INTERVAL = (-6.0, 2.0)


def _norm_interval(input_dim: int) -> tuple[float, float]:
    # log r from below every aligned mode to above the bulk of the prior.
    return math.log(0.004), math.log(4 * math.sqrt(input_dim))


def _stretch(y: np.ndarray, interval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """stretch(y) and the log of its derivative."""
    outward, inward = np.exp(2 * (y - interval[1])), np.exp(-2 * (y - interval[0]))
    return y + 0.5 * outward - 0.5 * inward, np.log1p(outward + inward)


def _rule(interval: tuple[float, float], fall_low: float, fall_high: float, step: float) -> np.ndarray:
    """Unshifted nodes, out to where a measure that falls as exp(-fall · distance) is below exp(-16)."""
    reach_low, reach_high = (max(0.5 * math.log(32 / fall), 0.0) for fall in (fall_low, fall_high))
    return np.arange(interval[0] - reach_low - step, interval[1] + reach_high + step, step)


def deviation_directions(uniform: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ω orthogonal to (1, …, 1), sorted upwards, and the log density of dω, from uniforms (n, k-2).

    By permutation symmetry the sorted chamber is enough. It is the cone over a simplex of spacings π, filled by
    stick breaking; dω ∝ |Pπ|^(-(k-1)) dπ with P the projection orthogonal to (1, …, 1).
    """
    spacings = np.empty((len(uniform), degree - 1))
    left = np.ones(len(uniform))
    for j in range(degree - 2):
        taken = 1 - (1 - uniform[:, j]) ** (1 / (degree - 2 - j))
        spacings[:, j] = left * taken
        left = left * (1 - taken)
    spacings[:, -1] = left
    sorted_weights = np.concatenate([np.zeros((len(uniform), 1)), spacings.cumsum(axis=1)], axis=1)
    centred = sorted_weights - sorted_weights.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    return centred / norm[:, None], -(degree - 1) * np.log(norm)


@dataclass(frozen=True)
class DirectionNodes:
    """One replicate of directions with their weights.

    Parameters
    ----------
    grid
        The two trapezoid rules.
    log_measure
        Log weight of each node under the uniform measure over directions, up to a constant, shape (n,).
    relevant_fraction
        c² = |w_S|²/R², shape (n,).
    rest_norm
        s/R = √(1-c²), shape (n,); kept because 1-c² loses its digits where c is close to 1.
    overlap_squared
        (J/R)², shape (n,).
    cell
        Flat index of the (x, z) cell of the grid in which the node lies, shape (n,).
    relevant_weights
        w_S/R, shape (n, k), ascending.
    """

    grid: Grid
    log_measure: np.ndarray
    relevant_fraction: np.ndarray
    rest_norm: np.ndarray
    overlap_squared: np.ndarray
    cell: np.ndarray
    relevant_weights: np.ndarray

    def __len__(self) -> int:
        return len(self.log_measure)

    @classmethod
    def _arrays(cls) -> list[str]:
        return [field.name for field in fields(cls) if field.name != "grid"]

    def take(self, index: np.ndarray) -> DirectionNodes:
        """The nodes at `index`, a boolean mask or positions."""
        return DirectionNodes(self.grid, *(getattr(self, name)[index] for name in self._arrays()))

    @classmethod
    def concatenate(cls, parts: list[DirectionNodes]) -> DirectionNodes:
        """All nodes of several sets on one grid."""
        return cls(
            parts[0].grid,
            *(np.concatenate([getattr(part, name) for part in parts]) for name in cls._arrays()),
        )

    def on_edge(self) -> np.ndarray:
        """Whether a node lies in an outermost cell of the grid, shape (n,)."""
        row, column = np.divmod(self.cell, len(self.grid.z))
        last_row, last_column = len(self.grid.x) - 1, len(self.grid.z) - 1
        return (row == 0) | (row == last_row) | (column == 0) | (column == last_column)


def nodes_at(
    grid: Grid, omega: np.ndarray, log_density: np.ndarray, x: np.ndarray, z: np.ndarray, cell: np.ndarray
) -> DirectionNodes:
    """Nodes at given coordinates; `omega` (..., k) and the others (...) broadcast, and are flattened."""
    k, d = grid.degree, grid.input_dim
    deviation, log_dx = grid.deviations(omega, x)
    ratio, log_dz = grid.ratios(z)
    weights = 1 + deviation[..., None] * omega
    squared_norm = k + deviation**2 + ratio**2
    log_measure = log_density + log_dx + log_dz - 0.5 * d * np.log(squared_norm)
    return DirectionNodes(
        grid,
        log_measure.ravel(),
        ((k + deviation**2) / squared_norm).ravel(),
        (ratio / np.sqrt(squared_norm)).ravel(),
        (parity_overlap(weights, ratio) ** 2 / squared_norm).ravel(),
        np.broadcast_to(cell, squared_norm.shape).ravel(),
        (weights / np.sqrt(squared_norm)[..., None]).reshape(-1, k),
    )


@lru_cache(maxsize=48)
def direction_nodes(degree: int, input_dim: int, replicate: int, resolution: Resolution) -> DirectionNodes:
    """Nodes of one replicate; they depend on no hyperparameter, so that a phase diagram reuses them.

    Parameters
    ----------
    degree, input_dim
        k, even, and d > k.
    replicate
        Which independent scramble.
    resolution
        See :class:`Resolution`.

    Examples
    --------
    >>> nodes = direction_nodes(2, 10, 0, default_resolution(2))
    >>> weight = np.exp(nodes.log_measure - nodes.log_measure.max())
    >>> round(float(np.average(nodes.relevant_fraction, weights=weight)), 3)
    0.2
    """
    grid = Grid.build(degree, input_dim, resolution)
    uniform = qmc.Sobol(degree, rng=replicate).random(resolution.num_deviations)
    omega, log_density = deviation_directions(uniform[:, 2:], degree)
    cells = np.arange(len(grid.x) * len(grid.z)).reshape(len(grid.x), len(grid.z))
    # Axes: (deviation direction, λ, r).
    return nodes_at(
        grid,
        omega[:, None, None, :],
        log_density[:, None, None],
        (grid.x + grid.x_step * uniform[:, :1])[:, :, None],
        (grid.z + grid.z_step * uniform[:, 1:2])[:, None, :],
        cells,
    )


def replicates(degree: int, input_dim: int, refinement: int = 1) -> list[DirectionNodes]:
    """The independent node sets over which the parity theories average."""
    resolution = default_resolution(degree, refinement=refinement)
    return [direction_nodes(degree, input_dim, r, resolution) for r in range(NUM_REPLICATES)]
