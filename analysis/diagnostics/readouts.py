"""Is the step small enough for the stiffest directions? The readouts against their exact law."""

from functools import partial

import numpy as np
import xarray as xr
from scipy.linalg import cho_factor, cho_solve, solve_triangular

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.importance import has_seen_data
from analysis.diagnostics.provenance import bias_order
from analysis.results.order_parameters import is_independent, mean_and_se
from analysis.results.predictions import network_of

# Of the variance of f at the training points, beyond which the draws are not the posterior's.
SPREAD_LIMIT = 0.25
# Standard errors by which it has to be off, so that chance does not fail a run.
_SIGMAS = 4.0
_DRAWS, _FEWEST = 200, 40
_OPERATIONS = 2e11  # ten seconds on two cores


def readout_spread(tree: xr.DataTree) -> xr.Dataset | None:
    """How far the readouts are from their exact mean given the hidden layer, and should be.

    Given w the posterior of the readouts is Normal(μ, M⁻¹) exactly, for every prior and data set
    (:func:`models.readouts.readout_posterior`). For draws of the posterior

        E[ |φᵀ(a - μ)|²/(κ²P) ] = E[ tr(φᵀM⁻¹φ)/(κ²P) ],       φ = N^(-γ) Φ (N, P)

    where the left side is ``found`` (chain, draw), the right ``expected``: the degrees of freedom
    that the data hold. Half their difference is the log likelihood, in nats, that too large a step
    costs: discretised Langevin dynamics widen the stiffest directions most, and those are of a. None
    for results without a likelihood. Up to 200 draws are looked at, evenly spaced.
    """
    if not has_seen_data(tree):
        return None
    network, posterior = network_of(tree), tree["posterior"].to_dataset()
    x, y = tree["constant_data"].x.to_numpy(), tree["observed_data"].y.to_numpy()
    chains, draws = posterior.sizes["chain"], posterior.sizes["draw"]
    width = network.widths[-1]
    work = 2 * width**2 * (len(y) + width)
    wanted = int(np.clip(_OPERATIONS / work, _FEWEST, _DRAWS))
    places = np.unique(np.linspace(0, draws - 1, max(1, wanted // chains)).astype(int))
    ridge = network.kappa**2 * len(y)
    values = {"found": np.empty((chains, len(places))), "expected": np.empty((chains, len(places)))}
    for index in np.ndindex(chains, len(places)):
        draw = posterior.isel(chain=index[0], draw=places[index[1]])
        params = {name: draw[name].to_numpy() for name in network.parameter_names}
        # In float32, as the model has them; what follows in float64.
        phi = np.asarray(network.features(params, x.astype(np.float32)), float) * width**-network.gamma
        factor = cho_factor(phi @ phi.T / ridge + np.eye(width) / network.readout_scale**2, lower=True)
        from_mean = phi.T @ (params["a"] - cho_solve(factor, phi @ y / ridge))
        half = solve_triangular(factor[0], phi, lower=True)
        values["found"][index] = np.sum(from_mean**2) / ridge
        values["expected"][index] = np.sum(half**2) / ridge
    return xr.Dataset({name: (("chain", "draw"), value) for name, value in values.items()})


def check_readouts(tree: xr.DataTree) -> list[Check]:
    """The check on :func:`readout_spread` of Markov chains; none where it says nothing."""
    spread = None if is_independent(tree) else readout_spread(tree)
    if spread is None:
        return []
    with np.errstate(invalid="ignore", divide="ignore"):  # of chains that do not move
        excess = mean_and_se(spread.found - spread.expected, independent=False)
    mean, se = (float(excess.sel(estimate=name)) for name in ("mean", "se"))
    if not (np.isfinite(se) and se > 0):  # too few draws, or all the same: R-hat and ESS say so
        return []
    expected = float(spread.expected.mean())
    relative, error = mean / expected, se / expected
    make = partial(Check, "readouts", POSTERIOR, value=relative, limit=SPREAD_LIMIT)
    if abs(mean) <= _SIGMAS * se or abs(relative) <= SPREAD_LIMIT:
        law = "f at the training points scatters as its exact law given the hidden layer"
        return [make("passed", f"{law}, {relative:+.0%} ± {error:.0%} of its variance")]
    found = (
        f"{abs(relative):.0%} {'more' if mean > 0 else 'less'} than its exact law given the hidden layer has"
    )
    cost = f"{-mean / 2:+.0f} ± {se / 2:.0f} nats of log likelihood"
    remedy = "the chains are not yet where the posterior is; run longer"
    if mean > 0 and bias_order(tree) is not None:
        remedy = "the step is too large for these data; halve it, or use nuts"
    return [make("failed", f"f at the training points has a variance {found} ({cost}): {remedy}")]
