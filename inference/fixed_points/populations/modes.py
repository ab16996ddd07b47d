"""Modes of the inputs, and the kernel of a neuron between them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np


@dataclass(frozen=True)
class Mode:
    """One orthonormal function of the inputs, up to the theory's symmetries.

    Parameters
    ----------
    sector
        Modes with the same label mix in the averaged kernel; others do not.
    multiplicity
        Number of copies of the sector.
    degrees
        Degree i in the relevant direction (Hermite) or inputs (Walsh), then the degree in each
        block of the others.
    """

    sector: tuple[int, ...]
    multiplicity: int
    degrees: tuple[int, ...]


class Population(Protocol):
    """What a theory asks of an input distribution and its target.

    A neuron is given in reduced variables: components v (n, k'), norms s (n, blocks) of its blocks
    of other weights, and its bias b (n,).
    """

    activation: str
    num_components: int
    blocks: tuple[int, ...]
    modes: tuple[Mode, ...]
    target: int

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Its components in the modes (n, modes), and Σ = E_x[φ²] (n,)."""

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """|w_S|² and |w_rest|² averaged over the symmetry group, shape (n, 2)."""

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Random weights (n, d) in the order (S, rest), and the target's sign under them (n,)."""


@dataclass(frozen=True)
class Kernel:
    """The averaged kernel N c E[a aᵀ] as a block matrix, and a neuron's features.

    The features of a neuron are the products a_a a_b of its components over the pairs of modes that
    share a sector, then Σ - Σ_a a_a², then |w_S|² and |w_rest|²; every density and every equation
    of the theories is linear in them.

    Parameters
    ----------
    modes
        The target's, and those that some neuron has a component in.
    target
        Position of the target's mode.
    """

    modes: tuple[Mode, ...]
    target: int

    @cached_property
    def pairs(self) -> tuple[np.ndarray, np.ndarray]:
        """First and second mode of every pair, each (pairs,); the diagonal first."""
        count = range(len(self.modes))
        off = [(a, b) for a in count for b in range(a) if self.modes[a].sector == self.modes[b].sector]
        first, second = np.array([(a, a) for a in count] + off).T
        return first, second

    @property
    def num_pairs(self) -> int:
        """Of modes, the diagonal included."""
        return len(self.pairs[0])

    @property
    def num_features(self) -> int:
        """Products, unresolved power, two second moments."""
        return self.num_pairs + 3

    @cached_property
    def occurrence(self) -> np.ndarray:
        """1 on the diagonal, 2 off it: how often a pair occurs in a trace, shape (pairs,)."""
        first, second = self.pairs
        return np.where(first == second, 1.0, 2.0)

    @cached_property
    def multiplicity(self) -> np.ndarray:
        """Of every mode's sector, shape (modes,)."""
        return np.array([float(mode.multiplicity) for mode in self.modes])

    @cached_property
    def target_vector(self) -> np.ndarray:
        """The normalised target in the modes."""
        return np.eye(len(self.modes))[self.target]

    def features(self, amplitudes: np.ndarray, power: np.ndarray, moments: np.ndarray) -> np.ndarray:
        """Features (n, K) of neurons with these components, Σ and second moments."""
        first, second = self.pairs
        out = np.empty((len(power), self.num_features))
        np.multiply(amplitudes[:, first], amplitudes[:, second], out=out[:, :-3])
        out[:, -3] = np.maximum(power - (amplitudes**2).sum(axis=1), 0.0)
        out[:, -2:] = moments
        return out

    def matrix(self, values: np.ndarray) -> np.ndarray:
        """Symmetric (..., M, M) with the given entries (..., pairs), 0 between sectors."""
        first, second = self.pairs
        size = len(self.modes)
        out = np.zeros((*values.shape[:-1], size, size), values.dtype)
        out[..., first, second] = out[..., second, first] = values
        return out

    def entries(self, matrix: np.ndarray) -> np.ndarray:
        """The pairs' entries (..., pairs) of a matrix."""
        first, second = self.pairs
        return matrix[..., first, second]
