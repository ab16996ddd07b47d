"""AK: the adaptive-kernel theory, with the isotropic or the ARD prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax
import numpy as np

from inference.fixed_points.continuation import Fold, polish_fold
from inference.fixed_points.data_annealing import ParticleOptions
from inference.fixed_points.data_field import solve_on_dataset
from inference.fixed_points.data_point import DataFieldPoint
from inference.fixed_points.directions import (
    NUM_REPLICATES,
    check_refinement,
    default_resolution,
    direction_nodes,
)
from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.general.points import kernel_arguments
from inference.fixed_points.general.problem import covers
from inference.fixed_points.kernel_curve import RidgeCurve, coarse_nodes, ridge_curve
from inference.fixed_points.kernel_density import active_cells
from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes
from inference.fixed_points.kernel_noise import noise_curve
from inference.fixed_points.kernel_point import AdaptiveKernelPoint, KernelBranch, KernelNeuronSampler
from inference.fixed_points.kernel_solution import KernelSolution, describe
from inference.fixed_points.newton import Root, newton
from inference.fixed_points.noise_curve import NoiseCurve
from inference.fixed_points.parity import parity_problem
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, Isotropic, SparseParity, TwoLayerNetwork, checks

_SAME = 1e-5  # roots closer than this in every unknown are one
_SAME_FOLD = 1e-2  # folds are known less well, and two as close as that would be a cusp


@dataclass(frozen=True)
class AdaptiveKernel:
    """AK, the theory of neurons that adapt to the kernel they form together, on sparse parity or a dataset.

    All readouts are integrated out, so that given the weights y ~ Normal(0, κ²P I + c Σ_i φ_i φ_iᵀ), c = σ_a²/N^(2γ).
    One neuron given the others, whose kernel is replaced by its mean:

        p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),     λ_ij = N c E_p[q_ij]/mult_ij
        G = Σ_ij q_ij/(κ̃ + λ_ij) + (Σ - Σ_ij q_ij)/κ̃,             B = h_{S,0}/(κ̃ + λ_k0)
        κ̃ = κ² + (1/P) (Σ_ij mult_ij λ_ij κ̃/(λ_ij + κ̃) + N c E_p[Σ - Σ_ij q_ij])            (κ² at P = ∞)
        m = λ_k0/(κ̃ + λ_k0),    E0 = P/(P - Σ_ij mult_ij (λ_ij/(λ_ij + κ̃))²)
        MSE of a draw = E0 (1-m)² + Σ_ij mult_ij λ_ij κ̃/(λ_ij + κ̃) + N c E_p[Σ - Σ_ij q_ij]

    and with :class:`models.ARD` also ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²]). :class:`MeanField` is the limit in
    which G forgets the others, λ_ij = 0 in G alone. Covers ReLU without biases, even degree k < d, P = ∞ and
    finite P; γ and all scales are free. Every solution on the curve that leaves the prior at large κ is found, with
    its folds. Exact for one neuron given the others' mean kernel; it misses that few neurons align, one by one.

    On a :class:`models.Dataset`, of any inputs and targets, G = φᵀĀ⁻¹φ and B = φᵀĀ⁻¹y with the training points
    themselves and Ā = κ²P I + N c E_p[φφᵀ]; there it covers every activation, hidden biases, and every prior with a
    :func:`inference.fixed_points.data_precisions.precision_rule`.

    Inputs outside S enter the population through their Gaussian replacement, see :mod:`inference.fixed_points.relu`.

    Beyond the paper (arXiv:2510.15174). Related: adaptive-kernel theories of wide networks, e.g. Seroussi, Naveh and
    Ringel, *Separation of scales and a thermodynamic description of feature learning in some CNNs* (2023).

    Parameters
    ----------
    tolerance
        On the residual max |T(θ) - θ| in the logs of all unknowns.
    max_order
        Largest Hermite degree in the rest that is resolved. Modes above it are many, their λ is far below κ̃, and
        they enter with the ridge κ̃ alone.
    refinement
        This many times the quadrature nodes, a power of 2: the standard errors fall at least as its square root.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    >>> point = AdaptiveKernel().solve(network, teacher, num_data=300)
    >>> point.converged, point.error < 1e-3, 0.5 < point.order_parameter < 0.6
    (True, True, True)
    """

    tolerance: float = 1e-8
    max_order: int = 4
    refinement: int = 1

    def __post_init__(self):
        checks.whole("max_order", self.max_order, 1)
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
    ) -> AdaptiveKernelPoint | DataFieldPoint:
        """Find every branch and report the one that `start` leads to.

        Parameters
        ----------
        network, teacher
            See the class.
        num_data
            P for the average over data sets of that size; None for the population.
        start
            "prior" for the stable solution with the smallest m, "aligned" for that with the largest: the curve's
            ends, to which the damped iteration from the prior and from aligned neurons leads.
        key, options, progress
            On a dataset only: see :func:`inference.fixed_points.data_field.solve_on_dataset`.

        Returns
        -------
        AdaptiveKernelPoint
            With `converged` False where the residual stayed above the tolerance; on a dataset a
            :class:`inference.fixed_points.data_point.DataFieldPoint` with the one branch that `start` leads to.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        if isinstance(teacher, Dataset):
            return solve_on_dataset(
                "adaptive-kernel", network, teacher, name="AdaptiveKernel", num_data=num_data, start=start,
                key=key, options=options, progress=progress,
            )  # fmt: skip
        if covers(network, teacher):
            return AdaptiveKernelPoint(
                **kernel_arguments(
                    network, teacher, num_data, start, self.tolerance, self.max_order, KernelBranch
                )
            )
        problem = parity_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        checks.one_of("start", start, ("prior", "aligned"))
        equations = self._equations(network, problem, num_data)
        log_kappa = math.log(problem.kappa)
        curve = ridge_curve(equations, problem.kappa)
        folds = self._folds(equations, curve)
        guesses = curve.guesses(problem.kappa, num_data)
        guesses += [guess for fold in folds for guess in fold.neighbours(log_kappa)]
        evaluations, roots = curve.curve.evaluations, []
        for guess in guesses:
            root, nodes, count = self._polish(equations, guess, log_kappa)
            evaluations += count
            if all(np.abs(other.x - root.x).max() > _SAME for other, _ in roots):
                roots.append((root, nodes))
        roots = [pair for pair in roots if pair[0].converged] or roots
        solutions = [describe(equations, root.x, log_kappa, nodes) for root, nodes in roots]
        order = np.argsort([s.parameters.order_parameter for s in solutions])
        solutions, nodes = [solutions[i] for i in order], [roots[i][1] for i in order]
        stable = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
        reached = {"prior": stable[0], "aligned": stable[-1]}
        branches = tuple(
            solution.branch(tuple(name for name, i in reached.items() if i == index))
            for index, solution in enumerate(solutions)
        )
        chosen, used = solutions[reached[start]], nodes[reached[start]]
        sampler = KernelNeuronSampler(
            problem,
            chosen,
            [n.directions for n in used],
            equations.prior,
            network=network,
            equations=equations,
        )
        noises = tuple(math.exp(fold.log_kappa) for fold in folds)
        return self._point(equations, chosen, start, branches, evaluations, sampler, noises)

    def noise_curve(
        self, network: TwoLayerNetwork, teacher: SparseParity, kappa: float, num_data: int | None = None
    ) -> NoiseCurve:
        """Every solution at every noise from large κ down to `kappa`; all P share one curve, which is remembered.

        Parameters
        ----------
        network, teacher
            See the class; the network's own κ is not used.
        kappa
            Smallest noise of interest.
        num_data
            P for the average over data sets of that size; None for the population.

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
        problem = parity_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        return noise_curve(self._equations(network, problem, None), kappa, num_data)

    def _equations(self, network, problem, num_data) -> KernelEquations:
        if isinstance(network.prior, Isotropic):
            precision, prior = network.prior.precision(problem.input_dim), None
        else:
            prior = PrecisionPrior.of(network.prior, problem.input_dim)
            precision = prior.mean
        return KernelEquations.build(problem, self.max_order, num_data, precision, prior)

    def _folds(self, equations: KernelEquations, curve: RidgeCurve) -> list[Fold]:
        """The folds in κ at this P, on one fine replicate."""
        found = []
        for log_kappa, theta in curve.folds(equations.num_data):
            nodes = self._active(equations, theta, 1)
            fold = polish_fold(lambda x, y, n=nodes: equations.system(x, y, n), theta, log_kappa)
            if fold is not None and all(
                np.abs(other.theta - fold.theta).max() > _SAME_FOLD for other in found
            ):
                found.append(fold)
        return found

    def _active(
        self, equations: KernelEquations, theta: np.ndarray, count: int = NUM_REPLICATES
    ) -> list[ModeNodes]:
        """The first `count` fine node sets without their idle cells at θ."""
        degree, input_dim = equations.problem.degree, equations.problem.input_dim
        (coarse,) = coarse_nodes(equations)
        cells = active_cells(equations.coupling, input_dim, equations.state(theta), coarse)
        resolution = default_resolution(degree, refinement=self.refinement)
        sets = [direction_nodes(degree, input_dim, r, resolution) for r in range(count)]
        return [ModeNodes.build(nodes.take(cells[nodes.cell]), equations.modes) for nodes in sets]

    def _polish(
        self, equations: KernelEquations, theta: np.ndarray, log_kappa: float
    ) -> tuple[Root, list[ModeNodes], int]:
        """Newton on one fine node set, then on all, where the density is not idle."""
        nodes = self._active(equations, theta)
        bounds = np.full(len(theta), np.inf)

        def on(sets):
            return lambda x: equations.system(x, log_kappa, sets)[:2]

        rough = newton(on(nodes[:1]), theta, -bounds, bounds, 1e-4, 20, max_step=1.0)
        near = rough.x if rough.converged else theta
        root = newton(on(nodes), near, -bounds, bounds, 0.1 * self.tolerance, 20, max_step=1.0)
        return root, nodes, rough.iterations + root.iterations

    def _point(
        self,
        equations: KernelEquations,
        chosen: KernelSolution,
        start: str,
        branches: tuple,
        evaluations: int,
        sampler: KernelNeuronSampler,
        folds: tuple[float, ...],
    ) -> AdaptiveKernelPoint:
        converged = chosen.residual <= self.tolerance
        point = chosen.point("adaptive-kernel", start, branches, evaluations, converged, sampler)
        pairs = zip(equations.modes.degrees.tolist(), equations.modes.orders.tolist(), strict=True)
        values = equations.state(chosen.theta).eigenvalues.tolist()
        return AdaptiveKernelPoint(
            **vars(point) | {"test_mse_mean": chosen.curve.mse_mean},
            num_data=equations.num_data,
            effective_ridge=chosen.curve.effective_ridge,
            amplification=chosen.curve.amplification,
            test_mse_error=chosen.mse_error,
            folds=folds,
            eigenvalues=dict(zip(pairs, values, strict=True)),
        )
