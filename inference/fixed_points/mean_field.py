"""MF: the plain mean field with the isotropic prior."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from inference.fixed_points.data_annealing import ParticleOptions
from inference.fixed_points.data_field import solve_on_dataset
from inference.fixed_points.directions import DirectionNodes, check_refinement, replicates
from inference.fixed_points.draws import NeuronSampler
from inference.fixed_points.equations import system
from inference.fixed_points.general.points import mean_field_point
from inference.fixed_points.general.problem import covers
from inference.fixed_points.mean_field_curve import NoiseEquations, coarse_nodes
from inference.fixed_points.mean_field_noise import noise_curve
from inference.fixed_points.neuron_density import Parameters, active_nodes, averages
from inference.fixed_points.newton import Root
from inference.fixed_points.noise_curve import NoiseCurve
from inference.fixed_points.parity import ParityProblem, no_finite_data, parity_problem
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.solution import describe
from inference.runs.progress import ProgressCallback
from models import Dataset, Isotropic, SparseParity, TwoLayerNetwork, checks


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
    """MF, the plain mean-field theory of feature learning, on population sparse parity or on a dataset.

    Neurons are independent given the mean prediction ⟨f⟩ = m χ_S; the readout is integrated out:

        p(w) ∝ prior(w) α^(-1/2) exp(β²/(4α)),    α = 1/(2σ_a²) + Σ/(2κ²N^(2γ)),    β = (1-m) J/(κ²N^γ)
        m = N^(1-γ) E_p[(β/2α) J]

    Covers ReLU without biases, the isotropic prior, even degree k < d, P = ∞; γ, σ_w and σ_a are free. The
    root is unique. On a :class:`models.Dataset` it covers every activation and hidden biases, with averages over the
    training points for those over x, ⟨f⟩ on them for m, and particles for the quadrature. Inputs outside S enter the
    population through their Gaussian replacement, see :mod:`inference.fixed_points.relu`. Source: Göring, Mingard,
    Nam and Louis, arXiv:2510.15174.

    Parameters
    ----------
    tolerance
        On the residual |T(m) - m|.
    refinement
        This many times the quadrature nodes, a power of 2: the standard errors fall at least as its square root.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05)
    >>> point = MeanField().solve(network, SparseParity(input_dim=16, degree=2))
    >>> point.converged, point.error < 1e-4, 0.1 < point.order_parameter < 0.5
    (True, True, True)
    """

    tolerance: float = 1e-9
    refinement: int = 1

    def __post_init__(self):
        check_refinement(self.refinement)

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity | Dataset,
        num_data: int | None = None,
        start: str = "prior",
        *,
        key: jax.Array | None = None,
        options: ParticleOptions | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> FixedPoint:
        """Solve for m, or on a dataset for ⟨f⟩.

        Parameters
        ----------
        network, teacher
            See the class.
        num_data
            Must be None: the theory has no finite-P form.
        start
            "prior" or "aligned", where the particles start on a dataset; the root on the population is unique.
        key, options, progress
            On a dataset only: see :func:`inference.fixed_points.data_field.solve_on_dataset`.

        Returns
        -------
        FixedPoint
            With `converged` False where the residual stayed above the tolerance; on a dataset a
            :class:`inference.fixed_points.data_point.DataFieldPoint`.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        if isinstance(teacher, Dataset):
            return solve_on_dataset(
                "mean-field", network, teacher, Isotropic, name="MeanField", num_data=num_data, start=start,
                key=key, options=options, progress=progress,
            )  # fmt: skip
        if covers(network, teacher):
            return mean_field_point(network, teacher, "prior", num_data, self.tolerance, Isotropic)
        problem = parity_problem(network, teacher, "MeanField", Isotropic)
        no_finite_data(num_data, "MeanField")
        precision = network.prior.precision(problem.input_dim)
        nodes = replicates(problem.degree, problem.input_dim, self.refinement)
        # A coarse node set brings Newton close at a fraction of the cost, and shows which cells matter.
        coarse = coarse_nodes(problem)
        rough = solve_order_parameter(problem, precision, precision, [coarse], tolerance=1e-6)
        guess = float(rough.x[0])
        near = active_nodes(problem, Parameters(guess, precision, precision), coarse, nodes)
        # One of the fine sets, at an eighth of the cost, leaves Newton little to do on all.
        first = solve_order_parameter(problem, precision, precision, near[:1], guess, 1e-6)
        root = solve_order_parameter(problem, precision, precision, near, float(first.x[0]), self.tolerance)
        parameters = Parameters(float(root.x[0]), precision, precision)
        solution = describe(problem, None, parameters, near)
        iterations = rough.iterations + first.iterations + root.iterations
        sampler = NeuronSampler(problem, solution, near)
        branches = (solution.branch(("prior", "aligned")),)
        return solution.point("mean-field", "prior", branches, iterations, root.converged, sampler)

    def noise_curve(self, network: TwoLayerNetwork, teacher: SparseParity, kappa: float) -> NoiseCurve:
        """Every solution at every noise from large κ down to `kappa`, on one curve; the last curves are remembered.

        Parameters
        ----------
        network, teacher
            See the class; the network's own κ is not used.
        kappa
            Smallest noise of interest.

        Returns
        -------
        NoiseCurve
            To be asked for solutions, folds and onsets.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        checks.positive("kappa", kappa)
        problem = parity_problem(network, teacher, "MeanField", Isotropic)
        return noise_curve(NoiseEquations(problem, None, network.prior.precision(problem.input_dim)), kappa)
