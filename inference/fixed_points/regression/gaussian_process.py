"""Exact Gaussian-process regression in float64, with leave-one-out predictive densities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.stats import norm


@dataclass(frozen=True)
class Regression:
    """Posterior of f ~ GP(0, K) given y = f(x) + noise."""

    predictions: np.ndarray  # posterior mean and variance of f (not of y) on the test inputs
    predictive_variance: np.ndarray
    elpd_loo_pointwise: np.ndarray  # log p(y_μ | the other targets), noise included, (P,)
    log_density_pointwise: np.ndarray  # log p(y_μ | all targets) of a fresh target at x_μ, likewise
    residual: float  # max |(K + ridge) coefficients - y| relative to max |y|: what rounding left
    condition: float  # upper estimate of the condition number of K + ridge, from traces


def regress(
    kernel: np.ndarray, cross: np.ndarray, variance: np.ndarray, y: np.ndarray, ridge: float
) -> Regression:
    """Kernel ridge regression with its posterior variance.

        mean = k*ᵀ C⁻¹ y,   variance = k** - k*ᵀ C⁻¹ k*,   C = K + ridge I
        log p(y_μ | y_-μ) = log Normal(y_μ; y_μ - [C⁻¹y]_μ/[C⁻¹]_μμ, 1/[C⁻¹]_μμ)
        log p(y_μ | y) = log Normal(y_μ; y_μ - ridge [C⁻¹y]_μ, 2 ridge - ridge² [C⁻¹]_μμ)

    of K (P, P), k* (P, P_test), k** (P_test,) and y (P,); the ridge is the variance of the noise of
    a target, κ²P for a network. ``ValueError`` where C cannot be inverted in floating point.
    Source: Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), equations 2.23
    to 2.26 and 5.10 to 5.12.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> posterior = regress(one, one, np.ones(1), np.ones(1), 1.0)
    >>> round(float(posterior.predictions[0]), 6), round(float(posterior.predictive_variance[0]), 6)
    (0.5, 0.5)
    """
    covariance = kernel + ridge * np.eye(len(y))
    try:
        factor = cho_factor(covariance, lower=True)
        inverse_diagonal = (solve_triangular(factor[0], np.eye(len(y)), lower=True) ** 2).sum(axis=0)
    except LinAlgError:
        inverse_diagonal = np.array([np.inf])
    condition = float(np.trace(covariance) * inverse_diagonal.max())
    if not np.finfo(float).eps * condition < 1e-3:
        raise not_invertible(ridge)
    coefficients = cho_solve(factor, y)
    half = solve_triangular(factor[0], cross, lower=True)
    residual = np.abs(covariance @ coefficients - y).max() / max(np.abs(y).max(), np.finfo(float).tiny)
    return Regression(
        predictions=cross.T @ coefficients,
        predictive_variance=np.maximum(variance - (half**2).sum(axis=0), 0.0),
        elpd_loo_pointwise=log_leave_one_out(coefficients, inverse_diagonal),
        log_density_pointwise=norm.logpdf(
            ridge * coefficients, scale=np.sqrt(2 * ridge - ridge**2 * inverse_diagonal)
        ),
        residual=float(residual),
        condition=condition,
    )


def log_leave_one_out(coefficients: np.ndarray, inverse_diagonal: np.ndarray) -> np.ndarray:
    """log p(y_μ | y_-μ), noise included, from C⁻¹y and the diagonal of C⁻¹, each (P,)."""
    return norm.logpdf(coefficients / inverse_diagonal, scale=inverse_diagonal**-0.5)


def not_invertible(ridge: float) -> ValueError:
    """The sentence for a kernel that has no inverse in floating point."""
    return ValueError(
        f"kappa is too small for this kernel: with ridge {ridge:.3g} it cannot be inverted in double precision; "
        "raise kappa."
    )
