"""Fitting guides by stochastic variational inference, with restarts."""

import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
import xarray as xr
from numpyro.infer import SVI

from inference.runs.datatree import build_tree
from inference.runs.progress import ProgressCallback, progress_callback
from inference.starts import STARTS, check_problem, start_params
from inference.variational.guides import MeanFieldGuide
from inference.variational.restarts import draw_mixture, final_bounds, optimise
from models import Dataset, Network, checks

COMBINATIONS = ("best", "mixture")

_BOUND_DRAWS = 1000  # Monte-Carlo draws behind the final bound of each restart


def fit(
    network: Network,
    data: Dataset,
    guide: MeanFieldGuide,
    key: jax.Array,
    *,
    num_steps: int = 5000,
    num_restarts: int = 4,
    num_particles: int = 1,
    learning_rate: float = 0.02,
    num_draws: int = 1000,
    subsample_size: int | None = None,
    start: str = "prior",
    combine: str = "best",
    progress: bool | ProgressCallback | None = None,
) -> xr.DataTree:
    """Fit a guide to a network's posterior and draw independent networks from it.

    Adam with the step size η_t = η cos²(πt/2T) ascends the evidence lower bound

        ELBO(q) = E_q[log p(y, θ) - log q(θ)] = log p(y) - KL(q ‖ p(θ|y)) ≤ log p(y)

    from every restart's own draw of the prior. The decaying step averages the Monte-Carlo noise of
    the gradients out, so that the end is the optimum and not a cloud around it. The bound is not
    convex: restarts end in different solutions, and all their bounds are reported. The restart with
    the largest final bound is kept, or all of them are, as the mixture

        q = Σ_r w_r q_r,      w_r = exp(ELBO_r)/Σ_s exp(ELBO_s)

    Where the components do not overlap, these weights are exactly those that maximise the bound of
    the mixture, and that bound is log Σ_r exp(ELBO_r), at most log R more than the best one's.
    Where they overlap, the weights are a choice, and the gain is smaller. Draws and log q are those
    of the mixture exactly. What no weighting knows is for how many equivalent modes the one stands
    in which a restart has ended; and bounds that differ by more than a few nats, as those of
    restarts mostly do, leave one component with all the weight.

    Parameters
    ----------
    guide
        A :class:`inference.MeanFieldGuide` or one of its subclasses, such as
        :class:`inference.CollapsedGuide`; it is bound to `network`.
    num_steps, num_restarts
        Steps T of each restart, and restarts, advanced side by side.
    num_particles
        Draws from the guide behind each gradient.
    learning_rate
        Initial step size η > 0 of Adam.
    num_draws
        Networks to draw from the guide, independently: they lie in one chain, which has no R-hat.
    subsample_size
        Minibatch size behind each gradient; all data by default. The final bound always uses all
        data.
    start
        Where the locations of the guide start: ``"prior"``, or ``"aligned"`` with the relevant
        inputs, which the data then have to know; see :func:`inference.starts.start_params`.
    combine
        ``"best"`` or ``"mixture"``.
    progress
        None or False: silent; True: a bar on standard error; or a callable ``(done, total, text)``.

    Returns
    -------
    xarray.DataTree
        The schema of :func:`inference.runs.datatree.build_tree` with, in ``sample_stats``,
        ``log_p`` = log p(y, θ) and ``log_q`` = log q(θ) of each draw, densities of the same
        variables (importance ratios for PSIS); a group ``restarts`` with ``elbo``, ``elbo_se`` and
        ``weight`` (restart), and the mean bound ``elbo_history`` (restart, step) over the steps up
        to each ``step``; and the attributes ``elbo``, ``elbo_se``, those of the best restart or, by
        Monte Carlo over the draws, of the mixture, and ``best_restart``. A mixture has also
        ``component``, the restart of each draw, in ``sample_stats``.

    Raises
    ------
    ValueError
        For arguments out of range; where the bound is not finite in any restart, naming the
        learning rate.

    Examples
    --------
    >>> import jax
    >>> from models import SparseParity, TwoLayerNetwork
    >>> from inference import MeanFieldGuide, fit
    >>> network = TwoLayerNetwork(input_dim=6, width=8, kappa=0.1)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = fit(network, data, MeanFieldGuide(), jax.random.key(1), num_steps=50)
    >>> tree["posterior/w"].dims
    ('chain', 'draw', 'neuron', 'input')
    """
    started = time.perf_counter()
    check_problem(network, data, subsample_size)
    if not isinstance(guide, MeanFieldGuide):
        raise ValueError(
            "guide must be an instance such as MeanFieldGuide() or CollapsedGuide(), "
            f"got {guide if isinstance(guide, type) else type(guide).__name__}."
        )
    counts = {"num_steps": num_steps, "num_restarts": num_restarts, "num_particles": num_particles}
    for name, count in counts.items():
        checks.whole(name, count, 1)
    checks.positive("learning_rate", learning_rate)
    checks.whole("num_draws", num_draws, 1)
    checks.one_of("start", start, STARTS)
    checks.one_of("combine", combine, COMBINATIONS)
    guide = guide.bind(network)
    x, y = jnp.asarray(data.x), jnp.asarray(data.y)
    key_fit, key_bound, key_draw = jax.random.split(key, 3)

    # A prior draw is where the guide starts by itself.
    locations = None
    if start == "aligned":
        key_start = jax.random.fold_in(key_fit, num_restarts)
        values = start_params(guide.model, data, key_start, num_restarts, start)
        locations = {f"{name}_auto_loc": value for name, value in values.items()}
    with progress_callback(progress, guide.scheme) as report:
        optimiser = optax.adam(optax.cosine_decay_schedule(learning_rate, num_steps))
        svi = SVI(guide.model, guide, optimiser, guide.elbo(num_particles))
        keys, batch = jax.random.split(key_fit, num_restarts), (x, y, subsample_size)
        params, steps, history = optimise(svi, keys, batch, num_steps, locations, report)
    elbo, elbo_se = final_bounds(guide, params, jax.random.split(key_bound, _BOUND_DRAWS), x, y)
    if not np.isfinite(elbo).any():
        raise ValueError(
            f"the evidence lower bound is not finite in any restart; lower learning_rate={learning_rate!r} "
            "(a tenth of it)."
        )
    weights = combination_weights(elbo, combine)
    kept = np.flatnonzero(weights)
    components = {name: value[kept] for name, value in params.items()}
    keys = jax.random.split(key_draw, num_draws)
    draws, sample_stats = draw_mixture(guide, components, weights[kept], keys, x, y)
    draws, sample_stats = jax.tree.map(lambda v: np.asarray(v)[None], (draws, sample_stats))
    component = kept[sample_stats.pop("component")]
    best = int(np.argmax(np.where(np.isfinite(elbo), elbo, -np.inf)))
    bound, bound_se = float(elbo[best]), float(elbo_se[best])
    if combine == "mixture":
        sample_stats["component"] = component
        ratio = (sample_stats["log_p"] - sample_stats["log_q"]).astype(float)
        bound, bound_se = float(ratio.mean()), float(ratio.std(ddof=1) / ratio.size**0.5)

    batch_fraction = (subsample_size or data.num_data) / data.num_data
    tree = build_tree(
        network,
        data,
        draws,
        scheme=guide.scheme,
        settings={
            **guide.settings(),
            **counts,
            "learning_rate": learning_rate,
            "subsample_size": subsample_size,
            "start": start,
            "combine": combine,
        },
        seed=key,
        wall_time_s=time.perf_counter() - started,
        gradient_evaluations=round(num_steps * num_restarts * num_particles * batch_fraction),
        independent_draws=True,
        sample_stats=sample_stats,
        extra_attributes={"elbo": bound, "elbo_se": bound_se, "best_restart": best},
    )
    tree["restarts"] = xr.Dataset(
        {
            "elbo": ("restart", elbo),
            "elbo_se": ("restart", elbo_se),
            "weight": ("restart", weights),
            "elbo_history": (("restart", "step"), history),
        },
        coords={"restart": np.arange(num_restarts), "step": steps},
    )
    return tree


def combination_weights(elbo: np.ndarray, combine: str) -> np.ndarray:
    """Weights w_r of the restarts: all on the best, or in proportion to exp(ELBO_r).

    Examples
    --------
    >>> combination_weights(np.array([0.0, np.log(3), np.nan]), "mixture").round(2).tolist()
    [0.25, 0.75, 0.0]
    >>> combination_weights(np.array([0.0, np.log(3), np.nan]), "best").tolist()
    [0.0, 1.0, 0.0]
    """
    finite = np.where(np.isfinite(elbo), elbo, -np.inf)
    if combine == "best":
        return (np.arange(len(elbo)) == np.argmax(finite)).astype(float)
    weights = np.exp(finite - finite.max())
    return weights / weights.sum()
