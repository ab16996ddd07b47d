"""Gradients accumulated over blocks of the data are those of the full batch."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer.util import potential_energy

from inference import MALA, SGLD, UnderdampedLangevin, sample
from inference.kernels.potential import ModelPotential
from inference.runs import plan
from inference.runs.plan import SamplingPlan, data_block
from inference.starts import start_params
from models import ARD, SparseParity, TwoLayerNetwork

NETWORK = TwoLayerNetwork(6, 16, 0.3, prior=ARD(), bias=True)
DATA = SparseParity(6, 2).sample(jax.random.key(0), 60, 10)


@pytest.mark.parametrize("block", [5, 20, 30])
def test_energy_and_gradient_are_those_of_the_full_batch(block):
    z = jax.tree.map(lambda v: v[0], start_params(NETWORK, DATA, jax.random.key(1), 1, "prior"))
    with jax.enable_x64(True):
        z = jax.tree.map(lambda v: jnp.asarray(v, jnp.float64), z)
        args = (jnp.asarray(DATA.x, jnp.float64), jnp.asarray(DATA.y, jnp.float64))
        full = jax.value_and_grad(lambda z: potential_energy(NETWORK, args, {}, z))(z)
        options = {"subsample_size": block}
        blocks = ModelPotential(NETWORK, jax.random.key(0), args, options).accumulated(z, args, options)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-12), full, blocks)


@pytest.mark.parametrize(
    "kernel", [SGLD(step_size=1e-4), UnderdampedLangevin(step_size=5e-3), MALA(step_size=1e-4)]
)
def test_sample_draws_the_same_chain_in_blocks(kernel, monkeypatch):
    def draw():
        return sample(NETWORK, DATA, kernel, jax.random.key(2), num_warmup=0, num_samples=20, num_chains=2)

    whole = draw()
    monkeypatch.setattr(plan, "_LEAST_BLOCK", 4)
    monkeypatch.setattr(plan, "_BLOCK_BYTES", 4 * 16 * 2 * 13)  # 13 points of 16 neurons in 2 chains
    blocks = draw()
    assert "data_block" not in whole.attrs["settings"]
    assert '"data_block": 12' in blocks.attrs["settings"]
    assert blocks.attrs["gradient_evaluations"] == whole.attrs["gradient_evaluations"]
    for name in ("w", "a", "b", "rho"):
        np.testing.assert_allclose(blocks.posterior[name], whole.posterior[name], rtol=1e-3, atol=1e-4)
    np.testing.assert_allclose(blocks.sample_stats.lp, whole.sample_stats.lp, rtol=1e-4)


def test_the_block_is_the_largest_divisor_that_stays_in_the_cache(monkeypatch):
    network = TwoLayerNetwork(35, 512, 0.005)
    assert data_block(network, 1000, 1) is None  # the whole is small enough
    assert data_block(network, 1000, 4) is None
    assert data_block(network, 5000, 1) == 1000
    assert data_block(network, 5000, 4) == 250
    assert data_block(network, 4999, 1) is None  # a prime number
    monkeypatch.setattr(jax, "default_backend", lambda: "gpu")
    assert data_block(network, 5000, 4) is None


def test_minibatches_and_models_of_ones_own_are_not_put_into_blocks(monkeypatch):
    monkeypatch.setattr(plan, "_LEAST_BLOCK", 4)
    monkeypatch.setattr(plan, "_BLOCK_BYTES", 4 * 16 * 4 * 13)

    def block(kernel, **options):
        return SamplingPlan(NETWORK, DATA, kernel, jax.random.key(0), **options).settings.get("data_block")

    assert block(SGLD()) == 12
    assert block(SGLD(), subsample_size=10) is None
    assert block(SGLD(lambda x, y: NETWORK(x, y))) is None


def test_what_cannot_be_accumulated_is_one_sentence():
    z = jax.tree.map(lambda v: v[0], start_params(NETWORK, DATA, jax.random.key(1), 1, "prior"))
    args = (DATA.x, DATA.y)
    with pytest.raises(ValueError, match="subsample_size must divide num_data=60 for exact gradients, got 7"):
        SGLD(NETWORK).accumulating().init(jax.random.key(0), 0, z, args, {"subsample_size": 7})
    with pytest.raises(ValueError, match=r"model must be a NumPyro model, got 0\.001; name other arguments"):
        SGLD(1e-3)

    def two_plates(x, y):
        for name, values in (("x", x), ("y", y)):
            with numpyro.plate(name, 60, subsample_size=20) as index:
                numpyro.sample(f"obs {name}", dist.Normal(0.0, 1.0), obs=values[index])

    args = (DATA.x[:, 0], DATA.y)
    with pytest.raises(ValueError, match="over one subsampled plate, and the model has 2"):
        ModelPotential(two_plates, jax.random.key(0), args, {}).accumulated({}, args, {})
