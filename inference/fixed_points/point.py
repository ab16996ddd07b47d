"""What solving a fixed point returns: the answer, how far to trust it, and its branches."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass, field

import jax
import numpy as np

from inference.fixed_points.precisions import Precisions
from models import Dataset, checks


@dataclass(frozen=True)
class Branch:
    """One solution of the self-consistency equations."""

    order_parameter: float  # m = E_x[f y]/E[y²]
    test_mse: float  # test error of one draw of the network
    precisions: Precisions
    # Whether the damped iteration θ ← θ + ε (T(θ) - θ) is attracted: every eigenvalue of T's
    # Jacobian has real part below 1.
    stable: bool
    starts: tuple[str, ...]  # which of the starts "prior" and "aligned" lead here
    residual: float  # largest |T(θ) - θ|
    error: float  # standard error of `order_parameter`, from replicates of the quadrature

    def to_dict(self) -> dict:
        """As plain Python values, for JSON."""
        return plain(asdict(self))


@dataclass(frozen=True, eq=False)
class FixedPoint:
    """A solved theory: a summary, and a distribution over networks.

    Order parameter, test error of one draw, precisions, residual and error as in :class:`Branch`.
    """

    theory: str  # the name that the command line gives it, such as nngp or mean-field-ard
    start: str  # the start whose branch is reported
    order_parameter: float
    test_mse: float
    test_mse_mean: float  # test error of the posterior mean
    precisions: Precisions
    relevance_ratio: float | None  # E[w_j²: j ∈ S]/E[w_j²: j ∉ S]; None where S is not known
    residual: float
    error: float
    effective_sample_size: float | None  # of the quadrature nodes; None for a closed form
    iterations: int  # evaluations of the self-consistency equations
    # `residual` reached the tolerance, and no branch can be missing; a point that did not is returned
    # as it is.
    converged: bool
    branches: tuple[Branch, ...]  # every solution found, by increasing order parameter
    # (rng, num_draws) → arrays; None where the theory offers no networks.
    sampler: Callable[[np.random.Generator, int], dict] | None = field(default=None, repr=False)

    def to_dict(self) -> dict:
        """As plain Python values: finite numbers, or None where a figure has no meaning."""
        names = FixedPoint.__dataclass_fields__.keys() - {"sampler", "branches", "precisions"}
        figures = {name: getattr(self, name) for name in FixedPoint.__dataclass_fields__ if name in names}
        precisions, branches = asdict(self.precisions), [branch.to_dict() for branch in self.branches]
        return plain(figures) | {"precisions": plain(precisions), "branches": branches}

    def sample_networks(
        self, key: jax.Array, num_draws: int, data: Dataset | None = None
    ) -> dict[str, np.ndarray]:
        """Independent networks from the theory, in float32, by a ``jax.random.key``.

        With `data` the readouts of a population theory are drawn from their exact posterior on
        these training points; the adaptive kernel, which integrates the readouts out, needs them.
        Of independent neurons the number that align fluctuates, which lowers m on average (it is
        concave in the kernel), the more so at small width.

        Returns
        -------
        dict
            w (num_draws, N, d), a (num_draws, N), with ARD rho (num_draws, d), with hidden biases b
            (num_draws, N).

        Raises
        ------
        ValueError
            Where the theory is one of functions and not of networks (NNGP on the population), or
            for data of another teacher.
        """
        checks.whole("num_draws", num_draws, 1)
        if self.sampler is None:
            raise ValueError(
                f"sample_networks is not offered for {self.theory} on the population, which gives functions and no "
                "networks; solve it on a dataset."
            )
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        arguments = () if data is None else (data,)
        networks = self.sampler(rng, num_draws, *arguments)
        return {name: np.asarray(v, dtype=np.float32) for name, v in networks.items()}


@dataclass(frozen=True, eq=False, kw_only=True)
class PopulationPoint(FixedPoint):
    """MF, MF-ARD or AK on a population."""

    num_data: int | None  # P, or None for the population itself
    effective_ridge: float  # κ̃; κ² at P = ∞
    amplification: float  # E0 = P/(P - Σ mult (λ/(λ+κ̃))²); 1 at P = ∞
    test_mse_error: float  # standard error of `test_mse`
    folds: tuple[float, ...]  # κ at which the branches found merge, in order along their curve
    # Of the adaptive kernel, the diagonal of Λ by the modes' degrees: on parity λ_ij by (i, j),
    # Walsh degree in S and Hermite degree in the rest.
    eigenvalues: dict[tuple[int, ...], float] = field(repr=False)

    def to_dict(self) -> dict:
        """As :meth:`FixedPoint.to_dict`, with ridge, E0, P, the error of `test_mse` and folds."""
        names = ("num_data", "effective_ridge", "amplification", "test_mse_error")
        own = plain({name: getattr(self, name) for name in names})
        return super().to_dict() | own | {"folds": list(self.folds)}


def plain(values: dict) -> dict:
    """With None for what is not finite, lists for tuples."""
    out = {}
    for name, value in values.items():
        if isinstance(value, dict):
            out[name] = plain(value)
        elif isinstance(value, tuple):
            out[name] = list(value)
        elif isinstance(value, float) and not math.isfinite(value):
            out[name] = None
        else:
            out[name] = value
    return out
