"""Independent networks from a mean-field theory: neurons from p(w), readouts from their Gaussian given w."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from inference.fixed_points.directions import DirectionNodes, deviation_directions, nodes_at
from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.neuron_density import radial_law, radial_moments
from inference.fixed_points.parity import ParityProblem
from inference.fixed_points.radial import Radial
from inference.fixed_points.rejection import accepted, find_log_bound
from inference.fixed_points.relu import parity_overlap
from inference.fixed_points.solution import Solution


@dataclass
class NeuronSampler:
    """Draws networks whose N neurons are independent draws from the single-neuron density.

        w ~ p(w),    a | w ~ Normal(β/(2α), 1/(2α)),    ρ_j ~ Gamma(α0 + N/2, β0 + (N/2) E_p[w_j²])

    Directions come by rejection from a proposal that is uniform in the deviation direction ω and piecewise
    constant in the grid's (x, z), with the cell masses that the quadrature found; radii by inversion of their
    one-dimensional law. The rejection bound cuts off at most 0.1 % of the density.

    Parameters
    ----------
    problem, solution, replicates
        What was solved, its solution, and the node sets.
    prior
        Of the precisions; None for the isotropic prior, which has no ``rho``.
    """

    problem: ParityProblem
    solution: Solution
    replicates: list[DirectionNodes]
    prior: PrecisionPrior | None = None
    _cell_mass: np.ndarray | None = field(default=None, repr=False)
    _log_bound: float = field(default=-np.inf, repr=False)

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with ARD, rho (num_draws, d)."""
        problem, n = self.problem, self.problem.width
        directions = self._directions(rng, num_draws * n)
        v = np.exp(self._log_squared_norms(rng, directions))
        w = self._weights(rng, directions, v)
        a = self._readouts(rng, w, v)
        networks = {"w": w.reshape(num_draws, n, problem.input_dim), "a": a.reshape(num_draws, n)}
        if self.prior is not None:
            rho = np.full(problem.input_dim, self.solution.parameters.rho_rest)
            rho[list(problem.relevant)] = self.solution.parameters.rho_relevant
            shape = self.prior.shape + n / 2  # at the fixed point the rate is shape/ρ
            networks["rho"] = rng.gamma(shape, rho / shape, (num_draws, problem.input_dim))
        return networks

    def _propose(self, rng: np.random.Generator, num: int) -> tuple[DirectionNodes, np.ndarray]:
        """Proposed directions and the log of density over proposal density, up to a constant."""
        grid = self.replicates[0].grid
        if self._cell_mass is None:
            mass = sum(
                np.bincount(nodes.cell, weight, len(grid.x) * len(grid.z))
                for nodes, weight in zip(self.replicates, self.solution.node_weights, strict=True)
            ).reshape(len(grid.x), len(grid.z))
            # Mass from the neighbours keeps the ratio bounded where the density falls steeply inside a cell.
            padded = np.pad(mass, 1, mode="edge")
            around = sum(
                padded[i : i + mass.shape[0], j : j + mass.shape[1]] for i in range(3) for j in range(3)
            )
            mass = 0.9 * mass / mass.sum() + 0.1 * around / around.sum()
            self._cell_mass = mass.ravel() / mass.sum()
        cell = rng.choice(len(self._cell_mass), num, p=self._cell_mass)
        row, column = np.divmod(cell, len(grid.z))
        omega, log_density = deviation_directions(rng.random((num, grid.degree - 2)), grid.degree)
        x, z = grid.x[row] + grid.x_step * rng.random(num), grid.z[column] + grid.z_step * rng.random(num)
        nodes = nodes_at(grid, omega, log_density, x, z, cell)
        return nodes, self._log_weight(nodes) - np.log(self._cell_mass[cell])

    def _log_weight(self, nodes: DirectionNodes) -> np.ndarray:
        """Log density of directions, the radius integrated out, up to a constant."""
        return radial_moments(self.problem, self.solution.parameters, nodes)[0]

    def _radial_law(self, nodes: DirectionNodes, part: slice) -> Radial:
        """The law of R² at the directions `nodes`[`part`]."""
        return radial_law(self.problem, self.solution.parameters, nodes, part)

    def _directions(self, rng: np.random.Generator, num: int) -> DirectionNodes:
        """`num` independent directions, by rejection."""
        if not np.isfinite(self._log_bound):
            self._log_bound = find_log_bound(self._propose, self.solution.effective_sample_size)
        batches = accepted(rng, num, self._propose, self._log_bound)
        return DirectionNodes.concatenate([nodes.take(mask) for nodes, mask in batches]).take(np.arange(num))

    def _log_squared_norms(self, rng: np.random.Generator, nodes: DirectionNodes) -> np.ndarray:
        """log R² given the direction, by inversion on a grid of a tenth of a width."""
        d = self.problem.input_dim
        offsets = np.arange(-max(7.0, 18 * np.sqrt(2 / d)), 6.0, 0.1)
        out = np.empty(len(nodes))
        for start in range(0, len(nodes), 4096):
            part = slice(start, start + 4096)
            law = self._radial_law(nodes, part)
            log_v = law.log_mode[:, None] + law.width[:, None] * offsets
            log_density = law.log_density(log_v)
            cumulative = np.exp(log_density - log_density.max(axis=1, keepdims=True)).cumsum(axis=1)
            cumulative /= cumulative[:, -1:]
            index = (cumulative < rng.random((len(log_v), 1))).sum(axis=1)
            jitter = rng.random(len(log_v)) - 0.5
            out[part] = law.log_mode + law.width * (offsets[index] + 0.1 * jitter)
        return out

    def _weights(self, rng: np.random.Generator, nodes: DirectionNodes, v: np.ndarray) -> np.ndarray:
        """Weights (n, d) from directions in the sorted positive orthant and R² (n,)."""
        problem, radius = self.problem, np.sqrt(v)
        relevant = rng.permuted(nodes.relevant_weights, axis=1) * radius[:, None]
        relevant *= rng.choice([-1.0, 1.0], relevant.shape)
        rest = rng.standard_normal((len(v), problem.num_rest))
        rest *= (nodes.rest_norm * radius / np.linalg.norm(rest, axis=1))[:, None]
        weights = np.empty((len(v), problem.input_dim))
        others = np.setdiff1d(np.arange(problem.input_dim), problem.relevant)
        weights[:, list(problem.relevant)], weights[:, others] = relevant, rest
        return weights

    def _readouts(self, rng: np.random.Generator, weights: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Readouts (n,) given weights (n, d) and R² (n,)."""
        problem, m = self.problem, self.solution.parameters.order_parameter
        rest = np.delete(weights, problem.relevant, axis=1)
        alpha = problem.readout_constant + problem.readout_slope * v
        overlap = parity_overlap(weights[:, list(problem.relevant)], np.linalg.norm(rest, axis=1))
        beta = (1 - m) * overlap / (problem.kappa**2 * problem.width**problem.gamma)
        return beta / (2 * alpha) + rng.standard_normal(len(v)) / np.sqrt(2 * alpha)
