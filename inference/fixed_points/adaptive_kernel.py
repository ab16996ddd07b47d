"""AK: the adaptive-kernel theory, neurons that adapt to the kernel which they form together.

    p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),        c = σ_a²/N^(2γ)
    Λ_s = N c E_p[a_s a_sᵀ]/mult_s,   Γ_s = (κ̃ + Λ_s)⁻¹,   tail = N c E_p[Σ - Σ_s |a_s|²]
    G = Σ_s a_sᵀ Γ_s a_s + (Σ - Σ_s |a_s|²)/κ̃,                B = A e_tᵀ Γ a,    A² = E[y²]
    κ̃ = κ² + (1/P) ( Σ_s mult_s κ̃ tr[Λ_s Γ_s] + tail )                     (κ² at P = ∞)
    ρ_j = (α0 + N/2)/(β0 + (N/2) E_p[w_j²])                                 (ARD only)

with a_s the components of a neuron in the modes of sector s. On parity every sector is one mode
(i, j) and Λ its eigenvalue λ_ij. :class:`MeanField` is this with Λ = 0 in G alone: it forgets that
the bulk of the neurons cancels what one of them adds in the easy directions. Predictions are kernel
ridge regression with the learned kernel. Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np

from inference.fixed_points.branches.equations import PrecisionUnknowns
from inference.fixed_points.branches.noise_curve import NoiseCurve
from inference.fixed_points.branches.solve import population_point
from inference.fixed_points.neuron.self_terms import FirstOrderReadoutCost, NoReadoutCost
from inference.fixed_points.particles.solve import solve_on_dataset
from inference.fixed_points.point import FixedPoint
from inference.fixed_points.populations.problem import population_problem
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, Isotropic, SingleIndex, SparseParity, TwoLayerNetwork, checks

# Largest degree that is resolved in the inputs outside S, on parity and on a single index, where
# modes mix: modes above it are many, their λ is far below κ̃, and they enter with the ridge κ̃
# alone.
_MAX_ORDER, _MAX_ORDER_SINGLE_INDEX = 4, 2
_TINY = 1e-300


@dataclass(frozen=True, eq=False)
class AdaptiveKernelEquations(PrecisionUnknowns):
    """θ = (log of Λ's diagonal, correlations Λ_ab/√(Λ_aa Λ_bb), log tail [, log ρ_S, log ρ_⊥])."""

    name = "adaptive-kernel"
    screened = True

    def start(self, prior_means: np.ndarray) -> np.ndarray:
        """See :class:`Equations`: the prior's own kernel."""
        count = self.lattice.kernel.num_pairs + 1 + 2 * (self.lattice.problem.prior is not None)
        return self.update(np.zeros(count), np.zeros(()), prior_means)

    def learned_kernel(self, theta: np.ndarray) -> np.ndarray:
        """Λ, shape (..., M, M), block diagonal."""
        kernel = self.lattice.kernel
        size, (first, second) = len(kernel.modes), kernel.pairs
        scale = np.exp(0.5 * theta[..., :size])
        correlations = np.ones((*theta.shape[:-1], kernel.num_pairs), theta.dtype)
        correlations[..., size:] = theta[..., size : kernel.num_pairs]
        return kernel.matrix(correlations * scale[..., first] * scale[..., second])

    def _resolvent(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """Γ = (κ̃ + Λ)⁻¹, shape (..., M, M)."""
        eye = np.eye(len(self.lattice.kernel.modes))
        return np.linalg.inv(self.learned_kernel(theta) + np.exp(log_ridge)[..., None, None] * eye)

    def _cost(self, resolvent: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """The matrix in G = aᵀ(·)a + (Σ - |a|²)/κ̃."""
        return resolvent

    def naturals(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """See :class:`Equations`."""
        kernel, gamma = self.lattice.kernel, self._resolvent(theta, log_ridge)
        drive = self.lattice.problem.amplitude * gamma @ kernel.target_vector
        cost = self._cost(gamma, log_ridge)
        return kernel.naturals(cost, np.exp(-log_ridge), drive, self.precisions(theta))

    def update(self, theta: np.ndarray, log_ridge: np.ndarray, means: np.ndarray) -> np.ndarray:
        """See :class:`Equations`."""
        kernel, problem = self.lattice.kernel, self.lattice.problem
        size, (first, second) = len(kernel.modes), kernel.pairs
        unit = problem.width * problem.coupling
        entries = unit * means[..., 0, :-3] / kernel.multiplicity[first]
        diagonal = np.where(entries[..., :size].real > _TINY, entries[..., :size], _TINY)
        tail = unit * means[..., 0, -3:-2]
        root = np.sqrt(diagonal)
        correlations = entries[..., size:] / (root[..., first[size:]] * root[..., second[size:]])
        logs = np.log(diagonal), np.log(np.where(tail.real > _TINY, tail, _TINY))
        return self.with_precisions(np.concatenate([logs[0], correlations, logs[1]], axis=-1), means)

    def excess(self, theta: np.ndarray, log_ridge: np.ndarray) -> np.ndarray:
        """See :class:`Equations`: Σ mult κ̃ tr[ΛΓ] + tail."""
        kernel = self.lattice.kernel
        shrunk = self.learned_kernel(theta) @ self._resolvent(theta, log_ridge)
        freedom = np.einsum("...aa,a->...", shrunk, kernel.multiplicity)
        return np.exp(log_ridge) * freedom + np.exp(theta[..., kernel.num_pairs])

    def figures(self, theta, log_ridge, means, num_data: int | None) -> dict[str, np.ndarray]:
        """See :class:`Equations`: kernel ridge regression with the learned kernel.

        m = e_tᵀΛΓe_t,   bias = A² |e_t - ΛΓe_t|²,   E0 = P/(P - Σ mult tr[(ΛΓ)²])
        MSE of the mean = E0 bias,   of a draw = E0 bias + Σ mult κ̃ tr[ΛΓ] + tail

        Source of E0: Canatar, Bordelon and Pehlevan, Nature Communications 12, 2914 (2021).
        """
        kernel, problem = self.lattice.kernel, self.lattice.problem
        shrunk = self.learned_kernel(theta) @ self._resolvent(theta, log_ridge)
        learned = shrunk @ kernel.target_vector
        bias = problem.amplitude**2 * ((kernel.target_vector - learned) ** 2).sum(axis=-1)
        amplification = np.ones_like(bias)
        if num_data is not None:
            freedom = np.einsum("...ab,...ba,a->...", shrunk, shrunk, kernel.multiplicity)
            # Beyond interpolation, where no noise belongs to the state, E0 has no meaning.
            share = 1 - freedom / num_data
            amplification = 1 / np.where(share.real > _TINY, share, _TINY)
        return {
            "order_parameter": learned @ kernel.target_vector,
            "mse_mean": amplification * bias,
            "mse_draw": amplification * bias + self.excess(theta, log_ridge),
            "amplification": amplification,
        }


class _MeanFieldCost(AdaptiveKernelEquations):
    """G = Σ/κ̃."""

    def _cost(self, resolvent, log_ridge):
        return np.exp(-log_ridge)[..., None, None] * np.eye(resolvent.shape[-1])


class _NoCost(AdaptiveKernelEquations):
    density = NoReadoutCost


class _FirstOrderCost(AdaptiveKernelEquations):
    density = FirstOrderReadoutCost


SELF_TERMS = {
    "exact": AdaptiveKernelEquations,
    "mean-field": _MeanFieldCost,
    "first-order": _FirstOrderCost,
    "none": _NoCost,
}


@dataclass(frozen=True)
class AdaptiveKernel:
    """AK, the theory of neurons that adapt to the kernel they form together.

    All readouts are integrated out, so that given the weights y ~ Normal(0, κ²P I + c Σ_i φ_i
    φ_iᵀ); one neuron is exact given the others, whose kernel is replaced by its mean. The
    equations: adaptive_kernel.py. Covers the isotropic prior and :class:`models.ARD`, every
    activation, hidden biases, P = ∞ and finite P: a :class:`models.SparseParity` of degree up to 6,
    whose inputs outside S are replaced by Gaussians, and a :class:`models.SingleIndex`; γ and all
    scales are free. Every solution on the curve that leaves the prior at large κ is found, with its
    folds. It misses that few neurons align, one by one.

    On a :class:`models.Dataset`, of any inputs and targets, G = φᵀĀ⁻¹φ and B = φᵀĀ⁻¹y with the
    training points themselves and Ā = κ²P I + N c E_p[φφᵀ]; there it covers every prior with a
    :func:`precision_rule`.

    Beyond the paper (arXiv:2510.15174). Related theories have the same drive B and another cost of
    the neuron's own readout; `self_term` makes this theory one of them, on populations.

    Parameters
    ----------
    self_term
        ``"exact"``; ``"mean-field"``, the same with G = Σ/κ̃, which forgets the kernel of the other
        neurons; ``"first-order"``, exp(½ c (B² - G)); ``"none"``, exp(½ c B²). The last two are
        no densities where the drive is strong, and end there; sources in neuron/self_terms.py.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05), SparseParity(16, 2)
    >>> point = AdaptiveKernel().solve(network, teacher, num_data=300)
    >>> point.converged, point.error < 1e-3, 0.5 < point.order_parameter < 0.6
    (True, True, True)
    """

    self_term: str = "exact"

    def __post_init__(self):
        checks.one_of("self_term", self.self_term, SELF_TERMS)

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
        network, teacher_or_data, start, key, progress
            As in :meth:`MeanField.solve`.
        num_data
            P for the average over data sets of that size; None for the population.

        Returns
        -------
        FixedPoint
            As of :meth:`MeanField.solve`.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        if isinstance(teacher_or_data, Dataset):
            if self.self_term != "exact":
                raise ValueError(
                    f"self_term={self.self_term!r} is for populations; give a teacher, or take 'exact'."
                )
            return solve_on_dataset(
                "adaptive-kernel", network, teacher_or_data, name="AdaptiveKernel", num_data=num_data,
                start=start, key=key, progress=progress,
            )  # fmt: skip
        problem = _problem(network, teacher_or_data)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        return population_point(SELF_TERMS[self.self_term], network, problem, num_data, start)

    def noise_curve(
        self,
        network: TwoLayerNetwork,
        teacher: SparseParity | SingleIndex,
        kappa: float,
        *,
        num_data: int | None = None,
    ) -> NoiseCurve:
        """As :meth:`MeanField.noise_curve`, at P = `num_data`; all P share one curve."""
        return NoiseCurve.of(SELF_TERMS[self.self_term], _problem(network, teacher), kappa, num_data)


def _problem(network, teacher):
    order = _MAX_ORDER_SINGLE_INDEX if isinstance(teacher, SingleIndex) else _MAX_ORDER
    return population_problem(network, teacher, "AdaptiveKernel", Isotropic, ARD, max_order=order)
