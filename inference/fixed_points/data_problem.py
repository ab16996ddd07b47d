"""A theory of independent neurons on a dataset: its constants, and the kernel of Gaussian neurons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from inference.fixed_points.data_precisions import PrecisionRule, rule_of
from inference.fixed_points.kernels import COVARIANCES
from models import Dataset, TwoLayerNetwork, WeightPrior
from models.priors import has_weights_of


@dataclass(frozen=True, eq=False)
class DataProblem:
    """Constants of MF or AK on a dataset.

    Parameters
    ----------
    network, data
        What is solved.
    adaptive
        True for AK, False for MF.
    rule
        Of the prior's precisions.
    kappa
        κ, that of the network at the end of an annealing.
    """

    network: TwoLayerNetwork
    data: Dataset
    adaptive: bool
    rule: PrecisionRule
    kappa: float

    @property
    def width(self) -> int:
        """N."""
        return self.network.width

    @property
    def coupling(self) -> float:
        """c = σ_a²/N^(2γ)."""
        return self.network.readout_scale**2 * self.network.width ** (-2 * self.network.gamma)

    @property
    def noise(self) -> float:
        """The ridge κ²P."""
        return self.kappa**2 * self.data.num_data

    @property
    def num_inputs(self) -> int:
        """d."""
        return self.network.input_dim

    @property
    def size(self) -> float:
        """Root mean square of the targets, or 1 where all vanish."""
        return float(np.sqrt(np.mean(self.data.y**2))) or 1.0

    @cached_property
    def inputs(self) -> np.ndarray:
        """Training inputs as the hidden layer sees them, float32 (P, D): D = d, or d + 1 with hidden biases."""
        return self.extend(self.data.x)

    def extend(self, x: np.ndarray) -> np.ndarray:
        """Inputs (n, d) with a column of ones where there are hidden biases, float32."""
        x = np.asarray(x, np.float32)
        return np.hstack([x, np.ones((len(x), 1), np.float32)]) if self.network.bias else x

    def all_precisions(self, precisions: np.ndarray) -> np.ndarray:
        """ρ (d,), followed by 1/σ_b² where there are hidden biases."""
        return np.append(precisions, self.network.bias_scale**-2) if self.network.bias else precisions

    def gaussian_kernel(self, precisions: np.ndarray, x: np.ndarray, x_other: np.ndarray) -> np.ndarray:
        """N c E[φφ'] over neurons w_j ~ Normal(0, 1/ρ_j), of extended inputs (n, D) and (n', D), in float64."""
        variance = 1 / self.all_precisions(precisions)
        x, x_other = x.astype(float), x_other.astype(float)
        first, second = ((x * x) @ variance, (x_other * x_other) @ variance)
        covariance = COVARIANCES[self.network.activation]
        return self.width * self.coupling * covariance((x * variance) @ x_other.T, first[:, None], second)

    def gaussian_variance(self, precisions: np.ndarray, x: np.ndarray) -> np.ndarray:
        """The diagonal of :meth:`gaussian_kernel`, shape (n,)."""
        variance = (x.astype(float) ** 2) @ (1 / self.all_precisions(precisions))
        return self.width * self.coupling * COVARIANCES[self.network.activation](variance, variance, variance)

    def at(self, kappa: float) -> DataProblem:
        """The same at another noise."""
        return replace(self, kappa=kappa)


def data_problem(
    network: TwoLayerNetwork, data: Dataset, theory: str, adaptive: bool, *priors: type[WeightPrior]
) -> DataProblem:
    """The constants, or a ``ValueError`` that says what `theory` covers.

    Parameters
    ----------
    network, data
        Any network whose prior has a :func:`precision_rule`, and any data with its number of inputs.
    theory
        Its public name, for the messages.
    adaptive
        True for AK, False for MF.
    priors
        The classes of prior that the theory is about; none for every prior with a rule.
    """
    if not isinstance(network, TwoLayerNetwork):
        raise ValueError(f"network must be a models.TwoLayerNetwork, got {type(network).__name__}.")
    if priors and not has_weights_of(network.prior, *priors):
        names = " or ".join(f"models.{prior.__name__}" for prior in priors)
        raise ValueError(f"prior must be {names} for {theory}, got {type(network.prior).__name__}.")
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"x must have input_dim={network.input_dim} columns to match the network, got {data.input_dim}."
        )
    rule = rule_of(network.prior, network.width, network.input_dim)
    return DataProblem(network, data, adaptive, rule, float(network.kappa))
