"""Direction nodes with the power of a ReLU neuron in every mode of the inputs, for the adaptive kernel.

Modes (i, j): Walsh degree i on the k relevant inputs times Hermite degree j on the other d - k, with multiplicity
C(k, i) C(d-k, j). By homogeneity q_ij(w) = R² q~_ij(direction). ReLU is the sum of a linear and an even function, so
that of odd total degree only 1 occurs. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inference.fixed_points.directions import DirectionNodes, Resolution, direction_nodes
from inference.fixed_points.relu import mode_powers

_CHUNK = 2**15  # sign patterns times nodes at a time, so that the arrays stay in cache


@dataclass(frozen=True)
class Modes:
    """The modes that a theory resolves; the others are its tail.

    Parameters
    ----------
    degrees, orders
        i and j, shape (M,).
    multiplicities
        C(k, i) C(d-k, j), shape (M,).
    target
        Position of the parity itself, (k, 0).

    Examples
    --------
    >>> modes = Modes.upto(2, 16, 2)
    >>> list(zip(modes.degrees.tolist(), modes.orders.tolist(), modes.multiplicities.tolist(), strict=True))
    [(0, 0, 1.0), (1, 0, 2.0), (2, 0, 1.0), (0, 1, 14.0), (1, 1, 28.0), (0, 2, 91.0), (2, 2, 91.0)]
    """

    degrees: np.ndarray
    orders: np.ndarray
    multiplicities: np.ndarray
    target: int

    @classmethod
    def upto(cls, degree: int, input_dim: int, max_order: int) -> Modes:
        """All modes of Hermite degree up to `max_order` in the rest, at k = `degree`."""
        rest = input_dim - degree
        pairs = [
            (i, j)
            for j in range(min(max_order, rest) + 1)
            for i in range(degree + 1)
            if (i + j) % 2 == 0 or i + j == 1
        ]
        multiplicities = [float(math.comb(degree, i) * math.comb(rest, j)) for i, j in pairs]
        degrees, orders = np.array(pairs).T
        return cls(degrees, orders, np.array(multiplicities), pairs.index((degree, 0)))

    def __len__(self) -> int:
        return len(self.degrees)

    @property
    def max_order(self) -> int:
        """Largest j."""
        return int(self.orders.max())


@dataclass(frozen=True)
class ModeNodes:
    """Directions and what a neuron at each contributes, divided by R².

    Parameters
    ----------
    directions
        Nodes and their weights.
    features
        Shape (n, M + 3): q~_ij of every mode, the tail ½ - Σ q~_ij, c² = |w_S|²/R² and 1 - c².
    modes
        Which modes.
    """

    directions: DirectionNodes
    features: np.ndarray
    modes: Modes

    @classmethod
    def build(cls, directions: DirectionNodes, modes: Modes) -> ModeNodes:
        """Features at given directions."""
        count = len(modes)
        features = np.empty((len(directions), count + 3))
        chunk = max(_CHUNK >> directions.grid.degree, 1)
        for start in range(0, len(directions), chunk):
            part = slice(start, start + chunk)
            powers = mode_powers(
                directions.relevant_weights[part], directions.rest_norm[part], modes.max_order
            )
            features[part, :count] = powers[:, modes.degrees, modes.orders]
        features[:, modes.target] = directions.overlap_squared
        features[:, count] = np.maximum(0.5 - features[:, :count].sum(axis=1), 0.0)
        features[:, count + 1] = directions.relevant_fraction
        features[:, count + 2] = directions.rest_norm**2
        return cls(directions, features, modes)

    def take(self, index: np.ndarray) -> ModeNodes:
        """The nodes at `index`."""
        return ModeNodes(self.directions.take(index), self.features[index], self.modes)

    def __len__(self) -> int:
        return len(self.directions)


@lru_cache(maxsize=24)
def mode_nodes(
    degree: int, input_dim: int, replicate: int, resolution: Resolution, max_order: int
) -> ModeNodes:
    """One replicate with its features; it depends on no hyperparameter, so that a phase diagram reuses it.

    Parameters
    ----------
    degree, input_dim, replicate, resolution
        As in :func:`inference.fixed_points.directions.direction_nodes`.
    max_order
        Largest Hermite degree that is resolved.
    """
    modes = Modes.upto(degree, input_dim, max_order)
    return ModeNodes.build(direction_nodes(degree, input_dim, replicate, resolution), modes)
