"""MF-ARD: the mean field with one precision per input."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from inference.fixed_points.data_annealing import ParticleOptions
from inference.fixed_points.data_field import solve_on_dataset
from inference.fixed_points.directions import DirectionNodes, check_refinement, replicates
from inference.fixed_points.draws import NeuronSampler
from inference.fixed_points.equations import PrecisionPrior
from inference.fixed_points.general.points import mean_field_point
from inference.fixed_points.general.problem import covers
from inference.fixed_points.mean_field_curve import NoiseEquations, coarse_nodes, followed_curve
from inference.fixed_points.mean_field_noise import noise_curve
from inference.fixed_points.neuron_density import Averages, Parameters, active_nodes
from inference.fixed_points.newton import Root, newton
from inference.fixed_points.noise_curve import NoiseCurve
from inference.fixed_points.parity import no_finite_data, parity_problem
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.solution import describe
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, SparseParity, TwoLayerNetwork, checks

_SAME = 1e-5  # roots closer than this in every unknown are one


@dataclass(frozen=True)
class MeanFieldARD:
    """MF-ARD, the mean-field theory with automatic relevance determination, on population parity or on a dataset.

    The density of :class:`MeanField` with prior precision ρ_S on the relevant and ρ_⊥ on the other inputs, and

        m = N^(1-γ) E_p[(β/2α) J],      ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])

    Covers ReLU without biases, :class:`models.ARD`, even degree k < d, P = ∞; γ, σ_a, α0 and β0 are free. There
    can be two stable solutions; all on the curve that leaves the prior at large κ are in `branches`, and `start`
    chooses the one that is reported: "prior" the stable one with the smallest m, "aligned" that with the largest, to
    which the damped iteration from the prior and from aligned neurons leads. For α0 → ∞ at fixed α0/β0 the theory
    becomes :class:`MeanField`.

    Source: Göring, Mingard, Nam and Louis, arXiv:2510.15174; branches and their stability are beyond the paper.

    Parameters
    ----------
    tolerance
        On the residual max |T(θ) - θ| in θ = (m, log ρ_S, log ρ_⊥).
    refinement
        This many times the quadrature nodes, a power of 2: the standard errors fall at least as its square root.

    Examples
    --------
    >>> from models import ARD, SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=ARD(shape=4.0))
    >>> point = MeanFieldARD().solve(network, SparseParity(input_dim=16, degree=2), start="aligned")
    >>> point.converged, point.precisions.relevant < point.precisions.rest
    (True, True)
    """

    tolerance: float = 1e-8
    refinement: int = 1

    def __post_init__(self):
        check_refinement(self.refinement)

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity | Dataset,
        start: str = "prior",
        num_data: int | None = None,
        *,
        key: jax.Array | None = None,
        options: ParticleOptions | None = None,
        progress: bool | ProgressCallback | None = None,
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
        key, options, progress
            On a dataset only: see :func:`inference.fixed_points.data_field.solve_on_dataset`.

        Returns
        -------
        FixedPoint
            With `converged` False where the residual stayed above the tolerance; on a dataset a
            :class:`inference.fixed_points.data_point.DataFieldPoint` with the one branch that `start` leads to.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        if isinstance(teacher, Dataset):
            return solve_on_dataset(
                "mean-field-ard", network, teacher, ARD, name="MeanFieldARD", num_data=num_data, start=start,
                key=key, options=options, progress=progress,
            )  # fmt: skip
        if covers(network, teacher):
            return mean_field_point(network, teacher, start, num_data, self.tolerance, ARD)
        problem = parity_problem(network, teacher, "MeanFieldARD", ARD)
        no_finite_data(num_data, "MeanFieldARD")
        checks.one_of("start", start, ("prior", "aligned"))
        prior = PrecisionPrior.of(network.prior, problem.input_dim)
        equations = NoiseEquations(problem, prior, prior.mean)
        roots, near, known, evaluations = self._roots(equations, float(np.log(problem.kappa)))
        solutions = [
            describe(problem, prior, Parameters.from_vector(root.x), subset, average)
            for root, subset, average in zip(roots, near, known, strict=True)
        ]
        # Where none counts as stable, as next to a fold, the starts still end at some root.
        eligible = [i for i, s in enumerate(solutions) if s.stable] or list(range(len(solutions)))
        reached = {"prior": eligible[0], "aligned": eligible[-1]}
        branches = tuple(
            solution.branch(tuple(name for name, i in reached.items() if i == index))
            for index, solution in enumerate(solutions)
        )
        chosen = solutions[reached[start]]
        sampler = NeuronSampler(problem, chosen, near[reached[start]], prior)
        converged = chosen.residual <= self.tolerance
        return chosen.point("mean-field-ard", start, branches, evaluations, converged, sampler)

    def _roots(
        self, equations: NoiseEquations, log_kappa: float
    ) -> tuple[list[Root], list[list[DirectionNodes]], list[Averages | None], int]:
        """Distinct roots by increasing m, the converged ones if any; of each the node sets without idle cells, and
        the averages over them where Newton's method evaluated it last.
        """
        problem = equations.problem
        followed, nodes = (
            followed_curve(equations, problem.kappa),
            replicates(problem.degree, problem.input_dim, self.refinement),
        )
        found, evaluations = [], followed.curve.evaluations
        for theta in followed.guesses(log_kappa):
            near = active_nodes(problem, Parameters.from_vector(theta), coarse_nodes(problem), nodes)
            bounds = np.array([1.0 - 1e-12, np.inf, np.inf])

            last = {}

            def system(x, sets, last=last):
                average = equations.average(x, log_kappa, sets)
                last.update(at=x.copy(), average=average)
                return equations.derivatives(x, log_kappa, average)[:2]

            # One node set brings Newton close at an eighth of the cost.
            rough = newton(lambda x, s=near[:1]: system(x, s), theta, -bounds, bounds, 1e-4, 20, max_step=0.3)
            first = rough.x if rough.converged else theta
            # A tenth of the tolerance leaves room for the idle cells.
            root = newton(
                lambda x, s=near: system(x, s), first, -bounds, bounds, 0.1 * self.tolerance, 20, max_step=0.3
            )
            evaluations += rough.iterations + root.iterations
            if all(np.abs(other.x - root.x).max() > _SAME for other, *_ in found):
                found.append((root, near, last["average"] if np.array_equal(last["at"], root.x) else None))
        found = [each for each in found if each[0].converged] or found
        found.sort(key=lambda each: each[0].x[0])
        roots, near, known = (list(part) for part in zip(*found, strict=True))
        return roots, near, known, evaluations

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
        problem = parity_problem(network, teacher, "MeanFieldARD", ARD)
        prior = PrecisionPrior.of(network.prior, problem.input_dim)
        return noise_curve(NoiseEquations(problem, prior, prior.mean), kappa)
