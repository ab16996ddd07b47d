"""Diagonal preconditioners for Langevin kernels."""

import jax
import jax.numpy as jnp
import numpy as np
from numpyro.distributions.transforms import biject_to
from numpyro.handlers import seed, trace

# Enough prior draws for a scale; any positive preconditioner leaves the target unchanged.
_PRIOR_DRAWS = 256


def prior_variances(model, model_args=(), model_kwargs=None) -> dict[str, jax.Array]:
    """Prior variance of each latent site's unconstrained value, one number a site.

    Estimated from 256 prior draws under a fixed key, averaged over the elements of the site, so
    that a hierarchical prior counts with its marginal variance and every chain gets the same
    preconditioner.
    """

    def unconstrained_draw(key):
        sites = trace(seed(model, key)).get_trace(*model_args, **(model_kwargs or {}))
        return {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in sites.items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    @jax.jit
    def variances(key):
        draws = jax.vmap(unconstrained_draw)(jax.random.split(key, _PRIOR_DRAWS))
        return {name: jnp.var(value, axis=0).mean() for name, value in draws.items()}

    # Concrete even while the caller is being traced: they outlive the trace in the kernel.
    with jax.ensure_compile_time_eval():
        return variances(jax.random.key(0))


def check_preconditioner(preconditioner, potential_fn) -> None:
    """``ValueError`` for a string that is not ``"prior"``, and for that one without a model."""
    if isinstance(preconditioner, str) and preconditioner not in ("auto", "prior"):
        raise ValueError(f"preconditioner must be 'auto', None, 'prior' or a dict, got {preconditioner!r}.")
    if isinstance(preconditioner, str) and preconditioner == "prior" and potential_fn is not None:
        raise ValueError("preconditioner='prior' needs a model; give the variances of a potential_fn.")


def balanced(variance, curvature):
    """M = √(v/c), between the scale v of the softest directions and 1/c, that of the stiffest ones.

    v is the prior variance, c the mean curvature of U, which the prior's, 1/v, bounds from below:
    without data M = v.
    """
    return jnp.sqrt(variance / jnp.maximum(curvature, 1 / variance))


def broadcast_preconditioner(preconditioner, z):
    """`preconditioner` as a pytree like `z`: ones where None or, in a dict, a site is left out."""
    if preconditioner is None:
        return jax.tree.map(lambda v: np.ones((), jnp.result_type(v)), z)
    if isinstance(preconditioner, dict) and isinstance(z, dict):
        unknown = set(preconditioner) - set(z)
        if unknown:
            raise ValueError(
                f"preconditioner names unknown sites {sorted(unknown)}; the sites are {sorted(z)}."
            )
        preconditioner = {name: preconditioner.get(name, 1.0) for name in z}
    if jax.tree.structure(preconditioner) != jax.tree.structure(z):
        raise ValueError(
            "preconditioner must be a dict from site names to variances, or for a potential_fn a pytree like its "
            f"argument, got {type(preconditioner).__name__}."
        )
    return jax.tree.map(_scale_like, preconditioner, z)


def _scale_like(scale, v):
    if isinstance(scale, jax.core.Tracer):
        return jnp.asarray(scale, jnp.result_type(v))
    # In NumPy, so that the values stay concrete where parallel chains trace the caller.
    scale = np.asarray(scale, jnp.result_type(v))
    if not np.all(np.isfinite(scale) & (scale > 0)):
        raise ValueError("preconditioner must hold positive finite variances.")
    pairs = zip(reversed(scale.shape), reversed(np.shape(v)), strict=False)
    if scale.ndim > np.ndim(v) or any(m not in (1, n) for m, n in pairs):
        raise ValueError(
            f"preconditioner must hold one variance a site or one per element: shape {scale.shape} does not "
            f"broadcast to {np.shape(v)}."
        )
    return scale
