"""Root finding for self-consistency equations, with an explicit result instead of an exception."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Root:
    """Where an iteration ended.

    Parameters
    ----------
    x
        Last iterate, shape (n,).
    residual
        Largest absolute component of F(x).
    iterations
        Evaluations of F.
    converged
        Whether the residual reached the tolerance.
    """

    x: np.ndarray
    residual: float
    iterations: int
    converged: bool


def newton(
    function: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]],
    start: np.ndarray,
    lower: np.ndarray,
    upper: np.ndarray,
    tolerance: float = 1e-10,
    max_iterations: int = 40,
    max_step: float = 1.0,
) -> Root:
    """Newton's iteration x ← x - F'(x)⁻¹ F(x) with backtracking, inside the box [lower, upper].

    Parameters
    ----------
    function
        x (n,) → F(x) (n,) and its Jacobian (n, n).
    start, lower, upper
        Start and bounds, shape (n,).
    tolerance
        Stop once max |F| is at most this.
    max_iterations
        Evaluations of `function` at most.
    max_step
        Longest step of any component: log precisions react exponentially.

    Returns
    -------
    Root
        `converged` is False where `tolerance` was not reached; nothing is raised.

    Examples
    --------
    >>> root = newton(lambda x: (x**2 - 2, np.diag(2 * x)), np.array([1.0]), np.zeros(1), np.full(1, 9.0))
    >>> round(float(root.x[0]), 6), root.converged
    (1.414214, True)
    """
    x = np.clip(np.asarray(start, dtype=float), lower, upper)
    value, jacobian = function(x)
    count = 1
    while np.abs(value).max() > tolerance and count < max_iterations:
        try:
            step = -np.linalg.solve(jacobian, value)
        except np.linalg.LinAlgError:
            step = value  # the plain damped iteration, where Newton has no direction
        longest = np.abs(step).max()
        if longest == 0:
            break
        step *= min(1.0, max_step / longest)
        # A step that does not lower the residual is halved; where none does, the iteration has
        # stalled.
        for _ in range(6):
            trial = np.clip(x + step, lower, upper)
            new_value, new_jacobian = function(trial)
            count += 1
            lower_residual = np.linalg.norm(new_value) < np.linalg.norm(value)
            if lower_residual or count >= max_iterations:
                break
            step = 0.5 * step
        if not lower_residual:
            break
        x, value, jacobian = trial, new_value, new_jacobian
    residual = float(np.abs(value).max())
    return Root(x, residual, count, residual <= tolerance)
