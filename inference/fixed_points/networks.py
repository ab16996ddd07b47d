"""Networks of independent neurons from a theory on a population."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from inference.fixed_points.branches.equations import Equations, System
from inference.fixed_points.coverage import check_training_points
from inference.fixed_points.neuron.averages import Averages
from inference.fixed_points.neuron.draws import NeuronSampler
from inference.fixed_points.neuron.nodes import NodeSet
from inference.fixed_points.regression.readouts import ReadoutSampler
from models import Dataset, TwoLayerNetwork


@dataclass(frozen=True, eq=False)
class PopulationNetworks:
    """Draws networks whose N neurons are independent draws from the density of one.

        w, b ~ p(w, b),   a | w, b ~ Normal(σ_a² N^(-γ) B/(1 + cG), σ_a²/(1 + cG))
        ρ_j  ~ Gamma(α0 + N/2, (α0 + N/2)/ρ_j)

    or, given a data set, readouts from their exact posterior on it.

    Parameters
    ----------
    network, equations, z
        The solution z = (θ, log κ̃) of a theory for a network.
    sets, average
        Node sets, and averages over them at z.
    readouts
        Whether the theory has a law for them; the adaptive kernel integrates them out.
    """

    network: TwoLayerNetwork
    equations: Equations
    z: np.ndarray
    sets: list[NodeSet]
    average: Averages
    readouts: bool

    def __call__(
        self, rng: np.random.Generator, num_draws: int, data: Dataset | None = None
    ) -> dict[str, np.ndarray]:
        """Arrays w (n, N, d), a (n, N), with biases b (n, N), with ARD rho (n, d), n draws."""
        network, problem = self.network, self.equations.lattice.problem
        required = data is None and not self.readouts
        check_training_points(network, problem.relevant, data, self.equations.name, required)
        neurons = self._sampler.draw(rng, num_draws * network.width)
        oriented, signs = problem.population.orient(rng, neurons.components, neurons.norms)
        others = np.setdiff1d(np.arange(network.input_dim), problem.relevant)
        weights = np.empty_like(oriented)
        weights[:, [*problem.relevant, *others]] = oriented
        networks = {"w": weights.reshape(num_draws, network.width, network.input_dim)}
        if network.bias:
            networks["b"] = neurons.bias.reshape(num_draws, network.width)
        if problem.prior is not None:
            inside, outside = self.equations.precisions(self.z[:-1])
            rho = np.full(network.input_dim, outside)
            rho[list(problem.relevant)] = inside
            shape = problem.prior.shape + network.width / 2  # at the fixed point the rate is shape/ρ
            networks["rho"] = rng.gamma(shape, rho / shape, (num_draws, network.input_dim))
        if data is None:
            networks["a"] = self._own_readouts(rng, neurons, signs).reshape(num_draws, network.width)
        else:
            networks["a"] = ReadoutSampler(network, data).readouts(rng, networks)
        return networks

    @cached_property
    def _sampler(self) -> NeuronSampler:
        naturals = self.equations.naturals(self.z[:-1], self.z[-1])
        density = System(self.equations, self.sets).density(naturals)
        average = self.average
        return NeuronSampler(
            self.equations.lattice, density, self.sets, average.weights, average.effective_sample_size
        )

    def _own_readouts(self, rng, neurons, signs) -> np.ndarray:
        network, lattice = self.network, self.equations.lattice
        density = self._sampler.density
        amplitudes, power = lattice.amplitudes(neurons)
        moments = lattice.problem.population.second_moments(neurons.components, neurons.norms)
        strength = lattice.kernel.features(amplitudes, power, moments) @ density.naturals[0]
        gain = network.readout_scale**2 / (1 + density.coupling * strength)
        overlap = signs * (amplitudes @ self.equations.drive(self.z[:-1], self.z[-1]))
        noise = rng.standard_normal(len(gain))
        return gain * overlap * network.width**-network.gamma + np.sqrt(gain) * noise
