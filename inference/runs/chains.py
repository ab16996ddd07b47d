"""Run the chains of any NumPyro kernel in compiled pieces, reporting between them."""

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import nested_attrgetter

from inference.kernels.sgld import raise_divergence
from inference.runs.progress import ProgressCallback, rate_text
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


class CompiledChains:
    """All chains of a kernel side by side (a batch of keys), advanced by one compiled program.

    The program serves warm-up and sampling: it takes the number of draws and the steps per draw as arguments, so
    that a user waits for a single compilation, and so that where a run is cut into calls leaves no trace in it.

    Parameters
    ----------
    kernel
        Any kernel whose ``init`` takes a batch of keys and whose ``sample`` then steps a batch of states.
    keys
        One key a chain.
    model_args, model_kwargs
        Passed to the model.
    num_warmup
        Steps for which the kernel adapts.
    init_params
        Unconstrained initial values with the chains leading.
    fields
        Names of state fields to collect at every draw; dots reach into nested fields.
    capacity
        Most draws that one call can return.
    max_bytes
        Bound on the bytes of these draws, which lowers the capacity to one draw at least; None for no bound.

    Attributes
    ----------
    state
        The kernel state of all chains; it may be set to one stored earlier.
    capacity
        Most draws that one call can return.
    """

    def __init__(
        self,
        kernel: MCMCKernel,
        keys: jax.Array,
        model_args: tuple,
        model_kwargs: dict,
        *,
        num_warmup: int,
        init_params,
        fields: tuple[str, ...],
        capacity: int,
        max_bytes: int | None = None,
    ):
        self._kernel = kernel = copy.copy(kernel)  # init stores closures over this run's data in the kernel
        step = getattr(kernel, "step", kernel.sample)
        with TRACE_LOCK:
            self.state = kernel.init(
                keys, num_warmup, init_params, model_args=model_args, model_kwargs=model_kwargs
            )
            constrain = jax.vmap(kernel.postprocess_fn(model_args, model_kwargs))

            def collect(state):
                values = {name: nested_attrgetter(name)(state) for name in fields}
                return constrain(getattr(state, kernel.sample_field)), values

            shapes = jax.eval_shape(collect, self.state)
            if max_bytes is not None:
                size = sum(math.prod(v.shape) * v.dtype.itemsize for v in jax.tree.leaves(shapes))
                capacity = min(capacity, max(1, max_bytes // max(1, size)))
            self.capacity = capacity

            def advance(state, draws, steps):
                buffer = jax.tree.map(lambda v: jnp.zeros((capacity, *v.shape), v.dtype), shapes)

                def one_step(_, carry):
                    state, work = carry
                    state = step(state, model_args, model_kwargs)
                    return state, work + jnp.sum(getattr(state, "num_steps", jnp.ones(keys.shape, jnp.int32)))

                def one_draw(i, carry):
                    state, buffer, work = carry
                    state, work = jax.lax.fori_loop(0, steps, one_step, (state, work))
                    return state, jax.tree.map(lambda b, v: b.at[i].set(v), buffer, collect(state)), work

                return jax.lax.fori_loop(0, draws, one_draw, (state, buffer, jnp.array(0, jnp.int32)))

            lowered = jax.jit(advance).lower(self.state, 1, 1)
        self._program = lowered.compile()

    def advance(self, draws: int, steps: int) -> tuple[tuple[dict, dict], int]:
        """Take ``draws * steps`` steps: the sites and fields after every `steps` of them, and their cost.

        Returns
        -------
        tuple
            ``(sites, fields)`` with leading dimensions (draw, chain), and the gradient evaluations.

        Raises
        ------
        DivergenceError
            When a chain of a kernel of this package leaves the finite numbers.
        """
        self.state, buffer, evaluations = self._program(self.state, draws, steps)
        work = int(evaluations)
        _check(self._kernel, self.state)
        return jax.tree.map(lambda b: np.asarray(b)[:draws], buffer), work


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
    status: Callable[[dict], str] | None = None,
) -> ChainResult:
    """All chains of `kernel` in memory, the same draws as :class:`numpyro.infer.MCMC`.

    Parameters
    ----------
    kernel, keys, model_args, model_kwargs, init_params, fields
        See :class:`CompiledChains`.
    num_warmup
        Steps before the first kept one.
    num_draws, thinning
        Draws kept per chain, each after `thinning` steps.
    progress
        Called as ``progress(done, total, text)`` in steps.
    status
        From the current sites of all chains to a few words for the progress; None for none.

    Raises
    ------
    DivergenceError
        When a Langevin chain leaves the finite numbers.
    """
    piece = max(1, -(-num_draws // _PIECES))
    total = num_warmup + num_draws * thinning
    progress(0, total, "compiling")
    chains = CompiledChains(
        kernel,
        keys,
        model_args,
        model_kwargs,
        num_warmup=num_warmup,
        init_params=init_params,
        fields=fields,
        capacity=piece,
    )
    done, work, kept = 0, 0, []
    plan = [(1, n) for n in _split(num_warmup, _PIECES)] + [
        (n, thinning) for n in _split(num_draws, _PIECES, piece)
    ]
    started = time.perf_counter()
    for draws, steps in plan:
        collected, evaluations = chains.advance(draws, steps)
        work += evaluations
        if done >= num_warmup:
            kept.append(collected)
        done += draws * steps
        text = rate_text(done, time.perf_counter() - started)
        progress(done, total, text if status is None else f"{text} {status(last_draw(collected[0]))}")
    sites, values = jax.tree.map(lambda *parts: np.swapaxes(np.concatenate(parts), 0, 1), *kept)
    return ChainResult(sites, values, chains.state, work)


def last_draw(sites: dict) -> dict:
    """The last of draws (draw, chain, ...)."""
    return {name: value[-1] for name, value in sites.items()}


def _split(count: int, pieces: int, size: int | None = None) -> list[int]:
    """`count` as a list of at most `size` each; by default in about `pieces` equal parts."""
    size = max(1, -(-count // pieces)) if size is None else size
    return [min(size, count - begin) for begin in range(0, count, size)]


def _check(kernel, state) -> None:
    # Only kernels with a raise-free step carry a sticky flag; for NUTS `diverging` concerns one trajectory.
    if hasattr(kernel, "step") and bool(state.diverging.any()):
        worst = int(jnp.argmax(state.diverging))
        raise_divergence(state.i[worst], state.step_size[worst], type(kernel).__name__)
