"""A curve of solutions with an error at every point: polished on independent node sets, interpolated between.

The curve comes from :mod:`inference.fixed_points.continuation` on one coarse node set. Points are added until the
cubics between them are solutions too. Every point then moves to the curve of all node sets together by Newton steps
normal to that curve; the curve of each single node set lies one more such step away. Points whose steps do not
settle, or that overtake each other, are left out. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from scipy.interpolate import CubicHermiteSpline, PchipInterpolator

from inference.fixed_points.continuation import (
    CurvePoint,
    System,
    between,
    chord_length,
    correct,
    normal_step,
    tangent_of,
)

_INTERPOLATED = 2e-4  # largest error of the cubics between points, in any unknown
_ROUNDS = 3
_SETTLED = 1e-3  # a Newton step of this length leaves its square, times a curvature of up to 50
_CORRECTIONS = 8
_FARTHEST = 1.0  # a correction longer than this does not lead back to the curve
_WORKERS = 2  # NumPy computes outside the interpreter's lock


@dataclass(frozen=True)
class Knot:
    """What the node sets say at a point y = (θ, log κ) of the curve.

    Parameters
    ----------
    value, jacobian, noise
        F (n,), dF/dθ (n, n) and dF/dlog κ (n,), all node sets together.
    own
        F of each node set, shape (R, n).
    extra
        Averages that are wanted along the curve, shape (E,).
    """

    value: np.ndarray
    jacobian: np.ndarray
    noise: np.ndarray
    own: np.ndarray
    extra: np.ndarray


@dataclass(frozen=True)
class PolishedCurve:
    """Dense samples along the curve.

    Parameters
    ----------
    y
        (θ, log κ) of all node sets together, shape (T, n + 1).
    replicates
        The same of each node set, shape (R, T, n + 1).
    extra
        Averages along the curve, shape (T, E).
    evaluations
        Of the system on all node sets.
    """

    y: np.ndarray
    replicates: np.ndarray
    extra: np.ndarray
    evaluations: int


def refine(points: list[CurvePoint], system: System) -> list[CurvePoint]:
    """Add midpoints, corrected to the curve, until the cubics between points are on it to 2e-4."""
    suspects = [True] * (len(points) - 1)
    for _ in range(_ROUNDS):
        length = chord_length(np.array([p.y for p in points]))
        spline = CubicHermiteSpline(length, [p.y for p in points], [p.tangent for p in points])
        refined, ahead = [points[0]], []
        for i, suspect in enumerate(suspects):
            middle = 0.5 * (length[i] + length[i + 1])
            new, error = (None, 0.0) if not suspect else _corrected(spline(middle), spline(middle, 1), system)
            added = error > _INTERPOLATED and _monotone([points[i], new, points[i + 1]])
            refined += [new] * added + [points[i + 1]]
            ahead += [added] * (1 + added)
        points, suspects = refined, ahead
        if not any(suspects):
            break
    return points


def _monotone(points: list[CurvePoint]) -> bool:
    y, tangents = np.array([p.y for p in points]), np.array([p.tangent for p in points])
    return len(in_order(y, tangents, np.full(len(points), True))) == len(points)


def _corrected(guess: np.ndarray, direction: np.ndarray, system: System) -> tuple[CurvePoint | None, float]:
    """The solution next to `guess`, normal to `direction`, and how far away it is; None where that is within 2e-4."""
    value, jacobian, noise = system(guess[:-1], float(guess[-1]))
    step = normal_step(jacobian, noise, -value, direction)
    if np.abs(step).max() <= _INTERPOLATED:
        return None, 0.0
    y, _, jacobian, noise = correct(system, guess, direction / np.linalg.norm(direction))
    if y is None:
        return None, 0.0
    return CurvePoint.of(y, tangent_of(jacobian, noise, direction)), float(np.abs(y - guess).max())


def polish(
    points: list[CurvePoint], evaluate: Callable[[np.ndarray, float], Knot], per_interval: int = 24
) -> PolishedCurve:
    """Move the curve from one coarse node set to all of them.

    Parameters
    ----------
    points
        In order along the curve.
    evaluate
        θ, log κ → :class:`Knot`.
    per_interval
        Samples between two points.

    Raises
    ------
    ArithmeticError
        Where Newton's method settles at fewer than two points.
    """

    def moved(part: list[CurvePoint]):
        found, ahead = [], np.zeros_like(points[0].y)
        for point in part:
            # The way from the coarse curve changes slowly along it: the last point's brings this one close.
            y, tangent = point.y + ahead, point.tangent
            for count in range(1, _CORRECTIONS + 1):  # noqa: B007
                knot = evaluate(y[:-1], float(y[-1]))
                # Normal to this curve, not to the coarse one: next to a fold they can be far from parallel.
                tangent = tangent_of(knot.jacobian, knot.noise, tangent)
                right = np.column_stack([-knot.value, -knot.own.T])
                steps = normal_step(knot.jacobian, knot.noise, right, tangent)
                longest = np.abs(steps[:, 0]).max()
                if not longest <= _FARTHEST:  # or not a number
                    break
                y = y + steps[:, 0]
                if longest < _SETTLED:
                    break
            settled = longest < _SETTLED
            found.append((settled, y, tangent, (steps[:, 1:] - steps[:, :1]).T, knot.extra, count))
            ahead = y - point.y if settled else np.zeros_like(y)
        return found

    with ThreadPoolExecutor(_WORKERS) as pool:
        halves = [
            points[i * len(points) // _WORKERS : (i + 1) * len(points) // _WORKERS] for i in range(_WORKERS)
        ]
        parts = [knot for half in pool.map(moved, halves) for knot in half]
    settled, y, tangents, shifts, extra, counts = (np.array(part) for part in zip(*parts, strict=True))
    kept = in_order(y, tangents, settled)
    if len(kept) < 2:
        raise ArithmeticError(
            "The curve of solutions is lost on the fine node sets; solve at single κ instead."
        )
    y, tangents, shifts, extra = (values[kept] for values in (y, tangents, shifts, extra))
    length = chord_length(y)
    fine = between(length, per_interval)
    dense = CubicHermiteSpline(length, y, tangents)(fine)
    offsets = np.moveaxis(PchipInterpolator(length, shifts)(fine), 0, 1)
    return PolishedCurve(dense, dense + offsets, PchipInterpolator(length, extra)(fine), int(counts.sum()))


def in_order(y: np.ndarray, tangents: np.ndarray, settled: np.ndarray) -> np.ndarray:
    """Indices of the points of a curve that lie ahead of the one kept before, along the tangents of both.

    Parameters
    ----------
    y, tangents
        Points and unit tangents, shape (S, n + 1).
    settled
        Points to consider, boolean, shape (S,).
    """
    kept = []
    for i in np.flatnonzero(settled):
        way = y[i] - y[kept[-1]] if kept else None
        if way is None or (way @ tangents[i] > 0 and way @ tangents[kept[-1]] > 0):
            kept.append(i)
    return np.array(kept, dtype=int)
