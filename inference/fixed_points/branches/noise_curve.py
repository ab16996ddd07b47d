"""What a theory says as the noise varies: every solution with its error, folds and onsets."""

from __future__ import annotations

import warnings
from dataclasses import dataclass, fields

import numpy as np

from inference.fixed_points.branches.continuation import crossings, turns
from inference.fixed_points.branches.curve import LOST, fine_curve
from inference.fixed_points.branches.equations import Equations, noise_squared
from inference.fixed_points.neuron.averages import standard_error
from inference.fixed_points.populations.problem import PopulationProblem
from models import checks

# What all node sets share, the radial rule and the cubics between points, moves m by 2e-5 and κ by
# 1e-4.
_SHARED, _SHARED_NOISE = 2e-5, 1e-4


@dataclass(frozen=True)
class NoiseSolution:
    """One solution at one κ.

    Parameters
    ----------
    kappa
        κ.
    order_parameter, test_mse, test_mse_mean
        m, and the test error of one draw and of the mean.
    effective_ridge
        κ̃; κ² at P = ∞.
    num_aligned
        N times the share of neurons with more than half of |w|² on the relevant inputs.
    stable
        Whether the damped iteration is attracted.
    error
        Standard error of m.
    """

    kappa: float
    order_parameter: float
    test_mse: float
    test_mse_mean: float
    effective_ridge: float
    num_aligned: float
    stable: bool
    error: float


@dataclass(frozen=True, eq=False)
class NoiseCurve:
    """All solutions of a theory on the curve that leaves the prior at large κ, sampled densely.

    Along the curve κ falls where the solution is stable and rises where it is not: the two change
    at folds. At finite P the noise that belongs to a solution may fall below 0 and rise again:
    branches that no path at fixed P connects lie on the same curve.

    Parameters
    ----------
    theory, num_data
        Name, and P or None.
    noise_squared
        κ² (T,); below 0 where no noise belongs to the sample.
    order_parameter, test_mse, test_mse_mean, effective_ridge, num_aligned
        As in :class:`NoiseSolution`, shape (T,).
    set_noise_squared, set_order_parameter
        κ² and m of each independent node set, shape (R, T).
    complete
        False where the curve was lost on the way, so that branches may be missing.
    """

    theory: str
    num_data: int | None
    noise_squared: np.ndarray
    order_parameter: np.ndarray
    test_mse: np.ndarray
    test_mse_mean: np.ndarray
    effective_ridge: np.ndarray
    num_aligned: np.ndarray
    set_noise_squared: np.ndarray
    set_order_parameter: np.ndarray
    complete: bool = True

    @classmethod
    def of(
        cls, kind: type[Equations], problem: PopulationProblem, kappa: float, num_data: int | None
    ) -> NoiseCurve:
        """Every solution of a theory at P and every noise from large κ down to `kappa`.

        One curve in the effective ridge, followed once and remembered, serves all P.
        """
        checks.positive("kappa", kappa)
        if num_data is not None:
            checks.whole("num_data", num_data, 1)
        curve = fine_curve(kind, problem, kappa)
        equations, z = curve.equations, curve.z
        if not curve.complete:
            warnings.warn(f"{equations.name}: {LOST.format(kappa)}", stacklevel=3)
        own = z + curve.shifts
        found = equations.figures(z[:, :-1], z[:, -1], curve.means, num_data)
        of_sets = equations.figures(own[..., :-1], own[..., -1], curve.means, num_data)
        return cls(
            theory=equations.name,
            num_data=num_data,
            noise_squared=curve.noise_squared(num_data),
            order_parameter=found["order_parameter"],
            test_mse=found["mse_draw"],
            test_mse_mean=found["mse_mean"],
            effective_ridge=np.exp(z[:, -1]),
            num_aligned=problem.width * curve.aligned,
            set_noise_squared=noise_squared(equations, own[..., :-1], own[..., -1], num_data),
            set_order_parameter=of_sets["order_parameter"],
            complete=curve.complete,
        )

    @property
    def kappa(self) -> np.ndarray:
        """κ along the curve, NaN where no noise belongs to the sample, shape (T,)."""
        return np.sqrt(np.where(self.noise_squared > 0, self.noise_squared, np.nan))

    @property
    def stable(self) -> np.ndarray:
        """Whether κ falls along the curve, shape (T,)."""
        falling = np.diff(self.noise_squared) < 0
        return np.append(falling, falling[-1])

    def solutions(self, kappa: float) -> list[NoiseSolution]:
        """Every solution at `kappa`, by increasing m; none where the curve does not reach it.

        Parameters
        ----------
        kappa
            κ > 0.
        """
        checks.positive("kappa", kappa)
        found = [self._at(*place, kappa) for place in crossings(self.noise_squared, kappa**2)]
        return sorted(found, key=lambda solution: solution.order_parameter)

    def reached(self, kappa: float, start: str = "prior") -> NoiseSolution | None:
        """The stable solution with the smallest m ("prior") or the largest ("aligned"); None where
        there is none."""
        checks.one_of("start", start, ("prior", "aligned"))
        stable = [solution for solution in self.solutions(kappa) if solution.stable]
        return stable[0 if start == "prior" else -1] if stable else None

    def folds(self) -> list[NoiseSolution]:
        """Where two solutions merge, in order along the curve; the error is that of m at given κ
        beside it.

        Two folds whose κ differ by less than the 1e-4 to which curves are known are none.
        """
        found = turns(self.noise_squared, 2 * _SHARED_NOISE)
        return [self._at(i, 0.0, self.kappa[i]) for i in found if self.noise_squared[i] > 0]

    def onset(self, order_parameter: float, start: str = "prior") -> float | None:
        """The largest κ at which the solution that `start` leads to has at least this m; None where
        it never has.

        Parameters
        ----------
        order_parameter
            Between 0 and 1.
        start
            As in :meth:`reached`.
        """
        if not 0 < order_parameter < 1:
            raise ValueError(f"order_parameter must lie between 0 and 1, got {order_parameter!r}.")
        checks.one_of("start", start, ("prior", "aligned"))
        # Samples with κ beside the crossings of m, so that the answer is not one of the samples
        # only.
        places = crossings(self.order_parameter, order_parameter)
        levels = [self._interpolate(self.noise_squared, *place) for place in places]
        learned, inside = self.order_parameter >= order_parameter, self.noise_squared > 0
        if not (learned & inside).any():
            return None
        if start == "aligned":
            noise = max([*self.noise_squared[learned & inside], *levels])
        else:
            # A stable solution with smaller m, where there is one, is what the prior leads to.
            kernel = ~learned & self.stable
            if kernel[-1] and inside[-1]:
                return None
            noise = min(
                [
                    *self.noise_squared[kernel],
                    *(v for v, (i, _) in zip(levels, places, strict=True) if self.stable[i]),
                ]
            )
        return float(np.sqrt(noise)) if noise > 0 else None

    @staticmethod
    def _interpolate(values: np.ndarray, index: int, share: float) -> float:
        last = min(index + 1, values.shape[-1] - 1)
        return values[..., index] + share * (values[..., last] - values[..., index])

    def _at(self, index: int, share: float, kappa: float) -> NoiseSolution:
        names = [f.name for f in fields(NoiseSolution)]
        figures = {
            name: float(self._interpolate(getattr(self, name), index, share))
            for name in names
            if name not in ("kappa", "stable", "error")
        }
        # Of each node set the solution at the same κ, to first order in how far its curve lies off.
        low, high = max(index - 1, 0), min(index + 2, len(self.noise_squared) - 1)
        slope = (self.order_parameter[high] - self.order_parameter[low]) / (
            self.noise_squared[high] - self.noise_squared[low]
        )
        own = self._interpolate(self.set_order_parameter, index, share)
        own = own - slope * (self._interpolate(self.set_noise_squared, index, share) - kappa**2)
        shared = np.hypot(_SHARED, _SHARED_NOISE * 2 * kappa**2 * slope)
        error = np.hypot(standard_error(own), shared)
        return NoiseSolution(
            kappa=float(kappa), stable=bool(self.stable[index]), error=float(error), **figures
        )
