"""Posterior inclusion probabilities of the inputs, under priors that have them."""

import numpy as np
import pandas as pd
import xarray as xr

from analysis.results.order_parameters import group, is_independent, mean_and_se


def inclusion_probabilities(tree: xr.DataTree) -> pd.DataFrame:
    """P(γ_j = 1 | data) of every input j, with its Monte-Carlo standard error.

    The prior records P(γ_j = 1 | scale of input j) in every draw, as :class:`models.SpikeAndSlab`
    does; the mean over the posterior is P(γ_j = 1 | data), without the noise of drawing the
    indicators γ (Rao and Blackwell). Columns input, probability, se and, where the relevant inputs
    are known, relevant. ``ValueError`` for a posterior without the site ``inclusion``.

    Examples
    --------
    >>> import jax
    >>> from models import SparseParity, SpikeAndSlab, TwoLayerNetwork
    >>> from inference import MeanFieldGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1, prior=SpikeAndSlab())
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = fit(network, data, MeanFieldGuide(), jax.random.key(1), num_steps=20, num_draws=8)
    >>> inclusion_probabilities(tree).probability.between(0, 1).all()
    np.True_
    """
    draws = group(tree, "posterior")
    if "inclusion" not in draws:
        raise ValueError(
            f"tree must hold the site 'inclusion', which the prior {tree.attrs.get('prior')!r} does not record; "
            "use SpikeAndSlab."
        )
    mean, se = mean_and_se(draws.inclusion, is_independent(tree)).to_numpy()
    table = pd.DataFrame({"input": np.arange(len(mean)), "probability": mean, "se": se})
    data = group(tree, "constant_data")
    if "relevant" in data:
        table["relevant"] = np.isin(table.input, data.relevant)
    return table


def has_inclusion(tree: xr.DataTree) -> bool:
    """Whether a result's prior records inclusion probabilities."""
    return "inclusion" in tree["posterior"]
