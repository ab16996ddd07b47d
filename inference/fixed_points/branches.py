"""All branches of MF-ARD: a scan in ρ_S, on which the other two unknowns are slaved.

For each ρ_S of a geometric grid the equations for m and ρ_⊥ are solved on a coarse node set; the solutions of
the full system are the roots of what is left, g(log ρ_S) = log T_S - log ρ_S. The prior start flows from
ρ_S = α0/β0 along the sign of g to the next stable root, the aligned start upwards from the low end of the scan.
Beyond the paper (arXiv:2510.15174), which iterates from one start.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from inference.fixed_points.directions import DirectionNodes
from inference.fixed_points.equations import PrecisionPrior, system
from inference.fixed_points.mean_field import solve_order_parameter
from inference.fixed_points.neuron_density import Parameters, averages
from inference.fixed_points.newton import Root, newton
from inference.fixed_points.parity import ParityProblem

_STEP = 0.35  # in log ρ_S
_REACH = 12.0  # how far down the scan goes at least, and twice that at most
_NEAR_FOLD = 0.2  # |g| below which an extremum without a sign change is looked at closely


@dataclass(frozen=True)
class ScanPoint:
    """One point of the scan.

    Parameters
    ----------
    theta
        (m, log ρ_S, log ρ_⊥) with m and ρ_⊥ slaved to ρ_S.
    drift
        g = log T_S(θ) - log ρ_S; the damped iteration moves log ρ_S along its sign.
    """

    theta: np.ndarray
    drift: float

    @property
    def log_rho(self) -> float:
        """log ρ_S."""
        return float(self.theta[1])


@dataclass
class Scan:
    """Slaved solutions on a coarse node set; `evaluations` counts averages taken.

    Parameters
    ----------
    problem, prior, nodes
        What is solved, and a coarse node set.
    """

    problem: ParityProblem
    prior: PrecisionPrior
    nodes: list[DirectionNodes]
    evaluations: int = 0

    def bounds(self) -> tuple[np.ndarray, np.ndarray]:
        """Box of θ: no update leaves ρ ≤ (α0 + N/2)/β0."""
        top = np.log(self.prior.update(self.problem.width, 0.0))
        return np.array([0.0, top - 60, top - 60]), np.array([1 - 1e-12, top, top])

    def full_system(self, theta: np.ndarray, nodes: list[DirectionNodes]):
        """Residuals and Jacobian of all three equations at θ."""
        parameters = Parameters.from_vector(theta)
        self.evaluations += 1
        average = averages(self.problem, parameters, nodes)
        return system(self.problem, self.prior, parameters, average)

    def at(self, log_rho: float, guess: np.ndarray) -> ScanPoint:
        """Solve for m and ρ_⊥ at ρ_S, from the solution `guess` (m, ·, log ρ_⊥) at a neighbour."""
        lower, upper = self.bounds()
        slaved = [0, 2]
        drift = np.nan

        def function(x):
            nonlocal drift
            value, slope = self.full_system(np.array([x[0], log_rho, x[1]]), self.nodes)
            drift = float(value[1])
            return value[slaved], slope[np.ix_(slaved, slaved)]

        root = newton(function, guess[slaved], lower[slaved], upper[slaved], 1e-7, 25)
        if not root.converged:
            root = self._alternate(log_rho, float(guess[2]), function)
        return ScanPoint(np.array([root.x[0], log_rho, root.x[1]]), drift)

    def _alternate(self, log_rho: float, log_rest: float, function) -> Root:
        # m is unique at given precisions, so bracketing it leaves Newton one well-behaved unknown.
        x = np.array([0.5, log_rest])
        for _ in range(25):
            inner = solve_order_parameter(
                self.problem, np.exp(log_rho), np.exp(x[1]), self.nodes, tolerance=1e-8
            )
            self.evaluations += inner.iterations
            x[0] = inner.x[0]
            value, slope = function(x)
            if np.abs(value).max() < 1e-7:
                break
            total = slope[1, 1] - slope[1, 0] * slope[0, 1] / slope[0, 0]
            x[1] += np.clip(-value[1] / min(total, -1e-3), -1.0, 1.0)
        residual = float(np.abs(value).max())
        return Root(x, residual, 1, residual < 1e-7)

    def run(self) -> list[ScanPoint]:
        """Points by decreasing ρ_S, with the neighbourhoods of near folds refined."""
        _, upper = self.bounds()
        start = np.log(self.prior.shape / self.prior.rate)
        # From the prior's ρ up to where the drift is negative, and from there all the way down.
        point = self.at(start, np.array([self._first_order_parameter(start), 0.0, start]))
        points = [point]
        while points[0].drift > 0 and points[0].log_rho < upper[1]:
            points.insert(0, self.at(min(points[0].log_rho + _STEP, upper[1]), points[0].theta))
        while len(points) < 2 or start - points[-1].log_rho < _REACH or points[-1].drift < 0:
            if start - points[-1].log_rho > 2 * _REACH:
                break
            # Linear extrapolation of the slaved unknowns halves the number of Newton steps.
            guess = points[-1].theta if len(points) < 2 else 2 * points[-1].theta - points[-2].theta
            points.append(self.at(points[-1].log_rho - _STEP, guess))
        return self._refine_near_folds(points)

    def _first_order_parameter(self, log_rho: float) -> float:
        root = solve_order_parameter(
            self.problem, np.exp(log_rho), np.exp(log_rho), self.nodes, tolerance=1e-6
        )
        self.evaluations += root.iterations
        return float(root.x[0])

    def _refine_near_folds(self, points: list[ScanPoint]) -> list[ScanPoint]:
        """Add points around an extremum of g that comes close to 0 without crossing it."""
        refined = list(points)
        for left, middle, right in zip(points, points[1:], points[2:], strict=False):
            drifts = np.array([left.drift, middle.drift, right.drift])
            same_sign = np.all(drifts > 0) or np.all(drifts < 0)
            size = np.abs(drifts)
            if not same_sign or size[1] > min(size[0], size[2]) or size[1] > _NEAR_FOLD:
                continue
            for _ in range(4):
                coefficients = np.polyfit(
                    [p.log_rho - middle.log_rho for p in (left, middle, right)],
                    [p.drift for p in (left, middle, right)],
                    2,
                )
                offset = -coefficients[1] / (2 * coefficients[0])
                new = self.at(middle.log_rho + offset, middle.theta)
                refined.append(new)
                if new.drift * middle.drift < 0 or abs(new.drift) >= abs(middle.drift):
                    break
                left, right = (middle, right) if offset < 0 else (left, middle)
                middle = new
        return sorted(refined, key=lambda p: -p.log_rho)


def candidates(scan: Scan, points: list[ScanPoint]) -> list[np.ndarray]:
    """Starting points θ for Newton on the full system: roots of g on the scan's nodes, and near folds."""
    found = []
    for upper, lower in pairwise(points):
        if upper.drift * lower.drift <= 0 and upper.drift != lower.drift:
            found.append(_root_between(scan, upper, lower))
    for left, middle, right in zip(points, points[1:], points[2:], strict=False):
        near = abs(middle.drift) < min(abs(left.drift), abs(right.drift), 0.02 * _NEAR_FOLD)
        if near and left.drift * middle.drift > 0 and middle.drift * right.drift > 0:
            found.append(middle.theta)
    return found


def _root_between(scan: Scan, upper: ScanPoint, lower: ScanPoint) -> np.ndarray:
    """θ at the root of g between two points (Illinois false position), close enough to stay on its branch."""
    drifts = [upper.drift, lower.drift]
    for _ in range(12):
        share = drifts[0] / (drifts[0] - drifts[1])
        guess = upper.theta + share * (lower.theta - upper.theta)
        new = scan.at(float(guess[1]), guess)
        if abs(new.drift) < 1e-5:
            break
        # The end that is kept twice has its value halved, which makes false position superlinear.
        if new.drift * drifts[0] > 0:
            upper, drifts = new, [new.drift, 0.5 * drifts[1]]
        else:
            lower, drifts = new, [0.5 * drifts[0], new.drift]
    return new.theta


def starts_of(stable: list[np.ndarray], points: list[ScanPoint], log_rho_prior: float) -> dict[str, int]:
    """Which of the `stable` solutions θ each start flows to, as positions in the list.

    The aligned start flows upwards from the low end of the scan. The prior start flows from log ρ_S =
    `log_rho_prior` down where the drift there is negative, else up.
    """
    log_rho = np.array([theta[1] for theta in stable])
    drift = min(points, key=lambda p: abs(p.log_rho - log_rho_prior)).drift
    ahead = log_rho < log_rho_prior if drift < 0 else log_rho >= log_rho_prior
    distance = np.where(ahead | ~ahead.any(), np.abs(log_rho - log_rho_prior), np.inf)
    return {"prior": int(np.argmin(distance)), "aligned": int(np.argmin(log_rho))}
