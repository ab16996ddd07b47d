"""What solving a fixed point returns: the answer, how far to trust it, and its branches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import jax
import numpy as np

from models import checks


@dataclass(frozen=True)
class Precisions:
    """Precisions of the hidden weights.

    Parameters
    ----------
    relevant, rest
        ρ_S and ρ_⊥, in units of 1/w²; both d/σ_w² under the isotropic prior.
    """

    relevant: float
    rest: float


@dataclass(frozen=True)
class Branch:
    """One solution of the self-consistency equations.

    Parameters
    ----------
    order_parameter
        m = E_x[f y]/E[y²].
    test_mse
        Test error of one draw of the network.
    precisions
        See :class:`Precisions`.
    stable
        Whether the damped iteration θ ← θ + ε (T(θ) - θ) is attracted: every eigenvalue of T's Jacobian in
        (m, log ρ_S, log ρ_⊥) has real part below 1.
    starts
        Which of the starts "prior" and "aligned" lead here.
    residual
        Largest |T(θ) - θ|.
    error
        Standard error of `order_parameter` from independent replicates of the quadrature.
    """

    order_parameter: float
    test_mse: float
    precisions: Precisions
    stable: bool
    starts: tuple[str, ...]
    residual: float
    error: float

    def to_dict(self) -> dict:
        """As plain Python values, for JSON."""
        return {
            "order_parameter": _number(self.order_parameter),
            "test_mse": _number(self.test_mse),
            "precisions": _precisions(self.precisions),
            "stable": bool(self.stable),
            "starts": list(self.starts),
            "residual": _number(self.residual),
            "error": _number(self.error),
        }


@dataclass(frozen=True)
class FixedPoint:
    """A solved theory: a summary, and a distribution over networks.

    Parameters
    ----------
    theory
        nngp, mean-field, mean-field-ard, adaptive-kernel or block-adaptive-kernel.
    start
        The start whose branch is reported.
    order_parameter, test_mse, precisions, residual, error
        As in :class:`Branch`; `test_mse` is that of one draw.
    test_mse_mean
        Test error of the posterior mean.
    relevance_ratio
        E[w_j²: j ∈ S]/E[w_j²: j ∉ S]; None where S is not known.
    effective_sample_size
        Of the quadrature nodes; None for a closed form.
    iterations
        Evaluations of the self-consistency equations.
    converged
        Whether `residual` reached the tolerance. A point that did not converge is returned as it is.
    branches
        Every solution found, by increasing order parameter.
    sampler
        (rng, num_draws) → arrays; None where the theory offers no networks.
    """

    theory: str
    start: str
    order_parameter: float
    test_mse: float
    test_mse_mean: float
    precisions: Precisions
    relevance_ratio: float | None
    residual: float
    error: float
    effective_sample_size: float | None
    iterations: int
    converged: bool
    branches: tuple[Branch, ...]
    sampler: Callable[[np.random.Generator, int], dict] | None = field(
        default=None, repr=False, compare=False
    )

    def to_dict(self) -> dict:
        """As plain Python values: finite numbers, or None where a figure has no meaning."""
        return {
            "theory": self.theory,
            "start": self.start,
            "order_parameter": _number(self.order_parameter),
            "test_mse": _number(self.test_mse),
            "test_mse_mean": _number(self.test_mse_mean),
            "precisions": _precisions(self.precisions),
            "relevance_ratio": _number(self.relevance_ratio),
            "residual": _number(self.residual),
            "error": _number(self.error),
            "effective_sample_size": _number(self.effective_sample_size),
            "iterations": int(self.iterations),
            "converged": bool(self.converged),
            "branches": [branch.to_dict() for branch in self.branches],
        }

    def sample_networks(self, key: jax.Array, num_draws: int) -> dict[str, np.ndarray]:
        """Independent networks from the theory.

        Parameters
        ----------
        key
            A ``jax.random.key``.
        num_draws
            Number of networks, at least 1.

        Returns
        -------
        dict
            float32 arrays: w (num_draws, N, d), a (num_draws, N), with ARD rho (num_draws, d), with hidden
            biases b (num_draws, N).

        Raises
        ------
        ValueError
            Where the theory is one of functions and not of networks: NNGP on the population.
        """
        checks.whole("num_draws", num_draws, 1)
        if self.sampler is None:
            raise ValueError(
                f"sample_networks is not offered for {self.theory} on the population, which gives functions and "
                "no networks; solve it on a dataset."
            )
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        return {name: np.asarray(v, dtype=np.float32) for name, v in self.sampler(rng, num_draws).items()}


def _number(value: float | None) -> float | None:
    return None if value is None or not math.isfinite(value) else float(value)


def _precisions(precisions: Precisions) -> dict:
    return {"relevant": _number(precisions.relevant), "rest": _number(precisions.rest)}
