"""Matched neurons: what they are in all draws and chains alike."""

import numpy as np
from matplotlib.figure import Figure

from analysis.diagnostics.verdict import Verdict
from analysis.plots.style import new_figure, tidy

_SHOWN = 24


def plot_neurons(verdict: Verdict) -> Figure:
    """Matched neurons of a result, the strongest first.

    Left: mean over all draws of sign(a) w_ij/√(mean w²), the neuron's weights in the direction in which it raises
    f; a neuron that is the same in all chains keeps its colours, one without identity averages to grey. Middle:
    strength |a||w| of each matched neuron, a dot per chain with its standard deviation. Right: strengths sorted in
    every draw, which needs no matching.
    """
    neurons = verdict.neurons
    shown = min(_SHOWN, neurons.sizes["neuron"])
    picked = neurons.isel(neuron=slice(0, shown))
    figure, [[left, middle, right]] = new_figure(1, 3, 12, 1.6 + 0.16 * shown, width_ratios=[1.3, 1, 1])
    directed = (np.sign(picked.a) * picked.w).mean(("chain", "draw"))
    scale = float(np.sqrt((neurons.w**2).mean()))
    image = left.imshow(directed / scale, cmap="RdBu_r", vmin=-2, vmax=2, aspect="auto")
    figure.colorbar(image, ax=left, label="mean of sign(a) w / rms", shrink=0.8)
    left.set_xlabel("input")
    left.set_ylabel("matched neuron")
    for axes, name, title in ((middle, "strength", "matched"), (right, "sorted_strength", "sorted")):
        mean, sd = picked[name].mean("draw"), picked[name].std("draw")
        chains = mean.sizes["chain"]
        for chain in range(chains):
            y = np.arange(shown) + 0.6 * ((chain + 1) / (chains + 1) - 0.5)
            axes.errorbar(mean[chain], y, xerr=sd[chain], fmt="o", ms=2.5, lw=0.8, color=f"C{chain}")
        axes.set_ylim(shown - 0.5, -0.5)
        axes.set_xlim(0, None)
        axes.set_xlabel(f"strength |a||w| ({title})")
        tidy(axes)
    figure.suptitle(
        f"{verdict.label}   mismatch {neurons.attrs['mismatch']:.2f} (0: same neurons, 1: no identity)"
    )
    return figure
