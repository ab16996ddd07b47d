"""The log density of one neuron over its prior, the one formula of all theories.

    log p(w)/prior(w) = ½ log h + ½ c B² h,      h = 1/(1 + cG)

with c = σ_a²/N^(2γ), the strength G and the overlap B of
:mod:`inference.fixed_points.neuron.density`.
"""

from __future__ import annotations


def screening(coupling, strength):
    """h = 1/(1 + cG), the share of a neuron's pull that its own readout's cost leaves."""
    return 1 / (1 + coupling * strength)


def log_gain(xp, coupling, screened, overlap_squared):
    """½ log h + ½ c B² h, in the arrays of `xp`.

    Parameters
    ----------
    xp
        ``numpy`` or ``jax.numpy``.
    coupling, screened, overlap_squared
        c, h = :func:`screening` and B².

    Examples
    --------
    >>> import numpy as np
    >>> float(log_gain(np, 1.0, screening(1.0, 1.0), 4.0))
    0.6534264097200273
    """
    return 0.5 * xp.log(screened) + 0.5 * coupling * overlap_squared * screened
