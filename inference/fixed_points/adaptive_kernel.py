"""AK: the adaptive-kernel theory, with the isotropic or the ARD prior."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from inference.fixed_points.continuation import Curve, CurvePoint, Fold, polish_fold, trace
from inference.fixed_points.directions import (
    NUM_REPLICATES,
    default_resolution,
    direction_nodes,
)
from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.kernel_density import KernelState, active_cells
from inference.fixed_points.kernel_equations import KernelEquations
from inference.fixed_points.kernel_modes import ModeNodes, Modes, mode_nodes
from inference.fixed_points.kernel_point import AdaptiveKernelPoint, KernelNeuronSampler
from inference.fixed_points.kernel_solution import KernelSolution, describe
from inference.fixed_points.newton import Root, newton
from inference.fixed_points.parity import parity_problem
from models import ARD, Isotropic, SparseParity, TwoLayerNetwork, checks

_SAME = 1e-5  # roots closer than this in every unknown are one
_REACH = math.log(50.0)  # how far below κ the curve is followed at most
_LEARNED = 0.9  # the curve is taken to hold no more folds once m is above this


@dataclass(frozen=True)
class AdaptiveKernel:
    """AK, the theory of neurons that adapt to the kernel they form together, on sparse parity.

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

    Inputs outside S enter through their Gaussian replacement, see :mod:`inference.fixed_points.relu`.

    Beyond the paper (arXiv:2510.15174). Related: adaptive-kernel theories of wide networks, e.g. Seroussi, Naveh and
    Ringel, *Separation of scales and a thermodynamic description of feature learning in some CNNs* (2023).

    Parameters
    ----------
    tolerance
        On the residual max |T(θ) - θ| in the logs of all unknowns.
    max_order
        Largest Hermite degree in the rest that is resolved. Modes above it are many, their λ is far below κ̃, and
        they enter with the ridge κ̃ alone.

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

    def __post_init__(self):
        checks.whole("max_order", self.max_order, 1)

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity,
        num_data: int | None = None,
        start: str = "prior",
    ) -> AdaptiveKernelPoint:
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

        Returns
        -------
        AdaptiveKernelPoint
            With `converged` False where the residual stayed above the tolerance.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        problem = parity_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        checks.one_of("start", start, ("prior", "aligned"))
        equations = self._equations(network, problem, num_data)
        log_kappa = math.log(problem.kappa)
        curve, guesses = self._candidates(equations, log_kappa)
        folds = self._folds(equations, curve)
        guesses += [guess for fold in folds for guess in fold.neighbours(log_kappa)]
        evaluations, roots = curve.evaluations, []
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

    def _equations(self, network, problem, num_data) -> KernelEquations:
        modes = Modes.upto(problem.degree, problem.input_dim, self.max_order)
        if isinstance(network.prior, Isotropic):
            return KernelEquations(problem, modes, num_data, network.prior.precision(problem.input_dim))
        prior = PrecisionPrior(float(network.prior.shape), float(network.prior.rate_for(problem.input_dim)))
        return KernelEquations(problem, modes, num_data, prior.shape / prior.rate, prior)

    def _candidates(self, equations: KernelEquations, log_kappa: float) -> tuple[Curve, list[np.ndarray]]:
        """The curve of solutions on one coarse node set, and its points at the κ sought."""
        problem = equations.problem
        resolution = default_resolution(problem.degree, coarse=True)
        coarse = [mode_nodes(problem.degree, problem.input_dim, 0, resolution, self.max_order)]
        # Where κ² is at the trace of the prior's kernel and ½ c B² below 1 the density is the prior.
        power = 0.5 * equations.coupling * problem.input_dim / equations.precision
        noisy = 0.5 * math.log(max(problem.width * power, math.sqrt(power)))
        begin = max(noisy, log_kappa + 0.1)

        def system(theta, log_noise):
            return equations.system(theta, log_noise, coarse)

        def finished(point: CurvePoint) -> bool:
            learned = float(equations.order_parameter(point.theta)) > _LEARNED
            return point.log_kappa < log_kappa - (0.05 if learned else _REACH)

        count = len(equations.modes)
        state = KernelState(
            problem.width * power / equations.modes.multiplicities / (count + 1),
            problem.width * power / (count + 1),
            math.exp(2 * begin),
            equations.precision,
            equations.precision,
        )
        theta = equations.theta(state)
        for _ in range(20):
            theta = theta + system(theta, begin)[0]
        bounds = np.full(len(theta), np.inf)
        root = newton(lambda x: system(x, begin)[:2], theta, -bounds, bounds, 1e-9, 20)
        curve = trace(system, root.x, begin, finished)
        guesses = curve.crossings(log_kappa)
        # A curve that was cut short still gives its nearest point.
        return curve, guesses or [min(curve.points, key=lambda p: abs(p.log_kappa - log_kappa)).theta]

    def _folds(self, equations: KernelEquations, curve: Curve) -> list[Fold]:
        """The curve's folds, on one fine replicate."""
        found = []
        for log_kappa, theta in curve.folds():
            nodes = [self._active(equations, theta)[0]]
            fold = polish_fold(lambda x, y, n=nodes: equations.system(x, y, n), theta, log_kappa)
            found += [] if fold is None else [fold]
        return found

    def _active(self, equations: KernelEquations, theta: np.ndarray) -> tuple[ModeNodes, np.ndarray]:
        """The first fine replicate without its idle cells at θ, and which cells are not."""
        degree, input_dim = equations.problem.degree, equations.problem.input_dim
        first = mode_nodes(degree, input_dim, 0, default_resolution(degree), self.max_order)
        cells = active_cells(equations.coupling, input_dim, equations.state(theta), first)
        return first.take(cells[first.directions.cell]), cells

    def _polish(
        self, equations: KernelEquations, theta: np.ndarray, log_kappa: float
    ) -> tuple[Root, list[ModeNodes], int]:
        """Newton on one fine replicate, then on all where the density is not idle."""
        degree, input_dim = equations.problem.degree, equations.problem.input_dim
        resolution = default_resolution(degree)
        first, _ = self._active(equations, theta)
        bounds = np.full(len(theta), np.inf)

        def on(nodes):
            return lambda x: equations.system(x, log_kappa, nodes)[:2]

        rough = newton(on([first]), theta, -bounds, bounds, 1e-6, 20, max_step=1.0)
        near = rough.x if rough.converged else theta
        first, cells = self._active(equations, near)
        nodes = [first]
        for replicate in range(1, NUM_REPLICATES):
            directions = direction_nodes(degree, input_dim, replicate, resolution)
            nodes.append(ModeNodes.build(directions.take(cells[directions.cell]), equations.modes))
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
