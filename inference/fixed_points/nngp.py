"""NNGP: the infinitely wide network, kernel ridge regression without feature learning."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import erf

from inference.fixed_points.gaussian_process import regress
from inference.fixed_points.general.points import nngp_point
from inference.fixed_points.general.problem import covers
from inference.fixed_points.kernels import nngp_kernel, nngp_variance
from inference.fixed_points.parity import parity_problem
from inference.fixed_points.point import Branch, FixedPoint, Precisions
from inference.fixed_points.spectrum import binary_spectrum, gaussian_spectrum, learning_curve
from models import Dataset, Isotropic, SparseParity, TwoLayerNetwork, checks
from models.priors import has_weights_of

# As in models.network, in float64.
_ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
    "erf": erf,
    "identity": lambda u: u,
}


@dataclass(frozen=True, eq=False, kw_only=True)
class GaussianProcessPoint(FixedPoint):
    """A fixed point on a dataset, with predictions.

    Parameters
    ----------
    predictions, predictive_variance
        Posterior mean and variance of f on x_test, shape (P_test,).
    elpd_loo_pointwise
        Leave-one-out log predictive density of every y_μ, noise of variance κ²P included, shape (P,).
    log_density_pointwise
        Log predictive density of a fresh target at every x_μ given all targets, shape (P,).
    """

    predictions: np.ndarray
    predictive_variance: np.ndarray
    elpd_loo_pointwise: np.ndarray
    log_density_pointwise: np.ndarray

    @property
    def elpd_loo(self) -> float:
        """Sum of `elpd_loo_pointwise`."""
        return float(self.elpd_loo_pointwise.sum())

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with ``elpd_loo``."""
        return super().to_dict() | {"elpd_loo": self.elpd_loo}


@dataclass(frozen=True)
class NNGP:
    """The network at infinite width and γ = 1/2: a Gaussian process, solved as kernel ridge regression.

        K(x, x') = σ_a² N^(1-2γ) E_{w~prior}[φ(w·x) φ(w·x')],     ridge κ²P

    On a :class:`models.Dataset` it is exact for every activation (tanh by quadrature) and with hidden biases. On the
    population of a :class:`models.SparseParity`, m = λ/(λ + κ̃) with the eigenvalue λ of the parity and the
    effective ridge κ̃, κ² at P = ∞. Covers the isotropic prior. Sources: Neal (1996); arXiv:2510.15174 for the
    scaling (its printed baseline has ridge κ² and no 1/d in the kernel, and is another curve); the closed forms on
    parity are beyond the paper.

    Parameters
    ----------
    inputs
        On the population: "gaussian" (default) replaces the inputs outside S by Gaussians as the mean-field
        theories do; "binary" is exact on {±1}^d. Ignored on a dataset.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    >>> population = NNGP().solve(network, teacher)
    >>> NNGP().solve(network, teacher, num_data=300).order_parameter < population.order_parameter
    True
    """

    inputs: str = "gaussian"

    def __post_init__(self):
        checks.one_of("inputs", self.inputs, ("gaussian", "binary"))

    def solve(
        self, network: TwoLayerNetwork, data: Dataset | SparseParity, num_data: int | None = None
    ) -> FixedPoint:
        """The process given a dataset, or on a population of parity.

        Parameters
        ----------
        network
            With the isotropic prior.
        data
            A dataset (any x and y), or a teacher: its population.
        num_data
            With a teacher: P for the average over data sets of that size; None for the population.

        Returns
        -------
        FixedPoint
            A :class:`GaussianProcessPoint` on a dataset.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        if isinstance(data, Dataset):
            if num_data is not None:
                raise ValueError("num_data must be None on a Dataset, whose number of rows is P; got both.")
            return self._on_dataset(network, data)
        return self._on_population(network, data, num_data)

    def _on_population(
        self, network: TwoLayerNetwork, teacher: SparseParity, num_data: int | None
    ) -> FixedPoint:
        if covers(network, teacher):
            return nngp_point(network, teacher, num_data)
        problem = parity_problem(network, teacher, "NNGP", Isotropic)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        spectrum = {"gaussian": gaussian_spectrum, "binary": binary_spectrum}[self.inputs](
            problem, network.prior.scale
        )
        curve = learning_curve(spectrum, problem.kappa, num_data)
        m = curve.order_parameter
        # dm/dλ at fixed κ̃; the target's own share in κ̃ is of relative order 1/P.
        error = spectrum.error * curve.effective_ridge / (spectrum.target + curve.effective_ridge) ** 2
        return _point(
            FixedPoint, network, m, curve.mse_draw, curve.mse_mean, curve.residual, error + 1e-15, 1.0,
            spectrum.effective_sample_size,
        )  # fmt: skip

    def _on_dataset(self, network: TwoLayerNetwork, data: Dataset) -> GaussianProcessPoint:
        _check_dataset(network, data)
        noise = network.kappa**2 * data.num_data
        posterior = regress(
            nngp_kernel(network, data.x),
            nngp_kernel(network, data.x, data.x_test),
            nngp_variance(network, data.x_test),
            data.y,
            noise,
        )
        power = float(np.mean(data.y_test**2))
        m = float(np.mean(posterior.predictions * data.y_test)) / power
        mse_mean = float(np.mean((posterior.predictions - data.y_test) ** 2))
        mse_draw = mse_mean + float(posterior.predictive_variance.mean())
        # Rounding of the linear solve, by its backward error times the condition number.
        error = np.finfo(float).eps * posterior.condition * max(abs(m), 1.0)
        return _point(
            GaussianProcessPoint, network, m, mse_draw, mse_mean, posterior.residual, error,
            None if data.relevant is None else 1.0,
            sampler=ReadoutSampler(network, data),
            predictions=posterior.predictions,
            predictive_variance=posterior.predictive_variance,
            elpd_loo_pointwise=posterior.elpd_loo_pointwise,
            log_density_pointwise=posterior.log_density_pointwise,
        )  # fmt: skip


@dataclass(frozen=True)
class ReadoutSampler:
    """Networks of the NNGP at finite width: hidden weights from the prior, readouts from their exact posterior.

        w, b ~ prior,     a | w, b, data ~ Normal(Λ⁻¹ N^(-γ) Φ y/(κ²P), Λ⁻¹),   Λ = I/σ_a² + N^(-2γ) ΦΦᵀ/(κ²P)

    with Φ (N, P) the hidden activations on the training inputs.

    Parameters
    ----------
    network, data
        See :class:`NNGP`.
    """

    network: TwoLayerNetwork
    data: Dataset

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with biases, b (num_draws, N)."""
        network, n = self.network, self.network.width
        scale = network.prior.precision(network.input_dim) ** -0.5
        networks = {"w": scale * rng.standard_normal((num_draws, n, network.input_dim))}
        if network.bias:
            networks["b"] = network.bias_scale * rng.standard_normal((num_draws, n))
        biases = networks.get("b", np.zeros((num_draws, n)))
        networks["a"] = np.stack(
            [self.readout(rng, w, b) for w, b in zip(networks["w"], biases, strict=True)]
        )
        return networks

    def readout(self, rng: np.random.Generator, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """One draw of a (N,) given w (N, d) and b (N,)."""
        network, data = self.network, self.data
        noise = network.kappa**2 * data.num_data
        hidden = (
            hidden_activation(network.activation, w @ data.x.T + b[:, None]) * network.width**-network.gamma
        )
        precision = hidden @ hidden.T / noise + np.eye(len(w)) / network.readout_scale**2
        factor = cholesky(precision, lower=True)
        whitened = solve_triangular(factor, hidden @ data.y / noise, lower=True)
        return solve_triangular(factor, whitened + rng.standard_normal(len(w)), lower=True, trans="T")


def hidden_activation(name: str, u: np.ndarray) -> np.ndarray:
    """φ(u) in float64, by the name that :class:`models.TwoLayerNetwork` gives it."""
    return _ACTIVATIONS[name](u)


def _check_dataset(network: TwoLayerNetwork, data: Dataset) -> None:
    if not isinstance(network, TwoLayerNetwork):
        raise ValueError(f"network must be a models.TwoLayerNetwork, got {type(network).__name__}.")
    if not has_weights_of(network.prior, Isotropic):
        raise ValueError(
            f"prior must be models.Isotropic for NNGP, got {type(network.prior).__name__}: precisions shared by "
            "all neurons keep fluctuating at infinite width, and the limit is no Gaussian process."
        )
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"x must have input_dim={network.input_dim} columns to match the network, got {data.input_dim}."
        )


def _point(kind, network, m, mse_draw, mse_mean, residual, error, relevance_ratio, effective=None, **extra):
    precision = network.prior.precision(network.input_dim)
    precisions = Precisions(precision, precision)
    branch = Branch(m, mse_draw, precisions, True, ("prior", "aligned"), residual, float(error))
    return kind(
        theory="nngp",
        start="prior",
        order_parameter=m,
        test_mse=mse_draw,
        test_mse_mean=mse_mean,
        precisions=precisions,
        relevance_ratio=relevance_ratio,
        residual=residual,
        error=float(error),
        effective_sample_size=effective,
        iterations=1,
        converged=True,
        branches=(branch,),
        **extra,
    )
