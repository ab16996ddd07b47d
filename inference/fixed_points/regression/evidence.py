"""The noise κ that a Gaussian process would choose: by its evidence, or by leave-one-out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.linalg import eigh
from scipy.optimize import minimize_scalar
from scipy.stats import norm

from inference.fixed_points.coverage import check_inputs
from inference.fixed_points.regression.covariances import nngp_kernel
from inference.fixed_points.regression.gaussian_process import log_leave_one_out
from models import Dataset, Isotropic, TwoLayerNetwork, checks

# Noise of one target, in units of the targets' root mean square, among which κ is sought.
_NOISE_RANGE = (0.03, 3.0)
_GRID = 61


@dataclass(frozen=True)
class NoiseChoice:
    """The noise chosen for a data set."""

    kappa: float  # κ = s/√P
    target_noise: float  # s, the standard deviation of one target about f, in units of y
    log_density: float  # the criterion at the optimum: log p(y), or Σ_μ log p(y_μ | y_-μ)
    # Whether the optimum is at an end of the range searched, 0.03 to 3 times the targets' root mean
    # square: then the data do not determine the noise.
    at_bound: bool
    criterion: str  # "evidence" or "loo"


def choose_kappa(network: TwoLayerNetwork, data: Dataset, criterion: str = "evidence") -> NoiseChoice:
    """The κ that maximises the evidence (or the leave-one-out density) of the network's NNGP.

        p(y) = Normal(y; 0, C),     C = K + s² I,     s² = κ²P
        log p(y) = -½ Σ_i [ u_i²/(λ_i + s²) + log(λ_i + s²) ] - (P/2) log 2π,     u = Vᵀy
        log p(y_μ | y_-μ) = log Normal(y_μ; y_μ - [C⁻¹y]_μ/[C⁻¹]_μμ, 1/[C⁻¹]_μμ)

    with K the prior covariance of f on the training inputs, see
    :func:`inference.fixed_points.regression.covariances.nngp_kernel`. With K = VΛVᵀ both criteria
    cost O(P) or O(P²) a value of s after one decomposition, and the maximum over log s is global up
    to the spacing of a grid that is refined by Brent's method. Source: Rasmussen and Williams,
    *Gaussian Processes for Machine Learning* (2006), equations 5.8 and 5.10 to 5.12.

    The network's prior is replaced by the isotropic one, and its κ does not count; held-out rows
    are not looked at. The criterion is ``"evidence"`` or ``"loo"``. ``ValueError`` for another one,
    inputs that do not match the network, targets that are all 0.

    Notes
    -----
    What the NNGP cannot explain counts as noise. Where a network of finite width learns features that
    the NNGP does not have, the noise is therefore overestimated, and κ with it: on data without noise
    (a parity) look at smaller κ.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(300, 2))
    >>> data = Dataset.from_arrays(x, x[:, 0] + 0.5 * rng.normal(size=300))
    >>> choice = choose_kappa(TwoLayerNetwork(input_dim=2, width=64, kappa=1.0), data)
    >>> bool(abs(choice.target_noise - 0.5) < 0.1), bool(np.isclose(choice.kappa, choice.target_noise / 225**0.5))
    (True, True)
    """
    checks.one_of("criterion", criterion, ("evidence", "loo"))
    check_inputs(network, data)
    size = float(np.sqrt(np.mean(data.y**2)))
    if size == 0:
        raise ValueError("y must not be all zeros: its noise would have no scale.")
    eigenvalues, vectors = eigh(nngp_kernel(replace(network, prior=Isotropic()), data.x))
    u = vectors.T @ data.y

    def log_density(log_noise):
        total = np.maximum(eigenvalues, 0.0) + np.exp(2 * log_noise)
        if criterion == "evidence":
            return float(norm.logpdf(u, scale=np.sqrt(total)).sum())
        return float(log_leave_one_out(vectors @ (u / total), vectors**2 @ (1 / total)).sum())

    low, high = np.log(size * np.array(_NOISE_RANGE))
    grid = np.linspace(low, high, _GRID)
    best = int(np.argmax([log_density(t) for t in grid]))
    around = grid[max(best - 1, 0)], grid[min(best + 1, _GRID - 1)]
    found = minimize_scalar(
        lambda t: -log_density(t), bounds=around, method="bounded", options={"xatol": 1e-6}
    )
    noise = float(np.exp(found.x))
    return NoiseChoice(
        kappa=noise / data.num_data**0.5,
        target_noise=noise,
        log_density=float(-found.fun),
        at_bound=bool(min(found.x - low, high - found.x) < 1e-3),
        criterion=criterion,
    )
