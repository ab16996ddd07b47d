"""Averages over the single-neuron density of the mean-field theories, with the radius integrated out.

The density is an exponential family on the direction and the radius R, v = R², α = a0 + a1 v:

    p ∝ prior measure · α^(-1/2) exp( η·u ),   u = (J_t² v/α, c² v, (1-c²) v),
    η = ( b (1-m)², -ρ_S/2, -ρ_⊥/2 ),          J_t = J/R,  c² = |w_S|²/R²

so that every derivative of an average is a covariance: dE[u]/dη = Cov(u, u). Per direction the integral over
log v is a trapezoid rule centred at the mode, with steps in units of its curvature width; its relative error is
below 1e-7. Source of the density: arXiv:2510.15174; the quadrature is beyond the paper.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from inference.fixed_points.directions import DirectionNodes
from inference.fixed_points.parallel import each
from inference.fixed_points.parity import ParityProblem
from inference.fixed_points.radial import Radial

_CHUNK = 32768  # nodes at a time: threads wait for each other where the arrays are short


@dataclass(frozen=True)
class Parameters:
    """The unknowns of a mean-field theory.

    Parameters
    ----------
    order_parameter
        m.
    rho_relevant, rho_rest
        Precisions ρ_S of the relevant weights and ρ_⊥ of the rest.
    """

    order_parameter: float
    rho_relevant: float
    rho_rest: float

    def vector(self) -> np.ndarray:
        """(m, log ρ_S, log ρ_⊥)."""
        return np.array([self.order_parameter, np.log(self.rho_relevant), np.log(self.rho_rest)])

    @classmethod
    def from_vector(cls, vector: np.ndarray) -> Parameters:
        """Inverse of :meth:`vector`."""
        return cls(float(vector[0]), *(float(value) for value in np.exp(vector[1:])))


def radial_law(problem: ParityProblem, parameters: Parameters, nodes: DirectionNodes, part: slice) -> Radial:
    """The law of v at the directions `nodes`[`part`]: A = ρ_S c² + ρ_⊥ (1-c²), B = b (1-m)² J_t²."""
    energy = parameters.rho_relevant * nodes.relevant_fraction[part]
    energy = energy + parameters.rho_rest * nodes.rest_norm[part] ** 2
    drive = problem.drive * (1 - parameters.order_parameter) ** 2 * nodes.overlap_squared[part]
    return Radial.find(problem.input_dim, energy, drive, problem.readout_constant, problem.readout_slope)


def radial_moments(problem: ParityProblem, parameters: Parameters, nodes: DirectionNodes) -> np.ndarray:
    """Log weight of each node, and moments of v and q = v/α given its direction.

    Returns
    -------
    numpy.ndarray
        Shape (8, n): log weight, then E[v], E[q], E[v²], E[v q], E[q²], E[v q²], E[q³] given the direction.
    """
    return np.concatenate(each(partial(_moments_of_part, problem, parameters, nodes), _parts(nodes)), axis=1)


def _parts(nodes: DirectionNodes) -> list[slice]:
    return [slice(start, start + _CHUNK) for start in range(0, len(nodes), _CHUNK)]


def _moments_of_part(
    problem: ParityProblem, parameters: Parameters, nodes: DirectionNodes, part: slice
) -> np.ndarray:
    law = radial_law(problem, parameters, nodes, part)
    peak, total, moments = _radial_sums(law, nodes.grid.radial_offsets)
    return np.vstack([nodes.log_measure[part] + peak + np.log(total * law.width), moments / total])


def _radial_sums(law: Radial, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Log density at the mode (n,), the sum of the weights relative to it, and their sums with v, q, … (7, n).

    Node by node of the equidistant rule, so that v = exp(log v) is a geometric progression: one exponential and one
    square root a node, in arrays that stay in cache.
    """
    d, step = law.input_dim, offsets[1] - offsets[0]
    peak = law.log_density(law.log_mode[:, None])[:, 0]
    v, ratio = np.exp(law.log_mode + offsets[0] * law.width), np.exp(step * law.width)
    rise, growth = 0.5 * d * (law.log_mode + offsets[0] * law.width) - peak, 0.5 * d * step * law.width
    fall = -0.5 * law.energy
    total, sums = np.zeros_like(v), np.zeros((7, len(v)))
    alpha, q, weight, term = (np.empty_like(v) for _ in range(4))
    for _ in offsets:
        np.add(np.multiply(v, law.slope, out=alpha), law.constant, out=alpha)
        np.divide(v, alpha, out=q)
        np.multiply(law.drive, q, out=weight)
        weight += np.multiply(fall, v, out=term)
        weight += rise
        np.exp(weight, out=weight)
        weight /= np.sqrt(alpha, out=alpha)
        total += weight
        weight_q = np.multiply(weight, q, out=alpha)  # α is not needed any more
        weight *= v
        sums[0] += weight
        sums[1] += weight_q
        sums[2] += np.multiply(weight, v, out=term)
        sums[3] += np.multiply(weight, q, out=term)
        weight_q *= q
        sums[4] += weight_q
        sums[5] += np.multiply(weight_q, v, out=term)
        weight_q *= q
        sums[6] += weight_q
        v *= ratio
        rise += growth
    return peak, total, sums


@dataclass(frozen=True)
class Averages:
    """Averages over the density; arrays with a leading axis have one entry per replicate.

    Parameters
    ----------
    log_normaliser
        Log sum of weights, shape (replicates,).
    mean
        E[u], shape (replicates, 3).
    second
        E[u uᵀ], shape (replicates, 3, 3).
    readout
        E[q] and E[J_t² q²], shape (replicates, 2): what the test error needs.
    noise
        E[u g + ∂u/∂log κ] and E[g] with g = ∂log p/∂log κ, shape (replicates, 4).
    node_weights
        Normalised weight of every node, all replicates together, one array per replicate.
    effective_sample_size
        Of the direction nodes, the smaller of the normaliser's and of E[J²/α]'s.
    edge
        Share of either that lies on the border of the grid: what its truncation may miss.
    """

    log_normaliser: np.ndarray
    mean: np.ndarray
    second: np.ndarray
    readout: np.ndarray
    noise: np.ndarray
    node_weights: list[np.ndarray]
    effective_sample_size: float
    edge: float

    def _share(self) -> np.ndarray:
        share = np.exp(self.log_normaliser - self.log_normaliser.max())
        return share / share.sum()

    def noise_response(self) -> np.ndarray:
        """dE[u]/dlog κ over all replicates, shape (3,)."""
        share = self._share()
        *product, score = share @ self.noise
        return np.array(product) - share @ self.mean * score

    def pooled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """`mean`, covariance of u and `readout` over all replicates."""
        share = self._share()
        mean = share @ self.mean
        second = np.einsum("r,rij->ij", share, self.second)
        return mean, second - np.outer(mean, mean), share @ self.readout


def averages(problem: ParityProblem, parameters: Parameters, replicates: list[DirectionNodes]) -> Averages:
    """Averages of the sufficient statistics over the density at `parameters`.

    Parameters
    ----------
    problem, parameters
        Constants and unknowns.
    replicates
        Node sets, see :func:`inference.fixed_points.directions.direction_nodes`.
    """
    parts = [(nodes, part) for nodes in replicates for part in _parts(nodes)]
    done = iter(each(lambda each_part: _moments_of_part(problem, parameters, *each_part), parts))
    moments = [np.concatenate([next(done) for _ in _parts(nodes)], axis=1) for nodes in replicates]
    peak = max(m[0].max() for m in moments)
    weights = [np.exp(m[0] - peak) for m in moments]
    total = sum(w.sum() for w in weights)
    log_normaliser, mean, second, readout, noise = [], [], [], [], []
    squares, edges = np.zeros((2, 2)), np.zeros(2)
    slope, push = problem.readout_slope, problem.drive * (1 - parameters.order_parameter) ** 2
    for nodes, (_, v, q, vv, vq, qq, vqq, qqq), raw in zip(replicates, moments, weights, strict=True):
        w = raw / raw.sum()
        c, rest, j = nodes.relevant_fraction, nodes.rest_norm**2, nodes.overlap_squared
        log_normaliser.append(np.log(raw.sum()) + peak)
        overlap = w * j * q
        mean.append([overlap.sum(), (w * c * v).sum(), (w * rest * v).sum()])
        jv, crest = [(w * j * share * vq).sum() for share in (c, rest)], (w * c * rest * vv).sum()
        second.append(
            [
                [(w * j * j * qq).sum(), *jv],
                [jv[0], (w * c * c * vv).sum(), crest],
                [jv[1], crest, (w * rest * rest * vv).sum()],
            ]
        )
        readout.append([(w * q).sum(), (w * j * qq).sum()])
        # a1 goes as κ^-2 and b as κ^-4: g = a1 q + B (2 a1 q² - 4 q) with B = b (1-m)² J_t², ∂q/∂log κ = 2 a1 q².
        pull = push * j
        score_q, score_v = (
            slope * qq + pull * (2 * slope * qqq - 4 * qq),
            slope * vq + pull * (2 * slope * vqq - 4 * vq),
        )
        noise.append(
            [
                (w * j * (score_q + 2 * slope * qq)).sum(),
                (w * c * score_v).sum(),
                (w * rest * score_v).sum(),
                (w * (slope * q + pull * (2 * slope * qq - 4 * q))).sum(),
            ]
        )
        share = raw.sum() / total
        for row, values in enumerate((w * share, overlap * share)):
            squares[row] += values.sum(), (values**2).sum()
            edges[row] += values[nodes.on_edge()].sum()
    effective = min(float(s**2 / ss) if ss > 0 else 0.0 for s, ss in squares)
    edge = float(max(e / s if s > 0 else 0.0 for e, (s, _) in zip(edges, squares, strict=True)))
    return Averages(
        np.array(log_normaliser),
        np.array(mean),
        np.array(second),
        np.array(readout),
        np.array(noise),
        [raw / total for raw in weights],
        effective,
        edge,
    )


def active_nodes(
    problem: ParityProblem,
    parameters: Parameters,
    coarse: DirectionNodes,
    replicates: list[DirectionNodes],
    cutoff: float = 1e-14,
) -> list[DirectionNodes]:
    """The node sets without cells that hold less than `cutoff` of the density and of E[J²/α].

    Which cells those are is found on `coarse`, a set on the same grid, at `parameters` close to the solution sought.
    """
    weight = averages(problem, parameters, [coarse]).node_weights[0]
    size = len(coarse.grid.x) * len(coarse.grid.z)
    mass = np.stack(
        [
            np.bincount(coarse.cell, weight, size),
            np.bincount(coarse.cell, weight * coarse.overlap_squared, size),
        ]
    )
    active = (mass > cutoff * mass.sum(axis=1, keepdims=True)).any(axis=0)
    return [nodes.take(active[nodes.cell]) for nodes in replicates]
