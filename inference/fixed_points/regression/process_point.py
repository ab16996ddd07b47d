"""The infinitely wide network on a data set: NNGP as kernel ridge regression."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from inference.fixed_points.coverage import check_dataset
from inference.fixed_points.point import Branch, FixedPoint
from inference.fixed_points.precisions import Precisions
from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from inference.fixed_points.regression.gaussian_process import regress
from inference.fixed_points.regression.readouts import ReadoutSampler
from models import Dataset, Isotropic, Network


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


def nngp_on_dataset(network: Network, data: Dataset, num_data: int | None = None) -> GaussianProcessPoint:
    """Kernel ridge regression with :func:`nngp_kernel` and ridge κ²P.

    ``ValueError`` for another prior than the isotropic one, inputs that do not match the network, a
    `num_data`, and where κ is too small for double precision.
    """
    check_dataset(
        network, data, num_data, "NNGP", Isotropic, deep=True,
        because=": precisions shared by all neurons keep fluctuating at infinite width, and the limit is no "
        "Gaussian process",
    )  # fmt: skip
    return process_point(network, data, "nngp")


def process_point(
    network: Network, data: Dataset, theory: str, factor: float = 1.0, residual: float = 0.0, **kind
) -> GaussianProcessPoint:
    """Kernel ridge regression with `factor` times :func:`nngp_kernel`, and ridge κ²P.

    Its networks are those of finite width whose readouts have `factor` times the prior variance;
    `residual` is that of the equation for the factor, and `kind` as in :func:`dataset_point`.
    """
    posterior = regress(
        factor * nngp_kernel(network, data.x),
        factor * nngp_kernel(network, data.x, data.x_test),
        factor * nngp_variance(network, data.x_test),
        data.y,
        network.kappa**2 * data.num_data,
    )
    # Rounding of the linear solve, by its backward error times the condition number.
    m = float(np.mean(posterior.predictions * data.y_test) / np.mean(data.y_test**2))
    error = float(np.finfo(float).eps * posterior.condition * max(abs(m), 1.0))
    scaled = replace(network, readout_scale=network.readout_scale * factor**0.5)
    return dataset_point(
        network, data, theory,
        sampler=ReadoutSampler(scaled, data),
        predictions=posterior.predictions,
        predictive_variance=posterior.predictive_variance,
        elpd_loo_pointwise=posterior.elpd_loo_pointwise,
        log_density_pointwise=posterior.log_density_pointwise,
        residual=max(posterior.residual, residual),
        error=error,
        **kind,
    )  # fmt: skip


def dataset_point(
    network: Network, data: Dataset, theory: str, residual: float, error: float,
    kind: type[GaussianProcessPoint] = GaussianProcessPoint, **answer,
) -> GaussianProcessPoint:  # fmt: skip
    """The point of predictions and their variances, `answer`, under isotropic weights.

    `answer` has the further fields of the class `kind`.
    """
    predictions, variance = answer["predictions"], answer["predictive_variance"]
    m = float(np.mean(predictions * data.y_test) / np.mean(data.y_test**2))
    mse_mean = float(np.mean((predictions - data.y_test) ** 2))
    mse_draw = mse_mean + float(variance.mean())
    precision = network.priors[0].precision(network.input_dim)
    precisions = Precisions(precision, precision)
    branch = Branch(m, mse_draw, precisions, True, ("prior", "aligned"), residual, error)
    return kind(
        theory=theory,
        start="prior",
        order_parameter=m,
        test_mse=mse_draw,
        test_mse_mean=mse_mean,
        precisions=precisions,
        relevance_ratio=None if data.relevant is None else 1.0,
        residual=residual,
        error=error,
        effective_sample_size=None,
        iterations=1,
        converged=True,
        branches=(branch,),
        **answer,
    )
