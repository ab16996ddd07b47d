"""Every figure that verdicts refer to, for several results at once."""

from collections.abc import Mapping, Sequence

import xarray as xr
from matplotlib.figure import Figure

from analysis.diagnostics.feature_selection import rank_inputs
from analysis.diagnostics.verdict import Verdict
from analysis.plots.calibration import plot_calibration
from analysis.plots.convergence import plot_convergence, plot_differences
from analysis.plots.distances import plot_distances
from analysis.plots.importance import plot_pareto_k, plot_restarts
from analysis.plots.inputs import plot_feature_selection
from analysis.plots.neurons import plot_neurons
from analysis.plots.traces import has_energies, plot_energy


def plot_verdicts(
    trees: Mapping[str, xr.DataTree], verdicts: Mapping[str, Verdict], tables: Sequence[xr.Dataset]
) -> dict[str, Figure]:
    """The figures of the verdicts by name: that of the check's figure, then the result's label.

    `tables` are of :func:`analysis.diagnostics.distances_by_problem`.
    """
    drawn = plot_together(trees, verdicts, tables)
    for label, verdict in verdicts.items():
        drawn |= {f"{kind}-{_plain(label)}": f for kind, f in plot_verdict(trees[label], verdict).items()}
    return drawn


def plot_together(
    trees: Mapping[str, xr.DataTree], verdicts: Mapping[str, Verdict], tables: Sequence[xr.Dataset]
) -> dict[str, Figure]:
    """The figures that lay the results side by side, by name."""
    drawn, together = {}, list(verdicts.values())
    if any("r_hat" in v.tables["functions"] for v in together):
        drawn["convergence"] = plot_convergence(together)
    drawn["calibration"] = plot_calibration(together)
    if any(v.diagnosis.loo is not None for v in together):
        drawn["pareto_k"] = plot_pareto_k(together)
    for table in tables:
        drawn[f"distances-{_plain(table.attrs['reference'])}"] = plot_distances(table)
    known = [label for label, tree in trees.items() if "relevant" in tree["constant_data"]]
    if len({trees[label]["constant_data"].sizes["input"] for label in known}) == 1:
        drawn["feature_selection"] = plot_feature_selection({n: rank_inputs(trees[n]) for n in known})
    return drawn


def plot_verdict(tree: xr.DataTree, verdict: Verdict) -> dict[str, Figure]:
    """The figures of a single result, by the name of the check's figure."""
    drawn = {"neurons": plot_neurons(verdict)}
    if {"start", "step_size"} & set(verdict.tables):
        drawn["differences"] = plot_differences(verdict)
    if has_energies(tree):
        drawn["energy"] = plot_energy(tree, verdict.label)
    if "restarts" in tree.children:
        drawn["restarts"] = plot_restarts(tree, verdict.label)
    return drawn


def _plain(label: str) -> str:
    return label.replace("/", "-")
