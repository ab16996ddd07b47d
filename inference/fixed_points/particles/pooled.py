"""The equations of MF and AK solved on one set of particles, and standard errors."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.neuron.averages import standard_error
from inference.fixed_points.particles.anderson import Anderson
from inference.fixed_points.particles.equations import Field, ParticleEquations, Population
from inference.fixed_points.particles.field import FieldEquation
from inference.fixed_points.particles.kernel import ParticleKernel
from inference.fixed_points.particles.problem import DataProblem

_MAX_UPDATES = 100
_TOLERANCE = 3e-5  # of an update, where the iteration ends
_NEWTON_TOLERANCE = 1e-6  # float32 activations
_BLOCK_TOLERANCE = 1e-4  # of Newton's method on the subsets that leave one block out
_BLOCK_UPDATES = 2  # of each such subset, from the solution on all; twice that with a free ρ


@dataclass(frozen=True, eq=False)
class Solved:
    """The equations solved on one set of particles."""

    equations: ParticleEquations
    p: np.ndarray  # weights, (n,)
    field: Field
    kernel: ParticleKernel
    # Largest of: the mismatch of the equation for v, relative to the targets' size; the total
    # variation distance by which one more update of G and Ā moves p(w); the change of log ρ.
    residual: float
    updates: int
    predictions: np.ndarray  # mean and variance of f on the test inputs
    variance: np.ndarray
    anderson: Anderson  # what the iteration knows of the equations' response

    @property
    def figures(self) -> np.ndarray:
        """m, the test error of a draw, and that of the mean."""
        y = self.equations.problem.data.y_test
        mean = np.mean((self.predictions - y) ** 2)
        m = np.mean(self.predictions * y) / np.mean(y**2)
        return np.array([m, mean + self.variance.mean(), mean])


def solve_pooled(
    problem: DataProblem,
    population: Population,
    p: np.ndarray,
    field: Field,
    max_updates: int = _MAX_UPDATES,
    anderson: Anderson | None = None,
    newton_tolerance: float = _NEWTON_TOLERANCE,
) -> Solved:
    """Solve for v at given G and ρ, for these by Anderson's iteration on log(1 + cG), log ρ."""
    equations = ParticleEquations(problem, population, field.precisions)
    equations.use(field)
    kernel, inverted = equations.invert(p)
    field = Field(field.residual, field.precisions, inverted.astype(np.float32))
    anderson = Anderson() if anderson is None else anderson
    for updates in range(1, max_updates + 1):
        equation = FieldEquation.with_control(equations, kernel.share)
        v, mismatch = equation.solve(field, newton_tolerance)
        p = equations.weights(v)
        kernel, inverted = equations.invert(p)
        field = Field(v, equations.precisions, inverted.astype(np.float32))
        now, then, weights, change = _unknowns(equations, p, field)
        residual = max(mismatch, change)
        if residual <= _TOLERANCE or updates == max_updates:
            break
        new = anderson.step(now, then, weights)
        count = len(p)
        if problem.rule.update is not None:
            equations = ParticleEquations(problem, population, np.exp(new[count:]))
        if problem.adaptive:
            equations.screened = np.exp(-np.maximum(new[:count], 0.0))
    cross = kernel(problem.data.x_test, problem.data.x)
    predictions = cross @ field.residual
    variance = _variance(equations, p, field, kernel, cross, inverted, predictions)
    return Solved(equations, p, field, kernel, residual, updates, predictions, variance, anderson)


def _unknowns(
    equations: ParticleEquations, p: np.ndarray, field: Field
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """log(1 + cG) and log ρ now and after one more update, weights, the change as in `Solved`."""
    step, screened = equations.precision_step(p), equations.screened
    now, then, change = -np.log(screened), -np.log(screened), float(np.abs(step).max())
    if equations.problem.adaptive:
        equations.use(field)
        then = -np.log(equations.screened)
        change = max(change, 0.5 * float(np.abs(equations.weights(field.residual) - p).sum()))
        equations.screened = screened
    log_rho = np.log(equations.precisions)
    weights = np.concatenate([p, np.ones_like(step)])
    return np.concatenate([now, log_rho]), np.concatenate([then, log_rho + step]), weights, change


def _variance(equations, p, field, kernel, cross, inverted, predictions) -> np.ndarray:
    """Variance of f over networks on the test inputs.

    AK: k** - k*ᵀ Ā⁻¹ k*.   MF, N independent neurons: N c E_p[(h + c B² h²) φ²] - ⟨f⟩²/N.
    """
    problem = equations.problem
    if problem.adaptive:
        variance = kernel.diagonal(problem.data.x_test) - ((cross @ inverted) * cross).sum(axis=1)
        return np.maximum(variance, 0.0)
    overlap, h = equations.energy(field.residual)[0], equations.screened
    square = p * (h + problem.coupling * (overlap * h) ** 2)
    # The same control variate as in the kernel, with a share of its own.
    second = equations.kernel(square, 1.0 if kernel.share else 0.0).diagonal(problem.data.x_test)
    return np.maximum(second - predictions**2 / problem.network.width, 0.0)


def jackknife(problem: DataProblem, solved: Solved, population: Population, blocks: np.ndarray, report):
    """Standard errors of the figures, with the bias, from solutions without one block each."""
    updates = _BLOCK_UPDATES * (1 if problem.rule.update is None else 2)
    left_out = []
    for block in np.unique(blocks):
        kept = blocks != block
        p = solved.p[kept] / solved.p[kept].sum()
        known = solved.anderson.take(np.append(kept, np.ones(problem.num_inputs, bool)))
        part = solve_pooled(problem, population.take(kept), p, solved.field, updates, known, _BLOCK_TOLERANCE)
        left_out.append(part.figures)
        report("errors")
    values, others = np.array(left_out), len(left_out) - 1
    # Leaving one block out moves the mean 1/others as far as the block's own value lies off.
    return np.hypot(standard_error(others * values), others * (values.mean(axis=0) - solved.figures))
