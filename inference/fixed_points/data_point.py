"""A theory of independent neurons solved on a dataset: figures, predictions, the learned kernel and networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from inference.fixed_points.data_kernel import ParticleKernel
from inference.fixed_points.data_problem import DataProblem
from inference.fixed_points.nngp import ReadoutSampler
from inference.fixed_points.point import FixedPoint
from models import checks


@dataclass(frozen=True, eq=False, kw_only=True)
class DataFieldPoint(FixedPoint):
    """MF, MF-ARD or AK at a fixed point on a dataset.

    Parameters
    ----------
    num_data
        P.
    predictions, predictive_variance
        Mean and variance over networks of f on x_test, each (P_test,).
    input_precisions, second_moment
        ρ_j and E_p[w_j²], each (d,); `precisions` holds the means of ρ over the relevant and the other inputs, or
        over all where the relevant inputs are unknown.
    test_mse_error
        Standard error of `test_mse`.
    num_aligned
        N times the probability that more than half of |w|² lies on the relevant inputs; None where unknown.
    kernel
        See :meth:`learned_kernel`.
    """

    num_data: int
    predictions: np.ndarray = field(repr=False)
    predictive_variance: np.ndarray = field(repr=False)
    input_precisions: np.ndarray = field(repr=False)
    second_moment: np.ndarray = field(repr=False)
    test_mse_error: float
    num_aligned: float | None
    kernel: ParticleKernel = field(repr=False)

    def learned_kernel(self, x: np.ndarray, x_other: np.ndarray | None = None) -> np.ndarray:
        """K(x, x') whose ridge regression with ridge κ²P is `predictions`; shape (n, n').

        N c E_p[φ(x) φ(x')] for AK, N c E_p[φ(x) φ(x')/(1 + cG)] for MF, from particles: of relative error 1/√n.

        Parameters
        ----------
        x, x_other
            Inputs (n, d) and (n', d); None for x itself.
        """
        arrays = [checks.finite_array("x", x, 2)]
        arrays.append(arrays[0] if x_other is None else checks.finite_array("x_other", x_other, 2))
        for name, array in zip(("x", "x_other"), arrays, strict=True):
            if array.shape[1] != len(self.input_precisions):
                raise ValueError(
                    f"{name} must have {len(self.input_precisions)} columns, those of the data, got {array.shape[1]}."
                )
        return self.kernel(*arrays)

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with P, the figures per input, the aligned neurons and one more error."""
        return super().to_dict() | {
            "num_data": self.num_data,
            "test_mse_error": self.test_mse_error if np.isfinite(self.test_mse_error) else None,
            "num_aligned": self.num_aligned,
            "input_precisions": self.input_precisions.tolist(),
            "second_moment": self.second_moment.tolist(),
        }


@dataclass(frozen=True, eq=False)
class DataNetworkSampler:
    """Networks of N neurons drawn independently from the particles.

        MF: a | w ~ Normal(σ_a² N^(-γ) B/(1 + cG), σ_a²/(1 + cG)),     AK: a | w_1..w_N from its posterior on the data

    Weights repeat between networks, since there are a finite number of particles; with thousands of them no jitter is
    needed. With AK the number of aligned neurons fluctuates between networks as for any independent neurons.

    Parameters
    ----------
    problem
        What was solved.
    neurons, p
        Hidden weights of the particles (n, D), and their probabilities (n,).
    readout_mean, readout_variance
        Of MF's readouts, each (n,).
    precisions
        ρ, shape (d,).
    """

    problem: DataProblem
    neurons: np.ndarray
    p: np.ndarray
    readout_mean: np.ndarray
    readout_variance: np.ndarray
    precisions: np.ndarray

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N), with biases b (num_draws, N), with ARD rho (num_draws, d)."""
        problem, network = self.problem, self.problem.network
        index = rng.choice(len(self.p), size=(num_draws, network.width), p=self.p)
        chosen = self.neurons[index].astype(float)
        networks = {"w": chosen[..., : problem.num_inputs]}
        biases = chosen[..., -1] if network.bias else np.zeros(index.shape)
        if network.bias:
            networks["b"] = biases
        if problem.adaptive:
            readouts = ReadoutSampler(network, problem.data)
            pairs = zip(networks["w"], biases, strict=True)
            networks["a"] = np.stack([readouts.readout(rng, w, b) for w, b in pairs])
        else:
            noise = rng.standard_normal(index.shape)
            networks["a"] = self.readout_mean[index] + np.sqrt(self.readout_variance[index]) * noise
        if problem.rule.draw is not None:
            networks["rho"] = problem.rule.draw(rng, self.precisions, num_draws)
        return networks
