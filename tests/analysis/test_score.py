"""Scores against laws that are known: a planted bias is caught, an exact kernel is not accused."""

import json
import sys

import arviz_base
import jax
import numpy as np
import numpyro.distributions as dist
import pandas as pd
import pytest
from numpyro.infer import MCMC, NUTS, Predictive

from analysis import save_tree, score
from analysis.cli import main
from analysis.scoring.functions import draws_of, functions_of_draws
from analysis.scoring.leaderboard import SHOWN, leaderboard, schemes_for, score_scheme
from analysis.scoring.references import make_reference
from inference import SGLD, sample
from models import ARD, DeepNetwork, Isotropic, SparseParity
from models.problems import Problem, problem
from models.problems.reference import load_reference


@pytest.fixture(scope="module")
def regression():
    """The conjugate problem, and the mean and covariance of its posterior."""
    of = problem("linear-regression-8")
    x, y = of.data["x"].astype(float), of.data["y"].astype(float)
    cov = np.linalg.inv(x.T @ x / 0.25 + np.eye(8))
    return of, cov @ x.T @ y / 0.25, cov


def chains(law, seed, bias=0.0, spread=1.0, memory=0.5, draws=6000):
    """An exact kernel, θ' = μ + φ(θ - μ) + √(1 - φ²) L ξ; one whose target is spoilt in θ_0."""
    _, mean, cov = law
    sd = np.sqrt(np.diag(cov))
    centre = mean + bias * sd * (np.arange(8) == 0)
    factor = np.linalg.cholesky(cov) * np.where(np.arange(8) == 0, spread, 1.0)[:, None]
    noise = np.random.default_rng(seed).normal(size=(draws, 4, 8)) @ factor.T
    theta = np.empty_like(noise)
    theta[0] = noise[0]
    for t in range(1, draws):
        theta[t] = memory * theta[t - 1] + (1 - memory**2) ** 0.5 * noise[t]
    return {"theta": np.swapaxes(centre + theta, 0, 1)}


def test_an_exact_kernel_is_not_accused_and_a_tenth_of_a_standard_deviation_is_caught(regression):
    # 24,000 steps of a chain with ESS a third of them: an error of 0.011 standard deviations.
    of = regression[0]
    exact = [score(chains(regression, seed), of) for seed in range(20)]
    assert [each.verdict for each in exact] == ["right"] * 20
    spoilt = [score(chains(regression, seed, bias=0.1), of) for seed in range(20)]
    assert [each.verdict for each in spoilt] == ["biased"] * 20
    assert {each.row["bias_of"] for each in spoilt} == {"theta[0]"}
    biases = np.array([each.row["bias"] for each in spoilt])
    errors = np.array([each.row["bias_se"] for each in spoilt])
    assert (np.abs(biases - 0.1) < 4 * errors).all()
    assert 0.8 < np.std([each.table["z"].iloc[1:8] for each in exact + spoilt]) < 1.2


def test_a_posterior_that_is_too_narrow_is_caught(regression):
    found = score(chains(regression, 0, spread=0.85), regression[0])
    assert found.verdict == "biased"
    assert found.row["log_sd_ratio_of"] == "theta[0]"
    assert found.row["log_sd_ratio"] == pytest.approx(np.log(0.85), abs=0.04)
    assert "standard deviation of theta[0]" in found.message


def test_what_draws_cannot_show_is_said(regression):
    of = regression[0]
    # A single chain, whose R-hat is unknown: 240 draws cannot show 0.3 standard deviations.
    short = score({"theta": chains(regression, 0, draws=240, memory=0.0)["theta"][:1]}, of)
    assert short.verdict == "cannot tell"
    assert "run longer" in short.message
    apart = chains(regression, 0)
    apart["theta"][0] += 1.0
    assert "disagree" in score(apart, of).message
    stuck = {"theta": np.tile(regression[1], (4, 50, 1))}
    assert "all the same" in score(stuck, of).message


def test_a_scaled_error_in_the_reference_counts(regression, tmp_path):
    # The same draws against a reference that is itself off by 0.1, and says so or does not.
    stored = json.loads(regression[0].reference_path.read_text())
    stored["status"] = "sampled"
    verdicts = []
    for error in (0.0, 0.1):
        mean, sd, _, _ = stored["functions"]["theta[0]"]
        functions = stored["functions"] | {"theta[0]": [mean + 0.1 * sd, sd, error * sd, 0.0]}
        (tmp_path / "linear-regression-8.json").write_text(json.dumps(stored | {"functions": functions}))
        of = Problem(**{**vars(regression[0]), "folder": tmp_path})
        verdicts.append(score(chains(regression, 1), of).verdict)
    assert verdicts == ["biased", "cannot tell"]


def test_draws_enter_in_every_form(regression, tmp_path):
    of = regression[0]
    draws = chains(regression, 2, draws=1000)
    tree = arviz_base.from_dict({"posterior": draws})
    save_tree(tree, tmp_path / "own.nc")
    forms = [score(form, of) for form in (draws, tree, tmp_path / "own.nc")]
    for other in forms[1:]:
        pd.testing.assert_frame_equal(other.table, forms[0].table)
    mcmc = MCMC(NUTS(of.network), num_warmup=300, num_samples=4000, progress_bar=False)
    mcmc.run(jax.random.key(0), **of.data, extra_fields=("num_steps",))
    found = score(mcmc, "linear-regression-8")
    assert found.verdict == "right"
    assert found.scheme == "nuts"
    assert found.row["ess_per_1000_gradients"] > 10
    with pytest.raises(ValueError, match="must hold sites of linear-regression-8"):
        score({"beta": np.zeros((2, 10))}, of)
    with pytest.raises(ValueError, match=r"'theta' of shape \(chain, draw, 8\)"):
        score({"theta": np.zeros((2, 10, 7))}, of)
    with pytest.raises(ValueError, match="NaN"):
        score({"theta": np.full((2, 10, 8), np.nan)}, of)
    with pytest.raises(ValueError, match="must be a tree"):
        score(3, of)


def test_a_network_is_scored_by_functions_of_its_draws(small_tree):
    of = problem("linear-network-8-0.3")
    kernel = SGLD(step_size=0.02)
    tree = sample(of.network, of.data, kernel, jax.random.key(0), num_warmup=200, num_samples=400)
    found = score(tree, of)
    assert set(found.table.index) == set(of.reference.functions)
    posterior = tree["posterior"].to_dataset()
    same = score({name: posterior[name].to_numpy() for name in ("w", "a")}, of)
    np.testing.assert_allclose(same.table["mean"], found.table["mean"])
    f = tree["predictions"].f.isel(test=3)
    assert found.table["mean"]["f[3]"] == pytest.approx(float(f.mean()), rel=1e-5)
    order = tree["order_parameters"].order_parameter
    assert found.table["sd"]["order_parameter"] == pytest.approx(float(order.std()), rel=1e-4)
    # log p(y, w, a) by hand.
    w, a = posterior.w.to_numpy(), posterior.a.to_numpy()
    density = tree["log_likelihood"].y.sum("data").to_numpy()
    density += np.sum(dist.Normal(0, 8**-0.5).log_prob(w), axis=(2, 3)) + np.sum(
        dist.Normal().log_prob(a), axis=2
    )
    assert found.table["mean"]["log_density"] == pytest.approx(float(density.mean()), rel=1e-5)
    with pytest.raises(ValueError, match="is of a network with input_dim 5"):
        score(small_tree, of)


def test_the_log_density_of_a_deep_network_is_of_its_weights_themselves():
    # Drawn in the non-centred form of ARD in the first layer; log p(y, ρ, w, w2, a) by hand.
    data = SparseParity(5, 2).sample(jax.random.key(3), 30, 20)
    network = DeepNetwork(5, (4, 3), kappa=0.3, prior=(ARD(), Isotropic()))
    drawn = Predictive(network, num_samples=6)(jax.random.key(0), data.x)
    sites = {name: np.asarray(drawn[name])[None] for name in ("rho", "w", "w2", "a")}
    of = Problem("deep", network, data, "")
    found = functions_of_draws(draws_of(sites, of), of)
    f = network.apply(drawn, data.x)
    density = dist.Normal(f, 0.3 * 30**0.5).log_prob(data.y).sum(axis=1)
    density += dist.Gamma(4.0, 4.0 / 5).log_prob(drawn["rho"]).sum(axis=1)
    density += dist.Normal(0, drawn["rho"][:, None, :] ** -0.5).log_prob(drawn["w"]).sum(axis=(1, 2))
    density += dist.Normal(0, 0.5).log_prob(drawn["w2"]).sum(axis=(1, 2))
    density += dist.Normal().log_prob(drawn["a"]).sum(axis=1)
    np.testing.assert_allclose(found.log_density[0], density, rtol=1e-5)
    np.testing.assert_allclose(found["log_rho[2]"][0], np.log(drawn["rho"][:, 2]), rtol=1e-5)
    assert "log_density" not in functions_of_draws(draws_of({n: sites[n] for n in ("w", "w2", "a")}, of), of)
    with pytest.raises(ValueError, match=r"'w2' of shape \(chain, draw, 3, 4\)"):
        functions_of_draws(draws_of(sites | {"w2": sites["w"]}, of), of)


# --- references ---

OWN = """
import numpy as np
import numpyro, numpyro.distributions as dist
from models.problems import Problem

def normal(y):
    mu = numpyro.sample("mu", dist.Normal(0.0, 1.0))
    scale = numpyro.sample("scale", dist.LogNormal(0.0, 0.3))
    numpyro.sample("y", dist.Normal(mu, 1.0), obs=y)

def two_modes(y):
    x = numpyro.sample("x", dist.Normal(0.0, 5.0))
    numpyro.sample("y", dist.Normal(x**2, 0.5), obs=y)

one = Problem("one", normal, {"y": np.array(2.0)}, "conjugate")
two = Problem("two", two_modes, {"y": np.array(9.0)}, "x = 3 or -3")
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "own_scored_problem_of_a_test.py"
    path.write_text(OWN)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop(path.stem, None)


def test_a_reference_is_made_checked_and_used(own_file, capsys):
    name = f"{own_file}:one"
    with pytest.raises(ValueError, match="has no reference yet"):
        score({"mu": np.zeros((2, 10))}, name)
    assert main(["problems", name, "--make-reference", "--effort", "0.05", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["problems"]
    assert row["status"] == "sampled"
    made = load_reference(own_file.parent / "one.json")
    # μ | y ~ Normal(1, 1/2); the scale keeps its prior.
    for function, true in {"mu": (1.0, 0.5**0.5), "log_scale": (0.0, 0.3)}.items():
        mean, sd, mean_se, sd_se = made.functions[function]
        assert mean == pytest.approx(true[0], abs=4 * mean_se)
        assert sd == pytest.approx(true[1], abs=4 * sd_se)
        assert 0 < mean_se < 0.1 * sd
    assert made.cross_check["kernel"] == "UnderdampedLangevin"
    assert score_scheme(problem(name), "nuts").verdict in ("right", "cannot tell")


def test_where_chains_disagree_there_is_no_reference(own_file):
    of = problem(f"{own_file}:two")
    made = make_reference(of, effort=0.02)
    assert made.status == "none"
    assert "disagree on" in made.reason
    with pytest.raises(ValueError, match="has no reference: the chains of NUTS disagree"):
        score({"x": np.zeros((2, 10))}, of)


def test_a_reference_of_other_data_is_not_used(regression, tmp_path):
    of = regression[0]
    stored = of.reference_path.read_text()
    (tmp_path / "linear-regression-8.json").write_text(stored)
    other = {"x": of.data["x"], "y": of.data["y"][::-1]}
    with pytest.raises(ValueError, match="has other data here"):
        score(chains(regression, 0), Problem(**{**vars(of), "data": other, "folder": tmp_path}))


# --- the command line ---


def test_problems_and_scores_on_the_command_line(regression, capsys, tmp_path):
    assert main(["problems"]) == 0
    assert "parity-16-2-ard-0.05" in capsys.readouterr().out
    assert main(["problems", "linear-regression-8"]) == 0
    assert "exact: 9 functions" in capsys.readouterr().out
    save_tree(arviz_base.from_dict({"posterior": chains(regression, 3, bias=0.2)}), tmp_path / "run.nc")
    assert main(["score", str(tmp_path), "--problem", "linear-regression-8", "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["verdict"], row["bias_of"]) == ("biased", "theta[0]")
    assert len(row["table"]) == 9
    assert main(["score", str(tmp_path), "--problem", "linear-regression-8", "--functions"]) == 0
    assert "biased" in capsys.readouterr().out
    assert main(["score", str(tmp_path)]) == 2
    assert main(["score", str(tmp_path / "none.nc"), "--problem", "linear-regression-8"]) == 2
    capsys.readouterr()


def test_the_leaderboard_is_of_problems_and_schemes_that_exist(capsys):
    table = leaderboard()
    assert set(SHOWN) <= set(table)
    for name, part in table.groupby("problem"):
        assert set(part["scheme"]) <= set(schemes_for(problem(name)))
        assert not part["scheme"].duplicated().any()
    assert main(["score", "--leaderboard", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["rows"]
    assert len(rows) == len(table)
    assert all(row["date"] for row in rows)
