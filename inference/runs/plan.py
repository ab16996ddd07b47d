"""What a call of ``sample`` asks for, checked, and how its draws become the schema."""

from collections.abc import Callable
from dataclasses import dataclass

import jax
import numpy as np
import xarray as xr
from numpyro.infer import NUTS
from numpyro.infer.mcmc import MCMCKernel

from inference.kernels.langevin import LangevinKernel
from inference.kernels.step_size import AUTO
from inference.runs.binding import bind_kernel, check_init_params, stats_fields
from inference.runs.datatree import build_tree
from inference.runs.fingerprint import describe_kernel, describe_platform, describe_value, hash_arrays
from inference.runs.observables import complete_readouts
from inference.starts import CHAIN_STARTS, Start, check_problem, start_name, start_params
from models import CollapsedNetwork, Dataset, Network, checks

# Hidden activations of one block, all chains together. The two matrix products of a step need few
# operations per activation, so that activations which travel to main memory and back take most of
# its time. Measured at N = 512, d = 35, P = 5000 on CPUs with 1 MiB of second-level cache a core:
# 1.4 to 1.7 times the steps per second.
_BLOCK_BYTES = 2**21
# Blocks smaller than this, or fewer, cost more in calls than they save.
_LEAST_BLOCK = 64
_LEAST_BLOCKS = 4

_SETTINGS = ("num_warmup", "num_samples", "thinning", "start", "subsample_size")


@dataclass
class SamplingPlan:
    """The arguments of :func:`inference.sample` that determine its draws, checked.

    Examples
    --------
    >>> import jax
    >>> from models import TwoLayerNetwork, SparseParity
    >>> from inference import SGLD
    >>> network = TwoLayerNetwork(input_dim=6, width=16, kappa=0.3)
    >>> data = SparseParity(input_dim=6, degree=2).sample(jax.random.key(0), num_data=40)
    >>> plan = SamplingPlan(network, data, SGLD(), jax.random.key(1), num_warmup=5, num_samples=21, thinning=2)
    >>> plan.options["num_draws"], plan.num_steps
    (10, 25)
    """

    network: Network
    data: Dataset
    kernel: MCMCKernel | Callable
    key: jax.Array
    num_warmup: int = 1000
    num_samples: int = 1000
    num_chains: int = 4
    thinning: int = 1
    start: Start = "prior"
    init_params: dict | None = None
    subsample_size: int | None = None

    def __post_init__(self):
        checks.whole("num_warmup", self.num_warmup, 0)
        checks.whole("num_chains", self.num_chains, 1)
        checks.whole("thinning", self.thinning, 1)
        checks.whole("num_samples", self.num_samples, self.thinning)
        check_problem(self.network, self.data, self.subsample_size)
        self.kernel = bind_kernel(self.kernel, self.network)
        if self.subsample_size is not None and not getattr(self.kernel, "subsamples", False):
            raise ValueError(
                "subsample_size is for SGLD and other kernels without a Metropolis test; "
                f"{type(self.kernel).__name__} needs the full batch (None)."
            )
        self._key_start, self._key_chains = jax.random.split(self.key)
        if self.init_params is not None:
            own_model = self.kernel.model is self.network
            check_init_params(self.init_params, self.network, self.data, self.num_chains, own_model)
            self.start = "given"
        elif isinstance(self.start, str):
            checks.one_of("start", self.start, CHAIN_STARTS)
        else:  # its values tell runs apart, its name alone would not
            values = start_params(self.network, self.data, self._key_start, self.num_chains, self.start)
            self.init_params, self.start = values, start_name(self.start)
        self._block = self._data_block()
        if self._block is not None:
            self.kernel = self.kernel.accumulating()
        self._key_readouts = jax.random.fold_in(self.key, 2)
        self._stats = stats_fields(self.kernel)

    @property
    def scheme(self) -> str:
        """Name of the scheme."""
        kernel = "nuts" if isinstance(self.kernel, NUTS) else type(self.kernel).__name__.lower()
        return f"{kernel}-collapsed" if isinstance(self.network, CollapsedNetwork) else kernel

    @property
    def num_steps(self) -> int:
        """Steps of each chain."""
        return self.num_warmup + self.num_samples // self.thinning * self.thinning

    @property
    def settings(self) -> dict:
        """JSON-able settings of the scheme."""
        kernel = self.kernel
        blocks = {} if self._block is None else {"data_block": self._block}
        return {
            **(kernel.settings() if hasattr(kernel, "settings") else {"kernel": type(kernel).__name__}),
            **{name: getattr(self, name) for name in _SETTINGS},
            **blocks,
        }

    @property
    def chains(self) -> tuple:
        """Kernel, keys, model arguments of :class:`inference.runs.chains.CompiledChains`."""
        size = self.subsample_size if self._block is None else self._block
        model_kwargs = {} if size is None else {"subsample_size": size}
        keys = jax.random.split(self._key_chains, self.num_chains)
        return self.kernel, keys, (self.data.x, self.data.y), model_kwargs

    @property
    def options(self) -> dict:
        """Its further arguments: how long the chains run, their start, the fields to collect."""
        params = self.init_params
        if params is None:
            params = start_params(self.network, self.data, self._key_start, self.num_chains, self.start)
        return {
            "num_warmup": self.num_warmup,
            "num_draws": self.num_samples // self.thinning,
            "thinning": self.thinning,
            "init_params": params,
            "fields": tuple(self._stats.values()),
        }

    def tree(self, sites: dict, fields: dict, work: int, seconds: float, first: int = 0) -> xr.DataTree:
        """Draws (chain, draw, ...) from number `first` on in the schema."""
        sites = self.complete(sites, first)
        sample_stats = {name: fields[field] for name, field in self._stats.items()}
        if "potential_energy" in sample_stats:
            sample_stats["lp"] = -sample_stats.pop("potential_energy")
        settings = self.settings
        if settings.get("step_size") == AUTO:
            settings["step_size_found"] = np.asarray(sample_stats["step_size"])[:, -1].tolist()
        batches = 1.0 if self.subsample_size is None else self.subsample_size / self.data.num_data
        return build_tree(
            self.network,
            self.data,
            sites,
            scheme=self.scheme,
            settings=settings,
            seed=self.key,
            wall_time_s=seconds,
            gradient_evaluations=round(work * batches),
            independent_draws=False,
            sample_stats=sample_stats,
            extra_attributes={"start": self.start},
            first_draw=first,
        )

    def piece(self, sites: dict, fields: dict, first: int, work: int, seconds: float) -> xr.DataTree:
        """Draws (draw, chain, ...) of a longer run, from number `first` on, in the schema."""
        sites, fields = jax.tree.map(lambda v: np.swapaxes(v, 0, 1), (sites, fields))
        return self.tree(sites, fields, work, seconds, first)

    def complete(self, sites: dict, first: int = 0) -> dict:
        """Sites (chain, draw, ...) from draw `first` on, with readouts also where collapsed."""
        return complete_readouts(self.network, self.data, sites, self._key_readouts, first)

    def fingerprint(self) -> dict:
        """Everything that determines the draws, JSON-able."""
        data, own_model = self.data, self.kernel.model is self.network
        return {
            "network": describe_value(self.network),
            "data": hash_arrays(
                data.x, data.y, data.x_test, data.y_test, np.asarray(data.relevant or (), int)
            ),
            "kernel": describe_kernel(self.kernel),
            "model": None if own_model else describe_value(self.kernel.model),
            "settings": self.settings,
            "num_chains": self.num_chains,
            "seed": describe_value(self.key),
            "init_params": describe_value(self.init_params),
            "platform": describe_platform(),
        }

    def _data_block(self) -> int | None:
        """Block over which a Langevin kernel accumulates the full batch, where that is faster."""
        ours = isinstance(self.kernel, LangevinKernel) and self.kernel.model is self.network
        if not ours or isinstance(self.network, CollapsedNetwork) or self.subsample_size is not None:
            return None
        return data_block(self.network, self.data.num_data, self.num_chains)


def data_block(network: Network, num_data: int, num_chains: int) -> int | None:
    """Points in a block of the full-batch gradient; None where it is evaluated in one piece.

    The largest divisor of P with which the activations of all chains stay within 2 MiB. In one
    piece go problems of less than 8 MiB, a P without a suitable divisor, and anything on a GPU.

    Examples
    --------
    >>> from models import TwoLayerNetwork
    >>> network = TwoLayerNetwork(input_dim=35, width=512, kappa=5e-3)
    >>> data_block(network, num_data=5000, num_chains=4)
    250
    >>> data_block(network, num_data=500, num_chains=1) is None
    True
    """
    largest = _BLOCK_BYTES // (4 * sum(network.widths) * num_chains)
    if num_data <= _LEAST_BLOCKS * largest or jax.default_backend() != "cpu":
        return None
    sizes = [size for size in range(_LEAST_BLOCK, largest + 1) if num_data % size == 0]
    return max(sizes, default=None)
