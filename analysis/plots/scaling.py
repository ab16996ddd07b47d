"""How the critical noise scales."""

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from analysis.plots.style import colour, legend, new_figure, title
from analysis.theory.critical_noise import ScalingExponent


def plot_critical_noise(scalings: dict[str, ScalingExponent], varied: str) -> Figure:
    """Critical noise against `varied`, logarithmic, with the power laws of `scalings` by theory."""
    figure, ((axes,),) = new_figure(1, 1, 5.2, 3.8)
    for name, scaling in scalings.items():
        value, noise = np.array(scaling.values, dtype=float), np.array(scaling.critical_noises)
        offset = np.mean(np.log(noise) - scaling.exponent * np.log(value))
        label = f"{title(name)}: exponent {scaling.exponent:.3f} ± {scaling.standard_error:.3f}"
        axes.plot(value, noise, "o", color=colour(name), label=label)
        axes.plot(value, np.exp(offset) * value**scaling.exponent, "-", lw=1, color=colour(name))
    axes.set(xscale="log", yscale="log", xlabel=varied, ylabel="critical noise κ")
    axes.set_xticks(sorted({v for s in scalings.values() for v in s.values}))
    axes.xaxis.set_major_formatter("{x:g}")
    axes.xaxis.set_minor_locator(NullLocator())
    legend(axes)
    return figure
