"""Node sets over one neuron: randomly shifted lattices in the coordinates of the chart."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, fields
from functools import cached_property, lru_cache

import numpy as np
from scipy.stats import qmc

from inference.fixed_points.neuron.chart import Chart, Neurons
from inference.fixed_points.populations.problem import Kernel, PopulationProblem

_PROBES = 512
_REMEMBERED = 1 << 16  # nodes of a whole set that is kept, as it serves every κ and P


@dataclass(frozen=True)
class DirectionPrior:
    """The directions of a node set, all of them, to see how exact it is under the prior.

    Parameters
    ----------
    log_measure, moments
        Shape (m,), and |w_S|²/R² and |w_rest|²/R², shape (m, 2).
    input_dim, counts
        d, and k and d - k.
    """

    log_measure: np.ndarray
    moments: np.ndarray
    input_dim: int
    counts: np.ndarray

    def ratio(self, rho: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """E[|w_S|²] and E[|w_rest|²] under the prior on these directions over their exact values.

        E[R² | direction] = d/A and weight A^(-d/2), A = ρ_S |w_S|²/R² + ρ_⊥ |w_rest|²/R². A weak
        prior of the precisions leaves them nearly neutral, and an error of a second moment moves
        them N/(2 α0) times as much; divided by this ratio, moments are exact where the density is
        the prior. Returns the ratios (2,), and the derivatives of their logs in ρ (2, 2).
        """
        d, energy = self.input_dim, self.moments @ rho
        log = self.log_measure - 0.5 * d * np.log(energy)
        weight = np.exp(log - log.max())
        weight /= weight.sum()
        share = self.moments / energy[:, None]
        mean = weight @ share
        second = share.T @ (weight[:, None] * share)
        slope = 0.5 * d * np.outer(mean, mean) - (0.5 * d + 1) * second
        some = self.counts > 0  # without irrelevant inputs there is no second moment of theirs
        slope = np.where(some[:, None], slope / np.where(some, mean, 1.0)[:, None] + np.diag(1 / rho), 0.0)
        return np.where(some, d * mean * rho / np.maximum(self.counts, 1), 1.0), slope


@dataclass(frozen=True)
class NodeSet:
    """Neurons at the nodes of one scramble.

    Parameters
    ----------
    log_measure
        Log weight of every node without the Gaussian factors of the prior, shape (n,).
    features
        Of :class:`Kernel`, at R = 1 where the length separates, shape (n, K).
    bias_energy
        (b/σ_b)², shape (n,).
    cell
        Flat index of the node's cell in the lattice, shape (n,).
    on_edge
        Whether that cell is outermost in some axis, shape (n,).
    relevant
        Whether more than half of |w|² is on S, shape (n,).
    directions
        See :class:`DirectionPrior`.
    """

    log_measure: np.ndarray
    features: np.ndarray
    bias_energy: np.ndarray
    cell: np.ndarray
    on_edge: np.ndarray
    relevant: np.ndarray
    directions: DirectionPrior

    def __len__(self) -> int:
        return len(self.log_measure)

    def take(self, index: np.ndarray) -> NodeSet:
        """The nodes at `index`, a mask or positions."""
        arrays = [getattr(self, f.name)[index] for f in fields(self)[:-1]]
        return NodeSet(*arrays, self.directions)


@dataclass(frozen=True)
class Lattice:
    """Builds the node sets of one problem.

    Parameters
    ----------
    problem
        Constants; node sets depend on no κ.
    """

    problem: PopulationProblem
    _sets: dict = field(default_factory=dict, repr=False, compare=False)

    @cached_property
    def chart(self) -> Chart:
        """Coordinates."""
        return Chart(self.problem)

    @cached_property
    def shape(self) -> tuple[int, ...]:
        """Cells in every axis."""
        return tuple(axis.count for axis in self.chart.axes)

    @property
    def num_cells(self) -> int:
        """Of the whole lattice."""
        return int(np.prod(self.shape))

    @cached_property
    def _kept(self) -> np.ndarray:
        """Which of the population's modes some of a few hundred neurons have."""
        rng, axes = np.random.default_rng(0), self.chart.axes
        low, reach = np.array([(axis.low, axis.step * axis.count) for axis in axes]).T
        y = low + reach * (0.2 + 0.6 * rng.random((_PROBES, len(axes))))
        neurons = self.chart.neurons(y, rng.random((_PROBES, self.chart.num_uniforms)))
        parts = neurons.components, neurons.norms, neurons.bias
        amplitudes, power = self.problem.population.amplitudes(*parts)
        kept = (np.abs(amplitudes) > 1e-9 * np.sqrt(np.abs(power))[:, None]).any(axis=0)
        # The target's stays, though no neuron may have it: odd activations without biases and even
        # parities.
        kept[self.problem.population.target] = True
        return kept

    @cached_property
    def kernel(self) -> Kernel:
        """The modes that some neuron has a component in."""
        population, kept = self.problem.population, self._kept
        modes = tuple(m for m, keep in zip(population.modes, kept, strict=True) if keep)
        return Kernel(modes, int(kept[: population.target].sum()))

    def nodes(self, cells: np.ndarray, seed: int, num_points: int) -> NodeSet:
        """`num_points` nodes in each of `cells`, flat indices, from one scramble.

        Parameters
        ----------
        cells
            Shape (c,), distinct.
        seed
            Which independent scramble.
        num_points
            Points of its Sobol sequence, a power of 2: each shifts the whole lattice.
        """
        if num_points * self.num_cells <= _REMEMBERED:
            key = seed, num_points
            if key not in self._sets:
                self._sets[key] = self._build(np.arange(self.num_cells), seed, num_points)
            every = self._sets[key]
            if len(cells) == self.num_cells:
                return every
            chosen = np.zeros(self.num_cells, bool)
            chosen[cells] = True
            return every.take(np.flatnonzero(chosen[every.cell]))
        return self._build(cells, seed, num_points)

    def _build(self, cells: np.ndarray, seed: int, num_points: int) -> NodeSet:
        axes, chart = self.chart.axes, self.chart
        points = qmc.Sobol(len(axes) + chart.num_uniforms, rng=seed).random(num_points)
        position = np.column_stack(np.unravel_index(np.repeat(cells, num_points), self.shape))
        index = np.tile(np.arange(num_points), len(cells))
        y = self._coordinates(position, points[index, : len(axes)])
        beyond = cells % math.prod(self.shape[len(chart.direction_axes) :])
        uniforms = self._rotated(points[index, len(axes) :], np.repeat(beyond, num_points))
        set_of_nodes = self.at(y, uniforms, np.repeat(cells, num_points), position)
        if len(axes) == len(chart.direction_axes) and len(cells) == self.num_cells:
            found = set_of_nodes.log_measure, set_of_nodes.features[:, -2:]  # every direction, as it is
        else:
            found = self._directions(points)
        directions = DirectionPrior(*found, self.problem.input_dim, self.problem.counts)
        return NodeSet(**vars(set_of_nodes) | {"directions": directions})

    def at(self, y, uniforms, cell: np.ndarray, position: np.ndarray) -> NodeSet:
        """Nodes at coordinates y (n, axes) in the given cells; without :class:`DirectionPrior`."""
        neurons = self.chart.neurons(y, uniforms)
        amplitudes, power = self.amplitudes(neurons)
        moments = self.problem.population.second_moments(neurons.components, neurons.norms)
        last = np.array(self.shape) - 1
        return NodeSet(
            log_measure=neurons.log_measure,
            features=self.kernel.features(amplitudes, power, moments),
            bias_energy=(neurons.bias / (self.problem.bias_scale or 1.0)) ** 2,
            cell=cell,
            on_edge=((position == 0) | (position == last)).any(axis=1),
            relevant=moments[:, 0] > moments[:, 1],
            directions=None,
        )

    def amplitudes(self, neurons: Neurons) -> tuple[np.ndarray, np.ndarray]:
        """Components in the kernel's modes (n, M), and Σ (n,)."""
        parts = neurons.components, neurons.norms, neurons.bias
        amplitudes, power = self.problem.population.amplitudes(*parts)
        return amplitudes[:, self._kept], power

    def propose(self, rng: np.random.Generator, cells: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Coordinates (n, axes) uniform in `cells` (n,), and uniforms for ω."""
        position = np.column_stack(np.unravel_index(cells, self.shape))
        y = self._coordinates(position, rng.random(position.shape))
        return y, rng.random((len(cells), self.chart.num_uniforms))

    def _rotated(self, uniforms: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """The deviations' uniforms, turned from one cell of R and b to the next, so that all
        average over ω.

        The turns are a Kronecker sequence with Roberts' generalised golden ratios.
        """
        dimension = uniforms.shape[1]
        ratio = 2.0
        for _ in range(30):
            ratio = (1 + ratio) ** (1 / (dimension + 1))
        return (uniforms + cells[:, None] * ratio ** -np.arange(1.0, dimension + 1)) % 1.0

    def _coordinates(self, position: np.ndarray, shift: np.ndarray) -> np.ndarray:
        low, step = np.array([(axis.low, axis.step) for axis in self.chart.axes]).T
        return low + step * (position + shift)

    def _directions(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        axes = self.chart.direction_axes
        shape = tuple(axis.count for axis in axes)
        position = np.indices(shape).reshape(len(axes), -1).T
        low, step = np.array([(axis.low, axis.step) for axis in axes]).T
        y = (low + step * (position[:, None, :] + points[:, : len(axes)])).reshape(-1, len(axes))
        uniforms = np.tile(points[:, len(self.chart.axes) :], (len(position), 1))
        neurons = self.chart.directions(y, uniforms)
        moments = self.problem.population.second_moments(neurons.components, neurons.norms)
        return neurons.log_measure, moments


@lru_cache(maxsize=6)
def lattice(problem: PopulationProblem) -> Lattice:
    """The lattice of a problem, remembered."""
    return Lattice(problem)
