"""The reduced network, N neurons of k + 1 variables each, as a NumPyro model."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from inference.fixed_points.block.density import Background, log_evidence, settle
from inference.fixed_points.block.modes import BlockFeatures, block_features
from inference.fixed_points.populations.parity import sign_patterns
from inference.fixed_points.populations.problem import PopulationProblem
from inference.tracing import TRACE_LOCK

_NORM = 1.5  # of an aligned neuron at the start, in units of a prior neuron's


@dataclass(frozen=True)
class BlockModel:
    """The density of :class:`BlockAdaptiveKernel` over (w_S, s), s = |w_rest|.

        w_S,i ~ Normal(0, 1/ρ_S),    s_i² = μ b_i,    b_i ~ Gamma(ν/2, ν/2),    factor: log evidence

    Isotropic prior: μ = (d-k)/ρ, ν = d - k, which is exact. ARD: ρ_j ~ Gamma(α0, β0) for every
    input, s_i² given the ρ_j is Σ_j g_j²/ρ_j, replaced by the Gamma of the same mean and variance
    (Satterthwaite 1946): μ = Σ_j 1/ρ_j, ν = μ²/Σ_j ρ_j⁻² over j ∉ S. The scales are not centred,
    w_S = z/√ρ. Calling it with a background is the NumPyro model. The problem is a
    :class:`models.SparseParity` of even degree with a ReLU network without biases; `inputs` are
    those outside S: "gaussian", or "binary" for ±1 with corrections of order 1/(d-k).

    Examples
    --------
    >>> import jax, numpyro
    >>> from inference.fixed_points.populations.problem import population_problem
    >>> from models import Isotropic, SparseParity, TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=16, width=64, kappa=0.05)
    >>> model = BlockModel(
    ...     population_problem(network, SparseParity(16, 2), "AKB", Isotropic, max_order=4)
    ... )
    >>> background = model.prior_background(0.05, 300, jax.random.key(0))
    >>> predictive = numpyro.infer.Predictive(model, num_samples=3)
    >>> draws = predictive(jax.random.key(1), background)
    >>> draws["w_relevant"].shape, draws["rest_norm"].shape
    ((3, 64, 2), (3, 64))
    """

    problem: PopulationProblem
    inputs: str = "gaussian"

    def __call__(self, background: Background) -> None:
        """Sites of :meth:`sample_parameters`, and the factor evidence."""
        features = self.features(self.sample_parameters())
        background = Background(*(jnp.asarray(v, features.tail.dtype) for v in background))
        numpyro.factor("evidence", log_evidence(self.problem, features, background))

    def prior_background(self, kappa: float, num_data: int | None, key: jax.Array) -> Background:
        """The background that one set of neurons from the prior forms, at κ and P = `num_data`."""
        with TRACE_LOCK, numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            features = self.features(self.sample_parameters())
        return settle(self.problem, features, kappa, num_data)

    def sample_parameters(self) -> dict[str, jax.Array]:
        """Sites w_base and rest_base, with ARD rho_relevant and rho_rest.

        Returns these precisions and the deterministic sites w_relevant (N, k) and rest_norm (N,).
        """
        problem, prior = self.problem, self.problem.prior
        degree, num_rest = problem.counts.tolist()
        params = {}
        if prior is None:
            scale, mean = problem.precision**-0.5, num_rest / problem.precision
        else:
            gamma = dist.Gamma(prior.shape, prior.rate)
            with numpyro.plate("relevant_input", degree, dim=-1):
                params["rho_relevant"] = numpyro.sample("rho_relevant", gamma)
            with numpyro.plate("rest_input", num_rest, dim=-1):
                params["rho_rest"] = numpyro.sample("rho_rest", gamma)
            scale, mean = params["rho_relevant"] ** -0.5, (1 / params["rho_rest"]).sum()
        freedom = self._freedom(params)
        neurons = numpyro.plate("neuron", problem.width, dim=-2)
        with neurons, numpyro.plate("relevant_input", degree, dim=-1):
            base = numpyro.sample("w_base", dist.Normal(0.0, 1.0))
        with numpyro.plate("rest_neuron", problem.width, dim=-1):
            rest = numpyro.sample("rest_base", dist.Gamma(freedom / 2, freedom / 2))
        params["w_relevant"] = numpyro.deterministic("w_relevant", base * scale)
        params["rest_norm"] = numpyro.deterministic("rest_norm", jnp.sqrt(mean * rest))
        return params

    def _freedom(self, params: dict[str, jax.Array]) -> jax.Array | float:
        """ν, the number of rest weights that share s² evenly."""
        if "rho_rest" not in params:
            return float(self.problem.counts[1])
        variance = 1 / params["rho_rest"]
        return variance.sum() ** 2 / (variance**2).sum()

    def features(self, params: dict[str, jax.Array]) -> BlockFeatures:
        """What these neurons contribute to the modes."""
        freedom = self._freedom(params) if self.inputs == "binary" else None
        return block_features(params["w_relevant"], params["rest_norm"], self.problem.input_dim, freedom)

    def start_params(self, key: jax.Array, num_chains: int, start: str) -> dict[str, jax.Array]:
        """Unconstrained initial values, chains leading.

        "prior": a draw of the prior. "aligned": one neuron for each pair ±σ of sign patterns, and
        with ARD a quarter of them all if that is more, points along w_S ∝ σ with 1.5 times the norm
        of a prior neuron and a tenth of its rest.
        """
        problem, prior = self.problem, self.problem.prior
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)).ravel())
        (degree, num_rest), shape = problem.counts.tolist(), (num_chains, problem.width)
        base = rng.standard_normal((*shape, degree))
        rest = rng.chisquare(num_rest, shape) / num_rest
        precision, positive = np.full((num_chains, degree), problem.precision), {}
        if prior is not None:
            positive["rho_rest"] = rng.gamma(prior.shape, 1 / prior.rate, (num_chains, num_rest))
            precision = rng.gamma(prior.shape, 1 / prior.rate, (num_chains, degree))
        if start == "aligned":
            patterns = sign_patterns(degree)[: 2 ** (degree - 1)]
            quarter = 0 if prior is None else problem.width // 4
            count = min(problem.width, max(len(patterns), quarter))
            w = base / np.sqrt(precision)[:, None]
            norm = _NORM * np.sqrt(problem.input_dim / precision.mean())
            w[:, :count] = norm / np.sqrt(degree) * patterns[np.arange(count) % len(patterns)]
            rest[:, :count] *= 0.01
            if prior is not None:
                precision = prior.update(problem.width, (w**2).mean(axis=1))
            base = w * np.sqrt(precision)[:, None]
        positive["rest_base"] = rest
        if prior is not None:
            positive["rho_relevant"] = precision
        # NumPyro's unconstrained form of a positive site is its logarithm.
        logs = {name: jnp.asarray(np.log(value)) for name, value in positive.items()}
        return {"w_base": jnp.asarray(base)} | logs
