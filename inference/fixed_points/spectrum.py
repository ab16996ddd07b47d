"""Spectrum of the NNGP kernel on parity inputs, and learning curves from the effective ridge.

Modes (i, j): Walsh degree i on the k relevant inputs, degree j on the other d - k, with multiplicity
C(k, i) C(d-k, j) and eigenvalue λ_ij = N c E_prior[q_ij]/multiplicity, c = σ_a²/N^(2γ). Beyond the paper
(arXiv:2510.15174); the learning curves are those of kernel ridge regression, e.g. Canatar, Bordelon and Pehlevan,
*Spectral bias and task-model alignment* (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq

from inference.fixed_points.directions import replicates
from inference.fixed_points.kernels import relu_covariance
from inference.fixed_points.parity import ParityProblem
from inference.fixed_points.relu import mode_powers

_MAX_ORDER = 10  # Hermite degree in the rest; what is beyond enters as the tail of the trace
_SPECTRUM_REPLICATES = 2
_SPECTRUM_CUTOFF = 1e-9


@dataclass(frozen=True)
class Spectrum:
    """Eigenvalues of a kernel under the input distribution.

    Parameters
    ----------
    target
        Eigenvalue of the mode that is the target.
    eigenvalues, multiplicities
        Of all resolved modes, the target's included, shape (n,).
    tail
        Trace of what is not resolved: many modes, each far below the ridge.
    error
        Standard error of `target`.
    effective_sample_size
        Of the quadrature nodes in `target`; None for an exact sum.
    """

    target: float
    eigenvalues: np.ndarray
    multiplicities: np.ndarray
    tail: float
    error: float
    effective_sample_size: float | None


def gaussian_spectrum(problem: ParityProblem, weight_scale: float) -> Spectrum:
    """Spectrum with the inputs outside S replaced by Gaussians, consistent with :class:`MeanField` as N → ∞.

    Parameters
    ----------
    problem
        Constants; even degree.
    weight_scale
        σ_w.
    """
    k, rest = problem.degree, problem.num_rest
    scale = _kernel_scale(problem) * weight_scale**2
    nodes = replicates(k, problem.input_dim)
    # Under the isotropic prior the direction is uniform and E[R²] = σ_w², so that averages are over log_measure.
    peak = max(n.log_measure.max() for n in nodes)
    weights = [np.exp(n.log_measure - peak) for n in nodes]
    means = np.array([np.average(n.overlap_squared, weights=w) for n, w in zip(nodes, weights, strict=True)])
    pooled = float(np.average(means, weights=[w.sum() for w in weights]))
    parts = np.concatenate([w * n.overlap_squared for n, w in zip(nodes, weights, strict=True)])

    order = min(_MAX_ORDER, rest)
    total, powers = 0.0, 0.0
    for n, w in zip(nodes[:_SPECTRUM_REPLICATES], weights, strict=False):
        kept = w > _SPECTRUM_CUTOFF * w.max()
        index = np.flatnonzero(kept)
        powers = powers + np.einsum(
            "n,nij->ij", w[index], mode_powers(n.relevant_weights[index], n.rest_norm[index], order)
        )
        total += w[index].sum()
    multiplicity = np.array(
        [[math.comb(k, i) * math.comb(rest, j) for j in range(order + 1)] for i in range(k + 1)]
    )
    eigenvalue = scale * powers / total / multiplicity
    eigenvalue[k, 0] = scale * pooled
    return Spectrum(
        target=float(eigenvalue[k, 0]),
        eigenvalues=eigenvalue.ravel(),
        multiplicities=multiplicity.ravel().astype(float),
        tail=max(float(0.5 * scale - (eigenvalue * multiplicity).sum()), 0.0),
        error=float(scale * 1.08 * means.std(ddof=1) / math.sqrt(len(means))),
        effective_sample_size=float(parts.sum() ** 2 / (parts**2).sum()),
    )


def binary_spectrum(problem: ParityProblem, weight_scale: float) -> Spectrum:
    """Exact spectrum on uniform ±1 inputs, by Walsh degree.

    The kernel depends on x·x' alone, so that the eigenvalue of degree l is a Krawtchouk sum over the number of
    differing inputs, λ_l = 2^-d Σ_n K_n(l) κ(1 - 2n/d). Degrees from which rounding would matter are in the tail.
    """
    d = problem.input_dim
    cosine = 1 - 2 * np.arange(d + 1) / d
    variance = weight_scale**2
    values = relu_covariance(variance * cosine, np.array(variance), np.array(variance))
    values = _kernel_scale(problem) * values
    eigenvalues, multiplicities, errors = [], [], []
    resolved = 0.0
    for degree in range(d + 1):
        terms = np.array([_krawtchouk(d, n, degree) for n in range(d + 1)]) * 0.5**d * values
        value, rounding = math.fsum(terms), 4 * np.finfo(float).eps * np.abs(terms).sum()
        if abs(value) < 1e3 * rounding:
            # Odd degrees above 1 vanish; the first even one that is lost in rounding ends the resolved part.
            if degree % 2 or degree == problem.degree:
                value = max(value, 0.0)
            else:
                break
        eigenvalues.append(value)
        multiplicities.append(float(math.comb(d, degree)))
        errors.append(rounding)
        resolved += value * multiplicities[-1]
    if len(eigenvalues) <= problem.degree:
        raise ValueError(
            f"degree={problem.degree} has an NNGP eigenvalue below double precision; lower degree, or use "
            'inputs="gaussian".'
        )
    return Spectrum(
        target=eigenvalues[problem.degree],
        eigenvalues=np.array(eigenvalues),
        multiplicities=np.array(multiplicities),
        tail=max(float(values[0]) - resolved, 0.0),
        error=float(errors[problem.degree]),
        effective_sample_size=None,
    )


def _krawtchouk(d: int, n: int, degree: int) -> float:
    """Σ over x with n entries -1 of χ_T(x), |T| = `degree`, in exact integers."""
    return float(
        sum(
            (-1) ** i * math.comb(degree, i) * math.comb(d - degree, n - i) for i in range(min(n, degree) + 1)
        )
    )


def _kernel_scale(problem: ParityProblem) -> float:
    return problem.readout_scale**2 * problem.width ** (1 - 2 * problem.gamma)


@dataclass(frozen=True)
class LearningCurve:
    """Kernel ridge regression with ridge κ²P on P points, averaged over data sets.

    Parameters
    ----------
    effective_ridge
        κ̃ of :func:`learning_curve`.
    residual
        Of its equation, relative to P (0 at P = ∞).
    order_parameter
        m = λ_target/(λ_target + κ̃).
    mse_mean, mse_draw
        Test error of the posterior mean, and of one draw.
    amplification
        E0, 1 at P = ∞.
    """

    effective_ridge: float
    residual: float
    order_parameter: float
    mse_mean: float
    mse_draw: float
    amplification: float

    @classmethod
    def at_ridge(
        cls, spectrum: Spectrum, ridge: float, num_data: int | None, residual: float = 0.0
    ) -> LearningCurve:
        """The figures of :func:`learning_curve` at a given κ̃."""
        value, multiplicity = spectrum.eigenvalues, spectrum.multiplicities
        amplification = 1.0
        if num_data is not None:
            amplification = 1 / (1 - float((multiplicity * (value / (value + ridge)) ** 2).sum()) / num_data)
        m = spectrum.target / (spectrum.target + ridge)
        mse_mean = amplification * (1 - m) ** 2
        variance = float((multiplicity * value * ridge / (value + ridge)).sum()) + spectrum.tail
        return cls(ridge, residual, m, mse_mean, mse_mean + variance, amplification)


def learning_curve(spectrum: Spectrum, kappa: float, num_data: int | None) -> LearningCurve:
    """m and test errors at P = `num_data` points, or on the population for None.

        Σ mult λ/(λ + κ̃) + tail/κ̃ + κ²P/κ̃ = P          (κ̃ = κ² at P = ∞)
        E0 = P/(P - Σ mult (λ/(λ + κ̃))²),     MSE of the mean = E0 (1-m)²
        MSE of one draw = E0 (1-m)² + Σ mult λκ̃/(λ + κ̃) + tail

    Parameters
    ----------
    spectrum
        Of the kernel.
    kappa
        κ.
    num_data
        P ≥ 1 or None.
    """
    value, multiplicity = spectrum.eigenvalues, spectrum.multiplicities

    def degrees_of_freedom(ridge):
        return float((multiplicity * value / (value + ridge)).sum() + spectrum.tail / ridge)

    ridge, residual = kappa**2, 0.0
    if num_data is not None:

        def excess(log_ridge):
            trial = math.exp(log_ridge)
            return degrees_of_freedom(trial) / num_data + kappa**2 / trial - 1

        # The left side falls in κ̃; it is above P at κ² and below it at κ² + trace/P.
        trace = float((multiplicity * value).sum()) + spectrum.tail
        high = math.log(kappa**2 + trace / num_data) + 1e-9
        root = brentq(excess, math.log(kappa**2), high, xtol=1e-13, rtol=1e-14)
        ridge, residual = math.exp(root), abs(excess(root))
    return LearningCurve.at_ridge(spectrum, ridge, num_data, residual)
