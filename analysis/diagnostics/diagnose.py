"""Can a result be trusted? Convergence judged on functions, never on single weights."""

import warnings
from dataclasses import dataclass, field

import arviz_stats
import numpy as np
import pandas as pd
import xarray as xr
from arviz_stats.base import array_stats

from analysis.results.order_parameters import group, is_independent

# Vehtari et al. (2021) ask R-hat < 1.01 and bulk ESS > 400 of one quantity. The verdict here is on the worst of about
# fifty, and of fifty quantities in 4 chains of 100 independent draws the worst R-hat has median 1.019.
R_HAT_LIMIT = 1.02
ESS_LIMIT = 400
# Vehtari et al. (2024).
PARETO_K_LIMIT = 0.7

_TEST_POINTS = 10
_LARGEST_NEURONS = 5


@dataclass(frozen=True)
class Diagnosis:
    """The verdict on one result.

    Attributes
    ----------
    table
        One row per function: mean, sd, mcse, and for Markov chains r_hat, ess_bulk, ess_tail.
    r_hat_max, ess_min
        The worst rank-normalised R-hat and bulk ESS over the table; None for independent draws.
    pareto_k
        For guides, k̂ of the importance ratios posterior/guide (Yao et al. 2018); None for chains.
    loo
        PSIS-LOO (``arviz.ELPDDataLOO``) with pointwise values; None where it has no meaning.
    converged
        Whether every check that applies passed.
    messages
        One sentence per check that failed, with the remedy.
    """

    table: pd.DataFrame
    r_hat_max: float | None
    ess_min: float | None
    pareto_k: float | None
    loo: object | None
    converged: bool
    messages: list[str] = field(default_factory=list)


def diagnose(tree: xr.DataTree) -> Diagnosis:
    """Diagnose a result on functions that do not depend on the labels of the neurons.

    Weights are exchangeable between neurons and flip sign together, so that R-hat, ESS and means of single
    weights say nothing. The functions are: f at ten test points, the order parameter m, train and test MSE, the
    log density, log of the precisions ρ_j, second moments of the inputs, and the largest neuron norms.

    Parameters
    ----------
    tree
        A result in the schema.

    Returns
    -------
    Diagnosis
        R-hat is left out for independent draws, which have none.

    Notes
    -----
    Rank-normalised R-hat and ESS: Vehtari, Gelman, Simpson, Carpenter and Bürkner (2021). Pareto k̂ of a
    variational posterior: Yao, Vehtari, Simpson and Gelman, *Yes, but did it work?* (2018); high values are
    expected of a mean-field guide on a multimodal posterior. PSIS-LOO of a guide takes its draws as posterior
    draws; fixed points of population theories have seen no data, so LOO has no meaning for them.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(1), num_warmup=10, num_samples=20)
    >>> diagnose(tree).converged  # twenty steps are not enough
    False
    """
    functions = functions_of(tree)
    independent = is_independent(tree)
    table = pd.DataFrame({"mean": _flat(functions.mean()), "sd": _flat(functions.std())})
    messages, r_hat_max, ess_min = [], None, None
    if independent:
        table["mcse"] = table["sd"] / np.sqrt(functions.sizes["chain"] * functions.sizes["draw"])
    else:
        table["mcse"] = _flat(arviz_stats.mcse(functions))
        table["r_hat"] = _flat(arviz_stats.rhat(functions))
        table["ess_bulk"] = _flat(arviz_stats.ess(functions, method="bulk"))
        table["ess_tail"] = _flat(arviz_stats.ess(functions, method="tail"))
        r_hat_max, ess_min = _finite(table["r_hat"].max()), _finite(table["ess_bulk"].min())
        messages += _convergence_messages(table, r_hat_max, ess_min)
    pareto_k = _guide_pareto_k(tree)
    if pareto_k is not None and pareto_k > PARETO_K_LIMIT:
        messages.append(
            f"Pareto k̂ = {pareto_k:.2f} > {PARETO_K_LIMIT}: the guide is not close to the posterior; "
            "compare with a sampler."
        )
    return Diagnosis(table, r_hat_max, ess_min, pareto_k, leave_one_out(tree), not messages, messages)


def functions_of(tree: xr.DataTree) -> xr.Dataset:
    """The label-free functions of every draw, one scalar variable each (chain, draw)."""
    values = group(tree, "order_parameters").astype(float)
    f = group(tree, "predictions").f.astype(float)
    picked = {name: values[name] for name in ("order_parameter", "train_mse", "test_mse")}
    picked |= {f"f[{p}]": f.isel(test=p, drop=True) for p in range(min(_TEST_POINTS, f.sizes["test"]))}
    for j in range(values.sizes["input"]):
        picked[f"second_moment[{j}]"] = values.second_moment.isel(input=j, drop=True)
    for rank in range(min(_LARGEST_NEURONS, values.sizes["neuron_rank"])):
        picked[f"neuron_norm[{rank}]"] = values.neuron_norm.isel(neuron_rank=rank, drop=True)
    stats = tree["sample_stats"] if "sample_stats" in tree.children else {}
    for name in ("lp", "log_p"):
        if name in stats:
            picked["log_density"] = stats[name].astype(float)
    if "rho" in tree["posterior"]:
        log_rho = np.log(tree["posterior"].rho.astype(float))
        if "neuron" in log_rho.dims:  # a precision for every weight: neurons have no order
            log_rho = log_rho.mean("neuron")
        picked |= {f"log_rho[{j}]": log_rho.isel(input=j, drop=True) for j in range(log_rho.sizes["input"])}
    return xr.Dataset(picked)


def leave_one_out(tree: xr.DataTree):
    """PSIS-LOO with pointwise values, or None for a result that has not seen the data."""
    if "log_likelihood" not in tree.children or tree.attrs.get("population", 0):
        return None
    with warnings.catch_warnings():
        # A high Pareto k is reported in the result and the table instead of on standard error.
        warnings.simplefilter("ignore", UserWarning)
        return arviz_stats.loo(tree, pointwise=True)


def _guide_pareto_k(tree: xr.DataTree) -> float | None:
    stats = tree["sample_stats"] if "sample_stats" in tree.children else {}
    if "log_q" not in stats:
        return None
    log_ratios = (stats["log_p"] - stats["log_q"]).to_numpy().astype(float).ravel()
    # As for log likelihoods, whose leave-one-out ratios are 1/p(y|θ), psislw takes minus the log of the ratios.
    return _finite(array_stats.psislw(-log_ratios)[1])


def _convergence_messages(table: pd.DataFrame, r_hat_max, ess_min) -> list[str]:
    messages = []
    if r_hat_max is None or r_hat_max > R_HAT_LIMIT:
        messages.append(
            f"R-hat of {table['r_hat'].idxmax()} is {table['r_hat'].max():.3f} > {R_HAT_LIMIT}: the chains disagree; "
            "run longer, or look for a metastable state by starting from the prior and from the aligned state."
        )
    if ess_min is None or ess_min < ESS_LIMIT:
        messages.append(
            f"ESS of {table['ess_bulk'].idxmin()} is {table['ess_bulk'].min():.0f} < {ESS_LIMIT}: run longer."
        )
    return messages


def _flat(dataset: xr.Dataset) -> dict[str, float]:
    return {name: float(value) for name, value in dataset.data_vars.items()}


def _finite(value) -> float | None:
    return float(value) if np.isfinite(value) else None
