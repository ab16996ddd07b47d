"""MF-ARD: the mean field with one precision per input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.branches import Scan, candidates, starts_of
from inference.fixed_points.directions import (
    DirectionNodes,
    default_resolution,
    direction_nodes,
    replicates,
)
from inference.fixed_points.draws import NeuronSampler
from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.neuron_density import Parameters, active_nodes
from inference.fixed_points.newton import Root, newton
from inference.fixed_points.parity import no_finite_data, parity_problem
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.solution import describe
from models import ARD, SparseParity, TwoLayerNetwork, checks

_SAME = 1e-5  # roots closer than this in every unknown are one


@dataclass(frozen=True)
class MeanFieldARD:
    """MF-ARD, the mean-field theory with automatic relevance determination, on population sparse parity.

    The density of :class:`MeanField` with prior precision ρ_S on the relevant and ρ_⊥ on the other inputs, and

        m = N^(1-γ) E_p[(β/2α) J],      ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])

    Covers ReLU without biases, :class:`models.ARD`, even degree k < d, P = ∞; γ, σ_a, α0 and β0 are free. There
    can be two stable solutions; all are in `branches`, and `start` chooses the one that is reported. Each start
    names the solution that ρ_S flows to with m and ρ_⊥ slaved to it: "prior" from ρ_S = α0/β0, "aligned" from
    ρ_S far below any solution. For α0 → ∞ at fixed α0/β0 the theory becomes :class:`MeanField`.

    Source: Göring, Mingard, Nam and Louis, arXiv:2510.15174; branches and their stability are beyond the paper.

    Parameters
    ----------
    tolerance
        On the residual max |T(θ) - θ| in θ = (m, log ρ_S, log ρ_⊥).

    Examples
    --------
    >>> from models import ARD, SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=ARD(shape=4.0))
    >>> point = MeanFieldARD().solve(network, SparseParity(input_dim=16, degree=2), start="aligned")
    >>> point.converged, point.precisions.relevant < point.precisions.rest
    (True, True)
    """

    tolerance: float = 1e-8

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity,
        start: str = "prior",
        num_data: int | None = None,
    ) -> FixedPoint:
        """Find every branch and report the one that `start` leads to.

        Parameters
        ----------
        network, teacher
            See the class.
        start
            "prior" or "aligned".
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
        problem = parity_problem(network, teacher, "MeanFieldARD", ARD)
        no_finite_data(num_data, "MeanFieldARD")
        checks.one_of("start", start, ("prior", "aligned"))
        prior = PrecisionPrior(float(network.prior.shape), float(network.prior.rate_for(problem.input_dim)))
        nodes = replicates(problem.degree, problem.input_dim)
        coarse = default_resolution(problem.degree, coarse=True)
        scan = Scan(problem, prior, [direction_nodes(problem.degree, problem.input_dim, 0, coarse)])
        points = scan.run()
        roots = self._polish(scan, candidates(scan, points), nodes)
        if not roots:
            # The scan always crosses 0 somewhere unless it was cut short: say where it came closest.
            roots = [self._newton(scan, min(points, key=lambda p: abs(p.drift)).theta, nodes)]
        near = [active_nodes(problem, Parameters.from_vector(root.x), nodes) for root in roots]
        solutions = [
            describe(problem, prior, Parameters.from_vector(root.x), subset)
            for root, subset in zip(roots, near, strict=True)
        ]
        # Where none counts as stable, as next to a fold, the starts still end at some root.
        eligible = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
        reached = starts_of([roots[i].x for i in eligible], points, np.log(prior.shape / prior.rate))
        reached = {name: eligible[position] for name, position in reached.items()}
        branches = tuple(
            solution.branch(tuple(name for name, i in reached.items() if i == index))
            for index, solution in enumerate(solutions)
        )
        chosen = solutions[reached[start]]
        sampler = NeuronSampler(problem, chosen, near[reached[start]], prior)
        converged = chosen.residual <= self.tolerance
        return chosen.point("mean-field-ard", start, branches, scan.evaluations, converged, sampler)

    def _newton(self, scan: Scan, theta: np.ndarray, nodes: list[DirectionNodes]) -> Root:
        """Newton on the full system: first on one replicate, then on all, where the density is not idle."""
        lower, upper = scan.bounds()

        def on(subset):
            return lambda x: scan.full_system(x, subset)

        rough = newton(on(nodes[:1]), theta, lower, upper, 1e-6, 20, max_step=0.3)
        near = rough.x if rough.converged else theta
        nodes = active_nodes(scan.problem, Parameters.from_vector(near), nodes)
        # A tenth of the tolerance leaves room for the idle cells.
        return newton(on(nodes), near, lower, upper, 0.1 * self.tolerance, 20, max_step=0.3)

    def _polish(self, scan: Scan, thetas: list[np.ndarray], nodes: list[DirectionNodes]) -> list[Root]:
        """Distinct roots near `thetas`, the converged ones if any, by increasing order parameter."""
        roots: list[Root] = []
        for theta in thetas:
            root = self._newton(scan, theta, nodes)
            if all(np.abs(other.x - root.x).max() > _SAME for other in roots):
                roots.append(root)
        roots = [root for root in roots if root.converged] or roots
        return sorted(roots, key=lambda root: root.x[0])
