"""The step size that a kernel finds for itself."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC

from inference import (
    MALA,
    PSGLD,
    SGHMC,
    SGLD,
    DivergenceError,
    ParallelTempering,
    UnderdampedLangevin,
    sample,
)
from inference.kernels.divergence import check_finite
from inference.kernels.step_size import BIAS, MARGIN, mean_curvature, power_iteration
from inference.runs.annealing import annealed_start
from models import ARD, SparseParity, TwoLayerNetwork

LANGEVIN = [SGLD, PSGLD, UnderdampedLangevin, SGHMC, MALA]
every_kernel = pytest.mark.parametrize("kernel_type", LANGEVIN, ids=lambda k: k.__name__)


def run(kernel, key=0, args=(), *, num_warmup=200, num_samples=200, fields=("step_size",), **options):
    """MCMC after its run."""
    start = options.pop("init_params", None)
    options.setdefault("chain_method", "vectorized")
    batch = {"subsample_size": options.pop("subsample_size")} if "subsample_size" in options else {}
    mcmc = MCMC(kernel, num_warmup=num_warmup, num_samples=num_samples, progress_bar=False, **options)
    mcmc.run(jax.random.key(key), *args, init_params=start, extra_fields=fields, **batch)
    return mcmc


# --- curvatures ---


def test_power_iteration_and_mean_curvature_are_those_of_the_hessian():
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(7, 7))
    hessian = factor @ factor.T + np.diag([0, 0, 0, 0, 0, 0, 60.0])

    def energy(z):
        flat = jnp.concatenate([z["u"].ravel(), z["v"]])
        return flat @ jnp.asarray(hessian) @ flat / 2

    z = {"u": jnp.asarray(rng.normal(size=(2, 2))), "v": jnp.asarray(rng.normal(size=3))}
    metric = {"u": jnp.array(0.3), "v": jnp.array([1.0, 2.0, 0.1])}
    root = np.sqrt(np.concatenate([np.full(4, 0.3), [1.0, 2.0, 0.1]]))
    values, vectors = np.linalg.eigh(root[:, None] * hessian * root)
    direction, curvature = power_iteration(jax.grad(energy), z, metric, jax.tree.map(jnp.ones_like, z), 100)
    assert float(curvature) == pytest.approx(values[-1], rel=1e-4)
    found = np.concatenate([np.ravel(direction["u"]), direction["v"]])
    assert abs(found @ vectors[:, -1]) == pytest.approx(1, abs=1e-3)
    keys = jax.random.split(jax.random.key(0), 4000)
    probes = jax.vmap(lambda key: mean_curvature(jax.grad(energy), z, key))(keys)
    for name, part in (("u", slice(4)), ("v", slice(4, 7))):
        values = np.asarray(probes[name], float)
        error = values.std(ddof=1) / math.sqrt(len(keys))
        assert abs(values.mean() - np.diag(hessian)[part].mean()) < 4 * error


# --- Gaussians: the step, and the moments at it, in closed form ---

STIFF = np.array([1.0, 100.0, 1e4])  # precisions, 300 coordinates each


def stiff(z):
    return jnp.sum(jnp.asarray(STIFF)[:, None] * z**2) / 2


@pytest.mark.parametrize(
    ("kernel", "step", "inflation"),
    [
        (UnderdampedLangevin, lambda top: 2 * MARGIN / math.sqrt(top), lambda precision: 1.0),
        (lambda **k: SGLD(averaged_noise=True, **k), lambda top: 2 * MARGIN / top, lambda precision: 1.0),
        (SGLD, lambda top: 2 * BIAS / top, lambda precision: 1 / (1 - BIAS * precision / STIFF[-1])),
    ],
    ids=["BAOAB", "averaged", "SGLD"],
)
def test_step_and_moments_on_a_stiff_gaussian(kernel, step, inflation):
    kernel = kernel(potential_fn=stiff, preconditioner=None)
    # In equilibrium from the start, since the softest direction needs 10⁴ steps of SGLD to get there.
    start = jax.random.normal(jax.random.key(1), (3, 300)) / jnp.sqrt(jnp.asarray(STIFF))[:, None]
    mcmc = run(kernel, num_warmup=300, num_samples=600, init_params=start)
    found = np.asarray(mcmc.get_extra_fields()["step_size"])
    assert (found == found[0]).all()
    assert found[0] == pytest.approx(step(STIFF[-1]), rel=0.01)
    squares = np.asarray(mcmc.get_samples(), float) ** 2
    for values, precision in zip(np.moveaxis(squares, 1, 0), STIFF, strict=True):
        copies = values.mean(axis=0) * precision
        error = copies.std(ddof=1) / math.sqrt(copies.size)
        assert abs(copies.mean() - inflation(precision)) < 4 * error


def test_preconditioner_balances_prior_and_posterior():
    def two_sites(y):
        told = numpyro.sample("told", dist.Normal(jnp.zeros(50), 1.0).to_event(1))
        numpyro.sample("free", dist.Normal(jnp.zeros(50), 3.0).to_event(1))
        numpyro.sample("y", dist.Normal(told, 0.1).to_event(1), obs=y)

    kernel = UnderdampedLangevin(two_sites)
    mcmc = run(kernel, args=(jnp.ones(50),), num_samples=5, fields=("tuning.curvature.told",))
    scale = kernel.preconditioner_of(mcmc.last_state)
    # M = √(v/c): v = 1, c = 1 + 1/0.01; and v = 9 = 1/c where no data speak.
    assert float(scale["told"]) == pytest.approx(101**-0.5, rel=0.05)
    assert float(scale["free"]) == pytest.approx(9.0, rel=0.1)
    assert float(mcmc.last_state.step_size) == pytest.approx(2 * MARGIN / 101**0.25, rel=0.05)


# --- in the warm-up ---


def test_a_divergence_in_the_warm_up_halves_the_step_and_goes_back():
    # Flat where it starts, so that the first step is far too long for the walls.
    energy = lambda z: jnp.sum(jnp.cosh(z) ** 4 / 1e4)  # noqa: E731
    kernel = UnderdampedLangevin(potential_fn=energy)
    start = jnp.zeros(20)
    state, step = kernel.init(jax.random.key(0), 1000, start), jax.jit(kernel.step)
    first, halvings = float(state.step_size), []
    for _ in range(1500):
        state = step(state)
        assert np.isfinite(state.z).all()
        halvings.append(int(state.tuning.halvings))
    assert max(halvings) > 0
    assert not bool(state.diverging)
    assert int(state.i) == 1500
    assert float(state.step_size) < first / 4


def test_what_no_step_suits_ends_as_a_divergence():
    broken = lambda z: jnp.sum(jnp.where(z == 0.0, z**2 / 2, jnp.nan))  # noqa: E731
    kernel = SGLD(potential_fn=broken)
    state, step = kernel.init(jax.random.key(0), 100, jnp.zeros(2)), jax.jit(kernel.step)
    for _ in range(100):
        state = step(state)
    assert bool(state.diverging)
    assert np.isfinite(state.z).all()
    with pytest.raises(DivergenceError, match=r"smaller step_size .* or a longer warm-up, which finds it\.$"):
        check_finite(kernel, jax.tree.map(lambda value: value[None], state))


def test_without_a_warm_up_the_step_is_that_of_the_start():
    kernel = UnderdampedLangevin(potential_fn=lambda z: 8 * jnp.sum(z**2), preconditioner=None)
    mcmc = run(kernel, num_warmup=0, num_samples=5, init_params=jnp.ones(3))
    np.testing.assert_allclose(mcmc.get_extra_fields()["step_size"], MARGIN / 2, rtol=1e-3)


def test_a_given_step_is_taken_as_it_is_with_no_preconditioner(small_network, small_data):
    kernel = SGLD(small_network, step_size=1e-3)
    state = kernel.init(jax.random.key(0), 10, None, (small_data.x, small_data.y))
    assert state.tuning is None
    assert all(float(m) == 1 for m in kernel.preconditioner_of(state).values())
    assert kernel.tuning_cost(0, 100) == 0


# --- every kernel, every way to run it ---


@every_kernel
def test_every_kernel_finds_its_step(kernel_type, small_network, small_data):
    tree = sample(
        small_network, small_data, kernel_type(), jax.random.key(0), num_warmup=200, num_samples=100
    )
    found = tree["sample_stats"].step_size.to_numpy()
    assert (found == found[:, :1]).all()
    settings = tree.attrs["settings"]
    assert '"step_size": "auto"' in settings
    assert f'"step_size_found": [{found[0, 0]}'[:30] in settings
    # 200 steps of warm-up hold 20 tunings, of 2 or, with the preconditioner, 3 products.
    products = {PSGLD: 20 + 2 * 20, MALA: 20}.get(kernel_type, 25 + 3 * 20)
    assert tree.attrs["gradient_evaluations"] == 4 * (300 + 2 * products)


@pytest.mark.parametrize("subsample_size", [None, 10])
def test_chains_one_by_one_and_side_by_side_find_the_same_steps(small_network, small_data, subsample_size):
    steps = {
        method: run(
            UnderdampedLangevin(small_network),
            args=(small_data.x, small_data.y),
            subsample_size=subsample_size,
            num_warmup=30,
            num_samples=3,
            num_chains=2,
            chain_method=method,
        ).get_extra_fields(group_by_chain=True)["step_size"]
        for method in ("sequential", "vectorized", jax.vmap)
    }
    np.testing.assert_allclose(steps["sequential"], steps["vectorized"], rtol=1e-3)
    np.testing.assert_allclose(steps[jax.vmap], steps["vectorized"], rtol=1e-3)
    assert steps["vectorized"][0, 0] != steps["vectorized"][1, 0]


@pytest.mark.parametrize("stop_at", [0.3, pytest.param(0.9, marks=pytest.mark.slow)])
def test_a_resumed_run_has_the_same_draws(stop_at, small_network, small_data, tmp_path):
    kernel, options = UnderdampedLangevin(), {"num_warmup": 40, "num_samples": 20, "checkpoint_every": 1e-3}

    def stop(done, total, text):
        if done > stop_at * total:
            raise InterruptedError

    whole = sample(small_network, small_data, kernel, jax.random.key(0), folder=tmp_path / "whole", **options)
    with pytest.raises(InterruptedError):
        sample(
            small_network,
            small_data,
            kernel,
            jax.random.key(0),
            folder=tmp_path / "cut",
            progress=stop,
            **options,
        )
    cut = sample(
        small_network, small_data, kernel, jax.random.key(0), folder=tmp_path / "cut", resume=True, **options
    )
    np.testing.assert_array_equal(cut["posterior"].w, whole["posterior"].w)
    assert cut.attrs["gradient_evaluations"] == whole.attrs["gradient_evaluations"]
    assert cut.attrs["settings"] == whole.attrs["settings"]


def test_tempering_and_annealing_find_a_step_at_every_noise(small_network, small_data):
    kernel = ParallelTempering(UnderdampedLangevin(), [0.3, 0.6, 1.2], steps_per_swap=5)
    tree = sample(small_network, small_data, kernel, jax.random.key(0), num_warmup=100, num_samples=20)
    assert tree.attrs["gradient_evaluations"] == 4 * (120 * 18 + 3 * 2 * (25 + 3 * 10))
    bound = kernel.bind(small_network)
    keys, args = jax.random.split(jax.random.key(0), 2), (small_data.x, small_data.y)
    state = bound.init(keys, 100, None, args, {})
    state = jax.jit(lambda s: jax.lax.fori_loop(0, 100, lambda _, s: bound.step(s, args), s))(state)
    steps = np.asarray(state.replicas.step_size)
    assert (np.diff(steps, axis=1) > 0).all()  # the likelihood's curvature falls with κ
    start = annealed_start(
        small_network, small_data, UnderdampedLangevin(), jax.random.key(0), kappa_start=1.0, num_levels=3
    )
    assert all(np.isfinite(v).all() for v in start.values())


# --- on posteriors ---


def funnel():
    """Neal's: the curvature in x grows as e^(-y) without a bound."""
    y = numpyro.sample("y", dist.Normal(0.0, 1.5))
    numpyro.sample("x", dist.Normal(jnp.zeros(5), jnp.exp(y / 2)).to_event(1))


def regression(x, y):
    """A NumPyro model that is no network."""
    scale = numpyro.sample("scale", dist.HalfNormal(1.0))
    slope = numpyro.sample("slope", dist.Normal(jnp.zeros(3), 2.0).to_event(1))
    numpyro.sample("y", dist.StudentT(4.0, x @ slope, scale), obs=y)


def test_plain_models_run_without_a_divergence():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 3))
    y = x @ [1.0, -2.0, 0.0] + 0.3 * rng.normal(size=60)
    for model, args in ((funnel, ()), (regression, (x, y))):
        mcmc = run(
            UnderdampedLangevin(model),
            args=args,
            num_warmup=500,
            num_samples=2000,
            num_chains=4,
            fields=("diverging",),
        )
        assert not np.asarray(mcmc.get_extra_fields()["diverging"]).any()
    np.testing.assert_allclose(mcmc.get_samples()["slope"].mean(axis=0), [1, -2, 0], atol=0.15)


@pytest.mark.parametrize(
    ("prior", "kappa", "width", "dim"),
    [
        pytest.param(prior, kappa, width, dim, marks=[] if (kappa, width) == (0.1, 64) else pytest.mark.slow)
        for prior in ("isotropic", "ard")
        for kappa, width, dim in ((0.3, 64, 16), (0.1, 64, 16), (0.05, 64, 16), (0.01, 512, 35))
    ],
)
@pytest.mark.parametrize("kernel_type", [UnderdampedLangevin, pytest.param(SGLD, marks=pytest.mark.slow)])
def test_networks_run_without_a_divergence(kernel_type, prior, kappa, width, dim):
    network = TwoLayerNetwork(dim, width, kappa, **({"prior": ARD()} if prior == "ard" else {}))
    data = SparseParity(dim, 2).sample(jax.random.key(0), 300, 200)
    # sample raises DivergenceError for one after the warm-up.
    tree = sample(
        network,
        data,
        kernel_type(),
        jax.random.key(1),
        num_warmup=500,
        num_samples=1000,
        thinning=10,
        start="both",
    )
    found = tree["sample_stats"].step_size.to_numpy()[:, -1]
    assert found.max() < 3 * found.min()


def test_a_step_that_is_too_long_still_ends_a_run(small_network, small_data):
    with pytest.raises(
        DivergenceError, match=r"step_size=5; use a smaller step_size \(half of it or less\)\.$"
    ):
        sample(
            small_network, small_data, SGLD(step_size=5.0), jax.random.key(0), num_warmup=100, num_samples=9
        )


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: SGLD(step_size="automatic"), "step_size must be a positive number, 'auto'"),
        (
            lambda: MALA(adapt_step_size=False),
            "step_size must be a number or a schedule where it is not adapted",
        ),
        (lambda: SGLD(preconditioner="none"), "preconditioner must be 'auto', None, 'prior'"),
    ],
)
def test_bad_arguments_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()
