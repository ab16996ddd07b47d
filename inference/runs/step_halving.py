"""How far the step size biases the answer, by halving it; and how large it may be at all."""

import copy
import math
from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jax import random
from numpyro.infer.util import potential_energy

from inference.runs.chains import run_chains
from inference.runs.observables import complete_readouts, observe
from inference.starts import check_problem, start_params
from inference.tracing import TRACE_LOCK
from models import Dataset, TwoLayerNetwork, checks

_POWER_STEPS = 60  # of the power iteration; its error in the top curvature is of the order of a per cent
_MAX_GROWTH = 4.0  # a recommendation beyond this multiple of the ε that was tried would be a guess


@dataclass(frozen=True)
class StepSizeCheck:
    """Bias of a step size ε, from runs at ε and ε/2.

    Attributes
    ----------
    step_size
        ε, the one that was checked.
    value, half_value
        Posterior means at ε and at ε/2 of ``train_mse``, ``order_parameter``, ``second_moment``
        (mean square weight) and ``potential_energy``.
    bias
        Estimated bias A(ε) - A(0) of each, 2ᵖ/(2ᵖ-1) (A(ε) - A(ε/2)).
    error
        Its Monte-Carlo standard error.
    scale
        What a bias is relative to: the size of the mean itself, 1 for the order parameter, and for
        the potential energy its thermal part, ½ a parameter.
    order
        p of a bias O(εᵖ).
    target
        Relative bias that was asked for.
    largest_stable
        ε at which the stiffest direction at the last draws becomes unstable, from the curvature
        there.
    recommended
        ε at which every relative bias, two standard errors added to its size, meets the target; at
        most half of `largest_stable`, and 4 times the ε that was checked.
    """

    step_size: float
    value: dict[str, float]
    half_value: dict[str, float]
    bias: dict[str, float]
    error: dict[str, float]
    scale: dict[str, float]
    order: int
    target: float
    largest_stable: float
    recommended: float

    @property
    def relative_bias(self) -> dict[str, float]:
        """Bias of each quantity over its scale."""
        return {name: self.bias[name] / self.scale[name] for name in self.bias}

    @property
    def resolved(self) -> dict[str, bool]:
        """Whether each bias stands out of its Monte-Carlo error by two standard errors."""
        return {name: abs(self.bias[name]) > 2 * self.error[name] for name in self.bias}

    @property
    def passed(self) -> bool:
        """Whether the checked ε meets the target already."""
        return self.recommended >= self.step_size

    def __str__(self) -> str:
        lines = [f"step size {self.step_size:.3g}, stable below {self.largest_stable:.3g}"]
        for name, relative in self.relative_bias.items():
            error = self.error[name] / self.scale[name]
            note = "" if self.resolved[name] else "  (within the noise)"
            lines.append(f"  {name:<17}{self.value[name]:>12.5g}   bias {relative:+.1%} ± {error:.1%}{note}")
        if not any(self.resolved.values()) and not self.passed:
            lines.append("  no bias resolved: a longer check would allow a larger step")
        lines.append(f"for a bias below {self.target:.3g}: step size {self.recommended:.3g}")
        return "\n".join(lines)


def check_step_size(
    kernel,
    network: TwoLayerNetwork,
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
    """Estimate the bias of a kernel's step size on functions of the network, and recommend a step size.

    Chains at ε and, with twice the steps, at ε/2 cover the same time. To leading order A(ε) = A(0)
    + c εᵖ, so that

        A(ε) - A(0) ≈ 2ᵖ/(2ᵖ - 1) (A(ε) - A(ε/2)),        p = 1: 2 (A(ε) - A(ε/2)),

    with p = 1 for SGLD, and 2 for BAOAB without minibatches. Both runs must be in equilibrium, or
    the difference shows their starts. The largest stable ε is that of the top curvature λ of M^½
    ∇²U M^½ at the last draws (power iteration on Hessian-vector products), ε < 2/λ for a Langevin
    step.

    Parameters
    ----------
    kernel
        A Langevin kernel with a constant step size; without a model, or with `network` as its
        model.
    network, data, key, num_chains, start, init_params, subsample_size
        As for :func:`inference.sample`.
    relative_bias
        Target for the recommended step size.
    num_warmup, num_samples
        Steps at ε; twice as many at ε/2.

    Raises
    ------
    ValueError
        For a schedule, a kernel without a bias (MALA), or an argument out of range.
    DivergenceError
        Where ε is too large to be checked at all.

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
    check_problem(network, data)
    checks.positive("relative_bias", relative_bias)
    checks.whole("num_warmup", num_warmup, 0)
    checks.whole("num_samples", num_samples, 4)
    checks.whole("num_chains", num_chains, 1)
    name = type(kernel).__name__
    if getattr(kernel, "bias_order", None) is None:
        raise ValueError(f"kernel must be one with a step-size bias, such as SGLD; {name} has none to check.")
    step_size = kernel.settings()["step_size"]
    if not isinstance(step_size, float):
        raise ValueError(f"step_size must be a number to be checked, got the schedule {step_size}.")
    if subsample_size is not None:
        checks.whole("subsample_size", subsample_size, 1)
    order = kernel.bias_order if subsample_size is None else 1
    key_start, key_curvature, *keys = random.split(key, 4)
    if init_params is None:
        init_params = start_params(network, data, key_start, num_chains, start)
    kernel = kernel.bind(network)
    runs = []
    for halvings, key_run in enumerate(keys):
        runs.append(
            run_chains(
                kernel.with_step_size(step_size / 2**halvings),
                random.split(key_run, num_chains),
                (data.x, data.y),
                {} if subsample_size is None else {"subsample_size": subsample_size},
                num_warmup=num_warmup * 2**halvings,
                num_draws=num_samples,
                thinning=2**halvings,
                init_params=init_params,
                fields=("potential_energy",),
                progress=lambda done, total, text: None,
            )
        )
    (value, error), (half, half_error) = (_means(network, data, run, key) for run in runs)
    factor = 2**order / (2**order - 1)
    bias = {name: factor * (value[name] - half[name]) for name in value}
    errors = {name: factor * math.hypot(error[name], half_error[name]) for name in value}
    size = sum(v[0].size for v in jax.tree.leaves(runs[0].last_state.z))
    scale = {name: abs(v) for name, v in value.items()} | {
        "order_parameter": 1.0,
        "potential_energy": size / 2,
    }
    curvature = top_curvature(kernel, data, runs[1].last_state, key_curvature)
    stable = float(kernel.stable_step_size(curvature))
    worst = max((abs(bias[name]) + 2 * errors[name]) / scale[name] for name in bias)
    recommended = step_size * min((relative_bias / worst) ** (1 / order), _MAX_GROWTH)
    return StepSizeCheck(
        step_size=step_size,
        value=value,
        half_value=half,
        bias=bias,
        error=errors,
        scale=scale,
        order=order,
        target=float(relative_bias),
        largest_stable=stable,
        recommended=min(recommended, stable / 2),
    )


def top_curvature(kernel, data: Dataset, state, key: jax.Array) -> float:
    """Largest |λ| of M^½ ∇²U M^½ over the chains of `state`, a batch of states of a bound `kernel`."""
    kernel, args = copy.copy(kernel), (jnp.asarray(data.x), jnp.asarray(data.y))
    with TRACE_LOCK:
        # The kernel that ran holds its preconditioner in a copy of its own.
        kernel.init(random.split(key, len(state.i)), 0, state.z, args)
        metric = kernel.preconditioner_of(state)
        by_chain = jax.tree.map(lambda m, z: jnp.broadcast_to(jnp.sqrt(m), z.shape), metric, state.z)
        gradient = jax.grad(partial(potential_energy, kernel.model, args, {}))

        def one(z, root, key):
            def product(v):
                scaled = jax.tree.map(jnp.multiply, root, v)
                return jax.tree.map(jnp.multiply, root, jax.jvp(gradient, (z,), (scaled,))[1])

            def iterate(_, carry):
                v = product(carry[0])
                norm = jnp.sqrt(sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(v)))
                return jax.tree.map(lambda leaf: leaf / norm, v), norm

            leaves, tree = jax.tree.flatten(z)
            keys = random.split(key, len(leaves))
            first = tree.unflatten([random.normal(k, v.shape) for k, v in zip(keys, leaves, strict=True)])
            return jax.lax.fori_loop(0, _POWER_STEPS, iterate, (first, jnp.zeros(())))[1]

        norms = jax.jit(jax.vmap(one))(state.z, by_chain, random.split(key, len(state.i)))
    return float(jnp.max(norms))


def _means(network, data, run, key) -> tuple[dict[str, float], dict[str, float]]:
    """Means of the test functions over all draws, and their Monte-Carlo standard errors."""
    import arviz_stats  # a second of import that only this check needs

    values = observe(network, data, complete_readouts(network, data, run.sites, random.fold_in(key, 4)))
    series = {name: np.asarray(values[name], float) for name in ("train_mse", "order_parameter")}
    series["second_moment"] = np.asarray(values["second_moment"], float).mean(axis=-1)
    series["potential_energy"] = np.asarray(run.fields["potential_energy"], float)
    table = xr.Dataset({name: (("chain", "draw"), v) for name, v in series.items()})
    error = arviz_stats.mcse(table)
    return {n: float(v.mean()) for n, v in series.items()}, {n: float(error[n]) for n in series}
