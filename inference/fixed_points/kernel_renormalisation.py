"""Kernel renormalisation: the NNGP kernel, rescaled by one number a layer.

    minimise  S(Q) = Σ_l N_l (Q_l - ln Q_l) + yᵀA⁻¹y + ln det A,     A = κ²P I + (Π_l Q_l) K_NNGP,

and predict with the Gaussian process of kernel (Π_l Q_l) K_NNGP. Where ∂S/∂ln Q_l = 0,

    N_l (Q_l - 1) = s(u),    s(u) = Σ_i [ uλ_i y_i²/(uλ_i + κ²P)² - uλ_i/(uλ_i + κ²P) ],    u = Π_l Q_l,

with the eigenvalues λ_i of K_NNGP and the components y_i of y along its eigenvectors: all layers share
the number s = c, so that S is minimised along the curve Q_l = 1 + c/N_l, c > -min N_l, alone. Of a deep
linear network Q_l is the saddle point of the exact posterior, in the logarithms of the scales of
:class:`inference.fixed_points.DeepLinear`. Source: Pacelli, Ariosto, Pastore, Ginelli, Gherardi and
Rotondo, *A statistical mechanics framework for Bayesian deep neural networks beyond the infinite-width
limit*, Nature Machine Intelligence 5 (2023).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax
import numpy as np
from scipy.linalg import eigh
from scipy.optimize import brentq

from inference.fixed_points.coverage import check_dataset, check_is_dataset
from inference.fixed_points.regression.covariances import nngp_kernel
from inference.fixed_points.regression.process_point import GaussianProcessPoint, process_point
from inference.runs.progress import ProgressCallback
from models import Dataset, Isotropic, Network, checks

# ln(1 + c/min N) from -30 to 20, in steps that no minimum of S fits between.
_GRID = np.linspace(-30.0, 20.0, 2001)


@dataclass(frozen=True, eq=False, kw_only=True)
class RenormalisedPoint(GaussianProcessPoint):
    """A Gaussian process whose kernel is the NNGP's times Π_l Q_l."""

    factors: tuple[float, ...]  # Q_l of every hidden layer

    def to_dict(self) -> dict:
        """As :meth:`GaussianProcessPoint.to_dict`, with the factors."""
        return super().to_dict() | {"factors": list(self.factors)}


@dataclass(frozen=True)
class KernelRenormalisation:
    """The NNGP with its kernel rescaled, one number a hidden layer, on a data set.

    Corrections of finite width without feature learning: no input can be selected. Covers the
    isotropic prior; one hidden layer of any activation, and any number of ReLU or linear layers
    without biases, whose kernel passes a factor on to the next layer as it is. The equations:
    kernel_renormalisation.py.

    Examples
    --------
    >>> from models import DeepNetwork, SparseParity
    >>> data = SparseParity(8, 2).sample(jax.random.key(0), num_data=100)
    >>> point = KernelRenormalisation().solve(DeepNetwork(8, (50, 50), kappa=0.05), data)
    >>> len(point.factors), bool(point.factors[0] > 1)  # the network's f is too small for these targets
    (2, True)
    """

    def solve(
        self,
        network: Network,
        teacher_or_data: Dataset,
        *,
        num_data: int | None = None,
        start: str = "prior",
        key: jax.Array | None = None,
        progress: bool | ProgressCallback | None = None,
    ) -> RenormalisedPoint:
        """The minimum of S on a data set.

        Parameters
        ----------
        network
            With the isotropic prior, in every layer.
        teacher_or_data
            A data set; the theory has no population form.
        num_data
            None.
        start, key, progress
            As every theory takes them; the minimum is the global one, and takes no time.

        Raises
        ------
        ValueError
            For a combination that the theory does not cover.
        """
        checks.one_of("start", start, ("prior", "aligned"))
        check_is_dataset(teacher_or_data, "KernelRenormalisation")
        check_dataset(network, teacher_or_data, num_data, "KernelRenormalisation", Isotropic, deep=True)
        if len(network.widths) > 1 and (network.bias or network.activation not in ("relu", "identity")):
            what = "biases" if network.bias else f"activation {network.activation!r}"
            raise ValueError(
                f"network has {what}, and KernelRenormalisation of several hidden layers covers relu and identity "
                "without biases, whose kernel is homogeneous; use NNGP or one hidden layer."
            )
        factors, residual = layer_factors(network, teacher_or_data)
        return process_point(
            network, teacher_or_data, "kernel-renormalisation", float(np.prod(factors)), residual,
            kind=RenormalisedPoint, factors=tuple(map(float, factors)),
        )  # fmt: skip


def layer_factors(network: Network, data: Dataset) -> tuple[np.ndarray, float]:
    """Q_l (L,), and the residual of N_l (Q_l - 1) = s, relative to N_l."""
    widths, ridge = np.array(network.widths, float), network.kappa**2 * data.num_data
    eigenvalues, vectors = eigh(nngp_kernel(network, data.x))
    eigenvalues, power = np.maximum(eigenvalues, 0.0), (vectors.T @ data.y) ** 2

    def factors(t):
        return 1 + np.expm1(t) * widths.min() / widths

    def action(t):
        total = np.prod(factors(t)) * eigenvalues + ridge
        return (widths * (factors(t) - np.log(factors(t)))).sum() + (power / total + np.log(total)).sum()

    def slope(t):  # (c - s)/min N, of the sign of ∂S/∂t
        signal = np.prod(factors(t)) * eigenvalues
        s = (signal * power / (signal + ridge) ** 2 - signal / (signal + ridge)).sum()
        return np.expm1(t) - s / widths.min()

    best = int(np.argmin([action(t) for t in _GRID]))
    low, high = _GRID[max(best - 1, 0)], _GRID[min(best + 1, len(_GRID) - 1)]
    root = brentq(slope, low, high, xtol=1e-14, rtol=1e-14)
    return factors(root), float(abs(slope(root)))
