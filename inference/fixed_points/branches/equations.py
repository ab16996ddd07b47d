"""Self-consistency equations as a system F(θ, log κ̃) = 0, with exact derivatives.

A theory says its equations as T(θ) = U(θ, κ̃, E_p[…]), with averages over the density of one neuron
whose natural parameters η depend on θ and the effective ridge κ̃. Averages respond to η by
covariances, and the small functions η and U are differentiated by a complex step, so that the
Jacobian of F = T(θ) - θ is exact without a line of algebra in the theories. κ and P enter through
one scalar equation alone, κ² = κ̃ - excess(θ, κ̃)/P: solutions at all of them lie on one curve.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import ClassVar, Protocol

import numpy as np

from inference.fixed_points.neuron.averages import Averages, averages
from inference.fixed_points.neuron.density import NeuronDensity
from inference.fixed_points.neuron.nodes import Lattice, NodeSet

# How far any unknown moves before idle nodes are looked for again: the density of aligned neurons is
# exponential in 1/κ̃ and in what is left to learn.
_SCREEN_STEP = 0.05
_SCREEN_MARGIN = 60.0  # e-folds below the largest weight at which a node is idle
_SCREEN_EVERY = 8


class Equations(Protocol):
    """One theory on one population. Functions take leading batch axes and complex numbers.

    Parameters
    ----------
    name
        Of the theory, as in :class:`FixedPoint`.
    lattice
        Problem, modes and nodes.
    screened
        Whether E[v h s] does not enter `update`.
    density
        Of one neuron.
    """

    name: str
    lattice: Lattice
    screened: bool
    density: type[NeuronDensity]

    def start(self, prior_means: np.ndarray) -> np.ndarray:
        """θ (n,) of neurons that follow the prior, given E_prior[v s], … (3, K)."""

    def naturals(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """η_G, η_B and η_ρ, shape (..., 3, K)."""

    def update(self, theta: np.ndarray, log_ridge: np.ndarray, means: np.ndarray) -> np.ndarray:
        """T(θ), shape (..., n), given averages (..., 3, K)."""

    def excess(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """P (κ̃ - κ²) at a finite P, shape (...)."""

    def figures(self, theta, log_ridge, means, num_data: int | None) -> dict[str, np.ndarray]:
        """order_parameter, mse_mean, mse_draw and amplification, each (...)."""

    def precisions(self, theta: np.ndarray) -> np.ndarray:
        """ρ_S and ρ_⊥, shape (..., 2)."""


@dataclass(frozen=True, eq=False)
class PrecisionUnknowns:
    """What theories share whose last unknowns are log ρ_S and log ρ_⊥ under ARD, and none
    otherwise.

        ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])

    Parameters
    ----------
    lattice
        Problem, modes and nodes.
    """

    lattice: Lattice
    density: ClassVar[type[NeuronDensity]] = NeuronDensity

    def prior_precisions(self) -> np.ndarray:
        """The last of θ under the prior, shape (2,) or (0,)."""
        problem = self.lattice.problem
        return np.full(0 if problem.prior is None else 2, np.log(problem.precision))

    def precisions(self, theta: np.ndarray) -> np.ndarray:
        """See :class:`Equations`."""
        problem = self.lattice.problem
        if problem.prior is None:
            return np.full((*theta.shape[:-1], 2), problem.precision)
        return np.exp(theta[..., -2:])

    def with_precisions(self, values: np.ndarray, means: np.ndarray) -> np.ndarray:
        """T(θ): `values` (..., n) and, with ARD, the logs of the precisions' fixed points."""
        problem = self.lattice.problem
        if problem.prior is None:
            return values
        rho = problem.prior.update(problem.width, means[..., 0, -2:] / problem.counts)
        shape = np.broadcast_shapes(values.shape[:-1], rho.shape[:-1])
        parts = [np.broadcast_to(part, (*shape, part.shape[-1])) for part in (values, np.log(rho))]
        return np.concatenate(parts, axis=-1)


def complex_step(function: Callable, x: np.ndarray) -> np.ndarray:
    """Derivatives of an analytic `function` (..., n) → (..., m) at x (n,), exact, shape (m, n).

    f'(x) = Im f(x + ih)/h. Source: Squire and Trapp, SIAM Review 40, 110 (1998).
    """
    step = 1e-30
    moved = np.imag(function(x + 1j * step * np.eye(len(x)))) / step
    return np.broadcast_to(moved, (len(x), moved.shape[-1])).T


def noise_squared(equations: Equations, theta, log_ridge, num_data: int | None) -> np.ndarray:
    """κ² that belongs to θ (..., n) and κ̃ (...) at P; below 0 where no noise does."""
    ridge = np.exp(log_ridge)
    return ridge if num_data is None else ridge - equations.excess(theta, log_ridge) / num_data


@dataclass
class System:
    """F and its derivatives on given node sets; idle nodes are passed over.

    Parameters
    ----------
    equations, sets
        What is averaged over what.
    evaluations, latest
        Of the averages so far, and the last of them.
    """

    equations: Equations
    sets: list[NodeSet]
    evaluations: int = 0
    latest: Averages | None = field(default=None, repr=False)
    _active: list[NodeSet] | None = field(default=None, repr=False)
    _screened_at: np.ndarray | None = field(default=None, repr=False)
    _drive: np.ndarray | None = field(default=None, repr=False)
    _place: np.ndarray | None = field(default=None, repr=False)

    def density(self, naturals: np.ndarray) -> NeuronDensity:
        """The density at these natural parameters."""
        problem, chart = self.equations.lattice.problem, self.equations.lattice.chart
        dimension = chart.dimension if problem.homogeneous else None
        return self.equations.density(problem.coupling, naturals, dimension)

    def averages(self, theta: np.ndarray, log_ridge: float) -> Averages:
        """Averages at (θ, log κ̃), over all nodes from time to time and over those not idle in
        between."""
        place = np.append(theta, log_ridge)
        if self._place is not None and np.array_equal(place, self._place):
            return self.latest
        last = self._screened_at
        stale = last is None or np.abs(place - last).max() > _SCREEN_STEP
        if stale or self.evaluations % _SCREEN_EVERY == 0:
            self._screened_at, self._active = place, None
        found = self.average_at(self.equations.naturals(theta, log_ridge))
        self._place = place
        return found

    def average_at(self, naturals: np.ndarray) -> Averages:
        """Averages at these natural parameters."""
        everywhere = self._active is None
        used = self.sets if everywhere else self._active
        driven = self.equations.lattice.kernel.driven
        found = averages(self.density(naturals), used, self.equations.screened, driven)
        if everywhere:
            cutoff = math.exp(-_SCREEN_MARGIN) * max(w.max() for w in found.weights)
            kept = [w > cutoff for w in found.weights]
            # A trial state where the density is not finite gives no reason to drop any.
            if all(each.any() for each in kept):
                used = [s.take(np.flatnonzero(k)) for s, k in zip(used, kept, strict=True)]
                weights = [w[k] for w, k in zip(found.weights, kept, strict=True)]
                found = replace(found, weights=weights)
            self._active = used
        self.evaluations += 1
        self.latest, self._drive, self._place = found, naturals[1], None
        return found

    @property
    def active_sets(self) -> list[NodeSet]:
        """The nodes that the latest averages were taken over."""
        return self._active

    def share_aligned(self) -> float:
        """Share of neurons with more than half of |w|² on S, where the averages were taken last."""
        pairs = zip(self.latest.weights, self._active, strict=True)
        return float(sum(weight[nodes.relevant].sum() for weight, nodes in pairs))

    def active_cells(self, cutoff: float = 1e-14) -> np.ndarray:
        """Cells that hold at least `cutoff` of the density or of an average that a minority
        dominates, sorted."""
        drive = self._drive
        cells = np.concatenate([nodes.cell for nodes in self._active])
        weight = np.concatenate(self.latest.weights)
        features = np.concatenate([nodes.features for nodes in self._active])
        found, place = np.unique(cells, return_inverse=True)
        columns = [np.ones(len(weight)), np.maximum(features @ drive, 0.0), features[:, -2]]
        mass = np.stack([np.bincount(place, weight * column) for column in columns])
        return found[(mass > cutoff * mass.sum(axis=1, keepdims=True)).any(axis=0)]

    def derivatives(self, theta: np.ndarray, log_ridge: float, average: Averages):
        """F (n,), dF/dθ (n, n) and dF/dlog κ̃ (n,) from averages at the same place."""
        equations, n = self.equations, len(theta)
        here, shape = np.append(theta, log_ridge), average.pooled.shape

        def naturals(z):
            return equations.naturals(z[..., :-1], z[..., -1]).reshape(*z.shape[:-1], -1)

        def of_unknowns(z):
            return equations.update(z[..., :-1], z[..., -1], average.pooled)

        def of_means(means):
            return equations.update(theta, log_ridge, means.reshape(*means.shape[:-1], *shape))

        moved = average.response.reshape(2 * shape[1], -1) @ complex_step(naturals, here)
        by_means = complex_step(of_means, average.pooled.ravel())[:, : 2 * shape[1]]
        slope = complex_step(of_unknowns, here) + by_means @ moved
        value = equations.update(theta, log_ridge, average.pooled) - theta
        slope[:, :n] -= np.eye(n)
        return value, slope[:, :n], slope[:, n]

    def __call__(self, theta: np.ndarray, log_ridge: float):
        """F, dF/dθ and dF/dlog κ̃."""
        return self.derivatives(theta, log_ridge, self.averages(theta, log_ridge))

    def at_noise(self, kappa: float, num_data: int | None) -> Callable:
        """z = (θ, log κ̃) → residuals and Jacobian of the equations with that of κ̃, at given κ and
        P.

        log κ̃ = log(κ² + excess(θ, κ̃)/P)
        """
        equations = self.equations

        def ridge_equation(z):
            ridge = np.exp(z[..., -1])
            excess = ridge - noise_squared(equations, z[..., :-1], z[..., -1], num_data)
            return (np.log(kappa**2 + excess) - z[..., -1])[..., None]

        def function(z, average=None):
            average = self.averages(z[:-1], z[-1]) if average is None else average
            value, slope, by_ridge = self.derivatives(z[:-1], z[-1], average)
            top = np.column_stack([slope, by_ridge])
            last = np.append(value, ridge_equation(z))
            return last, np.vstack([top, complex_step(ridge_equation, z)])

        return function
