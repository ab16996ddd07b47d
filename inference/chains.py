"""Run the chains of any NumPyro kernel in compiled pieces, reporting between them."""

import copy
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import nested_attrgetter

from inference.progress import ProgressCallback
from inference.sgld import raise_divergence
from inference.tracing import TRACE_LOCK

# Pieces per phase: enough for a lively progress bar, few enough that leaving the compiled loop costs nothing.
_PIECES = 40


@dataclass
class ChainResult:
    """What a run leaves behind.

    Attributes
    ----------
    sites
        Constrained site values, each (chain, draw, ...).
    fields
        The requested state fields, each (chain, draw, ...).
    last_state
        The kernel's final state, from which a run can go on.
    gradient_evaluations
        Evaluations of ∇U over all chains, warm-up included: leapfrog steps for HMC and NUTS, else steps.
    """

    sites: dict[str, np.ndarray]
    fields: dict[str, np.ndarray]
    last_state: tuple
    gradient_evaluations: int


def run_chains(
    kernel: MCMCKernel,
    keys: jax.Array,
    model_args: tuple,
    model_kwargs: dict,
    *,
    num_warmup: int,
    num_draws: int,
    thinning: int,
    init_params,
    fields: tuple[str, ...],
    progress: ProgressCallback,
) -> ChainResult:
    """All chains of `kernel` side by side (a batch of `keys`), the same draws as :class:`numpyro.infer.MCMC`.

    One compiled program serves warm-up and sampling: it takes the number of draws and the steps per draw as
    arguments, so that a user waits for a single compilation.

    Parameters
    ----------
    kernel
        Any kernel whose ``init`` takes a batch of keys and whose ``sample`` then steps a batch of states.
    keys
        One key a chain.
    model_args, model_kwargs
        Passed to the model.
    num_warmup
        Steps before the first kept one.
    num_draws, thinning
        Draws kept per chain, each after `thinning` steps.
    init_params
        Unconstrained initial values with the chains leading.
    fields
        Names of state fields to collect at every draw; dots reach into nested fields.
    progress
        Called as ``progress(done, total, text)`` in steps.

    Raises
    ------
    DivergenceError
        When a Langevin chain leaves the finite numbers.
    """
    kernel = copy.copy(kernel)  # init stores closures over this run's data in the kernel
    step = getattr(kernel, "step", kernel.sample)
    piece = max(1, -(-num_draws // _PIECES))
    total = num_warmup + num_draws * thinning
    progress(0, total, "compiling")
    with TRACE_LOCK:
        state = kernel.init(keys, num_warmup, init_params, model_args=model_args, model_kwargs=model_kwargs)
        constrain = jax.vmap(kernel.postprocess_fn(model_args, model_kwargs))

        def collect(state):
            values = {name: nested_attrgetter(name)(state) for name in fields}
            return constrain(getattr(state, kernel.sample_field)), values

        def advance(state, draws, steps):
            buffer = jax.tree.map(
                lambda v: jnp.zeros((piece, *v.shape), v.dtype), jax.eval_shape(collect, state)
            )

            def one_step(_, carry):
                state, work = carry
                state = step(state, model_args, model_kwargs)
                return state, work + jnp.sum(getattr(state, "num_steps", jnp.ones(keys.shape, jnp.int32)))

            def one_draw(i, carry):
                state, buffer, work = carry
                state, work = jax.lax.fori_loop(0, steps, one_step, (state, work))
                return state, jax.tree.map(lambda b, v: b.at[i].set(v), buffer, collect(state)), work

            return jax.lax.fori_loop(0, draws, one_draw, (state, buffer, jnp.array(0, jnp.int32)))

        lowered = jax.jit(advance).lower(state, 1, 1)
    program = lowered.compile()

    done, work, kept = 0, 0, []
    plan = [(1, n) for n in _split(num_warmup, _PIECES)] + [
        (n, thinning) for n in _split(num_draws, _PIECES, piece)
    ]
    started = time.perf_counter()
    for draws, steps in plan:
        state, buffer, evaluations = program(state, draws, steps)
        work += int(evaluations)
        _check(kernel, state)
        if done >= num_warmup:
            kept.append(jax.tree.map(lambda b, n=draws: np.asarray(b[:n]), buffer))
        done += draws * steps
        progress(done, total, f"{done / (time.perf_counter() - started):.0f} steps/s {_energy(state)}")
    sites, values = jax.tree.map(lambda *parts: np.swapaxes(np.concatenate(parts), 0, 1), *kept)
    return ChainResult(sites, values, state, work)


def _split(count: int, pieces: int, size: int | None = None) -> list[int]:
    """`count` as a list of at most `size` each; by default in about `pieces` equal parts."""
    size = max(1, -(-count // pieces)) if size is None else size
    return [min(size, count - begin) for begin in range(0, count, size)]


def _check(kernel, state) -> None:
    # Only kernels with a raise-free step carry a sticky flag; for NUTS `diverging` concerns one trajectory.
    if hasattr(kernel, "step") and bool(state.diverging.any()):
        worst = int(jnp.argmax(state.diverging))
        raise_divergence(state.i[worst], state.step_size[worst])


def _energy(state) -> str:
    energy = getattr(state, "potential_energy", None)
    return "" if energy is None else f"U = {float(jnp.mean(energy)):.4g}"
