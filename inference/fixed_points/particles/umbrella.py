"""An umbrella over the neurons' energies, to have many of the rare aligned ones."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.ndimage import gaussian_filter1d

_KNOTS = 64
_TAIL = 1e-6  # the flat half ends where this share of one neuron lies above


@dataclass(frozen=True)
class Umbrella:
    """L(E), the log of how much more often than under p(w) the particles visit the energy E.

        L(E) = log(½ + ½/(R p(E))),     R the range of energies

    Half of the particles follow p(w), the other half spread evenly over the energies between the
    bulk of the neurons and the aligned ones, which are of order 1 of N. The weights exp(-L) are
    below 2, and the particles in between carry the relative mass of the two modes. This is
    multicanonical sampling: Berg and Neuhaus (1992).
    """

    knots: np.ndarray  # energies, (64,)
    bonus: np.ndarray  # L there

    @classmethod
    def over(cls, energy: np.ndarray, weights: np.ndarray, width: int) -> Umbrella:
        """The umbrella from particles at `energy` with `weights` (sum 1) under p(w).

        Examples
        --------
        >>> energy = np.random.default_rng(0).exponential(size=4000)
        >>> umbrella = Umbrella.over(energy, np.full(4000, 1 / 4000), 64)
        >>> bool(umbrella(np.array([8.0]))[0] > umbrella(np.array([0.1]))[0] + 3)
        True
        """
        order = np.argsort(energy)
        ordered, below = energy[order], weights[order].cumsum()
        bottom = ordered[np.searchsorted(below, 1e-3)]
        top = ordered[min(np.searchsorted(below, 1 - _TAIL / width), len(ordered) - 1)]
        if not top - bottom > 1e-3:
            return cls(np.linspace(0.0, 1.0, _KNOTS), np.zeros(_KNOTS))
        edges = np.linspace(bottom, top, _KNOTS + 1)
        mass = np.histogram(energy, edges, weights=weights)[0]
        filled = mass > 0
        centres = 0.5 * (edges[1:] + edges[:-1])
        # Energies that no particle has are bridged by a straight line in the log density.
        log_density = np.interp(centres, centres[filled], np.log(mass[filled] / (edges[1] - edges[0])))
        log_density = gaussian_filter1d(log_density, 1.5, mode="nearest")
        return cls(centres, np.logaddexp(np.log(0.5), np.log(0.5 / (top - bottom)) - log_density))

    def __call__(self, energy: np.ndarray) -> np.ndarray:
        """L at every energy."""
        return np.interp(energy, self.knots, self.bonus)


def resample(rng: np.random.Generator, weights: np.ndarray, num_blocks: int) -> np.ndarray:
    """Indices drawn by systematic resampling within each of `num_blocks` equal runs.

    Examples
    --------
    >>> resample(np.random.default_rng(0), np.array([1.0, 0.0, 0.0, 3.0]), 2).tolist()
    [0, 0, 3, 3]
    """
    size = len(weights) // num_blocks
    out = []
    for begin in range(0, len(weights), size):
        cumulative = np.cumsum(weights[begin : begin + size])
        points = (rng.random() + np.arange(size)) / size * cumulative[-1]
        out.append(begin + np.minimum(np.searchsorted(cumulative, points), size - 1))
    return np.concatenate(out)
