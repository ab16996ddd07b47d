"""``sample``: the posterior by any NumPyro kernel, ending in the DataTree schema."""

import time
from collections.abc import Callable
from pathlib import Path

import jax
import xarray as xr
from numpyro.infer.mcmc import MCMCKernel

from inference.kernels.divergence import DivergenceError
from inference.runs.binding import bind_kernel
from inference.runs.chains import CompiledChains, run_chains
from inference.runs.plan import SamplingPlan
from inference.runs.progress import ProgressCallback, fit_text, progress_callback
from inference.runs.run_folder import open_run
from inference.runs.streaming import stream_chains
from inference.starts import Start
from models import Dataset, Network, checks

__all__ = ["bind_kernel", "sample"]


def sample(
    network: Network,
    data: Dataset,
    kernel: MCMCKernel | Callable,
    key: jax.Array,
    *,
    num_warmup: int = 1000,
    num_samples: int = 1000,
    num_chains: int = 4,
    thinning: int = 1,
    start: Start = "prior",
    init_params: dict | None = None,
    subsample_size: int | None = None,
    progress: bool | ProgressCallback | None = False,
    folder: str | Path | None = None,
    resume: bool = False,
    checkpoint_every: float = 60.0,
) -> xr.DataTree:
    """Draw from the posterior of `network` on `data` by Markov chains.

    The tree is of the schema of :func:`inference.runs.datatree.build_tree`; ``sample_stats`` holds
    the log density ``lp``. ``ValueError`` for arguments out of range, a kernel that cannot take the
    model, or a folder with another run; :class:`DivergenceError` where a step size is too large.

    Parameters
    ----------
    kernel
        A kernel without a model, such as ``SGLD(step_size=1e-3)``; one with a model of its own; or
        a callable from a model to a kernel, such as ``NUTS`` or ``lambda model: NUTS(model,
        max_tree_depth=8)``.
    key
        A ``jax.random.key``; the same key gives the same draws on the same platform.
    num_warmup, num_samples, thinning
        Steps of each chain that are thrown away (and, by NUTS, used to adapt), and steps after
        them, of which every `thinning`-th is kept, as in NumPyro.
    num_chains
        Chains, run side by side on one device.
    start
        ``"prior"``, ``"aligned"``, or ``"both"`` for half of the chains each; or a DataTree (a
        guide's, an earlier run's) or a solved theory, from draws of whose hidden layers the chains
        start: see :func:`inference.starts.start_params`. The attribute ``start`` of the tree says
        which; of a result, its scheme.
    init_params
        Unconstrained values of every site with the chains leading, instead of `start`.
    subsample_size
        Minibatch size B for SGLD; None for the full batch.
    progress
        True for a bar on standard error, or a callable ``(done, total, text)``.
    folder
        Stream the draws to this folder, with checkpoints: memory then does not grow with the number
        of draws, and a run that was stopped, by Ctrl-C or a power cut, can go on. The folder ends
        with one file ``run.nc``, from which arrays are read when used; while that is being written
        the draws take twice their space. None for a run in memory.
    resume
        Go on with the run in `folder` and end with the same draws, bit for bit on the same
        platform, as if it had not been stopped; a folder without a run starts one, and a finished
        run is returned as it is.
    checkpoint_every
        Seconds between checkpoints of a run in a folder.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD, sample
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> tree = sample(network, data, SGLD(step_size=1e-3), jax.random.key(1), num_warmup=100, num_samples=200)
    >>> dict(tree.posterior.sizes)
    {'chain': 4, 'draw': 200, 'neuron': 16, 'input': 6}
    """
    if resume and folder is None:
        raise ValueError("resume needs the folder of the run to go on with; give folder=....")
    checks.positive("checkpoint_every", checkpoint_every)
    lengths = (num_warmup, num_samples, num_chains, thinning)
    plan = SamplingPlan(network, data, kernel, key, *lengths, start, init_params, subsample_size)

    def status(sites: dict) -> str:
        sites = jax.tree.map(lambda v: v[:, None], sites)
        return fit_text(network, data, plan.complete(sites))

    with progress_callback(progress, plan.scheme) as report:
        if folder is None:
            began = time.perf_counter()
            options = {"progress": report, "status": status if progress else None}
            sites, fields, _, work = run_chains(*plan.chains, **plan.options, **options)
            return plan.tree(sites, fields, work, time.perf_counter() - began)
        with open_run(folder, plan.fingerprint(), resume=resume) as run:
            if run.finished:
                report(plan.num_steps, plan.num_steps, "finished before")
            else:
                _in_folder(plan, run, checkpoint_every, report, status if progress else None)
            return run.result()


def _in_folder(plan: SamplingPlan, run, checkpoint_every: float, report: ProgressCallback, status) -> None:
    began = time.perf_counter()
    report(run.checkpoint.done, plan.num_steps, "compiling")
    try:
        chains = CompiledChains(*plan.chains, **plan.options)
    except Exception:
        if run.checkpoint.done == 0:
            run.abandon()
        raise
    try:
        stream_chains(chains, run, plan.piece, checkpoint_every, began, report, status)
    except DivergenceError:
        run.abandon()  # it would diverge again
        raise
