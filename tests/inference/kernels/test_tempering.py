"""Tempering in κ: marginals at every κ, swaps between modes, the book-keeping of walkers, annealed
starts."""

import json
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC, NUTS
from numpyro.infer.util import potential_energy

from inference import MALA, SGLD, DivergenceError, ParallelTempering, annealed_start, sample
from inference.kernels.tempered import Tempered

SEED = 0


def conjugate(y, kappa=0.4):
    """z ~ Normal(0, 1), y_μ ~ Normal(z, κ): precision 1 + P/κ², mean Σy/κ² over it."""
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", len(y)):
        numpyro.sample("y", dist.Normal(z, kappa), obs=y)


def two_modes(y, kappa=0.1):
    """y ~ Normal(z², κ): modes at z = ±√y, a barrier of y²/(2κ²) = 50 between them."""
    z = numpyro.sample("z", dist.Normal(0.0, 1.0))
    numpyro.sample("y", dist.Normal(z**2, kappa), obs=y)


def trace_chains(kernel, chains, args, *, warmup, steps, init_params, fields):
    keys = jax.random.split(jax.random.key(SEED), chains)
    state = kernel.init(keys, warmup, init_params, args)

    def advance(state, _):
        state = kernel.step(state, args)
        return state, {name: fields[name](state) for name in fields}

    @jax.jit
    def run(state):
        state = jax.lax.fori_loop(0, warmup, lambda _, state: kernel.step(state, args), state)
        return jax.lax.scan(advance, state, length=steps)

    state, values = run(state)
    assert not np.asarray(state.diverging).any()
    return {name: np.asarray(v) for name, v in values.items()}, state


def test_a_power_of_the_likelihood_is_a_network_at_another_kappa(small_network, small_data):
    args = (jnp.asarray(small_data.x), jnp.asarray(small_data.y))
    points = [
        {"w": jax.random.normal(jax.random.key(i), (8, 5)), "a": jax.random.normal(jax.random.key(9), (8,))}
        for i in (1, 2)
    ]
    other = replace(small_network, kappa=0.9)
    power = (small_network.kappa / 0.9) ** 2
    tempered = partial(potential_energy, Tempered(small_network), (power, *args), {})
    plain = partial(potential_energy, other, args, {})
    for name in ("w", "a"):
        np.testing.assert_allclose(
            jax.grad(tempered)(points[0])[name], jax.grad(plain)(points[0])[name], rtol=1e-4, atol=1e-4
        )
    difference = [float(f(points[0]) - f(points[1])) for f in (tempered, plain)]
    assert difference[0] == pytest.approx(difference[1], rel=1e-4)


def test_a_power_multiplies_what_else_scales_the_likelihood():
    def model(y):
        z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        with numpyro.handlers.scale(scale=3.0):
            numpyro.sample("y", dist.Normal(z, 1.0), obs=y)

    args, z = (jnp.array(0.7),), {"z": jnp.array(0.2)}
    prior, tempered = (
        float(potential_energy(Tempered(model), (power, *args), {}, z)) for power in (0.0, 0.5)
    )
    assert tempered - prior == pytest.approx(0.5 * 3 * 0.5 * (np.log(2 * np.pi) + 0.5**2), rel=1e-5)


def test_every_replica_has_the_posterior_at_its_kappa():
    y = jnp.array([0.9, 1.4, 0.7])
    kappas, chains = (0.4, 0.7, 1.3, 3.0), 1500
    kernel = ParallelTempering(MALA(conjugate, step_size=0.05), kappas, steps_per_swap=3)
    draws, state = trace_chains(
        kernel,
        chains,
        (y,),
        warmup=100,
        steps=300,
        init_params={"z": jnp.zeros(chains)},
        fields={"z": lambda s: s.replicas.z["z"], "first": lambda s: s.z["z"]},
    )
    np.testing.assert_array_equal(draws["first"], draws["z"][..., 0])
    for place, kappa in enumerate(kappas):
        precision = 1 + 3 / kappa**2
        mean = float(y.sum()) / kappa**2 / precision
        z = draws["z"][..., place].astype(float)
        for moment, exact in ((z, mean), ((z - mean) ** 2, 1 / precision)):
            per_chain = moment.mean(axis=0)
            error = per_chain.std(ddof=1) / chains**0.5
            assert error < 0.02 * exact
            assert abs(per_chain.mean() - exact) < 4 * error
    assert (np.asarray(state.swap_acceptance) > 0.2).all()
    assert np.asarray(state.round_trips).min() > 0


def test_a_single_chain_sticks_where_replicas_mix():
    chains, args = 200, (jnp.array(1.0),)
    start = {"z": jnp.ones(chains)}
    alone, _ = trace_chains(
        MALA(two_modes, step_size=0.01), chains, args, warmup=500, steps=2000, init_params=start,
        fields={"z": lambda s: s.z["z"]},
    )  # fmt: skip
    assert (alone["z"] > 0).all()
    kernel = ParallelTempering(MALA(two_modes, step_size=0.01), np.geomspace(0.1, 3.0, 6), steps_per_swap=5)
    together, state = trace_chains(
        kernel, chains, args, warmup=150, steps=400, init_params=start, fields={"z": lambda s: s.z["z"]}
    )
    positive = (together["z"] > 0).mean(axis=0)
    error = positive.std(ddof=1) / chains**0.5
    assert error < 0.03
    assert abs(positive.mean() - 0.5) < 4 * error
    assert np.asarray(state.round_trips).mean() > 3
    # In each mode it is the posterior: ∫ z² exp(-z²/2 - 50 (z² - 1)²).
    grid = np.linspace(0, 2, 20_001)
    weight = np.exp(-(grid**2) / 2 - 50 * (grid**2 - 1) ** 2)
    square = (together["z"].astype(float) ** 2).mean(axis=0)
    assert abs(square.mean() - (grid**2 * weight).sum() / weight.sum()) < 4 * square.std(ddof=1) / chains**0.5


def test_book_keeping_of_swaps_and_round_trips():
    warmup, steps, kappas, args = 7, 300, (0.4, 0.8, 2.0), (jnp.array([0.9, 1.4]),)
    kernel = ParallelTempering(MALA(conjugate, step_size=0.05), kappas, steps_per_swap=1)
    fields = ("walker", "swap_accept_prob", "swap_acceptance", "round_trips", "i")
    first = kernel.init(jax.random.split(jax.random.key(SEED), 2), warmup, {"z": jnp.ones(2)}, args)

    def advance(state, _):
        state = kernel.step(state, args)
        return state, {name: getattr(state, name) for name in fields}

    state, values = jax.jit(lambda s: jax.lax.scan(advance, s, length=steps))(first)
    values = jax.tree.map(np.asarray, values)
    walker = np.concatenate([np.asarray(first.walker)[None], values["walker"]])
    np.testing.assert_array_equal(np.sort(walker, axis=-1), np.broadcast_to(range(3), (steps + 1, 2, 3)))
    number = np.arange(steps)  # of the step that led to each value
    np.testing.assert_array_equal(values["i"][:, 0], number + 1)
    for pair in (0, 1):
        turn = number % 2 == pair
        tried = values["swap_accept_prob"][turn & (number >= warmup), :, pair]
        np.testing.assert_allclose(state.swap_acceptance[:, pair], tried.mean(axis=0), rtol=1e-4)
        assert (values["swap_acceptance"][:warmup] == 0).all()
        changed = (walker[1:] != walker[:-1])[turn]
        assert not changed[..., 2 - 2 * pair].any()  # the place outside the pair
        assert 0.02 < changed[..., pair].mean() < 0.98
    for chain in range(2):
        trips = 0
        for name in range(3):
            place = np.argmax(walker[:, chain] == name, axis=-1)
            ends = place[place != 1]
            ends = ends[np.insert(np.diff(ends) != 0, 0, True)]  # alternating 0, 2, 0, …
            ends = ends[1:] if ends[0] == 2 else ends
            trips += (len(ends) - 1) // 2 if len(ends) else 0
        assert values["round_trips"][-1, chain] == trips > 5


def test_step_growth_scales_the_step_of_each_replica():
    kernel = ParallelTempering(SGLD(step_size=1e-3), (0.4, 0.8), step_growth=2.0, steps_per_swap=1)
    bound, args = kernel.bind(conjugate), (jnp.array([0.9, 1.4]),)
    assert kernel.model is None
    state = bound.init(jax.random.key(0), 0, {"z": jnp.array(1.0)}, args)
    state = jax.jit(lambda s: bound.step(s, args))(state)
    np.testing.assert_allclose(state.replicas.step_size, [1e-3, 4e-3], rtol=1e-5)


def test_sample_draws_the_first_replica_into_the_schema(small_network, small_data):
    kernel = ParallelTempering(SGLD(step_size=1e-3), (0.3, 0.5, 0.9), steps_per_swap=2)
    options = {"num_warmup": 4, "num_samples": 12, "num_chains": 2}
    key = jax.random.key(0)
    start = {
        "w": 0.4 * jax.random.normal(jax.random.key(5), (2, 8, 5)),
        "a": jax.random.normal(jax.random.key(6), (2, 8)),
    }
    tree = sample(small_network, small_data, kernel, key, init_params=start, **options)
    assert tree.attrs["gradient_evaluations"] == 2 * 16 * 3 * 3
    assert tree.sample_stats["swap_acceptance"].shape == (2, 12, 2)
    settings = json.loads(tree.attrs["settings"])
    assert settings["kappas"] == [0.3, 0.5, 0.9]
    assert settings["replicas"]["kernel"] == "SGLD"
    # A chain at a time in NumPyro's own driver: the same draws.
    mcmc = MCMC(kernel.bind(small_network), **options, chain_method="sequential", progress_bar=False)
    mcmc.run(jax.random.split(key)[1], small_data.x, small_data.y, init_params=start)
    for name, values in mcmc.get_samples(group_by_chain=True).items():
        np.testing.assert_allclose(tree.posterior[name], values, rtol=1e-3, atol=1e-4)
    with pytest.raises(ValueError, match="subsample_size"):
        sample(small_network, small_data, kernel, key, subsample_size=5, **options)


def test_a_diverging_replica_is_an_error(small_network, small_data):
    kernel = ParallelTempering(SGLD(step_size=5.0), (0.3, 0.5))
    with pytest.raises(DivergenceError, match=r"step_size=5; use a smaller"):
        sample(
            small_network, small_data, kernel, jax.random.key(0), num_warmup=20, num_samples=20, num_chains=1
        )


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: ParallelTempering(NUTS(conjugate), (0.1, 0.2)), "kernel must be a Langevin kernel"),
        (lambda: ParallelTempering(SGLD(), (0.1,)), "kappas must be two or more increasing"),
        (lambda: ParallelTempering(SGLD(), (0.2, 0.1)), "kappas must be two or more increasing"),
        (lambda: ParallelTempering(SGLD(), (-0.2, 0.1)), "kappas must be two or more increasing"),
        (lambda: ParallelTempering(SGLD(), (0.1, float("nan"))), "kappas"),
        (lambda: ParallelTempering(SGLD(), (0.1, 0.2), steps_per_swap=0), "steps_per_swap"),
        (lambda: ParallelTempering(SGLD(), (0.1, 0.2)).init(jax.random.key(0), 0), "needs a model"),
    ],
)
def test_bad_ladders_are_named(make, named):
    with pytest.raises(ValueError, match=named):
        make()


def test_a_ladder_begins_at_the_network(small_network):
    with pytest.raises(ValueError, match=r"kappas must begin with the network's kappa=0.3"):
        ParallelTempering(SGLD(), (0.4, 0.5)).bind(small_network)


# --- annealed starts ---


@pytest.mark.slow
def test_annealed_start_is_near_the_posterior_of_the_network_itself(small_network, small_data):
    kernel = SGLD(step_size=1e-3)
    start = annealed_start(
        small_network, small_data, kernel, jax.random.key(SEED), kappa_start=3.0, num_chains=100, num_levels=10,
        steps_per_level=150,
    )  # fmt: skip
    assert {name: v.shape for name, v in start.items()} == {"w": (100, 8, 5), "a": (100, 8)}
    tree = sample(
        small_network, small_data, kernel, jax.random.key(1), init_params=start, num_warmup=1500,
        num_samples=100, num_chains=100, thinning=100,
    )  # fmt: skip
    later = tree.order_parameters["train_mse"].values[:, 0]

    def mse(params):
        return np.mean((np.asarray(small_network.apply(params, small_data.x)) - small_data.y) ** 2, axis=-1)

    early = mse(start)
    prior = mse({"w": jax.random.normal(jax.random.key(3), (100, 8, 5)) / 5**0.5, "a": jnp.ones((100, 8))})
    error = np.hypot(early.std(ddof=1), later.std(ddof=1)) / 10
    assert abs(early.mean() - later.mean()) < 4 * error + 0.3 * later.mean()
    assert early.mean() < 0.6 * prior.mean()


def test_annealing_passes_through_a_geometric_sequence_with_growing_steps(small_network, small_data):
    seen = []

    class Spy(SGLD):
        def _move(self, state, step, key, energy_and_grad):
            power = energy_and_grad.keywords["model_args"][0]
            jax.debug.callback(lambda *values: seen.append([float(v) for v in values]), step, power)
            return super()._move(state, step, key, energy_and_grad)

    options = {"kappa_start": 1.2, "num_levels": 3, "steps_per_level": 2, "num_chains": 1}
    start = annealed_start(
        small_network, small_data, Spy(step_size=1e-3), jax.random.key(0), step_growth=2.0, **options
    )
    jax.effects_barrier()
    # κ = 1.2, 0.6, 0.3: the likelihood to the power (0.3/κ)², the step ε (κ/0.3)².
    expected = [(0.016, 1 / 16), (0.004, 1 / 4), (1e-3, 1.0)]
    np.testing.assert_allclose(sorted(seen)[::-1], np.repeat(expected, 2, axis=0), rtol=1e-4)
    assert start["w"].shape == (1, 8, 5)


def test_bad_annealing_is_named(small_network, small_data):
    def run(kernel=None, **options):
        kernel = SGLD(step_size=1e-3) if kernel is None else kernel
        annealed_start(
            small_network, small_data, kernel, jax.random.key(0), **({"kappa_start": 1.0} | options)
        )

    for options, named in (
        ({"kappa_start": 0.1}, "kappa_start must be at least the network's kappa=0.3"),
        ({"kappa_start": -1.0}, "kappa_start"),
        ({"num_levels": 1}, "num_levels"),
        ({"steps_per_level": 0}, "steps_per_level"),
        ({"start": "warm"}, "start"),
        ({"kernel": NUTS(small_network)}, "kernel must be a Langevin kernel"),
    ):
        with pytest.raises(ValueError, match=named):
            run(**options)
    with pytest.raises(DivergenceError, match="SGLD diverged at step"):
        run(SGLD(step_size=5.0), steps_per_level=50)
