"""MF, MF-ARD and AK on a dataset, against quadrature on a grid, limits, and the population
theories."""

import json
import math
from dataclasses import dataclass, replace
from functools import cache

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.optimize import root

from inference.fixed_points.particles.moves import Target, _flip, evaluate, move
from inference.fixed_points.particles.solve import Effort, solve_on_dataset
from inference.fixed_points.particles.umbrella import Umbrella, resample
from inference.fixed_points.precisions import PrecisionRule, precision_rule
from inference.fixed_points.regression.covariances import nngp_kernel, nngp_variance
from inference.fixed_points.regression.process_point import nngp_on_dataset
from inference.fixed_points.regression.readouts import hidden_activation
from inference.runs.datatree import build_tree
from models import ARD, Dataset, GroupedARD, Isotropic, SparseParity, TwoLayerNetwork, WeightPrior

AK, MF, MF_ARD = "adaptive-kernel", "mean-field", "mean-field-ard"
PRIORS = {AK: (), MF: (Isotropic,), MF_ARD: (ARD,)}
# One number of particles, moves and points in most tests: compiling the moves costs more than
# running them.
QUICK = Effort(num_particles=512, num_settling=3, num_moves=4, num_sweeps=8)


def solve(theory, network, data, effort=QUICK, **options):
    return solve_on_dataset(
        theory, network, data, *PRIORS[theory], name="TheTheory", effort=effort, **options
    )


def regression(input_dim, num_data=12, seed=1):
    """A smooth target of one direction, which a few neurons can learn."""
    rng = np.random.default_rng(seed)
    x, x_test = rng.normal(size=(num_data, input_dim)), rng.normal(size=(30, input_dim))
    return Dataset(x, np.abs(x[:, 0]) - 0.5, x_test, np.abs(x_test[:, 0]) - 0.5, relevant=(0,))


class Grid:
    """The same equations in float64 on a grid in two scaled weights, from their definitions."""

    def __init__(self, network, data, adaptive):
        self.network, self.data, self.adaptive = network, data, adaptive
        axis = np.linspace(-6.5, 6.5, 121)
        self.z = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
        self.c = network.readout_scale**2 * network.width ** (-2 * network.gamma)
        self.noise = network.kappa**2 * data.num_data
        self.free = isinstance(network.prior, ARD)
        self.rho = np.full(network.input_dim, network.input_dim / network.prior.scale**2)

    def hidden(self, rho, x):
        if self.network.bias:
            weights = self.z[:, :1] / np.sqrt(rho)
            return hidden_activation(
                self.network.activation, weights @ x.T + self.network.bias_scale * self.z[:, 1:]
            )
        return hidden_activation(self.network.activation, (self.z / np.sqrt(rho)) @ x.T)

    def density(self, hidden, g, b):
        log_p = -0.5 * (self.z**2).sum(axis=1) - 0.5 * np.log1p(self.c * g)
        log_p += 0.5 * self.c * b**2 / (1 + self.c * g)
        p = np.exp(log_p - log_p.max())
        return p / p.sum()

    def precisions(self, p, rho):
        if not self.free:
            return rho
        prior, n, dim = self.network.prior, self.network.width, self.network.input_dim
        moment = p @ self.z[:, :dim] ** 2 / rho
        return (prior.shape + n / 2) / (prior.rate_for(dim) + n / 2 * moment)

    def solve(self):
        p, rho, f = self.solve_adaptive() if self.adaptive else self.solve_plain()
        return self.predict(p, rho, f)

    def solve_adaptive(self, damping=0.1):
        """Damped iteration of the density and of log ρ."""
        data, scale, rho = self.data, self.network.width * self.c, self.rho
        p = self.density(None, 0.0, 0.0)
        for _ in range(2000):
            hidden = self.hidden(rho, data.x)
            a = self.noise * np.eye(data.num_data) + scale * (hidden.T * p) @ hidden
            g = ((hidden @ np.linalg.inv(a)) * hidden).sum(axis=1)
            new = self.density(hidden, g, hidden @ np.linalg.solve(a, data.y))
            target = self.precisions(new, rho)
            change = max(np.abs(new - p).sum(), np.abs(np.log(target / rho)).max())
            p, rho = p + damping * (new - p), rho * (target / rho) ** damping
            if change < 1e-6:
                return p, rho, None
        raise AssertionError(f"the reference did not converge: {change}")

    def solve_plain(self):
        """Powell's hybrid method for ⟨f⟩ and log ρ."""
        data, count, scale = self.data, self.data.num_data, self.network.width * self.c

        def state(unknown):
            f, rho = unknown[:count], np.exp(unknown[count:])
            hidden = self.hidden(rho, data.x)
            g, b = (hidden**2).sum(axis=1) / self.noise, hidden @ (data.y - f) / self.noise
            p = self.density(hidden, g, b)
            return p, rho, f, scale * ((p * b / (1 + self.c * g)) @ hidden)

        def mismatch(unknown):
            p, rho, f, new = state(unknown)
            return np.concatenate([new - f, np.log(self.precisions(p, rho) / rho)])

        guess = np.concatenate([data.y, np.log(self.rho)])
        found = root(mismatch, guess, tol=1e-10)
        assert np.abs(mismatch(found.x)).max() < 1e-7
        return state(found.x)[:3]

    def predict(self, p, rho, f):
        data, n = self.data, self.network.width
        hidden, test = self.hidden(rho, data.x), self.hidden(rho, data.x_test)
        moment = p @ self.z[:, : self.network.input_dim] ** 2 / rho
        if self.adaptive:
            kernel, cross = n * self.c * (hidden.T * p) @ hidden, n * self.c * (test.T * p) @ hidden
            inverse = np.linalg.inv(kernel + self.noise * np.eye(len(kernel)))
            variance = n * self.c * p @ test**2 - np.einsum("tp,pq,tq->t", cross, inverse, cross)
            return cross @ inverse @ data.y, variance, moment, rho
        # The readout of every neuron is Normal(β/2α, 1/2α); sum over N independent neurons.
        sigma = self.network.readout_scale**2
        scale = n**-self.network.gamma
        alpha = 1 / (2 * sigma) + (hidden**2).sum(axis=1) * scale**2 / (2 * self.noise)
        beta = hidden @ (data.y - f) * scale / self.noise
        mean = n * scale * ((p * beta / (2 * alpha)) @ test)
        square = (beta / (2 * alpha)) ** 2 + 1 / (2 * alpha)
        return mean, n * scale**2 * ((p * square) @ test**2) - mean**2 / n, moment, rho


GRIDS = {
    "AK": (True, {}),
    "MF-ARD": (False, {"prior": ARD(shape=2.0)}),
    "AK, one input, tanh, biases": (
        True,
        {"input_dim": 1, "activation": "tanh", "bias": True, "bias_scale": 0.7},
    ),
}
MORE_GRIDS = {
    "MF": (False, {}),
    "AK with ARD": (True, {"prior": ARD(shape=2.0)}),
    "MF, one input, ReLU, biases": (False, {"input_dim": 1, "bias": True, "gamma": 0.6}),
    "AK, linear": (True, {"activation": "identity", "readout_scale": 1.3}),
    "MF, erf": (False, {"activation": "erf", "prior": Isotropic(2.0)}),
}


@pytest.mark.parametrize(
    ("adaptive", "changes"),
    [pytest.param(*case, id=name) for name, case in GRIDS.items()]
    + [pytest.param(*case, id=name, marks=pytest.mark.slow) for name, case in MORE_GRIDS.items()],
)
def test_against_quadrature_on_a_grid(adaptive, changes):
    network = TwoLayerNetwork(**({"input_dim": 2, "width": 24, "kappa": 0.08} | changes))
    data = regression(network.input_dim)
    mean, variance, moment, rho = Grid(network, data, adaptive).solve()
    theory = AK if adaptive else MF_ARD if isinstance(network.prior, ARD) else MF
    point = solve(theory, network, data, Effort(num_sweeps=4))
    assert point.converged
    np.testing.assert_allclose(point.predictions, mean, atol=0.03)
    np.testing.assert_allclose(point.predictive_variance, variance, atol=0.05 * variance.max())
    np.testing.assert_allclose(point.second_moment, moment, rtol=0.1)
    np.testing.assert_allclose(point.input_precisions, rho, rtol=0.1)
    expected = np.mean((mean - data.y_test) ** 2) + variance.mean()
    assert abs(point.test_mse - expected) < 5 * point.test_mse_error + 2e-3
    m = np.mean(mean * data.y_test) / np.mean(data.y_test**2)
    assert abs(point.order_parameter - m) < 5 * point.error + 2e-3


PARITY = SparseParity(8, 2, relevant=(1, 4))
DATA = PARITY.sample(jax.random.key(0), 64, 200)


def network(**changes):
    return TwoLayerNetwork(**({"input_dim": 8, "width": 32, "kappa": 0.08} | changes))


@cache
def plain():
    """The adaptive kernel with the isotropic prior, to which several others are compared."""
    return solve(AK, network(), DATA)


@pytest.mark.parametrize(
    ("theory", "changes"),
    [
        (AK, {}),
        (MF, {"activation": "erf", "bias": True}),
        pytest.param(MF, {}, marks=pytest.mark.slow),
        pytest.param(AK, {"activation": "erf", "bias": True}, marks=pytest.mark.slow),
    ],
)
def test_infinite_width_is_the_nngp(theory, changes):
    wide = network(width=10**6, kappa=0.1, **changes)
    point, limit = solve(theory, wide, DATA), nngp_on_dataset(wide, DATA)
    np.testing.assert_allclose(point.predictions, limit.predictions, atol=2e-3)
    np.testing.assert_allclose(point.learned_kernel(DATA.x), nngp_kernel(wide, DATA.x), atol=2e-3)
    assert point.order_parameter == pytest.approx(limit.order_parameter, abs=1e-3)
    # MF's neurons are independent: a draw varies around the mean as under the prior.
    variance = limit.predictive_variance if theory == AK else nngp_variance(wide, DATA.x_test)
    np.testing.assert_allclose(point.predictive_variance, variance, atol=0.02 * variance.max())
    assert point.test_mse == pytest.approx(limit.test_mse_mean + variance.mean(), rel=0.01)


@pytest.mark.parametrize(("theory", "prior"), [(AK, Isotropic(1.5)), (MF_ARD, ARD(shape=3.0))])
def test_large_noise_is_the_prior(theory, prior):
    point = solve(theory, network(kappa=30.0, prior=prior), DATA)
    assert abs(point.order_parameter) < 0.01
    np.testing.assert_allclose(point.second_moment, prior.scale**2 / 8, rtol=0.01)
    np.testing.assert_allclose(point.input_precisions, 8 / prior.scale**2, rtol=0.01)
    # P(|w_S|² > |w|²/2) of 2 out of 8 Gaussian weights: a Beta(1, 3) variable above ½.
    assert point.num_aligned / 32 == pytest.approx(0.5**3, abs=0.04)
    assert point.relevance_ratio == pytest.approx(1.0, abs=0.01)


def test_ard_with_a_sharp_prior_is_isotropic():
    sharp = solve(AK, network(prior=ARD(shape=1e6)), DATA)
    np.testing.assert_allclose(sharp.input_precisions, 8.0, rtol=1e-3)
    assert sharp.order_parameter == pytest.approx(plain().order_parameter, abs=0.02)
    assert sharp.test_mse == pytest.approx(plain().test_mse, abs=0.03)


def every_point(input_dim, relevant):
    """All of {±1}^d as training and test data, so that averages over the data are over the
    population."""
    x = 1.0 - 2 * ((np.arange(2**input_dim)[:, None] >> np.arange(input_dim)) & 1)
    y = x[:, list(relevant)].prod(axis=1)
    return Dataset(x, y, x, y, relevant=relevant)


@pytest.mark.parametrize(
    ("theory", "prior", "limit"),
    [
        pytest.param(MF, Isotropic(), (0.4326, 0.6021, 2.258), id="MF"),
        pytest.param(MF_ARD, ARD(), (0.6441, 0.4140, 11.78), id="MF-ARD", marks=pytest.mark.slow),
    ],
)
def test_all_points_are_the_population(theory, prior, limit):
    """`limit` is m, the test error and the relevance ratio by quadrature over the population."""
    data = every_point(8, (1, 4))
    point = solve(
        theory,
        network(kappa=0.06, prior=prior),
        data,
        Effort(num_particles=1024, num_moves=4, num_settling=5),
    )
    # ⟨f⟩ is a multiple of the parity; what is left is noise and the Gaussian replacement of the
    # inputs.
    np.testing.assert_allclose(point.predictions, point.order_parameter * data.y_test, atol=0.06)
    assert point.order_parameter == pytest.approx(limit[0], rel=0.1)
    assert point.test_mse == pytest.approx(limit[1], rel=0.06)
    assert point.relevance_ratio == pytest.approx(limit[2], rel=0.15)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("prior", "kappa", "limit"),
    [
        (Isotropic(), 0.05, (0.5640, 0.3172)),
        (Isotropic(), 0.1, (0.0781, 1.0654)),
        (ARD(), 0.1, (0.7203, 0.2947)),
        (ARD(), 0.05, (0.9253, 0.1188)),
    ],
)
def test_adaptive_kernel_averaged_over_data_sets(prior, kappa, limit):
    """`limit` is m and the test error of the theory averaged over data sets of 300 points."""
    teacher = SparseParity(16, 2)
    net = TwoLayerNetwork(input_dim=16, width=64, kappa=kappa, prior=prior)
    found = []
    for seed in range(4):
        point = solve(AK, net, teacher.sample(jax.random.key(seed), 300, 1000), Effort())
        found.append([point.order_parameter, point.test_mse])
    mean, error = np.mean(found, axis=0), np.std(found, axis=0, ddof=1) / 2
    # Beside the scatter: the Gaussian replacement, and the self-averaging that the closed form
    # assumes.
    assert np.all(np.abs(mean - limit) < 3 * error + [0.05, 0.06])


def test_groups_share_a_precision():
    prior = GroupedARD(groups=((0, 3), (1, 2)))
    point = solve(AK, network(prior=prior), DATA)
    assert point.converged
    rho, labels = point.input_precisions, np.array(prior.labels(8))
    for group in range(labels.max() + 1):
        members = labels == group
        shape = prior.shape + 0.5 * 32 * members.sum()
        conjugate = shape / (prior.rate_for(8) + 0.5 * 32 * point.second_moment[members].sum())
        np.testing.assert_allclose(rho[members], conjugate, rtol=1e-3)
    drawn = point.sample_networks(jax.random.key(0), 2000)["rho"]
    np.testing.assert_array_equal(drawn[:, 0], drawn[:, 3])
    np.testing.assert_allclose(drawn.mean(axis=0), rho, rtol=0.05)


def test_without_groups_the_rule_is_that_of_ard():
    grouped, ard = (precision_rule(prior, 32, 8) for prior in (GroupedARD(), ARD()))
    moment, rho = np.linspace(0.1, 2, 8), np.linspace(1.0, 9.0, 8)
    np.testing.assert_array_equal(grouped.initial, ard.initial)
    np.testing.assert_array_equal(grouped.update(moment), ard.update(moment))
    np.testing.assert_allclose(ard.update(moment), (4 + 16) / (0.5 + 16 * moment))
    draws = [rule.draw(np.random.default_rng(0), rho, 4000) for rule in (grouped, ard)]
    np.testing.assert_array_equal(*draws)
    np.testing.assert_allclose(draws[0].mean(axis=0), rho, rtol=0.02)
    np.testing.assert_allclose(draws[0].var(axis=0), rho**2 / 20, rtol=0.1)


class Wider(Isotropic):
    def weights(self, width, input_dim):
        return 2 * super().weights(width, input_dim)


@pytest.mark.parametrize(
    "theory", [nngp_on_dataset, *(lambda *given, t=t: solve(t, *given) for t in (MF, AK))]
)
def test_a_subclass_with_other_weights_is_refused(theory):
    with pytest.raises(ValueError, match="Wider"):
        theory(network(prior=Wider()), DATA)


@pytest.mark.slow
@pytest.mark.parametrize("key", range(2))
def test_adaptive_kernel_where_few_neurons_carry_the_signal(key):
    """Energies of aligned neurons near 100, and a ridge below the noise of the particles' own
    kernel."""
    net = TwoLayerNetwork(input_dim=35, width=512, kappa=0.005)
    data = SparseParity(35, 4).sample(jax.random.key(0), 1000, 1000)
    point = solve(AK, net, data, Effort(), key=jax.random.key(key))
    assert point.converged
    # m and the test error of the theory averaged over data sets.
    assert abs(point.order_parameter - 0.8522) < 0.07
    assert point.test_mse == pytest.approx(0.0702, abs=0.04)


@pytest.mark.parametrize("prior", [Isotropic(), pytest.param(ARD(), marks=pytest.mark.slow)])
def test_both_starts_lead_to_the_same_answer(prior):
    net = network(prior=prior)
    first = plain() if prior == Isotropic() else solve(AK, net, DATA)
    second = solve(AK, net, DATA, start="aligned")
    assert second.start == "aligned"
    assert second.branches[0].starts == ("aligned",)
    error = math.hypot(first.error, second.error)
    assert abs(first.order_parameter - second.order_parameter) < 5 * error + 0.01
    error = math.hypot(first.test_mse_error, second.test_mse_error)
    assert abs(first.test_mse - second.test_mse) < 5 * error + 0.01


# --- the answer ---


@pytest.fixture(scope="module", params=[(MF_ARD, ARD()), (AK, Isotropic())])
def solved(request):
    theory, prior = request.param
    net = network(prior=prior, bias=True, activation="erf", bias_scale=0.5)
    data, calls, before = regression(8, 64), [], dict(jax.config.values)
    point = solve(theory, net, data, progress=lambda *call: calls.append(call))
    assert dict(jax.config.values) == before
    assert not before["jax_enable_x64"]
    done = [call[0] for call in calls]
    assert done == sorted(done)
    assert calls[-1][0] == calls[-1][1]
    return net, data, theory, point


def test_networks_have_the_solved_predictions(solved):
    net, data, theory, point = solved
    num_draws = 400
    networks = point.sample_networks(jax.random.key(1), num_draws)
    assert {name: v.shape for name, v in networks.items()} == {
        "w": (num_draws, 32, 8), "a": (num_draws, 32), "b": (num_draws, 32),
    } | ({"rho": (num_draws, 8)} if isinstance(net.prior, ARD) else {})  # fmt: skip
    f = np.asarray(net.apply(networks, data.x_test))
    moment = (networks["w"] ** 2).mean(axis=(0, 1))
    np.testing.assert_allclose(moment, point.second_moment, rtol=0.15)
    if theory == AK:
        # N independent neurons fluctuate around the mean kernel: they fit a little less well.
        assert np.corrcoef(f.mean(axis=0), point.predictions)[0, 1] > 0.97
        return
    error = f.std(axis=0, ddof=1) / math.sqrt(num_draws)
    assert np.all(np.abs(f.mean(axis=0) - point.predictions) < 4.5 * error + 0.01)
    np.testing.assert_allclose(f.var(axis=0, ddof=1), point.predictive_variance, rtol=0.4)
    assert f.var(axis=0).mean() == pytest.approx(point.predictive_variance.mean(), rel=0.08)
    np.testing.assert_allclose(networks["rho"].mean(axis=0), point.input_precisions, rtol=0.1)


def test_predictions_are_ridge_regression_with_the_learned_kernel(solved):
    net, data, theory, point = solved
    kernel, cross = point.learned_kernel(data.x), point.learned_kernel(data.x_test, data.x)
    inverse = np.linalg.inv(kernel + net.kappa**2 * 64 * np.eye(64))
    np.testing.assert_allclose(point.predictions, cross @ inverse @ data.y, atol=1e-3)
    assert point.order_parameter == pytest.approx(
        np.mean(point.predictions * data.y_test) / np.mean(data.y_test**2)
    )
    assert point.test_mse == pytest.approx(point.test_mse_mean + point.predictive_variance.mean())
    if theory == AK:
        variance = np.diag(point.learned_kernel(data.x_test)) - np.einsum(
            "tp,pq,tq->t", cross, inverse, cross
        )
        np.testing.assert_allclose(point.predictive_variance, variance, atol=1e-3)


def test_the_answer_is_json_and_makes_a_tree(solved):
    net, data, _, point = solved
    record = point.to_dict()
    assert json.loads(json.dumps(record, allow_nan=False)) == record
    assert len(record["second_moment"]) == len(record["input_precisions"]) == 8
    assert record["num_data"] == 64
    draws = {k: v[None] for k, v in point.sample_networks(jax.random.key(0), 5).items()}
    tree = build_tree(
        net, data, draws, scheme=point.theory, settings={}, seed=jax.random.key(0), wall_time_s=0.0,
        gradient_evaluations=0, independent_draws=True,
    )  # fmt: skip
    assert tree["order_parameters"].sizes["draw"] == 5


def test_same_key_same_answer():
    again, other = (solve(AK, network(), DATA, key=jax.random.key(seed)) for seed in (0, 1))
    assert again.to_dict() == plain().to_dict()
    assert np.array_equal(again.predictions, plain().predictions)
    assert other.order_parameter != again.order_parameter
    error = math.hypot(other.error, again.error)
    assert abs(other.order_parameter - again.order_parameter) < 6 * error + 0.01


def test_unknown_relevant_inputs_change_nothing_but_what_is_said_of_them():
    unknown, every = (
        solve(AK, network(), replace(DATA, relevant=relevant, teacher=None)) for relevant in (None, range(8))
    )
    assert unknown.num_aligned is unknown.relevance_ratio is every.relevance_ratio is None
    assert unknown.precisions.relevant == unknown.precisions.rest == 8.0
    assert plain().relevance_ratio > 1
    assert np.array_equal(unknown.predictions, plain().predictions)
    assert np.array_equal(every.predictions, plain().predictions)


@pytest.mark.slow
def test_fewer_particles_than_points():
    data = PARITY.sample(jax.random.key(1), 150, 100)
    few = Effort(num_particles=64, num_sweeps=2, num_settling=2, num_moves=2)
    point, more = (solve(AK, network(kappa=0.1), data, effort) for effort in (few, QUICK))
    assert point.converged
    assert point.order_parameter == pytest.approx(more.order_parameter, abs=0.1)


@dataclass(frozen=True)
class Doubled(WeightPrior):
    """The isotropic prior under another name, at twice the precision."""

    def weights(self, width, input_dim):
        raise AssertionError("a theory asks the precision rule, not the density")


def test_a_prior_of_one_s_own():
    with pytest.raises(ValueError, match="prior Doubled has no precision rule"):
        solve(AK, network(prior=Doubled()), DATA)
    precision_rule.register(Doubled, lambda prior, width, dim: PrecisionRule(np.full(dim, 2.0 * dim)))
    own, same = (solve(AK, network(prior=prior), DATA) for prior in (Doubled(), Isotropic(2**-0.5)))
    np.testing.assert_allclose(own.predictions, same.predictions, rtol=1e-4, atol=1e-6)


# --- the parts ---


def a_target(adaptive, bonus=0.0):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(15, 2)).astype(np.float32)
    root_inverse = rng.normal(size=(15, 15)).astype(np.float32) / 3
    return Target(
        inputs=jnp.asarray(x),
        residual=jnp.asarray(2.5 * np.abs(x[:, 0]) - 1.5, jnp.float32),
        inverse=jnp.asarray(root_inverse @ root_inverse.T if adaptive else np.zeros((0, 0), np.float32)),
        scales=jnp.array([0.7, 0.5]),
        coupling=jnp.float32(0.1),
        ridge=jnp.float32(0.5),
        knots=jnp.linspace(-1.0, 6.0, 16),
        bonus=bonus * jnp.linspace(0.0, 1.0, 16) ** 2,
    )


@pytest.mark.parametrize("adaptive", [True, False])
def test_energy_and_gradient(adaptive):
    target = a_target(adaptive, 2.0)
    z = jax.random.normal(jax.random.key(0), (50, 2))
    state = jax.jit(evaluate, static_argnums=0)("erf", target, z)

    def energy(z):
        phi = jax.scipy.special.erf(target.inputs @ (target.scales * z))
        g = phi @ target.inverse @ phi if adaptive else phi @ phi / 0.5
        b = phi @ target.residual
        return -0.5 * jnp.log(1 + 0.1 * g) + 0.5 * 0.1 * b**2 / (1 + 0.1 * g)

    def biased(z):
        return energy(z) + jnp.interp(energy(z), target.knots, target.bonus)

    values, (height, slope) = jax.jit(jax.vmap(lambda z: (energy(z), jax.value_and_grad(biased)(z))))(z)
    np.testing.assert_allclose(state.energy, values, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(state.gradient, slope, rtol=1e-3, atol=1e-3)
    density = height - 0.5 * (z**2).sum(axis=1)
    np.testing.assert_allclose(state.log_density, density, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("adaptive", [True, False])
@pytest.mark.parametrize("steps", [(1.5, 1e-5), (0.3, 0.5)])
def test_each_move_leaves_the_density_invariant(adaptive, steps):
    """Chains from far off, with and without narrow moves, have the moments of the density on a
    grid."""
    target = a_target(adaptive, 1.0)
    axis = np.linspace(-6, 6, 161)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    on_grid = jax.jit(evaluate, static_argnums=0)("relu", target, jnp.asarray(grid, jnp.float32))
    log_density = np.asarray(on_grid.log_density, float)
    p = np.exp(log_density - log_density.max())
    p /= p.sum()
    z = 2.0 + jnp.zeros((4000, 2))
    for i in range(3):  # the steps adapt between calls: they are held here
        z, _, _ = move("relu", 40, target, jax.random.key(i), z, jnp.array(steps))
    z = np.asarray(z, float)
    for function in (
        lambda z: z[:, 0] ** 2,
        lambda z: z[:, 1] ** 2,
        lambda z: z[:, 0],
        lambda z: np.abs(z).prod(axis=1),
    ):
        values = function(z)
        error = values.std(ddof=1) / math.sqrt(len(values))
        assert abs(values.mean() - p @ function(grid)) < 4.5 * error


@pytest.mark.parametrize("adaptive", [True, False])
def test_a_flip_leaves_the_density_invariant_and_stays_above_the_floor(adaptive):
    """From exact draws, whose energy and signs a flip that is always taken would change."""
    target = a_target(adaptive, 1.0)
    axis = np.linspace(-6, 6, 161)
    grid = np.stack(np.meshgrid(axis, axis), axis=-1).reshape(-1, 2)
    state = jax.jit(evaluate, static_argnums=0)("relu", target, jnp.asarray(grid, jnp.float32))
    log_density = np.asarray(state.log_density, float)
    p = np.exp(log_density - log_density.max())
    p /= p.sum()
    rng = np.random.default_rng(0)
    chosen = rng.choice(len(grid), 20_000, p=p)
    drawn = jax.tree.map(lambda leaf: leaf[chosen], state)
    flip = jax.jit(_flip, static_argnums=0)
    moved = flip("relu", target, jax.random.key(0), drawn, -jnp.inf)
    assert 0.05 < np.mean(np.any(moved.z != drawn.z, axis=1)) < 0.95
    np.testing.assert_array_equal(np.abs(moved.z), np.abs(drawn.z))
    for values, exact in ((moved.energy, p @ np.asarray(state.energy)), (moved.z[:, 0], p @ grid[:, 0])):
        values = np.asarray(values, float)
        assert abs(values.mean() - exact) < 4.5 * values.std() / math.sqrt(len(values))
    upper = jax.tree.map(lambda leaf: leaf[np.argsort(drawn.energy)[10_000:]], drawn)
    floor = upper.energy.min()
    assert flip("relu", target, jax.random.key(1), upper, floor).energy.min() >= floor


def test_the_umbrella_is_flat_above_the_bulk():
    rng = np.random.default_rng(0)
    energy = rng.permutation(np.concatenate([rng.exponential(size=20_000), rng.normal(20, 2, size=4000)]))
    weights = np.where(energy < 12, 1.0, 1e-4)
    weights /= weights.sum()
    umbrella = Umbrella.over(energy, weights, 64)
    again = resample(rng, weights * np.exp(umbrella(energy)), 8)
    chosen = energy[again]
    assert 0.4 < np.mean(chosen < 4) < 0.8
    assert 0.1 < np.mean(chosen > 15) < 0.35
    # Weighted back, the rare mode has its mass.
    back = np.exp(-umbrella(chosen))
    assert back[chosen > 12].sum() / back.sum() == pytest.approx(weights[energy > 12].sum(), rel=0.2)
    assert np.exp(-umbrella(chosen)).max() <= 2.0 + 1e-9


def test_resampling_keeps_the_blocks_and_the_mean_counts():
    weights = np.array([0.1, 0.2, 0.7, 1.0, 0.5, 0.5])
    counts = np.zeros(6)
    rng = np.random.default_rng(0)
    for _ in range(2000):
        index = resample(rng, weights, 2)
        assert np.all(index[:3] < 3)
        assert np.all(index[3:] >= 3)
        counts += np.bincount(index, minlength=6)
    np.testing.assert_allclose(counts / 2000, [0.3, 0.6, 2.1, 1.5, 0.75, 0.75], atol=0.05)


BAD = [
    (MF, network(), {"num_data": 10}, "num_data must be None on a Dataset"),
    (MF, network(prior=ARD()), {}, r"prior must be models\.Isotropic for TheTheory, got ARD"),
    (MF_ARD, network(), {}, r"prior must be models\.ARD"),
    (AK, network(input_dim=9), {}, "x must have input_dim=9"),
    (AK, "network", {}, "network must be"),
    (AK, network(), {"start": "warm"}, "start must be one of prior, aligned"),
    (AK, network(kappa=1e-12), {}, "raise kappa"),
]


@pytest.mark.parametrize(("theory", "net", "options", "message"), BAD)
def test_bad_input(theory, net, options, message):
    with pytest.raises(ValueError, match=message) as caught:
        solve(theory, net, DATA, **options)
    assert str(caught.value).endswith(".")
    assert "\n" not in str(caught.value)


def test_aligned_start_needs_relevant_inputs():
    with pytest.raises(ValueError, match=r"start='aligned' needs data\.relevant"):
        solve(AK, network(), replace(DATA, relevant=None, teacher=None), start="aligned")


def test_learned_kernel_needs_matching_inputs(solved):
    with pytest.raises(ValueError, match="x_other must have 8 columns"):
        solved[3].learned_kernel(np.ones((2, 8)), np.ones((2, 7)))
