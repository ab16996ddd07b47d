"""Coordinates of a neuron in which every average of the theories is a smooth integral.

A neuron's relevant components v (in the positive orthant, by sign symmetry), the norms s_B of its
blocks of n_B other weights and its bias b are written as

    v = a (1 + λ ω),   s_B = a r_B,   R = a D,   D² = k + λ² + Σ_B r_B²,   ω ∈ S^(k-2) orthogonal to (1, …, 1)
    dv Π s_B^(n_B-1) ds_B  ∝  R^(d-1) dR · λ^(k-2) Π r_B^(n_B-1) D^(-d) dλ dr dω,    0 ≤ λ ≤ λ_max = -1/min_j ω_j

which puts the narrow aligned mode of a parity, equal v_j, at a corner. λ, r_B, b and, where the
activation is not homogeneous, R run over trapezoid rules in stretched variables, whose error falls
exponentially; ω and the shifts of all rules over a scrambled Sobol sequence, so that a node set is
an unbiased estimate and independent scrambles tell its error. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.special import log_expit

from inference.fixed_points.populations.problem import PopulationProblem

# log(ξ/(1-ξ)), ξ = λ/λ_max, between a cusp of relative width 2e-3 and the far end of the orthant.
_DEVIATION_INTERVAL = (-6.0, 2.0)
_BIAS_REACH = 27.0  # largest |b|/R
_BIAS_STEP = 0.4
# Standard deviations of the prior that |w| may reach; with ARD relevant weights grow far beyond it.
_REACH, _REACH_ARD = 50.0, 150.0


@dataclass(frozen=True)
class Axis:
    """A trapezoid rule before its shift: node i lies in the cell [low + i step, low + (i + 1)
    step).

    Parameters
    ----------
    low, step, count
        Of the stretched variable.
    """

    low: float
    step: float
    count: int

    @classmethod
    def between(cls, low: float, high: float, step: float) -> Axis:
        """Cells that cover [low, high]."""
        return cls(low, step, math.ceil((high - low) / step))


@dataclass(frozen=True)
class Neurons:
    """Neurons in reduced variables, at R = 1 where the length separates.

    Parameters
    ----------
    components, norms, bias
        v (n, k), s (n, blocks) and b (n,).
    log_measure
        Log of the prior's measure without its Gaussian factors, up to a constant, shape (n,).
    """

    components: np.ndarray
    norms: np.ndarray
    bias: np.ndarray
    log_measure: np.ndarray


@dataclass(frozen=True)
class Chart:
    """The coordinates of one problem.

    Parameters
    ----------
    problem
        Constants.
    """

    problem: PopulationProblem

    @property
    def num_components(self) -> int:
        """k, or 1 on a single index."""
        return self.problem.population.num_components

    @property
    def num_uniforms(self) -> int:
        """Coordinates of ω, uniform on [0, 1]."""
        return max(self.num_components - 2, 0)

    @property
    def dimension(self) -> int:
        """Of what has the length R: the weights and, where the length separates, the bias."""
        extra = self.problem.homogeneous and self.problem.bias_scale is not None
        return self.problem.input_dim + int(extra)

    @cached_property
    def direction_axes(self) -> tuple[Axis, ...]:
        """Of λ (from two components on) and of every r_B.

        Steps are in units of the widths of what they resolve: of log λ in a Gaussian cusp, of log s
        under a Gaussian, of log r under the prior.
        """
        k = self.num_components
        # With k > 2 the deviations limit the accuracy, and the steps need not be as fine.
        deviation, norm = (0.7, 1.7) if k <= 2 else (1.7, 3.2)
        axes = []
        if k >= 2:
            step = min(deviation / math.sqrt(2 * (k - 1)), 0.7)
            axes.append(_reaching(_DEVIATION_INTERVAL, k - 1, 1, step))
        for size in self.problem.population.blocks:
            step = min(norm / math.sqrt(2 * size), 0.75 / math.sqrt(2 * k))
            axes.append(_reaching(self._norm_interval, size, k, step))
        return tuple(axes)

    @cached_property
    def axes(self) -> tuple[Axis, ...]:
        """Those of the directions, then that of log R where it does not separate, and that of the
        bias."""
        axes, problem = list(self.direction_axes), self.problem
        if not problem.homogeneous:
            d = problem.input_dim
            low, high = (
                -max(1.5, 34 / d),
                max(math.log(self._reach / math.sqrt(d)), 0.5 * math.log(1 + 80 / d)),
            )
            axes.append(Axis.between(low, high, min(1.2 / math.sqrt(2 * d), 0.3)))
        if problem.bias_scale is not None:
            end = math.asinh(_BIAS_REACH / self._relative_bias)
            axes.append(Axis.between(-end, end, _BIAS_STEP))
        return tuple(axes)

    @property
    def _typical_length(self) -> float:
        return math.sqrt(self.problem.input_dim / self.problem.precision)

    @property
    def _reach(self) -> float:
        return _REACH if self.problem.prior is None else _REACH_ARD

    @property
    def _relative_bias(self) -> float:
        """Unit g/R of b = g sinh y: below it the prior of b is resolved even at the largest R."""
        longest = self._typical_length * self._reach / math.sqrt(self.problem.input_dim)
        return (1 + (longest / (2 * self.problem.bias_scale)) ** 2) ** -0.5

    @property
    def _norm_interval(self) -> tuple[float, float]:
        # log r from below every aligned mode to above the bulk of the prior.
        return math.log(0.004), math.log(4 * math.sqrt(self.problem.input_dim))

    def directions(self, y: np.ndarray, uniforms: np.ndarray) -> Neurons:
        """Neurons of length R = 1 without bias, at y (n, direction axes) and `uniforms` (n,
        num_uniforms)."""
        problem, k = self.problem, self.num_components
        columns = list(y.T)
        omega, log_measure = deviations(uniforms, k, len(y))
        relevant = np.ones((len(y), k))
        if k >= 2:
            deviation, log_dx = self._deviation(omega, columns.pop(0))
            relevant += deviation[:, None] * omega
            log_measure = log_measure + log_dx
        ratios = np.empty((len(y), len(columns)))
        for column, size in enumerate(problem.population.blocks):
            log_ratio, log_slope = _stretch(columns[column], self._norm_interval)
            ratios[:, column] = np.exp(log_ratio)
            log_measure += size * log_ratio + log_slope
        squared = (relevant**2).sum(axis=1) + (ratios**2).sum(axis=1)
        log_measure -= 0.5 * problem.input_dim * np.log(squared)
        scale = (squared**-0.5)[:, None]
        return Neurons(relevant * scale, ratios * scale, np.zeros(len(y)), log_measure)

    def neurons(self, y: np.ndarray, uniforms: np.ndarray) -> Neurons:
        """Neurons at coordinates y (n, axes) and `uniforms` (n, num_uniforms)."""
        problem, count = self.problem, len(self.direction_axes)
        found, columns = self.directions(y[:, :count], uniforms), list(y[:, count:].T)
        log_measure, length, bias = found.log_measure, np.ones(len(y)), found.bias
        if not problem.homogeneous:
            log_length = columns.pop(0)
            length = self._typical_length * np.exp(log_length)
            log_measure = log_measure + problem.input_dim * log_length
        if columns:
            unit = self._relative_bias * length
            if not problem.homogeneous:
                unit = (1 / length**2 + 1 / (4 * problem.bias_scale) ** 2) ** -0.5
            bias = unit * np.sinh(columns[0])
            log_measure = log_measure + np.log(unit * np.cosh(columns[0]))
        length = length[:, None]
        return Neurons(found.components * length, found.norms * length, bias, log_measure)

    def _deviation(self, omega: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """λ and the log of λ^(k-2) dλ/dx."""
        logit, log_slope = _stretch(x, _DEVIATION_INTERVAL)
        log_deviation = log_expit(logit) - np.log(-omega.min(axis=1))
        log_jacobian = log_deviation + log_expit(-logit) + log_slope
        return np.exp(log_deviation), (self.num_components - 2) * log_deviation + log_jacobian


def deviations(uniforms: np.ndarray, k: int, num: int) -> tuple[np.ndarray, np.ndarray]:
    """Unit vectors ω (n, k) orthogonal to (1, …, 1), sorted upwards, and the log density of dω.

    By permutation symmetry the sorted chamber is enough. It is the cone over a simplex of spacings
    π, filled by stick breaking from `uniforms` (n, k-2); dω ∝ |Pπ|^(-(k-1)) dπ with P the
    projection orthogonal to (1, …, 1).
    """
    if k == 1:
        return np.zeros((num, 1)), np.zeros(num)
    spacings, left = np.empty((num, k - 1)), np.ones(num)
    for j in range(k - 2):
        taken = 1 - (1 - uniforms[:, j]) ** (1 / (k - 2 - j))
        spacings[:, j] = left * taken
        left = left * (1 - taken)
    spacings[:, -1] = left
    heights = np.concatenate([np.zeros((num, 1)), spacings.cumsum(axis=1)], axis=1)
    centred = heights - heights.mean(axis=1, keepdims=True)
    norm = np.linalg.norm(centred, axis=1)
    return centred / norm[:, None], -(k - 1) * np.log(norm)


def _stretch(y: np.ndarray, interval: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    """y + ½ exp(2(y - y₊)) - ½ exp(-2(y - y₋)) and the log of its derivative.

    Outside the interval (y₋, y₊) it makes algebraic tails fall doubly exponentially.
    """
    outward, inward = np.exp(2 * (y - interval[1])), np.exp(-2 * (y - interval[0]))
    return y + 0.5 * outward - 0.5 * inward, np.log1p(outward + inward)


def _reaching(interval: tuple[float, float], fall_low: float, fall_high: float, step: float) -> Axis:
    """Out to where a measure that falls as exp(-fall · distance) is below exp(-16)."""
    low, high = (max(0.5 * math.log(32 / fall), 0.0) for fall in (fall_low, fall_high))
    return Axis.between(interval[0] - low - step, interval[1] + high + step, step)
