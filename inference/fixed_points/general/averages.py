"""Averages over a single-neuron density on node sets, and how they respond to its parameters."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from inference.fixed_points.general.nodes import NeuronNodes
from inference.fixed_points.general.problem import GeneralProblem

_CHUNK = 1 << 13
_CUTOFF = 34.0  # nodes whose log weight is further below the largest are idle


class Law(Protocol):
    """A single-neuron density with its observables; evaluated on some of a node set's nodes."""

    problem: GeneralProblem
    rho: np.ndarray

    def log_weight(self, nodes: NeuronNodes, part: slice | np.ndarray) -> np.ndarray:
        """Log of density times measure, up to a constant, shape (n,)."""

    def observables(self, nodes: NeuronNodes, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """What is averaged, shape (n, K), second moments last, and the scores ∂log p/∂parameter, shape (n, L)."""

    @property
    def rho_column(self) -> int:
        """Position of log ρ_S among the parameters; log ρ_⊥ is next."""


@dataclass(frozen=True)
class Averages:
    """Averages over a density.

    Parameters
    ----------
    replicate
        E of the observables on every replicate, shape (replicates, K).
    mean
        The same, pooled, shape (K,).
    response
        Its derivatives in the parameters, Cov(observable, score), shape (K, L).
    score
        E of the scores, shape (L,).
    active
        Positions of the nodes that are not idle, one array per replicate.
    weights
        Their weights, normalised over all replicates together.
    log_normaliser
        Log of the density's integral, up to the constant of the law, averaged over the replicates.
    effective_sample_size
        Of the nodes.
    edge
        Share of the weight on the borders of the rules.
    """

    replicate: np.ndarray
    mean: np.ndarray
    response: np.ndarray
    score: np.ndarray
    active: list[np.ndarray]
    weights: list[np.ndarray]
    log_normaliser: float
    effective_sample_size: float
    edge: float


def averages(law: Law, replicates: list[NeuronNodes]) -> Averages:
    """Averages of a law's observables over node sets; replicates count by their weight."""
    logs = [law.log_weight(nodes, slice(None)) for nodes in replicates]
    peak = max(log.max() for log in logs)
    active = [np.flatnonzero(log > peak - _CUTOFF) for log in logs]
    raw = [np.exp(log[index] - peak) for log, index in zip(logs, active, strict=True)]
    total = sum(w.sum() for w in raw)
    weights = [w / total for w in raw]
    replicate, score, response, edge = [], 0.0, 0.0, 0.0
    width = len(law.observables(replicates[0], np.arange(1))[0][0])
    for nodes, index, weight in zip(replicates, active, weights, strict=True):
        first, product = np.zeros(width), 0.0
        for start in range(0, len(index), _CHUNK):
            part, w = index[start : start + _CHUNK], weight[start : start + _CHUNK]
            values, scores = law.observables(nodes, part)
            weighted = values * w[:, None]
            first = first + weighted.sum(axis=0)
            score = score + w @ scores
            product = product + weighted.T @ scores
        ratio, slope = law.problem.prior_ratio(nodes.rules, law.rho)
        first[-2:] /= ratio
        if len(index):
            product[-2:] /= ratio[:, None]
            for group, column in enumerate((law.rho_column, law.rho_column + 1)):
                product[group - 2, column] -= first[group - 2] * slope[group] / ratio[group]
        replicate.append(first)
        response = response + product
        edge += weight[nodes.edge[index]].sum()
    mean = sum(replicate)
    shares = np.array([max(w.sum(), 1e-300) for w in weights])
    return Averages(
        replicate=np.array(replicate) / shares[:, None],
        mean=mean,
        response=response - np.outer(mean, score),
        score=score,
        active=active,
        weights=weights,
        log_normaliser=float(np.log(total / len(replicates)) + peak),
        effective_sample_size=float(1 / sum((w**2).sum() for w in weights)),
        edge=float(edge),
    )
