"""Several results at once: each is checked with the help of those of the same posterior."""

import json
import math
from collections.abc import Callable, Mapping

import pandas as pd
import xarray as xr

from analysis.diagnostics.diagnose import diagnose
from analysis.diagnostics.differences import bias_order, same_posterior
from analysis.diagnostics.distances import distances
from analysis.diagnostics.feature_selection import feature_selection
from analysis.diagnostics.verdict import Verdict, assess
from analysis.results.order_parameters import is_independent


def assess_all(
    trees: Mapping[str, xr.DataTree],
    *,
    seed: int = 0,
    progress: Callable[[int, int, str], None] | None = None,
) -> dict[str, Verdict]:
    """The verdict on every result, given the others.

    Among the results of the same network on the same data are found: a run of the same scheme from another start, a
    run of the same kernel at half the step size, and, as the reference, a run of NUTS that has converged.

    Parameters
    ----------
    trees
        Results in the schema by label.
    seed
        As for :func:`assess`.
    progress
        Called as ``progress(done, total, label)``.
    """
    report = progress or (lambda done, total, text: None)
    verdicts = {}
    converged = _converged_nuts(trees)
    for done, (label, tree) in enumerate(trees.items()):
        report(done, len(trees), label)
        others = (t for n, t in converged.items() if n != label and same_posterior(tree, t))
        verdicts[label] = assess(
            tree,
            label=label,
            other_start=_find(trees, label, _is_other_start),
            half_step=_find(trees, label, _is_half_step),
            reference=next(others, None),
            seed=seed,
        )
    report(len(trees), len(trees), "")
    return verdicts


def distances_by_problem(trees: Mapping[str, xr.DataTree]) -> list[xr.Dataset]:
    """:func:`distances` of all results of each posterior that NUTS has converged on, reference in the attributes."""
    tables, seen, converged = [], set(), _converged_nuts(trees)
    for label, tree in trees.items():
        if label in seen:
            continue
        alike = {name: other for name, other in trees.items() if same_posterior(tree, other)}
        seen |= set(alike)
        reference = next((name for name in alike if name in converged), None)
        if reference is not None and len(alike) > 1:
            tables.append(distances(alike, reference))
    return tables


def selection_by_scheme(trees: Mapping[str, xr.DataTree], score: str = "second_moment") -> pd.DataFrame:
    """:func:`feature_selection` by scheme, prior and κ: runs that differ in their data are seeds of one scheme.

    Results whose relevant inputs are unknown, or are all there are, are left out.
    """
    groups: dict[str, list[xr.DataTree]] = {}
    for tree in trees.values():
        constant = tree["constant_data"]
        if "relevant" in constant and constant.sizes["relevant_input"] < constant.sizes["input"]:
            groups.setdefault(name_of(tree), []).append(tree)
    return feature_selection(groups, score) if groups else pd.DataFrame()


def name_of(tree: xr.DataTree) -> str:
    """Scheme, prior and κ of a result, as a comparison labels it."""
    kappa = json.loads(tree.attrs["network"])["kappa"]
    return f"{tree.attrs['scheme']}-{tree.attrs['prior']}-kappa{kappa:g}"


def _converged_nuts(trees: Mapping[str, xr.DataTree]) -> dict[str, xr.DataTree]:
    return {n: t for n, t in trees.items() if t.attrs.get("scheme") == "nuts" and diagnose(t).converged}


def _find(trees, label: str, matches) -> xr.DataTree | None:
    tree = trees[label]
    for other in trees.values():
        if (
            other is not tree
            and not is_independent(tree)
            and same_posterior(tree, other)
            and matches(tree, other)
        ):
            return other
    return None


def _is_other_start(tree, other) -> bool:
    same_scheme = tree.attrs["scheme"] == other.attrs["scheme"]
    same_step = _step_size(tree) == _step_size(other)
    return same_scheme and same_step and tree.attrs.get("start") != other.attrs.get("start")


def _is_half_step(tree, other) -> bool:
    if bias_order(tree) is None or tree.attrs["scheme"] != other.attrs["scheme"]:
        return False
    step, half = _step_size(tree), _step_size(other)
    settings = [json.loads(t.attrs["settings"]).get("preconditioner") for t in (tree, other)]
    if not all(isinstance(value, float) for value in (step, half)) or settings[0] != settings[1]:
        return False
    return math.isclose(step, 2 * half, rel_tol=1e-6)


def _step_size(tree):
    return json.loads(tree.attrs.get("settings", "{}")).get("step_size")
