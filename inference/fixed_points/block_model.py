"""The reduced network as a NumPyro model: N neurons with k + 1 variables each, readouts and data integrated out."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist

from inference.fixed_points.block_density import (
    Background,
    BlockProblem,
    log_evidence,
    settle,
)
from inference.fixed_points.block_modes import BlockFeatures, block_features
from models import ARD, Isotropic


@dataclass(frozen=True, eq=False)
class BlockModel:
    """The density of :class:`BlockAdaptiveKernel` over (w_S, s), s = |w_rest|; calling it is the NumPyro model.

        w_S,i ~ Normal(0, 1/ρ_S),     s_i² = μ b_i,     b_i ~ Gamma(ν/2, ν/2),     factor: log evidence

    Isotropic prior: μ = (d-k)/ρ, ν = d - k, which is exact. ARD: ρ_j ~ Gamma(α0, β0) for every input, s_i² given
    the ρ_j is Σ_j g_j²/ρ_j, replaced by the Gamma of the same mean and variance (Satterthwaite 1946): μ = Σ_j 1/ρ_j,
    ν = μ²/Σ_j ρ_j⁻² over j ∉ S. The scales are not centred, w_S = z/√ρ.

    Parameters
    ----------
    problem
        Constants of the evidence.
    prior
        :class:`models.Isotropic` or :class:`models.ARD`.
    background
        λ_ij, κ̃ and ε; None where every call brings its own.
    inputs
        Those outside S: "gaussian", or "binary" for ±1 with corrections of order 1/(d-k).

    Examples
    --------
    >>> import jax, numpyro
    >>> from models import Isotropic
    >>> problem = BlockProblem(16, 2, 64, 1 / 64)
    >>> model = BlockModel.at_prior(problem, Isotropic(), 0.05, 300, jax.random.key(0))
    >>> draws = numpyro.infer.Predictive(model, num_samples=3)(jax.random.key(1))
    >>> draws["w_relevant"].shape, draws["rest_norm"].shape
    ((3, 64, 2), (3, 64))
    """

    problem: BlockProblem
    prior: Isotropic | ARD
    background: Background | None = None
    inputs: str = "gaussian"

    @classmethod
    def at_prior(
        cls,
        problem: BlockProblem,
        prior: Isotropic | ARD,
        kappa: float,
        num_data: int | None,
        key: jax.Array,
        inputs: str = "gaussian",
    ) -> BlockModel:
        """The model at κ and P = `num_data`, in the background that one set of neurons from the prior forms."""
        model = cls(problem, prior, inputs=inputs)
        with numpyro.handlers.block(), numpyro.handlers.seed(rng_seed=key):
            features = model.features(model.sample_parameters())
        rate = 0.0 if num_data is None else 1 / num_data
        background = settle(problem, features, kappa**2, rate)
        return cls(problem, prior, jax.tree.map(np.asarray, background), inputs)

    def __call__(self, background: Background | None = None) -> None:
        """The NumPyro model: sites w_base and rest_base, with ARD rho_relevant and rho_rest.

        Deterministic sites w_relevant and rest_norm; the evidence is the factor evidence.

        Parameters
        ----------
        background
            Instead of the model's own; may be traced.
        """
        given = self.background if background is None else background
        if given is None:
            raise ValueError(
                "background must be given, to the model or to the call; BlockModel.at_prior makes one."
            )
        features = self.features(self.sample_parameters())
        background = Background(*(jnp.asarray(v, features.tail.dtype) for v in given))
        numpyro.factor("evidence", log_evidence(self.problem, features, background))

    def sample_parameters(self) -> dict[str, jax.Array]:
        """Sample statements; returns w_relevant (N, k), rest_norm (N,) and, with ARD, both kinds of precision."""
        problem, prior = self.problem, self.prior
        degree, num_rest = problem.degree, problem.num_rest
        params = {}
        if isinstance(prior, ARD):
            gamma = dist.Gamma(prior.shape, prior.rate_for(problem.input_dim))
            with numpyro.plate("relevant_input", degree, dim=-1):
                params["rho_relevant"] = numpyro.sample("rho_relevant", gamma)
            with numpyro.plate("rest_input", num_rest, dim=-1):
                params["rho_rest"] = numpyro.sample("rho_rest", gamma)
            scale = params["rho_relevant"] ** -0.5
            variance = 1 / params["rho_rest"]
            mean, freedom = variance.sum(), self.freedom(params)
        else:
            precision = prior.precision(problem.input_dim)
            scale, mean, freedom = precision**-0.5, num_rest / precision, self.freedom(params)
        with (
            numpyro.plate("neuron", problem.width, dim=-2),
            numpyro.plate("relevant_input", degree, dim=-1),
        ):
            base = numpyro.sample("w_base", dist.Normal(0.0, 1.0))
        with numpyro.plate("rest_neuron", problem.width, dim=-1):
            rest = numpyro.sample("rest_base", dist.Gamma(freedom / 2, freedom / 2))
        params["w_relevant"] = numpyro.deterministic("w_relevant", base * scale)
        params["rest_norm"] = numpyro.deterministic("rest_norm", jnp.sqrt(mean * rest))
        return params

    def freedom(self, params: dict[str, jax.Array]) -> jax.Array | float:
        """ν, the number of rest weights that share s² evenly."""
        if "rho_rest" not in params:
            return float(self.problem.num_rest)
        variance = 1 / params["rho_rest"]
        return variance.sum() ** 2 / (variance**2).sum()

    def features(self, params: dict[str, jax.Array]) -> BlockFeatures:
        """What these neurons contribute to the modes."""
        freedom = self.freedom(params) if self.inputs == "binary" else None
        problem = self.problem
        return block_features(
            params["w_relevant"], params["rest_norm"], problem.input_dim, problem.max_order, freedom
        )
