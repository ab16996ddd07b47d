"""The density of one neuron, common to all theories, and averages over it.

    p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),        c = σ_a²/N^(2γ)

It follows from the evidence Normal(y; 0, Ā + c φφᵀ) of one neuron given the others, by the matrix
determinant lemma and the Sherman-Morrison identity, with G = φᵀĀ⁻¹φ and B = φᵀĀ⁻¹y. The theories
differ in what stands for Ā (docs/theory.md): in the mean field G = Σ/κ², the readout's own
precision, and B = φᵀ(y - ⟨f⟩)/κ². Sources: arXiv:2510.15174 for the mean field; the adaptive kernel
is beyond the paper.

A neuron's features s (:class:`Kernel`) make it an exponential family: G = s·η_G, B² = s·η_B and
w's quadratic form in the prior = s·η_ρ, so that every derivative of an average is a covariance.
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from inference.fixed_points.neuron.nodes import NodeSet
from inference.fixed_points.neuron.radius import RadialLaw, fixed_moments, radial_moments

_CHUNK = 8192  # nodes at a time: arrays that stay in cache


@dataclass(frozen=True)
class NeuronDensity:
    """The density at given natural parameters.

    Parameters
    ----------
    coupling
        c.
    naturals
        η_G, η_B and η_ρ, shape (3, K).
    dimension
        Of what has the length R, which is integrated out; None where nodes fix it.
    """

    coupling: float
    naturals: np.ndarray
    dimension: int | None

    def law(self, nodes: NodeSet, part: slice = slice(None)):
        """A, D and g at some nodes, for :class:`RadialLaw`."""
        strength, overlap, energy = (nodes.features[part] @ self.naturals.T).T
        # At most rounding, or a trial state that is no kernel, makes G negative.
        slope = self.coupling * np.maximum(strength, 1e-300)
        return energy + nodes.bias_energy[part], 0.5 * self.coupling * np.maximum(overlap, 0.0), slope

    def radial_law(self, nodes: NodeSet, part: slice = slice(None)) -> RadialLaw:
        """The law of R² at some nodes."""
        return RadialLaw.find(self.dimension, *self.law(nodes, part))

    def moments(self, nodes: NodeSet) -> np.ndarray:
        """Log weight of each node and averages over R, as :func:`radial_moments`, shape (9, n)."""
        out = np.empty((9, len(nodes)))
        for start in range(0, len(nodes), _CHUNK):
            part = slice(start, start + _CHUNK)
            if self.dimension is None:
                out[:, part] = fixed_moments(*self.law(nodes, part))
            else:
                out[:, part] = radial_moments(self.radial_law(nodes, part))
        out[0] += nodes.log_measure
        return out


@dataclass(frozen=True)
class Averages:
    """Averages over the density.

    Parameters
    ----------
    means
        E[v s], E[v h s] and E[v e s] on every node set, shape (sets, 3, K), with v = R² (or 1),
        h = 1/(1 + cG) and e = h/2 + ½ c B² h².
    pooled
        The same over all, shape (3, K).
    response
        Derivatives of the pooled E[v s] and E[v h s] in the naturals, shape (2, K, 3, K).
    weights
        Normalised weight of every node over all sets together, one array a set.
    effective_sample_size
        Of the nodes, the smaller of the density's and of E[B²]'s.
    edge
        Share of either on the border of the lattice: what its truncation may miss.
    """

    means: np.ndarray
    pooled: np.ndarray
    response: np.ndarray
    weights: list[np.ndarray]
    effective_sample_size: float
    edge: float


def averages(density: NeuronDensity, sets: list[NodeSet], screened: bool = False) -> Averages:
    """Averages of the features over the density; sets count by their weight.

    Parameters
    ----------
    density
        At the naturals.
    sets
        Independent node sets.
    screened
        Whether to skip E[v h s] in the response, which the adaptive kernel does not need.
    """
    # Side by side: NumPy computes outside the interpreter's lock.
    moments = list(_pool().map(density.moments, sets)) if len(sets) > 1 else [density.moments(sets[0])]
    peak = max(m[0].max() for m in moments)
    raw = [np.exp(m[0] - peak) for m in moments]
    total = sum(w.sum() for w in raw)
    weights = [w / total for w in raw]
    size = sets[0].features.shape[1]
    means, response = [], np.zeros((2, size, 3, size))
    raw_mean, by_ratio = np.zeros((3, size)), np.zeros((2, 2))
    squares, edges = np.zeros((2, 2)), np.zeros(2)
    for nodes, m, w in zip(sets, moments, weights, strict=True):
        share = w.sum()
        mean = (m[1:4] * w) @ nodes.features
        gram = [_gram(nodes.features, w * m[row]) for row in range(4, 7)]
        if not screened:
            gram += [_gram(nodes.features, w * m[row]) for row in (7, 8)]
        response += _products(gram, density.coupling, screened)
        raw_mean += mean
        means.append(mean / share)
        exactness, slope = nodes.directions.ratio(density.naturals[2, -2:])
        means[-1][0, -2:] /= exactness
        by_ratio += means[-1][0, -2:, None] * share * slope
        overlap = w * m[1] * np.maximum(nodes.features @ density.naturals[1], 0.0)
        for row, values in enumerate((w, overlap)):
            squares[row] += values.sum(), (values**2).sum()
            edges[row] += values[nodes.on_edge].sum()
    shares = np.array([w.sum() for w in weights])
    pooled = np.einsum("r,rik->ik", shares, np.array(means))
    signs = np.array([-density.coupling, 0.5 * density.coupling, -0.5])
    score = signs[:, None] * raw_mean[[2, 1, 0]]  # E[∂ log p/∂η]
    response -= np.einsum("ak,jl->akjl", raw_mean[:2], score)
    corrected, plain = pooled[0, -2:], raw_mean[0, -2:]
    ratio = np.divide(corrected, plain, out=np.ones(2), where=plain > 0)
    response[0, -2:] *= ratio[:, None, None]
    response[0, -2:, 2, -2:] -= by_ratio
    return Averages(
        means=np.array(means),
        pooled=pooled,
        response=response,
        weights=weights,
        effective_sample_size=min(float(a**2 / b) for a, b in squares if b > 0),
        edge=float(max(e / a for e, (a, _) in zip(edges, squares, strict=True) if a > 0)),
    )


def _gram(features: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return features.T @ (features * weight[:, None])


def _products(gram: list[np.ndarray], coupling: float, screened: bool) -> np.ndarray:
    """E[v s · score] and E[v h s · score] + E[v s · dh/dη], shape (2, K, 3, K).

    ∂ log p/∂(η_G, η_B, η_ρ) = (-c v e s, ½ c v h s, -½ v s) and ∂h/∂η_G = -c v h² s.
    """
    plain, by_h, by_e, *squared = gram
    out = np.zeros((2, len(plain), 3, len(plain)))
    out[0] = np.stack([-coupling * by_e, 0.5 * coupling * by_h, -0.5 * plain], axis=1)
    if not screened:
        by_hh, by_he = squared
        rows = [-coupling * (by_he + by_hh), 0.5 * coupling * by_hh, -0.5 * by_h]
        out[1] = np.stack(rows, axis=1)
    return out


@lru_cache(maxsize=1)
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(os.cpu_count(), thread_name_prefix="node-sets")
