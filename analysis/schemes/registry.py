"""The schemes that a comparison can run, each by the one name it has everywhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import xarray as xr

from analysis.diagnostics.importance import with_exact_loo
from analysis.schemes.kernels import KERNELS, KernelChoice
from analysis.theory.theories import THEORIES
from inference import CollapsedGuide, MeanFieldARDGuide, MeanFieldGuide, fit, sample
from inference.fixed_points.regression.readouts import ReadoutSampler
from inference.runs.datatree import build_tree
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, Network, SingleIndex, SparseParity, TwoLayerNetwork, WeightPrior, checks
from models.priors import has_weights_of

# Draws of i.i.d. networks from a guide or a fixed point, laid out as one chain.
_INDEPENDENT_DRAWS = 500
_CHAINS = 4


@dataclass(frozen=True)
class Scheme:
    """A way to the posterior: ``run(network, data, key, progress)`` -> (tree, fixed point or None).

    `priors` are those whose weights it covers, None for any, in all layers or, where not
    `all_layers`, in one; `deep` says whether it covers several hidden layers;
    ``by_default(network, data)`` whether it runs where no scheme is named, None for never.
    """

    run: Callable[[Network, Dataset, jax.Array, ProgressCallback], tuple]
    priors: tuple[type[WeightPrior], ...] | None = None
    by_default: Callable[[Network, Dataset], bool] | None = lambda network, data: True
    all_layers: bool = True
    deep: bool = True

    def covers(self, network: Network) -> bool:
        """Whether it is a scheme for the network's depth and prior."""
        return self.covers_depth(network) and self._covers_prior(network)

    def covers_depth(self, network: Network) -> bool:
        """Whether it is a scheme for the network's depth."""
        return self.deep or isinstance(network, TwoLayerNetwork)

    def _covers_prior(self, network: Network) -> bool:
        if self.priors is None:
            return True
        return (all if self.all_layers else any)(has_weights_of(p, *self.priors) for p in network.priors)


@dataclass(frozen=True)
class Sampler:
    """A scheme that is a Markov chain, on the hidden layer alone where it is collapsed.

    Kernel and steps depend on the declared network alone, never on the data or a test error.
    """

    kernel: KernelChoice
    start: str = "prior"
    collapsed: bool = False


SAMPLERS: dict[str, Sampler] = {
    "sgld": Sampler(KERNELS["sgld"]),
    "nuts": Sampler(KERNELS["nuts"]),
    "langevin": Sampler(KERNELS["langevin"], start="both"),
    "nuts-collapsed": Sampler(KERNELS["nuts"], collapsed=True),
}


def run_sampler(
    name: str,
    network: Network,
    data: Dataset,
    key: jax.Array,
    progress: ProgressCallback | None = None,
    steps: dict[str, int] | None = None,
) -> xr.DataTree:
    """Four chains of the sampler `name`, of `steps` instead of its own where they are given."""
    sampler = SAMPLERS[name]
    tree = sample(
        network.collapsed() if sampler.collapsed else network,
        data,
        sampler.kernel.default(network),
        key,
        num_chains=_CHAINS,
        start="prior" if data.relevant is None else sampler.start,
        progress=progress,
        **(steps or sampler.kernel.steps(network)),
    )
    tree.attrs["scheme"] = name  # the kernel's own name is another for the recommended one, which may change
    return tree


def _sampler(name, network, data, key, progress):
    return run_sampler(name, network, data, key, progress), None


def _guide(guide, network, data, key, progress, **options):
    return fit(network, data, guide, key, num_draws=_INDEPENDENT_DRAWS, progress=progress, **options), None


def _fixed_point(name, network, data, key, progress):
    began = time.perf_counter()
    progress(0, 1, "solving")
    theory = THEORIES[name]
    population = not theory.deep and _has_population(data)
    num_data = data.num_data if population and theory.finite_data else None
    target = data.teacher if population else data

    def report(done: int, total: int, text: str) -> None:
        progress(done, total + 1, text)  # the networks are drawn after the solution

    point = theory.solver().solve(network, target, num_data=num_data, key=key, progress=report)
    # A theory of finite data has integrated the readouts out, and leaves them to the data.
    draws = point.sample_networks(key, _INDEPENDENT_DRAWS, *([] if num_data is None else [data]))
    tree = build_tree(
        network,
        data,
        {name: value[None] for name, value in draws.items()},
        scheme=name,
        settings={"theory": name, "on": "population" if population else "dataset"},
        seed=key,
        wall_time_s=time.perf_counter() - began,
        gradient_evaluations=0,
        independent_draws=True,
        extra_attributes={"population": int(population), "converged": int(point.converged)},
    )
    if hasattr(point, "elpd_loo_pointwise"):
        prior_weights = isinstance(point.sampler, ReadoutSampler)
        tree = with_exact_loo(tree, point.elpd_loo_pointwise, point.log_density_pointwise, prior_weights)
    progress(1, 1, "")
    return tree, point


def _has_population(data: Dataset) -> bool:
    """Whether the data's teacher is one whose population the theories know."""
    return isinstance(data.teacher, SparseParity | SingleIndex)


def _solved_in_seconds(name: str, network: Network, data: Dataset) -> bool:
    """Whether the theory takes seconds: not where it would sample particles, or a large network."""
    if name in ("mean-field", "mean-field-ard", "adaptive-kernel"):
        return _has_population(data)
    if name == "block-adaptive-kernel":
        even = isinstance(data.teacher, SparseParity) and data.teacher.degree in (2, 4, 6)
        return even and network.activation == "relu" and not network.bias and max(network.widths) <= 128
    return name == "nngp"


def _theory(name: str) -> Scheme:
    by_default = partial(_solved_in_seconds, name)
    solve, theory = partial(_fixed_point, name), THEORIES[name]
    return Scheme(solve, theory.priors, by_default, deep=theory.deep)


SCHEMES: dict[str, Scheme] = {
    "sgld": Scheme(partial(_sampler, "sgld")),
    "nuts": Scheme(partial(_sampler, "nuts")),
    "mf-guide": Scheme(partial(_guide, MeanFieldGuide())),
    "mf-ard-guide": Scheme(partial(_guide, MeanFieldARDGuide()), (ARD,), all_layers=False),
    **{name: _theory(name) for name in list(THEORIES)[:5]},
    # After the others: a scheme's place in this list picks its key.
    "langevin": Scheme(partial(_sampler, "langevin")),
    "nuts-collapsed": Scheme(partial(_sampler, "nuts-collapsed"), by_default=None),
    # 1200 steps are enough on the default problem; 4 × 1500 are within a tenth of NUTS's gradients.
    "collapsed-guide": Scheme(partial(_guide, CollapsedGuide(), num_steps=1500)),
    **{name: _theory(name) for name in list(THEORIES)[5:]},
}


def default_schemes(network: Network, data: Dataset) -> list[str]:
    """Those that run where none is named; ARD's own guide stands for the plain one."""
    offered = {name: s for name, s in SCHEMES.items() if s.by_default and s.by_default(network, data)}
    names = [name for name, scheme in offered.items() if scheme.covers(network)]
    return [name for name in names if not (name == "mf-guide" and "mf-ard-guide" in names)]


def check_scheme(name: str, network: Network) -> None:
    """``ValueError`` for an unknown scheme, or one that does not cover the network."""
    checks.one_of("schemes", name, SCHEMES)
    if not SCHEMES[name].covers_depth(network):
        raise ValueError(
            f"scheme {name!r} does not apply to a DeepNetwork: it is a theory of one hidden layer; leave it out."
        )
    if not SCHEMES[name].covers(network):
        covered = " and ".join(prior.__name__ for prior in SCHEMES[name].priors)
        raise ValueError(
            f"scheme {name!r} does not apply to the prior {network.prior.name!r}: it covers {covered}; leave it out "
            "or choose another prior."
        )
