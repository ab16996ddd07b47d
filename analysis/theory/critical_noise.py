"""Where features are learned: the critical noise of a theory, and how it scales."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import brentq
from scipy.stats import linregress

from analysis.theory.theories import STARTS, Theory, theory
from models import SparseParity, TwoLayerNetwork, checks

VARIED = ("input_dim", "degree", "width")
_DEEPEST = 1e-3  # noise below which the search for an onset gives up, relative to where it begins


@dataclass(frozen=True)
class CriticalNoise:
    """The critical noise of one theory on one problem.

    `onset` is the largest κ at which the solution that `start` leads to has m at or above the level
    asked for; None where it never has. `folds` are the κ at which two solutions merge, in order
    along the curve from large κ: of a pair the lower one ends the prior's branch, the upper one the
    aligned branch. Empty where the onset is smooth, and for nngp and block-adaptive-kernel, which
    are solved point by point.
    """

    onset: float | None
    folds: tuple[float, ...]


def critical_noise(
    name: str,
    network: TwoLayerNetwork,
    teacher,
    num_data: int | None = None,
    *,
    order_parameter: float = 0.1,
    start: str = "prior",
) -> CriticalNoise:
    """The noise below which a theory learns features: m reaches the level `order_parameter`.

    The theory's `name` is nngp, mean-field, mean-field-ard, adaptive-kernel or
    block-adaptive-kernel, a ``ValueError`` where it does not cover the problem; `num_data` is P for
    those with a finite-P form, None for the population; `start` is that of :func:`phase_diagram`.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> critical = critical_noise("mean-field", TwoLayerNetwork(35, 512, 0.1), SparseParity(35, 2))
    >>> round(critical.onset, 4)
    0.0345
    """
    if not 0 < order_parameter < 1:
        raise ValueError(f"order_parameter must lie between 0 and 1, got {order_parameter!r}.")
    checks.one_of("start", start, STARTS)
    named = theory(name)
    if num_data is not None and not named.finite_data:
        raise ValueError(f"num_data must be None for {name}, a theory of infinite data, got {num_data!r}.")
    network = named.network(network)
    if named.has_curve:
        return _on_curve(named, network, teacher, num_data, order_parameter, start)
    return CriticalNoise(_by_search(named, network, teacher, num_data, order_parameter, start), ())


def _on_curve(named: Theory, network, teacher, num_data, level: float, start: str) -> CriticalNoise:
    kappa, onset = 0.02, None
    # A curve that reaches far down costs more than one that does not.
    while onset is None and kappa > 1e-4:
        curve = named.solver().noise_curve(network, teacher, kappa, num_data=num_data)
        onset = curve.onset(level, start)
        kappa /= 4
    return CriticalNoise(onset, tuple(fold.kappa for fold in curve.folds()))


def _by_search(named: Theory, network, teacher, num_data, level: float, start: str) -> float | None:
    def excess(log_kappa: float) -> float:
        at = replace(network, kappa=math.exp(log_kappa))
        point = named.solver().solve(at, teacher, num_data=num_data, start=start)
        return point.order_parameter - level

    high, low = 0.0, -math.log(2.0)
    while excess(low) < 0:
        high, low = low, low - math.log(2.0)
        if low < math.log(_DEEPEST):
            return None
    return math.exp(brentq(excess, low, high, xtol=1e-4) if excess(high) < 0 else high)


@dataclass(frozen=True)
class ScalingExponent:
    """κ_c ∝ value^exponent, by least squares on logarithms: `critical_noises` at each of `values`.

    `standard_error` is of the slope, from the scatter about the line.
    """

    exponent: float
    standard_error: float
    values: tuple[int, ...]
    critical_noises: tuple[float, ...]


def scaling_exponent(
    name: str,
    network: TwoLayerNetwork,
    teacher: SparseParity,
    varied: str,
    values: Sequence[int],
    num_data: int | None = None,
    *,
    order_parameter: float = 0.1,
    start: str = "prior",
) -> ScalingExponent:
    """How the critical noise scales with `varied`, "input_dim", "degree" or "width".

    Theorem 4.1 of arXiv:2510.15174 has κ_c ∝ 1/√(dk) for MF and 1/√k, without the d, for MF-ARD.
    There are at least two `values`; all else is as in :func:`critical_noise`. ``ValueError`` where
    m never reaches the level.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network, teacher = TwoLayerNetwork(35, 512, 0.1), SparseParity(35, 2)
    >>> scaling = scaling_exponent("mean-field", network, teacher, "input_dim", [35, 70])
    >>> -0.6 < scaling.exponent < -0.4
    True
    """
    checks.one_of("varied", varied, VARIED)
    values = [int(value) for value in values]
    if len(set(values)) < 2:
        raise ValueError(f"values must hold at least two different numbers, got {values}.")
    found = []
    for value in values:
        problem = network if varied == "degree" else replace(network, **{varied: value})
        target = SparseParity(problem.input_dim, value if varied == "degree" else teacher.degree)
        options = {"order_parameter": order_parameter, "start": start}
        onset = critical_noise(name, problem, target, num_data, **options).onset
        if onset is None:
            raise ValueError(
                f"order_parameter={order_parameter:g} is not reached by {name} at {varied}={value}; lower it."
            )
        found.append(onset)
    line = linregress(np.log(values), np.log(found))
    return ScalingExponent(float(line.slope), float(line.stderr), tuple(values), tuple(found))
