"""Neurons that mean the same in every draw: sorted, or assigned to common prototypes."""

import arviz_stats
import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.convergence import R_HAT_LIMIT
from analysis.diagnostics.functions import all_draws, log_density_of, outgoing_strength
from analysis.results.order_parameters import group, is_independent
from analysis.results.predictions import network_of

# Activations with φ(-u) = -φ(u): flipping w, b and a of a neuron together leaves f as it is.
_ODD_ACTIVATIONS = ("tanh", "erf", "identity")
_ITERATIONS = 10
_SWITCHING = 0.01


def match_neurons(tree: xr.DataTree, num_neurons: int | None = None, max_draws: int = 400) -> xr.Dataset:
    """Give the neurons of every draw the labels under which all draws resemble each other most.

    The posterior does not change when neurons are permuted, nor, for an odd activation, when the
    signs of w_i, b_i and a_i are flipped together; labels therefore mean nothing across chains, and
    can switch within one. Here prototypes μ_k and, in every draw, permutation π and signs s are
    found that minimise

        Σ_draws Σ_k | s_k v_π(k) - μ_k |²,   v_i = (w_i, a_i, b_i), each part over its root mean square

    in turns: given the prototypes the best labels of a draw are an assignment problem, solved
    exactly; given the labels the best prototypes are means. The start is the draw of the highest
    log density: all its neurons, or its `num_neurons` strongest by |a_i||w_i|. At most `max_draws`
    draws are used, evenly spaced through every chain. Of a deep network these are the neurons of
    the first layer, v_i = (w_i, b_i), and the norm of their outgoing weights stands for |a_i|.

    The answer has the dimensions chain, draw, neuron (in decreasing order of mean strength), input.
    Variables: ``w``, ``a`` (``b``) relabelled; ``strength`` |a_i||w_i|; ``label``, the number the
    neuron has in the result; ``sign`` ±1; ``sorted_strength``, the draws' strengths in decreasing
    order, which needs no matching; where the relevant inputs are known ``share``, that of |w_i|² on
    them. Attributes: ``switching``, the share of neurons whose label is not the commonest one of
    its prototype; ``mismatch``, the mean squared distance from the prototype over that of the
    neurons from one common mean: near 0 for neurons that keep their identity through all chains,
    near 1 for neurons without any (draws of the prior). Matching makes the draws look alike, and
    noise the more alike the more neurons there are: read ``mismatch`` before the spread.

    References
    ----------
    Stephens, *Dealing with label switching in mixture models* (2000).

    Examples
    --------
    >>> matched = match_neurons(tree, max_draws=40)
    >>> matched.w.sizes["neuron"], matched.w.sizes["chain"] * matched.w.sizes["draw"]
    (16, 40)
    """
    posterior = _thinned(group(tree, "posterior"), max_draws)
    names = [n for n in ("w", "a", "b") if n in posterior and "neuron" in posterior[n].dims]
    parts = {n: all_draws(posterior[n]) for n in names}
    scales = {n: float(np.sqrt(np.mean(part**2))) or 1.0 for n, part in parts.items()}
    v = np.concatenate([np.atleast_3d(part) / scales[n] for n, part in parts.items()], axis=-1)
    strength = all_draws(outgoing_strength(posterior)) * np.linalg.norm(parts["w"], axis=-1)
    first = _first_draw(tree, posterior)
    keep = np.argsort(strength[first])[::-1][:num_neurons]
    flips = network_of(tree).activation in _ODD_ACTIVATIONS
    labels, signs, prototypes = _match(v, v[first][keep], flips)
    order = np.argsort(np.take_along_axis(strength, labels, axis=1).mean(axis=0))[::-1]
    labels, signs, prototypes = labels[:, order], signs[:, order], prototypes[order]
    matched = _labelled(v, labels, signs)
    within, spread = np.mean((matched - prototypes) ** 2), np.mean((matched - matched.mean((0, 1))) ** 2)
    values = {n: _labelled(np.atleast_3d(part), labels, signs) for n, part in parts.items()}
    values = {n: part if n == "w" else part[..., 0] for n, part in values.items()}
    values |= {
        "strength": np.take_along_axis(strength, labels, axis=1),
        "sorted_strength": -np.sort(-strength, axis=-1)[:, : len(order)],
        "label": labels,
        "sign": signs,
    }
    relevant = tree["constant_data"].get("relevant")
    if relevant is not None:
        square = values["w"] ** 2
        values["share"] = square[..., relevant.to_numpy()].sum(-1) / square.sum(-1)
    switching = float(np.mean([1 - np.bincount(column).max() / len(column) for column in labels.T]))
    dims, chains = ("chain", "draw", "neuron", "input"), posterior.sizes["chain"]
    return xr.Dataset(
        {n: (dims[: v.ndim + 1], v.reshape(chains, -1, *v.shape[1:])) for n, v in values.items()},
        attrs={"switching": switching, "mismatch": float(within / spread) if spread > 0 else 0.0},
    )


def _match(v: np.ndarray, prototypes: np.ndarray, flips: bool):
    """Labels (draw, prototype), signs and prototypes where the sum of squares is stationary."""
    before = None
    for _ in range(_ITERATIONS):
        labels, signs = map(np.stack, zip(*(_assign(one, prototypes, flips) for one in v), strict=True))
        prototypes = _labelled(v, labels, signs).mean(axis=0)
        if before is not None and np.array_equal(before, labels):
            break
        before = labels
    return labels, signs, prototypes


def _labelled(v: np.ndarray, labels: np.ndarray, signs: np.ndarray) -> np.ndarray:
    return np.take_along_axis(v, labels[..., None], axis=1) * signs[..., None]


def _assign(v: np.ndarray, prototypes: np.ndarray, flips: bool):
    """The neuron of one draw for every prototype, and its sign: Σ_k |s v_i - μ_k|² is least."""
    overlap = prototypes @ v.T
    signs = np.where(overlap < 0, -1.0, 1.0) if flips else np.ones_like(overlap)
    rows, columns = linear_sum_assignment((v**2).sum(axis=1) - 2 * signs * overlap)
    return columns, signs[rows, columns]


def _thinned(posterior: xr.Dataset, max_draws: int) -> xr.Dataset:
    per_chain = max(1, max_draws // posterior.sizes["chain"])
    index = np.linspace(0, posterior.sizes["draw"] - 1, min(per_chain, posterior.sizes["draw"]))
    return posterior.isel(draw=np.unique(index.round().astype(int)))


def _first_draw(tree: xr.DataTree, posterior: xr.Dataset) -> int:
    density = log_density_of(tree)
    return 0 if density is None else int(density.sel(draw=posterior.draw).to_numpy().argmax())


def check_labels(tree: xr.DataTree, matched: xr.Dataset) -> Check:
    """Whether single weights mean anything; a note where not, since no figure here needs it."""
    switching, effect = matched.attrs["switching"], ""
    status, message = "passed", "neurons keep their labels in all chains"
    if switching > _SWITCHING:
        if not is_independent(tree):  # which have no R-hat
            with np.errstate(invalid="ignore", divide="ignore"):  # of chains that do not move
                r_hat = float(arviz_stats.rhat(group(tree, "posterior")[["a"]].astype(float)).a.max())
            effect = f" (R-hat of a single readout is {r_hat:.2f})" if r_hat > R_HAT_LIMIT else ""
        status, fault = "note", f"neurons change labels between or within chains{effect}"
        apart = f"which differ by {matched.attrs['mismatch']:.0%} of the spread between neurons"
        remedy = f"read sorted or matched neurons, {apart}"
        message = f"{fault}: means of single weights say nothing; {remedy}"
    return Check("labels", POSTERIOR, status, message, switching, _SWITCHING, "neurons")
