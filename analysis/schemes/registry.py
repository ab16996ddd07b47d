"""The schemes that a comparison can run, each by the one name it has everywhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from math import ceil

import jax
import numpy as np
import xarray as xr
from numpyro.infer import NUTS
from numpyro.infer.mcmc import MCMCKernel

from analysis.theory.theories import THEORIES
from inference import (
    SGLD,
    CollapsedGuide,
    MeanFieldARDGuide,
    MeanFieldGuide,
    UnderdampedLangevin,
    fit,
    sample,
)
from inference.runs.datatree import build_tree
from inference.runs.progress import ProgressCallback
from models import ARD, Dataset, Isotropic, SparseParity, TwoLayerNetwork

# Kept draws of each chain of a sampler, where its budget does not say.
KEPT_DRAWS = 250
# Draws of i.i.d. networks from a guide or a fixed point, laid out as four chains like those of the samplers.
_INDEPENDENT_DRAWS = 500
_CHAINS = 4


@dataclass(frozen=True)
class Scheme:
    """One way to the posterior.

    Attributes
    ----------
    run
        ``run(network, data, key, progress)`` -> (tree, fixed point or None).
    covers
        ``covers(network, data)`` -> None where the scheme applies, else a sentence saying what it covers.
    """

    run: Callable[[TwoLayerNetwork, Dataset, jax.Array, ProgressCallback], tuple]
    covers: Callable[[TwoLayerNetwork, Dataset], str | None]


def default_sgld(network: TwoLayerNetwork) -> SGLD:
    """SGLD with a step size measured to be safe and nearly unbiased on the default problem.

    The curvature of the likelihood grows as 1/κ², so ε goes as κ². With the isotropic prior the weights' own
    prior scale 1/√d makes preconditioning by prior variance worth a factor of five in ESS; the non-centred ARD
    prior has unit scales already, and relevant inputs, whose ρ is small, need smaller steps. At large κ the prior
    itself bounds ε: its curvature is 1, preconditioned or non-centred, so that a quarter of the stable step is 1/2.
    """
    if isinstance(network.prior, Isotropic):
        return SGLD(step_size=min(3.0 * network.kappa**2, 0.5), preconditioner="prior")
    return SGLD(step_size=min(0.6 * network.kappa**2, 0.5))


def recommended_kernel(network: TwoLayerNetwork, num_data: int) -> MCMCKernel | Callable:
    """The sampler of the scheme langevin, by default underdamped: BAOAB preconditioned by the prior.

    The likelihood's curvature grows as 1/κ², so the step h goes as κ (SGLD's ε as κ²); time is in units of the
    prior's own, in which soft directions have curvature 1. Measured on the default problem at κ = 0.05: with the
    isotropic prior h = 0.8 κ leaves the test MSE within 1 % and reaches twice the ESS with friction 0.3 that it has
    with 1; with ARD, where a small precision of a relevant input stiffens all its weights, h = 0.8 κ with friction
    0.3 diverged after 10⁴ steps and h = 1.2 κ biased the test MSE by 8 %, hence half the step and more friction.

    Parameters
    ----------
    network
        With its κ and prior.
    num_data
        P. The kernel may depend on the data's size and on nothing else of them.
    """
    friction = 0.3 if isinstance(network.prior, Isotropic) else 1.0
    return UnderdampedLangevin(step_size=_time_step(network), friction=friction, preconditioner="prior")


def _time_step(network: TwoLayerNetwork) -> float:
    return (0.8 if isinstance(network.prior, Isotropic) else 0.4) * network.kappa


def recommended_steps(network: TwoLayerNetwork) -> dict[str, int]:
    """Steps for :func:`recommended_kernel`, from κ alone: a draw every 2 units of time, 50 draws' time of warm-up."""
    return _steps(ceil(2.0 / _time_step(network)), 50)


def sgld_thinning(kappa: float) -> int:
    """Steps between the 250 kept draws of a chain: 1.4/κ², since ε goes as κ², between 50 and 1000."""
    return int(np.clip(round(1.4 / kappa**2), 50, 1000))


def sgld_steps(network: TwoLayerNetwork) -> dict[str, int]:
    """Steps for :func:`default_sgld`, from κ alone: 250 draws after 16 draws' time of warm-up."""
    return _steps(sgld_thinning(network.kappa), 16)


def _steps(thinning: int, warmup: int) -> dict[str, int]:
    return {
        "num_warmup": warmup * thinning,
        "num_samples": KEPT_DRAWS * thinning,
        "thinning": thinning,
    }


@dataclass(frozen=True)
class Sampler:
    """A scheme that is a Markov chain.

    Attributes
    ----------
    kernel
        ``kernel(network, num_data)`` -> what :func:`inference.sample` takes.
    steps
        ``steps(network)`` -> num_warmup, num_samples, thinning; fixed before the run, and never by its test error.
    start
        Where the chains start; ``"both"`` becomes ``"prior"`` on data whose relevant inputs are unknown.
    collapsed
        Whether the chains run on the hidden layer alone, the readouts integrated out.
    """

    kernel: Callable[[TwoLayerNetwork, int], MCMCKernel | Callable]
    steps: Callable[[TwoLayerNetwork], dict[str, int]]
    start: str = "prior"
    collapsed: bool = False


SAMPLERS: dict[str, Sampler] = {
    "sgld": Sampler(lambda network, _: default_sgld(network), sgld_steps),
    "nuts": Sampler(
        lambda network, _: partial(NUTS, max_tree_depth=8),
        lambda network: {"num_warmup": 500, "num_samples": 600, "thinning": 2},
    ),
    "langevin": Sampler(recommended_kernel, recommended_steps, start="both"),
}
SAMPLERS["nuts-collapsed"] = replace(SAMPLERS["nuts"], collapsed=True)


def run_sampler(
    name: str,
    network: TwoLayerNetwork,
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
        sampler.kernel(network, data.num_data),
        key,
        num_chains=_CHAINS,
        start="prior" if data.relevant is None else sampler.start,
        progress=progress,
        **(steps or sampler.steps(network)),
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
    theory, population = THEORIES[name], _on_population(name, network, data)
    if population:
        options = {"num_data": data.num_data} if theory.finite_data else {}
        if theory.sampled:
            options["key"] = key
        point = theory.solver().solve(network, data.teacher, **options)
        # A theory of the population leaves the readouts to the data where it has integrated them out.
        draws = point.sample_networks(key, _INDEPENDENT_DRAWS, *([data] if theory.finite_data else []))
    else:
        options = {} if name == "nngp" else {"key": key, "progress": progress}
        point = theory.solver().solve(network, data, **options)
        draws = point.sample_networks(key, _INDEPENDENT_DRAWS)
    tree = build_tree(
        network,
        data,
        {k: np.reshape(v, (_CHAINS, -1, *v.shape[1:])) for k, v in draws.items()},
        scheme=name,
        settings={"theory": name, "on": "population" if population else "dataset"},
        seed=key,
        wall_time_s=time.perf_counter() - began,
        gradient_evaluations=0,
        independent_draws=True,
        extra_attributes={"population": int(population), "converged": int(point.converged)},
    )
    progress(1, 1, "")
    return tree, point


def _on_population(name: str, network: TwoLayerNetwork, data: Dataset) -> bool:
    """Whether a theory is solved for the teacher's population: on sparse parity with closed forms, but for NNGP."""
    teacher = data.teacher
    if name == "nngp" or not isinstance(teacher, SparseParity):
        return False
    closed = network.activation == "relu" and not network.bias
    return closed and teacher.degree % 2 == 0 and teacher.degree < teacher.input_dim


def _by_default(name: str, network: TwoLayerNetwork, data: Dataset) -> bool:
    return name == "nngp" or (name.startswith("mean-field") and _on_population(name, network, data))


def _any(network, data):
    return None


def _ard_prior(network, data):
    return None if isinstance(network.prior, ARD) else "it covers the ARD prior"


def _theory(name: str) -> Scheme:
    theory = THEORIES[name]

    def covers(network, data):
        if network.prior.name not in theory.priors:
            return f"it covers the {' and the '.join(theory.priors).replace('ard', 'ARD')} prior"
        if not theory.on_data and not _on_population(name, network, data):
            return (
                "it covers sparse parities of even degree below input_dim, and ReLU networks without biases"
            )
        return None

    return Scheme(partial(_fixed_point, name), covers)


SCHEMES: dict[str, Scheme] = {
    "sgld": Scheme(partial(_sampler, "sgld"), _any),
    "nuts": Scheme(partial(_sampler, "nuts"), _any),
    "mf-guide": Scheme(partial(_guide, MeanFieldGuide()), _any),
    "mf-ard-guide": Scheme(partial(_guide, MeanFieldARDGuide()), _ard_prior),
    **{name: _theory(name) for name in THEORIES},
    # After the others: a scheme's place in this list picks its key.
    "langevin": Scheme(partial(_sampler, "langevin"), _any),
    "nuts-collapsed": Scheme(partial(_sampler, "nuts-collapsed"), _any),
    # 1200 steps of one restart are enough on the default problem: 4 × 1500 are within a tenth of NUTS's gradients.
    "collapsed-guide": Scheme(partial(_guide, CollapsedGuide(), num_steps=1500), _any),
}
# Schemes that run only where they are named, theories apart.
_BY_NAME = ("langevin", "nuts-collapsed", "collapsed-guide")


def default_schemes(network: TwoLayerNetwork, data: Dataset) -> list[str]:
    """The schemes that run where none is named; for the ARD prior its own guide stands for the plain one."""
    names = [n for n, scheme in SCHEMES.items() if n not in _BY_NAME and scheme.covers(network, data) is None]
    # The theories beyond the paper, those that sample particles on a dataset, and further schemes for the same
    # posterior run where they are named.
    names = [name for name in names if name not in THEORIES or _by_default(name, network, data)]
    return [name for name in names if not (name == "mf-guide" and "mf-ard-guide" in names)]


def check_scheme(name: str, network: TwoLayerNetwork, data: Dataset) -> None:
    """``ValueError`` for an unknown scheme, or one that does not cover the problem."""
    if name not in SCHEMES:
        raise ValueError(f"schemes must be among {', '.join(SCHEMES)}; got {name!r}.")
    reason = SCHEMES[name].covers(network, data)
    if reason is not None:
        raise ValueError(
            f"scheme {name!r} does not apply here: {reason}; leave it out or change the problem."
        )
