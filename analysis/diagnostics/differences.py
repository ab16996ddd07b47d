"""Differences between two runs of one posterior: does the start, or the step size, matter?"""

from functools import partial

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.functions import by_name, functions_of, standard_errors
from analysis.diagnostics.provenance import bias_order, check_same_posterior
from analysis.results.order_parameters import is_independent
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
    """Difference of the posterior means of every function that two results share.

    Parameters
    ----------
    first, second
        Scalar functions of the draws (chain, draw), as of :func:`functions_of`.
    independent
        Whether the draws of each are independent rather than those of Markov chains.

    Returns
    -------
    pandas.DataFrame
        Index ``function``; ``first``, ``second``: the means; ``difference`` first - second; ``se``,
        the root of the sum of the two squared Monte-Carlo errors; ``z`` = difference/se; ``effect``,
        the difference over the mean of the two posterior standard deviations.
    """
    shared = [name for name in first if name in second]
    runs = [run[shared].astype(float) for run in (first, second)]
    table = pd.DataFrame(
        {name: by_name(run.mean()) for name, run in zip(("first", "second"), runs, strict=True)},
        index=pd.Index(shared, name="function"),
    )
    errors = [by_name(standard_errors(run, i)) for run, i in zip(runs, independent, strict=True)]
    spread = pd.DataFrame([by_name(run.std()) for run in runs]).mean()
    table["difference"] = table["first"] - table["second"]
    table["se"] = np.hypot(*map(pd.Series, errors))
    table["z"] = table["difference"] / table["se"]
    table["effect"] = table["difference"] / spread
    return table


def start_dependence(first: xr.DataTree, second: xr.DataTree) -> pd.DataFrame:
    """:func:`mean_differences` of all label-free functions between runs from two starts."""
    check_same_posterior(first, second)
    alone = (is_independent(first), is_independent(second))
    return mean_differences(functions_of(first), functions_of(second), alone)


def start_dependence_within(tree: xr.DataTree) -> pd.DataFrame:
    """The same of one run with ``start="both"``: its chains from the prior, then the aligned ones."""
    functions = functions_of(tree)
    from_prior = functions.sizes["chain"] - functions.sizes["chain"] // 2
    return mean_differences(
        functions.isel(chain=slice(from_prior)), functions.isel(chain=slice(from_prior, None))
    )


def check_start(table: pd.DataFrame, starts: tuple[str, str]) -> Check:
    """The check on :func:`start_dependence`: no difference beyond its error and a tenth of a sd."""
    limit = float(norm.isf(SIGNIFICANCE / 2 / max(1, len(table))))
    make = partial(Check, "start", POSTERIOR, limit=limit, figure="differences")
    size = table["z"].abs()
    names = f"{starts[0]} start and from the {starts[1]} start"
    if table["se"].isna().all():
        return make("failed", f"runs from the {names} are too short to be compared; run longer")
    matters = (size > limit) & (table["effect"].abs() > START_TOLERANCE)
    if not matters.any():
        message = f"runs from the {names} agree within their errors on all {len(table)} functions"
        return make("passed", message, value=float(size.max()))
    row = table.loc[size[matters].idxmax()]
    message = (
        f"runs from the {names} differ in {int(matters.sum())} functions, most in {row.name}: "
        f"{row['first']:.4g} against {row['second']:.4g} ({row['z']:+.1f} standard errors); the answer "
        "depends on where the chains start, so report both, run longer, or temper"
    )
    return make("failed", message, value=float(abs(row["z"])))


def step_bias(tree: xr.DataTree, half: xr.DataTree | StepSizeCheck) -> pd.DataFrame:
    """Bias of the step size ε of `tree`, see :func:`inference.runs.step_halving.extrapolate`.

    `half` is a run at ε/2, or the :class:`StepSizeCheck` of a kernel, which has made both runs. A
    row per function: train and test MSE, order parameter, mean second moment.
    """
    if isinstance(half, StepSizeCheck):
        return half.table
    check_same_posterior(tree, half)
    table = mean_differences(_biased_functions(tree), _biased_functions(half))
    table = table.rename(columns={"first": "value", "second": "half_value"})
    return extrapolate(table[["value", "half_value", "se"]], bias_order(tree) or 1)


def check_step_bias(table: pd.DataFrame) -> Check:
    """The check on :func:`step_bias`: fails where a relative bias exceeds 5 % by its error."""
    relative, error = (table["bias"] / table["scale"]).abs(), table["se"] / table["scale"]
    make = partial(Check, "step size", POSTERIOR, limit=BIAS_TOLERANCE, figure="differences")
    if error.isna().all():
        return make("failed", "the bias of the step size cannot be judged from so few draws; run longer")
    surely = relative - norm.isf(SIGNIFICANCE / max(1, len(table))) * error
    if surely.max() > BIAS_TOLERANCE:
        worst = surely.idxmax()
        message = (
            f"the step size biases {worst} by {table['bias'][worst] / table['scale'][worst]:+.0%} "
            f"± {error[worst]:.0%}; use a smaller step size, or MALA or NUTS"
        )
        return make("failed", message, value=float(relative[worst]))
    worst = (relative + 2 * error).idxmax()
    text = f"{relative[worst]:.1%} ± {error[worst]:.1%} of {worst}"
    if relative[worst] + 2 * error[worst] > BIAS_TOLERANCE:
        message = f"a bias of the step size up to {text} cannot be excluded; check with longer runs"
        return make("note", message, value=float(relative[worst]))
    return make("passed", f"the step size biases nothing by more than {text}", value=float(relative[worst]))


def _biased_functions(tree: xr.DataTree) -> xr.Dataset:
    values = tree["order_parameters"].to_dataset()
    functions = {name: values[name] for name in ("train_mse", "test_mse", "order_parameter")}
    return xr.Dataset({**functions, "second_moment": values.second_moment.mean("input")})
