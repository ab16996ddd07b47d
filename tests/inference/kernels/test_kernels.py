"""Langevin kernels beside SGLD: closed-form stationary laws of their discretised dynamics, and the
common contract.

Error bars come from the spread over independent coordinates or chains, four standard errors wide.
"""

import itertools
import json
import math
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import optax
import pytest
from numpyro.infer import MCMC
from scipy.integrate import quad
from scipy.linalg import solve_discrete_lyapunov
from scipy.stats import norm

from inference import MALA, PSGLD, SGHMC, SGLD, DivergenceError, UnderdampedLangevin, sample

SEED = 0
PRECISION = 4.0  # λ of the Gaussian below
STEP_SIZES = {SGLD: 1e-3, PSGLD: 1e-3, UnderdampedLangevin: 1e-2, SGHMC: 1e-2, MALA: 1e-3}
MINIBATCH = [SGLD, PSGLD, UnderdampedLangevin, SGHMC]
NEW = [k for k in STEP_SIZES if k is not SGLD]  # SGLD's own tests are in test_sgld.py
every_kernel = pytest.mark.parametrize("kernel_type", STEP_SIZES, ids=lambda k: k.__name__)


def gaussian(z):
    """U = λz²/2 at every coordinate of every leaf."""
    return sum(PRECISION / 2 * jnp.sum(leaf**2) for leaf in jax.tree.leaves(z))


def simulate(kernel, key, init_params, num_steps, *, warmup=0, args=(), kwargs=None, fields=("z",)):
    """State fields after each of `num_steps` steps that follow the warm-up, time leading; and the
    last state."""
    state = kernel.init(key, warmup, init_params, args, kwargs)

    def advance(state, _):
        state = kernel.step(state, args, kwargs)
        return state, {name: getattr(state, name) for name in fields}

    @jax.jit
    def run(state):
        state = jax.lax.fori_loop(0, warmup, lambda _, state: kernel.step(state, args, kwargs), state)
        return jax.lax.scan(advance, state, length=num_steps)

    state, values = run(state)
    assert not np.asarray(state.diverging).any()
    return jax.tree.map(lambda v: np.asarray(v, float), values), state


def assert_mean(values, expected, precise=0.02):
    """The mean over time (first axis) and independent copies (last axis) is `expected`, to 4
    standard errors."""
    copies = values.mean(axis=0)
    error = copies.std(ddof=1) / math.sqrt(copies.size)
    assert error < precise * max(abs(expected), 0.05)
    assert abs(copies.mean() - expected) < 4 * error, (copies.mean(), expected, error)


def copies_of(number):
    return {name: jnp.zeros(number) for name in ("u", "w")}


# --- underdamped: the linear map of one step on a Gaussian, its covariance, its lag-one covariance
# ---


def baoab_map(h, friction, scale):
    """(z, v) -> A (z, v) + b ξ for one BAOAB step on U = λz²/2."""
    s, decay = h * math.sqrt(scale), math.exp(-friction * h)
    kick, drift = np.array([[1, 0], [-s / 2 * PRECISION, 1]]), np.array([[1, s / 2], [0, 1]])
    noise = kick @ drift @ [0, math.sqrt(1 - decay**2)]
    return kick @ drift @ np.diag([1, decay]) @ drift @ kick, noise


def sghmc_map(h, friction, scale):
    """(z, v) -> A (z, v) + b ξ for one step of SGHMC on U = λz²/2."""
    s = h * math.sqrt(scale)
    matrix = np.array([[1, 0], [-s * PRECISION, 1 - h * friction]]) @ [[1, s], [0, 1]]
    matrix[1] = [-s * PRECISION, 1 - h * friction - s**2 * PRECISION]  # the friction acts on the old v
    return matrix, np.array([0, math.sqrt(2 * h * friction)])


@pytest.mark.parametrize(("h", "friction", "scale"), [(0.4, 1.0, 1.0), (0.9, 0.6, 0.7), (0.05, 3.0, 2.5)])
def test_closed_forms_of_the_underdamped_kernels_solve_the_lyapunov_equation(h, friction, scale):
    matrix, noise = baoab_map(h, friction, scale)
    assert solve_discrete_lyapunov(matrix, np.outer(noise, noise))[0, 0] == pytest.approx(1 / PRECISION)
    matrix, noise = sghmc_map(h, friction, scale)
    a, c = h * friction, h**2 * scale * PRECISION
    velocity = 1 / (1 - a / 2 - c / 4)
    cross = -h * math.sqrt(scale) / 2 * velocity
    expected = [[velocity * (1 - a / 2) / PRECISION, cross], [cross, velocity]]
    np.testing.assert_allclose(solve_discrete_lyapunov(matrix, np.outer(noise, noise)), expected)


@pytest.mark.parametrize(
    ("kernel_type", "linear_map", "h", "friction"),
    [
        pytest.param(UnderdampedLangevin, baoab_map, 0.3, 1.0, marks=pytest.mark.slow),
        (UnderdampedLangevin, baoab_map, 0.8, 2.5),
        pytest.param(SGHMC, sghmc_map, 0.3, 1.0, marks=pytest.mark.slow),
        (SGHMC, sghmc_map, 0.6, 0.8),
    ],
)
def test_stationary_law_of_the_underdamped_kernels(kernel_type, linear_map, h, friction):
    scales = {"u": 0.5, "w": 1.0}
    kernel = kernel_type(
        potential_fn=gaussian, step_size=h, friction=friction, preconditioner={"u": scales["u"]}
    )
    draws, _ = simulate(
        kernel, jax.random.key(SEED), copies_of(6000), 800, warmup=200, fields=("z", "velocity")
    )
    for name, scale in scales.items():
        matrix, noise = linear_map(h, friction, scale)
        covariance = solve_discrete_lyapunov(matrix, np.outer(noise, noise))
        z, v = draws["z"][name], draws["velocity"][name]
        assert_mean(z * z, covariance[0, 0], 0.01)
        assert_mean(v * v, covariance[1, 1], 0.01)
        assert_mean(z * v, covariance[0, 1], 0.05)
        assert_mean(z[1:] * z[:-1], (matrix @ covariance)[0, 0], 0.05)
        assert_mean(v[1:] * v[:-1], (matrix @ covariance)[1, 1], 0.05)
    if kernel_type is UnderdampedLangevin:
        assert np.mean(draws["z"]["w"] ** 2) == pytest.approx(1 / PRECISION, rel=0.01)


# --- minibatch noise that does not depend on z: the law stays linear and Gaussian ---


def noisy_model(x, batch=2):
    """U = z²/2 - z Σ_μ x_μ; a minibatch adds noise of variance N²/B (1 - B/N) var(x) to the
    gradient."""
    z = numpyro.sample("z", dist.Normal(0, 1))
    with numpyro.plate("data", len(x), subsample_size=batch) as index:
        numpyro.factor("log", x[index] * z)


def noisy_variance(kernel_type, step, friction, noise):
    """Exact stationary variance of z at λ = 1 with gradient noise of variance `noise` at every
    step."""
    if kernel_type is SGLD:
        return (2 * step + step**2 * noise) / (1 - (1 - step) ** 2)
    if kernel_type is SGHMC:
        matrix = np.array([[1, step], [-step, 1 - step * friction - step**2]])
        inputs = np.diag([0, 2 * step * friction + step**2 * noise])
    else:
        # Between steps n and n + 1 the two half kicks use one gradient, so that with u after both
        # of them z' = z + h/2 (u + v'), v' = e^(-γh) u + √(1 - e^(-2γh)) ξ, u' = v' - h (z' + η).
        decay = math.exp(-friction * step)
        spread = math.sqrt(1 - decay**2)
        drift = np.array([1, step / 2 * (1 + decay)])
        matrix = np.array([drift, [0, decay] - step * drift])
        xi = np.array([step / 2 * spread, spread - step**2 / 2 * spread])
        inputs = np.outer(xi, xi) + np.diag([0, step**2 * noise])
    return solve_discrete_lyapunov(matrix, inputs)[0, 0]


@pytest.mark.parametrize(
    "kernel_type", [pytest.param(SGLD, marks=pytest.mark.slow), UnderdampedLangevin, SGHMC]
)
def test_minibatch_noise_heats_by_the_predicted_amount(kernel_type):
    step, chains, batch = 0.3, 1500, 2
    x = jnp.array([0.5, -0.3, 0.2, 0.9, -0.6, 0.1])
    noise = 36 / batch * (1 - batch / 6) * float(jnp.var(x, ddof=1))
    options = {} if kernel_type is SGLD else {"friction": 1.2}
    kernel = kernel_type(noisy_model, step_size=step, **options)
    keys = jax.random.split(jax.random.key(SEED + 1), chains)
    draws, _ = simulate(kernel, keys, None, 1000, warmup=100, args=(x,))
    exact = noisy_variance(kernel_type, step, 1.2, noise)
    assert exact > 1.3 * noisy_variance(kernel_type, step, 1.2, 0.0)  # the noise shows
    z = draws["z"]["z"]
    mean = float(x.sum())
    assert_mean(z, mean)
    assert_mean((z - mean) ** 2, exact)


# --- pSGLD ---


def test_frozen_preconditioner_has_the_variance_of_its_own_m():
    precisions, step_size = np.array([0.25, 4.0, 25.0])[:, None], 0.1
    kernel = PSGLD(potential_fn=lambda z: jnp.sum(precisions * z**2) / 2, step_size=step_size, decay=0.98)
    start = jax.random.normal(jax.random.key(1), (3, 4000)) / precisions**0.5
    draws, state = simulate(kernel, jax.random.key(SEED), start, 800, warmup=800, fields=("z", "mean_square"))
    assert (draws["mean_square"] == draws["mean_square"][0]).all()  # frozen
    scale = 1 / (np.sqrt(draws["mean_square"][0]) + 1e-5)
    np.testing.assert_allclose(kernel.scale(state.mean_square), scale, rtol=1e-4)
    ratio = draws["z"] ** 2 * precisions * (1 - step_size * scale * precisions / 2)
    for row in range(3):
        assert_mean(ratio[:, row], 1.0)
        # In the stationary law E[(∂U)²] = E[∂²U]; the step size biases it.
        biased = precisions[row, 0] / (1 - step_size * precisions[row, 0] * np.median(scale[row]) / 2)
        assert np.median(draws["mean_square"][0, row]) == pytest.approx(biased, rel=0.25)


def test_moving_average_and_step_of_psgld():
    copies = 50_000
    kernel = PSGLD(potential_fn=gaussian, step_size=0.1, decay=0.9, floor=0.5)
    start = {"u": jnp.full(copies, 0.5), "w": jnp.linspace(1.0, 2.0, copies)}
    first = kernel.init(jax.random.key(SEED), 1, start)
    second = kernel.step(first)
    for name, z in start.items():
        gradient = PRECISION * np.asarray(z, float)
        pooled = np.mean(gradient**2)
        np.testing.assert_allclose(first.mean_square[name], pooled, rtol=1e-4)
        expected = 0.9 * pooled + 0.1 * gradient**2
        np.testing.assert_allclose(second.mean_square[name], expected, rtol=1e-4)
        scale = 1 / (0.5 + np.sqrt(expected))
        noise = (np.asarray(second.z[name]) - z + 0.1 * scale * gradient) / np.sqrt(0.2 * scale)
        # Relative standard error of the variance √(2/50000) = 0.6 %.
        assert np.mean(noise) == pytest.approx(0, abs=0.02)
        assert np.mean(noise**2) == pytest.approx(1, abs=0.026)


# --- SGLD with averaged noise ---


@pytest.mark.parametrize("relative_step", [0.1, 1.0, 1.8])
def test_averaged_noise_is_exact_on_a_gaussian_at_every_stable_step(relative_step):
    precision = 2.5

    def variance(**options):
        kernel = SGLD(
            potential_fn=lambda z: precision * jnp.sum(z**2) / 2,
            step_size=relative_step / precision,
            **options,
        )
        start = jax.random.normal(jax.random.key(1), (20_000,))
        return simulate(kernel, jax.random.key(SEED), start, 100, warmup=300)[0]["z"] ** 2 * precision

    assert_mean(variance(averaged_noise=True), 1.0)
    assert_mean(variance(), 1 / (1 - relative_step / 2))


def test_averaged_noise_shares_half_of_its_noise_with_the_next_step():
    kernel = SGLD(potential_fn=lambda z: 0.0 * jnp.sum(z["u"]), step_size=0.5, averaged_noise=True)
    states = [kernel.init(jax.random.key(SEED), 0, {"u": jnp.zeros(100_000)})]
    for _ in range(3):
        states.append(kernel.step(states[-1]))
    moves = [np.asarray(new.z["u"] - old.z["u"], float) for old, new in itertools.pairwise(states)]
    # Standard error of each 0.003 to 0.005: variance ½ of that of white noise, covariance ¼ of it,
    # then none.
    assert np.mean(moves[1] ** 2) == pytest.approx(0.5, abs=0.015)
    assert np.mean(moves[0] * moves[1]) == pytest.approx(0.25, abs=0.015)
    assert np.mean(moves[0] * moves[2]) == pytest.approx(0.0, abs=0.015)
    assert kernel.settings()["averaged_noise"] is True
    assert (kernel.bias_order, SGLD().bias_order) == (2, 1)


# --- schedules ---


SCHEDULES = {
    "own": (lambda t: 0.3 / (20 + t) ** 0.55, lambda t: 0.3 / (20 + t) ** 0.55),
    "optax": (
        optax.cosine_decay_schedule(0.04, 25),
        lambda t: 0.02 * (1 + math.cos(math.pi * min(t / 25, 1))),
    ),
}


@pytest.mark.parametrize("name", SCHEDULES)
@every_kernel
def test_every_kernel_follows_a_schedule(kernel_type, name):
    schedule, formula = SCHEDULES[name]
    options = {"adapt_step_size": False} if kernel_type is MALA else {}
    kernel = kernel_type(potential_fn=lambda z: jnp.sum(z**2) / 2, step_size=schedule, **options)
    state = kernel.init(jax.random.key(0), 5, jnp.ones(3))

    def advance(state, _):
        state = kernel.step(state)
        return state, state.step_size

    steps = jax.jit(lambda state: jax.lax.scan(advance, state, length=20)[1])(state)
    np.testing.assert_allclose(steps, [formula(t) for t in range(20)], rtol=1e-5)
    assert kernel.settings()["step_size"] == schedule.__name__


@pytest.mark.parametrize(
    ("schedule", "named"),
    [
        (lambda t: 0.1 if t < 5 else 0.01, "JAX can trace"),
        (lambda t: float(np.exp(-t)), "JAX can trace"),
        (lambda t: "0.1", "JAX can trace"),
        (lambda t: jnp.ones(2) * t, "JAX can trace"),
        (lambda t: -0.1 / (1 + t), r"which is -0\.1 at t = 0"),
        (lambda t: 1.0 / t, "which is inf at t = 0"),
        (lambda t: 0.0 * t, "which is 0 at t = 0"),
    ],
)
def test_a_schedule_has_to_be_traceable_and_positive(schedule, named):
    with pytest.raises(ValueError, match=rf"^step_size must be .*{named}"):
        SGLD(step_size=schedule)


# --- MALA ---


def skewed(z):
    """A one-dimensional target that is neither Gaussian nor symmetric."""
    return jnp.sum(z**4 / 4 - z**3 / 3 + z**2 / 4 - z / 2)


@pytest.fixture(scope="module")
def skewed_moments():
    density = lambda z: math.exp(-float(z**4 / 4 - z**3 / 3 + z**2 / 4 - z / 2))  # noqa: E731
    total = quad(density, -8, 8)[0]
    return [quad(lambda z, k=k: z**k * density(z), -8, 8)[0] / total for k in (1, 2, 3)]


@pytest.mark.parametrize("step_size", [pytest.param(0.1, marks=pytest.mark.slow), 0.3])
def test_mala_is_unbiased_and_reversible(step_size, skewed_moments):
    chains = 4000
    kernel = MALA(
        potential_fn=skewed, step_size=step_size, preconditioner=jnp.array([1.5]), adapt_step_size=False
    )
    keys = jax.random.split(jax.random.key(SEED), chains)
    start = 0.5 + 0.5 * jax.random.normal(jax.random.key(1), (chains, 1))
    draws, _ = simulate(kernel, keys, start, 800, warmup=200)
    z = draws["z"][..., 0]
    for power, moment in enumerate(skewed_moments, 1):
        assert_mean(z**power, moment)
    flow = (z[:-1] * z[1:] ** 3 - z[:-1] ** 3 * z[1:]).mean(axis=0)
    assert abs(flow.mean()) < 4 * flow.std(ddof=1) / math.sqrt(chains)


def test_acceptance_is_the_ratio_of_the_densities():
    chains, step = 500, 0.3
    scale = np.array([0.5, 2.0])
    kernel = MALA(
        potential_fn=skewed, step_size=step, preconditioner=jnp.asarray(scale), adapt_step_size=False
    )
    start = jax.random.normal(jax.random.key(1), (chains, 2))
    old = kernel.init(jax.random.split(jax.random.key(SEED), chains), 0, start)
    new = kernel.step(old)
    accepted = np.asarray((new.z != old.z).any(axis=1))
    assert 0.3 < accepted.mean() < 0.99
    z, other = np.asarray(old.z, float)[accepted], np.asarray(new.z, float)[accepted]

    def energy(z):
        return (z**4 / 4 - z**3 / 3 + z**2 / 4 - z / 2).sum(axis=1)

    def proposal(z, other):
        mean = z - step * scale * (z**3 - z**2 + z / 2 - 0.5)
        return norm.logpdf(other, mean, np.sqrt(2 * step * scale)).sum(axis=1)

    ratio = np.exp(energy(z) - energy(other) + proposal(other, z) - proposal(z, other))
    np.testing.assert_allclose(np.asarray(new.accept_prob)[accepted], np.minimum(1, ratio), rtol=2e-3)
    assert (ratio < 0.9).sum() > 20
    # A rejected proposal leaves everything as it was, but for the key.
    for before, after in (
        (old.z, new.z),
        (old.potential_energy, new.potential_energy),
        (old.z_grad, new.z_grad),
    ):
        np.testing.assert_array_equal(np.asarray(before)[~accepted], np.asarray(after)[~accepted])
    assert np.asarray(new.accept_prob).mean() == pytest.approx(accepted.mean(), abs=0.08)


@pytest.mark.parametrize("first", [1e-4, pytest.param(5.0, marks=pytest.mark.slow)])
def test_mala_adapts_to_its_target_and_then_stays(first):
    kernel = MALA(potential_fn=gaussian, step_size=first)
    keys = jax.random.split(jax.random.key(SEED), 8)
    start = 0.5 * jax.random.normal(jax.random.key(1), (8, 100))
    draws, _ = simulate(kernel, keys, start, 1500, warmup=1000, fields=("z", "accept_prob", "step_size"))
    assert (draws["step_size"] == draws["step_size"][0]).all()
    assert np.ptp(draws["step_size"][0]) > 0  # each chain has its own
    assert draws["accept_prob"].mean() == pytest.approx(0.574, abs=0.04)
    np.testing.assert_allclose(draws["accept_prob"].mean(axis=0), 0.574, atol=0.12)
    z = np.moveaxis(draws["z"], 2, 1).reshape(1500, -1)  # coordinates do not depend on each other
    assert_mean(z**2, 1 / PRECISION)


def test_mala_rejects_what_is_not_finite():
    kernel = MALA(potential_fn=lambda z: jnp.sum(z - jnp.log(z)), step_size=5.0, adapt_step_size=False)
    keys = jax.random.split(jax.random.key(SEED), 50)
    draws, state = simulate(kernel, keys, jnp.ones((50, 1)), 200, fields=("z", "accept_prob"))
    assert np.isfinite(draws["z"]).all()
    assert (draws["z"] > 0).all()
    assert (draws["accept_prob"] == 0).mean() > 0.2
    assert np.isfinite(state.z_grad).all()


def test_mala_refuses_minibatches(small_network, small_data):
    with pytest.raises(ValueError, match=r"MALA needs the exact potential energy; drop subsample_size"):
        MALA(small_network).init(
            jax.random.key(0), 0, None, (small_data.x, small_data.y), {"subsample_size": 5}
        )
    assert not MALA.subsamples
    assert all(kernel_type.subsamples for kernel_type in MINIBATCH)


# --- the contract of every kernel ---


def starts(chains=2):
    return {
        "w": 0.4 * jax.random.normal(jax.random.key(5), (chains, 8, 5)),
        "a": jax.random.normal(jax.random.key(6), (chains, 8)),
    }


@pytest.mark.parametrize("kernel_type", NEW, ids=lambda k: k.__name__)
def test_sample_gives_the_draws_of_sequential_mcmc_in_the_schema(kernel_type, small_network, small_data):
    kernel, key = kernel_type(step_size=STEP_SIZES[kernel_type]), jax.random.key(3)
    batch = 7 if kernel_type in MINIBATCH else None
    options = {"num_warmup": 10, "num_samples": 40, "num_chains": 2}
    tree = sample(
        small_network, small_data, kernel, key, init_params=starts(), subsample_size=batch, **options
    )
    # One key at a time here, all keys at once there: a batch of keys is the single chains.
    mcmc = MCMC(kernel.bind(small_network), **options, chain_method="sequential", progress_bar=False)
    args = (small_data.x, small_data.y)
    mcmc.run(jax.random.split(key)[1], *args, subsample_size=batch, init_params=starts())
    for name, values in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_allclose(tree.posterior[name], values, rtol=1e-3, atol=1e-4)
        assert np.abs(values[0] - values[1]).max() > 0.1
    assert tree.attrs["scheme"] == kernel_type.__name__.lower()
    assert tree.attrs["gradient_evaluations"] == round(2 * 50 * (7 / 30 if batch else 1))
    assert json.loads(tree.attrs["settings"])["kernel"] == kernel_type.__name__


@every_kernel
def test_same_key_same_draws_in_copies_too(kernel_type, small_network):
    kernel = kernel_type(step_size=2e-3)
    bound = kernel.bind(small_network)
    assert kernel.model is None
    assert bound.model is small_network
    settings = json.loads(json.dumps(bound.settings()))
    assert settings["kernel"] == kernel_type.__name__
    assert settings["step_size"] == 2e-3

    def last(kernel, seed):
        _, state = simulate(kernel, jax.random.key(seed), jnp.ones(3), 5, fields=("i",))
        assert set(kernel.stats_fields.values()) <= set(state._fields)
        assert int(state.i) == 5
        return np.asarray(state.z)

    kernel = kernel_type(potential_fn=gaussian, step_size=2e-3)
    expected = last(kernel, 0)
    np.testing.assert_array_equal(last(pickle.loads(pickle.dumps(kernel)), 0), expected)
    assert np.abs(last(kernel, 1) - expected).max() > 1e-4


@pytest.mark.parametrize("kernel_type", [PSGLD, UnderdampedLangevin, SGHMC], ids=lambda k: k.__name__)
def test_divergence_names_kernel_and_step_size(kernel_type, small_network, small_data):
    # The preconditioner of pSGLD shrinks as gradients grow; without a warm-up it does not adapt.
    kernel = PSGLD(step_size=300.0) if kernel_type is PSGLD else kernel_type(step_size=30.0, friction=0.01)
    step_size = f"step_size={kernel.settings()['step_size']:.3g}"
    with pytest.raises(DivergenceError, match=rf"diverged at step \d+ with {step_size}; use a smaller"):
        sample(
            small_network, small_data, kernel, jax.random.key(0), num_warmup=0, num_samples=100, num_chains=2
        )


@pytest.mark.parametrize("kernel_type", [PSGLD, UnderdampedLangevin, SGHMC], ids=lambda k: k.__name__)
def test_a_diverging_chain_stays_at_its_last_finite_state(kernel_type):
    options = {} if kernel_type is PSGLD else {"friction": 0.01}
    kernel = kernel_type(potential_fn=gaussian, step_size=100.0, **options)
    state, step = kernel.init(jax.random.key(0), 0, jnp.full(3, 5.0)), jax.jit(kernel.step)
    for _ in range(100):
        state = step(state)
    assert bool(state.diverging)
    assert int(state.i) < 100
    stopped = step(state)
    for name in set(state._fields) - {"rng_key", "tuning"}:
        np.testing.assert_array_equal(getattr(state, name), getattr(stopped, name))
        assert np.isfinite(np.asarray(getattr(state, name))).all()
    # Sticky, even where the next step would be a good one.
    good = kernel.with_step_size(1e-3).init(jax.random.key(0), 0, jnp.ones(3))
    marked = kernel.with_step_size(1e-3).step(good._replace(diverging=jnp.array(True)))
    assert bool(marked.diverging)
    np.testing.assert_array_equal(marked.z, good.z)


@every_kernel
def test_a_start_without_finite_energy_names_the_kernel(kernel_type):
    kernel = kernel_type(potential_fn=lambda z: jnp.sum(jnp.log(z)), step_size=0.1)
    with pytest.raises(ValueError, match=rf"init_params .* give {kernel_type.__name__} a potential energy"):
        kernel.init(jax.random.key(0), 1, jnp.array([-1.0]))


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: PSGLD(decay=1.0), "decay must be below 1"),
        (lambda: PSGLD(decay=0.0), "decay"),
        (lambda: PSGLD(floor=0.0), "floor"),
        (lambda: UnderdampedLangevin(friction=0.0), "friction"),
        (lambda: SGHMC(friction=-1.0), "friction"),
        (lambda: SGHMC(step_size=1.0, friction=2.0), r"friction \* step_size must be below 2"),
        (lambda: MALA(target_accept_prob=1.0), "target_accept_prob must be below 1"),
        (lambda: MALA(target_accept_prob=-0.1), "target_accept_prob"),
        (lambda: MALA(step_size=lambda t: 0.1), "adapt_step_size=False"),
        (lambda: UnderdampedLangevin(step_size=0.0), "step_size"),
        (lambda: MALA(preconditioner="hessian"), "preconditioner"),
    ],
)
def test_bad_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
