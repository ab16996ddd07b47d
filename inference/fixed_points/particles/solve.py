"""MF, MF-ARD and AK on a dataset: any inputs, targets, activation and hidden biases."""

from __future__ import annotations

import jax
import numpy as np

from inference.fixed_points.coverage import check_dataset
from inference.fixed_points.particles.annealing import NUM_BLOCKS, Annealing, Effort
from inference.fixed_points.particles.point import DataFieldPoint, data_field_point
from inference.fixed_points.particles.pooled import jackknife, solve_pooled
from inference.fixed_points.particles.problem import DataProblem
from inference.fixed_points.particles.start import stages
from inference.runs.progress import ProgressCallback, progress_callback
from models import Dataset, TwoLayerNetwork, WeightPrior, checks

_FOLLOWED = 1e-3  # largest mismatch of the field that the annealing may end with
_TOLERANCE = 1e-4  # on the residual
_DEFAULT = Effort()


def solve_on_dataset(
    theory: str,
    network: TwoLayerNetwork,
    data: Dataset,
    *priors: type[WeightPrior],
    name: str,
    num_data: int | None = None,
    start: str = "prior",
    key: jax.Array | None = None,
    progress: bool | ProgressCallback | None = None,
    effort: Effort = _DEFAULT,
) -> DataFieldPoint:
    """Solve MF or AK on a dataset with a population of particles.

    The particles are annealed in κ from where p(w) is the prior; at each stage the field is solved
    for on them, they are resampled under an umbrella that makes aligned neurons frequent, and moved
    by Metropolis steps that leave the density invariant. Snapshots at the final κ are pooled, and
    the equations solved on all of them. Eight blocks of particles share nothing but the field;
    leaving out one at a time (the jackknife) gives standard errors, to which the jackknife's
    estimate of the bias is added. Beyond the paper.

    Deep in the feature-learning phase AK's equations on a dataset have many solutions, which differ
    in the kinds of aligned neurons that are populated; `key` then chooses among them as `start`
    does, and the standard errors do not cover it. Parity with k = 4, d = 35, N = 512, P = 1000, κ =
    0.005: two keys populate 8 of the 16 sign patterns each, not the same ones, and have m = 0.814
    and 0.825.

    The prior has to have a :func:`precision_rule`, and be one of `priors` where any are given; the
    messages call the theory `name`. The start "prior" anneals from large κ; "aligned" is at the
    final κ, from aligned neurons, and needs data.relevant. The same `key`, by default
    ``jax.random.key(0)``, gives the same answer. ``ValueError`` for what the theory does not cover,
    a `num_data`, and where κ is too small for single precision.
    """
    check_dataset(network, data, num_data, name, *priors)
    checks.one_of("start", start, ("prior", "aligned"))
    if start == "aligned" and data.relevant is None:
        raise ValueError(
            "start='aligned' needs data.relevant; name the relevant inputs or use start='prior'."
        )
    problem = DataProblem.of(network, data, theory == "adaptive-kernel")
    total = len(stages(problem, start)) + effort.num_settling + effort.num_sweeps + 1 + NUM_BLOCKS
    with progress_callback(progress, theory) as callback:
        done = 0

        def report(text):
            nonlocal done
            done = min(done + 1, total)
            callback(done, total, text)

        annealing = Annealing(problem, effort, jax.random.key(0) if key is None else key, report)
        annealing.run(start)
        solved = solve_pooled(problem, annealing.population, annealing.p, annealing.field)
        report("solved")
        errors = jackknife(problem, solved, annealing.population, annealing.blocks, report)
    # Particles that did not follow the field may still agree among themselves: that is no solution.
    followed = annealing.mismatch <= _FOLLOWED and bool(np.isfinite(errors).all())
    converged = followed and solved.residual <= _TOLERANCE
    return data_field_point(theory, start, solved, errors, annealing.updates + solved.updates, converged)
