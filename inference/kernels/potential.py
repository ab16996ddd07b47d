"""U and ∇U of a NumPyro model, on minibatches or accumulated over blocks of the data."""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import random
from numpyro.handlers import seed, substitute, trace
from numpyro.infer.util import initialize_model, potential_energy


class ModelPotential:
    """U = -log posterior density of a NumPyro model's unconstrained values.

    One trace of the model finds the ``plates`` that subsample, ``{name: (P, B)}``; ``ValueError``
    for a latent or deterministic site in one, to which each minibatch would give another meaning.
    """

    def __init__(self, model: Callable, key, model_args: tuple, model_kwargs: dict):
        self._model = model
        sites = {}

        def declare(key, args, kwargs):
            sites.update(trace(seed(model, key)).get_trace(*args, **kwargs))

        compiled_once(declare, abstract=True)(key, model_args, model_kwargs)
        plates = {name: site["args"] for name, site in sites.items() if site["type"] == "plate"}
        self.plates = {n: (size, sub) for n, (size, sub) in plates.items() if sub not in (None, size)}
        for name, site in sites.items():
            local = {frame.name for frame in site.get("cond_indep_stack", ())} & set(self.plates)
            drawn = site["type"] == "sample" and not site["is_observed"]
            if local and (drawn or site["type"] == "deterministic"):
                raise ValueError(
                    f"site {name!r} must not be inside the subsampled plate {min(local)!r}, where only observed "
                    "sites mean the same from one minibatch to the next; move it out, or use the full batch."
                )
        # Parameters outside the posterior (numpyro.param, modules) outlive this trace: no tracers.
        self._stateless = not {"param", "mutable"} & {site["type"] for site in sites.values()}
        # Initial values and deterministic sites are those of the first B points; only U is
        # subsampled afresh. Concrete even while the caller is being traced: it outlives the trace
        # inside the kernel.
        with jax.ensure_compile_time_eval():
            first = {n: jnp.arange(sub) for n, (_, sub) in self.plates.items()}
        self.fixed = substitute(model, data=first)

    def initial_values(self, key, init_params, init_strategy, model_args: tuple, model_kwargs: dict):
        """Unconstrained values, `init_params` where given, and the map to a draw's sites."""
        found = {}

        def initialize(key, args, kwargs):
            options = {"init_strategy": init_strategy, "dynamic_args": True}
            info = initialize_model(key, self.fixed, model_args=args, model_kwargs=kwargs, **options)
            found["postprocess_fn"] = info.postprocess_fn
            return info.param_info.z

        if self._stateless:
            initialize = compiled_once(initialize, abstract=init_params is not None)
        values = initialize(key, model_args, model_kwargs)
        return values if init_params is None else init_params, found["postprocess_fn"]

    def minibatch(self, z, key, model_args: tuple, model_kwargs: dict):
        """Û and ∇Û, the log likelihood of a fresh minibatch without replacement scaled by P/B."""
        model = self._model
        if self.plates:
            keys = random.split(key, len(self.plates))
            index = {
                name: random.choice(key, size, (sub,), replace=False)
                for key, (name, (size, sub)) in zip(keys, self.plates.items(), strict=True)
            }
            model = substitute(model, data=index)
        return _energy_and_grad(model, z, model_args, model_kwargs)

    def accumulated(self, z, model_args: tuple, model_kwargs: dict):
        """U and ∇U exactly, as the mean over all minibatches of the one plate that subsamples.

            U(z) = (1/K) Σ_b Û_b(z),      b = 1, …, K = P/B

        where Û_b has the prior, and the log likelihood of block b of the data scaled by P/B: the
        cost of the full batch, with the memory of one block. B must divide P.
        """
        if len(self.plates) != 1:
            raise ValueError(
                f"gradients are accumulated over one subsampled plate, and the model has {len(self.plates)}; draw "
                "minibatches."
            )
        [(name, (size, block))] = self.plates.items()
        if size % block:
            raise ValueError(f"subsample_size must divide num_data={size} for exact gradients, got {block}.")

        def add_block(total, begin):
            model = substitute(self._model, data={name: begin + jnp.arange(block)})
            return jax.tree.map(jnp.add, total, _energy_and_grad(model, z, model_args, model_kwargs)), None

        begins = jnp.arange(0, size, block)
        first, _ = jax.eval_shape(add_block, (0.0, jax.tree.map(jnp.zeros_like, z)), begins[0])
        zero = jax.tree.map(lambda v: jnp.zeros(v.shape, v.dtype), first)
        # Unrolled once, so that the next product begins while the last block is still being added.
        total, _ = jax.lax.scan(add_block, zero, begins, unroll=2 if len(begins) > 1 else 1)
        return jax.tree.map(lambda v: v * (block / size), total)


def _energy_and_grad(model, z, model_args, model_kwargs):
    return jax.value_and_grad(partial(potential_energy, model, model_args, model_kwargs))(z)


def compiled_once(function: Callable, abstract: bool = False) -> Callable:
    """`function` as one compiled program instead of one for each operation.

    Arrays among the leaves of its arguments are arguments of the program, anything else is static.
    With `abstract` it is traced only, for its side effects.
    """

    def call(*arguments):
        leaves, tree = jax.tree.flatten(arguments)
        arrays = {i: leaf for i, leaf in enumerate(leaves) if isinstance(leaf, (jax.Array, np.ndarray))}

        def program(arrays):
            return function(*tree.unflatten([arrays.get(i, leaf) for i, leaf in enumerate(leaves)]))

        return (partial(jax.eval_shape, program) if abstract else jax.jit(program))(arrays)

    return call
