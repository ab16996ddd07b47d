"""Solve a general theory: follow its curve from large κ, refine the solutions at the κ sought, estimate errors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inference.fixed_points.continuation import CurvePoint, crossings, trace, turns
from inference.fixed_points.general.averages import Averages, averages
from inference.fixed_points.general.nodes import NeuronNodes
from inference.fixed_points.general.problem import GeneralProblem
from inference.fixed_points.newton import Root, newton

_REPLICATES = 4
_T_FACTOR = 1.2  # a Student t with 3 degrees of freedom has 68 % of its mass within 1.2
_COARSE = 2.0
_CELL_CUTOFF = 1e-13
_SAME = 1e-4  # roots closer than this in every unknown are one
# How far below κ the curve is followed, by the m it has reached: folds from there are not expected to lead back.
_REACHES = ((0.9, 0.05), (0.5, math.log(3.0)), (-math.inf, math.log(50.0)))
_ARD_HEADROOM = (
    3.0  # a weak prior of the precisions lets aligned branches reach far above the noise of the prior
)
_SCREEN_NOISE, _SCREEN_MARGIN = 0.05, 60.0
_NOISE = 4.0  # weight of log κ in the curve's length


class Theory(Protocol):
    """Self-consistency equations, with the observables of a single-neuron density."""

    name: str
    problem: GeneralProblem


@dataclass(frozen=True)
class Solution:
    """A solution θ and what it means.

    Parameters
    ----------
    theta
        Unknowns.
    figures
        Of :meth:`Theory.figures`.
    residual
        max |T(θ) - θ|.
    error, mse_error
        Standard errors of m and of the MSE of a draw.
    stable
        Whether the damped iteration is attracted.
    rho, second_moments
        Precisions, and E_p[w_j²] for j in S and outside it.
    nodes, average
        Node sets, and averages over them.
    """

    theta: np.ndarray
    figures: dict[str, float]
    residual: float
    error: float
    mse_error: float
    stable: bool
    rho: np.ndarray
    second_moments: np.ndarray
    nodes: list[NeuronNodes]
    average: Averages

    @property
    def relevance_ratio(self) -> float | None:
        """E[w_j²: j ∈ S]/E[w_j²: j ∉ S]; None where every input is relevant."""
        inside, outside = self.second_moments
        return float(inside / outside) if outside > 0 else None


@dataclass(frozen=True)
class Branches:
    """Every solution found.

    Parameters
    ----------
    solutions
        By increasing order parameter.
    reached
        Position of the solution that each start leads to.
    folds
        κ at which branches merge, on the coarse nodes.
    evaluations
        Of the system.
    """

    solutions: list[Solution]
    reached: dict[str, int]
    folds: tuple[float, ...]
    evaluations: int


def solve(theory: Theory, tolerance: float) -> Branches:
    """All solutions on the curve that leaves the prior at large κ.

    Parameters
    ----------
    theory
        Equations.
    tolerance
        On max |T(θ) - θ|.
    """
    log_kappa = math.log(theory.problem.network.kappa)
    quadrature = theory.problem.quadrature
    rules = quadrature.rules(_COARSE)
    coarse = quadrature.tensor(rules)
    samples, count = _curve(theory, log_kappa, coarse)
    guesses = [
        samples[i, :-1] + share * (samples[i + 1, :-1] - samples[i, :-1])
        for i, share in crossings(samples[:, -1], log_kappa)
    ]
    # A curve that was cut short still gives its nearest point.
    guesses = guesses or [samples[np.abs(samples[:, -1] - log_kappa).argmin(), :-1]]
    evaluations, found = count, []
    for guess in guesses:
        root, nodes = _polish(theory, guess, log_kappa, rules, coarse, tolerance)
        evaluations += root.iterations
        if all(np.abs(other.x - root.x).max(initial=0.0) > _SAME for other, _ in found):
            found.append((root, nodes))
    found = [pair for pair in found if pair[0].converged] or found
    solutions = [describe(theory, root.x, log_kappa, nodes) for root, nodes in found]
    solutions.sort(key=lambda s: s.figures["order_parameter"])
    stable = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
    reached = {"prior": stable[0], "aligned": stable[-1]}
    folds = tuple(float(np.exp(samples[i, -1])) for i in turns(samples[:, -1]))
    return Branches(solutions, reached, folds, evaluations)


def noisy_start(problem: GeneralProblem, power: float) -> float:
    """log κ at which the density is the prior: κ² is at the trace of the prior's kernel, and ½ c B² below 1.

    Parameters
    ----------
    problem
        Constants.
    power
        E[Σ] under the prior.
    """
    unit = problem.coupling * power
    overlap = problem.amplitude * math.sqrt(unit)
    return 0.5 * math.log(max(problem.network.width * unit, overlap, 1e-12))


class _Free:
    """A theory's system in its free unknowns, with the others eliminated (implicit function theorem)."""

    def __init__(self, theory: Theory, nodes: list[NeuronNodes], guess: np.ndarray, screen: bool = False):
        self.theory, self.nodes, self.theta = theory, nodes, guess
        self.every, self.screened, self.count = (nodes if screen else None), None, 0

    def _screen(self, free: np.ndarray, log_kappa: float) -> None:
        """Keep the nodes that are not idle; look at all of them again after every step that is not small."""
        here = np.append(free, log_kappa / _SCREEN_NOISE)
        self.count += 1
        stale = self.screened is None or np.abs(here - self.screened).max() > 1 or self.count % 8 == 0
        if not stale:
            return
        self.screened, law = (
            here,
            self.theory.law(np.concatenate([self.theta[: -len(free)], free]), log_kappa),
        )
        self.nodes = []
        for nodes in self.every:
            log = law.log_weight(nodes, slice(None))
            # A trial state where the density is not finite gives no reason to drop any.
            kept = log > log.max() - _SCREEN_MARGIN
            self.nodes.append(nodes.take(np.flatnonzero(kept)) if kept.any() else nodes)

    def system(self, free: np.ndarray, log_kappa: float):
        """Residuals, Jacobian and derivative in log κ of the free unknowns."""
        if self.every is not None:
            self._screen(free, log_kappa)
        self.theta = self.theory.complete(free, log_kappa, self.nodes, self.theta)
        value, jacobian, noise = self.theory.system(self.theta, log_kappa, self.nodes)
        count = len(value) - len(free)
        if count:
            columns = np.column_stack([jacobian[:count, count:], noise[:count]])
            total = np.column_stack([jacobian[count:, count:], noise[count:]])
            total -= jacobian[count:, :count] @ np.linalg.solve(jacobian[:count, :count], columns)
            value, jacobian, noise = value[count:], total[:, :-1], total[:, -1]
        return value, jacobian, noise

    def root(self, free: np.ndarray, log_kappa: float, tolerance: float) -> Root:
        """Newton in the free unknowns; of the root, x is all of θ."""
        if not len(free):
            self.theta = self.theory.complete(free, log_kappa, self.nodes, self.theta)
            value = self.theory.system(self.theta, log_kappa, self.nodes)[0]
            residual = float(np.abs(value).max(initial=0.0))
            return Root(self.theta, residual, 1, residual <= tolerance)
        bounds = np.full(len(free), np.inf)
        root = newton(
            lambda x: self.system(x, log_kappa)[:2], free, -bounds, bounds, tolerance, 20, max_step=1.0
        )
        theta = self.theory.complete(root.x, log_kappa, self.nodes, self.theta)
        return Root(theta, root.residual, root.iterations, root.converged)


def _curve(theory: Theory, log_kappa: float, coarse: NeuronNodes) -> tuple[np.ndarray, int]:
    """(free unknowns, log κ) along the curve of solutions on the coarse nodes, and evaluations."""
    problem = theory.problem
    power = float(np.average(coarse.power, weights=prior_weights(problem, coarse)))
    begin = max(noisy_start(problem, power), log_kappa + 0.1)
    if problem.prior is not None:
        begin += _ARD_HEADROOM
    theta = theory.start(begin, [coarse])
    if not len(theory.free(theta)):
        return np.array([[log_kappa]]), 1
    free = _Free(theory, [coarse], theta, screen=True)
    root = free.root(theory.free(theta), begin, 1e-9)
    mean = averages(theory.law(root.x, begin), [coarse]).mean
    start = theory.free(root.x)
    # Many unknowns move together: lengths along the curve are root mean squares over them, and no step is longer than
    # 1.5/_NOISE in log κ.
    scale = max(math.sqrt(len(start)) / 2, 1.0)
    weights = np.ones(len(start))
    if problem.prior is not None:
        weights[-2:] += problem.network.width / (2 * problem.prior.shape)

    def scaled(x: np.ndarray, y: float):
        value, jacobian, noise = free.system(scale * x, y / _NOISE)
        # Precisions whose prior is weak are nearly neutral: their equations count in units of the restoring force.
        value, jacobian, noise = weights * value, weights[:, None] * jacobian, weights * noise
        return value, scale * jacobian, noise / _NOISE

    def finished(point: CurvePoint) -> bool:
        log_noise = point.log_kappa / _NOISE
        # What was evaluated last is the point itself.
        m = (
            theory.figures(free.theta, log_noise, mean)["order_parameter"]
            if problem.target is not None
            else 1.0
        )
        return log_noise < log_kappa - next(reach for least, reach in _REACHES if m >= least)

    curve = trace(scaled, start / scale, _NOISE * begin, finished)
    samples = curve.samples()
    samples[:, :-1] *= scale
    samples[:, -1] /= _NOISE
    return samples, curve.evaluations


def prior_weights(problem: GeneralProblem, nodes: NeuronNodes) -> np.ndarray:
    """Weights of the nodes under the prior, shape (n,), summing to 1."""
    log = nodes.log_measure - 0.5 * problem.precision * nodes.moments.sum(axis=1)
    weight = np.exp(log - log.max())
    return weight / weight.sum()


def _polish(theory, free, log_kappa, rules, coarse, tolerance) -> tuple[Root, list[NeuronNodes]]:
    """Newton on the coarse nodes, then on fine replicates where the density is not idle."""
    guess = theory.start(noisy_start(theory.problem, 1.0) + 5.0, [coarse])
    rough = _Free(theory, [coarse], guess).root(free, log_kappa, 1e-6)
    near = rough.x if rough.converged else theory.complete(free, log_kappa, [coarse], guess)
    average = averages(theory.law(near, log_kappa), [coarse])
    cells = coarse.index[average.active[0][average.weights[0] > _CELL_CUTOFF]]
    nodes = replicates(theory.problem, rules, cells)
    return _Free(theory, nodes, near).root(theory.free(near), log_kappa, 0.1 * tolerance), nodes


def replicates(problem: GeneralProblem, rules: list, cells: np.ndarray) -> list[NeuronNodes]:
    """Fine node sets in the given cells of the coarse rules."""
    fine = [problem.quadrature.rules(1.0, np.random.default_rng(seed)) for seed in range(_REPLICATES)]
    return [problem.quadrature.refine(rules, cells, rule) for rule in fine]


def describe(theory: Theory, theta: np.ndarray, log_kappa: float, nodes: list[NeuronNodes]) -> Solution:
    """Figures, errors and stability at a solution.

    Each replicate's own root is one Newton step away, δ_r = -F'⁻¹ F_r(θ); the scatter of the figures at θ + δ_r
    gives their standard errors. What all replicates share, the ends of the rules, is a relative error of every
    average and goes through the same F'⁻¹.
    """
    average = averages(theory.law(theta, log_kappa), nodes)
    slope = theory.jacobian(theta, log_kappa, average)[:, : len(theta)]
    residual = theory.residuals(theta, log_kappa, average.mean)
    own = theory.residuals(theta, log_kappa, average.replicate)
    inverse = np.linalg.pinv(slope)
    names = ("order_parameter", "mse_draw")

    def of(x, mean):
        figures = theory.figures(x, log_kappa, mean)
        return np.array([figures[name] for name in names])

    shifted = [of(theta - inverse @ f, mean) for f, mean in zip(own, average.replicate, strict=True)]
    spread = _T_FACTOR * np.std(shifted, axis=0, ddof=1) / math.sqrt(len(shifted))
    shared = np.abs(
        of(theta - inverse @ np.full(len(theta), average.edge), average.mean) - of(theta, average.mean)
    )
    errors = np.hypot(spread, shared)
    law = theory.law(theta, log_kappa)
    return Solution(
        theta=theta,
        figures=theory.figures(theta, log_kappa, average.mean),
        residual=float(np.abs(residual).max(initial=0.0)),
        error=float(errors[0]),
        mse_error=float(errors[1]),
        stable=bool(np.linalg.eigvals(slope).real.max(initial=-1.0) < 0),
        rho=np.asarray(law.rho),
        second_moments=average.mean[-2:] / np.maximum(theory.problem.counts, 1),
        nodes=nodes,
        average=average,
    )
