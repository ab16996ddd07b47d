"""The infinitely wide network on a data set: NNGP as kernel ridge regression."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.coverage import check_dataset
from inference.fixed_points.point import Branch, FixedPoint
from inference.fixed_points.precisions import Precisions
from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from inference.fixed_points.regression.gaussian_process import regress
from inference.fixed_points.regression.readouts import ReadoutSampler
from models import Dataset, Isotropic, TwoLayerNetwork


@dataclass(frozen=True, eq=False, kw_only=True)
class GaussianProcessPoint(FixedPoint):
    """A fixed point on a dataset, with predictions."""

    predictions: np.ndarray  # posterior mean and variance of f on x_test, each (P_test,)
    predictive_variance: np.ndarray
    # Log predictive densities of every y_μ given the others, noise of variance κ²P included, and of
    # a fresh target at every x_μ given all targets, each (P,).
    elpd_loo_pointwise: np.ndarray
    log_density_pointwise: np.ndarray

    @property
    def elpd_loo(self) -> float:
        """Sum of `elpd_loo_pointwise`."""
        return float(self.elpd_loo_pointwise.sum())

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with ``elpd_loo``."""
        return super().to_dict() | {"elpd_loo": self.elpd_loo}


def nngp_on_dataset(
    network: TwoLayerNetwork, data: Dataset, num_data: int | None = None
) -> GaussianProcessPoint:
    """Kernel ridge regression with :func:`nngp_kernel` and ridge κ²P.

    ``ValueError`` for another prior than the isotropic one, inputs that do not match the network, a
    `num_data`, and where κ is too small for double precision.
    """
    check_dataset(
        network, data, num_data, "NNGP", Isotropic,
        because=": precisions shared by all neurons keep fluctuating at infinite width, and the limit is no "
        "Gaussian process",
    )  # fmt: skip
    posterior = regress(
        nngp_kernel(network, data.x),
        nngp_kernel(network, data.x, data.x_test),
        nngp_variance(network, data.x_test),
        data.y,
        network.kappa**2 * data.num_data,
    )
    m = float(np.mean(posterior.predictions * data.y_test) / np.mean(data.y_test**2))
    mse_mean = float(np.mean((posterior.predictions - data.y_test) ** 2))
    mse_draw = mse_mean + float(posterior.predictive_variance.mean())
    # Rounding of the linear solve, by its backward error times the condition number.
    error = float(np.finfo(float).eps * posterior.condition * max(abs(m), 1.0))
    precision = network.prior.precision(network.input_dim)
    precisions = Precisions(precision, precision)
    branch = Branch(m, mse_draw, precisions, True, ("prior", "aligned"), posterior.residual, error)
    return GaussianProcessPoint(
        theory="nngp",
        start="prior",
        order_parameter=m,
        test_mse=mse_draw,
        test_mse_mean=mse_mean,
        precisions=precisions,
        relevance_ratio=None if data.relevant is None else 1.0,
        residual=posterior.residual,
        error=error,
        effective_sample_size=None,
        iterations=1,
        converged=True,
        branches=(branch,),
        sampler=ReadoutSampler(network, data),
        predictions=posterior.predictions,
        predictive_variance=posterior.predictive_variance,
        elpd_loo_pointwise=posterior.elpd_loo_pointwise,
        log_density_pointwise=posterior.log_density_pointwise,
    )
