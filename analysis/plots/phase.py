"""Phase diagrams and curves of solutions."""

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from analysis.plots.style import colour, distinct_colours, heading, legend, new_figure, title
from inference.fixed_points import NoiseCurve


def plot_phase_diagram(grid: xr.Dataset) -> Figure:
    """Order parameter over κ and P, a panel per theory, from :func:`analysis.phase_diagram`.

    Lines are at the onset (m = 0.1, solid) and at folds (dashed). Theories of infinite data share a
    last panel, m against κ.
    """
    finite = grid.num_data.values[np.isfinite(grid.num_data.values)]
    maps, lines = [], []
    for name in grid.theory.values:
        rows = grid.order_parameter.sel(theory=name, num_data=finite).notnull().any("kappa").sum()
        (maps if rows > 1 else lines).append(str(name))
    figure, (axes,) = new_figure(1, len(maps) + bool(lines), 1.2 + 4.0 * (len(maps) + bool(lines)), 3.6)
    image = None
    for panel, name in zip(axes, maps, strict=False):
        image = _map(panel, grid.sel(theory=name, num_data=finite), name)
    if image is not None:
        figure.colorbar(image, ax=axes[: len(maps)], label="order parameter m")
    if lines:
        for name in lines:
            _lines(axes[-1], grid.sel(theory=name), name)
        axes[-1].set(xscale="log", xlabel="noise κ", ylabel="order parameter m", ylim=(-0.02, 1.02))
        legend(axes[-1])
    return figure


def _map(axes, part: xr.Dataset, name: str):
    kappa, size = part.kappa.values, part.num_data.values
    m = part.order_parameter.transpose("num_data", "kappa")
    image = axes.pcolormesh(kappa, size, m, vmin=0, vmax=1, shading="nearest", cmap="viridis")
    axes.plot(part.onset, size, color="white", lw=1.5)
    for fold in part.fold_kappa.transpose("fold", "num_data").values:
        axes.plot(fold, size, color="white", lw=1, ls="--")
    lines = {"solid: m = 0.1": part.onset, "dashed: folds": part.fold_kappa}
    drawn = ", ".join(label for label, values in lines.items() if values.notnull().any())
    axes.set_title(drawn, loc="right", fontsize=8, color="0.4")
    axes.set(xscale="log", yscale="log", xlabel="noise κ", ylabel="training points P")
    axes.set(xlim=(kappa.min(), kappa.max()), ylim=(size.min(), size.max()))
    heading(axes, title(name))
    return image


def _lines(axes, part: xr.Dataset, name: str) -> None:
    for size in part.num_data.values:
        m = part.order_parameter.sel(num_data=size)
        if m.notnull().any():
            label = title(name) + (f", P = {size:g}" if np.isfinite(size) else ", P = ∞")
            axes.plot(part.kappa, m, color=colour(name), marker=".", label=label)


def plot_noise_curves(curves: dict[str, NoiseCurve], kappas: tuple[float, float] | None = None) -> Figure:
    """m against κ, by label; stable branches are solid, unstable ones dashed."""
    figure, ((axes,),) = new_figure(1, 1, 6.0, 4.0)
    shades = distinct_colours(curve.theory for curve in curves.values())
    for (label, curve), shade in zip(curves.items(), shades, strict=True):
        style = {"color": shade}
        for stable in (True, False):
            m = np.where(curve.stable == stable, curve.order_parameter, np.nan)
            # The sample after a change belongs to both, so that the line has no gap at a fold.
            change = np.flatnonzero(curve.stable[1:] != curve.stable[:-1]) + 1
            m[change] = curve.order_parameter[change]
            axes.plot(curve.kappa, m, ls="-" if stable else "--", label=label if stable else None, **style)
        for fold in curve.folds():
            axes.plot(fold.kappa, fold.order_parameter, "o", ms=4, **style)
    axes.set(xscale="log", xlabel="noise κ", ylabel="order parameter m", ylim=(-0.02, 1.02))
    if kappas is not None:
        axes.set_xlim(*kappas)
    legend(axes)
    return figure
