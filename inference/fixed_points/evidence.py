"""The noise κ that a Gaussian process would choose: by its evidence, or by leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar

from inference.fixed_points.kernels import nngp_kernel
from models import Dataset, Isotropic, TwoLayerNetwork, checks

CRITERIA = ("evidence", "loo")
# Noise of one target, in units of the targets' root mean square, among which κ is sought.
NOISE_RANGE = (0.03, 3.0)
_GRID = 61


@dataclass(frozen=True)
class NoiseChoice:
    """The noise chosen for a data set.

    Attributes
    ----------
    kappa
        κ = s/√P.
    noise
        s, the standard deviation of one target about f, in units of y.
    log_density
        The criterion at the optimum: the log evidence log p(y), or Σ_μ log p(y_μ | y_-μ).
    at_bound
        Whether the optimum is at an end of the range searched, :data:`NOISE_RANGE` times the targets' root mean
        square: then the data do not determine the noise.
    criterion
        ``"evidence"`` or ``"loo"``.
    """

    kappa: float
    noise: float
    log_density: float
    at_bound: bool
    criterion: str


def choose_kappa(network: TwoLayerNetwork, data: Dataset, criterion: str = "evidence") -> NoiseChoice:
    """The κ that maximises the evidence (or the leave-one-out density) of the network's NNGP on the training data.

        p(y) = Normal(y; 0, K + s² I),     s² = κ²P

    with K the prior covariance of f, see :func:`inference.fixed_points.kernels.nngp_kernel`. With K = VΛVᵀ both
    criteria cost O(P) or O(P²) a value of s after one decomposition, and the maximum over log s is global up to the
    spacing of a grid that is refined by Brent's method.

        log p(y) = -½ Σ_i [ u_i²/(λ_i + s²) + log(λ_i + s²) ] - (P/2) log 2π,     u = Vᵀy
        log p(y_μ | y_-μ) = log Normal(y_μ; y_μ - [C⁻¹y]_μ/[C⁻¹]_μμ, 1/[C⁻¹]_μμ),   C = K + s² I

    Source: Rasmussen and Williams, *Gaussian Processes for Machine Learning* (2006), equations 5.8 and 5.10 to 5.12.

    Parameters
    ----------
    network
        Its prior is replaced by the isotropic one, and its κ does not count.
    data
        The training data; held-out rows are not looked at.
    criterion
        ``"evidence"`` or ``"loo"``.

    Raises
    ------
    ValueError
        For an unknown criterion, for inputs that do not match the network, for targets that are all 0.

    Notes
    -----
    What the NNGP cannot explain counts as noise. Where a network of finite width learns features that the NNGP does
    not have, the noise is therefore overestimated, and κ with it: on data without noise (a parity) look at smaller κ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 2))
    >>> data = Dataset.from_arrays(x, x[:, 0] + 0.5 * rng.normal(size=300))
    >>> choice = choose_kappa(TwoLayerNetwork(input_dim=2, width=64, kappa=1.0), data)
    >>> bool(abs(choice.noise - 0.5) < 0.1), bool(np.isclose(choice.kappa, choice.noise / 225**0.5))
    (True, True)
    """
    checks.one_of("criterion", criterion, CRITERIA)
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"x must have input_dim={network.input_dim} columns to match the network, got {data.input_dim}."
        )
    size = float(np.sqrt(np.mean(data.y**2)))
    if size == 0:
        raise ValueError("y must not be all zeros: its noise would have no scale.")
    eigenvalues, vectors = eigh(nngp_kernel(replace(network, prior=Isotropic()), data.x))
    eigenvalues = np.maximum(eigenvalues, 0.0)
    coefficients = vectors.T @ data.y
    density = {
        "evidence": lambda s: log_evidence(eigenvalues, coefficients, s**2),
        "loo": lambda s: log_leave_one_out(eigenvalues, vectors, coefficients, s**2),
    }[criterion]
    low, high = np.log(size * np.array(NOISE_RANGE))
    grid = np.linspace(low, high, _GRID)
    best = int(np.argmax([density(np.exp(t)) for t in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = minimize_scalar(
        lambda t: -density(np.exp(t)), bounds=around, method="bounded", options={"xatol": 1e-6}
    )
    noise = float(np.exp(found.x))
    return NoiseChoice(
        kappa=noise / data.num_data**0.5,
        noise=noise,
        log_density=float(-found.fun),
        at_bound=bool(min(found.x - low, high - found.x) < 1e-3),
        criterion=criterion,
    )


def log_evidence(eigenvalues: np.ndarray, coefficients: np.ndarray, noise_variance: float) -> float:
    """log Normal(y; 0, K + s² I) from the eigenvalues of K and y in its eigenbasis, each of shape (P,).

    Examples
    --------
    >>> round(log_evidence(np.zeros(1), np.zeros(1), 1.0), 6)
    -0.918939
    """
    total = eigenvalues + noise_variance
    return float(-0.5 * np.sum(coefficients**2 / total + np.log(2 * np.pi * total)))


def log_leave_one_out(
    eigenvalues: np.ndarray, vectors: np.ndarray, coefficients: np.ndarray, noise_variance: float
) -> float:
    """Σ_μ log p(y_μ | y_-μ) of the process, noise included; `vectors` (P, P) has the eigenvectors as its columns.

    Examples
    --------
    >>> one = np.ones(1)
    >>> bool(np.isclose(log_leave_one_out(one, np.eye(1), one, 1.0), log_evidence(one, one, 1.0)))
    True
    """
    total = eigenvalues + noise_variance
    precision = vectors**2 @ (1 / total)
    error = vectors @ (coefficients / total) / precision
    return float(-0.5 * np.sum(precision * error**2 - np.log(precision / (2 * np.pi))))
