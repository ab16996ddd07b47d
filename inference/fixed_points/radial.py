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

_NEAR = 1e-2  # in log v; a rough mode is enough, since the rule's step and reach do not depend on its centre


def radial_offsets(input_dim: int) -> np.ndarray:
    """Nodes of the trapezoid rule about the mode, in widths.

    Its relative error is below 1e-7. MF-ARD needs that: the prior alone holds all precisions together, so that an
    error of E[w²] enters them times N/(2 α0).
    """
    # At zero drive log v has density exp(-(d/2)(e^x - 1 - x)) about its mode: cut where it is e^-reach.
    # It is skewed, the more so at small d, which makes the rule converge later than for a Gaussian.
    reach, right, step = 16, 5.7, 0.8
    depth = 2 * reach / input_dim
    left = (depth + 1 + lambertw(-math.exp(-depth - 1)).real) * math.sqrt(input_dim / 2)
    return np.arange(-left, right, step * min(1.0, 0.4375 * math.sqrt(input_dim / 2)))


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
        d > 1 (F/v decreases), which lies between the root without B, of a quadratic, and (d + B/(2 a1))/A:
        bracketed Newton in log v from the former, which is the answer at most directions.
        """
        d, a0, a1 = input_dim, constant, np.broadcast_to(slope, drive.shape)
        linear = energy * a0 - (d - 1) * a1
        root = np.sqrt(linear**2 + 4 * d * a0 * a1 * energy)
        # The form of the positive root that does not cancel.
        v = np.where(linear > 0, 2 * d * a0 / (root + np.abs(linear)), (root - linear) / (2 * a1 * energy))
        x = np.log(v)
        moved = np.flatnonzero(drive * a0 * v / (a0 + a1 * v) ** 2 > 0.5 * d * _NEAR)
        x[moved] = cls._driven_mode(d, energy[moved], drive[moved], a0, a1[moved], x[moved])
        v = np.exp(x)
        alpha = a0 + a1 * v
        curvature = 0.5 * d - 0.5 * (a1 * v / alpha) ** 2 + 2 * drive * a0 * a1 * v**2 / alpha**3
        slope = slope if np.isscalar(slope) else slope[:, None]
        return cls(d, energy, drive, a0, slope, x, curvature**-0.5)

    @staticmethod
    def _driven_mode(d, energy, drive, a0, a1, low):
        x, high = low.copy(), np.log((d + drive / (2 * a1)) / energy)
        rest = np.arange(len(x))
        for _ in range(60):
            e, b, slope, at = energy[rest], drive[rest], a1[rest], x[rest]
            v = np.exp(at)
            alpha = a0 + slope * v
            pull = b * a0 * v / alpha**2
            force = 0.5 * d - 0.5 * e * v - 0.5 * slope * v / alpha + pull
            derivative = -0.5 * e * v - 0.5 * a0 * slope * v / alpha**2 + pull * (a0 - slope * v) / alpha
            low[rest] = np.where(force > 0, at, low[rest])
            high[rest] = np.where(force > 0, high[rest], at)
            step = at - force / np.minimum(derivative, -1e-300)
            inside = (derivative < 0) & (step > low[rest]) & (step < high[rest])
            x[rest] = np.where(inside, step, 0.5 * (low[rest] + high[rest]))
            rest = rest[np.abs(x[rest] - at) >= _NEAR]
            if not len(rest):
                break
        return x
