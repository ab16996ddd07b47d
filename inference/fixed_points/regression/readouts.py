"""Readouts of given hidden neurons from their exact posterior on a data set, in float64."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cholesky, solve_triangular
from scipy.special import erf

from models import Dataset, Network

# As in models.network, in float64.
_ACTIVATIONS = {
    "relu": lambda u: np.maximum(u, 0.0),
    "tanh": np.tanh,
    "erf": erf,
    "identity": lambda u: u,
}


def hidden_activation(name: str, u: np.ndarray) -> np.ndarray:
    """φ(u) in float64, by the name that :class:`models.Network` gives it."""
    return _ACTIVATIONS[name](u)


@dataclass(frozen=True)
class ReadoutSampler:
    """Readouts given hidden weights, from their exact posterior.

        a | w, b, data ~ Normal(Λ⁻¹ N^(-γ) Φ y/(κ²P), Λ⁻¹),   Λ = I/σ_a² + N^(-2γ) ΦΦᵀ/(κ²P)

    with Φ (N, P) the activations of the last hidden layer on the training inputs. Called, it draws
    the hidden weights from the isotropic prior: networks of the NNGP at finite width.
    """

    network: Network
    data: Dataset

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), …, a (num_draws, N_L) and, with biases, b (num_draws, N), …"""
        networks = {}
        for layer in self.network.layers:
            shape = num_draws, layer.width, layer.input_dim
            scale = layer.prior.precision(layer.input_dim) ** -0.5
            networks[layer.site("w")] = scale * rng.standard_normal(shape)
            if self.network.bias:
                networks[layer.site("b")] = self.network.bias_scale * rng.standard_normal(shape[:2])
        return networks | {"a": self.readouts(rng, networks)}

    def readouts(self, rng: np.random.Generator, networks: dict[str, np.ndarray]) -> np.ndarray:
        """One draw of a (n, N_L) given the hidden layers of n networks, w (n, N, d), …"""
        names = [name for name in self.network.parameter_names if name != "a"]
        rows = zip(*(networks[name] for name in names), strict=True)
        return np.stack([self.readout(rng, dict(zip(names, row, strict=True))) for row in rows])

    def readout(self, rng: np.random.Generator, hidden_layers: dict[str, np.ndarray]) -> np.ndarray:
        """One draw of a (N_L,) given the hidden layers of one network, w (N, d), …"""
        network, data = self.network, self.data
        ridge = network.kappa**2 * data.num_data
        hidden = data.x.T
        for layer in network.layers:
            bias = hidden_layers[layer.site("b")][:, None] if network.bias else 0.0
            hidden = hidden_activation(network.activation, hidden_layers[layer.site("w")] @ hidden + bias)
        hidden = hidden * network.widths[-1] ** -network.gamma
        precision = hidden @ hidden.T / ridge + np.eye(len(hidden)) / network.readout_scale**2
        factor = cholesky(precision, lower=True)
        whitened = solve_triangular(factor, hidden @ data.y / ridge, lower=True)
        noise = rng.standard_normal(len(hidden))
        return solve_triangular(factor, whitened + noise, lower=True, trans="T")
