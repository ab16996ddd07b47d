"""Networks of independent neurons from a general theory."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

from inference.fixed_points.general.mean_field_theory import MeanFieldTheory
from inference.fixed_points.general.nodes import NeuronNodes
from inference.fixed_points.general.solving import Solution, Theory
from inference.fixed_points.rejection import accepted, find_log_bound
from models import Dataset


@dataclass
class NetworkSampler:
    """Draws networks whose N neurons are independent draws from the single-neuron density.

        w, b ~ p(w, b),   a | w, b ~ Normal(β/(2α), 1/(2α)) (mean field),   ρ_j ~ Gamma(α0 + N/2, (α0 + N/2)/ρ_j)

    Reduced variables come by rejection from a proposal that is uniform in the cells of the quadrature's nodes, with
    their weights; the bound cuts off at most 0.1 % of the density. Orientations are uniform under the symmetries.

    Parameters
    ----------
    theory, solution
        What was solved, and its solution.
    """

    theory: Theory
    solution: Solution
    _log_bound: float = field(default=-math.inf, repr=False)

    def __call__(self, rng: np.random.Generator, num_draws: int) -> dict[str, np.ndarray]:
        """Arrays w (num_draws, N, d), a (num_draws, N), with biases b (num_draws, N), with ARD rho (num_draws, d)."""
        networks, signs, nodes = self._neurons(rng, num_draws)
        if isinstance(self.theory, MeanFieldTheory):
            network, law = self.theory.problem.network, self._law()
            alpha = law.precision(nodes.power)
            overlap = nodes.amplitudes[:, self.theory.columns] @ law.error * signs
            beta = self.theory.problem.amplitude * overlap / (network.kappa**2 * network.width**network.gamma)
            a = beta / (2 * alpha) + rng.standard_normal(len(nodes)) / np.sqrt(2 * alpha)
            networks["a"] = a.reshape(num_draws, network.width)
        return networks

    def on_dataset(self, rng: np.random.Generator, num_draws: int, data: Dataset) -> dict[str, np.ndarray]:
        """The same with readouts from their exact posterior on `data`."""
        # Imported here because that module calls this package for the populations that it covers.
        from inference.fixed_points.nngp import ReadoutSampler

        problem = self.theory.problem
        if data.input_dim != problem.network.input_dim:
            raise ValueError(
                f"data must have input_dim={problem.network.input_dim} columns to match the network, got "
                f"{data.input_dim}."
            )
        if data.relevant is None or set(map(int, data.relevant)) != set(problem.relevant):
            raise ValueError(
                f"data must have the teacher's relevant inputs {sorted(problem.relevant)}, got {data.relevant}."
            )
        networks = self._neurons(rng, num_draws)[0]
        readouts = ReadoutSampler(problem.network, data)
        biases = networks.get("b", np.zeros((num_draws, problem.network.width)))
        networks["a"] = np.stack(
            [readouts.readout(rng, w, b) for w, b in zip(networks["w"], biases, strict=True)]
        )
        return networks

    def _law(self):
        return self.theory.law(self.solution.theta, math.log(self.theory.problem.network.kappa))

    def _neurons(self, rng: np.random.Generator, num_draws: int):
        """Arrays w, b and rho; the target's sign under every orientation; and the neurons as nodes."""
        problem = self.theory.problem
        network, quadrature = problem.network, problem.quadrature
        values = self._values(rng, num_draws * network.width)
        nodes = self._nodes(values, np.zeros(len(values)))
        v, s, b = quadrature.split(values)
        oriented, signs = problem.geometry.orient(rng, v, s)
        others = np.setdiff1d(np.arange(network.input_dim), problem.relevant)
        weights = np.empty_like(oriented)
        weights[:, [*problem.relevant, *others]] = oriented
        networks = {"w": weights.reshape(num_draws, network.width, network.input_dim)}
        if network.bias:
            networks["b"] = b.reshape(num_draws, network.width)
        if problem.prior is not None:
            rho = np.full(network.input_dim, self.solution.rho[1])
            rho[list(problem.relevant)] = self.solution.rho[0]
            shape = problem.prior.shape + network.width / 2  # at the fixed point the rate is shape/ρ
            networks["rho"] = rng.gamma(shape, rho / shape, (num_draws, network.input_dim))
        return networks, signs, nodes

    def _nodes(self, values: np.ndarray, log_measure: np.ndarray) -> NeuronNodes:
        features = self.theory.problem.quadrature.features(values)
        blank = np.zeros((len(values), 0), dtype=int)
        return NeuronNodes(log_measure, *features, blank, np.zeros(len(values), dtype=bool), [])

    def _propose(self, rng: np.random.Generator, num: int) -> tuple[np.ndarray, np.ndarray]:
        """Values (num, axes) uniform in the cells of weighted nodes, and log density over proposal density."""
        quadrature, average = self.theory.problem.quadrature, self.solution.average
        shares = np.array([w.sum() for w in average.weights])
        values, log_ratio = [], []
        for which, count in enumerate(rng.multinomial(num, shares / shares.sum())):
            weight, active = average.weights[which], average.active[which]
            # Some of the proposal goes to cells of small weight, whose density may vary steeply.
            mixed = 0.8 * weight / weight.sum() + 0.2 * np.sqrt(weight) / np.sqrt(weight).sum()
            chosen = rng.choice(len(active), count, p=mixed / mixed.sum())
            nodes = self.solution.nodes[which]
            index = nodes.index[active[chosen]]
            columns, log_measure = [], np.zeros(count)
            for axis, (rule, kind) in enumerate(zip(nodes.rules, quadrature.axes, strict=True)):
                value, log_weight = rule.jittered(index[:, axis], rng, kind)
                columns.append(value)
                log_measure += log_weight
            stretched = np.column_stack(columns)
            drawn, log_bias = quadrature.with_bias(stretched)
            log_measure += log_bias + quadrature.log_orderings(index)
            trial = self._nodes(drawn, log_measure)
            log_density = self._law().log_weight(trial, slice(None))
            values.append(drawn)
            log_ratio.append(log_density - np.log(mixed[chosen]))
        order = rng.permutation(num)
        return np.concatenate(values)[order], np.concatenate(log_ratio)[order]

    def _values(self, rng: np.random.Generator, num: int) -> np.ndarray:
        """`num` independent neurons, by rejection."""
        if not np.isfinite(self._log_bound):
            self._log_bound = find_log_bound(self._propose, self.solution.average.effective_sample_size)
        batches = accepted(rng, num, self._propose, self._log_bound)
        return np.concatenate([values[mask] for values, mask in batches])[:num]
