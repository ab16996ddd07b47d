"""Rejection sampling with a bound found by trial, for networks from a theory's single-neuron
density."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

BATCH = 20_000
_MIN_ACCEPTANCE = 1e-3
_CLIPPED = 1e-3  # largest share of the density that the rejection bound may cut off

# (generator, number) → proposals and the log of density over proposal density, (number,)
Propose = Callable[[np.random.Generator, int], tuple]


def find_log_bound(propose: Propose, effective_sample_size: float) -> float:
    """Log of a bound on density over proposal density that cuts off at most 0.1 % of the density.

    Raises
    ------
    ValueError
        Where fewer than one proposal in a thousand would be accepted.
    """
    # Its own generator, so that a key gives the same networks on the first call and on later ones.
    _, log_ratio = propose(np.random.default_rng(0), 4 * BATCH)
    ratio = np.sort(np.exp(log_ratio - log_ratio.max()))
    above = ratio[::-1].cumsum()[::-1] - ratio * np.arange(len(ratio), 0, -1)
    bound = ratio[np.argmax(above <= _CLIPPED * ratio.sum())]
    if np.minimum(ratio / bound, 1).mean() < _MIN_ACCEPTANCE:
        raise ValueError(
            "kappa is so small that the quadrature does not resolve the density of the neurons "
            f"(effective sample size {effective_sample_size:.1f}); raise kappa."
        )
    return float(np.log(bound) + log_ratio.max())


def accepted(
    rng: np.random.Generator, num: int, propose: Propose, log_bound: float
) -> Iterator[tuple[object, np.ndarray]]:
    """Batches of proposals with a mask of those accepted, until `num` are."""
    found = 0
    while found < num:
        values, log_ratio = propose(rng, BATCH)
        mask = np.log(rng.random(BATCH)) < log_ratio - log_bound
        found += int(mask.sum())
        yield values, mask
