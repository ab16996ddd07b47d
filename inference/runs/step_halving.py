"""How far the step size biases the answer, by halving it; and how large it may be at all."""

import copy
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pandas as pd
import xarray as xr
from jax import random
from numpyro.infer.util import potential_energy

from inference.kernels.step_size import power_iteration, standard_normal
from inference.runs.chains import run_chains
from inference.runs.observables import complete_readouts, observe
from inference.starts import check_problem, start_params
from inference.tracing import TRACE_LOCK
from models import Dataset, Network, checks

_POWER_STEPS = 60  # of the power iteration; its error in the top curvature is of the order of a per cent
_MAX_GROWTH = 4.0  # a recommendation beyond this multiple of the ε that was tried would be a guess


@dataclass(frozen=True, eq=False)
class StepSizeCheck:
    """Bias of a step size ε, from runs at ε and ε/2.

    `table` has the columns of :func:`extrapolate`, for ``train_mse``, ``order_parameter``,
    ``second_moment`` (mean square weight) and ``potential_energy``, of a bias O(εᵖ) with p =
    `order`. Above `largest_stable` the stiffest direction at the last draws is unstable. At
    `recommended` every relative bias, two standard errors added to its size, meets the `target`; it
    is at most half of `largest_stable`, and 4 times the `step_size` that was checked.
    """

    step_size: float
    table: pd.DataFrame
    order: int
    target: float
    largest_stable: float
    recommended: float

    @property
    def relative_bias(self) -> pd.Series:
        """Bias of each quantity over its scale."""
        return self.table.bias / self.table.scale

    @property
    def resolved(self) -> pd.Series:
        """Whether each bias stands out of its Monte-Carlo error by two standard errors."""
        return self.table.bias.abs() > 2 * self.table.se

    @property
    def passed(self) -> bool:
        """Whether the checked ε meets the target already."""
        return self.recommended >= self.step_size

    def __str__(self) -> str:
        lines = [f"step size {self.step_size:.3g}, stable below {self.largest_stable:.3g}"]
        for name, relative in self.relative_bias.items():
            row, note = self.table.loc[name], "" if self.resolved[name] else "  (within the noise)"
            error = row.se / row["scale"]
            lines.append(f"  {name:<17}{row['value']:>12.5g}   bias {relative:+.1%} ± {error:.1%}{note}")
        if not self.resolved.any() and not self.passed:
            lines.append("  no bias resolved: a longer check would allow a larger step")
        lines.append(f"for a bias below {self.target:.3g}: step size {self.recommended:.3g}")
        return "\n".join(lines)


def extrapolate(table: pd.DataFrame, order: int) -> pd.DataFrame:
    """Bias of a step size ε by Richardson extrapolation from means at ε and at ε/2.

        A(ε) - A(0) ≈ 2ᵖ/(2ᵖ - 1) (A(ε) - A(ε/2))        to leading order of A(ε) = A(0) + c εᵖ

    with p the `order`: 1 for SGLD, 2 for BAOAB without minibatches. `table` has the index
    ``function``, the means ``value`` and ``half_value``, and ``se``, the Monte-Carlo error of their
    difference. It comes back with ``bias``, its error ``se``, and ``scale``, what the bias is
    relative to: the size of the mean, 1 for the order parameter.
    """
    factor = 2**order / (2**order - 1)
    return table.assign(
        bias=factor * (table["value"] - table["half_value"]),
        se=factor * table["se"],
        scale=table["value"].abs().where(table.index != "order_parameter", 1.0),
    )


def check_step_size(
    kernel,
    network: Network,
    data: Dataset,
    key: jax.Array,
    *,
    relative_bias: float = 0.05,
    num_warmup: int = 1000,
    num_samples: int = 2000,
    num_chains: int = 4,
    start: str = "prior",
    init_params: dict | None = None,
    subsample_size: int | None = None,
) -> StepSizeCheck:
    """Estimate a step size's bias on functions of the network, and recommend a step size.

    Chains at ε and, with twice the steps, at ε/2 cover the same time; :func:`extrapolate` gives the
    bias. Both runs must be in equilibrium, or the difference shows their starts. The largest stable
    ε is that of the top curvature λ of M^½ ∇²U M^½ at the last draws (power iteration on
    Hessian-vector products), ε < 2/λ for a Langevin step; :class:`DivergenceError` where ε is too
    large to be checked at all.

    Parameters
    ----------
    kernel
        A Langevin kernel that has a bias and a constant step size; without a model, or `network`'s.
    network, data, key, num_chains, start, init_params, subsample_size
        As for :func:`inference.sample`.
    relative_bias
        Target for the recommended step size.
    num_warmup, num_samples
        Steps at ε; twice as many at ε/2.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.5)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> check = SGLD(step_size=0.01).check_step_size(network, data, jax.random.key(1))
    >>> bool(0 < check.recommended < check.largest_stable)
    True
    """
    check_problem(network, data, subsample_size)
    checks.positive("relative_bias", relative_bias)
    checks.whole("num_warmup", num_warmup, 0)
    checks.whole("num_samples", num_samples, 4)
    checks.whole("num_chains", num_chains, 1)
    name = type(kernel).__name__
    if getattr(kernel, "bias_order", None) is None:
        raise ValueError(f"kernel must be one with a step-size bias, such as SGLD; {name} has none to check.")
    step_size = kernel.settings()["step_size"]
    if not isinstance(step_size, float):
        raise ValueError(
            f"step_size must be a number to be checked, got {step_size!r}; of 'auto', a run's sample_stats hold it."
        )
    order = kernel.bias_order if subsample_size is None else 1
    key_start, key_curvature, *keys = random.split(key, 4)
    if init_params is None:
        init_params = start_params(network, data, key_start, num_chains, start)
    kernel = kernel.bind(network)
    batch = {} if subsample_size is None else {"subsample_size": subsample_size}
    runs = [
        run_chains(
            kernel.with_step_size(step_size / 2**halvings),
            random.split(key_run, num_chains),
            (data.x, data.y),
            batch,
            num_warmup=num_warmup * 2**halvings,
            num_draws=num_samples,
            thinning=2**halvings,
            init_params=init_params,
            fields=("potential_energy",),
            progress=lambda done, total, text: None,
        )
        for halvings, key_run in enumerate(keys)
    ]
    whole, half = (_means(network, data, run, key) for run in runs)
    means = {"value": whole["mean"], "half_value": half["mean"], "se": np.hypot(whole["se"], half["se"])}
    table = extrapolate(pd.DataFrame(means), order)
    # Of the potential energy its thermal part, ½ a parameter.
    table.loc["potential_energy", "scale"] = sum(v[0].size for v in jax.tree.leaves(runs[0].last_state.z)) / 2
    stable = float(kernel.stable_step_size(top_curvature(kernel, data, runs[1].last_state, key_curvature)))
    worst = ((table.bias.abs() + 2 * table.se) / table.scale).max()
    recommended = step_size * min((relative_bias / worst) ** (1 / order), _MAX_GROWTH)
    return StepSizeCheck(
        step_size, table, order, float(relative_bias), stable, float(min(recommended, stable / 2))
    )


def top_curvature(kernel, data: Dataset, state, key: jax.Array) -> float:
    """Largest |λ| of M^½ ∇²U M^½ over a batch of states of a bound `kernel`."""
    kernel, args = copy.copy(kernel), (jnp.asarray(data.x), jnp.asarray(data.y))
    gradient = jax.grad(partial(potential_energy, kernel.model, args, {}))

    def one(state, key):
        metric, first = kernel.preconditioner_of(state), standard_normal(key, state.z)
        return power_iteration(gradient, state.z, metric, first, _POWER_STEPS)[1]

    with TRACE_LOCK:
        # The kernel that ran holds its preconditioner in a copy of its own.
        kernel.init(random.split(key, len(state.i)), 0, state.z, args)
        curvatures = jax.jit(jax.vmap(one))(state, random.split(key, len(state.i)))
    return float(jnp.max(curvatures))


def _means(network, data, run, key) -> pd.DataFrame:
    """``mean`` of the test functions over all draws, and ``se``, its Monte-Carlo standard error."""
    import arviz_stats  # a second of import that only this check needs

    values = observe(network, data, complete_readouts(network, data, run.sites, random.fold_in(key, 4)))
    series = {name: values[name] for name in ("train_mse", "order_parameter")}
    series["second_moment"] = values["second_moment"].mean(axis=-1)
    series["potential_energy"] = run.fields["potential_energy"]
    draws = xr.Dataset({name: (("chain", "draw"), np.asarray(v, float)) for name, v in series.items()})
    moments = {"mean": draws.mean(), "se": arviz_stats.mcse(draws)}
    return pd.DataFrame({name: found.to_pandas() for name, found in moments.items()}).rename_axis("function")
