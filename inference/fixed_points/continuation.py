"""Every solution of a self-consistency equation on one curve in the noise, by pseudo-arclength continuation.

Solutions θ of F(θ, log κ) = 0 form curves in (θ, log κ). From a large κ, where the density is the prior, the curve is
followed along its own length, round folds, to below the κ sought; where it crosses that κ is a solution. Beyond the
paper (arXiv:2510.15174), which iterates from one start.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from scipy.interpolate import CubicHermiteSpline

# θ, log κ → F (n,), dF/dθ (n, n), dF/dlog κ (n,)
System = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]

_FIRST_STEP, _SHORTEST, _LONGEST = 0.2, 1e-3, 1.5
_MAX_POINTS = 300
_CORRECTIONS = 7
_FARTHEST = 3.0  # longest correction that is still trusted
_TOLERANCE = 1e-9  # where m is small, log m changes by much more than m


@dataclass(frozen=True)
class CurvePoint:
    """A solution and where it lies on the curve.

    Parameters
    ----------
    theta
        Unknowns, shape (n,).
    log_kappa
        log κ.
    tangent
        Unit vector of the curve in (θ, log κ), shape (n + 1,).
    """

    theta: np.ndarray
    log_kappa: float
    tangent: np.ndarray

    @classmethod
    def of(cls, y: np.ndarray, tangent: np.ndarray) -> CurvePoint:
        """The point y = (θ, log κ)."""
        return cls(y[:-1], float(y[-1]), tangent)

    @property
    def y(self) -> np.ndarray:
        """(θ, log κ), shape (n + 1,)."""
        return np.append(self.theta, self.log_kappa)


@dataclass(frozen=True)
class Curve:
    """Solutions in order along the curve.

    Parameters
    ----------
    points
        From the large-κ end.
    evaluations
        Of the system.
    complete
        Whether the curve reached the end that was asked for.
    """

    points: list[CurvePoint]
    evaluations: int
    complete: bool

    def samples(self, per_interval: int = 16) -> np.ndarray:
        """(θ, log κ) densely along the curve, by cubic Hermite interpolation, shape (T, n + 1)."""
        y = np.array([point.y for point in self.points])
        return hermite_samples(y, np.array([point.tangent for point in self.points]), per_interval)


def hermite_samples(y: np.ndarray, tangents: np.ndarray, per_interval: int) -> np.ndarray:
    """(S-1) `per_interval` + 1 points on the cubics through `y` (S, n) with these unit tangents, ends included."""
    length = chord_length(y)
    return CubicHermiteSpline(length, y, tangents)(between(length, per_interval))


def chord_length(y: np.ndarray) -> np.ndarray:
    """Length of the polygon through `y` (S, n) up to each of its corners, shape (S,)."""
    return np.append(0.0, np.linalg.norm(np.diff(y, axis=0), axis=1).cumsum())


def between(length: np.ndarray, per_interval: int) -> np.ndarray:
    """`length` (S,) with each interval divided into `per_interval` equal parts."""
    position = np.arange((len(length) - 1) * per_interval + 1) / per_interval
    return np.interp(position, np.arange(len(length)), length)


def crossings(values: np.ndarray, level: float) -> list[tuple[int, float]]:
    """Where samples along a curve cross a level, as (i, share): a share of the way from i to i + 1."""
    above = values > level
    index = np.flatnonzero(above[1:] != above[:-1])
    return [(int(i), float((level - values[i]) / (values[i + 1] - values[i]))) for i in index]


def turns(values: np.ndarray) -> list[int]:
    """Positions of the interior extrema of samples along a curve."""
    ahead = np.sign(np.diff(values))
    return [int(i) + 1 for i in np.flatnonzero(ahead[1:] * ahead[:-1] < 0)]


def resolved_turns(values: np.ndarray, share: float) -> list[int]:
    """The :func:`turns` of samples of a positive quantity, less neighbours that differ by no more than this share.

    Examples
    --------
    >>> values = np.array([4.0, 2.0, 2.0001, 1.0, 3.0])
    >>> turns(values), resolved_turns(values, 1e-3)
    ([1, 2, 3], [3])
    """
    left = turns(values)
    while len(left) > 1:
        depth = [abs(values[j] - values[i]) / max(abs(values[i]), abs(values[j])) for i, j in pairwise(left)]
        closest = int(np.argmin(depth))
        if depth[closest] > share:
            break
        del left[closest : closest + 2]
    return left


def tangent_of(jacobian: np.ndarray, noise: np.ndarray, previous: np.ndarray) -> np.ndarray:
    """Unit tangent of the curve in (θ, log κ), on the side of the vector `previous` (n + 1,)."""
    tangent = normal_step(jacobian, noise, np.zeros(len(noise)), previous, 1.0)
    return tangent / np.linalg.norm(tangent)


def normal_step(
    jacobian: np.ndarray, noise: np.ndarray, right: np.ndarray, normal: np.ndarray, along: float = 0.0
) -> np.ndarray:
    """The step with [dF/dθ, dF/dlog κ] · step = `right` (n, ...) and `normal` · step = `along`."""
    bordered = np.vstack([np.column_stack([jacobian, noise]), normal])
    last = np.full((1, *right.shape[1:]), along)
    return np.linalg.solve(bordered, np.concatenate([right, last]))


def trace(
    system: System, theta: np.ndarray, log_kappa: float, finished: Callable[[CurvePoint], bool]
) -> Curve:
    """Follow the curve from a solution (θ, log κ), first towards smaller κ.

    Parameters
    ----------
    system
        F and its derivatives.
    theta, log_kappa
        A solution.
    finished
        Called with every point; the curve ends where it is true, or where log κ is above its start.
    """
    _, jacobian, noise = system(theta, log_kappa)
    previous = np.append(np.zeros(len(theta)), -1.0)
    tangent = tangent_of(jacobian, noise, previous)
    points = [CurvePoint(theta, log_kappa, tangent)]
    evaluations, length = 1, _FIRST_STEP
    y = np.append(theta, log_kappa)
    while len(points) < _MAX_POINTS:
        corrected, count, jacobian, noise = correct(system, y + length * tangent, tangent)
        evaluations += count
        if corrected is None:
            length *= 0.4
            if length < _SHORTEST:
                return Curve(points, evaluations, False)
            continue
        direction = tangent_of(jacobian, noise, tangent)
        # A sharp turn means that the step jumped over something.
        if direction @ tangent < 0.8 and length > 0.05:
            length *= 0.5
            continue
        y, tangent = corrected, direction
        point = CurvePoint.of(y, tangent)
        points.append(point)
        if finished(points[-1]) or y[-1] > log_kappa:
            return Curve(points, evaluations, y[-1] <= log_kappa)
        length = min(length * (1.7 if count <= 3 else 1.2 if count <= 4 else 0.7), _LONGEST)
    return Curve(points, evaluations, False)


def correct(
    system: System, guess: np.ndarray, tangent: np.ndarray
) -> tuple[np.ndarray | None, int, np.ndarray, np.ndarray]:
    """Newton in the plane through `guess` normal to `tangent`; (None, count, ·, ·) where it fails."""
    y = guess.copy()
    for count in range(1, _CORRECTIONS + 1):
        value, jacobian, noise = system(y[:-1], float(y[-1]))
        if not (np.isfinite(value).all() and np.isfinite(jacobian).all()):
            return None, count, jacobian, noise
        if np.abs(value).max() < _TOLERANCE:
            return y, count, jacobian, noise
        step = normal_step(jacobian, noise, value, tangent, tangent @ (y - guess))
        if np.abs(step).max() > _FARTHEST:
            return None, count, jacobian, noise
        y = y - step
    return None, count, jacobian, noise


@dataclass(frozen=True)
class Fold:
    """Where two solutions merge: along the curve's length l, log κ = `log_kappa` + ½ `curvature` l².

    Parameters
    ----------
    theta, log_kappa
        The fold.
    tangent
        Unit vector of the curve in (θ, log κ).
    curvature
        Positive where the two solutions are at larger κ.
    """

    theta: np.ndarray
    log_kappa: float
    tangent: np.ndarray
    curvature: float

    def neighbours(self, log_kappa: float) -> list[np.ndarray]:
        """First guesses of the two solutions at a κ within 5 % of the fold, if it is on their side."""
        gap = (log_kappa - self.log_kappa) / self.curvature
        if gap < 0 or abs(log_kappa - self.log_kappa) > 0.05:
            return []
        step = np.sqrt(2 * gap) * self.tangent[:-1]
        return [self.theta - step, self.theta + step]


def polish_fold(system: System, theta: np.ndarray, log_kappa: float) -> Fold | None:
    """The fold of `system` close to (θ, log κ): secant on the rise; None where it is not found."""
    _, jacobian, noise = system(theta, log_kappa)
    tangent = np.linalg.svd(np.column_stack([jacobian, noise]))[2][-1]
    y, rise, curvature, ahead = np.append(theta, log_kappa), np.nan, np.nan, 0.0
    for _ in range(6):
        new, _, jacobian, noise = correct(system, y + ahead * tangent, tangent)
        if new is None:
            return None
        new_rise = float(tangent_of(jacobian, noise, tangent)[-1])
        if ahead:
            curvature = (new_rise - rise) / ahead
        y, rise = new, new_rise
        ahead = float(np.clip(-rise / curvature, -0.5, 0.5)) if np.isfinite(curvature) else 0.05
        if abs(ahead) < 2e-3:
            break
    return Fold(y[:-1], float(y[-1]), tangent, curvature)
