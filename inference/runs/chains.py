"""Run the chains of any NumPyro kernel in compiled calls of about a second, reporting between them."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import nested_attrgetter

from inference.kernels.divergence import check_finite
from inference.runs.progress import ProgressCallback, rate_text
from inference.tracing import TRACE_LOCK

# Of the draws that one compiled call returns.
_CALL_BYTES = 4 * 2**20
# Of one compiled call: often enough for Ctrl-C and a lively bar, rarely enough that leaving it is
# free.
CALL_SECONDS = 1.0


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
        Evaluations of ∇U over all chains, warm-up included: leapfrog steps for HMC and NUTS, else
        steps.
    """

    sites: dict[str, np.ndarray]
    fields: dict[str, np.ndarray]
    last_state: tuple
    gradient_evaluations: int


class CompiledChains:
    """All chains of a kernel side by side (a batch of keys), advanced by one compiled program.

    The program serves warm-up and sampling: it takes the number of draws and the steps per draw as
    arguments, so that a user waits for a single compilation, and so that where a run is cut into
    calls leaves no trace in it.

    Parameters
    ----------
    kernel
        Any kernel whose ``init`` takes a batch of keys and whose ``sample`` then steps a batch of
        states.
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
    num_draws
        Draws that are wanted of each chain.

    Attributes
    ----------
    state
        The kernel state of all chains; it may be set to one stored earlier.
    capacity
        Most draws that one call can return, so that they stay below 4 MiB: one draw at least.
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
        num_draws: int,
    ):
        self._kernel = kernel = copy.copy(kernel)  # init stores closures over this run's data in the kernel
        with TRACE_LOCK:
            self.state = kernel.init(
                keys, num_warmup, init_params, model_args=model_args, model_kwargs=model_kwargs
            )
            constrain = jax.vmap(kernel.postprocess_fn(model_args, model_kwargs))

            def collect(state):
                values = {name: nested_attrgetter(name)(state) for name in fields}
                return constrain(getattr(state, kernel.sample_field)), values

            shapes = jax.eval_shape(collect, self.state)
            size = sum(math.prod(v.shape) * v.dtype.itemsize for v in jax.tree.leaves(shapes))
            self.capacity = capacity = max(1, min(num_draws, _CALL_BYTES // max(1, size)))

            def advance(state, draws, steps):
                buffer = jax.tree.map(lambda v: jnp.zeros((capacity, *v.shape), v.dtype), shapes)

                def one_step(_, carry):
                    state, work = carry
                    state = kernel.sample(state, model_args, model_kwargs)
                    taken = getattr(state, "num_steps", jnp.ones(keys.shape, work.dtype))
                    return state, work + jnp.sum(taken, dtype=work.dtype)

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
        if hasattr(self._kernel, "step"):  # ours, whose flag stays; for NUTS it concerns one trajectory
            check_finite(self._kernel, self.state)
        # A copy: what the compiled call returned is as large as its capacity.
        return jax.tree.map(lambda b: np.asarray(b)[:draws].copy(), buffer), work


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
    lengths = {"num_warmup": num_warmup, "num_draws": num_draws, "thinning": thinning}
    total = num_warmup + num_draws * thinning
    progress(0, total, "compiling")
    options = {"num_warmup": num_warmup, "init_params": init_params, "fields": fields, "num_draws": num_draws}
    chains = CompiledChains(kernel, keys, model_args, model_kwargs, **options)
    work, kept, began = 0, [], time.perf_counter()
    for done, collected, is_draw, evaluations in calls_of(chains, 0, **lengths):
        work += evaluations
        if is_draw:
            kept.append(collected)
        progress(done, total, current_text(done, began, collected[0], status))
    sites, values = jax.tree.map(lambda *parts: np.swapaxes(np.concatenate(parts), 0, 1), *kept)
    return ChainResult(sites, values, chains.state, work)


def calls_of(
    chains: CompiledChains,
    done: int,
    *,
    num_warmup: int,
    num_draws: int,
    thinning: int,
    seconds: float | None = None,
) -> Iterator[tuple[int, tuple[dict, dict], bool, int]]:
    """Take the steps of a run after the first `done`, in compiled calls of about `seconds`.

    How many steps one call takes follows the clock. This leaves no trace in the draws: the loop
    over steps is the same program however often it is left and entered again.

    Yields
    ------
    tuple
        Steps done, then of the last call the sites and fields (draw, chain, ...), whether they are
        draws to keep, and the gradient evaluations.
    """
    budget, seconds = 1, CALL_SECONDS if seconds is None else seconds
    while done < num_warmup + num_draws * thinning:
        draws, steps, is_draw = next_call(done, budget, chains.capacity, num_warmup, num_draws, thinning)
        called = time.perf_counter()
        collected, evaluations = chains.advance(draws, steps)
        rate = draws * steps / (time.perf_counter() - called)
        budget = int(np.clip(rate * seconds, 1, 8 * budget))
        done += draws * steps
        yield done, collected, is_draw, evaluations


def next_call(
    done: int, budget: int, capacity: int, num_warmup: int, num_draws: int, thinning: int
) -> tuple[int, int, bool]:
    """Draws and steps per draw of the next compiled call of about `budget` steps, and whether its draws are kept.

    Examples
    --------
    >>> next_call(done=90, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 10, False)
    >>> next_call(done=100, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (5, 10, True)
    >>> next_call(done=103, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 7, True)
    >>> next_call(done=100, budget=4, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 4, False)
    """
    if done < num_warmup:
        return 1, min(budget, num_warmup - done), False
    draw, within = divmod(done - num_warmup, thinning)
    if within or budget < thinning:
        steps = min(budget, thinning - within)
        return 1, steps, within + steps == thinning
    return min(budget // thinning, capacity, num_draws - draw), thinning, True


def current_text(steps: int, began: float, sites: dict, status: Callable[[dict], str] | None) -> str:
    """The rate of `steps` since `began`, and the status of the last of the draws `sites` (draw, chain, ...)."""
    text = rate_text(steps, time.perf_counter() - began)
    return text if status is None else f"{text} {status(jax.tree.map(lambda v: v[-1], sites))}"
