"""Annealing: particles and the field that they make together, followed from large noise to the network's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgError

from inference.fixed_points.data_equations import (
    Field,
    ParticleEquations,
    Population,
    Reference,
    divergence,
)
from inference.fixed_points.data_kernel import inverse
from inference.fixed_points.data_problem import DataProblem
from inference.fixed_points.data_start import first_particles, first_precisions, stages
from inference.fixed_points.data_umbrella import Umbrella, resample
from inference.fixed_points.particles import Target, move
from models import checks

NUM_BLOCKS = 8
_DRIFT = 4.0  # largest mean weight ratio squared of one outer step
_NEWTON_TOLERANCE = 1e-5
_SMALLEST_NOISE = 1e-7
_HELD = 2  # first updates, in which v finds its place at the precisions of the start
DAMPING = 0.6  # of log ρ: full steps end in two-cycles where ρ and v answer each other
_AVERAGING = 0.2  # share of the newest particles in the average of AK's kernel
_SETTLED = 0.03  # change of the fit, relative to the targets, below which an update at the final κ counts
_SWEEP = 4  # times num_moves before each snapshot
_PATIENCE = 6  # times num_settling updates at the final κ, and the particles are taken as they are


@dataclass(frozen=True)
class ParticleOptions:
    """Effort of a theory on a dataset; the defaults serve up to a thousand points.

    Parameters
    ----------
    num_particles
        n, a multiple of 8.
    num_sweeps
        Snapshots of all particles at the final noise that are pooled into the answer.
    num_moves
        Rounds of moves, each a wide one, a flip and a narrow one, between two updates of the field.
    num_settling
        Updates of the field at the final noise before the snapshots.
    stage_ratio
        Factor in κ between two stages of the annealing, above 1.
    max_updates
        Largest number of updates on the pooled snapshots.
    tolerance
        On the residual: the mismatch of the field, relative to the targets' size, and what one more update changes.
    """

    num_particles: int = 4096
    num_sweeps: int = 2
    num_moves: int = 2
    num_settling: int = 6
    stage_ratio: float = 1.15
    max_updates: int = 100
    tolerance: float = 1e-4

    def __post_init__(self):
        checks.positive("tolerance", self.tolerance)
        for name in ("num_sweeps", "num_moves", "num_settling", "max_updates"):
            checks.whole(name, getattr(self, name), 1)
        checks.whole("num_particles", self.num_particles, 8 * NUM_BLOCKS)
        if self.num_particles % NUM_BLOCKS:
            raise ValueError(f"num_particles must be a multiple of {NUM_BLOCKS}, got {self.num_particles}.")
        checks.finite("stage_ratio", self.stage_ratio)
        if not self.stage_ratio > 1:
            raise ValueError(f"stage_ratio must be above 1, got {self.stage_ratio!r}.")


@dataclass(frozen=True, eq=False)
class Annealed:
    """What an annealing leaves behind.

    Parameters
    ----------
    population
        All snapshots.
    p
        Their weights under the field, (n,).
    field
        The last one.
    blocks
        The block of every particle, 0 to 7; blocks share the field and nothing else.
    updates
        Updates of the field.
    mismatch
        Root mean square by which the last field misses its equation; Newton's, which may not have followed.
    """

    population: Population
    p: np.ndarray
    field: Field
    blocks: np.ndarray
    updates: int
    mismatch: float


class Annealing:
    """The loop: solve for the field on the particles; resample under an umbrella; move.

    Parameters
    ----------
    problem, options
        What is solved, with what effort.
    key
        A ``jax.random.key``.
    """

    def __init__(self, problem: DataProblem, options: ParticleOptions, key: jax.Array):
        self.problem, self.options = problem, options
        self._key, host = jax.random.split(key)
        self.rng = np.random.default_rng(np.asarray(jax.random.key_data(host)).ravel())
        self._steps = jnp.array([0.5, 0.3], jnp.float32)
        self.updates, self.mismatch = 0, math.inf
        self._average: np.ndarray | None = None

    def run(self, start: str, report: Callable[[int, str], None]) -> Annealed:
        """Anneal from `start`; `report` is called as report(1, text) at every update."""
        problem, options = self.problem, self.options
        noises = stages(problem, start, options.stage_ratio)
        z, log_density = first_particles(problem, start, options.num_particles, self.rng)
        precisions = first_precisions(problem, start)
        z = z * (problem.all_precisions(precisions) / problem.all_precisions(problem.rule.initial)) ** 0.5
        population, first = Population(z.astype(np.float32), log_density), problem.at(noises[0])
        equations = ParticleEquations(first, population, precisions)
        power = float(np.trace(equations.gaussian)) / problem.data.num_data
        if problem.kappa**2 < _SMALLEST_NOISE * power:
            raise ValueError(
                f"kappa is too small for particles in single precision, got {problem.kappa}: κ² must be above "
                f"{_SMALLEST_NOISE:g} of the prior variance of f, {power:.3g}; raise kappa."
            )
        inverted = inverse(equations.gaussian, first.noise)
        # From aligned neurons the drive rises from nearly 0, so that few of them take the signal, and not all.
        residual = (0.05 if start == "aligned" else 1.0) * (inverted @ problem.data.y)
        field = Field(residual, precisions, inverted.astype(np.float32))
        equations.use(field)
        p = equations.weights(residual)[0]
        for kappa in noises:
            population, p, field, _ = self._round(problem.at(kappa), population, p, field, report)
        settled = 0
        for _ in range(_PATIENCE * options.num_settling):
            old = field.residual
            population, p, field, umbrella = self._round(problem, population, p, field, report)
            change = problem.noise * np.sqrt(np.mean((field.residual - old) ** 2)) / problem.size
            settled += change < _SETTLED
            if settled >= options.num_settling:
                break
        snapshots, weights = [], []
        for _ in range(options.num_sweeps):
            moves = _SWEEP * options.num_moves
            population, p = self._move(problem, field, umbrella, population.z, moves)
            snapshots.append(population)
            weights.append(p / options.num_sweeps)
            report(1, "sweeping")
        pooled = Population(
            np.concatenate([s.z for s in snapshots]), np.concatenate([s.log_density for s in snapshots])
        )
        block = np.arange(options.num_particles) // (options.num_particles // NUM_BLOCKS)
        return Annealed(
            pooled,
            np.concatenate(weights),
            field,
            np.tile(block, options.num_sweeps),
            self.updates,
            self.mismatch,
        )

    def _round(self, problem, population, p, field, report):
        """One update of the field and the moves after it."""
        field, umbrella, chosen = self._update(problem, population, p, field)
        population, p = self._move(problem, field, umbrella, population.z[chosen], self.options.num_moves)
        report(1, f"kappa = {problem.kappa:.3g}")
        return population, p, field, umbrella

    def _update(
        self, problem: DataProblem, population: Population, p: np.ndarray, field: Field
    ) -> tuple[Field, Umbrella, np.ndarray]:
        """The next field, the umbrella over its energies, and the particles to go on from."""
        self.updates += 1
        equations = self._precisions(problem, population, p, field)
        field, self.mismatch = self._follow(equations, p, field)
        p, energy = equations.weights(field.residual)[0], equations.energy(field.residual)[1]
        umbrella = Umbrella.over(energy, p, problem.width)
        return field, umbrella, resample(self.rng, p * np.exp(umbrella(energy)), NUM_BLOCKS)

    def _follow(self, equations: ParticleEquations, p: np.ndarray, field: Field) -> tuple[Field, float]:
        """The field on these particles, for AK with Ā from the average over the updates so far.

        One population is a few times P, so that its own Ā would be near singular where κ²P is small. With
        p_new(w) from the solution the average moves along, K ← K + N c Σ_i (p_new,i - p_i) φ_i φ_iᵀ: it lags behind
        by what the particles have not followed yet, and not by the change of the field. A change of ρ it takes up
        from the particles alone, within a few updates.
        """
        adaptive = self.problem.adaptive
        target = p if adaptive else p * equations.gain
        matrix = equations.matrix(equations.kernel(p))
        if adaptive and self._average is not None:
            matrix = (1 - _AVERAGING) * self._average + _AVERAGING * matrix
        try:
            field, mismatch = equations.follow(p, field, Reference(matrix, target), _NEWTON_TOLERANCE, _DRIFT)
        except LinAlgError:  # the difference of two noisy kernels need not be positive
            matrix = equations.matrix(equations.kernel(p, 0.0))
            field, mismatch = equations.follow(p, field, Reference(matrix, target), _NEWTON_TOLERANCE, _DRIFT)
        if adaptive:
            self._average = matrix + equations.sum(equations.weights(field.residual)[0] - p)
        return field, mismatch

    def _precisions(
        self, problem: DataProblem, population: Population, p: np.ndarray, field: Field
    ) -> ParticleEquations:
        """The equations at the next ρ: a step as long as the particles can follow at the old v and Ā."""
        equations = ParticleEquations(problem, population, field.precisions)
        if self.updates <= _HELD:
            return equations
        step = DAMPING * equations.precision_step(p)
        while np.abs(step).max() > 1e-3:
            equations = ParticleEquations(problem, population, field.precisions * np.exp(step))
            equations.use(field)
            if divergence(equations.weights(field.residual)[0], p) <= 0.5 * _DRIFT:
                break
            step = 0.5 * step
        return equations

    def _move(
        self, problem: DataProblem, field: Field, umbrella: Umbrella, z: np.ndarray, moves: int
    ) -> tuple[Population, np.ndarray]:
        """Particles after some moves, with their weights under the field."""
        self._key, key = jax.random.split(self._key)
        empty = np.zeros((0, 0), np.float32)
        target = Target(
            inputs=jnp.asarray(problem.inputs),
            residual=jnp.asarray(field.residual, jnp.float32),
            inverse=jnp.asarray(field.inverse if problem.adaptive else empty),
            scales=jnp.asarray(problem.all_precisions(field.precisions) ** -0.5, jnp.float32),
            coupling=jnp.float32(problem.coupling),
            noise=jnp.float32(problem.noise),
            knots=jnp.asarray(umbrella.knots, jnp.float32),
            bonus=jnp.asarray(umbrella.bonus, jnp.float32),
        )
        z, energy, self._steps = move(
            problem.network.activation, moves, target, key, jnp.asarray(z), self._steps
        )
        z, energy = np.asarray(z), np.asarray(energy, float)
        bonus = umbrella(energy)
        p = np.exp(-bonus)
        log_density = -0.5 * (z.astype(float) ** 2).sum(axis=1) + energy + bonus
        return Population(z, log_density), p / p.sum()
