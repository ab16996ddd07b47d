"""Results with known answers for the tests of the diagnostics: exact posterior draws, and ways to
spoil them."""

import jax
import numpy as np

from inference.runs.datatree import build_tree
from models import Dataset, TwoLayerNetwork

NETWORK = TwoLayerNetwork(input_dim=3, width=4, kappa=0.5)
NUM_DATA, NUM_TEST = 30, 40
CHAINS, DRAWS = 4, 300
_POOL = 20_000


def function(params, x):
    """f of networks (..., N, d), (..., N) at inputs (P, d), in NumPy."""
    hidden = np.maximum(np.einsum("...nd,pd->...np", params["w"], x), 0)
    return np.einsum("...n,...np->...p", params["a"], hidden) / params["a"].shape[-1] ** 0.5


def prior_networks(rng, *shape, network=NETWORK):
    """Independent networks from the isotropic prior of a network, leading dimensions `shape`."""
    shape = (*shape, network.width)
    w = rng.normal(0, network.input_dim**-0.5, (*shape, network.input_dim))
    return {"w": w, "a": rng.normal(size=shape)}


def noise():
    """κ√P."""
    return NETWORK.kappa * NUM_DATA**0.5


def problem(rng, test_noise=True):
    """Data drawn from the model: truth from the prior, targets with the model's noise."""
    # On a sphere: no point has so much leverage that leaving it out is beyond reweighting.
    x, x_test = (rng.normal(size=(num, 3)) for num in (NUM_DATA, NUM_TEST))
    x, x_test = (3**0.5 * v / np.linalg.norm(v, axis=1, keepdims=True) for v in (x, x_test))
    truth = prior_networks(rng)
    y = function(truth, x) + noise() * rng.normal(size=NUM_DATA)
    y_test = function(truth, x_test) + test_noise * noise() * rng.normal(size=NUM_TEST)
    return Dataset(x, y, x_test, y_test, relevant=(0,))


def posterior_networks(rng, data, count=CHAINS * DRAWS):
    """Exact, independent posterior draws, by rejection from the prior."""
    kept = []
    while sum(len(k["a"]) for k in kept) < count:
        pool = prior_networks(rng, _POOL)
        log_like = -0.5 * np.sum((function(pool, data.x) - data.y) ** 2, axis=1) / noise() ** 2
        # The pool's own maximum stands for the bound: with so many draws it is as good as reached.
        accepted = np.log(rng.uniform(size=_POOL)) < log_like - log_like.max()
        kept.append({name: value[accepted] for name, value in pool.items()})
    joined = {name: np.concatenate([k[name] for k in kept])[:count] for name in kept[0]}
    return {name: value.reshape(CHAINS, -1, *value.shape[1:]) for name, value in joined.items()}


def log_joint(data, params):
    """log p(y, θ) up to a constant."""
    log_like = -0.5 * np.sum((function(params, data.x) - data.y) ** 2, axis=-1) / noise() ** 2
    squares = NETWORK.input_dim * np.sum(params["w"] ** 2, axis=(-2, -1)) + np.sum(params["a"] ** 2, axis=-1)
    return log_like - 0.5 * squares


def nuts_stats(rng, data, params):
    """sample_stats of a sampler that draws its energies independently."""
    lp = log_joint(data, params)
    size = params["w"][0, 0].size + params["a"][0, 0].size
    return {
        "lp": lp,
        "energy": -lp + 0.5 * rng.chisquare(size, lp.shape),
        "diverging": np.zeros(lp.shape, bool),
        "n_steps": np.full(lp.shape, 7),
    }


def tree_of(data, params, scheme="nuts", stats=None, independent=False, start="prior", network=NETWORK):
    """A result in the schema."""
    return build_tree(
        network,
        data,
        params,
        scheme=scheme,
        settings={"kernel": "SGLD", "step_size": 0.1} if scheme == "sgld" else {},
        seed=jax.random.key(0),
        wall_time_s=1.0,
        gradient_evaluations=1,
        independent_draws=independent,
        sample_stats=stats,
        extra_attributes={"start": start},
    )


def good_run(seed):
    """Data from the model, and a run of NUTS that drew from the exact posterior."""
    rng = np.random.default_rng(seed)
    data = problem(rng)
    params = posterior_networks(rng, data)
    return data, params, tree_of(data, params, stats=nuts_stats(rng, data, params))


def second_run(data, seed, start="aligned", scheme="nuts"):
    """Another such run on the same data."""
    rng = np.random.default_rng(seed)
    params = posterior_networks(rng, data)
    return tree_of(data, params, scheme, nuts_stats(rng, data, params), start=start)


def hmc_on_a_funnel(centred, step=0.4, num_steps=16, warmup=200):
    """sample_stats of HMC on Neal's funnel: v ~ N(0, 9), x_i ~ N(0, exp(v)), i = 1 … 9, or in v/3
    and x exp(-v/2)."""

    def potential(z):
        v, square = z[:, 0], (z[:, 1:] ** 2).sum(axis=1)
        return v**2 / 18 + 4.5 * v + 0.5 * np.exp(-v) * square if centred else 0.5 * (v**2 + square)

    def gradient(z):
        if not centred:
            return z
        v, scaled = z[:, :1], np.exp(-z[:, :1]) * z[:, 1:]
        along = v / 9 + 4.5 - 0.5 * (scaled * z[:, 1:]).sum(axis=1, keepdims=True)
        return np.concatenate([along, scaled], axis=1)

    rng = np.random.default_rng(1)
    z = rng.normal(size=(CHAINS, 10))
    energy, diverging = np.empty((CHAINS, DRAWS)), np.zeros((CHAINS, DRAWS), bool)
    for t in range(-warmup, DRAWS):
        momentum = rng.normal(size=z.shape)
        before = potential(z) + 0.5 * (momentum**2).sum(axis=1)
        new = z
        with np.errstate(all="ignore"):  # a trajectory that diverges overflows
            momentum = momentum - 0.5 * step * gradient(new)
            for _ in range(num_steps):
                new = new + step * momentum
                momentum = momentum - step * gradient(new)
            momentum = momentum + 0.5 * step * gradient(new)
            error = potential(new) + 0.5 * (momentum**2).sum(axis=1) - before
        error = np.where(np.isfinite(error), error, np.inf)
        accepted = rng.uniform(size=CHAINS) < np.exp(-np.maximum(error, 0))
        z = np.where(accepted[:, None], new, z)
        if t >= 0:
            energy[:, t], diverging[:, t] = before, error > 1000
    return {"energy": energy, "diverging": diverging}
