"""Full networks from draws of the reduced one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from inference.fixed_points.coverage import check_training_points
from inference.fixed_points.regression.readouts import ReadoutSampler
from models import Dataset, SparseParity, TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class BlockNetworks:
    """Networks whose reduced variables are draws of the chains, with readouts from their posterior.

    The direction of w_rest is that of a prior neuron given the precisions: uniform under the
    isotropic prior. Beyond the number of draws they repeat, with new directions and readouts.
    """

    network: TwoLayerNetwork
    teacher: SparseParity
    sites: dict[str, np.ndarray]  # each (chain, draw, ...)

    def __call__(
        self, rng: np.random.Generator, num_draws: int, data: Dataset | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N) and, with ARD, rho (num_draws, d)."""
        check_training_points(
            self.network, self.teacher.relevant, data, "block-adaptive-kernel", required=True
        )
        d, width = self.network.input_dim, self.network.width
        available = self.sites["rest_norm"].shape[0] * self.sites["rest_norm"].shape[1]
        order = np.concatenate([rng.permutation(available) for _ in range(-(-num_draws // available))])
        sites = {
            name: value.reshape(available, *value.shape[2:])[order[:num_draws]]
            for name, value in self.sites.items()
        }
        inside = list(self.teacher.relevant)
        outside = np.setdiff1d(np.arange(d), inside)
        networks, rest = {}, rng.standard_normal((num_draws, width, len(outside)))
        if "rho_rest" in sites:
            rest /= np.sqrt(sites["rho_rest"])[:, None]
            networks["rho"] = np.empty((num_draws, d))
            networks["rho"][:, inside], networks["rho"][:, outside] = sites["rho_relevant"], sites["rho_rest"]
        rest *= (sites["rest_norm"] / np.linalg.norm(rest, axis=-1))[..., None]
        w = np.empty((num_draws, width, d))
        w[..., inside], w[..., outside] = sites["w_relevant"], rest
        return networks | {"w": w, "a": ReadoutSampler(self.network, data).readouts(rng, {"w": w})}
