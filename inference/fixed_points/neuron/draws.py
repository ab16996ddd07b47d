"""Independent neurons from the density, by rejection from the cells that the quadrature found."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import uniform_filter

from inference.fixed_points.neuron.chart import Neurons
from inference.fixed_points.neuron.density import NeuronDensity
from inference.fixed_points.neuron.nodes import Lattice, NodeSet
from inference.fixed_points.neuron.rejection import accepted, find_log_bound

_SPREAD = 0.1  # share of the proposal in the neighbours of the cells


@dataclass
class NeuronSampler:
    """Draws reduced variables of neurons from their density.

    Coordinates come by rejection from a proposal that is uniform in every cell of the lattice and
    in ω, with the cell masses that the quadrature found; the length, where it separates, by
    inversion of its law. The bound cuts off at most 0.1 % of the density.

    Parameters
    ----------
    lattice, density
        What to draw from.
    sets, weights
        Node sets and the weights of their nodes under the density.
    effective_sample_size
        Of the nodes, for the message where they do not resolve the density.
    """

    lattice: Lattice
    density: NeuronDensity
    sets: list[NodeSet]
    weights: list[np.ndarray]
    effective_sample_size: float
    _mass: np.ndarray | None = field(default=None, repr=False)
    _log_bound: float = field(default=-math.inf, repr=False)

    def draw(self, rng: np.random.Generator, num: int) -> Neurons:
        """`num` independent neurons, with their lengths."""
        if not np.isfinite(self._log_bound):
            self._log_bound = find_log_bound(self._propose, self.effective_sample_size)
        found = [
            [part[mask] for part in parts]
            for parts, mask in accepted(rng, num, self._propose, self._log_bound)
        ]
        y, uniforms, cell = (np.concatenate(parts)[:num] for parts in zip(*found, strict=True))
        neurons = self.lattice.chart.neurons(y, uniforms)
        if self.density.dimension is None:
            return neurons
        nodes = self._nodes(y, uniforms, cell)
        length = np.concatenate(
            [
                np.sqrt(self.density.radial_law(nodes, slice(start, start + 4096)).draw(rng))
                for start in range(0, num, 4096)
            ]
        )
        column = length[:, None]
        return Neurons(
            neurons.components * column, neurons.norms * column, neurons.bias * length, neurons.log_measure
        )

    def _nodes(self, y: np.ndarray, uniforms: np.ndarray, cell: np.ndarray) -> NodeSet:
        position = np.column_stack(np.unravel_index(cell, self.lattice.shape))
        return self.lattice.at(y, uniforms, cell, position)

    def _propose(self, rng: np.random.Generator, num: int):
        """Proposals (y, uniforms, cell) and the log of density over proposal density, up to a
        constant."""
        if self._mass is None:
            cells, weights = (np.concatenate(parts) for parts in ([s.cell for s in self.sets], self.weights))
            mass = np.bincount(cells, weights, self.lattice.num_cells)
            # Mass from the neighbours bounds the ratio where the density falls steeply inside a
            # cell.
            around = uniform_filter(mass.reshape(self.lattice.shape), 3, mode="nearest").ravel()
            around = np.maximum(around, 0.0)  # its running sums round
            mass = (1 - _SPREAD) * mass / mass.sum() + _SPREAD * around / around.sum()
            self._mass = mass / mass.sum()
        cell = rng.choice(len(self._mass), num, p=self._mass)
        y, uniforms = self.lattice.propose(rng, cell)
        log_weight = self.density.moments(self._nodes(y, uniforms, cell))[0]
        return (y, uniforms, cell), log_weight - np.log(self._mass[cell])
