"""Quadrature rules for a neuron's reduced variables, stretched so that the trapezoid rule converges fast.

Component: v = σ sinh y at the midpoints y = (m + ½) h; the integrand is even, so that y > 0 is enough. Norm of a
block of n ≥ 2 dimensions: s = σ√n e^y, with measure s^(n-1) ds; n = 1 is a component. Bias: b = g sinh y, where
g is of the size of |w| (see :class:`Quadrature`), because aligned neurons share a narrow range of b/|w|. The error
falls as exp(-2π² τ²/h²) for an integrand of width τ in y. Replicates differ in step (components) or shift (others),
which gives the error estimate. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

_BIAS_REACH = 4.0  # in y: 27 |w|
_SHRINK = 3.5  # how many e-folds below its prior size a norm may lie


@dataclass(frozen=True)
class Rule:
    """Nodes of one variable.

    Parameters
    ----------
    y, value, log_weight
        Stretched variable, variable, and log of measure times step, shape (n,).
    step
        Of y, constant.
    """

    y: np.ndarray
    value: np.ndarray
    log_weight: np.ndarray
    step: float

    def __len__(self) -> int:
        return len(self.y)

    def jittered(
        self, index: np.ndarray, rng: np.random.Generator, axis: Axis
    ) -> tuple[np.ndarray, np.ndarray]:
        """Values uniform in the cells of nodes `index`, and the log of measure times step there."""
        y = self.y[index] + self.step * (rng.random(len(index)) - 0.5)
        return axis.at(y, self.step)


@dataclass(frozen=True)
class Axis:
    """A variable of a neuron.

    Parameters
    ----------
    kind
        component, norm, or bias in units of g.
    size
        n of a norm; 1 otherwise.
    scale
        σ; not used of a bias.
    reach
        Largest |v|/σ of a component, largest s/(σ√n) of a norm.
    step
        Of y on the fine rule.
    """

    kind: str
    size: int
    scale: float
    reach: float
    step: float

    @property
    def coarsest(self) -> float:
        """How much longer than the fine step a step may be."""
        return 1.8 if self.kind == "norm" else math.inf

    @classmethod
    def of_block(cls, size: int, scale: float, reach: float, step: float) -> Axis:
        """The norm of a block; its step is capped by the width 1/√(2n) of log s under a Gaussian."""
        if size == 1:
            return cls("component", 1, scale, reach, step)
        return cls("norm", size, scale, reach / math.sqrt(size), min(0.85 / math.sqrt(2 * size), 0.25))

    def rule(self, coarsening: float = 1.0, rng: np.random.Generator | None = None) -> Rule:
        """The rule with steps `coarsening` times as long; a random replicate of it given `rng`."""
        step = self.step * coarsening
        if self.kind == "component":
            step *= 1.0 if rng is None else 0.85 + 0.15 * rng.random()
            y = step * (np.arange(math.ceil(math.asinh(self.reach) / step)) + 0.5)
        else:
            low, high = self._range()
            y = np.arange(low, high + step, step) + step * (0.0 if rng is None else rng.random() - 0.5)
        return Rule(y, *self.at(y, step), step)

    def at(self, y: np.ndarray, step: float) -> tuple[np.ndarray, np.ndarray]:
        """Value, and the log of measure times step, at y."""
        if self.kind == "component":
            return self.scale * np.sinh(y), np.log(np.cosh(y) * self.scale * step)
        if self.kind == "norm":
            log_s = y + math.log(self.scale * math.sqrt(self.size))
            return np.exp(log_s), self.size * y + math.log(step)
        return np.sinh(y), np.log(step * np.cosh(y))

    def _range(self) -> tuple[float, float]:
        if self.kind == "bias":
            return -_BIAS_REACH, _BIAS_REACH
        # The measure falls as e^(n y) towards small norms.
        return -max(_SHRINK, 14 / self.size), max(math.log(self.reach), 0.5 * math.log(1 + 40 / self.size))
