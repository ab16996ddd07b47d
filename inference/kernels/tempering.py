"""Parallel tempering in κ: chains that exchange places with chains at a larger noise."""

from collections import namedtuple
from collections.abc import Callable, Sequence
from functools import partial
from typing import ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from numpyro.infer.util import potential_energy
from numpyro.util import is_prng_key

from inference.kernels.chain import ChainKernel
from inference.kernels.langevin import LangevinKernel
from inference.kernels.tempered import Tempered, check_temperable, with_growth
from models import checks

TemperingState = namedtuple(
    "TemperingState",
    "i z potential_energy step_size diverging replicas swap_accept_prob swap_acceptance walker heading "
    "round_trips rng_key",
)
"""
The state of K replicas, from the posterior's κ (the first) to the largest, with fields

 - **i** - number of steps taken so far, warm-up included.
 - **z**, **potential_energy**, **step_size** - those of the first replica.
 - **diverging** - True once a replica has left the finite numbers.
 - **replicas** - states of the kernel, K leading.
 - **swap_accept_prob** - acceptance probability of the last swap of each pair of neighbours,
   (K-1,).
 - **swap_acceptance** - its mean since the end of the warm-up, (K-1,); 0 before.
 - **walker** - which walker, by its first place, is at each κ, (K,).
 - **heading** - per place: 0 for a walker that has not been at the first κ, 1 on its way up, 2
   down, (K,).
 - **round_trips** - walkers' journeys from the first κ to the last and back since the start.
 - **rng_key** - random key for the next step.
"""


class ParallelTempering(ChainKernel):
    """Replica exchange over κ: what is metastable at small κ moves at large κ.

    One step is `steps_per_swap` steps of each replica with its own kernel, then one round of swaps
    of neighbours i and j = i + 1, even i and odd i in turn, each accepted with probability

        min(1, exp[(β_i - β_j)(E_i - E_j)]),        β = (κ₀/κ)²,

    E the minus log likelihood at κ₀: for a network (1/2κ_i² - 1/2κ_j²)(SSE_i - SSE_j)/P, the
    normalising constants having cancelled. Every replica keeps its own law; the draws are those of
    the first κ. A biased kernel (SGLD) brings its bias at each κ with it. On a collapsed network E
    is minus the log evidence at κ₀, and replica i follows prior · evidence(κ₀)^β, which is not the
    collapsed posterior at κ_i: its κ only names the level.

    **References:**

    1. Swendsen and Wang, *Replica Monte Carlo simulation of spin glasses* (1986).
    2. Earl and Deem, *Parallel tempering: theory, applications, and new perspectives* (2005).

    Parameters
    ----------
    kernel
        A Langevin kernel without a model, or with the one to temper. Minibatches are refused, as E
        must be exact; a replica outside the finite numbers raises :class:`DivergenceError`.
    kappas
        κ₀ < κ₁ < …, two at least; κ₀ must be the network's own. Geometric ladders suit; watch
        ``swap_acceptance``, best at 0.2 or so and up, and ``round_trips``.
    steps_per_swap
        Steps of each replica between swaps, ≥ 1.
    step_growth
        p: replica i has the step size ε (κ_i/κ₀)^p, see :func:`annealed_start`.

    Examples
    --------
    >>> from inference import SGLD, ParallelTempering
    >>> kernel = ParallelTempering(SGLD(step_size=1e-3), kappas=[0.3, 0.5, 0.8])
    >>> kernel.gradients_per_step  # 3 replicas of 10 steps, and one more gradient each after the swaps
    33

    ``sample(network, data, kernel, key)`` then draws from the posterior of a network with
    kappa=0.3.
    """

    stats_fields: ClassVar[dict[str, str]] = LangevinKernel.stats_fields | {
        name: name for name in ("swap_acceptance", "walker", "round_trips")
    }
    subsamples: ClassVar[bool] = False

    def __init__(
        self,
        kernel: LangevinKernel,
        kappas: Sequence[float],
        steps_per_swap: int = 10,
        step_growth: float = 0.0,
    ):
        check_temperable(kernel)
        super().__init__(kernel.model)
        self.kappas = tuple(float(k) for k in checks.finite_array("kappas", kappas, 1))
        if len(self.kappas) < 2 or self.kappas[0] <= 0 or (np.diff(self.kappas) <= 0).any():
            raise ValueError(f"kappas must be two or more increasing positive numbers, got {self.kappas}.")
        checks.whole("steps_per_swap", steps_per_swap, 1)
        checks.finite("step_growth", step_growth)
        self._kernel, self._steps, self._growth = kernel, steps_per_swap, step_growth
        if self._model is not None:
            self._bind_replicas(self._model)

    @property
    def gradients_per_step(self) -> int:
        """Evaluations of ∇U in one step: after a swap, it is evaluated anew at every κ."""
        return len(self.kappas) * (self._steps + 1)

    def get_diagnostics_str(self, state):
        acceptance = ", ".join(f"{p:.2f}" for p in np.asarray(state.swap_acceptance))
        return (
            f"step size {state.step_size:.2e}, swaps accepted {acceptance}, round trips {state.round_trips}"
        )

    def bind(self, model: Callable) -> "ParallelTempering":
        """A copy of this kernel for `model`, which has its likelihood at the first κ."""
        return ParallelTempering(self._kernel.bind(model), self.kappas, self._steps, self._growth)

    def settings(self) -> dict:
        """JSON-able settings of the kernel."""
        return {
            "kernel": "ParallelTempering",
            "replicas": self._kernel.settings(),
            "kappas": list(self.kappas),
            "steps_per_swap": self._steps,
            "step_growth": float(self._growth),
        }

    def init(self, rng_key, num_warmup, init_params=None, model_args=(), model_kwargs=None):
        """Initial state, or a batch for a batch of keys; a chain's replicas start at one place."""
        if self._model is None:
            raise ValueError("ParallelTempering needs a model; call bind(model) first.")
        self._num_warmup = num_warmup
        single, count = is_prng_key(rng_key), len(self.kappas)
        keys = jax.vmap(lambda k: random.split(k, count + 1))(rng_key[None] if single else rng_key)
        own, inner = keys[:, 0], keys[:, 1:].reshape(-1, *keys.shape[2:])
        if init_params is not None:
            init_params = jax.tree.map(
                lambda v: jnp.repeat(jnp.asarray(v)[None] if single else v, count, axis=0), init_params
            )
        num_inner = num_warmup * self._steps
        replicas = self._replicas.init(inner, num_inner, init_params, (1.0, *model_args), model_kwargs)
        replicas = jax.tree.map(lambda v: v.reshape(-1, count, *v.shape[1:]), replicas)
        none = jnp.zeros(count - 1, replicas.potential_energy.dtype)
        places = jnp.arange(count)

        def init_one(replicas, rng_key):
            return TemperingState(
                i=jnp.array(0),
                **self._refreshed(replicas, model_args, model_kwargs),
                swap_accept_prob=none,
                swap_acceptance=none,
                walker=places,
                heading=jnp.zeros_like(places).at[0].set(1),
                round_trips=jnp.array(0),
                rng_key=rng_key,
            )

        state = jax.vmap(init_one)(replicas, own)
        return jax.tree.map(lambda v: v[0], state) if single else state

    def postprocess_fn(self, model_args, model_kwargs):
        return self._replicas.postprocess_fn((1.0, *model_args), model_kwargs)

    def _bind_replicas(self, model: Callable) -> None:
        kappa = getattr(model, "kappa", self.kappas[0])
        if not np.isclose(kappa, self.kappas[0], rtol=1e-6):
            raise ValueError(f"kappas must begin with the network's kappa={kappa!r}, got {self.kappas[0]!r}.")
        self._replicas = self._kernel.bind(Tempered(model))
        ratios = np.asarray(self.kappas) / self.kappas[0]
        # float32 also under x64: a wider power would widen the energies of float32 chains.
        self._powers = jnp.asarray(ratios**-2.0, jnp.float32)
        self._factors = jnp.asarray(ratios**self._growth, jnp.float32)

    @property
    def _products(self) -> tuple[int, int]:
        at_start, each = self._kernel._products
        return len(self.kappas) * at_start, len(self.kappas) * each

    def _tune_one(self, state, model_args, model_kwargs):
        def tune(replica, power):
            return self._replicas._tune_one(replica, (power, *model_args), model_kwargs)

        return state._replace(replicas=jax.vmap(tune)(state.replicas, self._powers))

    def _refresh_one(self, state, model_args, model_kwargs):
        return state._replace(**self._refreshed(state.replicas, model_args, model_kwargs))

    def _refreshed(self, replicas, model_args, model_kwargs) -> dict:
        """The replicas with U and ∇U at their current z, and what the state shows of them."""
        replicas = jax.vmap(
            lambda replica, power: self._replicas.refresh(replica, (power, *model_args), model_kwargs)
        )(replicas, self._powers)
        first = jax.tree.map(lambda v: v[0], (replicas.z, replicas.potential_energy, replicas.step_size))
        shown = dict(zip(("z", "potential_energy", "step_size"), first, strict=True))
        return shown | {"diverging": jnp.any(replicas.diverging), "replicas": replicas}

    def _misfit(self, z, model_args, model_kwargs):
        """E, minus the log likelihood at κ₀: the derivative of the tempered energy by β."""

        def energy(power):
            return potential_energy(self._replicas.model, (power, *model_args), model_kwargs, z)

        return jax.jvp(energy, (1.0,), (1.0,))[1]

    def _step_one(self, state, model_args, model_kwargs):
        def advance(replica, power, factor):
            kernel = with_growth(self._replicas, factor)
            step = partial(kernel._step_one, model_args=(power, *model_args), model_kwargs=model_kwargs)
            return jax.lax.fori_loop(0, self._steps, lambda _, replica: step(replica), replica)

        rng_key, key_swap = random.split(state.rng_key)
        replicas = jax.vmap(advance)(state.replicas, self._powers, self._factors)
        misfit = jax.vmap(lambda z: self._misfit(z, model_args, model_kwargs))(replicas.z)
        accept_prob = jnp.exp(jnp.minimum(jnp.diff(self._powers) * jnp.diff(misfit), 0.0))
        pair = jnp.arange(len(self.kappas) - 1)
        attempted = pair % 2 == state.i % 2
        accepted = attempted & (random.uniform(key_swap, pair.shape, accept_prob.dtype) < accept_prob)
        moved = jnp.pad(accepted.astype(pair.dtype), 1)
        source = jnp.arange(len(self.kappas)) + moved[1:] - moved[:-1]
        # Places are swapped, not κ, so that each κ keeps its own step size and preconditioner.
        replicas = replicas._replace(z=jax.tree.map(lambda v: v[source], replicas.z))
        heading = state.heading[source]
        heading = heading.at[-1].set(jnp.where(heading[-1] == 1, 2, heading[-1]))
        trips = state.round_trips + (heading[0] == 2)
        # Since the warm-up, pair 0 has been tried at steps of even number, pair 1 at the others.
        counts = (state.i >= self._num_warmup) & attempted
        tried = (state.i + 2 - pair % 2) // 2 - (self._num_warmup + 1 - pair % 2) // 2
        gain = jnp.where(counts, (accept_prob - state.swap_acceptance) / jnp.maximum(tried, 1), 0.0)
        return TemperingState(
            i=state.i + 1,
            **self._refreshed(replicas, model_args, model_kwargs),
            swap_accept_prob=jnp.where(attempted, accept_prob, state.swap_accept_prob),
            swap_acceptance=state.swap_acceptance + gain.astype(accept_prob.dtype),
            walker=state.walker[source],
            heading=heading.at[0].set(1),
            round_trips=trips,
            rng_key=rng_key,
        )
