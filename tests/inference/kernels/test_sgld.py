"""SGLD against the closed-form stationary law of the discretised dynamics, and as a NumPyro
kernel."""

import copy
import math
import os
import pickle
import subprocess
import sys
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.handlers import condition
from numpyro.infer import HMC, MCMC, Gibbs
from scipy.linalg import solve_discrete_lyapunov

from inference import SGLD, DivergenceError, sample
from inference.runs.chains import run_chains
from models import TwoLayerNetwork


def run(kernel, key=0, args=(), *, num_warmup=0, num_samples=100, **options):
    """MCMC after its run; a seed or a key, and the options of both MCMC and its run."""
    run_options = {
        k: options.pop(k) for k in ("init_params", "extra_fields", "subsample_size") if k in options
    }
    options.setdefault("chain_method", "vectorized")
    mcmc = MCMC(kernel, num_warmup=num_warmup, num_samples=num_samples, progress_bar=False, **options)
    mcmc.run(jax.random.key(key) if isinstance(key, int) else key, *args, **run_options)
    return mcmc


def variance_error(variance, r, num):
    """Standard error of the mean square of `num` draws of a Gaussian AR(1) chain with coefficient
    r.

    The squares are correlated with r^(2k) at lag k, so that `num` draws count as num (1 - r²)/(1 +
    r²).
    """
    return variance * math.sqrt(2 * (1 + r**2) / ((1 - r**2) * num))


def mean_error(variance, r, num):
    """Standard error of the mean of `num` draws of an AR(1) chain with coefficient r."""
    return math.sqrt(variance * (1 + r) / ((1 - r) * num))


def gaussian(z):
    """U = λz²/2 with λ = 4 at every coordinate of every leaf."""
    return sum(2.0 * jnp.sum(leaf**2) for leaf in jax.tree.leaves(z))


# --- constant steps on a Gaussian: the variance is 1/(λ(1 - εMλ/2)) ---


@pytest.mark.parametrize("step_size", [0.03, 0.375, pytest.param(0.125, marks=pytest.mark.slow)])
def test_variance_and_autocorrelation_of_constant_step_langevin(step_size):
    precision, coordinates, draws = 4.0, 12_000, 600
    r = 1 - step_size * precision
    exact = 1 / (precision * (1 - step_size * precision / 2))
    kernel = SGLD(potential_fn=gaussian, step_size=step_size)
    mcmc = run(kernel, num_warmup=100, num_samples=draws, init_params=jnp.zeros(coordinates))
    z = np.asarray(mcmc.get_samples(), float)
    error = variance_error(exact, r, z.size)
    assert error < 0.0025 * exact  # the tolerance of 1 % is four standard errors
    assert np.mean(z**2) == pytest.approx(exact, rel=0.01)
    assert abs(exact * precision - 1) > 0.05  # and the discretisation shows: the unbiased variance would fail
    # The lag-one regression coefficient of an AR(1) chain has standard error √((1 - r²)/n).
    lag_one = np.sum(z[1:] * z[:-1]) / np.sum(z[:-1] ** 2)
    assert abs(lag_one - r) < 4 * math.sqrt((1 - r**2) / z[1:].size)
    assert abs(np.mean(z)) < 4 * mean_error(exact, r, z.size)


def test_preconditioner_scales_drift_and_noise():
    precision, coordinates, draws, step_size = 4.0, 12_000, 600, 0.1
    preconditioner = {"u": 0.3, "v": np.full(coordinates, 2.0)}
    kernel = SGLD(potential_fn=gaussian, step_size=step_size, preconditioner=preconditioner)
    start = {name: jnp.zeros(coordinates) for name in ("u", "v", "w")}
    z = run(kernel, num_warmup=100, num_samples=draws, init_params=start).get_samples()
    for name, scale in (("u", 0.3), ("v", 2.0), ("w", 1.0)):
        r = 1 - step_size * scale * precision
        exact = 1 / (precision * (1 - step_size * scale * precision / 2))
        assert variance_error(exact, r, z[name].size) < 0.0025 * exact
        assert np.mean(np.asarray(z[name], float) ** 2) == pytest.approx(exact, rel=0.01)
        values = np.asarray(z[name], float)
        lag_one = np.sum(values[1:] * values[:-1]) / np.sum(values[:-1] ** 2)
        assert abs(lag_one - r) < 4 * math.sqrt((1 - r**2) / values.size)


def test_prior_preconditioner_is_the_prior_variance_of_the_unconstrained_value():
    def model():
        numpyro.sample("wide", dist.Normal(0, 3).expand([400]).to_event(1))
        numpyro.sample("positive", dist.LogNormal(1.0, 0.5).expand([400]).to_event(1))

    kernel = SGLD(model, step_size=1e-3, preconditioner="prior")
    kernel.init(jax.random.key(0), 0)
    # Averages over 256 draws of 400 elements: a relative standard error of √(2/(256·400)) = 0.4 %.
    assert float(kernel._scale["wide"]) == pytest.approx(9.0, rel=0.018)
    assert float(kernel._scale["positive"]) == pytest.approx(0.25, rel=0.018)


# --- a conjugate network: identity activation, fixed hidden layer, Gaussian readouts ---


class Conjugate:
    """Readouts of a linear network with a fixed hidden layer: their posterior is Gaussian in closed
    form."""

    def __init__(self, width=4, num_data=24):
        rng = np.random.default_rng(5)
        self.x = rng.normal(size=(num_data, 3))
        self.y = self.x @ [1.0, -0.5, 0.3] + 0.3 * rng.normal(size=num_data)
        self.network = TwoLayerNetwork(3, width, kappa=0.35, activation="identity", readout_scale=1.3)
        w = rng.normal(size=(width, 3))
        self.model = condition(self.network, {"w": jnp.asarray(w)})
        self.phi = self.x @ w.T / width**0.5
        self.noise = 0.35**2 * num_data
        self.precision = self.phi.T @ self.phi / self.noise + np.eye(width) / 1.3**2
        self.mean = np.linalg.solve(self.precision, self.phi.T @ self.y / self.noise)
        self.eigenvalues, self.eigenvectors = np.linalg.eigh(self.precision)

    def coordinates(self, a):
        """Deviations of readout draws from the posterior mean, in the eigenbasis of the
        precision."""
        return (np.asarray(a, float) - self.mean) @ self.eigenvectors

    def covariance(self, step_size, batch):
        """Exact stationary covariance, in the eigenbasis, of Langevin steps with minibatches of
        size `batch`.

        Sampling B of P points without replacement gives the gradient the covariance P²/B (1 - B/P)
        times the sample covariance of the per-point gradients φ(φ·a - y)/(κ²P); it is itself linear
        in the covariance of a, so that iterating the recursion C <- (1 - ελ) C (1 - ελ) + 2ε + ε²
        noise(C) finds the fixed point.
        """
        num, width = self.phi.shape
        phi, residual = self.phi @ self.eigenvectors, self.phi @ self.mean - self.y
        drift = 1 - step_size * self.eigenvalues
        covariance, old = np.diag(1 / self.eigenvalues), np.zeros((width, width))
        centred = np.eye(num) - 1 / num
        while np.abs(covariance - old).max() > 1e-10:
            old, factor = covariance, np.linalg.cholesky(covariance)
            gradients = [residual[:, None] * phi] + [(phi @ factor[:, [j]]) * phi for j in range(width)]
            spread = sum(g.T @ centred @ g for g in gradients) / (num - 1) / self.noise**2
            noise = num**2 / batch * (1 - batch / num) * spread
            covariance = old * np.outer(drift, drift) + 2 * step_size * np.eye(width) + step_size**2 * noise
        return covariance


@pytest.fixture(scope="module")
def conjugate():
    return Conjugate()


def test_conjugate_network_full_batch(conjugate):
    step_size, chains, draws = 0.04, 400, 1500
    assert 0.3 < step_size * conjugate.eigenvalues[-1] < 1.5  # a bias that shows, far from the divergence
    mcmc = run(
        SGLD(conjugate.model, step_size=step_size),
        args=(conjugate.x, conjugate.y),
        num_warmup=400,
        num_samples=draws,
        num_chains=chains,
    )
    deviation = conjugate.coordinates(mcmc.get_samples()["a"])
    for value, eigenvalue in zip(deviation.T, conjugate.eigenvalues, strict=True):
        r = 1 - step_size * eigenvalue
        exact = 1 / (eigenvalue * (1 - step_size * eigenvalue / 2))
        assert abs(value.mean()) < 4 * mean_error(exact, r, value.size)
        assert abs(np.mean(value**2) - exact) < 4 * variance_error(exact, r, value.size)
    top = np.mean(deviation[:, -1] ** 2) * conjugate.eigenvalues[-1]
    assert top > 1 / (1 - step_size * conjugate.eigenvalues[-1] / 2) - 0.05
    correlation = np.corrcoef(deviation.T) - np.eye(4)
    # Distinct eigen-directions are independent; a product of AR(1) chains is AR(1) with the product
    # of the r.
    r = np.abs(1 - step_size * conjugate.eigenvalues)
    rr = np.outer(r, r)
    assert (np.abs(correlation) < 4.5 * np.sqrt((1 + rr) / ((1 - rr) * len(deviation)))).all()


@pytest.mark.parametrize("step_size", [0.04, pytest.param(0.004, marks=pytest.mark.slow)])
def test_conjugate_network_minibatch(conjugate, step_size):
    batch, chains, draws = 6, 400, 1500
    eigenvalues = conjugate.eigenvalues
    exact = np.diag(conjugate.covariance(step_size, batch))
    full = 1 / (eigenvalues * (1 - step_size * eigenvalues / 2))
    np.testing.assert_allclose(np.diag(conjugate.covariance(step_size, len(conjugate.y))), full, rtol=1e-6)
    # Four neurons see three inputs: the first eigen-direction feels no data, the others the noise
    # of the batches.
    assert (exact[1:] > full[1:]).all()
    mcmc = run(
        SGLD(conjugate.model, step_size=step_size),
        key=2,
        args=(conjugate.x, conjugate.y),
        subsample_size=batch,
        num_warmup=int(16 / step_size),
        num_samples=draws * 2,
        thinning=2,
        num_chains=chains,
    )
    deviation = conjugate.coordinates(mcmc.get_samples()["a"])
    for value, eigenvalue, variance in zip(deviation.T, eigenvalues, exact, strict=True):
        # Chains are independent: their own spread gives the standard error.
        per_chain = value.reshape(chains, -1)
        for moment, expected in ((per_chain, 0.0), (per_chain**2, variance)):
            means = moment.mean(axis=1)
            assert abs(means.mean() - expected) < 4 * means.std(ddof=1) / math.sqrt(chains)
        if step_size == 0.004:  # small steps: the minibatch moments are the full-batch posterior's
            assert np.mean(value**2) * eigenvalue == pytest.approx(1.0, abs=0.12)


# --- minibatches ---


def test_minibatch_gradient_is_unbiased(small_network, small_data):
    num, batch = 4000, 7
    start = {
        "w": jax.random.normal(jax.random.key(5), (8, 5)),
        "a": jax.random.normal(jax.random.key(6), (8,)),
    }
    repeated = jax.tree.map(lambda v: jnp.broadcast_to(v, (num, *v.shape)), start)
    args = (small_data.x, small_data.y)
    kernel = SGLD(small_network, step_size=1e-3)
    keys = jax.random.split(jax.random.key(0), num)
    estimate = kernel.init(keys, 0, repeated, args, {"subsample_size": batch})
    full = kernel.init(jax.random.key(1), 0, start, args, {})
    pairs = [(estimate.potential_energy, full.potential_energy)]
    pairs += [(estimate.z_grad[name], full.z_grad[name]) for name in start]
    for values, expected in pairs:
        values, expected = np.asarray(values, float), np.asarray(expected, float)
        error = values.std(axis=0, ddof=1) / math.sqrt(num)
        assert np.max(error) > 0
        # Where the gradient of every batch is the same, only rounding separates the two.
        assert (np.abs(values.mean(axis=0) - expected) < 4.5 * error + 1e-4 * (1 + np.abs(expected))).all()


def test_minibatches_are_fresh_at_every_step_and_differ_between_chains():
    def model(x):
        z = numpyro.sample("z", dist.Normal(0, 1))
        with numpyro.plate("data", 10, subsample_size=3) as index:
            numpyro.factor("log", x[index] * z)

    x = 2.0 ** jnp.arange(10)
    mcmc = run(
        SGLD(model, step_size=1e-6),
        args=(x,),
        num_samples=50,
        num_chains=2,
        init_params={"z": jnp.zeros(2)},
        extra_fields=("z_grad.z",),
    )
    z = np.asarray(mcmc.get_samples(group_by_chain=True)["z"])
    # U = z²/2 - (10/3) z Σ_{batch} x: powers of two as x spell out which points the batch holds.
    batch_sum = (z - np.asarray(mcmc.get_extra_fields(group_by_chain=True)["z_grad.z"])) * 3 / 10
    seen = []
    for chain in batch_sum:
        codes = np.rint(chain).astype(int)
        np.testing.assert_allclose(chain, codes, atol=0.2)
        seen.append(codes)
        assert {int(c).bit_count() for c in codes} == {3}  # three distinct points in every batch
        assert len(set(codes.tolist())) > 25  # of 120 equally likely ones
        assert (np.bitwise_or.reduce(codes)) == 1023  # every point is used
    assert not np.array_equal(seen[0], seen[1])


# --- schedules, warm-up, continuation ---


def schedule(t):
    return 0.1 / (10.0 + t)


def test_schedule_follows_the_step_number_over_warm_up_and_continuation():
    mcmc = run(
        SGLD(potential_fn=gaussian, step_size=schedule),
        num_warmup=20,
        num_samples=30,
        init_params=jnp.ones(3),
        extra_fields=("step_size", "i"),
    )
    expected = schedule(np.arange(20, 50))
    np.testing.assert_allclose(mcmc.get_extra_fields()["step_size"], expected, rtol=1e-6)
    np.testing.assert_array_equal(mcmc.get_extra_fields()["i"], np.arange(21, 51))
    mcmc.post_warmup_state = mcmc.last_state
    mcmc.run(mcmc.last_state.rng_key, init_params=jnp.ones(3), extra_fields=("step_size",))
    np.testing.assert_allclose(mcmc.get_extra_fields()["step_size"], schedule(np.arange(50, 80)), rtol=1e-6)


def test_scheduled_step_size_enters_the_step():
    kernel = SGLD(potential_fn=gaussian, step_size=schedule)
    state = kernel.init(jax.random.key(0), 0, jnp.zeros(100_000))
    for t in (0, 1):
        before = state
        state = kernel.step(state)
        noise = np.asarray(state.z - before.z + schedule(t) * before.z_grad, float)
        # Variance 2ε with relative standard error √(2/100000) = 0.45 %; the schedule changes by 9 %
        # a step.
        assert np.mean(noise**2) == pytest.approx(2 * schedule(t), rel=0.018)


def test_continuation_from_the_post_warmup_state_is_the_run_in_one_piece(small_network, small_data):
    args = (small_data.x, small_data.y)
    whole = run(SGLD(small_network, step_size=1e-3), args=args, num_warmup=10, num_samples=40, num_chains=2)
    mcmc = MCMC(
        SGLD(small_network, step_size=1e-3),
        num_warmup=10,
        num_samples=20,
        num_chains=2,
        chain_method="vectorized",
        progress_bar=False,
    )
    mcmc.warmup(jax.random.key(0), *args)
    assert mcmc.post_warmup_state.i.tolist() == [10, 10]
    mcmc.run(mcmc.post_warmup_state.rng_key, *args)
    first = mcmc.get_samples(group_by_chain=True)["w"]
    mcmc.post_warmup_state = mcmc.last_state
    mcmc.run(mcmc.post_warmup_state.rng_key, *args)
    second = mcmc.get_samples(group_by_chain=True)["w"]
    np.testing.assert_allclose(
        np.concatenate([first, second], axis=1), whole.get_samples(group_by_chain=True)["w"], rtol=1e-5
    )


# --- chains, seeds, thinning ---


def test_sequential_and_vectorized_chains_are_the_same_and_distinct(small_network, small_data):
    draws = {
        method: run(
            SGLD(small_network, step_size=1e-3, preconditioner="prior"),
            args=(small_data.x, small_data.y),
            subsample_size=10,
            num_warmup=10,
            num_samples=50,
            num_chains=2,
            chain_method=method,
        ).get_samples(group_by_chain=True)
        for method in ("sequential", "vectorized")
    }
    for name, values in draws["sequential"].items():
        np.testing.assert_allclose(values, draws["vectorized"][name], rtol=2e-4, atol=2e-5)
        assert np.abs(values[0] - values[1]).max() > 0.1


PARALLEL = """
import jax, numpy as np, numpyro
numpyro.set_host_device_count(2)
from numpyro.infer import MCMC
from inference import SGLD
from models import SparseParity, TwoLayerNetwork
assert jax.local_device_count() == 2
data = SparseParity(5, 2).sample(jax.random.key(3), 30, 20)
network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3)
draws = {}
for method in ("parallel", "vectorized"):
    kernel = SGLD(network, step_size=1e-3, preconditioner="prior")
    mcmc = MCMC(kernel, num_warmup=10, num_samples=50, num_chains=2, chain_method=method, progress_bar=False)
    mcmc.run(jax.random.key(0), data.x, data.y, subsample_size=10)
    draws[method] = mcmc.get_samples(group_by_chain=True)
for name, values in draws["parallel"].items():
    np.testing.assert_allclose(values, draws["vectorized"][name], rtol=2e-4, atol=2e-5)
print("same draws")
"""


@pytest.mark.process
def test_parallel_chains_are_the_same():
    # A process of its own: the number of host devices is fixed once JAX has started.
    result = subprocess.run([sys.executable, "-c", PARALLEL], capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-2000:]
    assert "same draws" in result.stdout


def test_same_seed_same_draws_and_other_seed_other_draws(small_network, small_data):
    def draws(seed):
        kernel = SGLD(small_network, step_size=1e-3)
        args = (small_data.x, small_data.y)
        return np.asarray(run(kernel, seed, args, num_warmup=10, num_samples=20).get_samples()["w"])

    np.testing.assert_array_equal(draws(1), draws(1))
    assert np.abs(draws(1) - draws(2)).max() > 0.1


def test_thinning_keeps_every_kth_draw(small_network, small_data):
    options = {"args": (small_data.x, small_data.y), "num_warmup": 7, "num_samples": 30}
    every = run(SGLD(small_network, step_size=1e-3), **options).get_samples()["w"]
    third = run(SGLD(small_network, step_size=1e-3), **options, thinning=3).get_samples()["w"]
    np.testing.assert_allclose(third, every[2::3], rtol=1e-5)


def test_extra_fields_are_those_of_the_draw(small_network, small_data):
    mcmc = run(
        SGLD(small_network, step_size=1e-3),
        args=(small_data.x, small_data.y),
        num_samples=5,
        extra_fields=("potential_energy", "step_size", "z_grad.a"),
    )
    fields, draws = mcmc.get_extra_fields(), mcmc.get_samples()
    np.testing.assert_allclose(fields["step_size"], 1e-3)
    assert not np.asarray(fields["diverging"]).any()
    for t in range(5):
        params = {k: v[t] for k, v in draws.items()}
        density, _ = numpyro.infer.util.log_density(small_network, (small_data.x, small_data.y), {}, params)
        assert float(fields["potential_energy"][t]) == pytest.approx(-float(density), rel=1e-5)
    assert fields["z_grad.a"].shape == (5, 8)


def test_draws_are_constrained_and_deterministic_sites_follow(small_data):
    from models import ARD

    network = TwoLayerNetwork(5, 8, 0.3, prior=ARD())
    draws = run(
        SGLD(network, step_size=1e-4), args=(small_data.x, small_data.y), num_samples=20
    ).get_samples()
    assert (np.asarray(draws["rho"]) > 0).all()
    expected = draws["w_base"] / np.sqrt(0.25 + draws["rho"])[:, None, :]
    np.testing.assert_allclose(draws["w"], expected, rtol=1e-5)


# --- the driver of sample() ---


@pytest.mark.parametrize(
    ("make", "thinning"),
    [
        (lambda model: SGLD(model, step_size=1e-3, preconditioner="prior"), 1),
        (lambda model: SGLD(model, step_size=1e-3), 4),
        (lambda model: HMC(model, num_steps=5, trajectory_length=None), 2),
    ],
    ids=["sgld", "sgld-thinned", "hmc-thinned"],
)
def test_driver_gives_the_draws_of_mcmc(make, thinning, small_network, small_data):
    key, args = jax.random.key(11), (small_data.x, small_data.y)
    start = {
        "w": 0.4 * jax.random.normal(jax.random.key(5), (3, 8, 5)),
        "a": jax.random.normal(jax.random.key(6), (3, 8)),
    }
    ours = run_chains(
        make(small_network),
        jax.random.split(key, 3),
        args,
        {},
        num_warmup=40,
        num_draws=60 // thinning,
        thinning=thinning,
        init_params=start,
        fields=("potential_energy",),
        progress=lambda done, total, text: None,
    )
    theirs = run(
        make(small_network),
        key,
        args,
        num_warmup=40,
        num_samples=60,
        thinning=thinning,
        num_chains=3,
        init_params=start,
        extra_fields=("potential_energy",),
    )
    expected = theirs.get_samples(group_by_chain=True)
    for name in ("w", "a"):
        assert ours.sites[name].shape == expected[name].shape
        np.testing.assert_allclose(ours.sites[name], expected[name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(
        ours.fields["potential_energy"],
        theirs.get_extra_fields(group_by_chain=True)["potential_energy"],
        rtol=1e-3,
    )


# --- as a citizen of NumPyro ---


def test_diagnostics_string_and_progress_bar(small_network, small_data, capsys, monkeypatch):
    for name in ("CI", "PYTEST_XDIST_WORKER"):  # NumPyro shows no bar where it finds these
        monkeypatch.delenv(name, raising=False)
    kernel = SGLD(small_network, step_size=0.00123)
    mcmc = MCMC(kernel, num_warmup=5, num_samples=20, progress_bar=True)
    mcmc.run(jax.random.key(0), small_data.x, small_data.y)
    text = kernel.get_diagnostics_str(mcmc.last_state)
    assert "step size 1.23e-03" in text
    assert f"{float(mcmc.last_state.potential_energy):.4g}" in text
    assert "step size 1.23e-03" in capsys.readouterr().err


def test_kernel_copies_and_pickles_after_a_run(small_network, small_data):
    kernel = SGLD(small_network, step_size=1e-3, preconditioner="prior")
    args = (small_data.x, small_data.y)
    expected = run(kernel, args=args, num_warmup=10, num_samples=20).get_samples()["w"]
    for again in (pickle.loads(pickle.dumps(kernel)), copy.deepcopy(kernel), copy.copy(kernel)):
        np.testing.assert_array_equal(
            run(again, args=args, num_warmup=10, num_samples=20).get_samples()["w"], expected
        )
    mcmc = pickle.loads(pickle.dumps(run(kernel, args=args, num_warmup=10, num_samples=20)))
    np.testing.assert_array_equal(mcmc.get_samples()["w"], expected)


def test_bind_leaves_the_original_unbound(small_network):
    kernel = SGLD(step_size=1e-3)
    bound = kernel.bind(small_network)
    assert kernel.model is None
    assert bound.model is small_network
    assert bound.settings() == {"kernel": "SGLD", "step_size": 1e-3, "preconditioner": None}
    assert SGLD(step_size=schedule).settings()["step_size"] == "schedule"


def test_two_blocks_of_gibbs_have_their_exact_stationary_covariance():
    # U = x²/2 + (y - x)²/2, blocks x then y, each one Langevin step at the current value of the
    # other: a linear Gaussian map v' = A v + B ξ, whose covariance solves a discrete Lyapunov
    # equation.
    eps, copies, draws = 0.2, 2000, 400

    def model():
        x = numpyro.sample("x", dist.Normal(jnp.zeros(copies), 1).to_event(1))
        numpyro.sample("y", dist.Normal(x, 1).to_event(1))

    kernel = Gibbs([(SGLD(model, step_size=eps), ["x"]), (SGLD(model, step_size=eps), ["y"])])
    samples = run(kernel, num_warmup=100, num_samples=draws).get_samples()
    first = np.array([[1 - 2 * eps, eps], [0, 1]])
    second = np.array([[1, 0], [eps, 1 - eps]])
    noise = math.sqrt(2 * eps) * np.stack([second @ [1.0, 0.0], [0.0, 1.0]], axis=1)
    exact = solve_discrete_lyapunov(second @ first, noise @ noise.T)
    x, y = (np.asarray(samples[name], float) for name in ("x", "y"))
    for value, expected in ((x * x, exact[0, 0]), (x * y, exact[0, 1]), (y * y, exact[1, 1])):
        per_copy = value.mean(axis=0)  # the copies are independent
        error = per_copy.std(ddof=1) / math.sqrt(copies)
        assert error < 0.01 * expected
        assert abs(per_copy.mean() - expected) < 4 * error


# --- divergence ---


def test_divergence_in_sample_names_the_step_size(small_network, small_data):
    with pytest.raises(
        DivergenceError, match=r"diverged at step \d+ with step_size=5; use a smaller"
    ) as info:
        sample(
            small_network,
            small_data,
            SGLD(step_size=5.0),
            jax.random.key(0),
            num_warmup=100,
            num_samples=100,
            num_chains=2,
        )
    assert isinstance(info.value, ValueError)


@pytest.mark.parametrize("chains", [1, 2])
def test_divergence_in_plain_mcmc_is_marked_and_leaves_finite_draws(
    small_network, small_data, chains, capsys
):
    mcmc = run(
        SGLD(small_network, step_size=5.0),
        args=(small_data.x, small_data.y),
        num_warmup=0,
        num_samples=200,
        num_chains=chains,
        chain_method="vectorized",
    )
    diverging = mcmc.get_extra_fields(group_by_chain=True)["diverging"]
    assert diverging.shape == (chains, 200)
    assert diverging[:, -1].all()
    assert not np.diff(diverging.astype(int), axis=1).min() < 0  # for good
    assert all(np.isfinite(value).all() for value in mcmc.get_samples().values())
    mcmc.print_summary()
    assert f"Number of divergences: {int(diverging.sum())}" in capsys.readouterr().out


def test_a_step_calls_nothing_on_the_host(small_network, small_data):
    args = (small_data.x, small_data.y)
    kernel = SGLD(small_network, step_size=1e-3)
    state = kernel.init(jax.random.key(0), 0, None, args)
    program = str(jax.make_jaxpr(lambda state: kernel.sample(state, args, {}))(state))
    assert "callback" not in program


def test_chains_are_the_same_under_vmap(small_network, small_data):
    """As a chain method, and around whole runs for several data sets."""
    args = (small_data.x, small_data.y)
    options = {"num_warmup": 10, "num_samples": 20}
    draws = {
        method: run(
            SGLD(small_network, step_size=1e-3), args=args, num_chains=2, chain_method=method, **options
        ).get_samples(group_by_chain=True)
        for method in (jax.vmap, "vectorized")
    }
    for name, values in draws[jax.vmap].items():
        np.testing.assert_allclose(values, draws["vectorized"][name], rtol=2e-4, atol=2e-5)

    def one_run(y):
        kernel = SGLD(small_network, step_size=1e-3, preconditioner="prior")
        return run(kernel, args=(small_data.x, y), **options).get_samples()["w"]

    targets = jnp.stack([small_data.y, -small_data.y])
    for values, y in zip(jax.vmap(one_run)(targets), targets, strict=True):
        np.testing.assert_allclose(values, one_run(y), rtol=2e-4, atol=2e-5)


def test_sites_inside_a_subsampled_plate_are_refused():
    def model(x, local):
        mean = numpyro.sample("mean", dist.Normal(0.0, 1.0))
        with numpyro.plate("data", 30, subsample_size=local["size"]) as index:
            if local["latent"]:
                mean = mean + numpyro.sample("offset", dist.Normal(0.0, 1.0))
            if local["deterministic"]:
                numpyro.deterministic("residual", x[index] - mean)
            numpyro.sample("x", dist.Normal(mean, 1.0), obs=x[index])

    def init(**local):
        local = {"size": 10, "latent": False, "deterministic": False} | local
        return SGLD(model).init(jax.random.key(0), 0, None, (jnp.ones(30), local))

    for name, kind in (("offset", "latent"), ("residual", "deterministic")):
        with pytest.raises(ValueError, match=f"site '{name}' must not be inside the subsampled plate 'data'"):
            init(**{kind: True})
        init(**{kind: True}, size=None)
    init()


DOUBLE = """
import jax
from inference import SGLD, MALA, sample
from models import SparseParity, TwoLayerNetwork
data = SparseParity(5, 2).sample(jax.random.key(3), 30, 20)
network = TwoLayerNetwork(input_dim=5, width=8, kappa=0.3)
for kernel in (SGLD(step_size=1e-3), SGLD(step_size=1e-3, averaged_noise=True), MALA()):
    tree = sample(network, data, kernel, jax.random.key(0), num_warmup=5, num_samples=5, num_chains=2)
    assert tree.posterior.w.dtype == "float64"
print("double")
"""


@pytest.mark.process
def test_sample_in_double_precision():
    environment = {**os.environ, "JAX_ENABLE_X64": "1"}
    command = [sys.executable, "-c", DOUBLE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
    assert "double" in result.stdout, result.stderr[-2000:]


def test_a_diverging_chain_stays_at_its_last_finite_state():
    kernel = SGLD(potential_fn=gaussian, step_size=10.0)
    state, step = kernel.init(jax.random.key(0), 0, jnp.ones(3)), jax.jit(kernel.step)
    for _ in range(100):
        state = step(state)
    assert bool(state.diverging)
    assert np.isfinite(state.z).all()
    assert np.isfinite(state.z_grad).all()
    assert int(state.i) < 100
    stopped = step(state)
    np.testing.assert_array_equal(stopped.z, state.z)
    assert int(stopped.i) == int(state.i)


def test_a_start_without_finite_energy_is_named(small_network, small_data):
    kernel = SGLD(potential_fn=lambda z: jnp.sum(jnp.log(z)), step_size=0.1)
    with pytest.raises(ValueError, match=r"init_params .* potential energy that is not finite"):
        kernel.init(jax.random.key(0), 1, jnp.array([-1.0]))
    huge = {"w": jnp.full((2, 8, 5), 1e30), "a": jnp.full((2, 8), 1e30)}
    with pytest.raises(ValueError, match=r"init_params .* potential energy that is not finite"):
        sample(
            small_network,
            small_data,
            SGLD(step_size=0.1),
            jax.random.key(0),
            num_warmup=1,
            num_samples=1,
            num_chains=2,
            init_params=huge,
        )


# --- arguments ---


@pytest.mark.parametrize("step_size", [0, -1e-3, math.nan, math.inf, "0.1", None, True])
def test_step_size_must_be_positive(step_size):
    with pytest.raises(ValueError, match="step_size"):
        SGLD(step_size=step_size)


def test_model_and_potential_fn_exclude_each_other(small_network):
    with pytest.raises(ValueError, match="model and potential_fn"):
        SGLD(small_network, gaussian)
    with pytest.raises(ValueError, match="model or a potential_fn"):
        SGLD().init(jax.random.key(0), 0)
    with pytest.raises(ValueError, match="init_params"):
        SGLD(potential_fn=gaussian).init(jax.random.key(0), 0)


@pytest.mark.parametrize(
    ("preconditioner", "named"),
    [
        ("hessian", "preconditioner"),
        ({"w": -1.0}, "preconditioner"),
        ({"w": np.nan}, "preconditioner"),
        ({"weights": 1.0}, "weights"),
        (2.0, "preconditioner"),
        ({"w": np.ones(3)}, "preconditioner"),
    ],
)
def test_preconditioner_must_match_the_sites(preconditioner, named, small_network, small_data):
    with pytest.raises(ValueError, match=named):
        SGLD(small_network, preconditioner=preconditioner).init(
            jax.random.key(0), 0, None, (small_data.x, small_data.y)
        )


def test_prior_preconditioner_needs_a_model():
    with pytest.raises(ValueError, match="preconditioner='prior' needs a model"):
        SGLD(potential_fn=gaussian, preconditioner="prior")


def test_importing_and_running_leaves_the_precision_of_jax_alone(small_network, small_data):
    assert not jax.config.jax_enable_x64
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        draws = run(SGLD(small_network), args=(small_data.x, small_data.y), num_samples=2).get_samples()
    assert draws["w"].dtype == jnp.float32
