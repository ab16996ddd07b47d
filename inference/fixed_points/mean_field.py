"""MF: the plain mean field with the isotropic prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.directions import DirectionNodes, replicates
from inference.fixed_points.draws import NeuronSampler
from inference.fixed_points.equations import system
from inference.fixed_points.neuron_density import Parameters, active_nodes, averages
from inference.fixed_points.newton import Root
from inference.fixed_points.parity import ParityProblem, no_finite_data, parity_problem
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.solution import describe
from models import Isotropic, SparseParity, TwoLayerNetwork


def solve_order_parameter(
    problem: ParityProblem,
    rho_relevant: float,
    rho_rest: float,
    nodes: list[DirectionNodes],
    start: float | None = None,
    tolerance: float = 1e-10,
) -> Root:
    """The root m of the equation for m at given precisions, by bracketed Newton.

    Its right side falls as m rises (the drive b (1-m)² does), so the root is unique and lies in [0, 1).

    Parameters
    ----------
    problem
        Constants.
    rho_relevant, rho_rest
        Precisions, held fixed.
    nodes
        Node sets.
    start
        First guess; the middle of the bracket by default.
    tolerance
        On |T(m) - m|.
    """
    low, high = 0.0, 1.0
    m = 0.5 if start is None else start
    iterations = 0
    while iterations < 100:
        iterations += 1
        parameters = Parameters(m, rho_relevant, rho_rest)
        value, slope = system(problem, None, parameters, averages(problem, parameters, nodes))
        residual = float(value[0])
        if abs(residual) <= tolerance:
            break
        low, high = (m, high) if residual > 0 else (low, m)
        step = m - residual / slope[0, 0]
        previous, m = m, float(step) if low < step < high else 0.5 * (low + high)
        if m == previous:
            break
    return Root(np.array([m]), abs(residual), iterations, abs(residual) <= tolerance)


@dataclass(frozen=True)
class MeanField:
    """MF, the plain mean-field theory of feature learning, on population sparse parity.

    Neurons are independent given the mean prediction ⟨f⟩ = m χ_S; the readout is integrated out:

        p(w) ∝ prior(w) α^(-1/2) exp(β²/(4α)),    α = 1/(2σ_a²) + Σ/(2κ²N^(2γ)),    β = (1-m) J/(κ²N^γ)
        m = N^(1-γ) E_p[(β/2α) J]

    Covers ReLU without biases, the isotropic prior, even degree k < d, P = ∞; γ, σ_w and σ_a are free. The
    root is unique. Inputs outside S enter through their Gaussian replacement, see
    :mod:`inference.fixed_points.relu`. Source: Göring, Mingard, Nam and Louis, arXiv:2510.15174.

    Parameters
    ----------
    tolerance
        On the residual |T(m) - m|.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05)
    >>> point = MeanField().solve(network, SparseParity(input_dim=16, degree=2))
    >>> point.converged, point.error < 1e-4, 0.1 < point.order_parameter < 0.5
    (True, True, True)
    """

    tolerance: float = 1e-9

    def solve(
        self, network: TwoLayerNetwork, teacher: SparseParity, num_data: int | None = None
    ) -> FixedPoint:
        """Solve for m.

        Parameters
        ----------
        network, teacher
            See the class.
        num_data
            Must be None: the theory has no finite-P form.

        Returns
        -------
        FixedPoint
            With `converged` False where the residual stayed above the tolerance.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        problem = parity_problem(network, teacher, "MeanField", Isotropic)
        no_finite_data(num_data, "MeanField")
        precision = network.prior.precision(problem.input_dim)
        nodes = replicates(problem.degree, problem.input_dim)
        # One replicate brings Newton close at an eighth of the cost, and shows which cells matter.
        rough = solve_order_parameter(problem, precision, precision, nodes[:1], tolerance=1e-6)
        start = float(rough.x[0])
        near = active_nodes(problem, Parameters(start, precision, precision), nodes)
        root = solve_order_parameter(problem, precision, precision, near, start, self.tolerance)
        parameters = Parameters(float(root.x[0]), precision, precision)
        solution = describe(problem, None, parameters, near)
        iterations = rough.iterations + root.iterations
        sampler = NeuronSampler(problem, solution, near)
        branches = (solution.branch(("prior", "aligned")),)
        return solution.point("mean-field", "prior", branches, iterations, root.converged, sampler)
