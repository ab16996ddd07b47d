"""The figures of a report: drawn, embedded as PNG, each with a caption and a text in its place."""

import base64
import io
from collections import Counter
from collections.abc import Iterable, Mapping

import xarray as xr
from matplotlib.figure import Figure

from analysis import plots
from analysis.diagnostics import Verdict
from analysis.plots.comparison import plot_comparison
from analysis.schemes.compare import Comparison, SchemeResult

_DPI = 110

CAPTIONS = {
    "order_parameters": "Order parameter m and test MSE by scheme, a row of panels per κ. Bars: two standard errors "
    "(of a fixed point: two error estimates of its solver). Filled: one posterior draw; open: the posterior mean.",
    "second_moments": "Second moment E[w²] of the weights of every input, over neurons and draws, with two standard "
    "errors; relevant inputs shaded. A scheme that has learned features gives the relevant inputs larger weights.",
    "weight_marginals": "Density of the weights of one relevant and one irrelevant input (the first two, if "
    "unknown), neurons and draws pooled, on a logarithmic scale.",
    "inclusion": "Posterior probability that an input is included, with two standard errors; relevant inputs shaded.",
    "convergence": "R-hat and effective sample size of every function, a row per sampler; the worst is named, dashed "
    "lines are the limits. R-hat should lie left of its line, effective draws right of theirs.",
    "calibration": "Left: coverage of the predictive intervals at the test points less the nominal one; bars are the "
    "99 % range in which it lies for a right result; below zero the intervals are too narrow. Right: distribution of "
    "LOO-PIT less the uniform one, with the 99 % band; above the band and then below it is over-confident.",
    "pareto_k": "Pareto k̂ of every left-out training point, sorted; above the dashed line leave-one-out by "
    "reweighting is not safe.",
    "distances": "Distances from the reference (dots) with the floor that equal laws would give (triangles); bars at "
    "the difference of m are two standard errors.",
    "feature_selection": "Inclusion probability of every input, a row per scheme. Numbers are ranks of the inputs' "
    "scores; the relevant inputs are framed.",
    "neurons": "Neurons matched between draws and chains, the strongest first. Left: their mean weights in the "
    "direction in which they raise f; grey rows have no identity. Middle and right: strength |a||w|, matched and "
    "sorted, a colour per chain.",
    "differences": "Differences of every function between runs from other starts, or at half the step size, with two "
    "standard errors; what the checks let pass is shaded.",
    "energy": "Energies of the draws of NUTS against the changes that one momentum draw makes, and E-BFMI by chain; "
    "left of the dashed line chains move too slowly between energies.",
    "restarts": "Evidence lower bound of every restart of the guide over the steps; heavy: the one that was kept.",
}


def embed(kind: str, figure: Figure, labels: Iterable[str]) -> dict:
    """A figure of the results `labels` as a PNG in a ``data:`` address, its size, what it shows."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    width, height = figure.get_size_inches()
    first = CAPTIONS[kind].partition(". ")[0].rstrip(".")
    return {
        "kind": kind.replace("_", " "),
        "source": "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii"),
        "width": round(96 * width),
        "height": round(96 * height),
        "caption": CAPTIONS[kind],
        "alt": f"{first}. Results: {', '.join(labels)}.",
    }


def comparison_figures(results: Mapping[str, SchemeResult]) -> list[dict]:
    """The figures of ``mfzoo compare``; a set for each time that a scheme, prior and κ repeat."""
    shown = []
    for part in _without_repeats(results):
        drawn = plot_comparison(Comparison({}, tuple(part.values())))
        shown += [embed(kind, figure, part) for kind, figure in drawn.items()]
    return shown


def posterior_figures(
    trees: Mapping[str, xr.DataTree], verdicts: Mapping[str, Verdict], tables: list[xr.Dataset]
) -> list[dict]:
    """The figures that lay the results of one posterior side by side."""
    drawn = plots.plot_together(trees, verdicts, tables)
    return [embed(name.partition("-")[0], figure, trees) for name, figure in drawn.items()]


def result_figures(tree: xr.DataTree, verdict: Verdict) -> list[dict]:
    """The figures of one result."""
    return [embed(kind, f, [verdict.label]) for kind, f in plots.plot_verdict(tree, verdict).items()]


def _without_repeats(results: Mapping[str, SchemeResult]) -> list[dict[str, SchemeResult]]:
    """The results in parts within which their own labels, by which figures name them, differ."""
    parts: dict[int, dict[str, SchemeResult]] = {}
    seen = Counter()
    for label, result in results.items():
        parts.setdefault(seen[result.label], {})[label] = result
        seen[result.label] += 1
    return list(parts.values())
