"""NNGP: the infinitely wide network, kernel ridge regression without feature learning.

    K(x, x') = σ_a² N^(1-2γ) E_{w~prior}[φ(w·x) φ(w·x')],     ridge κ²P

With several hidden layers the activations of one are the inputs of the next, a Gaussian process of
the kernel so far: the recursion is :func:`inference.fixed_points.regression.covariances.nngp_kernel`.
On a population the kernel is known by its modes, and the regression by its learning curve,

    Λ_s = N c E_prior[a_s a_sᵀ]/mult_s,     κ̃ = κ² + (1/P) ( Σ_s mult_s κ̃ tr[Λ_s (κ̃ + Λ_s)⁻¹] + tail )

that is :class:`AdaptiveKernel` before its neurons adapt. Sources: Neal (1996); arXiv:2510.15174 for
the scaling (its printed baseline has ridge κ² and no 1/d in the kernel, and is another curve); for
the learning curve Canatar, Bordelon and Pehlevan, *Spectral bias and task-model alignment*, Nature
Communications 12, 2914 (2021).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np
from scipy.optimize import brentq

from inference.fixed_points.adaptive_kernel import AdaptiveKernelEquations
from inference.fixed_points.branches.curve import prior_averages
from inference.fixed_points.branches.equations import noise_squared
from inference.fixed_points.branches.solve import fine_sets
from inference.fixed_points.neuron.averages import standard_error
from inference.fixed_points.neuron.nodes import lattice
from inference.fixed_points.point import Branch, FixedPoint
from inference.fixed_points.populations.problem import population_problem
from inference.fixed_points.precisions import Precisions
from inference.fixed_points.regression.process_point import nngp_on_dataset
from inference.runs.progress import ProgressCallback
from models import Dataset, Isotropic, Network, SingleIndex, SparseParity, TwoLayerNetwork, checks

_MAX_ORDER = 6


@dataclass(frozen=True)
class NNGP:
    """The network at infinite width and γ = 1/2: a Gaussian process, solved as kernel ridge
    regression.

    On a :class:`models.Dataset` it is exact for every activation (tanh by quadrature), at every depth
    and with hidden biases. Of a :class:`models.TwoLayerNetwork` on the population of a
    :class:`models.SparseParity` of degree up to 6, whose inputs outside S are replaced by Gaussians,
    or a :class:`models.SingleIndex`, m = λ/(λ + κ̃) with the eigenvalue λ of the target and the
    effective ridge κ̃. Covers the isotropic prior. The equations: nngp.py.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    >>> population = NNGP().solve(network, teacher)
    >>> NNGP().solve(network, teacher, num_data=300).order_parameter < population.order_parameter
    True
    """

    def solve(
        self,
        network: Network,
        teacher_or_data: SparseParity | SingleIndex | Dataset,
        *,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> FixedPoint:
        """The process given a data set, or on a population.

        Parameters
        ----------
        network
            With the isotropic prior, in every layer.
        teacher_or_data
            A data set (any x and y), or a teacher: its population.
        num_data
            With a teacher: P for the average over data sets of that size; None for the population.
        start, key, progress
            As every theory takes them; the answer is unique and exact, and takes no time.

        Returns
        -------
        FixedPoint
            A :class:`GaussianProcessPoint` on a data set.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        checks.one_of("start", start, ("prior", "aligned"))
        if isinstance(teacher_or_data, Dataset):
            if num_data is not None:
                raise ValueError("num_data must be None on a Dataset, whose number of rows is P; got both.")
            return nngp_on_dataset(network, teacher_or_data)
        return _on_population(network, teacher_or_data, num_data, start)


def _on_population(network: TwoLayerNetwork, teacher, num_data: int | None, start: str) -> FixedPoint:
    if num_data is not None:
        checks.whole("num_data", num_data, 1)
    problem = population_problem(network, teacher, "NNGP", Isotropic, max_order=_MAX_ORDER)
    nodes = lattice(problem)
    equations = AdaptiveKernelEquations(nodes)
    rough = prior_averages(equations, [nodes.nodes(np.arange(nodes.num_cells), 0, 1)])
    found = prior_averages(equations, fine_sets(equations, rough.active_cells()))
    average = found.latest
    theta, log_ridge, residual = _at_noise(equations, average.pooled, network.kappa, num_data)
    figures = equations.figures(theta, log_ridge, average.pooled, num_data)
    own = [_at_noise(equations, means, network.kappa, num_data) for means in average.means]
    of_sets = [equations.figures(t, y, average.pooled, num_data)["order_parameter"] for t, y, _ in own]
    m, mse = float(figures["order_parameter"]), float(figures["mse_draw"])
    error = float(np.hypot(standard_error(np.array(of_sets)), average.edge + 1e-15))
    precisions = Precisions(problem.precision, problem.precision)
    return FixedPoint(
        theory="nngp",
        start=start,
        order_parameter=m,
        test_mse=mse,
        test_mse_mean=float(figures["mse_mean"]),
        precisions=precisions,
        relevance_ratio=1.0 if problem.counts[1] else None,
        residual=residual,
        error=error,
        effective_sample_size=average.effective_sample_size,
        iterations=1,
        converged=True,
        branches=(Branch(m, mse, precisions, True, ("prior", "aligned"), residual, error),),
    )


def _at_noise(equations, means: np.ndarray, kappa: float, num_data: int | None):
    """θ of the prior's kernel, log κ̃ at κ and P, and the residual of the equation for κ̃, relative
    to κ̃."""
    theta, log_noise = equations.start(means), np.asarray(2 * math.log(kappa))
    if num_data is None:
        return theta, log_noise, 0.0

    def missing(log_ridge):
        return float(noise_squared(equations, theta, np.asarray(log_ridge), num_data)) / kappa**2 - 1

    # κ² grows with κ̃, by at most the trace of the kernel over P.
    trace = float(equations.excess(theta, np.asarray(300.0)))
    high = math.log(kappa**2 + trace / num_data) + 1e-9
    root = brentq(missing, float(log_noise), high, xtol=1e-13, rtol=1e-14)
    return theta, np.asarray(root), abs(missing(root)) * kappa**2 / math.exp(root)
