"""Modes of the inputs, and what a population says of them."""

from __future__ import annotations

from dataclasses import dataclass
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
