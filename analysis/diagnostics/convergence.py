"""Have the chains converged? R-hat, nested R-hat and ESS of functions, never of single weights."""

from collections.abc import Sequence
from functools import partial

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.functions import functions_of
from analysis.results.order_parameters import is_independent, standard_errors

# Vehtari et al. (2021) ask R-hat < 1.01 and bulk ESS > 400 of one quantity. The verdict here is on
# the worst of about fifty, and of fifty quantities in 4 chains of 100 independent draws the worst
# R-hat has median 1.019.
R_HAT_LIMIT = 1.02
ESS_LIMIT = 400
# From so many chains on, and with fewer draws a chain than this, R-hat asks of every chain alone
# what all of them together were run for.
_MANY_CHAINS, _SHORT_CHAIN = 16, 100
# Chains are split in halves of two draws or more.
_FEWEST_DRAWS = 4


def convergence_table(tree: xr.DataTree, superchains: Sequence[int] | None = None) -> pd.DataFrame:
    """Mean and Monte-Carlo error of every label-free function; R-hat and ESS of chains.

    For many short chains `superchains` are the numbers of the starting point of each chain. Chains
    from one starting point form a superchain; all are of one size, else a ``ValueError`` says so.
    Columns: ``mean``, ``sd``, ``mcse``; for Markov chains, not for independent draws, ``r_hat``
    (rank-normalised, split), ``ess_bulk``, ``ess_tail`` and, with `superchains`, ``nested_r_hat``

        nR-hat² = 1 + B/W,     B = Var_k(mean of superchain k),
        W = mean_k( variance between its chains + mean variance within them )

    which, unlike R-hat, can reach 1 with chains too short to be estimates of their own. They are
    NaN for a function that no chain changes, and where there are fewer than two chains (R-hat) or
    four draws a chain. Computed by arviz-stats.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Rank-normalization, folding, and localization*
    (2021); Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, *Nested R-hat* (2024).

    Examples
    --------
    >>> list(convergence_table(tree, superchains=[0, 0, 1, 1]))
    ['mean', 'sd', 'mcse', 'r_hat', 'ess_bulk', 'ess_tail', 'nested_r_hat']
    """
    functions, independent = functions_of(tree), is_independent(tree)
    columns = {
        "mean": functions.mean(),
        "sd": functions.std(),
        "mcse": standard_errors(functions, independent),
    }
    if not independent:
        with np.errstate(invalid="ignore", divide="ignore"):  # of chains that do not move
            columns["r_hat"] = arviz_stats.rhat(functions)
            columns["ess_bulk"] = arviz_stats.ess(functions, method="bulk")
            columns["ess_tail"] = arviz_stats.ess(functions, method="tail")
            if superchains is not None:
                ids = _superchain_ids(superchains, functions.sizes["chain"])
                columns["nested_r_hat"] = arviz_stats.rhat_nested(functions, superchain_ids=ids)
    table = pd.DataFrame({name: values.to_pandas() for name, values in columns.items()})
    moves = (functions.max("draw") > functions.min("draw")).any().to_pandas()
    table.loc[~moves, list(columns)[3:]] = np.nan
    return table.rename_axis("function")


def _superchain_ids(superchains: Sequence[int], num_chains: int) -> np.ndarray:
    """Superchain numbers 0, 1, … of the chains."""
    ids = np.unique(superchains, return_inverse=True)[1]
    sizes = np.bincount(ids)
    if len(ids) != num_chains or len(sizes) < 2 or np.ptp(sizes):
        rule = "at least two points, of as many chains each"
        raise ValueError(
            f"superchains must name the starting point of each of the {num_chains} chains, {rule}; "
            f"got {len(ids)} in groups of {', '.join(map(str, sizes))}."
        )
    return ids


def check_convergence(tree: xr.DataTree, table: pd.DataFrame) -> list[Check]:
    """The checks on a :func:`convergence_table`: R-hat (nested where it is there) and ESS.

    There are none for independent draws. What chains cannot show is a failed check that says why.
    """
    if "r_hat" not in table:
        return []
    chains, draws = (tree["posterior"].sizes[d] for d in ("chain", "draw"))
    return [_check_r_hat(table, chains, draws)] + [_check_ess(table, w, draws) for w in ("bulk", "tail")]


def _check_r_hat(table: pd.DataFrame, chains: int, draws: int) -> Check:
    nested = "nested_r_hat" in table
    name, values = ("nested R-hat", table["nested_r_hat"]) if nested else ("R-hat", table["r_hat"])
    make = partial(Check, name, POSTERIOR, limit=R_HAT_LIMIT, figure="convergence")
    if values.isna().all():
        why = "a single chain has none to agree with; run two or more" if chains < 2 else _why_none(draws)
        return make("failed", f"{name} cannot be judged: {why}")
    worst = float(values.max())
    if worst <= R_HAT_LIMIT:
        return make("passed", f"the {chains} chains agree on every function", value=worst)
    remedy = (
        "run longer, or look for a metastable state by starting from the prior and from the aligned state"
    )
    if not nested and chains >= _MANY_CHAINS and draws < _SHORT_CHAIN:
        many = f"{chains} chains of {draws} draws are many short chains"
        remedy = f"{many}: start groups of them from one point each and pass superchains, for nested R-hat"
    message = f"the chains disagree on {values.idxmax()} ({name} {worst:.3f}); {remedy}"
    return make("failed", message, value=worst)


def _check_ess(table: pd.DataFrame, which: str, draws: int) -> Check:
    values = table[f"ess_{which}"]
    make = partial(Check, f"ESS {which}", POSTERIOR, limit=ESS_LIMIT, figure="convergence")
    if values.isna().all():
        return make("failed", f"effective draws cannot be counted: {_why_none(draws)}")
    worst, draws = float(values.min()), f"{values.min():.0f} effective draws in"
    if worst >= ESS_LIMIT:
        return make("passed", f"at least {draws} the {which} of every function", value=worst)
    message = f"{values.idxmin()} has {draws} its {which}, below {ESS_LIMIT}; run longer"
    return make("failed", message, value=worst)


def _why_none(draws: int) -> str:
    if draws < _FEWEST_DRAWS:
        return f"chains of {draws} draws are too short; keep at least {_FEWEST_DRAWS}"
    return "no chain has moved, all its draws are the same; try other step sizes"
