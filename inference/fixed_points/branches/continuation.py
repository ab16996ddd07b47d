"""Newton's iteration, and curves of solutions followed by pseudo-arclength continuation, round folds.

Solutions θ of F(θ, p) = 0 form curves in (θ, p). From a known end the curve is followed along its
own length, so that folds in p are points like any other. Source: Keller, in *Applications of
Bifurcation Theory* (1977). Used beyond the paper (arXiv:2510.15174), which iterates from one start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicHermiteSpline

# θ, p → F (n,), dF/dθ (n, n), dF/dp (n,)
System = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]

_FIRST_STEP, _SHORTEST, _LONGEST = 0.02, 1e-5, 0.6
# Largest error of the cubic that extrapolates from the last two points; between points its error is
# 64 times smaller.
_PREDICTED = 1e-3
_MAX_POINTS = 400
_CORRECTIONS = 7
_FARTHEST = 3.0  # longest correction that is still trusted
_SETTLED = 1e-5  # Newton's next step would be of the order of this one's square
_EVALUATIONS = 20  # of F at most, where one root is sought


@dataclass(frozen=True)
class Root:
    """Where Newton's iteration ended: x (n,), max |F(x)|, and how often F was evaluated."""

    x: np.ndarray
    residual: float
    iterations: int


def newton(function: Callable, start: np.ndarray, tolerance: float) -> Root:
    """x ← x - F'(x)⁻¹ F(x) from `start` (n,), until max |F| is at most `tolerance`; nothing is
    raised.

    `function` takes x to F(x) (n,) and its Jacobian (n, n). No component moves by more than 1 at a
    time, as log precisions react exponentially; a step that does not lower the residual is halved.

    Examples
    --------
    >>> root = newton(lambda x: (x**2 - 2, np.diag(2 * x)), np.array([1.0]), 1e-10)
    >>> round(float(root.x[0]), 6), root.residual < 1e-10
    (1.414214, True)
    """
    x, (value, jacobian), count = start, function(start), 1
    while np.abs(value).max() > tolerance and count < _EVALUATIONS:
        try:
            step = -np.linalg.solve(jacobian, value)
        except np.linalg.LinAlgError:
            step = value  # the plain damped iteration, where Newton has no direction
        if not np.isfinite(step).all():
            break
        step *= min(1.0, 1.0 / np.abs(step).max())
        for _ in range(6):
            new, new_jacobian = function(x + step)
            count += 1
            lowered = np.linalg.norm(new) < np.linalg.norm(value)
            if lowered or count >= _EVALUATIONS:
                break
            step = 0.5 * step
        if not lowered:
            break  # stalled
        x, value, jacobian = x + step, new, new_jacobian
    return Root(x, float(np.abs(value).max()), count)


def trace(system: System, y: np.ndarray, visit: Callable[[np.ndarray, np.ndarray], bool]) -> bool:
    """Follow the curve from a solution y = (θ, p), first towards smaller p.

    Parameters
    ----------
    system
        F and its derivatives.
    y
        A solution, shape (n + 1,).
    visit
        Called with every point and unit tangent, right after F was evaluated there; the curve ends
        where it returns true.

    Returns
    -------
    bool
        Whether the curve ended so: not where it is lost, nor where it comes back above its start.
    """
    _, jacobian, by_p = system(y[:-1], float(y[-1]))
    tangent = _tangent(jacobian, by_p, np.append(np.zeros(len(y) - 1), -1.0))
    start, length, points, before = y[-1], _FIRST_STEP, 1, None
    if visit(y, tangent):
        return True
    while points < _MAX_POINTS:
        guess = y + length * tangent if before is None else _ahead(*before, y, tangent, length)
        corrected, jacobian, by_p = correct(system, guess, tangent)
        if corrected is None:
            length *= 0.4
            if length < _SHORTEST:
                return False
            continue
        direction = _tangent(jacobian, by_p, tangent)
        error = np.abs(corrected - guess).max() / _PREDICTED
        if error > 4 and length > _SHORTEST:
            length *= max(0.25, 0.9 * error**-0.25)
            continue
        before, y, tangent, points = (y, tangent), corrected, direction, points + 1
        if visit(y, tangent):
            return True
        if y[-1] > start:
            return False
        length = min(length * min(2.0, 0.9 * max(error, 1e-3) ** -0.25), _LONGEST)
    return False


def _ahead(y0, tangent0, y1, tangent1, length: float) -> np.ndarray:
    """The cubic through the last two points, `length` beyond the second."""
    chord = np.linalg.norm(y1 - y0)
    return CubicHermiteSpline([0.0, chord], [y0, y1], [tangent0, tangent1])(chord + length)


def correct(system: System, guess: np.ndarray, tangent: np.ndarray):
    """Newton in the plane through `guess` normal to `tangent`: (y or None, dF/dθ, dF/dp)."""
    y = guess.copy()
    for _ in range(_CORRECTIONS):
        value, jacobian, by_p = system(y[:-1], float(y[-1]))
        if not (np.isfinite(value).all() and np.isfinite(jacobian).all()):
            break
        step = normal_step(jacobian, by_p, value, tangent, tangent @ (y - guess))
        longest = np.abs(step).max()
        if longest > _FARTHEST:
            break
        y = y - step
        if longest < _SETTLED:
            return y, jacobian, by_p
    return None, jacobian, by_p


def normal_step(jacobian, by_p, right: np.ndarray, normal: np.ndarray, along: float = 0.0) -> np.ndarray:
    """The step with [dF/dθ, dF/dp] · step = `right` (n, ...) and `normal` · step = `along`."""
    bordered = np.vstack([np.column_stack([jacobian, by_p]), normal])
    last = np.full((1, *right.shape[1:]), along)
    return np.linalg.solve(bordered, np.concatenate([right, last]))


def _tangent(jacobian, by_p, previous: np.ndarray) -> np.ndarray:
    """Unit tangent of the curve, on the side of the vector `previous` (n + 1,)."""
    tangent = normal_step(jacobian, by_p, np.zeros(len(by_p)), previous, 1.0)
    return tangent / np.linalg.norm(tangent)


def densely(y: np.ndarray, tangents: np.ndarray, per_interval: int) -> tuple[np.ndarray, np.ndarray]:
    """Samples of the cubics through points `y` (S, n) with unit `tangents`, and their places, in
    points."""
    length = np.append(0.0, np.linalg.norm(np.diff(y, axis=0), axis=1).cumsum())
    place = np.arange((len(y) - 1) * per_interval + 1) / per_interval
    fine = np.interp(place, np.arange(len(y)), length)
    return CubicHermiteSpline(length, y, tangents)(fine), place


def crossings(values: np.ndarray, level: float) -> list[tuple[int, float]]:
    """Where samples along a curve cross a level, as (i, share): a share of the way from i to i +
    1."""
    above = values > level
    index = np.flatnonzero(above[1:] != above[:-1])
    return [(int(i), float((level - values[i]) / (values[i + 1] - values[i]))) for i in index]


def turns(values: np.ndarray, share: float = 0.0) -> list[int]:
    """Interior extrema of samples along a curve, less neighbours that differ by no more than this
    share.

    Examples
    --------
    >>> values = np.array([4.0, 2.0, 2.0001, 1.0, 3.0])
    >>> turns(values), turns(values, 1e-3)
    ([1, 2, 3], [3])
    """
    ahead = np.sign(np.diff(values))
    left = [int(i) + 1 for i in np.flatnonzero(ahead[1:] * ahead[:-1] < 0)]
    while len(left) > 1:
        depth = [abs(values[j] - values[i]) / max(abs(values[i]), abs(values[j])) for i, j in pairwise(left)]
        closest = int(np.argmin(depth))
        if depth[closest] > share:
            break
        del left[closest : closest + 2]
    return left
