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

# θ, log κ → F (n,), dF/dθ (n, n), dF/dlog κ (n,)
System = Callable[[np.ndarray, float], tuple[np.ndarray, np.ndarray, np.ndarray]]

_FIRST_STEP, _SHORTEST, _LONGEST = 0.2, 1e-3, 1.5
_MAX_POINTS = 300
_CORRECTIONS = 7
_FARTHEST = 3.0  # longest correction that is still trusted
_TOLERANCE = 1e-4  # the curve guides Newton; one more correction would square this


@dataclass(frozen=True)
class CurvePoint:
    """A solution and where it lies on the curve.

    Parameters
    ----------
    theta
        Unknowns, shape (n,).
    log_kappa
        log κ.
    rise
        Component of the curve's tangent along log κ; it changes sign at a fold.
    """

    theta: np.ndarray
    log_kappa: float
    rise: float


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

    def crossings(self, log_kappa: float) -> list[np.ndarray]:
        """First guesses of θ at the solutions with this log κ, in order along the curve."""
        found = []
        for left, right in pairwise(self.points):
            if (left.log_kappa - log_kappa) * (right.log_kappa - log_kappa) <= 0:
                gap = right.log_kappa - left.log_kappa
                share = (log_kappa - left.log_kappa) / gap if gap else 0.0
                found.append(left.theta + share * (right.theta - left.theta))
        return found

    def folds(self) -> list[tuple[float, np.ndarray]]:
        """(log κ, θ) of the folds, interpolated to where the curve stands still in κ."""
        found = []
        for left, right in pairwise(self.points):
            if left.rise * right.rise < 0:
                share = left.rise / (left.rise - right.rise)
                turn = left.theta + share * (right.theta - left.theta)
                # Along the curve log κ is a cubic with these ends and slopes; its extremum by Hermite's form.
                length = np.linalg.norm(np.append(right.theta - left.theta, right.log_kappa - left.log_kappa))
                s = share
                value = (
                    (1 + 2 * s) * (1 - s) ** 2 * left.log_kappa
                    + s * (1 - s) ** 2 * length * left.rise
                    + s**2 * (3 - 2 * s) * right.log_kappa
                    + s**2 * (s - 1) * length * right.rise
                )
                found.append((float(value), turn))
        return found


def _tangent(jacobian: np.ndarray, noise: np.ndarray, previous: np.ndarray) -> np.ndarray:
    bordered = np.vstack([np.column_stack([jacobian, noise]), previous])
    tangent = np.linalg.solve(bordered, np.append(np.zeros(len(noise)), 1.0))
    return tangent / np.linalg.norm(tangent)


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
    tangent = _tangent(jacobian, noise, previous)
    points = [CurvePoint(theta, log_kappa, float(tangent[-1]))]
    evaluations, length = 1, _FIRST_STEP
    y = np.append(theta, log_kappa)
    while len(points) < _MAX_POINTS:
        corrected, count, jacobian, noise = _correct(system, y + length * tangent, tangent)
        evaluations += count
        if corrected is None:
            length *= 0.4
            if length < _SHORTEST:
                return Curve(points, evaluations, False)
            continue
        direction = _tangent(jacobian, noise, tangent)
        # A sharp turn means that the step jumped over something.
        if direction @ tangent < 0.8 and length > 0.05:
            length *= 0.5
            continue
        y, tangent = corrected, direction
        point = CurvePoint(y[:-1], float(y[-1]), float(tangent[-1]))
        if point.rise * points[-1].rise < 0:
            between, count_more = _around_fold(system, points[-1], point)
            points += between
            evaluations += count_more
        points.append(point)
        if finished(points[-1]) or y[-1] > log_kappa:
            return Curve(points, evaluations, y[-1] <= log_kappa)
        length = min(length * (1.7 if count <= 3 else 1.2 if count <= 4 else 0.7), _LONGEST)
    return Curve(points, evaluations, False)


def _around_fold(system: System, left: CurvePoint, right: CurvePoint) -> tuple[list[CurvePoint], int]:
    """Points in order between two with a fold between them, close to the fold: false position on the rise."""
    before, after, evaluations = [], [], 0
    for _ in range(3):
        ends = [np.append(p.theta, p.log_kappa) for p in (left, right)]
        chord = ends[1] - ends[0]
        share = left.rise / (left.rise - right.rise)
        chord, guess = chord / np.linalg.norm(chord), ends[0] + share * chord
        y, count, jacobian, noise = _correct(system, guess, chord)
        evaluations += count
        if y is None:
            break
        tangent = _tangent(jacobian, noise, chord)
        point = CurvePoint(y[:-1], float(y[-1]), float(tangent[-1]))
        if point.rise * left.rise > 0:
            left = point
            before.append(point)
        else:
            right = point
            after.insert(0, point)
    return before + after, evaluations


def _correct(system: System, guess: np.ndarray, tangent: np.ndarray):
    """Newton in the plane through `guess` normal to `tangent`; (None, count, ·, ·) where it fails."""
    y = guess.copy()
    for count in range(1, _CORRECTIONS + 1):
        value, jacobian, noise = system(y[:-1], float(y[-1]))
        if not (np.isfinite(value).all() and np.isfinite(jacobian).all()):
            return None, count, jacobian, noise
        if np.abs(value).max() < _TOLERANCE:
            return y, count, jacobian, noise
        bordered = np.vstack([np.column_stack([jacobian, noise]), tangent])
        step = np.linalg.solve(bordered, np.append(value, tangent @ (y - guess)))
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
        new, _, jacobian, noise = _correct(system, y + ahead * tangent, tangent)
        if new is None:
            return None
        new_rise = float(_tangent(jacobian, noise, tangent)[-1])
        if ahead:
            curvature = (new_rise - rise) / ahead
        y, rise = new, new_rise
        ahead = float(np.clip(-rise / curvature, -0.5, 0.5)) if np.isfinite(curvature) else 0.05
        if abs(ahead) < 2e-3:
            break
    return Fold(y[:-1], float(y[-1]), tangent, curvature)
