"""Where an annealing on a dataset starts: its noises, first particles and precisions."""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import norm

from inference.fixed_points.particles.equations import Population
from inference.fixed_points.particles.problem import DataProblem

_STAGE_RATIO = 1.15  # in κ between two stages


def stages(problem: DataProblem, start: str) -> list[float]:
    """κ from where no neuron is driven, E_prior[E] ≤ 0.1, to the network's; only this if "aligned".

    At the prior ½ c E[B²] = ½ vᵀKv/N ≤ E[y²]/(2Nκ²), with v = (κ²P I + K)⁻¹ y.
    """
    top = math.sqrt(5 * np.mean(problem.data.y**2) / problem.network.width)
    if start == "aligned" or top <= problem.kappa:
        return [problem.kappa]
    count = math.ceil(math.log(top / problem.kappa) / math.log(_STAGE_RATIO))
    return np.geomspace(top, problem.kappa, count + 1).tolist()


def first_particles(
    problem: DataProblem, start: str, count: int, rng: np.random.Generator
) -> tuple[Population, np.ndarray]:
    """Particles and ρ.

    "prior": those of the prior. "aligned": every second neuron has its relevant weights near ±1.5
    √(d/k) of the prior's scale, all signs alike, and the others at a third of theirs; ρ is that of
    a network in which a quarter of the neurons is aligned.
    """
    dim, d, rule = problem.inputs.shape[1], problem.num_inputs, problem.rule
    z = rng.standard_normal((count, dim))
    log_density, precisions = norm.logpdf(z).sum(axis=1), rule.initial
    if start == "prior":
        return Population(z.astype(np.float32), log_density), precisions
    centre, spread = _aligned(problem, dim)
    half = slice(0, None, 2)
    z[half] = z[half] * spread + centre * rng.choice([-1.0, 1.0], z[half].shape)
    ahead, behind = (norm.logpdf(z, sign * centre, spread) for sign in (1, -1))
    log_aligned = (np.logaddexp(ahead, behind) - math.log(2)).sum(axis=1)
    if rule.update is not None:
        precisions = rule.update((0.75 + 0.25 * (centre**2 + spread**2)[:d]) / rule.initial)
    z[:, :d] *= (precisions / rule.initial) ** 0.5
    return Population(z.astype(np.float32), np.logaddexp(log_density, log_aligned)), precisions


def _aligned(problem: DataProblem, dim: int) -> tuple[np.ndarray, np.ndarray]:
    """|mean| and standard deviation of an aligned neuron's z, each (dim,); biases stand last."""
    index = np.arange(dim)
    relevant = np.isin(index, problem.data.relevant)
    centre = np.where(relevant, 1.5 * math.sqrt(problem.num_inputs / relevant.sum()), 0.0)
    return centre, np.where(relevant, 0.25 * centre, np.where(index < problem.num_inputs, 0.35, 1.0))
