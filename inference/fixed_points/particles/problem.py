"""A theory of independent neurons on a dataset: its constants."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from inference.fixed_points.precisions import PrecisionRule, rule_of
from inference.fixed_points.regression.covariances import coupling, weight_precisions, with_bias
from models import Dataset, TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class DataProblem:
    """Constants of MF or AK on a dataset, at one noise of an annealing."""

    network: TwoLayerNetwork
    data: Dataset
    adaptive: bool  # True for AK, False for MF
    rule: PrecisionRule
    kappa: float  # κ, that of the network at the end of the annealing

    @classmethod
    def of(cls, network: TwoLayerNetwork, data: Dataset, adaptive: bool) -> DataProblem:
        """At the network's own κ; ``ValueError`` for a prior without a rule of its precisions."""
        rule = rule_of(network.prior, network.width, network.input_dim)
        return cls(network, data, adaptive, rule, float(network.kappa))

    def at(self, kappa: float) -> DataProblem:
        """The same at another noise."""
        return replace(self, kappa=kappa)

    @property
    def num_inputs(self) -> int:
        """d."""
        return self.network.input_dim

    @property
    def coupling(self) -> float:
        """c = σ_a²/N^(2γ)."""
        return coupling(self.network)

    @property
    def scale(self) -> float:
        """N c, of the kernel and of ⟨f⟩."""
        return self.network.width * self.coupling

    @property
    def ridge(self) -> float:
        """κ²P."""
        return self.kappa**2 * self.data.num_data

    @property
    def size(self) -> float:
        """Root mean square of the targets, or 1 where all vanish."""
        return float(np.sqrt(np.mean(self.data.y**2))) or 1.0

    @cached_property
    def inputs(self) -> np.ndarray:
        """Training inputs as the hidden layer sees them, float32 (P, D)."""
        return self.seen(self.data.x)

    def seen(self, x: np.ndarray) -> np.ndarray:
        """Inputs (n, d) as the hidden layer sees them, (n, D): D = d, or d + 1 with biases."""
        return with_bias(self.network, np.asarray(x, np.float32))

    def scales(self, precisions: np.ndarray) -> np.ndarray:
        """Standard deviation of every weight under the prior at ρ (d,), biases included, (D,)."""
        return weight_precisions(self.network, precisions) ** -0.5
