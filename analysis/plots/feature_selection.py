"""Which inputs each scheme selects."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from analysis.plots.style import new_figure, tidy


def plot_feature_selection(rankings: Mapping[str, pd.DataFrame]) -> Figure:
    """Inclusion probability of every input, a row per scheme; relevant inputs are framed, ranks are written in.

    Parameters
    ----------
    rankings
        Tables of :func:`analysis.diagnostics.rank_inputs` by label.
    """
    tables = list(rankings.values())
    inclusion = np.array([table["inclusion"] for table in tables])
    width = min(14.0, 3.0 + 0.36 * inclusion.shape[1])
    figure, [[axes]] = new_figure(1, 1, width, 1.3 + 0.32 * len(tables))
    image = axes.imshow(inclusion, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    if inclusion.shape[1] <= 40:
        for y, table in enumerate(tables):
            for x, (rank, share) in enumerate(zip(table["rank"], table["inclusion"], strict=True)):
                axes.text(
                    x, y, rank, ha="center", va="center", fontsize=7, color="white" if share > 0.5 else "0.3"
                )
    if "relevant" in tables[0]:
        for x in np.flatnonzero(tables[0]["relevant"]):
            axes.add_patch(
                Rectangle(
                    (x - 0.5, -0.5), 1, len(tables), fill=False, edgecolor="#D55E00", lw=2, clip_on=False
                )
            )
    axes.set_yticks(range(len(tables)), rankings)
    axes.set_xlabel("input (number: rank of its score; framed: relevant)")
    figure.colorbar(image, ax=axes, label="inclusion probability", shrink=0.9)
    tidy(axes)
    return figure
