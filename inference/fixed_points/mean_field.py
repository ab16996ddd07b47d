"""MF and MF-ARD: the mean-field theories of feature learning.

    p(w) ∝ prior(w) α^(-1/2) exp(β²/(4α)),    α = 1/(2σ_a²) + Σ/(2κ²N^(2γ)),    β = E_x[φ(y - ⟨f⟩)]/(κ²N^γ)
    ⟨f⟩  = N^(1-γ) E_p[⟨a|w⟩ φ],   ⟨a|w⟩ = β/(2α)
    ρ_j  = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])                            (MF-ARD only)

In the terms that all theories share (neuron/density.py), with e = e_t - x the error of the mean
prediction ⟨f⟩ = A Σ_i x_i ψ_i in the modes of the target's sector and A² = E[y²],

    G = Σ/κ²,    B = A e·a/κ²,    x = (N c/κ²) E_p[(e·a) a/(1 + cG)]

On parity ⟨f⟩ = m χ_S exactly; on a single index ⟨f⟩ is not a multiple of y. At fixed ρ the solution
is unique: e minimises the convex ½|e|² - e_t·e + (N κ²/A²) log Z(e). Source: Göring, Mingard, Nam
and Louis, arXiv:2510.15174; the vector form, the branches and their stability are beyond the paper.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from inference.fixed_points.branches.equations import PrecisionUnknowns
from inference.fixed_points.branches.noise_curve import NoiseCurve
from inference.fixed_points.branches.solve import population_point
from inference.fixed_points.particles.solve import solve_on_dataset
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.populations.problem import no_finite_data, population_problem
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork, WeightPrior

# On a single index the modes that mix with the target, up to this degree in the other directions:
# with ARD these are two blocks.
_MAX_ORDER, _MAX_ORDER_ARD = 6, 4


@dataclass(frozen=True, eq=False)
class MeanFieldEquations(PrecisionUnknowns):
    """θ = (x [, log ρ_S, log ρ_⊥]); κ̃ = κ², as there is no finite-P form.

    The lattice's modes are those of the target's sector.
    """

    screened = False

    @property
    def name(self) -> str:
        """See :class:`Equations`."""
        return "mean-field" if self.lattice.problem.prior is None else "mean-field-ard"

    @property
    def _size(self) -> int:
        return len(self.lattice.kernel.modes)

    def start(self, prior_means: np.ndarray) -> np.ndarray:
        """See :class:`Equations`: ⟨f⟩ = 0 and the prior's precisions."""
        return np.concatenate([np.zeros(self._size), self.prior_precisions()])

    def drive(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """A e/κ², so that B = drive · a, shape (..., M)."""
        error = self.lattice.kernel.target_vector - theta[..., : self._size]
        return self.lattice.problem.amplitude * error / np.exp(log_ridge)[..., None]

    def naturals(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """See :class:`Equations`."""
        inverse = 1 / np.exp(log_ridge)
        cost = inverse[..., None, None] * np.eye(self._size)
        drive = self.drive(theta, log_ridge)
        return self.lattice.kernel.naturals(cost, inverse, drive, self.precisions(theta))

    def update(self, theta: np.ndarray, log_ridge: np.ndarray, means: np.ndarray) -> np.ndarray:
        """See :class:`Equations`."""
        kernel, problem = self.lattice.kernel, self.lattice.problem
        error = kernel.target_vector - theta[..., : self._size]
        gain = problem.width * problem.coupling / np.exp(log_ridge)
        response = kernel.matrix(means[..., 1, :-3])
        x = gain[..., None] * np.einsum("...ab,...b->...a", response, error)
        return self.with_precisions(x, means)

    def excess(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """See :class:`Equations`: none."""
        return 0 * log_ridge

    def figures(self, theta, log_ridge, means, num_data: int | None) -> dict[str, np.ndarray]:
        """See :class:`Equations`.

        m = x_t,   MSE of the mean = A² |e|²,   of a draw: + N^(1-2γ) E_p[E[a²|w] Σ] - A² |x|²/N

        the variance of N independent neurons, with E[a²|w] = 2 σ_a² e of :class:`Averages`.
        """
        kernel, problem = self.lattice.kernel, self.lattice.problem
        x, square = theta[..., : self._size], problem.amplitude**2
        bias = square * ((kernel.target_vector - x) ** 2).sum(axis=-1)
        power = means[..., 2, : self._size].sum(axis=-1) + means[..., 2, -3]
        variance = 2 * problem.width * problem.coupling * power
        variance = variance - square * (x**2).sum(axis=-1) / problem.width
        m = x @ kernel.target_vector
        one = np.ones_like(m)
        return {"order_parameter": m, "mse_mean": bias, "mse_draw": bias + variance, "amplification": one}


@dataclass(frozen=True)
class MeanField:
    """MF, the plain mean-field theory of feature learning, on a population or on a data set.

    Covers the isotropic prior, every activation, hidden biases, P = ∞: a
    :class:`models.SparseParity` of degree up to 6, whose inputs outside S are replaced by Gaussians
    (populations/parity.py), a :class:`models.SingleIndex`; γ, σ_w and σ_a are free. The root is
    unique. On a :class:`models.Dataset` of any inputs and targets, averages over the training
    points stand for those over x, ⟨f⟩ on them for m, and particles for the quadrature. The
    equations: mean_field.py.

    Source: Göring, Mingard, Nam and Louis, arXiv:2510.15174.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05)
    >>> point = MeanField().solve(network, SparseParity(input_dim=16, degree=2))
    >>> point.converged, point.error < 1e-4, 0.1 < point.order_parameter < 0.5
    (True, True, True)
    """

    name, prior = "mean-field", Isotropic

    def solve(
        self,
        network: TwoLayerNetwork,
        teacher_or_data: SparseParity | SingleIndex | Dataset,
        *,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> FixedPoint:
        """Find every branch and report the one that `start` leads to.

        Parameters
        ----------
        network, teacher_or_data
            See the class.
        num_data
            Must be None: the theory has no finite-P form.
        start
            "prior" for the stable solution with the smallest m, "aligned" for that with the
            largest: those to which the damped iteration leads from the prior and from aligned
            neurons. On a data set, where the particles start.
        key
            On a data set, a ``jax.random.key`` (default ``jax.random.key(0)``); the same key gives
            the same answer.
        progress
            On a data set: True for a bar on standard error, or a callable ``(done, total, text)``.

        Returns
        -------
        FixedPoint
            A :class:`PopulationPoint`, or on a data set a :class:`DataFieldPoint`. `converged` is
            False where the residual stayed above the tolerance, and, with a warning, where the curve
            of solutions was lost, so that branches may be missing.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        title = type(self).__name__
        if isinstance(teacher_or_data, Dataset):
            return solve_on_dataset(
                self.name, network, teacher_or_data, self.prior, name=title, num_data=num_data, start=start,
                key=key, progress=progress,
            )  # fmt: skip
        problem = _problem(network, teacher_or_data, title, self.prior)
        no_finite_data(num_data, title)
        return population_point(MeanFieldEquations, network, problem, num_data, start)

    def noise_curve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity | SingleIndex,
        kappa: float,
        *,
        num_data: int | None = None,
    ) -> NoiseCurve:
        """Every solution at every noise from large κ down to `kappa`, on one curve, which is
        remembered.

        Parameters
        ----------
        network, teacher
            See the class; the network's own κ is not used.
        kappa
            Smallest noise of interest.
        num_data
            Must be None: the theory has no finite-P form.

        Returns
        -------
        NoiseCurve
            To be asked for solutions, folds and onsets.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        title = type(self).__name__
        problem = _problem(network, teacher, title, self.prior)
        no_finite_data(num_data, title)
        return NoiseCurve.of(MeanFieldEquations, problem, kappa, num_data)


@dataclass(frozen=True)
class MeanFieldARD(MeanField):
    """MF-ARD, the mean-field theory with automatic relevance determination.

    :class:`MeanField` with a precision for every input (:class:`models.ARD`). There can be two
    stable solutions; all on the curve that leaves the prior at large κ are in `branches`, and
    `start` chooses the one that is reported. For α0 → ∞ at fixed α0/β0 the theory becomes
    :class:`MeanField`.

    Source: Göring, Mingard, Nam and Louis, arXiv:2510.15174; branches and their stability are
    beyond the paper.

    Examples
    --------
    >>> from models import ARD, SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05, prior=ARD(shape=4.0))
    >>> point = MeanFieldARD().solve(network, SparseParity(input_dim=16, degree=2), start="aligned")
    >>> point.converged, point.precisions.relevant < point.precisions.rest
    (True, True)
    """

    name, prior = "mean-field-ard", ARD


def _problem(network, teacher, title: str, prior: type[WeightPrior]):
    order = _MAX_ORDER_ARD if prior is ARD else _MAX_ORDER
    return population_problem(network, teacher, title, prior, max_order=order, target_only=True)
