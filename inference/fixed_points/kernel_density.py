"""Averages over the single-neuron density of the adaptive-kernel theory, with their exact derivatives.

Given the other neurons, whose readouts are integrated out, y ~ Normal(0, Ā + c φφᵀ) with c = σ_a²/N^(2γ). By the
matrix determinant lemma and the Sherman-Morrison identity the density of one neuron is

    p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),    G = φᵀ Ā⁻¹ φ,  B = φᵀ Ā⁻¹ y

and on sparse parity, with γ_ij = 1/(κ̃ + λ_ij) for the resolved modes and 1/κ̃ for the tail,

    G = R² Σ_ij q~_ij γ_ij,     B² = R² q~_k0 γ_k0²,     log p = log prior - ½ log(1 + cG) + ½ c B²/(1 + cG)

so that the radius has the law of :class:`inference.fixed_points.radial.Radial` with a0 = 1, a1 = c G/R² and drive
½ c B²/R². Beyond the paper (arXiv:2510.15174).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np

from inference.fixed_points.kernel_modes import ModeNodes
from inference.fixed_points.parallel import each
from inference.fixed_points.radial import Radial

_CHUNK = 4096


@dataclass(frozen=True)
class KernelState:
    """The unknowns of the adaptive-kernel theory.

    Parameters
    ----------
    eigenvalues
        λ_ij of the resolved modes, shape (M,).
    tail
        Trace of the learned kernel outside the resolved modes.
    ridge
        κ̃.
    rho_relevant, rho_rest
        ρ_S and ρ_⊥.
    """

    eigenvalues: np.ndarray
    tail: float
    ridge: float
    rho_relevant: float
    rho_rest: float

    def weights(self) -> np.ndarray:
        """γ of the modes and of the tail, shape (M + 1,)."""
        return 1 / (self.ridge + np.append(self.eigenvalues, 0.0))


def radial_law(coupling: float, input_dim: int, state: KernelState, nodes: ModeNodes, part: slice) -> Radial:
    """The law of v = R² at the directions `nodes`[`part`]; `coupling` is c."""
    features, target = nodes.features[part], nodes.modes.target
    gamma = state.weights()
    slope = coupling * (features[:, : len(gamma)] @ gamma)
    drive = 0.5 * coupling * features[:, target] * gamma[target] ** 2
    energy = state.rho_relevant * features[:, -2] + state.rho_rest * features[:, -1]
    return Radial.find(input_dim, energy, drive, 1.0, slope)


def radial_moments(coupling: float, input_dim: int, state: KernelState, nodes: ModeNodes) -> np.ndarray:
    """Log weight of each node, and moments over the radius given its direction.

    With h = 1/(1 + a1 v) and the drive D: -∂log p/∂a1 = v g, g = h/2 + D v h², and ∂log p/∂D = v h.

    Returns
    -------
    numpy.ndarray
        Shape (7, n): log weight, then E[v], E[v g], E[v h], E[v²], E[v² g], E[v² h] given the direction.
    """
    out = np.empty((7, len(nodes)))
    offsets = nodes.directions.grid.radial_offsets
    for start in range(0, len(nodes), _CHUNK):
        part = slice(start, start + _CHUNK)
        law = radial_law(coupling, input_dim, state, nodes, part)
        log_v = law.log_mode[:, None] + law.width[:, None] * offsets
        v = np.exp(log_v)
        h = 1 / (1 + law.slope * v)
        # As Radial.log_density, with what is needed again kept.
        driven = law.drive[:, None] * v * h
        log_density = 0.5 * input_dim * log_v + 0.5 * np.log(h) + driven - 0.5 * law.energy[:, None] * v
        peak = log_density.max(axis=1)
        weight = np.exp(log_density - peak[:, None])
        total = weight.sum(axis=1)
        weight *= v
        out[0, part] = nodes.directions.log_measure[part] + peak + np.log(total * law.width)
        out[1, part], out[4, part] = weight.sum(axis=1), np.einsum("nr,nr->n", weight, v)
        weight *= h
        out[3, part], out[6, part] = weight.sum(axis=1), np.einsum("nr,nr->n", weight, v)
        weight *= 0.5 + driven
        out[2, part], out[5, part] = weight.sum(axis=1), np.einsum("nr,nr->n", weight, v)
        out[1:, part] /= total
    return out


@dataclass(frozen=True)
class KernelAverages:
    """Averages over the density; arrays with a leading axis have one entry per replicate.

    Parameters
    ----------
    log_normaliser
        Log sum of weights, shape (replicates,).
    mean
        E[v s] of the M + 3 features s, shape (replicates, M + 3).
    score
        E of the derivatives of log p in the naturals (γ of modes and tail, ρ_S, ρ_⊥, γ_k0²), shape
        (replicates, M + 4).
    product
        E of v s times those derivatives, shape (replicates, M + 3, M + 4).
    node_weights
        Normalised weight of every node, all replicates together, one array per replicate.
    effective_sample_size
        Of the direction nodes, the smaller of the normaliser's and of E[q_k0]'s.
    edge
        Share of either that lies on the border of the grid.
    """

    log_normaliser: np.ndarray
    mean: np.ndarray
    score: np.ndarray
    product: np.ndarray
    node_weights: list[np.ndarray]
    effective_sample_size: float
    edge: float

    def pooled(self) -> tuple[np.ndarray, np.ndarray]:
        """E[v s], shape (M + 3,), and its derivatives in the naturals, shape (M + 3, M + 4)."""
        share = np.exp(self.log_normaliser - self.log_normaliser.max())
        share /= share.sum()
        mean, score = share @ self.mean, share @ self.score
        return mean, np.einsum("r,rij->ij", share, self.product) - np.outer(mean, score)


def kernel_averages(
    coupling: float, input_dim: int, state: KernelState, replicates: list[ModeNodes]
) -> KernelAverages:
    """Averages of the features over the density at `state`.

    Parameters
    ----------
    coupling
        c = σ_a²/N^(2γ).
    input_dim
        d.
    state, replicates
        Unknowns and node sets.
    """
    moments = each(partial(radial_moments, coupling, input_dim, state), replicates)
    peak = max(m[0].max() for m in moments)
    raws = [np.exp(m[0] - peak) for m in moments]
    total = sum(raw.sum() for raw in raws)
    log_normaliser, mean, score, product = [], [], [], []
    squares, edges = np.zeros((2, 2)), np.zeros(2)
    for nodes, (_, v, vg, vh, vv, vvg, vvh), raw in zip(replicates, moments, raws, strict=True):
        s, target = nodes.features, nodes.modes.target
        w = raw / raw.sum()
        log_normaliser.append(np.log(raw.sum()) + peak)
        mean.append((w * v) @ s)
        first = s.T @ (w[:, None] * np.stack([vg, v, vh], axis=1))
        score.append(_naturals(coupling, first[:, 0], first[:, 1], first[target, 2]))
        weighted = s * w[:, None]
        gram = weighted.T @ (s * vvg[:, None])
        rho = weighted.T @ (s[:, -2:] * vv[:, None])
        last = weighted.T @ (s[:, target] * vvh)
        product.append(np.column_stack([-coupling * gram[:, :-2], -0.5 * rho, 0.5 * coupling * last]))
        overlap = raw / total * v * s[:, target]
        border = nodes.directions.on_edge()
        for row, values in enumerate((raw / total, overlap)):
            squares[row] += values.sum(), (values**2).sum()
            edges[row] += values[border].sum()
    return KernelAverages(
        np.array(log_normaliser),
        np.array(mean),
        np.array(score),
        np.array(product),
        [raw / total for raw in raws],
        min(float(a**2 / b) if b > 0 else 0.0 for a, b in squares),
        float(max(e / a if a > 0 else 0.0 for e, (a, _) in zip(edges, squares, strict=True))),
    )


def _naturals(coupling: float, vg: np.ndarray, v: np.ndarray, vh: float) -> np.ndarray:
    return np.concatenate([-coupling * vg[:-2], -0.5 * v[-2:], [0.5 * coupling * vh]])


def active_cells(
    coupling: float, input_dim: int, state: KernelState, coarse: ModeNodes, cutoff: float = 1e-14
) -> np.ndarray:
    """Which cells of the grid hold at least `cutoff` of the density or of an average, shape (cells,).

    Found on a coarse set of the same grid, at a state close to the solution sought.
    """
    average = kernel_averages(coupling, input_dim, state, [coarse])
    weight = average.node_weights[0]
    size = len(coarse.directions.grid.x) * len(coarse.directions.grid.z)
    # The averages that a minority of the neurons dominates: the overlap and the relevant second moment.
    columns = [np.ones(len(coarse)), coarse.features[:, coarse.modes.target], coarse.features[:, -2]]
    mass = np.stack([np.bincount(coarse.directions.cell, weight * column, size) for column in columns])
    return (mass > cutoff * mass.sum(axis=1, keepdims=True)).any(axis=0)
