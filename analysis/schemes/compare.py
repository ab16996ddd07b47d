"""Every scheme on the same model and data, side by side."""

from __future__ import annotations

import json
import math
import threading
from collections.abc import Sequence
from concurrent.futures import CancelledError, ThreadPoolExecutor
from dataclasses import dataclass

import arviz_stats
import jax
import pandas as pd
import xarray as xr

from analysis.diagnostics.diagnose import Diagnosis, diagnose
from analysis.results.order_parameters import order_parameters
from analysis.schemes.registry import SCHEMES, check_scheme, default_schemes
from inference.runs.datatree import describe
from inference.runs.progress import ProgressCallback
from inference.starts import check_problem
from models import Dataset, Network, checks

PLACE = ("kappa", "scheme", "prior")
_DRAWS = ("order_parameter", "order_parameter_se", "test_mse_draw", "test_mse_mean", "relevance_ratio")
_RUN = ("r_hat_max", "ess_min", "pareto_k", "elpd_loo", "gradient_evaluations", "wall_time_s", "converged")
COLUMNS = (*PLACE, *_DRAWS, *_RUN)
# Of a comparison's table, after m and its standard error.
DEVIATION = "deviation"


@dataclass(frozen=True)
class SchemeResult:
    """One scheme's answer: draws, fixed point where it is one, diagnosis, row of the table."""

    tree: xr.DataTree
    point: object | None
    diagnosis: Diagnosis
    row: dict

    @property
    def label(self) -> str:
        """Unique name within a comparison, also the group name in the run file."""
        return f"{self.row['scheme']}-{self.row['prior']}-kappa{self.row['kappa']:g}"


@dataclass(frozen=True)
class SchemeFailure:
    """A scheme that gave no answer, where, and the error that stopped it."""

    scheme: str
    prior: str
    kappa: float
    error: Exception

    @property
    def row(self) -> dict:
        """Its row of the table: where it ran, and in place of figures the ``error``."""
        return {**dict.fromkeys(COLUMNS), **vars(self), "error": sentence(self.error)}


@dataclass(frozen=True)
class Comparison:
    """Answers of several schemes, priors and noise levels; comparisons of the same problem add up.

    `problem` is what was declared, JSON-able; there is a result or failure per scheme, prior and κ.
    """

    problem: dict
    results: tuple[SchemeResult, ...]
    failures: tuple[SchemeFailure, ...] = ()

    def __add__(self, other: Comparison) -> Comparison:
        problem = {**self.problem, **other.problem}
        return Comparison(problem, self.results + other.results, self.failures + other.failures)

    @property
    def rows(self) -> list[dict]:
        """The table's rows, JSON-able, failures last; None where a figure has no meaning.

        Each with ``deviation``, of its order parameter from that of NUTS at its κ and prior, in
        standard errors of the difference: None without a run of NUTS that has converged.
        """
        rows = [one.row for one in (*self.results, *self.failures)]
        nuts = {(r["kappa"], r["prior"]): r for r in rows if r["scheme"] == "nuts" and r["converged"]}
        return [row | {DEVIATION: _deviation(row, nuts.get((row["kappa"], row["prior"])))} for row in rows]

    @property
    def trees(self) -> dict[str, xr.DataTree]:
        """The results by label, each with its row as the attribute ``row``."""
        trees = {result.label: result.tree.copy() for result in self.results}
        for result in self.results:
            trees[result.label].attrs["row"] = json.dumps(result.row)
        return trees

    def table(self) -> pd.DataFrame:
        """One row a scheme: :data:`COLUMNS`, the deviation from NUTS, ``error`` where one has
        failed."""
        after = COLUMNS.index("order_parameter_se") + 1
        columns = [*COLUMNS[:after], DEVIATION, *COLUMNS[after:], *["error"] * bool(self.failures)]
        return pd.DataFrame(self.rows, columns=columns)

    def select(self, **wanted) -> list[SchemeResult]:
        """The results whose rows hold the `wanted` values: ``select(kappa=0.05, prior="ard")``."""
        return [r for r in self.results if all(r.row[name] == value for name, value in wanted.items())]

    def elpd(self) -> pd.DataFrame:
        """``arviz.compare`` at each κ of the schemes that have seen the data."""
        parts = {}
        for kappa in dict.fromkeys(row["kappa"] for row in self.rows):
            loo = {
                f"{r.row['scheme']}-{r.row['prior']}": r.diagnosis.loo
                for r in self.select(kappa=kappa)
                if r.diagnosis.loo is not None
            }
            if len(loo) > 1:
                parts[kappa] = arviz_stats.compare(loo)
        return pd.concat(parts, names=["kappa", "scheme"]) if parts else pd.DataFrame()

    def to_tree(self) -> xr.DataTree:
        """All results in one DataTree, a child per label."""
        tree = xr.DataTree(children=self.trees)
        tree.attrs = {"problem": json.dumps(self.problem, default=str)}
        return tree


def compare(
    network: Network,
    data: Dataset,
    schemes: Sequence[str] | None = None,
    key: jax.Array | None = None,
    *,
    progress: dict[str, ProgressCallback] | None = None,
    workers: int = 1,
) -> Comparison:
    """Run `schemes` on the same network and data, and lay their answers side by side.

    Parameters
    ----------
    schemes
        Names in :data:`analysis.schemes.registry.SCHEMES`; None for those that cover the problem and
        take seconds: sgld, nuts, langevin, the guides with the collapsed one, and the theories,
        those of a population at the data's P where they know of it. An unknown name, or a scheme
        that does not cover the prior, is a ``ValueError``.
    key
        A ``jax.random.key``, by default of 0; each scheme gets its own, folded in by its place in
        that list, so that its answer does not depend on which others run.
    progress
        Callbacks ``(done, total, text)`` by scheme.
    workers
        Schemes that run at the same time, in threads; the answers do not depend on it.

    Returns
    -------
    Comparison
        Its ``table()`` has one row a scheme: the order parameter with its standard error, and its
        deviation from that of NUTS in standard errors of the difference; the test MSE of one draw
        and of the mean, the relevance ratio, worst R-hat and ESS of functions, Pareto k̂ (guides),
        elpd by PSIS-LOO, gradient evaluations and wall time. A scheme that fails, such as SGLD at a
        step size that is too large, leaves a row with its error, and stops no other; where all
        fail, the first error is raised.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> compare(network, data, ["nngp", "mean-field"]).table().scheme.tolist()
    ['nngp', 'mean-field']
    """
    names = default_schemes(network, data) if schemes is None else list(schemes)
    if not names:
        raise ValueError("schemes must name at least one scheme, or be None for all that apply.")
    comparison = run_schemes(network, data, names, key, progress=progress, workers=workers)
    if not comparison.results:
        raise comparison.failures[0].error
    return comparison


def run_schemes(
    network: Network,
    data: Dataset,
    names: Sequence[str],
    key: jax.Array | None = None,
    *,
    progress: dict[str, ProgressCallback] | None = None,
    workers: int = 1,
) -> Comparison:
    """As :func:`compare`, for named schemes, and with failures alone where every one fails."""
    check_problem(network, data)
    checks.whole("workers", workers, 1)
    for name in names:
        check_scheme(name, network)
    key = jax.random.key(0) if key is None else key
    callbacks = progress or {}
    stopped = threading.Event()

    def run(name: str) -> SchemeResult | SchemeFailure:
        scheme_key = jax.random.fold_in(key, list(SCHEMES).index(name))

        def report(done: int, total: int, text: str) -> None:
            if stopped.is_set():
                raise CancelledError
            if name in callbacks:
                callbacks[name](done, total, text)

        try:
            return summarise(*SCHEMES[name].run(network, data, scheme_key, report))
        except CancelledError:
            raise
        except Exception as error:
            return SchemeFailure(name, network.prior.name, network.kappa, error)

    with ThreadPoolExecutor(workers) as pool:
        try:
            found = list(pool.map(run, names))
        except BaseException:
            # After Ctrl-C the others stop at their next report instead of running to their end.
            stopped.set()
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    results = tuple(one for one in found if isinstance(one, SchemeResult))
    failures = tuple(one for one in found if isinstance(one, SchemeFailure))
    return Comparison(describe_problem(network, data), results, failures)


def sentence(error: BaseException) -> str:
    """An exception in one line; the type's name too, but for a ``ValueError`` that says enough."""
    text = " ".join(str(error).split())[:500]
    if isinstance(error, ValueError) and text:
        return text
    return type(error).__name__ + (f": {text}" if text else ".")


def summarise(tree: xr.DataTree, point) -> SchemeResult:
    """A scheme with its row: the figures of its draws, or, exact, those of its fixed point."""
    diagnosis = diagnose(tree)
    row = row_of(tree, diagnosis)
    if point is not None:
        exact = point.to_dict()
        row |= {name: exact[name] for name in ("order_parameter", "test_mse_mean", "relevance_ratio")}
        row |= {"order_parameter_se": exact["error"], "test_mse_draw": exact["test_mse"]}
    return SchemeResult(tree, point, diagnosis, row)


def row_of(tree: xr.DataTree, diagnosis: Diagnosis) -> dict:
    """The row of a result, from its draws alone; None where a figure has no meaning."""
    summary = order_parameters(tree)
    row = {n: value.sel(estimate="mean").item() for n, value in summary.items() if value.ndim == 1}
    row |= {
        "kappa": json.loads(tree.attrs["network"])["kappa"],
        "scheme": tree.attrs["scheme"],
        "prior": tree.attrs["prior"],
        "order_parameter_se": summary.order_parameter.sel(estimate="se").item(),
        "r_hat_max": diagnosis.r_hat_max,
        "ess_min": diagnosis.ess_min,
        "pareto_k": diagnosis.pareto_k,
        "elpd_loo": None if diagnosis.loo is None else diagnosis.loo.elpd,
        "gradient_evaluations": int(tree.attrs["gradient_evaluations"]),
        "wall_time_s": float(tree.attrs["wall_time_s"]),
        "converged": diagnosis.converged,
    }
    return {name: json_number(row.get(name)) for name in COLUMNS}


def describe_problem(network: Network, data: Dataset) -> dict:
    """The problem as JSON-able values; κ and the prior stand in the rows."""
    declared = {name: value for name, value in describe(network).items() if name not in ("kappa", "prior")}
    return {
        **declared,
        "num_data": data.num_data,
        "num_test": len(data.x_test),
        "teacher": None if data.teacher is None else repr(data.teacher),
        "relevant": data.relevant and list(data.relevant),
        "inputs": data.names and list(data.names),
        "standardisation": data.standardisation and data.standardisation.to_dict(data.names),
    }


def _deviation(row: dict, reference: dict | None) -> float | None:
    """(m - m_NUTS)/√(se² + se_NUTS²)."""
    if reference is None or row is reference or row["order_parameter"] is None:
        return None
    error = math.hypot(row["order_parameter_se"] or 0.0, reference["order_parameter_se"])
    return (row["order_parameter"] - reference["order_parameter"]) / error


def json_number(value):
    """`value`; None for NaN and infinity."""
    return None if isinstance(value, float) and not math.isfinite(value) else value
