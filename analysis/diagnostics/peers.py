"""Several results at once: each is checked with the help of those of the same posterior."""

import math
from collections.abc import Callable, Mapping

import pandas as pd
import xarray as xr

from analysis.diagnostics.distances import distances, is_converged_nuts
from analysis.diagnostics.feature_selection import feature_selection
from analysis.diagnostics.provenance import bias_order, name_of, same_posterior, settings_of
from analysis.diagnostics.verdict import Verdict, assess
from analysis.results.order_parameters import is_independent


def assess_all(
    trees: Mapping[str, xr.DataTree],
    *,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Verdict]:
    """The verdict of :func:`assess` on every result (by label), given the others.

    Among the results of the same network on the same data are found: a run of the same scheme from
    another start, a run of the same kernel at half the step size, and, as the reference, a run of
    NUTS that has converged. `progress` is called as ``progress(done, total, label)``.
    """
    report = progress or (lambda done, total, text: None)
    verdicts, converged = {}, _converged_nuts(trees)
    for done, (label, tree) in enumerate(trees.items()):
        report(done, len(trees), label)
        peers = {n: t for n, t in trees.items() if n != label and same_posterior(tree, t)}
        runs = [] if is_independent(tree) else list(peers.values())
        verdicts[label] = assess(
            tree,
            label=label,
            other_start=next((t for t in runs if _is_other_start(tree, t)), None),
            half_step=next((t for t in runs if _is_half_step(tree, t)), None),
            reference=next((t for n, t in peers.items() if n in converged), None),
            seed=seed,
        )
    report(len(trees), len(trees), "")
    return verdicts


def distances_by_problem(trees: Mapping[str, xr.DataTree]) -> list[xr.Dataset]:
    """:func:`distances` of all results of each posterior that NUTS has converged on."""
    tables, rest, converged = [], dict(trees), _converged_nuts(trees)
    while rest:
        first = next(iter(rest.values()))
        alike = {name: tree for name, tree in rest.items() if same_posterior(first, tree)}
        rest = {name: tree for name, tree in rest.items() if name not in alike}
        reference = next((name for name in alike if name in converged), None)
        if reference is not None and len(alike) > 1:
            tables.append(distances(alike, reference))
    return tables


def selection_by_scheme(trees: Mapping[str, xr.DataTree]) -> pd.DataFrame:
    """:func:`feature_selection` by scheme, prior and κ: runs that differ in their data are its
    seeds.

    Results whose relevant inputs are unknown, or are all there are, are left out.
    """
    groups: dict[str, list[xr.DataTree]] = {}
    for tree in trees.values():
        constant = tree["constant_data"]
        if "relevant" in constant and constant.sizes["relevant_input"] < constant.sizes["input"]:
            groups.setdefault(name_of(tree), []).append(tree)
    return feature_selection(groups) if groups else pd.DataFrame()


def _converged_nuts(trees: Mapping[str, xr.DataTree]) -> set[str]:
    return {label for label, tree in trees.items() if is_converged_nuts(tree)}


def _is_other_start(tree, other) -> bool:
    return (
        tree.attrs["scheme"] == other.attrs["scheme"]
        and settings_of(tree).get("step_size") == settings_of(other).get("step_size")
        and tree.attrs.get("start") != other.attrs.get("start")
    )


def _is_half_step(tree, other) -> bool:
    whole, half = settings_of(tree), settings_of(other)
    steps = whole.get("step_size"), half.get("step_size")
    return (
        bias_order(tree) is not None
        and tree.attrs["scheme"] == other.attrs["scheme"]
        and whole.get("preconditioner") == half.get("preconditioner")
        and all(isinstance(step, float) for step in steps)
        and math.isclose(steps[0], 2 * steps[1], rel_tol=1e-6)
    )
