"""Run the chains of any NumPyro kernel in compiled calls of a second, reporting in between."""

import copy
import math
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC
from numpyro.infer.mcmc import MCMCKernel
from numpyro.util import nested_attrgetter

from inference.kernels.chain import ChainKernel
from inference.kernels.divergence import check_finite
from inference.runs.progress import ProgressCallback
from inference.tracing import TRACE_LOCK

# Of the draws that one compiled call returns.
_CALL_BYTES = 4 * 2**20
# Of one compiled call: often enough for Ctrl-C and a lively bar, rarely enough to be free.
CALL_SECONDS = 1.0


class ChainResult(NamedTuple):
    """What a run leaves: ``sites`` and ``fields`` (chain, draw, ...), and the kernel's last state.

    ``gradient_evaluations`` are those of ∇U over all chains, warm-up included: leapfrog steps for
    HMC and NUTS, else steps.
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

    The ``init`` of `kernel` takes a batch of keys, one a chain, and its ``sample`` then steps a
    batch of states. After `num_warmup` steps, in which it adapts, `num_draws` draws are kept of
    each chain, each after `thinning` steps, with the state fields named in `fields` (dots reach
    into nested ones). ``state`` of all chains may be set to one stored earlier.
    """

    def __init__(
        self,
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
    ):
        self.num_warmup, self.num_draws, self.thinning = num_warmup, num_draws, thinning
        self.num_steps = num_warmup + num_draws * thinning
        each = getattr(kernel, "gradients_per_step", 1)
        self._num_chains = len(keys)
        self._kernel = kernel = copy.copy(kernel)  # init stores closures over this run's data in the kernel
        with TRACE_LOCK:
            self.state = _start(kernel, keys, num_warmup, init_params, model_args, model_kwargs)
            constrain = jax.vmap(kernel.postprocess_fn(model_args, model_kwargs))

            def collect(state):
                values = {name: nested_attrgetter(name)(state) for name in fields}
                return constrain(getattr(state, kernel.sample_field)), values

            shapes = jax.eval_shape(collect, self.state)
            size = sum(math.prod(v.shape) * v.dtype.itemsize for v in jax.tree.leaves(shapes))
            self._capacity = capacity = max(1, min(num_draws, _CALL_BYTES // max(1, size)))

            def advance(state, draws, steps):
                buffer = jax.tree.map(lambda v: jnp.zeros((capacity, *v.shape), v.dtype), shapes)

                def one_step(_, carry):
                    state, work = carry
                    state = kernel.sample(state, model_args, model_kwargs)
                    # HMC counts its leapfrog steps; other kernels take the same number every time.
                    taken = getattr(state, "num_steps", jnp.full(len(keys), each))
                    return state, work + jnp.sum(taken, dtype=work.dtype)

                def one_draw(i, carry):
                    state, buffer, work = carry
                    state, work = jax.lax.fori_loop(0, steps, one_step, (state, work))
                    return state, jax.tree.map(lambda b, v: b.at[i].set(v), buffer, collect(state)), work

                return jax.lax.fori_loop(0, draws, one_draw, (state, buffer, jnp.array(0, jnp.int32)))

            lowered = jax.jit(advance).lower(self.state, 1, 1)
        self._program = lowered.compile()

    def _tuning_cost(self, begin: int, end: int) -> int:
        """Gradients that all chains spend on finding their step sizes from step `begin` to `end`."""
        cost = getattr(self._kernel, "tuning_cost", lambda begin, end: 0)
        return self._num_chains * cost(begin, end)

    def calls(
        self, done: int = 0, seconds: float | None = None
    ) -> Iterator[tuple[int, tuple[dict, dict], bool, int]]:
        """Take the steps after the first `done`, in calls of `seconds` (:data:`CALL_SECONDS`).

        Yields the steps done, then of the last call the sites and fields (draw, chain, ...),
        whether they are draws to keep, and the gradient evaluations. How many steps one call takes
        follows the clock, which leaves no trace in the draws: the loop is the same program however
        often it is left and entered again.
        """
        budget, lengths = 1, (self._capacity, self.num_warmup, self.num_draws, self.thinning)
        while done < self.num_steps:
            draws, steps, is_draw = next_call(done, budget, *lengths)
            called = time.perf_counter()
            self.state, buffer, evaluations = self._program(self.state, draws, steps)
            work = int(evaluations) + self._tuning_cost(done, done + draws * steps)
            if isinstance(self._kernel, ChainKernel):  # whose flag stays; NUTS's concerns one trajectory
                check_finite(self._kernel, self.state)
            # A copy: what the compiled call returned is as large as its capacity.
            collected = jax.tree.map(lambda b, count=draws: np.asarray(b)[:count].copy(), buffer)
            rate = draws * steps / (time.perf_counter() - called)
            budget = int(np.clip(rate * (seconds or CALL_SECONDS), 1, 8 * budget))
            done += draws * steps
            yield done, collected, is_draw, work


def run_chains(
    *chains, progress: ProgressCallback, status: Callable[[dict], str] | None = None, **lengths
) -> ChainResult:
    """All chains of a kernel in memory, the same draws as :class:`numpyro.infer.MCMC`.

    `chains` and `lengths` are the arguments of :class:`CompiledChains`; `status` puts the current
    sites of all chains into a few words for `progress`.
    """
    progress(0, lengths["num_warmup"] + lengths["num_draws"] * lengths["thinning"], "compiling")
    compiled = CompiledChains(*chains, **lengths)
    work, kept, began = 0, [], time.perf_counter()
    for done, collected, is_draw, evaluations in compiled.calls():
        work += evaluations
        if is_draw:
            kept.append(collected)
        progress(done, compiled.num_steps, current_text(done, began, collected[0], status))
    sites, values = jax.tree.map(lambda *parts: np.swapaxes(np.concatenate(parts), 0, 1), *kept)
    return ChainResult(sites, values, compiled.state, work)


def _start(kernel, keys, num_warmup, init_params, model_args, model_kwargs):
    """The first state of all chains; ``ValueError`` for a kernel that takes one chain at a time."""
    try:
        return kernel.init(keys, num_warmup, init_params, model_args=model_args, model_kwargs=model_kwargs)
    except (AssertionError, TypeError, ValueError) as error:
        if isinstance(kernel, (HMC, ChainKernel)):
            raise
        raise ValueError(
            f"kernel {type(kernel).__name__} must take a batch of chains, which sample runs side by side; use "
            "numpyro.infer.MCMC(kernel, chain_method='sequential') for one that takes a single chain."
        ) from error


def next_call(
    done: int, budget: int, capacity: int, num_warmup: int, num_draws: int, thinning: int
) -> tuple[int, int, bool]:
    """Draws, and steps per draw, of the next call of about `budget` steps; whether to keep them.

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
    """The rate of `steps` since `began`, and the status of the last draw of `sites` (draw, ...)."""
    rate = steps / max(time.perf_counter() - began, 1e-9)
    text = f"{rate:.0f} steps/s" if rate >= 10 else f"{rate:.2g} steps/s"
    return text if status is None else f"{text} {status(jax.tree.map(lambda v: v[-1], sites))}"
