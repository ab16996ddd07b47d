"""A theory of independent neurons solved on a dataset: figures, learned kernel, networks."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from inference.fixed_points.particles.kernel import ParticleKernel
from inference.fixed_points.particles.pooled import Solved
from inference.fixed_points.particles.problem import DataProblem
from inference.fixed_points.point import Branch, FixedPoint
from inference.fixed_points.precisions import Precisions
from inference.fixed_points.regression.readouts import ReadoutSampler
from models import checks


@dataclass(frozen=True, eq=False, kw_only=True)
class DataFieldPoint(FixedPoint):
    """MF, MF-ARD or AK at a fixed point on a dataset.

    `precisions` holds the means of ρ over the relevant and the other inputs, or over all where the
    relevant inputs are unknown.
    """

    num_data: int  # P
    predictions: np.ndarray = field(repr=False)  # mean and variance of f over networks on x_test
    predictive_variance: np.ndarray = field(repr=False)
    input_precisions: np.ndarray = field(repr=False)  # ρ_j, (d,)
    second_moment: np.ndarray = field(repr=False)  # E_p[w_j²], (d,)
    test_mse_error: float  # standard error of `test_mse`
    # N times the probability that over half of |w|² is on the relevant inputs; None where unknown.
    num_aligned: float | None
    kernel: ParticleKernel = field(repr=False)  # see `learned_kernel`

    def learned_kernel(self, x: np.ndarray, x_other: np.ndarray | None = None) -> np.ndarray:
        """K(x, x'), (n, n'), whose ridge regression with ridge κ²P is `predictions`.

        N c E_p[φ(x) φ(x')] for AK, N c E_p[φ(x) φ(x')/(1 + cG)] for MF, from particles: of relative
        error 1/√n. Inputs (n, d) and (n', d), None for x itself.
        """
        arrays = {"x": x, "x_other": x if x_other is None else x_other}
        for name, value in arrays.items():
            arrays[name] = array = checks.finite_array(name, value, 2)
            if array.shape[1] != len(self.input_precisions):
                raise ValueError(
                    f"{name} must have {len(self.input_precisions)} columns, those of the data, got {array.shape[1]}."
                )
        return self.kernel(*arrays.values())

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with P, figures per input, aligned neurons, an error."""
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

        MF: a | w ~ Normal(σ_a² N^(-γ) B h, σ_a² h),     AK: a | w_1..w_N from its posterior on the data

    Weights repeat between networks, since there are a finite number of particles; with thousands of
    them no jitter is needed. With AK the number of aligned neurons fluctuates between networks as
    for any independent neurons.
    """

    problem: DataProblem
    neurons: np.ndarray  # hidden weights of the particles, (n, D)
    p: np.ndarray  # their probabilities, (n,)
    readout_mean: np.ndarray  # of MF's readouts, (n,)
    readout_variance: np.ndarray
    precisions: np.ndarray  # ρ, (d,)

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (n, N, d), a (n, N), with biases b (n, N), with ARD rho (n, d)."""
        problem, network = self.problem, self.problem.network
        index = rng.choice(len(self.p), size=(num_draws, network.width), p=self.p)
        chosen = self.neurons[index].astype(float)
        networks = {"w": chosen[..., : problem.num_inputs]}
        if network.bias:
            networks["b"] = chosen[..., -1]
        if problem.adaptive:
            networks["a"] = ReadoutSampler(network, problem.data).readouts(rng, networks)
        else:
            noise = rng.standard_normal(index.shape)
            networks["a"] = self.readout_mean[index] + np.sqrt(self.readout_variance[index]) * noise
        if problem.rule.draw is not None:
            networks["rho"] = problem.rule.draw(rng, self.precisions, num_draws)
        return networks


def data_field_point(
    theory: str, start: str, solved: Solved, errors: np.ndarray, updates: int, converged: bool
) -> DataFieldPoint:
    """What a solution says, with the standard errors of its figures."""
    equations, p, rho = solved.equations, solved.p, solved.equations.precisions
    problem = equations.problem
    network, relevant = problem.network, problem.data.relevant
    m, mse_draw, mse_mean = solved.figures.tolist()
    moment = equations.second_moment(p)
    precisions, ratio, aligned = Precisions(float(rho.mean()), float(rho.mean())), None, None
    if relevant is not None:
        inside = np.isin(np.arange(problem.num_inputs), relevant)
        square = equations.neurons[:, : problem.num_inputs].astype(float) ** 2
        share = square[:, inside].sum(axis=1) / square.sum(axis=1)
        aligned = float(network.width * p[share > 0.5].sum())
        if not inside.all():
            precisions = Precisions(float(rho[inside].mean()), float(rho[~inside].mean()))
            ratio = float(moment[inside].mean() / moment[~inside].mean())
    overlap, variance = (
        equations.energy(solved.field.residual)[0],
        network.readout_scale**2 * equations.screened,
    )
    mean = network.width**-network.gamma * overlap * variance
    error, mse_error, _ = errors.tolist()
    return DataFieldPoint(
        theory=theory,
        start=start,
        order_parameter=m,
        test_mse=mse_draw,
        test_mse_mean=mse_mean,
        precisions=precisions,
        relevance_ratio=ratio,
        residual=solved.residual,
        error=error,
        effective_sample_size=float(1 / np.sum(p**2)),
        iterations=updates,
        converged=converged,
        branches=(Branch(m, mse_draw, precisions, True, (start,), solved.residual, error),),
        sampler=DataNetworkSampler(problem, equations.neurons, p, mean, variance, rho),
        num_data=problem.data.num_data,
        predictions=solved.predictions,
        predictive_variance=solved.variance,
        input_precisions=rho,
        second_moment=moment,
        test_mse_error=mse_error,
        num_aligned=aligned,
        kernel=solved.kernel,
    )
