"""Have the chains converged? R-hat, nested R-hat and ESS of functions and log scales, never of single weights."""

from collections.abc import Sequence

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.diagnose import ESS_LIMIT, R_HAT_LIMIT, functions_of
from analysis.results.order_parameters import is_independent

# From so many chains on, and with fewer draws a chain than this, R-hat asks of every chain alone what all of them
# together were run for.
_MANY_CHAINS, _SHORT_CHAIN = 16, 100


def convergence_table(tree: xr.DataTree, superchains: Sequence[int] | None = None) -> pd.DataFrame:
    """R-hat and effective sample sizes of every label-free function of a sampler's result.

    Parameters
    ----------
    tree
        A result of :func:`inference.sample`.
    superchains
        For many short chains: the number of the starting point of each chain. Chains from one starting point
        form a superchain, and all superchains must be of the same size.

    Returns
    -------
    pandas.DataFrame
        Index ``function``; columns ``mean``, ``sd``, ``mcse``, ``r_hat`` (rank-normalised, split), ``ess_bulk``,
        ``ess_tail`` and, with `superchains`, ``nested_r_hat``

            nR-hat² = 1 + B/W,     B = Var_k(mean of superchain k),
            W = mean_k( variance between its chains + mean variance within them )

        which, unlike R-hat, can reach 1 with chains too short to be estimates of their own. A function that is the
        same in every draw has none of these.

    Raises
    ------
    ValueError
        For independent draws, which have no R-hat; for superchains that do not fit the chains.

    Notes
    -----
    Vehtari, Gelman, Simpson, Carpenter and Bürkner, *Rank-normalization, folding, and localization* (2021);
    Margossian, Hoffman, Sountsov, Riou-Durand, Vehtari and Gelman, *Nested R-hat* (2024). Computed by arviz-stats.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(1), num_warmup=10, num_samples=20)
    >>> list(convergence_table(tree, superchains=[0, 0, 1, 1]))
    ['mean', 'sd', 'mcse', 'r_hat', 'ess_bulk', 'ess_tail', 'nested_r_hat']
    """
    if is_independent(tree):
        raise ValueError("tree holds independent draws, which have no R-hat; pass a sampler's result.")
    functions = functions_of(tree)
    columns = {
        "mean": functions.mean(),
        "sd": functions.std(),
        "mcse": arviz_stats.mcse(functions),
        "r_hat": arviz_stats.rhat(functions),
        "ess_bulk": arviz_stats.ess(functions, method="bulk"),
        "ess_tail": arviz_stats.ess(functions, method="tail"),
    }
    if superchains is not None:
        ids = check_superchains(superchains, functions.sizes["chain"])
        columns["nested_r_hat"] = arviz_stats.rhat_nested(functions, superchain_ids=ids)
    table = pd.DataFrame(
        {name: {k: float(v) for k, v in values.data_vars.items()} for name, values in columns.items()}
    )
    return table.rename_axis("function")


def check_superchains(superchains: Sequence[int], num_chains: int) -> np.ndarray:
    """Superchain numbers 0, 1, … of the chains; ``ValueError`` unless there are several, all of one size."""
    given = np.asarray(superchains)
    if given.shape != (num_chains,):
        raise ValueError(
            f"superchains must name the starting point of each of the {num_chains} chains, got shape {given.shape}."
        )
    ids = np.unique(given, return_inverse=True)[1]
    sizes = np.bincount(ids)
    if len(sizes) < 2 or len(set(sizes.tolist())) > 1:
        raise ValueError(
            f"superchains must be at least two groups of one size, got sizes {sizes.tolist()}; "
            "start the same number of chains from each point."
        )
    return ids


def check_convergence(tree: xr.DataTree, table: pd.DataFrame) -> list[Check]:
    """The checks on a :func:`convergence_table`: R-hat (nested where it is there), bulk and tail ESS."""
    return [_check_r_hat(tree, table), *(_check_ess(table, tail) for tail in ("bulk", "tail"))]


def _check_r_hat(tree: xr.DataTree, table: pd.DataFrame) -> Check:
    nested = "nested_r_hat" in table
    column, name = ("nested_r_hat", "nested R-hat") if nested else ("r_hat", "R-hat")
    chains, draws = (tree["posterior"].sizes[d] for d in ("chain", "draw"))
    common = {"name": name, "concern": POSTERIOR, "limit": R_HAT_LIMIT, "figure": "convergence"}
    if table[column].isna().all():
        return Check(
            status="failed",
            message=f"{name} cannot be computed from {draws} draws of {chains} chains",
            **common,
        )
    worst = float(table[column].max())
    if worst <= R_HAT_LIMIT:
        return Check(
            status="passed", value=worst, message=f"the {chains} chains agree on every function", **common
        )
    remedy = (
        "run longer, or look for a metastable state by starting from the prior and from the aligned state"
    )
    if not nested and chains >= _MANY_CHAINS and draws < _SHORT_CHAIN:
        remedy = (
            f"{chains} chains of {draws} draws are many short chains: start groups of them from one point each "
            "and pass superchains, for nested R-hat"
        )
    function = table[column].idxmax()
    message = f"the chains disagree on {function} ({name} {worst:.3f}); {remedy}"
    return Check(status="failed", value=worst, message=message, **common)


def _check_ess(table: pd.DataFrame, which: str) -> Check:
    values = table[f"ess_{which}"]
    worst = float(values.min()) if values.notna().any() else 0.0
    common = {"name": f"ESS {which}", "concern": POSTERIOR, "value": worst, "limit": ESS_LIMIT}
    if worst >= ESS_LIMIT:
        message = f"at least {worst:.0f} effective draws in the {which} of every function"
        return Check(status="passed", message=message, figure="convergence", **common)
    function = values.idxmin() if values.notna().any() else "every function"
    message = f"{function} has {worst:.0f} effective draws in its {which}, below {ESS_LIMIT}; run longer"
    return Check(status="failed", message=message, figure="convergence", **common)
