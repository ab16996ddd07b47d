"""Readouts of given hidden neurons from their exact posterior on a data set, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import erf

from models import Dataset, TwoLayerNetwork

# As in models.network, in float64.
_ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
    "erf": erf,
    "identity": lambda u: u,
}


def hidden_activation(name: str, u: np.ndarray) -> np.ndarray:
    """φ(u) in float64, by the name that :class:`models.TwoLayerNetwork` gives it."""
    return _ACTIVATIONS[name](u)


@dataclass(frozen=True)
class ReadoutSampler:
    """Readouts given hidden weights, from their exact posterior.

        a | w, b, data ~ Normal(Λ⁻¹ N^(-γ) Φ y/(κ²P), Λ⁻¹),   Λ = I/σ_a² + N^(-2γ) ΦΦᵀ/(κ²P)

    with Φ (N, P) the hidden activations on the training inputs. Called, it draws the hidden weights
    from the isotropic prior: networks of the NNGP at finite width.
    """

    network: TwoLayerNetwork
    data: Dataset

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with biases, b (num_draws, N)."""
        network, n = self.network, self.network.width
        scale = network.prior.precision(network.input_dim) ** -0.5
        networks = {"w": scale * rng.standard_normal((num_draws, n, network.input_dim))}
        if network.bias:
            networks["b"] = network.bias_scale * rng.standard_normal((num_draws, n))
        return networks | {"a": self.readouts(rng, networks)}

    def readouts(self, rng: np.random.Generator, networks: dict[str, np.ndarray]) -> np.ndarray:
        """One draw of a (n, N) given networks w (n, N, d) and, with biases, b (n, N)."""
        w = networks["w"]
        biases = networks.get("b", np.zeros(w.shape[:2]))
        return np.stack([self.readout(rng, *pair) for pair in zip(w, biases, strict=True)])

    def readout(self, rng: np.random.Generator, w: np.ndarray, b: np.ndarray) -> np.ndarray:
        """One draw of a (N,) given w (N, d) and b (N,)."""
        network, data = self.network, self.data
        ridge = network.kappa**2 * data.num_data
        hidden = hidden_activation(network.activation, w @ data.x.T + b[:, None])
        hidden = hidden * network.width**-network.gamma
        precision = hidden @ hidden.T / ridge + np.eye(len(w)) / network.readout_scale**2
        factor = cholesky(precision, lower=True)
        whitened = solve_triangular(factor, hidden @ data.y / ridge, lower=True)
        return solve_triangular(factor, whitened + rng.standard_normal(len(w)), lower=True, trans="T")
