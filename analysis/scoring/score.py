"""Is a scheme right? Its means and standard deviations held against a reference posterior."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import partial

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm, t

from analysis.diagnostics.convergence import R_HAT_LIMIT
from analysis.results.order_parameters import standard_errors
from analysis.scoring.functions import draws_of, functions_of_draws
from models.problems import Problem, Reference, problem
from models.problems.reference import FIGURES

SIGNIFICANCE = 0.01
"""Chance that a scheme that is right is called biased, over all functions together."""
TOLERANCE = 0.3
"""Bias, in posterior standard deviations, that must have been seen for a scheme to be called right.

A mean that is off by 0.3 standard deviations takes one per cent of coverage from a 95 % interval.
"""
_POWER = 0.95


@dataclass(frozen=True)
class Score:
    """What :func:`score` found; ``print`` it for a sentence.

    Attributes
    ----------
    problem, scheme
        Names.
    verdict
        ``"right"``, ``"biased"`` or ``"cannot tell"``; `message` says by how much, or to within what.
    table
        A row a function: ``mean``, ``sd`` of the draws and of the ``reference``, ``bias`` of the mean
        in posterior standard deviations with its error ``bias_se`` and ``z``, ``relative_error`` of
        the mean, ``log_sd_ratio`` with its error and ``z_sd``, ``ess`` and ``r_hat``.
    row
        JSON-able: one row to put beside others.
    """

    problem: str
    scheme: str
    verdict: str
    message: str
    table: pd.DataFrame
    row: dict

    def __str__(self) -> str:
        return f"{self.scheme} on {self.problem}: {self.verdict}. {self.message}"


def score(result, of: Problem | str, scheme: str | None = None) -> Score:
    """Hold a result against the reference posterior of a problem.

    For every function of the reference (:mod:`analysis.scoring.functions`), with posterior mean μ
    and standard deviation s, and the draws' mean m and standard deviation ŝ,

        bias = (m - μ)/s,       z = (m - μ)/√(se(m)² + se(μ)²),      and likewise log(ŝ/s),

    the errors of Markov chains being those of the effective sample size (ArviZ), of independent
    draws sd/√draws. p-values are those of Student's t with ESS/4 degrees of freedom, as the error is
    itself an estimate, and for the standard deviation of Hall's transform of its z, which takes the
    skewness of (g - m)² out, with ESS/20. The scheme is **biased** where the smallest of all 2K
    p-values is below 1 - (1 - 0.01)^(1/2K) (Šidák), so that about one right scheme in a hundred is
    accused: of 150 sets of 60 independent functions of 500 to 4000 draws, Gaussian or log-normal, 0
    to 0.7 % by their means and 0 to 1.3 % by their standard deviations. It is **right** where none
    is, and every mean off by 0.3 standard deviations would have been seen with a chance of 95 %;
    else one **cannot tell**. Chains that disagree are no ground for either.

    References
    ----------
    Hall, *On the removal of skewness by transformation*, JRSS B 54 (1992).

    Parameters
    ----------
    result
        A tree of ``sample``, ``fit`` or ArviZ, a netCDF file, a ``numpyro.infer.MCMC`` object, or a
        dict of sites, arrays (chain, draw, ...).
    of
        The problem or its name.
    scheme
        The name that the row gets; by default that of the result.

    Examples
    --------
    >>> import numpy as np
    >>> from models.problems import problem
    >>> regression = problem("linear-regression-8")
    >>> x, y = regression.data["x"], regression.data["y"]
    >>> cov = np.linalg.inv(x.T @ x / 0.25 + np.eye(8))
    >>> rng = np.random.default_rng(0)
    >>> theta = rng.multivariate_normal(cov @ x.T @ y / 0.25, cov, size=(4, 1000))
    >>> score({"theta": theta}, regression).verdict
    'right'
    >>> score({"theta": theta + 0.5 * np.sqrt(np.diag(cov))}, regression).verdict
    'biased'
    """
    of = problem(of) if isinstance(of, str) else of
    reference = usable_reference(of)
    draws = draws_of(result, of)
    functions = functions_of_draws(draws, of)
    names = [name for name in reference.functions if name in functions]
    table = compare_functions(functions[names], reference.functions, draws.independent)
    verdict, message, figures = judge(table)
    scheme = scheme or draws.scheme
    best = None if draws.independent else float(table["ess"].min())
    row = {"problem": of.name, "scheme": scheme, "verdict": verdict, **figures}
    row["ess_min"] = best or float(functions.sizes["chain"] * functions.sizes["draw"])
    work, seconds = draws.gradient_evaluations, draws.wall_time_s
    row["ess_per_1000_gradients"] = 1000 * row["ess_min"] / work if work else None
    row["ess_per_second"] = row["ess_min"] / seconds if seconds else None
    row |= {"gradients": work, "seconds": seconds, "date": date.today().isoformat()}
    row = {name: v if not isinstance(v, float) or np.isfinite(v) else None for name, v in row.items()}
    return Score(of.name, scheme, verdict, message, table, row)


def usable_reference(of: Problem) -> Reference:
    """The problem's reference; ``ValueError`` where there is none, or it is of other data."""
    reference = of.reference
    if reference is None:
        raise ValueError(
            f"problem {of.name!r} has no reference yet; make one with mfzoo problems {of.name} --make-reference."
        )
    if reference.status == "none":
        raise ValueError(f"problem {of.name!r} has no reference: {reference.reason}.")
    made = data_figures(of)
    if made.keys() != reference.data.keys() or not all(
        np.allclose(made[name], values, rtol=1e-3, atol=1e-4) for name, values in reference.data.items()
    ):
        raise ValueError(
            f"problem {of.name!r} has other data here than those of its reference; random numbers may differ between "
            "versions of JAX: make the reference again."
        )
    return reference


def data_figures(of: Problem) -> dict[str, list[float]]:
    """Size, mean, mean square and an ordered mean of every array: enough to know the data again."""
    arrays = of.model_kwargs | ({"x_test": of.data.x_test, "y_test": of.data.y_test} if of.of_network else {})
    figures = {}
    for name, value in arrays.items():
        flat = np.asarray(value, float).ravel()
        ordered = np.mean(flat * np.cos(np.arange(flat.size)))
        figures[name] = [float(f"{v:.6g}") for v in (flat.size, flat.mean(), np.mean(flat**2), ordered)]
    return figures


def summarise_functions(functions: xr.Dataset, independent: bool) -> pd.DataFrame:
    """``mean``, ``sd``, their Monte-Carlo errors ``mean_se``, ``sd_se``, ``ess`` and ``r_hat``.

    Also ``skewness_of_square``, that of (g - mean)². The error of a standard deviation is that of
    the mean of (g - mean)², by the delta method over 2 sd; ``ess`` is the smaller of those of the
    two means.
    """
    draws = ("chain", "draw")
    square = (functions - functions.mean(draws)) ** 2
    sd = functions.std(draws)
    errors = partial(standard_errors, independent=independent)
    with np.errstate(invalid="ignore", divide="ignore"):  # chains that do not move, and single ones
        columns = {
            "mean": functions.mean(draws),
            "sd": sd,
            "mean_se": errors(functions),
            "sd_se": errors(square) / (2 * sd),
            "skewness_of_square": ((square - square.mean(draws)) ** 3).mean(draws) / square.std(draws) ** 3,
        }
        if not independent:
            columns["ess"] = arviz_stats.ess(functions, method="mean")
            columns["ess_square"] = arviz_stats.ess(square, method="mean")
            columns["r_hat"] = arviz_stats.rhat(functions)
    table = pd.DataFrame({name: values.to_pandas() for name, values in columns.items()})
    if independent:
        table["ess"] = table["ess_square"] = functions.sizes["chain"] * functions.sizes["draw"]
        table["r_hat"] = np.nan
    table["ess"] = table[["ess", "ess_square"]].min(axis=1)
    return table.drop(columns="ess_square").rename_axis("function")


def compare_functions(functions: xr.Dataset, reference: Mapping, independent: bool) -> pd.DataFrame:
    """The table of a :class:`Score`; `reference` maps a function to its :data:`FIGURES`."""
    table = summarise_functions(functions, independent)
    true = pd.DataFrame.from_dict({n: reference[n] for n in table.index}, orient="index", columns=FIGURES)
    table["reference"], table["reference_sd"] = true["mean"], true["sd"]
    difference = table["mean"] - true["mean"]
    table["bias"] = difference / true["sd"]
    table["bias_se"] = np.hypot(table["mean_se"], true["mean_se"]) / true["sd"]
    table["relative_error"] = difference / true["mean"].abs()
    with np.errstate(divide="ignore"):
        table["log_sd_ratio"] = np.log(table["sd"] / true["sd"])
    table["log_sd_ratio_se"] = np.hypot(table["sd_se"] / table["sd"], true["sd_se"] / true["sd"])
    table["z"] = table["bias"] / table["bias_se"]
    table["z_sd"] = _without_skewness(table["log_sd_ratio"] / table["log_sd_ratio_se"], table)
    return table


def _without_skewness(z: pd.Series, table: pd.DataFrame) -> pd.Series:
    """Hall's transform √n (t + γt²/3 + γ²t³/27 + γ/(6n)) with t = z/√n, γ the skewness of (g - m)²."""
    n, skewness = table["ess"], table["skewness_of_square"]
    root = z / n**0.5
    return n**0.5 * (root + skewness * root**2 / 3 + skewness**2 * root**3 / 27 + skewness / (6 * n))


def judge(table: pd.DataFrame) -> tuple[str, str, dict]:
    """Verdict, the sentence that goes with it, and the figures that a row shows."""
    tests = 2 * len(table)
    freedom = {"bias": np.maximum(table["ess"] / 4, 1.0), "log_sd_ratio": np.maximum(table["ess"] / 20, 1.0)}
    p_values = pd.DataFrame(
        {
            "bias": 2 * t.sf(table["z"].abs(), freedom["bias"]),
            "log_sd_ratio": 2 * t.sf(table["z_sd"].abs(), freedom["log_sd_ratio"]),
        },
        index=table.index,
    )
    level = 1 - (1 - SIGNIFICANCE) ** (1 / tests)
    resolution = float(((t.isf(level / 2, freedom["bias"]) + norm.ppf(_POWER)) * table["bias_se"]).max())
    rejected = p_values < level
    smallest = float(p_values.min().min())
    # Of the mean square bias what errors of this size would make of none.
    excess = float(np.mean(table["bias"] ** 2 - table["bias_se"] ** 2))
    figures = {
        "functions": len(table),
        "p_value": float(-np.expm1(tests * np.log1p(-min(smallest, 1 - 1e-16)))),
        "rms_bias": max(excess, 0.0) ** 0.5,
        "resolution": resolution,
        "r_hat_max": float(table["r_hat"].max()),
    }
    for column in ("bias", "log_sd_ratio"):
        found = rejected[column]
        worst = table.loc[found if found.any() else slice(None), column].abs().idxmax()
        figures |= {f"{column}_of": worst, column: float(table[column][worst])}
        figures[f"{column}_se"] = float(table[f"{column}_se"][worst])
    unknown = table.index[table[["z", "z_sd"]].isna().any(axis=1)]
    if len(unknown):
        return "cannot tell", f"The draws of {unknown[0]} are too few, or all the same.", figures
    if figures["r_hat_max"] > R_HAT_LIMIT:
        worst = table["r_hat"].idxmax()
        return "cannot tell", f"The chains disagree on {worst} (R-hat {figures['r_hat_max']:.3f}).", figures
    if rejected.any().any():
        parts = []
        if rejected["bias"].any():
            parts.append(
                f"the mean of {figures['bias_of']} is off by {figures['bias']:+.3f} ± {figures['bias_se']:.3f} "
                f"posterior standard deviations ({rejected['bias'].sum()} of {len(table)} functions are off, rms "
                f"{figures['rms_bias']:.3f})"
            )
        if rejected["log_sd_ratio"].any():
            ratio = np.exp(figures["log_sd_ratio"])
            parts.append(
                f"the standard deviation of {figures['log_sd_ratio_of']} is {ratio:.3f} of the reference's"
            )
        text = "; ".join(parts)
        return "biased", f"{text[0].upper()}{text[1:]}.", figures
    if resolution <= TOLERANCE:
        return (
            "right",
            f"A bias beyond {resolution:.2g} posterior standard deviations would have been seen.",
            figures,
        )
    return (
        "cannot tell",
        f"No bias is seen, but only one beyond {resolution:.2g} posterior standard deviations would have been; "
        "run longer.",
        figures,
    )
