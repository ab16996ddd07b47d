"""MF, MF-ARD and AK on a dataset: any inputs, targets and activation, with or without hidden biases."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import jax
import numpy as np

from inference.fixed_points.anderson import Anderson
from inference.fixed_points.data_annealing import (
    NUM_BLOCKS,
    Annealed,
    Annealing,
    ParticleOptions,
)
from inference.fixed_points.data_equations import Field, ParticleEquations, Population
from inference.fixed_points.data_kernel import ParticleKernel
from inference.fixed_points.data_point import DataFieldPoint, DataNetworkSampler
from inference.fixed_points.data_problem import DataProblem, data_problem
from inference.fixed_points.data_start import stages
from inference.fixed_points.point import Branch, Precisions
from inference.runs.progress import ProgressCallback, progress_callback
from models import Dataset, TwoLayerNetwork, WeightPrior, checks

_T_FACTOR = 1.08  # a Student t with 7 degrees of freedom has 68 % of its mass within 1.08
_FOLLOWED = 1e-3  # largest mismatch of the field that the annealing may end with
_TOLERANCE = 3e-5  # of an update, where the iteration ends
_NEWTON_TOLERANCE = 1e-6  # float32 activations
_BLOCK_TOLERANCE = 1e-4  # of Newton's method on these subsets
_BLOCK_UPDATES = (
    2  # of each subset that leaves one block out, from the solution on all; twice that with a free ρ
)


@dataclass(frozen=True, eq=False)
class Solved:
    """The equations solved on one set of particles.

    Parameters
    ----------
    equations, p, field, kernel
        The equations, the weights p_i, the field and the learned kernel.
    residual
        Largest of: the mismatch of the equation for v, relative to the targets' size; the total variation distance
        by which one more update of G and Ā moves p(w); and the change of log ρ.
    updates
        Updates of the field.
    predictions, variance
        Of f on the test inputs.
    anderson
        What the iteration knows of the equations' response.
    """

    equations: ParticleEquations
    p: np.ndarray
    field: Field
    kernel: ParticleKernel
    residual: float
    updates: int
    predictions: np.ndarray
    variance: np.ndarray
    anderson: Anderson

    @property
    def figures(self) -> np.ndarray:
        """m, the test error of a draw, and that of the mean."""
        y = self.equations.problem.data.y_test
        mean = np.mean((self.predictions - y) ** 2)
        m = np.mean(self.predictions * y) / np.mean(y**2)
        return np.array([m, mean + self.variance.mean(), mean])


def solve_on_dataset(
    theory: str,
    network: TwoLayerNetwork,
    data: Dataset,
    *priors: type[WeightPrior],
    name: str,
    num_data: int | None = None,
    start: str = "prior",
    key: jax.Array | None = None,
    options: ParticleOptions | None = None,
    progress: bool | ProgressCallback | None = None,
) -> DataFieldPoint:
    """Solve MF or AK on a dataset with a population of particles.

    The particles are annealed in κ from where p(w) is the prior; at each stage the field is solved for on them, they
    are resampled under an umbrella that makes aligned neurons frequent, and moved by Metropolis steps that leave the
    density invariant. Snapshots at the final κ are pooled, and the equations solved on all of them. Eight blocks of
    particles share nothing but the field; leaving out one at a time (the jackknife) gives standard errors, to which
    the jackknife's estimate of the bias is added. Beyond the paper.

    Deep in the feature-learning phase AK's equations on a dataset have many solutions, which differ in the kinds of
    aligned neurons that are populated; `key` then chooses among them as `start` does, and the standard errors do not
    cover it. Parity with k = 4, d = 35, N = 512, P = 1000, κ = 0.005: two keys populate 8 of the 16 sign patterns
    each, not the same ones, and have m = 0.814 and 0.825.

    Parameters
    ----------
    theory
        mean-field, mean-field-ard or adaptive-kernel.
    network, data, priors, name
        See :func:`data_problem`.
    num_data
        Must be None.
    start
        "prior": anneal from large κ. "aligned": at the final κ, from aligned neurons; needs data.relevant.
    key
        A ``jax.random.key``; ``jax.random.key(0)`` by default. The same key gives the same answer.
    options
        Effort.
    progress
        True for a bar on standard error, or a callable ``(done, total, text)``.
    """
    problem = data_problem(network, data, name, theory == "adaptive-kernel", *priors)
    if num_data is not None:
        raise ValueError("num_data must be None on a Dataset, whose number of rows is P; got both.")
    checks.one_of("start", start, ("prior", "aligned"))
    if start == "aligned" and data.relevant is None:
        raise ValueError(
            "start='aligned' needs data.relevant; name the relevant inputs or use start='prior'."
        )
    options = ParticleOptions() if options is None else options
    if not isinstance(options, ParticleOptions):
        raise ValueError(f"options must be a ParticleOptions, got {type(options).__name__}.")
    key = jax.random.key(0) if key is None else key
    total = len(stages(problem, start, options.stage_ratio)) + options.num_settling
    total += options.num_sweeps + 1 + NUM_BLOCKS
    with progress_callback(progress, theory) as callback:
        done = 0

        def report(steps, text):
            nonlocal done
            done = min(done + steps, total)
            callback(done, total, text)

        annealed = Annealing(problem, options, key).run(start, report)
        solved = _solve(problem, annealed.population, annealed.p, annealed.field, options.max_updates)
        report(1, "solved")
        errors = _errors(problem, annealed, solved, report)
    # Particles that did not follow the field may still agree among themselves: that is no solution.
    followed = annealed.mismatch <= _FOLLOWED and bool(np.isfinite(errors).all())
    converged = followed and solved.residual <= options.tolerance
    return _point(theory, start, solved, errors, annealed.updates + solved.updates, converged)


def _solve(
    problem: DataProblem,
    population: Population,
    p: np.ndarray,
    field: Field,
    max_updates: int,
    anderson: Anderson | None = None,
    newton_tolerance: float = _NEWTON_TOLERANCE,
) -> Solved:
    """Solve for v at given G and ρ, and for G and ρ by Anderson's iteration on log(1 + cG) and log ρ."""
    equations = ParticleEquations(problem, population, field.precisions)
    equations.use(field)
    kernel, inverted = equations.invert(p)
    field = Field(field.residual, field.precisions, inverted.astype(np.float32))
    anderson = Anderson() if anderson is None else anderson
    for updates in range(1, max_updates + 1):
        v, mismatch = equations.balance(field, kernel.share, newton_tolerance)
        p = equations.weights(v)[0]
        kernel, inverted = equations.invert(p)
        field = Field(v, equations.precisions, inverted.astype(np.float32))
        now, then, weights, change = _unknowns(equations, p, field)
        residual = max(mismatch, change)
        if residual <= _TOLERANCE or updates == max_updates:
            break
        new = anderson.step(now, then, weights)
        num = len(new) - len(field.precisions)
        if problem.rule.update is not None:
            equations = ParticleEquations(problem, population, np.exp(new[num:]))
        if problem.adaptive:
            equations.gain = np.exp(-np.maximum(new[:num], 0.0))
    cross = kernel(problem.data.x_test, problem.data.x)
    predictions = cross @ field.residual
    variance = _variance(equations, p, field, kernel, cross, inverted, predictions)
    return Solved(equations, p, field, kernel, residual, updates, predictions, variance, anderson)


def _unknowns(
    equations: ParticleEquations, p: np.ndarray, field: Field
) -> tuple[np.ndarray, np.ndarray, np.ndarray, float]:
    """log(1 + cG) and log ρ as they are and as one more update would have them, weights, and the size of the change.

    The change is the larger of the total variation distance between p(w) before and after, and of |Δ log ρ|.
    """
    step = equations.precision_step(p)
    now, then, change = -np.log(equations.gain), -np.log(equations.gain), float(np.abs(step).max())
    if equations.problem.adaptive:
        gain = equations.gain
        equations.gain = equations.gain_of(field.inverse)
        then = -np.log(equations.gain)
        change = max(change, 0.5 * float(np.abs(equations.weights(field.residual)[0] - p).sum()))
        equations.gain = gain
    log_rho = np.log(equations.precisions)
    weights = np.concatenate([p, np.ones_like(step)])
    return np.concatenate([now, log_rho]), np.concatenate([then, log_rho + step]), weights, change


def _variance(equations, p, field, kernel, cross, inverted, predictions) -> np.ndarray:
    """Variance of f over networks on the test inputs.

    AK: k** - k*ᵀ Ā⁻¹ k*.   MF: N independent neurons, N c E_p[(s + c B² s²) φ²] - ⟨f⟩²/N with s = 1/(1 + cG).
    """
    problem = equations.problem
    if problem.adaptive:
        variance = kernel.diagonal(problem.data.x_test) - ((cross @ inverted) * cross).sum(axis=1)
        return np.maximum(variance, 0.0)
    overlap, gain = equations.energy(field.residual)[0], equations.gain
    square = p * (gain + problem.coupling * (overlap * gain) ** 2)
    # The same control variate as in the kernel, with a share of its own.
    q = kernel.prior_weights
    share = float(square @ q / (q @ q)) if kernel.share else 0.0
    second = replace(kernel, share=share, coefficients=square - share * q).diagonal(problem.data.x_test)
    return np.maximum(second - predictions**2 / problem.width, 0.0)


def _errors(problem: DataProblem, annealed: Annealed, solved: Solved, report) -> np.ndarray:
    """Standard errors of the figures, with the bias, from solutions without one block each."""
    free = problem.rule.update is not None
    left_out = []
    for block in range(NUM_BLOCKS):
        kept = annealed.blocks != block
        p = solved.p[kept] / solved.p[kept].sum()
        part = annealed.population.take(kept)
        updates = _BLOCK_UPDATES * (1 + free)
        known = solved.anderson.take(np.append(kept, np.ones(problem.num_inputs, bool)))
        left_out.append(_solve(problem, part, p, solved.field, updates, known, _BLOCK_TOLERANCE).figures)
        report(1, "errors")
    values = np.array(left_out)
    scatter = _T_FACTOR * math.sqrt(NUM_BLOCKS - 1) * values.std(axis=0)
    bias = (NUM_BLOCKS - 1) * (values.mean(axis=0) - solved.figures)
    return np.hypot(scatter, bias)


def _point(
    theory: str, start: str, solved: Solved, errors: np.ndarray, updates: int, converged: bool
) -> DataFieldPoint:
    equations, p, rho = solved.equations, solved.p, solved.equations.precisions
    problem = equations.problem
    network, relevant = problem.network, problem.data.relevant
    m, mse_draw, mse_mean = solved.figures
    moment = equations.second_moment(p)
    precisions, ratio, aligned = Precisions(float(rho.mean()), float(rho.mean())), None, None
    if relevant is not None:
        inside = np.isin(np.arange(problem.num_inputs), relevant)
        square = equations.neurons[:, : problem.num_inputs].astype(float) ** 2
        share = square[:, inside].sum(axis=1) / square.sum(axis=1)
        aligned = float(network.width * p[share > 0.5].sum())
        if not inside.all():
            precisions = Precisions(float(rho[inside].mean()), float(rho[~inside].mean()))
            ratio = float(moment[inside].mean() / moment[~inside].mean())
    gain, overlap = equations.gain, equations.energy(solved.field.residual)[0]
    scale = network.readout_scale**2
    sampler = DataNetworkSampler(
        problem,
        equations.neurons,
        p,
        scale * network.width**-network.gamma * overlap * gain,
        scale * gain,
        rho,
    )
    m, error = float(m), float(errors[0])
    branch = Branch(m, float(mse_draw), precisions, True, (start,), solved.residual, error)
    return DataFieldPoint(
        theory=theory,
        start=start,
        order_parameter=m,
        test_mse=float(mse_draw),
        test_mse_mean=float(mse_mean),
        precisions=precisions,
        relevance_ratio=ratio,
        residual=solved.residual,
        error=error,
        effective_sample_size=float(1 / np.sum(p**2)),
        iterations=updates,
        converged=converged,
        branches=(branch,),
        sampler=sampler,
        num_data=problem.data.num_data,
        predictions=solved.predictions,
        predictive_variance=solved.variance,
        input_precisions=rho,
        second_moment=moment,
        test_mse_error=float(errors[1]),
        num_aligned=aligned,
        kernel=solved.kernel,
    )
