"""Annealed starts: chains that begin at a large, prior-like noise, which falls to the network's."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import random

from inference.kernels.divergence import check_finite
from inference.kernels.langevin import LangevinKernel
from inference.kernels.tempered import Tempered, check_temperable, with_growth
from inference.starts import check_problem, start_params
from inference.tracing import TRACE_LOCK
from models import Dataset, Network, checks


def annealed_start(
    network: Network,
    data: Dataset,
    kernel: LangevinKernel,
    key: jax.Array,
    *,
    kappa_start: float,
    num_chains: int = 4,
    num_levels: int = 20,
    steps_per_level: int = 100,
    step_growth: float = 0.0,
    start: str = "prior",
) -> dict:
    """``init_params`` for :func:`inference.sample` from chains whose κ falls to the network's.

        κ_l = κ_start (κ/κ_start)^(l/(L-1)),      l = 0, …, L-1

    with `num_levels` L ≥ 2 and `steps_per_level` ≥ 1 steps of `kernel` at each (simulated
    annealing; Kirkpatrick, Gelatt and Vecchi, *Optimization by simulated annealing*, 1983). A
    start, not a sample: how much of each mode it finds depends on the speed, so that the chains
    still have to be judged, also against those from other starts. On a collapsed network a level is
    the power (κ/κ_l)² of the evidence at the network's κ, not the evidence at κ_l.

    Parameters
    ----------
    network, data, key, num_chains, start
        As for :func:`inference.sample`.
    kernel
        A Langevin kernel without a model; it gets the full batch, and an adapting one adapts
        throughout.
    kappa_start
        κ_start ≥ κ of the network; of the order of the targets' size, the likelihood hardly
        matters.
    step_growth
        p ≥ 0: the step size is ε (κ_l/κ)^p. With p = 2 it grows as the likelihood's curvature
        falls; the prior's does not fall. For an underdamped kernel the like is p = 1. No effect
        where the kernel adapts ε.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, annealed_start
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> start = annealed_start(network, data, SGLD(step_size=1e-3), jax.random.key(1), kappa_start=3.0)
    >>> start["w"].shape
    (4, 16, 6)
    """
    check_problem(network, data)
    check_temperable(kernel)
    checks.whole("num_chains", num_chains, 1)
    checks.whole("num_levels", num_levels, 2)
    checks.whole("steps_per_level", steps_per_level, 1)
    checks.positive("kappa_start", kappa_start)
    if kappa_start < network.kappa:
        raise ValueError(
            f"kappa_start must be at least the network's kappa={network.kappa!r}, got {kappa_start!r}."
        )
    checks.finite("step_growth", step_growth)
    kernel = kernel.bind(Tempered(network))
    key_start, key_chains = random.split(key)
    init_params = start_params(network, data, key_start, num_chains, start)
    args = (jnp.asarray(data.x), jnp.asarray(data.y))
    kappas = np.geomspace(kappa_start, network.kappa, num_levels)

    def level(state, ratio):
        at_level = with_growth(kernel, ratio**step_growth)
        tempered = (ratio**-2, *args)
        state = kernel.refresh(state, tempered, {})
        return jax.lax.fori_loop(
            0, steps_per_level, lambda _, state: at_level.step(state, tempered), state
        ), None

    with TRACE_LOCK:
        keys = random.split(key_chains, num_chains)
        state = kernel.init(keys, num_levels * steps_per_level, init_params, (1.0, *args))
        ratios = jnp.asarray(kappas / network.kappa, jnp.float32)
        program = jax.jit(lambda state: jax.lax.scan(level, state, ratios)[0]).lower(state).compile()
    state = program(state)
    check_finite(kernel, state)
    return state.z
