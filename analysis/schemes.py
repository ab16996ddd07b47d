"""The schemes that a comparison can run, each by the one name it has everywhere."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import jax
import numpy as np
from numpyro.infer import NUTS

from analysis.theories import THEORIES
from inference import SGLD, MeanFieldARDGuide, MeanFieldGuide, fit, sample
from inference.datatree import build_tree
from inference.progress import ProgressCallback
from models import ARD, Dataset, Isotropic, SparseParity, TwoLayerNetwork

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
    prior has unit scales already, and relevant inputs, whose ρ is small, need smaller steps.
    """
    if isinstance(network.prior, Isotropic):
        return SGLD(step_size=3.0 * network.kappa**2, preconditioner="prior")
    return SGLD(step_size=0.6 * network.kappa**2)


def sgld_thinning(kappa: float) -> int:
    """Steps between the 250 kept draws of a chain: 1.4/κ², since ε goes as κ², between 50 and 1000."""
    return int(np.clip(round(1.4 / kappa**2), 50, 1000))


def _sgld(network, data, key, progress):
    thinning = sgld_thinning(network.kappa)
    run = partial(sample, num_warmup=16 * thinning, num_samples=250 * thinning, thinning=thinning)
    return run(network, data, default_sgld(network), key, num_chains=_CHAINS, progress=progress), None


def _nuts(network, data, key, progress):
    kernel = partial(NUTS, max_tree_depth=8)
    return sample(
        network,
        data,
        kernel,
        key,
        num_warmup=500,
        num_samples=600,
        thinning=2,
        num_chains=_CHAINS,
        progress=progress,
    ), None


def _guide(guide, network, data, key, progress):
    return fit(network, data, guide, key, num_draws=_INDEPENDENT_DRAWS, progress=progress), None


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
        extra_attributes={"population": int(population)},
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
    "sgld": Scheme(_sgld, _any),
    "nuts": Scheme(_nuts, _any),
    "mf-guide": Scheme(partial(_guide, MeanFieldGuide()), _any),
    "mf-ard-guide": Scheme(partial(_guide, MeanFieldARDGuide()), _ard_prior),
    **{name: _theory(name) for name in THEORIES},
}


def default_schemes(network: TwoLayerNetwork, data: Dataset) -> list[str]:
    """The schemes that run where none is named; for the ARD prior its own guide stands for the plain one."""
    names = [name for name, scheme in SCHEMES.items() if scheme.covers(network, data) is None]
    # The theories beyond the paper, and those that sample particles on a dataset, run where they are named.
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
