"""Densities of one neuron that rival theories use: the same drive, another cost of the readout.

    none         p(w) ∝ prior(w) exp(½ c B²)              exact at γ = 1, N → ∞
    first order  p(w) ∝ prior(w) exp(½ c (B² - G))        the exact one to first order in c

Both are what the exact (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)) becomes for small cG. They are Gaussian
in the length of a neuron, and no density at all where the drive exceeds the prior: exp(½ c B²)
grows as fast as the prior falls. Before that the equations have solutions whose kernel rests on
directions next to the edge, neurons of any length and of a probability far below 1/N; no network of
N neurons has them, and the theory is taken to end there.

Sources: for the first Seroussi, Naveh and Ringel, Nature Communications 14, 908 (2023), and Rubin,
Seroussi and Ringel, ICLR (2024); for the second Fischer, Lindner, Dahmen, Ringel, Krämer and
Helias, *Critical feature learning in deep neural networks*, ICML (2024).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import gammaln

from inference.fixed_points.neuron.density import NeuronDensity


@dataclass(frozen=True)
class GammaLaw:
    """v = R² with p(log v) ∝ v^(d/2) exp(-A v/2), of which each direction has its A, shape (n,)."""

    dimension: int
    energy: np.ndarray

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One v for each direction, shape (n,)."""
        return rng.chisquare(self.dimension, len(self.energy)) / self.energy


@dataclass(frozen=True)
class NoReadoutCost(NeuronDensity):
    """p(w) ∝ prior(w) exp(½ c B²), with the parameters of :class:`NeuronDensity`.

    A direction in which the drive exceeds the prior has a weight that is not finite, so that a
    solver backs away from such a state.
    """

    cost: ClassVar[float] = 0.0  # τ of exp(-½ τ c G)

    def radial_law(self, nodes, part=slice(None)) -> GammaLaw:
        """The law of R² at some nodes."""
        energy, drive, slope = self.law(nodes, part)
        return GammaLaw(self.dimension, energy - 2 * drive + self.cost * slope)

    def at(self, nodes, part: slice) -> np.ndarray:
        """See :meth:`NeuronDensity.at`; here h = 1, and e = τ/2, are constants."""
        if self.dimension is None:
            energy, drive, slope = self.law(nodes, part)
            log_weight, first = drive - 0.5 * (energy + self.cost * slope), np.ones_like(energy)
            second = first
        else:
            d, energy = self.dimension, self.radial_law(nodes, part).energy
            energy = np.where(energy > 0, energy, np.nan)
            log_weight = gammaln(d / 2) - 0.5 * d * np.log(0.5 * energy)
            first, second = d / energy, d * (d + 2) / energy**2
        e = 0.5 * self.cost
        return np.stack([log_weight, first, first, e * first, second, second, e * second, second, e * second])


@dataclass(frozen=True)
class FirstOrderReadoutCost(NoReadoutCost):
    """p(w) ∝ prior(w) exp(½ c (B² - G)), with the parameters of :class:`NeuronDensity`."""

    cost: ClassVar[float] = 1.0
