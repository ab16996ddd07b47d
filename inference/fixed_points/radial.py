"""The law of v = R² at a given direction, common to the mean-field and adaptive-kernel densities.

    p(log v) ∝ v^(d/2) (a0 + a1 v)^(-1/2) exp(-A v/2 + B v/(a0 + a1 v))

ReLU is homogeneous, so that every density over one neuron takes this form once its direction is fixed. Beyond the
paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw


def radial_offsets(input_dim: int) -> np.ndarray:
    """Nodes of the trapezoid rule about the mode, in widths; its relative error is below 1e-7."""
    # At zero drive log v has density exp(-(d/2)(e^x - 1 - x)) about its mode: cut where it is e^-16.
    # It is skewed, the more so at small d, which makes the rule converge later than for a Gaussian.
    depth = 32 / input_dim
    left = (depth + 1 + lambertw(-math.exp(-depth - 1)).real) * math.sqrt(input_dim / 2)
    step = min(0.8, 0.35 * math.sqrt(input_dim / 2))
    return np.arange(-left, 5.7, step)


@dataclass(frozen=True)
class Radial:
    """The law of v = R² at each of n directions: modes and widths of log v.

    Parameters
    ----------
    input_dim
        d.
    energy, drive
        A and B, shape (n,).
    constant
        a0 > 0.
    slope
        a1 > 0, one number or shape (n, 1).
    log_mode, width
        Of log v, shape (n,).
    """

    input_dim: int
    energy: np.ndarray
    drive: np.ndarray
    constant: float
    slope: float | np.ndarray
    log_mode: np.ndarray
    width: np.ndarray

    def log_density(self, log_v: np.ndarray) -> np.ndarray:
        """Log density of log v (n, r), up to the direction's constant."""
        v = np.exp(log_v)
        alpha = self.constant + self.slope * v
        exponent = self.drive[:, None] * v / alpha - 0.5 * self.energy[:, None] * v
        return 0.5 * self.input_dim * log_v - 0.5 * np.log(alpha) + exponent

    @classmethod
    def find(
        cls, input_dim: int, energy: np.ndarray, drive: np.ndarray, constant: float, slope: float | np.ndarray
    ) -> Radial:
        """Find modes and widths; `slope` is one number or shape (n,).

        The derivative of the log density times v, F = d/2 - A v/2 - a1 v/(2α) + B a0 v/α², has one root for
        d > 1 (F/v decreases), which lies between (d-1)/A and (d + B/(2 a1))/A: bracketed Newton in log v.
        """
        d, a0, a1 = input_dim, constant, slope
        low, high = np.log((d - 1) / energy), np.log((d + drive / (2 * a1)) / energy)
        x = low
        for _ in range(60):
            v = np.exp(x)
            alpha = a0 + a1 * v
            pull = drive * a0 * v / alpha**2
            force = 0.5 * d - 0.5 * energy * v - 0.5 * a1 * v / alpha + pull
            derivative = -0.5 * energy * v - 0.5 * a0 * a1 * v / alpha**2 + pull * (a0 - a1 * v) / alpha
            low, high = np.where(force > 0, x, low), np.where(force > 0, high, x)
            step = x - force / np.minimum(derivative, -1e-300)
            new = np.where((derivative < 0) & (step > low) & (step < high), step, 0.5 * (low + high))
            # A rough mode is enough: the rule's step and reach do not depend on its centre.
            moved, x = np.abs(new - x).max(), new
            if moved < 1e-2:
                break
        v = np.exp(x)
        alpha = a0 + a1 * v
        curvature = 0.5 * d - 0.5 * (a1 * v / alpha) ** 2 + 2 * drive * a0 * a1 * v**2 / alpha**3
        return cls(d, energy, drive, a0, a1 if np.isscalar(a1) else a1[:, None], x, curvature**-0.5)
