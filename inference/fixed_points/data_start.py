"""Where an annealing on a dataset starts: its noises, the first particles and the first precisions."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from inference.fixed_points.data_problem import DataProblem


def stages(problem: DataProblem, start: str, ratio: float) -> list[float]:
    """κ from where no neuron is driven, E_prior[E] ≤ 0.1, down to the network's; that alone from aligned neurons.

    At the prior ½ c E[B²] = ½ vᵀKv/N ≤ E[y²]/(2Nκ²), with v = (κ²P I + K)⁻¹ y.
    """
    top = math.sqrt(5 * np.mean(problem.data.y**2) / problem.width)
    if start == "aligned" or top <= problem.kappa:
        return [problem.kappa]
    count = math.ceil(math.log(top / problem.kappa) / math.log(ratio))
    return np.geomspace(top, problem.kappa, count + 1).tolist()


def first_particles(
    problem: DataProblem, start: str, count: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Scaled weights z (n, D) and the log density that they were drawn from, (n,), up to a constant.

    "prior": the prior. "aligned": every second neuron has its relevant weights near ±1.5 √(d/k) of the prior's scale,
    all signs alike, and the others at a third of theirs; the density is that of this mixture.
    """
    dim = problem.inputs.shape[1]
    z = rng.standard_normal((count, dim))
    log_prior = norm.logpdf(z).sum(axis=1)
    if start == "prior":
        return z, log_prior
    centre, spread = _aligned(problem, dim)
    half = slice(0, None, 2)
    z[half] = z[half] * spread + centre * rng.choice([-1.0, 1.0], z[half].shape)
    ahead, behind = (norm.logpdf(z, sign * centre, spread) for sign in (1, -1))
    log_aligned = (np.logaddexp(ahead, behind) - math.log(2)).sum(axis=1)
    return z, np.logaddexp(log_prior, log_aligned)


def first_precisions(problem: DataProblem, start: str) -> np.ndarray:
    """ρ of the prior, or of a network in which a quarter of the neurons is aligned."""
    rule = problem.rule
    if start == "prior" or rule.update is None:
        return rule.initial
    centre, spread = _aligned(problem, problem.num_inputs)
    return rule.update((0.75 + 0.25 * (centre**2 + spread**2)) / rule.initial)


def _aligned(problem: DataProblem, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """|mean| and standard deviation of an aligned neuron's z, each (dim,); beyond the inputs stand the biases."""
    index = np.arange(dim)
    relevant = np.isin(index, problem.data.relevant)
    centre = np.where(relevant, 1.5 * math.sqrt(problem.num_inputs / relevant.sum()), 0.0)
    return centre, np.where(relevant, 0.25 * centre, np.where(index < problem.num_inputs, 0.35, 1.0))
