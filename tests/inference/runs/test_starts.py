"""Chains that start from draws of a result, and the sites that a prior needs for given weights."""

from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
import xarray as xr
from numpyro.infer import NUTS
from numpyro.infer.util import constrain_fn

from inference import SGLD, CollapsedGuide, MeanFieldGuide, fit, sample
from inference.fixed_points import NNGP, AdaptiveKernel, MeanField, MeanFieldARD
from inference.starts import start_name, start_params
from models import (
    ARD,
    DeepNetwork,
    Isotropic,
    SparseParity,
    TwoLayerNetwork,
    WeightPrior,
    input_plate,
    neuron_plate,
)
from models.priors import PRIORS

KEY = jax.random.key(0)


def network_with(prior, **options):
    return TwoLayerNetwork(input_dim=5, width=8, kappa=0.3, prior=prior, **options)


def still(network, data, **options):
    """A run whose chains hardly move."""
    lengths = {"num_warmup": 0, "num_samples": 3, "num_chains": 2}
    return sample(network, data, SGLD(step_size=1e-12), jax.random.key(5), **lengths, **options)


def sites_at(network, data, params):
    """All sites of every chain at unconstrained values."""

    def one(params):
        return constrain_fn(network, (data.x, data.y), {}, params, return_deterministic=True)

    return jax.vmap(one)(params)


def drawn_tree(network, data, chains=2, draws=3):
    """Draws of the prior as a result holds them: weights, scales and readouts."""
    sites = sites_at(network, data, start_params(network, data, jax.random.key(7), chains * draws, "prior"))
    kept = {
        n: np.asarray(v).reshape(chains, draws, *v.shape[1:])
        for n, v in sites.items()
        if not n.startswith("w_base")
    }
    values = {n: (["chain", "draw", *(f"{n}_{i}" for i in range(v.ndim - 2))], v) for n, v in kept.items()}
    return xr.DataTree.from_dict({"posterior": xr.Dataset(values)})


# --- priors of a user's own, as they come ---


@dataclass(frozen=True)
class LogNormalScales(WeightPrior):
    """The tutorial's: a site behind the weights, and no site ``w``."""

    def weights(self, width, input_dim):
        with input_plate(input_dim):
            scale = numpyro.sample("scale", dist.LogNormal(0.0, 1.0))
        with neuron_plate(width), input_plate(input_dim):
            return scale * input_dim**-0.5 * numpyro.sample("w_base", dist.Normal())


def correlated(input_dim):
    return (0.5 * np.eye(input_dim) + 0.5) / input_dim


@dataclass(frozen=True)
class Rows(WeightPrior):
    """Rows that are normal as a whole; under ``neuron_plate`` the site has shape (N, 1, d)."""

    def weights(self, width, input_dim):
        with neuron_plate(width):
            law = dist.MultivariateNormal(jnp.zeros(input_dim), correlated(input_dim))
            return numpyro.sample("rows", law)[:, 0]


@dataclass(frozen=True)
class RowsUncentred(WeightPrior):
    """The same by standardised rows, of which a weight needs several."""

    def weights(self, width, input_dim):
        with neuron_plate(width), input_plate(input_dim):
            base = numpyro.sample("w_base", dist.Normal())
        return base @ np.linalg.cholesky(correlated(input_dim)).T


class RowsUncentredSolved(RowsUncentred):
    def sites_from_weights(self, w):
        return {"w_base": jnp.linalg.solve(np.linalg.cholesky(correlated(w.shape[-1])), w.T).T}


@dataclass(frozen=True)
class RowsNamedW(WeightPrior):
    """A site ``w`` that is not the matrix of the weights."""

    def weights(self, width, input_dim):
        with neuron_plate(width):
            law = dist.MultivariateNormal(jnp.zeros(input_dim), correlated(input_dim))
            return numpyro.sample("w", law)[:, 0]


class Doubled(Isotropic):
    def weights(self, width, input_dim):
        return 2 * super().weights(width, input_dim)


class Mistaken(LogNormalScales):
    def sites_from_weights(self, w):
        return {"w_base": w}


@pytest.mark.parametrize("prior", [LogNormalScales(), Rows(), RowsUncentredSolved()])
def test_aligned_starts_of_a_users_prior_are_aligned(prior, small_data):
    network = replace(network_with(prior), kappa=0.05)
    params = start_params(network, small_data, KEY, 3, "aligned")
    sites = sites_at(network, small_data, params)
    first = np.asarray(sites["w"])[:, :4]
    assert {tuple(row) for row in np.sign(first[0][:, [1, 3]])} == {(1, 1), (1, -1), (-1, 1), (-1, -1)}
    share = (first[..., [1, 3]] ** 2).sum(axis=-1) / (first**2).sum(axis=-1)
    assert share.min() > 0.5
    f = network.apply(sites, small_data.x)  # the readouts are those of these weights
    assert float(jnp.mean((f - small_data.y) ** 2)) < 0.1


@pytest.mark.parametrize("prior", [RowsUncentred(), Mistaken()])
def test_weights_that_the_priors_sites_do_not_give_are_refused(prior, small_data):
    with pytest.raises(
        ValueError, match=r"'aligned' needs values .* sites_from_weights\(self, w\) of \w+ so"
    ):
        start_params(network_with(prior), small_data, KEY, 2, "aligned")


@pytest.mark.parametrize("prior", [RowsNamedW(), Doubled()])
def test_a_site_w_that_is_not_the_weights_is_refused(prior, small_data):
    """Results would hold it as the weights, and predict with it."""
    network = network_with(prior)
    for run in (
        lambda: start_params(network, small_data, KEY, 2, "prior"),
        lambda: sample(network, small_data, NUTS, KEY, num_warmup=1, num_samples=1),
        lambda: fit(network, small_data, MeanFieldGuide(), KEY, num_steps=1),
    ):
        with pytest.raises(ValueError, match=r"site 'w' of the prior '\w+' must hold the very matrix"):
            run()


@pytest.mark.parametrize("scheme", ["nuts", "mf-guide", "collapsed-guide"])
def test_rows_that_are_normal_as_a_whole_go_through_every_scheme(scheme, small_data):
    network = network_with(Rows())
    if scheme == "nuts":
        lengths = {"num_warmup": 5, "num_samples": 4, "num_chains": 2}
        kernel = lambda model: NUTS(model, max_tree_depth=3)  # noqa: E731
        tree = sample(network, small_data, kernel, KEY, start="aligned", **lengths)
    else:
        guide = MeanFieldGuide() if scheme == "mf-guide" else CollapsedGuide()
        tree = fit(network, small_data, guide, KEY, num_steps=5, num_draws=8, start="aligned")
    assert tree.posterior.w.dims == ("chain", "draw", "neuron", "input")
    f = network.apply({name: tree.posterior[name].values for name in ("w", "a")}, small_data.x_test)
    np.testing.assert_allclose(f, tree.predictions.f, atol=1e-5)


# --- draws of a result ---


@pytest.mark.parametrize(
    "network",
    [
        *map(network_with, (Isotropic(), ARD(), PRIORS["regularised-horseshoe"](), LogNormalScales())),
        DeepNetwork(5, (8, 4), 0.3, prior=(LogNormalScales(), ARD()), bias=True),
    ],
)
def test_chains_start_at_draws_of_a_run_of_the_same_network(network, small_data):
    run = drawn_tree(network, small_data, draws=1)
    sites = sites_at(network, small_data, start_params(network, small_data, KEY, 2, run))
    for chain in range(2):  # one from each chain, with all of its sites but the readouts
        for name in run.posterior.data_vars.keys() - {"a"}:
            target = run.posterior[name].isel(chain=chain, draw=0)
            np.testing.assert_allclose(sites[name][chain], target, rtol=2e-3, atol=1e-4, err_msg=name)


def test_every_chain_of_a_run_has_its_share_of_the_starts(small_network, small_data):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(2, 50, 8, 5))
    dims = ("chain", "draw", "neuron", "input")
    tree = xr.DataTree.from_dict({"posterior": xr.Dataset({"w": (dims, w)})})
    starts = np.asarray(start_params(small_network, small_data, KEY, 10, tree)["w"])
    flat = w.reshape(100, 8, 5)
    places = [int(np.abs(flat - start).sum(axis=(1, 2)).argmin()) for start in starts]
    np.testing.assert_allclose(starts, flat[places], rtol=1e-5)
    assert [place // 10 for place in places] == list(range(10))
    again = start_params(small_network, small_data, KEY, 10, tree)["w"]
    np.testing.assert_array_equal(starts, again)
    other = start_params(small_network, small_data, jax.random.key(1), 10, tree)["w"]
    assert not np.array_equal(starts, other)


def test_a_run_with_another_prior_gives_its_weights(small_network, small_data):
    run = drawn_tree(small_network, small_data, draws=1)
    network, w = network_with(ARD()), run["posterior/w"].values[:, 0]
    sites = sites_at(network, small_data, start_params(network, small_data, KEY, 2, run))
    np.testing.assert_allclose(sites["w"], w, rtol=1e-3, atol=1e-5)
    expected = network.prior.posterior_precision((w**2).sum(axis=1), 8, 5)
    np.testing.assert_allclose(sites["rho"], expected, rtol=1e-3)


@pytest.mark.parametrize(
    ("theory", "prior", "options"),
    [
        (MeanFieldARD, ARD(), {}),
        (AdaptiveKernel, Isotropic(), {"num_data": 200}),
        (NNGP, Isotropic(), {"on": "data"}),
    ],
)
def test_chains_start_from_networks_of_a_theory(theory, prior, options):
    teacher = SparseParity(6, 2)
    data = teacher.sample(jax.random.key(1), 200, 20)
    network = TwoLayerNetwork(6, 64, 0.02, prior=prior)
    target = data if options.pop("on", None) else teacher
    point = theory().solve(network, target, **options)
    params = start_params(network, data, KEY, 20, point)
    sites = sites_at(network, data, params)
    moment = np.asarray(sites["w"] ** 2).mean(axis=(0, 1))
    ratio = moment[:2].mean() / moment[2:].mean()
    assert ratio == pytest.approx(point.relevance_ratio, rel=0.15)
    f = network.apply(sites, data.x)
    assert np.mean((np.asarray(f) - data.y) ** 2) < 0.1
    assert start_name(point) == point.theory


def test_the_tree_says_where_its_chains_started_and_a_resumed_run_knows_it(
    small_network, small_data, tmp_path
):
    run = drawn_tree(small_network, small_data)
    run.attrs["scheme"] = "nuts"
    other = run.copy(deep=True)
    other["posterior/w"][:] *= 2
    stored = still(small_network, small_data, start=run, folder=tmp_path / "run")
    assert stored.attrs["start"] == "nuts"
    assert '"start": "nuts"' in stored.attrs["settings"]
    apart = run["posterior/w"].values - stored.posterior.w.values[:, :1]
    assert np.abs(apart).max(axis=(2, 3)).min(axis=1).max() < 1e-4
    again = still(small_network, small_data, start=run, folder=tmp_path / "run", resume=True)
    np.testing.assert_array_equal(again.posterior.w, stored.posterior.w)
    with pytest.raises(ValueError, match="init_params"):
        still(small_network, small_data, start=other, folder=tmp_path / "run", resume=True)


def test_starts_that_do_not_fit_are_refused(small_network, small_data):
    run = drawn_tree(small_network, small_data)
    wide = replace(small_network, width=9)
    with pytest.raises(ValueError, match=r"w has shape \(8, 5\) in the start, \(9, 5\) in the network"):
        start_params(wide, small_data, KEY, 2, run)
    with pytest.raises(ValueError, match=r"b has shape None in the start, \(8,\) in the network"):
        start_params(replace(small_network, bias=True), small_data, KEY, 2, run)
    deep = DeepNetwork(5, (8, 4), 0.3)
    with pytest.raises(ValueError, match=r"w2 has shape None in the start, \(4, 8\) in the network"):
        start_params(deep, small_data, KEY, 2, run)
    with pytest.raises(ValueError, match=r"w2 has shape \(4, 8\) in the start, None in the network"):
        start_params(small_network, small_data, KEY, 2, drawn_tree(deep, small_data))
    with pytest.raises(ValueError, match="6 draws, too few for num_chains=7"):
        start_params(small_network, small_data, KEY, 7, run)
    with pytest.raises(ValueError, match="a DataTree of the zoo or a solved theory, got DataTree"):
        start_params(small_network, small_data, KEY, 2, xr.DataTree())
    with pytest.raises(ValueError, match="a DataTree of the zoo or a solved theory, got int"):
        sample(small_network, small_data, SGLD(step_size=1e-3), KEY, start=3)
    broken = run.copy(deep=True)
    broken["posterior/w"][:] = np.nan
    with pytest.raises(ValueError, match="NaN or infinite values of w"):
        start_params(small_network, small_data, KEY, 2, broken)
    theory = MeanField().solve(TwoLayerNetwork(5, 8, 0.3), SparseParity(5, 2))
    with pytest.raises(ValueError, match="data must have the teacher's relevant inputs"):
        start_params(small_network, small_data, KEY, 2, theory)
    with pytest.raises(ValueError, match="nngp on the population, which gives functions"):
        start_params(small_network, small_data, KEY, 2, NNGP().solve(small_network, SparseParity(5, 2)))
