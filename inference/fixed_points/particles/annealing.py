"""Annealing: particles and the field that they make, followed from large noise to the network's."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.linalg import LinAlgError

from inference.fixed_points.particles.equations import Field, ParticleEquations, Population
from inference.fixed_points.particles.field import FieldEquation, divergence
from inference.fixed_points.particles.kernel import inverse
from inference.fixed_points.particles.moves import Target, move
from inference.fixed_points.particles.problem import DataProblem
from inference.fixed_points.particles.start import first_particles, stages
from inference.fixed_points.particles.umbrella import Umbrella, resample

NUM_BLOCKS = 8
_DRIFT = 4.0  # largest mean weight ratio squared of one outer step
_NEWTON_TOLERANCE = 1e-5
_SMALLEST_RIDGE = 1e-7
_HELD = 2  # first updates, in which v finds its place at the precisions of the start
_DAMPING = 0.6  # of log ρ: full steps end in two-cycles where ρ and v answer each other
_AVERAGING = 0.2  # share of the newest particles in the average of AK's kernel
_SETTLED = 0.03  # change of the fit, relative to the targets, below which a final update counts
_SWEEP = 4  # times num_moves before each snapshot
_PATIENCE = 6  # times num_settling updates at the final κ, and the particles are taken as they are


@dataclass(frozen=True)
class Effort:
    """Of a theory on a dataset; the defaults serve up to a thousand points."""

    num_particles: int = 4096  # n, a multiple of NUM_BLOCKS
    num_sweeps: int = 2  # snapshots at the final noise that are pooled into the answer
    num_moves: int = 2  # rounds, each a wide move, a flip and a narrow one, between two updates
    num_settling: int = 6  # updates of the field at the final noise before the snapshots


class Annealing:
    """The loop: solve for the field on the particles; resample under an umbrella; move.

    `report` is called with a text at every update. After :meth:`run` the population is that of all
    snapshots, and `mismatch` tells whether Newton's method has followed.
    """

    population: Population
    p: np.ndarray  # weights of the particles under the field, (n,)
    field: Field
    blocks: np.ndarray  # after `run` the block of every particle: they share nothing but the field
    umbrella: Umbrella

    def __init__(self, problem: DataProblem, effort: Effort, key: jax.Array, report: Callable[[str], None]):
        self.problem, self.effort, self._report = problem, effort, report
        self._key, host = jax.random.split(key)
        self._rng = np.random.default_rng(np.asarray(jax.random.key_data(host)).ravel())
        self._steps = jnp.array([0.5, 0.3], jnp.float32)
        self.updates, self.mismatch = 0, math.inf  # by which `field` misses its equation, rms
        self._average: np.ndarray | None = None

    def run(self, start: str) -> None:
        """From `start` to the pooled snapshots at the network's κ."""
        problem, effort = self.problem, self.effort
        noises = stages(problem, start)
        self._begin(problem.at(noises[0]), start)
        for kappa in noises:
            self._round(problem.at(kappa))
        settled = 0
        for _ in range(_PATIENCE * effort.num_settling):
            old = self.field.residual
            self._round(problem)
            change = problem.ridge * np.sqrt(np.mean((self.field.residual - old) ** 2)) / problem.size
            settled += change < _SETTLED
            if settled >= effort.num_settling:
                break
        snapshots, weights = [], []
        for _ in range(effort.num_sweeps):
            self._move(problem, self.population.z, _SWEEP * effort.num_moves)
            snapshots.append(self.population)
            weights.append(self.p / effort.num_sweeps)
            self._report("sweeping")
        self.population = Population(
            np.concatenate([s.z for s in snapshots]), np.concatenate([s.log_density for s in snapshots])
        )
        self.p = np.concatenate(weights)
        block = np.arange(effort.num_particles) // (effort.num_particles // NUM_BLOCKS)
        self.blocks = np.tile(block, effort.num_sweeps)

    def _begin(self, problem: DataProblem, start: str) -> None:
        """First particles, and the field of Gaussian neurons."""
        count = self.effort.num_particles
        self.population, precisions = first_particles(problem, start, count, self._rng)
        equations = ParticleEquations(problem, self.population, precisions)
        power = float(np.trace(equations.gaussian)) / problem.data.num_data
        if self.problem.kappa**2 < _SMALLEST_RIDGE * power:
            raise ValueError(
                f"kappa is too small for particles in single precision, got {self.problem.kappa}: κ² must be "
                f"above {_SMALLEST_RIDGE:g} of the prior variance of f, {power:.3g}; raise kappa."
            )
        inverted = inverse(equations.gaussian, problem.ridge)
        # From aligned neurons the drive rises from nearly 0: few of them take the signal.
        residual = (0.05 if start == "aligned" else 1.0) * (inverted @ problem.data.y)
        self.field = Field(residual, precisions, inverted.astype(np.float32))
        equations.use(self.field)
        self.p = equations.weights(residual)

    def _round(self, problem: DataProblem) -> None:
        """One update of the field, the umbrella over its energies, and the moves after it."""
        self.updates += 1
        equations = self._equations(problem)
        self._follow(equations)
        energy, p = equations.energy(self.field.residual)[1], equations.weights(self.field.residual)
        self.umbrella = Umbrella.over(energy, p, problem.network.width)
        chosen = resample(self._rng, p * np.exp(self.umbrella(energy)), NUM_BLOCKS)
        self._move(problem, self.population.z[chosen], self.effort.num_moves)
        self._report(f"kappa = {problem.kappa:.3g}")

    def _equations(self, problem: DataProblem) -> ParticleEquations:
        """At the next ρ: a step as long as the particles can follow at the old v and Ā."""
        field = self.field
        equations = ParticleEquations(problem, self.population, field.precisions)
        if self.updates <= _HELD:
            return equations
        step = _DAMPING * equations.precision_step(self.p)
        while np.abs(step).max() > 1e-3:
            equations = ParticleEquations(problem, self.population, field.precisions * np.exp(step))
            equations.use(field)
            if divergence(equations.weights(field.residual), self.p) <= 0.5 * _DRIFT:
                break
            step = 0.5 * step
        return equations

    def _follow(self, equations: ParticleEquations) -> None:
        """The field on these particles, for AK with Ā from the average over the updates so far.

        One population is a few times P, so that its own Ā would be near singular where κ²P is
        small. With p_new(w) from the solution the average moves along,

            K ← K + N c Σ_i (p_new,i - p_i) φ_i φ_iᵀ

        It lags behind by what the particles have not followed yet, and not by the change of the
        field. A change of ρ it takes up from the particles alone, within a few updates.
        """
        known = equations.kernel_weights(self.p)
        for share in (1.0, 0.0):
            matrix = equations.matrix(equations.kernel(known, share))
            if self._average is not None and share:
                matrix = (1 - _AVERAGING) * self._average + _AVERAGING * matrix
            equation = FieldEquation(equations, matrix, known)
            try:
                self.field, self.mismatch = equation.follow(self.p, self.field, _NEWTON_TOLERANCE, _DRIFT)
                break
            except LinAlgError:  # the difference of two noisy kernels need not be positive
                if not share:
                    raise
        if self.problem.adaptive:
            self._average = matrix + equations.sum(equations.weights(self.field.residual) - self.p)

    def _move(self, problem: DataProblem, z: np.ndarray, moves: int) -> None:
        """Particles after some moves, with their weights under the field."""
        self._key, key = jax.random.split(self._key)
        field = self.field
        target = Target(
            inputs=jnp.asarray(problem.inputs),
            residual=jnp.asarray(field.residual, jnp.float32),
            inverse=jnp.asarray(field.inverse if problem.adaptive else np.zeros((0, 0), np.float32)),
            scales=jnp.asarray(problem.scales(field.precisions), jnp.float32),
            coupling=jnp.float32(problem.coupling),
            ridge=jnp.float32(problem.ridge),
            knots=jnp.asarray(self.umbrella.knots, jnp.float32),
            bonus=jnp.asarray(self.umbrella.bonus, jnp.float32),
        )
        activation = problem.network.activation
        z, energy, self._steps = move(activation, moves, target, key, jnp.asarray(z), self._steps)
        z, energy = np.asarray(z), np.asarray(energy, float)
        bonus = self.umbrella(energy)
        p = np.exp(-bonus)
        log_density = -0.5 * (z.astype(float) ** 2).sum(axis=1) + energy + bonus
        self.population, self.p = Population(z, log_density), p / p.sum()
