"""Named problems: declarations that hold together, exact answers against independent sums."""

import json
import sys
from dataclasses import replace

import jax
import numpy as np
import pytest

from models import SparseParity, TwoLayerNetwork
from models.problems import Problem, problem, problems
from models.problems.exact import linear_network_exact, linear_regression_exact
from models.problems.measured import with_probes
from models.problems.reference import FIGURES, Reference, load_reference
from models.problems.zoo import ZOO

OWN = """
import jax
from models import SparseParity, TwoLayerNetwork
from models.problems import Problem

mine = Problem(
    "mine", TwoLayerNetwork(6, 8, 0.3), SparseParity(6, 2).sample(jax.random.key(0), 20, 10), "a small parity"
)
not_mine = 3
"""


@pytest.fixture
def own_file(tmp_path):
    path = tmp_path / "own_problem_of_a_test.py"
    path.write_text(OWN)
    before = list(sys.path)
    yield path
    sys.path[:] = before
    sys.modules.pop(path.stem, None)


def test_every_declaration_says_what_it_is_and_fits_its_data():
    assert len(problems()) >= 14
    for name in problems():
        found = problem(name)
        assert found.description, name
        assert found.source, name
        assert found.difficulty, name
        if found.of_network:
            assert found.network.input_dim == found.data.input_dim == found.data.x_test.shape[1]
            assert len(found.inputs) == min(24, found.data.input_dim)
            assert set(found.data.relevant or ()) <= set(found.inputs)


def test_the_same_data_every_time():
    first, second = (problem("parity-6-2-isotropic-0.3").data for _ in range(2))
    np.testing.assert_array_equal(first.x, second.x)
    np.testing.assert_array_equal(first.y_test, second.y_test)


def test_probes_are_half_of_the_inputs_of_measurements():
    data = with_probes("diabetes")
    np.testing.assert_allclose(np.sort(data.x[:, :10], axis=0), np.sort(data.x[:, 10:], axis=0))


def test_a_users_file_adds_a_problem(own_file):
    own = problem(f"{own_file}:mine")
    assert own.reference_path == own_file.parent / "mine.json"
    assert own.reference is None
    with pytest.raises(ValueError, match=r"has no models\.problems\.Problem named 'not_mine'"):
        problem(f"{own_file}:not_mine")
    with pytest.raises(ValueError, match="does not exist"):
        problem(f"{own_file.parent}/no_such.py:mine")
    with pytest.raises(ValueError, match="mfzoo problems lists"):
        problem("no-such")


def test_what_does_not_fit_is_refused():
    data = SparseParity(6, 2).sample(jax.random.key(0), 20, 10)
    with pytest.raises(ValueError, match="have 6 inputs, but its network 5"):
        Problem("p", TwoLayerNetwork(5, 8, 0.3), data, "")
    with pytest.raises(ValueError, match="must be a Dataset or the model's keyword arguments"):
        Problem("p", lambda x: None, 3, "")
    with pytest.raises(ValueError, match="must be a NumPyro model"):
        Problem("p", 3, data, "")


def test_references_survive_their_file(tmp_path):
    file = tmp_path / "p.json"
    made = Reference("sampled", "agreed", {"f[0]": [1.0, 2.0, 0.1, 0.2]}, {"x": [1.0]}, {"kernel": "NUTS"})
    file.write_text(made.to_text())
    assert load_reference(file) == made
    assert load_reference(tmp_path / "none.json") is None
    file.write_text(made.to_text()[:-20])
    with pytest.raises(ValueError, match="is damaged"):
        load_reference(file)


@pytest.mark.parametrize("name", [name for name, declared in ZOO.items() if declared.exact])
def test_committed_exact_references_are_the_closed_form(name):
    of = problem(name)
    moments = of.exact(of)
    stored = of.reference
    assert stored.status == "exact"
    assert list(stored.functions) == list(moments)
    for function, (mean, sd) in moments.items():
        np.testing.assert_allclose(stored.functions[function], [mean, sd, 0, 0], rtol=1e-4, atol=1e-5)


def test_committed_references_have_finite_errors():
    stored = {name: problem_file(name) for name in problems()}
    made = {name: reference for name, reference in stored.items() if reference is not None}
    assert len(made) >= 3
    for reference in made.values():
        table = np.array(list(reference.functions.values()))
        assert table.shape[1] == len(FIGURES)
        assert np.isfinite(table).all()
        assert (table[:, 1] > 0).all()
        if reference.status == "sampled":
            assert reference.recipe["r_hat_max"] <= 1.02
            assert reference.cross_check["verdict"] != "biased"
        json.loads(reference.to_text())


def problem_file(name):
    from models.problems.problem import REFERENCES

    return load_reference(REFERENCES / f"{name}.json")


# --- exact answers ---


def weighted_moments(log_weights, functions):
    """Self-normalised importance sampling: means, sds and the errors of the means."""
    weights = np.exp(log_weights - log_weights.max())
    weights /= weights.sum()
    out = {}
    for name, values in functions.items():
        mean = weights @ values
        centred = values - mean
        out[name] = mean, (weights @ centred**2) ** 0.5, np.sqrt(np.sum(weights**2 * centred**2))
    return out


def test_the_linear_network_is_what_weighted_prior_draws_say():
    # The prior's 400,000 draws, weighted by the likelihood: nothing in common with the quadrature.
    rng = np.random.default_rng(0)
    d, n, p = 2, 3, 6
    network = TwoLayerNetwork(d, n, kappa=0.4, gamma=0.7, activation="identity", readout_scale=0.8)
    data = SparseParity(d, 1).sample(jax.random.key(1), p, 8)
    of = Problem("p", network, data, "", exact=linear_network_exact)
    moments = linear_network_exact(of)
    w, a = rng.normal(0, d**-0.5, (400_000, n, d)), rng.normal(0, 0.8, (400_000, n))
    beta = n**-0.7 * np.einsum("kn,knd->kd", a, w)
    f, f_test = beta @ data.x.T, beta @ data.x_test.T
    variance = 0.4**2 * p
    log_likelihood = -0.5 * np.sum((f - data.y) ** 2, axis=1) / variance - p / 2 * np.log(
        2 * np.pi * variance
    )
    log_prior = -0.5 * (d * np.sum(w**2, axis=(1, 2)) + np.sum(a**2, axis=1) / 0.64)
    log_prior += n * d / 2 * np.log(d / (2 * np.pi)) - n / 2 * np.log(2 * np.pi * 0.64)
    functions = {
        "order_parameter": f_test @ data.y_test / np.sum(data.y_test**2),
        "train_mse": np.mean((f - data.y) ** 2, axis=1),
        "test_mse": np.mean((f_test - data.y_test) ** 2, axis=1),
        "log_density": log_likelihood + log_prior,
        **{f"f[{i}]": f_test[:, i] for i in range(8)},
        **{f"second_moment[{j}]": np.mean(w[:, :, j] ** 2, axis=1) for j in range(d)},
    }
    assert set(moments) == set(functions)
    for name, (mean, sd, se) in weighted_moments(log_likelihood, functions).items():
        assert moments[name][0] == pytest.approx(mean, abs=5 * se), name
        assert moments[name][1] == pytest.approx(sd, rel=0.03), name


def test_the_linear_network_at_infinite_width_is_bayesian_linear_regression():
    data = SparseParity(3, 1).sample(jax.random.key(1), 10, 8)
    network = TwoLayerNetwork(3, 1_000_000, kappa=0.2, activation="identity")
    moments = linear_network_exact(Problem("p", network, data, ""))
    cov = np.linalg.inv(data.x.T @ data.x / (0.04 * 10) + 3 * np.eye(3))
    mean = cov @ data.x.T @ data.y / (0.04 * 10)
    for i in range(8):
        at = data.x_test[i]
        np.testing.assert_allclose(
            moments[f"f[{i}]"], [at @ mean, (at @ cov @ at) ** 0.5], rtol=1e-3, atol=1e-4
        )
    with pytest.raises(ValueError, match="must be linear"):
        linear_network_exact(Problem("p", replace(network, activation="relu"), data, ""))


def test_the_log_density_of_the_regression_is_the_models():
    of = problem("linear-regression-8")
    x, y = of.data["x"].astype(float), of.data["y"].astype(float)
    cov = np.linalg.inv(x.T @ x / 0.25 + np.eye(8))
    theta = np.random.default_rng(0).multivariate_normal(cov @ x.T @ y / 0.25, cov, size=200_000)
    density = -0.5 * np.sum((theta @ x.T - y) ** 2, axis=1) / 0.25 - 0.5 * np.sum(theta**2, axis=1)
    density += -len(y) * np.log(0.5) - 24 * np.log(2 * np.pi)
    mean, sd = linear_regression_exact(of)["log_density"]
    assert mean == pytest.approx(density.mean(), abs=5 * density.std() / 200_000**0.5)
    assert sd == pytest.approx(density.std(), rel=0.02)
