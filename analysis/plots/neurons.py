"""Matched neurons: what they are in all draws and chains alike."""

import numpy as np
from matplotlib.figure import Figure

from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import CHAINS, new_figure

_SHOWN = 24


def plot_neurons(verdict: Verdict) -> Figure:
    """Matched neurons of a result, the strongest first.

    Left: mean over all draws of sign(a) w_ij/√(mean w²), the neuron's weights in the direction in
    which it raises f; a neuron that is the same in all chains keeps its colours, one without
    identity averages to grey. Middle: strength |a||w| of each matched neuron, a dot per chain with
    its standard deviation. Right: strengths sorted in every draw, which needs no matching.
    """
    neurons = verdict.neurons
    picked = neurons.isel(neuron=slice(_SHOWN))
    shown, chains = picked.sizes["neuron"], picked.sizes["chain"]
    figure, [[left, *others]] = new_figure(1, 3, 12, 1.6 + 0.16 * shown, width_ratios=[1.3, 1, 1])
    signs = np.sign(picked.a) if "a" in picked else 1.0  # a neuron below others has no one direction
    directed = (signs * picked.w).mean(("chain", "draw"))
    scale = float(np.sqrt((neurons.w**2).mean()))
    image = left.imshow(directed / scale, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
    figure.colorbar(image, ax=left, label="mean of sign(a) w / rms", shrink=0.8)
    left.set(xlabel="input", ylabel="matched neuron")
    for axes, (name, kind) in zip(
        others, {"strength": "matched", "sorted_strength": "sorted"}.items(), strict=True
    ):
        mean, sd = picked[name].mean("draw"), picked[name].std("draw")
        for chain in range(chains):
            y = np.arange(shown) + 0.6 * ((chain + 1) / (chains + 1) - 0.5)
            shade = CHAINS[chain % len(CHAINS)]
            axes.errorbar(mean[chain], y, xerr=sd[chain], fmt="o", ms=2.5, lw=0.8, color=shade)
        axes.set(ylim=(shown - 0.5, -0.5), xlim=(0, None), xlabel=f"strength |a||w| ({kind})")
    mismatch = f"mismatch {neurons.attrs['mismatch']:.2f} (0: same neurons, 1: no identity)"
    figure.suptitle(f"{verdict.label}   {mismatch}")
    return figure
