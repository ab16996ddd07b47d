"""Node sets over a neuron's reduced variables: a coarse tensor rule, and fine rules where the density is not idle."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import numpy as np

from inference.fixed_points.general.geometry import Geometry
from inference.fixed_points.general.rules import Axis, Rule

_CHUNK = 1 << 14


@dataclass(frozen=True)
class NeuronNodes:
    """Neurons at the nodes of one rule.

    Parameters
    ----------
    log_measure
        Log weight of the node, without the Gaussian factor of the weights' prior, shape (n,).
    amplitudes
        Components in the resolved modes, shape (n, modes).
    power
        Σ = E_x[φ²], shape (n,).
    moments
        |w_S|² and |w_rest|², shape (n, 2).
    index
        Position in each axis' rule, shape (n, axes); components are sorted upwards.
    rules
        One for each axis.
    edge
        Whether the node is first or last in a rule where the measure does not vanish, shape (n,).
    """

    log_measure: np.ndarray
    amplitudes: np.ndarray
    power: np.ndarray
    moments: np.ndarray
    index: np.ndarray
    edge: np.ndarray
    rules: list[Rule]

    def __len__(self) -> int:
        return len(self.power)

    def take(self, index: np.ndarray) -> NeuronNodes:
        """Some of the nodes."""
        arrays = {name: value[index] for name, value in vars(self).items() if name != "rules"}
        return NeuronNodes(**arrays, rules=self.rules)


@dataclass(frozen=True)
class Quadrature:
    """The axes of a geometry and how its nodes are built.

    Parameters
    ----------
    geometry
        Of the problem.
    components, others
        The axis of the components, and those of the blocks and of the bias.
    bias_scale
        σ_b, where the last axis is a bias b = g sinh y with 1/g² = 1/|w|² + 1/(4σ_b)²; None where b = 0.
    kept
        Which modes are not identically 0, shape (modes,).
    """

    geometry: Geometry
    components: Axis
    others: tuple[Axis, ...]
    bias_scale: float | None
    kept: np.ndarray

    @property
    def axes(self) -> list[Axis]:
        """One axis for each column of `NeuronNodes.index`."""
        return [self.components] * self.geometry.num_components + list(self.others)

    def rules(self, coarsening: float = 1.0, rng: np.random.Generator | None = None) -> list[Rule]:
        """One rule for each axis; the components share one."""
        first = self.components.rule(coarsening, rng)
        others = [axis.rule(min(coarsening, axis.coarsest), rng) for axis in self.others]
        return [first] * self.geometry.num_components + others

    def tensor(self, rules: list[Rule]) -> NeuronNodes:
        """All nodes of the product rule."""
        count = self.geometry.num_components
        sorted_part = np.array(list(itertools.combinations_with_replacement(range(len(rules[0])), count)))
        sizes = [len(rule) for rule in rules[count:]]
        rest = np.indices(sizes).reshape(len(sizes), -1).T
        index = np.column_stack(
            [np.repeat(sorted_part, len(rest), axis=0), np.tile(rest, (len(sorted_part), 1))]
        )
        return self.build(rules, index)

    def refine(self, coarse: list[Rule], cells: np.ndarray, rules: list[Rule]) -> NeuronNodes:
        """The nodes of fine `rules` that lie in the given cells (n, axes) of the coarse ones."""
        owner = [np.abs(f.y[:, None] - c.y).argmin(axis=1) for c, f in zip(coarse, rules, strict=True)]
        first = [np.searchsorted(o, np.arange(len(c))) for o, c in zip(owner, coarse, strict=True)]
        counts = [np.bincount(o, minlength=len(c)) for o, c in zip(owner, coarse, strict=True)]
        inside = np.stack([n[cells[:, a]] for a, n in enumerate(counts)])
        total = inside.prod(axis=0)
        cell = np.repeat(np.arange(len(cells)), total)
        position = np.arange(len(cell)) - np.repeat(np.cumsum(total) - total, total)
        index = np.empty((len(cell), len(rules)), dtype=int)
        for axis in range(len(rules)):
            position, digit = np.divmod(position, inside[axis][cell])
            index[:, axis] = first[axis][cells[cell, axis]] + digit
        relevant = index[:, : self.geometry.num_components]
        return self.build(rules, index[(np.diff(relevant, axis=1) >= 0).all(axis=1)])

    def build(self, rules: list[Rule], index: np.ndarray) -> NeuronNodes:
        """Nodes at the given positions, shape (n, axes)."""
        stretched = np.column_stack([rule.value[index[:, a]] for a, rule in enumerate(rules)])
        values, log_measure = self.with_bias(stretched)
        log_measure = log_measure + sum(rule.log_weight[index[:, a]] for a, rule in enumerate(rules))
        log_measure += self.log_orderings(index)
        amplitudes, power, moments = self.features(values)
        edge = np.zeros(len(index), dtype=bool)
        for a, rule in enumerate(rules):
            # The first node of a component is an inner one: its integrand is even.
            edge |= (index[:, a] == len(rule) - 1) | ((index[:, a] == 0) & (self.axes[a].kind != "component"))
        return NeuronNodes(log_measure, amplitudes, power, moments, index, edge, rules)

    def prior_ratio(self, rules: list[Rule], rho: np.ndarray) -> np.ndarray:
        """What the rules make of E[|w_S|²] and E[|w_rest|²] under the prior, over their exact values, shape (2,).

        A weak prior of the precisions leaves them nearly neutral, and then an error of 1e-5 in a second moment moves
        a precision by several per cent; divided by this ratio, moments are exact where the density is the prior.
        """
        axes = [*zip(self.axes, rules, strict=True)]
        if self.bias_scale is not None:
            axes = axes[:-1]
        total, exact = np.zeros(2), np.zeros(2)
        for position, (axis, rule) in enumerate(axes):
            group = int(position == len(axes) - 1)
            log = rule.log_weight - 0.5 * rho[group] * rule.value**2
            weight = np.exp(log - log.max())
            total[group] += weight @ rule.value**2 / weight.sum()
            exact[group] += axis.size / rho[group]
        return total / exact

    def with_bias(self, stretched: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Values (n, axes) with sinh y replaced by b in the last column, and log of g times the prior of b (n,)."""
        if self.bias_scale is None:
            return stretched, np.zeros(len(stretched))
        values = stretched.copy()
        g = (1 / (stretched[:, :-1] ** 2).sum(axis=1) + 1 / (4 * self.bias_scale) ** 2) ** -0.5
        values[:, -1] *= g
        return values, np.log(g) - 0.5 * (values[:, -1] / self.bias_scale) ** 2

    def log_orderings(self, index: np.ndarray) -> np.ndarray:
        """Log of how many orderings the sorted components' positions have, shape (n,)."""
        count = self.geometry.num_components
        run, log_ties = np.ones(len(index)), np.zeros(len(index))
        for column in range(1, count):
            run = np.where(index[:, column] == index[:, column - 1], run + 1, 1)
            log_ties += np.log(run)
        return math.lgamma(count + 1) - log_ties

    def split(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Components (n, ·), norms (n, blocks) and bias (n,) of values (n, axes)."""
        count, blocks = self.geometry.num_components, len(self.geometry.blocks)
        bias = values[:, -1] if self.bias_scale is not None else np.zeros(len(values))
        return values[:, :count], values[:, count : count + blocks], bias

    def features(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Kept amplitudes, power and second moments at values (n, axes)."""
        amplitudes = np.empty((len(values), int(self.kept.sum())))
        power = np.empty(len(values))
        for start in range(0, len(values), _CHUNK):
            part = slice(start, start + _CHUNK)
            columns, power[part] = self.geometry.amplitudes(*self.split(values[part]))
            amplitudes[part] = columns[:, self.kept]
        return amplitudes, power, self.geometry.second_moments(*self.split(values)[:2])


def quadrature(geometry: Geometry, scale: float, bias_scale: float | None, wide: bool) -> Quadrature:
    """The axes that suit a geometry.

    Parameters
    ----------
    geometry
        Of the problem.
    scale
        Standard deviation of a weight under the prior.
    bias_scale
        σ_b; None without biases.
    wide
        Whether precisions are free, so that relevant weights may grow far beyond `scale`.
    """
    # |w|² is of order (d + 2 gain) σ² where the density gains e^gain over the prior.
    reach = 150.0 if wide else 50.0
    step = {1: 0.13, 2: 0.15, 3: 0.2}.get(geometry.num_components, 0.25)
    components = Axis("component", 1, scale, reach, step)
    others = []
    for position, size in enumerate(geometry.blocks):
        relevant = position < len(geometry.blocks) - 1
        block_reach = 50.0 if relevant or size == 1 else 8 * math.sqrt(size)
        others.append(Axis.of_block(size, scale, block_reach, 0.2))
    if bias_scale is not None:
        others.append(Axis("bias", 1, 1.0, 0.0, 0.08))
    plain = Quadrature(geometry, components, tuple(others), bias_scale, np.ones(len(geometry.modes), bool))
    # A mode that a handful of generic neurons do not have is one that no neuron has.
    rng = np.random.default_rng(0)
    probe = scale * (0.2 + np.abs(rng.standard_normal((32, len(plain.axes)))))
    columns = np.abs(plain.features(probe)[0]).max(axis=0)
    return Quadrature(geometry, components, tuple(others), bias_scale, columns > 1e-9)
