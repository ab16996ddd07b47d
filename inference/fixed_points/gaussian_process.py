"""Exact Gaussian-process regression in float64, with leave-one-out predictive densities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, solve_triangular
from scipy.stats import norm


@dataclass(frozen=True)
class Regression:
    """Posterior of f ~ GP(0, K) given y = f(x) + noise.

    Parameters
    ----------
    predictions, predictive_variance
        Posterior mean and variance of f (not of y) on the test inputs, shape (P_test,).
    elpd_loo_pointwise
        log p(y_μ | the other targets), noise included, shape (P,).
    log_density_pointwise
        log p(y_μ | all targets) of a fresh target at x_μ, noise included, shape (P,).
    residual
        max |(K + noise) coefficients - y| relative to max |y|: what rounding left.
    condition
        Upper estimate of the condition number of K + noise, from traces.
    """

    predictions: np.ndarray
    predictive_variance: np.ndarray
    elpd_loo_pointwise: np.ndarray
    log_density_pointwise: np.ndarray
    residual: float
    condition: float


def regress(
    kernel: np.ndarray, cross: np.ndarray, variance: np.ndarray, y: np.ndarray, noise_variance: float
) -> Regression:
    """Kernel ridge regression with its posterior variance.

        mean = k*ᵀ C⁻¹ y,   variance = k** - k*ᵀ C⁻¹ k*,   C = K + noise · I
        log p(y_μ | y_-μ) = log Normal(y_μ; y_μ - [C⁻¹y]_μ/[C⁻¹]_μμ, 1/[C⁻¹]_μμ)
        log p(y_μ | y) = log Normal(y_μ; y_μ - noise [C⁻¹y]_μ, 2 noise - noise² [C⁻¹]_μμ)

    Source: Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), equations 2.23 to 2.26 and
    5.10 to 5.12.

    Parameters
    ----------
    kernel, cross, variance
        K (P, P), k* (P, P_test) and k** (P_test,).
    y
        Targets, shape (P,).
    noise_variance
        The ridge, κ²P for a network.

    Raises
    ------
    ValueError
        Where K + noise · I cannot be inverted in floating point.

    Examples
    --------
    >>> one = np.ones((1, 1))
    >>> posterior = regress(one, one, np.ones(1), np.ones(1), 1.0)
    >>> round(float(posterior.predictions[0]), 6), round(float(posterior.predictive_variance[0]), 6)
    (0.5, 0.5)
    """
    covariance = kernel + noise_variance * np.eye(len(y))
    try:
        factor = cho_factor(covariance, lower=True)
        inverse_diagonal = (solve_triangular(factor[0], np.eye(len(y)), lower=True) ** 2).sum(axis=0)
    except LinAlgError:
        inverse_diagonal = np.array([np.inf])
    condition = float(np.trace(covariance) * inverse_diagonal.max())
    if not np.finfo(float).eps * condition < 1e-3:
        raise ValueError(
            f"kappa is too small for this kernel: with ridge {noise_variance:.3g} it cannot be inverted in double "
            "precision; raise kappa."
        )
    coefficients = cho_solve(factor, y)
    half = solve_triangular(factor[0], cross, lower=True)
    loo_variance, loo_error = 1 / inverse_diagonal, coefficients / inverse_diagonal
    residual = np.abs(covariance @ coefficients - y).max() / max(np.abs(y).max(), np.finfo(float).tiny)
    return Regression(
        predictions=cross.T @ coefficients,
        predictive_variance=np.maximum(variance - (half**2).sum(axis=0), 0.0),
        elpd_loo_pointwise=norm.logpdf(loo_error, scale=np.sqrt(loo_variance)),
        log_density_pointwise=norm.logpdf(
            noise_variance * coefficients,
            scale=np.sqrt(2 * noise_variance - noise_variance**2 * inverse_diagonal),
        ),
        residual=float(residual),
        condition=condition,
    )
