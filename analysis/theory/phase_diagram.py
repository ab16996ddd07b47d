"""Phase diagrams: what the theories say over a grid of noises κ and data sizes P."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
import xarray as xr

from analysis.theory.theories import STARTS, Theory, theory
from inference.fixed_points import NoiseSolution
from models import TwoLayerNetwork, checks

FIGURES = ("order_parameter", "test_mse", "test_mse_mean", "effective_ridge", "num_aligned", "error")
_ONSET = 0.1


def phase_diagram(
    network: TwoLayerNetwork,
    teacher,
    kappas: Sequence[float],
    num_data: Sequence[int | None] = (None,),
    theories: Sequence[str] = ("adaptive-kernel", "mean-field"),
    *,
    start: str = "prior",
    progress: Callable[[int, int, str], None] | None = None,
) -> xr.Dataset:
    """Solve `theories` on a grid of noises and data sizes.

    The solutions of MF, MF-ARD and AK form one curve, which is followed once; κ and P are then read
    off it (:class:`inference.fixed_points.NoiseCurve`). NNGP and AKB are solved cell by cell. What
    a theory does not cover is a ``ValueError``.

    Parameters
    ----------
    network
        Its κ is not used. A theory that does not cover its prior is solved with its own prior of
        the same scale.
    kappas, num_data
        Distinct noises κ > 0, and data sizes P; None for the population. Theories without a
        finite-P form have their one row at P = ∞.
    theories
        Names among nngp, mean-field, mean-field-ard, adaptive-kernel, block-adaptive-kernel.
    start
        Which stable solution, where there are several: "prior" (smallest m) or "aligned" (largest).
    progress
        Called with ``(done, total, text)``.

    Returns
    -------
    xarray.Dataset
        Dimensions theory, kappa and num_data (∞ for the population); variables order_parameter,
        test_mse (of a draw), test_mse_mean, effective_ridge, num_aligned (neurons), error (of m),
        and by theory and num_data onset (the largest κ at which m ≥ 0.1) and, by fold too,
        fold_kappa (in order along the curve; folds 0, 2, … end the prior's branch, folds 1, 3, …
        the aligned one). NaN where a theory does not say.

    Examples
    --------
    >>> from models import SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=10, width=32, kappa=0.1)
    >>> grid = phase_diagram(network, SparseParity(10, 2), [0.3, 0.03], [100, 1000])
    >>> dict(grid.sizes)["num_data"], bool(grid.order_parameter.sel(theory="adaptive-kernel", kappa=0.03).max() > 0.5)
    (3, True)
    """
    kappas, sizes = [float(kappa) for kappa in kappas], list(num_data)
    for name, values in (("kappas", kappas), ("num_data", sizes), ("theories", list(theories))):
        checks.distinct(name, values)
    for kappa in kappas:
        checks.positive("kappas", kappa)
    for size in (size for size in sizes if size is not None):
        checks.whole("num_data", size, 1)
    checks.one_of("start", start, STARTS)
    named = {name: theory(name) for name in theories}
    jobs = [(name, size) for name, t in named.items() for size in (sizes if t.finite_data else [None])]
    report = progress or (lambda done, total, text: None)
    rows = {name: [] for name in named}
    for done, (name, size) in enumerate(jobs):
        report(done, len(jobs), f"{name} P={'∞' if size is None else size}")
        row = _row(named[name], network, teacher, kappas, size, start)
        rows[name].append(row.assign_coords(num_data=math.inf if size is None else size))
    report(len(jobs), len(jobs), "")
    parts = [xr.concat(row, "num_data", join="outer") for row in rows.values()]
    grid = xr.concat(parts, "theory", join="outer").assign_coords(theory=list(named), kappa=kappas)
    shown = dict.fromkeys(math.inf if size is None else size for size in [*sizes, *(s for _, s in jobs)])
    grid = grid.reindex(num_data=list(shown)).transpose("theory", "kappa", "num_data", ...)
    return grid.assign_attrs(start=start, onset_order_parameter=_ONSET)


def _row(
    t: Theory, network: TwoLayerNetwork, teacher, kappas: list[float], num_data: int | None, start: str
) -> xr.Dataset:
    """One theory at one P over the noises; NaN where it does not say."""
    network, onset, folds = t.network(network), None, []
    if t.has_curve:
        curve = t.solver().noise_curve(network, teacher, min(kappas), num_data=num_data)
        found = [curve.reached(kappa, start) for kappa in kappas]
        onset, folds = curve.onset(_ONSET, start), by_kind(curve.folds())
    else:
        networks = [replace(network, kappa=kappa) for kappa in kappas]
        found = [t.solver().solve(at, teacher, num_data=num_data, start=start) for at in networks]
    figures = {n: ("kappa", np.array([getattr(s, n, None) for s in found], float)) for n in FIGURES}
    fold = xr.DataArray(np.array(folds, float), dims="fold", coords={"fold": range(len(folds))})
    return xr.Dataset({**figures, "onset": np.array(onset, float), "fold_kappa": fold})


def by_kind(folds: list[NoiseSolution]) -> list[float]:
    """κ of folds along the curve, minima and maxima in turn; NaN where κ² lies below 0: no fold."""
    out = []
    for fold in folds:
        # Beyond a maximum of κ the solutions are stable.
        out += [math.nan] * (len(out) % 2 != fold.stable) + [fold.kappa]
    return out
