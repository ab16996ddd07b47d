"""Neurons that mean the same in every draw: sorted, or matched to common prototypes by assignment."""

from functools import partial

import arviz_stats
import numpy as np
import xarray as xr
from scipy.optimize import linear_sum_assignment

from analysis.diagnostics.calibration import network_of
from analysis.diagnostics.check import POSTERIOR, Check
from analysis.diagnostics.diagnose import R_HAT_LIMIT
from analysis.results.order_parameters import group, is_independent

# Activations with φ(-u) = -φ(u): flipping w, b and a of a neuron together leaves f and the posterior as they are.
_ODD_ACTIVATIONS = ("tanh", "erf", "identity")
_ITERATIONS = 10
_SWITCHING = 0.01


def match_neurons(tree: xr.DataTree, num_neurons: int | None = None, max_draws: int = 400) -> xr.Dataset:
    """Give the neurons of every draw the labels under which all draws resemble each other most.

    The posterior does not change when neurons are permuted, nor, for an odd activation, when the signs of w_i, b_i
    and a_i are flipped together; labels therefore mean nothing across chains, and can switch within one. Here
    prototypes μ_k and, in every draw, permutation π and signs s are found that minimise

        Σ_draws Σ_k | s_k v_π(k) - μ_k |²,        v_i = (w_i, b_i, a_i), each part over its root mean square

    in turns: given the prototypes the best labels of a draw are an assignment problem, solved exactly; given the
    labels the best prototypes are means. The start is the draw of the highest log density.

    Parameters
    ----------
    tree
        A result in the schema.
    num_neurons
        Prototypes to keep, the strongest by |a_i||w_i| in the first of them; all by default.
    max_draws
        Draws to use, evenly spaced through every chain.

    Returns
    -------
    xarray.Dataset
        Dimensions chain, draw, neuron (in decreasing order of mean strength), input. Variables ``w``, ``a`` (``b``)
        relabelled; ``strength`` |a_i||w_i|; ``label``, the number the neuron has in the result; ``sign`` ±1;
        ``sorted_strength`` (neuron), the draws' strengths in decreasing order, which needs no matching; where the
        relevant inputs are known ``share``, that of |w_i|² on them. Attributes: ``switching``, the share of
        neurons whose label is not the commonest one of its prototype; ``mismatch``, the mean squared distance
        from the prototype over that of the neurons from one common mean: near 0 for neurons that keep their
        identity through all chains, near 1 for neurons without any (draws of the prior).

    Notes
    -----
    Stephens, *Dealing with label switching in mixture models* (2000). Matching makes the draws look alike, and
    noise the more alike the more neurons there are: read ``mismatch`` before the spread of a matched neuron.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import MeanFieldGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40, num_test=50)
    >>> tree = fit(network, data, MeanFieldGuide(), jax.random.key(1), num_steps=50)
    >>> dict(match_neurons(tree, max_draws=40).w.sizes)
    {'chain': 4, 'draw': 10, 'neuron': 8, 'input': 6}
    """
    posterior = _thinned(group(tree, "posterior"), max_draws)
    w, a = (
        posterior[n].transpose("chain", "draw", "neuron", ...).to_numpy().astype(float) for n in ("w", "a")
    )
    parts = [w / _rms(w), (a / _rms(a))[..., None]]
    if "b" in posterior:
        b = posterior.b.to_numpy().astype(float)
        parts.append((b / _rms(b))[..., None])
    v = np.concatenate(parts, axis=-1)
    chains, draws, width, _ = v.shape
    strength = np.abs(a) * np.linalg.norm(w, axis=-1)
    flips = network_of(tree).activation in _ODD_ACTIVATIONS
    flat = v.reshape(-1, *v.shape[2:])
    first = _first_draw(tree, posterior)
    keep = np.argsort(strength.reshape(-1, width)[first])[::-1][: num_neurons or width]
    labels, signs, prototypes = _match(flat, flat[first][keep], flips)

    matched = np.take_along_axis(flat, labels[..., None], axis=1) * signs[..., None]
    within = np.mean((matched - prototypes) ** 2)
    spread = np.mean((matched - matched.mean(axis=(0, 1))) ** 2)
    order = np.argsort(np.take_along_axis(strength.reshape(-1, width), labels, axis=1).mean(axis=0))[::-1]
    labels, signs = (value[:, order].reshape(chains, draws, -1) for value in (labels, signs))

    def pick(values):
        return np.take_along_axis(values, labels.reshape(labels.shape + (1,) * (values.ndim - 3)), axis=2)

    neurons = ("chain", "draw", "neuron")
    out = {
        "w": ((*neurons, "input"), pick(w) * signs[..., None]),
        "a": (neurons, pick(a) * signs),
        "strength": (neurons, pick(strength)),
        "sorted_strength": (neurons, -np.sort(-strength, axis=-1)[..., : labels.shape[-1]]),
        "label": (neurons, labels),
        "sign": (neurons, signs),
    }
    if "b" in posterior:
        out["b"] = (neurons, pick(b) * signs)
    relevant = tree["constant_data"].get("relevant")
    if relevant is not None:
        square = out["w"][1] ** 2
        out["share"] = (neurons, square[..., relevant.to_numpy()].sum(-1) / square.sum(-1))
    return xr.Dataset(
        out,
        attrs={"switching": _switching(labels), "mismatch": float(within / spread) if spread > 0 else 0.0},
    )


def single_weight_r_hat(tree: xr.DataTree) -> float:
    """Largest R-hat of single readouts a_i, under the labels of the result: what label switching does to it."""
    r_hat = arviz_stats.rhat(group(tree, "posterior")[["a"]].astype(float)).a
    return float(r_hat.max())


def check_labels(tree: xr.DataTree, matched: xr.Dataset) -> Check:
    """Whether single weights mean anything; a note where they do not, since no figure here is built on them."""
    switching = matched.attrs["switching"]
    make = partial(Check, "labels", POSTERIOR, value=switching, limit=_SWITCHING, figure="neurons")
    if switching <= _SWITCHING:
        return make(status="passed", message="neurons keep their labels in all chains")
    # R-hat has no meaning for the independent draws of guides and theories.
    r_hat = float("nan") if is_independent(tree) else single_weight_r_hat(tree)
    effect = f" (R-hat of a single readout is {r_hat:.2f})" if r_hat > R_HAT_LIMIT else ""
    message = (
        f"neurons change labels between or within chains{effect}: means of single weights say nothing; read "
        f"sorted or matched neurons, which differ by {matched.attrs['mismatch']:.0%} of the spread between neurons"
    )
    return make(status="note", message=message)


def _match(flat: np.ndarray, prototypes: np.ndarray, flips: bool):
    """Labels (draw, prototype), signs and prototypes at a stationary point of the sum of squares."""
    labels = None
    for _ in range(_ITERATIONS):
        before = labels
        labels, signs = map(np.stack, zip(*(_assign(v, prototypes, flips) for v in flat), strict=True))
        prototypes = (np.take_along_axis(flat, labels[..., None], axis=1) * signs[..., None]).mean(axis=0)
        if before is not None and np.array_equal(before, labels):
            break
    return labels, signs, prototypes


def _assign(v: np.ndarray, prototypes: np.ndarray, flips: bool):
    """The neuron of one draw for every prototype, and its sign: |s v_i - μ_k|² is least for the whole set."""
    overlap = prototypes @ v.T
    signs = np.where(overlap < 0, -1.0, 1.0) if flips else np.ones_like(overlap)
    cost = (v**2).sum(axis=1) - 2 * signs * overlap
    rows, columns = linear_sum_assignment(cost)
    return columns, signs[rows, columns]


def _switching(labels: np.ndarray) -> float:
    """Share of labels (chain, draw, prototype) that are not the commonest label of their prototype."""
    flat = labels.reshape(-1, labels.shape[-1])
    return float(np.mean([1 - np.bincount(column).max() / len(column) for column in flat.T]))


def _thinned(posterior: xr.Dataset, max_draws: int) -> xr.Dataset:
    per_chain = max(1, max_draws // posterior.sizes["chain"])
    index = np.linspace(0, posterior.sizes["draw"] - 1, min(per_chain, posterior.sizes["draw"]))
    return posterior.isel(draw=np.unique(index.round().astype(int)))


def _first_draw(tree: xr.DataTree, posterior: xr.Dataset) -> int:
    stats = tree["sample_stats"] if "sample_stats" in tree.children else {}
    for name in ("lp", "log_p"):
        if name in stats:
            return int(np.argmax(stats[name].sel(draw=posterior.draw).to_numpy()))
    return 0


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2))) or 1.0
