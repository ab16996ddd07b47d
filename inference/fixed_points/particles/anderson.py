"""Anderson acceleration of a fixed-point iteration x ← F(x)."""

from __future__ import annotations

import numpy as np

_GROWTH = 2.0  # of the residual, beyond which the history misleads
_RIDGE = 1e-10  # of the least-squares problem, relative to its trace


class Anderson:
    """The next iterate of x ← F(x) from the last few, with f = F(x) - x.

        x ← Σ_j α_j (x_j + β f_j),      Σ_j α_j = 1,      |Σ_j α_j f_j| smallest

    Where |f| has grown twofold, the history is dropped and β halved: a plain damped step. Source:
    Walker and Ni (2011), "Anderson acceleration for fixed-point iterations", with β as in Anderson
    (1965). `depth` differences are kept; `relaxation` is β of the first step, in (0, 1].

    Examples
    --------
    An iteration that alone would diverge, x ← 2 - 3x, whose fixed point is ½.

    >>> x, anderson = np.array([1.0]), Anderson()
    >>> for _ in range(3):
    ...     x = anderson.step(x, 2 - 3 * x)
    >>> round(float(x[0]), 6)
    0.5
    """

    def __init__(self, depth: int = 5, relaxation: float = 0.5):
        self.depth, self.relaxation = depth, relaxation
        self._last: tuple[np.ndarray, np.ndarray] | None = None
        self._moved: list[np.ndarray] = []
        self._changed: list[np.ndarray] = []

    def take(self, part: np.ndarray) -> Anderson:
        """A start for some components: what is known of their response, without the place."""
        other = Anderson(self.depth, self.relaxation)
        other._moved = [moved[part] for moved in self._moved]
        other._changed = [changed[part] for changed in self._changed]
        return other

    def step(self, x: np.ndarray, value: np.ndarray, weights: np.ndarray | float = 1.0) -> np.ndarray:
        """The next iterate after F(x) = `value`; `weights` (n,) of the squared components."""
        root = np.sqrt(weights)
        residual = value - x
        if self._last is not None:
            before, old = self._last
            if np.linalg.norm(root * residual) > _GROWTH * np.linalg.norm(root * old):
                self._moved, self._changed = [], []
                self.relaxation *= 0.5
            else:
                self._moved = [*self._moved, x - before][-self.depth :]
                self._changed = [*self._changed, residual - old][-self.depth :]
        self._last = x, residual
        step = self.relaxation * residual
        if self._moved:
            moved, changed = np.array(self._moved), np.array(self._changed)
            scaled = changed * root
            gram = scaled @ scaled.T
            gram += _RIDGE * np.trace(gram) * np.eye(len(gram))
            share = np.linalg.lstsq(gram, scaled @ (root * residual), rcond=None)[0]
            step = step - share @ (moved + self.relaxation * changed)
        return x + step
