"""Differences between two runs of one posterior, with error bars: does the start, or the step size, matter?"""

import json
import math

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

import inference
from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.diagnose import functions_of
from analysis.results.order_parameters import is_independent

# Chance of a false alarm over all functions together (Bonferroni), and the size from which a difference matters,
# in posterior standard deviations: below it, it is smaller than the error of a mean over a hundred draws.
SIGNIFICANCE = 0.01
START_TOLERANCE = 0.1
# Relative bias of means that a step size is allowed, as for inference.runs.step_halving.check_step_size.
BIAS_TOLERANCE = 0.05


def mean_differences(first: xr.Dataset, second: xr.Dataset, independent=(False, False)) -> pd.DataFrame:
    """Difference of the posterior means of every function that two results share.

    Parameters
    ----------
    first, second
        Scalar functions of the draws (chain, draw), such as those of :func:`analysis.diagnostics.diagnose.functions_of`.
    independent
        Whether the draws of each are independent rather than those of Markov chains.

    Returns
    -------
    pandas.DataFrame
        Index ``function``; ``first``, ``second``: the means; ``difference`` first - second; ``se``, the root of the
        sum of the two squared Monte-Carlo errors (sd/√ESS; sd/√draws for independent draws); ``z`` = difference/se;
        ``effect``, the difference over the mean of the two posterior standard deviations.
    """
    shared = [name for name in first.data_vars if name in second.data_vars]
    runs = [run[shared].astype(float) for run in (first, second)]
    means = [_flat(run.mean()) for run in runs]
    errors = [_standard_errors(run, alone) for run, alone in zip(runs, independent, strict=True)]
    spread = np.mean([_flat(run.std()) for run in runs], axis=0)
    difference = means[0] - means[1]
    se = np.hypot(*errors)
    with np.errstate(divide="ignore", invalid="ignore"):
        columns = {
            "first": means[0],
            "second": means[1],
            "difference": difference,
            "se": se,
            "z": difference / se,
            "effect": difference / spread,
        }
    return pd.DataFrame(columns, index=pd.Index(shared, name="function"))


def start_dependence(first: xr.DataTree, second: xr.DataTree) -> pd.DataFrame:
    """Difference between runs from two starts, a row per label-free function; see :func:`mean_differences`."""
    check_same_posterior(first, second)
    alone = (is_independent(first), is_independent(second))
    return mean_differences(functions_of(first), functions_of(second), alone)


def start_dependence_within(tree: xr.DataTree) -> pd.DataFrame:
    """:func:`start_dependence` of one run with ``start="both"``: its chains from the prior, then the aligned ones."""
    functions = functions_of(tree)
    from_prior = functions.sizes["chain"] - functions.sizes["chain"] // 2
    halves = (functions.isel(chain=slice(from_prior)), functions.isel(chain=slice(from_prior, None)))
    return mean_differences(*halves)


def check_start(table: pd.DataFrame, starts: tuple[str, str]) -> Check:
    """The check on :func:`start_dependence`: no difference beyond its error and a tenth of a posterior sd."""
    limit = float(norm.isf(SIGNIFICANCE / 2 / max(1, len(table))))
    matters = (table["z"].abs() > limit) & (table["effect"].abs() > START_TOLERANCE)
    common = {"name": "start", "concern": POSTERIOR, "limit": limit, "figure": "differences"}
    names = " and from the ".join(starts)
    if not matters.any():
        worst = float(table["z"].abs().max())
        message = f"runs from the {names} agree within their errors on all {len(table)} functions"
        return Check(status="passed", value=worst, message=message, **common)
    row = table[matters].loc[table[matters]["z"].abs().idxmax()]
    message = (
        f"runs from the {names} differ in {int(matters.sum())} functions, most in {row.name}: "
        f"{row['first']:.4g} against {row['second']:.4g} ({row['z']:+.1f} standard errors); the answer depends on "
        "where the chains start, so report both, run longer, or temper"
    )
    return Check(status="failed", value=float(abs(row["z"])), message=message, **common)


def bias_order(tree: xr.DataTree) -> int | None:
    """p where the step size of a result's kernel biases means by O(εᵖ); None for NUTS, MALA and independent draws."""
    settings = json.loads(tree.attrs.get("settings", "{}"))
    order = getattr(getattr(inference, settings.get("kernel", ""), None), "bias_order", None)
    return 1 if order is not None and settings.get("subsample_size") else order


def step_bias(tree: xr.DataTree, half: xr.DataTree) -> pd.DataFrame:
    """Bias of the step size ε from runs at ε and at ε/2, by Richardson extrapolation.

        A(ε) - A(0) ≈ 2ᵖ/(2ᵖ - 1) (A(ε) - A(ε/2)),        p = 1 for SGLD, see :func:`bias_order`

    Returns
    -------
    pandas.DataFrame
        Index ``function`` (train and test MSE, order parameter, mean second moment); columns ``value``,
        ``half_value``, ``bias``, ``se``, and ``scale``, what the bias is relative to: the size of the mean, 1 for
        the order parameter.

    Notes
    -----
    :func:`inference.runs.step_halving.check_step_size` makes the two runs itself.
    """
    check_same_posterior(tree, half)
    table = mean_differences(_biased_functions(tree), _biased_functions(half))
    order = bias_order(tree) or 1
    factor = 2**order / (2**order - 1)
    scale = table["first"].abs().where(table.index != "order_parameter", 1.0)
    return pd.DataFrame(
        {
            "value": table["first"],
            "half_value": table["second"],
            "bias": factor * table["difference"],
            "se": factor * table["se"],
            "scale": scale,
        }
    )


def step_bias_from_check(check) -> pd.DataFrame:
    """The table of :func:`step_bias` from a :class:`inference.runs.step_halving.StepSizeCheck`."""
    columns = {
        "value": check.value,
        "half_value": check.half_value,
        "bias": check.bias,
        "se": check.error,
        "scale": check.scale,
    }
    return pd.DataFrame(columns).rename_axis("function")


def check_step_bias(table: pd.DataFrame, tolerance: float = BIAS_TOLERANCE) -> Check:
    """The check on :func:`step_bias`: fails where a relative bias exceeds `tolerance` by its error."""
    relative = (table["bias"] / table["scale"]).abs()
    error = table["se"] / table["scale"]
    limit = norm.isf(SIGNIFICANCE / max(1, len(table)))
    common = {"name": "step size", "concern": POSTERIOR, "limit": tolerance, "figure": "differences"}
    beyond = relative - limit * error > tolerance
    if beyond.any():
        worst = (relative - limit * error).idxmax()
        message = (
            f"the step size biases {worst} by {table['bias'][worst] / table['scale'][worst]:+.0%} "
            f"± {error[worst]:.0%}; use a smaller step size, or MALA or NUTS"
        )
        return Check(status="failed", value=float(relative[worst]), message=message, **common)
    worst = (relative + 2 * error).idxmax()
    text = f"{relative[worst]:.1%} ± {error[worst]:.1%} of {worst}"
    if relative[worst] + 2 * error[worst] > tolerance:
        message = f"a bias of the step size up to {text} cannot be excluded; check with longer runs"
        return Check(status="note", value=float(relative[worst]), message=message, **common)
    message = f"the step size biases nothing by more than {text}"
    return Check(status="passed", value=float(relative[worst]), message=message, **common)


def check_same_posterior(first: xr.DataTree, second: xr.DataTree) -> None:
    """``ValueError`` unless two results are of one network on one data set."""
    if not same_posterior(first, second):
        what = "network" if _network(first) != _network(second) else "data"
        raise ValueError(
            f"the two results are not of one {what}; compare runs of the same network on the same data."
        )


def same_posterior(first: xr.DataTree, second: xr.DataTree) -> bool:
    """Whether two results are of one network on one data set."""
    if first is second:
        return True
    arrays = [
        (t["constant_data"].x, t["observed_data"].y, t["constant_data"].x_test, t["constant_data"].y_test)
        for t in (first, second)
    ]
    same_data = all(a.shape == b.shape and np.array_equal(a, b) for a, b in zip(*arrays, strict=True))
    return same_data and _network(first) == _network(second)


def _network(tree: xr.DataTree) -> dict:
    # Whether a scheme integrates the readouts out does not change the posterior.
    return {k: v for k, v in json.loads(tree.attrs.get("network", "{}")).items() if k != "readouts"}


def _biased_functions(tree: xr.DataTree) -> xr.Dataset:
    values = tree["order_parameters"].to_dataset()
    functions = {name: values[name] for name in ("train_mse", "test_mse", "order_parameter")}
    return xr.Dataset({**functions, "second_moment": values.second_moment.mean("input")})


def _standard_errors(run: xr.Dataset, independent: bool) -> np.ndarray:
    if independent:
        return _flat(run.std(ddof=1)) / math.sqrt(run.sizes["chain"] * run.sizes["draw"])
    return _flat(arviz_stats.mcse(run))


def _flat(dataset: xr.Dataset) -> np.ndarray:
    return np.array([float(value) for value in dataset.data_vars.values()])
