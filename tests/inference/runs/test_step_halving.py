"""The check of a step size by halving it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from inference import MALA, SGHMC, SGLD, UnderdampedLangevin, check_step_size
from inference.runs.step_halving import StepSizeCheck
from models import Dataset, TwoLayerNetwork

SEED = 0


@pytest.fixture(scope="module")
def check(small_network, small_data):
    return SGLD(step_size=4e-3).check_step_size(
        small_network, small_data, jax.random.key(0), num_warmup=1000, num_samples=4000
    )


def test_check_reports_runs_at_both_steps_and_recommends(check, small_network, small_data):
    assert isinstance(check, StepSizeCheck)
    assert check.step_size == 4e-3
    for name in ("train_mse", "order_parameter", "second_moment", "potential_energy"):
        row = check.table.loc[name]
        assert row.bias == pytest.approx(2 * (row["value"] - row.half_value))
        assert 0 < row.se < row["scale"]
        assert f"{row['value']:.5g}" in str(check)
        assert f"{check.relative_bias[name]:+.1%}" in str(check)
    assert check.table["scale"]["potential_energy"] == 24  # ½ for each of 8·5 + 8 parameters
    worst = max((check.table.bias.abs() + 2 * check.table.se) / check.table["scale"])
    limits = (4e-3 * min(0.05 / worst, 4), check.largest_stable / 2)
    assert check.recommended == pytest.approx(min(limits))
    assert f"step size {check.recommended:.3g}" in str(check)
    assert check.passed == (check.recommended >= 4e-3)


def test_check_covers_the_same_time_twice(small_network, small_data, monkeypatch):
    from inference.runs import step_halving as step_size

    calls = []

    def recorded(kernel, *args, **options):
        calls.append((kernel.settings()["step_size"], options["num_warmup"], options["thinning"]))
        assert options["num_draws"] == 8
        return run_chains(kernel, *args, **options)

    run_chains = step_size.run_chains
    monkeypatch.setattr(step_size, "run_chains", recorded)
    result = UnderdampedLangevin(step_size=0.01).check_step_size(
        small_network, small_data, jax.random.key(0), num_warmup=3, num_samples=8, num_chains=2
    )
    assert calls == [(0.01, 3, 1), (0.005, 6, 2)]
    assert result.order == 2
    difference = result.table["value"] - result.table.half_value
    np.testing.assert_allclose(result.table.bias, 4 / 3 * difference, rtol=1e-6)


def test_largest_stable_step_is_where_sgld_diverges(check, small_network, small_data):
    assert 4e-3 < check.largest_stable < 0.2
    with pytest.raises(ValueError, match="diverged"):
        check_step_size(
            SGLD(step_size=30 * check.largest_stable),
            small_network,
            small_data,
            jax.random.key(0),
            num_warmup=500,
            num_samples=100,
        )


def test_curvature_is_the_top_eigenvalue_of_the_preconditioned_hessian(small_network, small_data):
    from numpyro.infer.util import potential_energy

    from inference.runs.step_halving import top_curvature

    args = (jnp.asarray(small_data.x), jnp.asarray(small_data.y))
    kernel = SGLD(small_network, step_size=1e-3, preconditioner={"w": 0.3, "a": 2.0})
    z = {"w": 0.5 * jax.random.normal(jax.random.key(1), (2, 8, 5)), "a": jnp.ones((2, 8))}
    state = kernel.init(jax.random.split(jax.random.key(0), 2), 0, z, args)
    tops = []
    for chain in range(2):
        flat, unravel = jax.flatten_util.ravel_pytree(jax.tree.map(lambda v, c=chain: v[c], z))
        hessian = jax.hessian(lambda v, u=unravel: potential_energy(small_network, args, {}, u(v)))(flat)
        root = np.sqrt(np.concatenate([np.full(8, 2.0), np.full(40, 0.3)]))
        tops.append(np.abs(np.linalg.eigvalsh(root[:, None] * np.asarray(hessian, float) * root)).max())
    assert top_curvature(kernel, small_data, state, jax.random.key(2)) == pytest.approx(max(tops), rel=0.02)


@pytest.mark.parametrize(
    ("kernel", "steps"),
    [
        (SGLD(potential_fn=lambda z: jnp.sum(2.0 * z**2)), 3000),
        (UnderdampedLangevin(potential_fn=lambda z: jnp.sum(2.0 * z**2), friction=0.7), 3000),
        (SGHMC(potential_fn=lambda z: jnp.sum(2.0 * z**2), friction=0.7), 3000),
    ],
    ids=["SGLD", "BAOAB", "SGHMC"],
)
def test_stability_limit_of_each_kernel(kernel, steps):
    limit = float(kernel.stable_step_size(4.0))

    def last(factor):
        trial = kernel.with_step_size(factor * limit)
        state = trial.init(jax.random.key(0), 0, jnp.ones(20))
        return jax.jit(lambda s: jax.lax.fori_loop(0, steps, lambda _, s: trial.step(s), s))(state)

    assert not bool(last(0.97).diverging)
    assert bool(last(1.03).diverging)


@pytest.mark.slow
def test_check_finds_the_known_bias_of_a_gaussian():
    # With κ large the data have no weight: every site is Gaussian with its prior variance.
    network = TwoLayerNetwork(input_dim=4, width=16, kappa=50.0)
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(10, 4)), rng.normal(size=10)
    data = Dataset.from_arrays(x, y, x, y)
    step = 0.1
    result = SGLD(step_size=step).check_step_size(
        network, data, jax.random.key(SEED), num_warmup=200, num_samples=4000
    )
    # Precision d = 4 of w: variance 1/(4(1 - 4ε/2)), a bias of 2ε/(1 - 2ε) relative to 1/4.
    exact, half = 0.25 / (1 - 2 * step), 0.25 / (1 - step)
    row = result.table.loc["second_moment"]
    assert abs(row["value"] - exact) < 5 * row.se
    assert result.resolved["second_moment"]
    assert abs(row.bias - 2 * (exact - half)) < 4 * row.se
    assert result.largest_stable == pytest.approx(2 / 4, rel=0.05)
    assert result.recommended < step
    assert not result.passed


@pytest.mark.parametrize(
    ("kernel", "named"),
    [
        (MALA(), "MALA has none to check"),
        (SGLD(step_size=lambda t: 0.1 / (1 + t)), "step_size must be a number to be checked"),
    ],
)
def test_what_cannot_be_checked_is_named(kernel, named, small_network, small_data):
    with pytest.raises(ValueError, match=named):
        kernel.check_step_size(small_network, small_data, jax.random.key(0))
    with pytest.raises(ValueError, match="relative_bias"):
        SGLD().check_step_size(small_network, small_data, jax.random.key(0), relative_bias=0.0)
