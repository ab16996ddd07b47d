"""Differences between two runs of one posterior: does the start, or the step size, matter?"""

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.functions import functions_of
from analysis.diagnostics.provenance import bias_order, check_same_posterior
from analysis.results.order_parameters import is_independent, standard_errors
from inference.runs.step_halving import StepSizeCheck, extrapolate

# Chance of a false alarm over all functions together (Bonferroni), and the size from which a
# difference matters, in posterior standard deviations: below it, it is smaller than the error of a
# mean over a hundred draws.
SIGNIFICANCE = 0.01
START_TOLERANCE = 0.1
# Relative bias of means that a step size is allowed, as for StepSizeCheck.
BIAS_TOLERANCE = 0.05


def mean_differences(
    first: xr.Dataset, second: xr.Dataset, independent: tuple[bool, bool] = (False, False)
) -> pd.DataFrame:
    """Difference of the posterior means of every function (chain, draw) that two results share.

    `independent` says of each result whether its draws are independent rather than Markov chains'.
    By ``function``: ``first``, ``second``, the means; ``difference`` first - second; ``se``, the
    root of the sum of the two squared Monte-Carlo errors; ``z`` = difference/se; ``effect``, the
    difference over the mean of the two posterior standard deviations.
    """
    shared = [name for name in first if name in second]
    first, second = (run[shared].astype(float) for run in (first, second))
    table = pd.DataFrame({"first": first.mean().to_pandas(), "second": second.mean().to_pandas()})
    runs = zip((first, second), independent, strict=True)
    table["difference"] = table["first"] - table["second"]
    table["se"] = np.hypot(*(standard_errors(run, alone).to_pandas() for run, alone in runs))
    table["z"] = table["difference"] / table["se"]
    table["effect"] = table["difference"] / ((first.std() + second.std()) / 2).to_pandas()
    return table.rename_axis("function")


def function_differences(first: xr.DataTree, second: xr.DataTree) -> pd.DataFrame:
    """:func:`mean_differences` of all label-free functions of two results."""
    independent = (is_independent(first), is_independent(second))
    return mean_differences(functions_of(first), functions_of(second), independent)


def start_dependence(first: xr.DataTree, second: xr.DataTree | None = None) -> pd.DataFrame:
    """:func:`mean_differences` of all label-free functions between runs from two starts.

    Of one run with ``start="both"`` alone: between its chains from the prior and the aligned ones.
    """
    if second is None:
        functions = functions_of(first)
        prior = functions.sizes["chain"] - functions.sizes["chain"] // 2
        return mean_differences(functions.isel(chain=slice(prior)), functions.isel(chain=slice(prior, None)))
    check_same_posterior(first, second)
    return function_differences(first, second)


def check_start(table: pd.DataFrame, starts: tuple[str, str]) -> Check:
    """The check on :func:`start_dependence`: no difference beyond its error and a tenth of a sd."""
    limit = float(norm.isf(SIGNIFICANCE / 2 / max(1, len(table))))
    make = partial(Check, "start", POSTERIOR, limit=limit, figure="differences")
    size = table["z"].abs()
    runs = f"runs from the {starts[0]} start and from the {starts[1]} start"
    if table["se"].isna().all():
        return make("failed", f"{runs} are too short to be compared; run longer")
    matters = (size > limit) & (table["effect"].abs() > START_TOLERANCE)
    if not matters.any():
        message = f"{runs} agree within their errors on all {len(table)} functions"
        return make("passed", message, value=float(size.max()))
    row = table.loc[size[matters].idxmax()]
    most = f"{row.name}: {row['first']:.4g} against {row['second']:.4g} ({row['z']:+.1f} standard errors)"
    so = "the answer depends on where the chains start, so report both, run longer, or temper"
    message = f"{runs} differ in {int(matters.sum())} functions, most in {most}; {so}"
    return make("failed", message, value=float(abs(row["z"])))


def step_bias(tree: xr.DataTree, half: xr.DataTree | StepSizeCheck) -> pd.DataFrame:
    """Bias of the step size ε of `tree`, see :func:`inference.runs.step_halving.extrapolate`.

    `half` is a run at ε/2, or the :class:`StepSizeCheck` of a kernel, which has made both runs.
    """
    if isinstance(half, StepSizeCheck):
        return half.table
    check_same_posterior(tree, half)
    table = mean_differences(_biased_functions(tree), _biased_functions(half))
    table = table.rename(columns={"first": "value", "second": "half_value"})
    return extrapolate(table[["value", "half_value", "se"]], bias_order(tree) or 1)


def _biased_functions(tree: xr.DataTree) -> xr.Dataset:
    values = tree["order_parameters"].to_dataset()
    means = values[["train_mse", "test_mse", "order_parameter"]]
    return means.assign(second_moment=values.second_moment.mean("input"))


def check_step_bias(table: pd.DataFrame) -> Check:
    """The check on :func:`step_bias`: fails where a relative bias exceeds 5 % by its error."""
    signed, error = table["bias"] / table["scale"], table["se"] / table["scale"]
    make = partial(Check, "step size", POSTERIOR, limit=BIAS_TOLERANCE, figure="differences")
    if error.isna().all():
        return make("failed", "the bias of the step size cannot be judged from so few draws; run longer")
    relative = signed.abs()
    surely = relative - norm.isf(SIGNIFICANCE / max(1, len(table))) * error
    failed = surely.max() > BIAS_TOLERANCE
    worst = (surely if failed else relative + 2 * error).idxmax()
    text = f"{relative[worst]:.1%} ± {error[worst]:.1%} of {worst}"
    status, message = "passed", f"the step size biases nothing by more than {text}"
    if failed:
        status, found = "failed", f"{worst} by {signed[worst]:+.0%} ± {error[worst]:.0%}"
        message = f"the step size biases {found}; use a smaller step size, or MALA or NUTS"
    elif relative[worst] + 2 * error[worst] > BIAS_TOLERANCE:
        status = "note"
        message = f"a bias of the step size up to {text} cannot be excluded; check with longer runs"
    return make(status, message, value=float(relative[worst]))
