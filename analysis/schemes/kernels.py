"""The kernels by name, with step sizes and lengths that suit the noise where none are given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import ceil

import numpy as np
from numpyro.infer import NUTS
from numpyro.infer.mcmc import MCMCKernel

from inference import MALA, PSGLD, SGHMC, SGLD, UnderdampedLangevin
from models import Isotropic, Network, checks


@dataclass(frozen=True)
class Budget:
    """How long a sampler's chains run; fixed beforehand. What is left out follows from the rest."""

    num_warmup: int | None = None
    """Steps of each chain thrown away; by default 22/κ² (sgld, psgld, mala), 125/κ (langevin), with
    the isotropic prior 8/κ² and 31/κ, or 500 (nuts), and in proportion to num-samples or thinning
    where these are given."""
    num_samples: int | None = None
    """Steps of each chain after the warm-up; by default 350/κ² and 1560/κ, with the isotropic prior
    125/κ² and 390/κ, or 600, likewise."""
    thinning: int | None = None
    """Steps between kept draws; by default 250 draws a chain are kept, 300 of nuts."""
    effort: float = 1.0
    """Factor on the default steps, which depend on κ alone; a chain keeps as many draws."""

    def check(self) -> None:
        """``ValueError`` for steps out of range, or for both steps and effort."""
        checks.positive("effort", self.effort)
        given = {n: v for n, v in vars(self).items() if v is not None and n != "effort"}
        if given and self.effort != 1:
            raise ValueError("effort is a factor on the default steps; leave it or num_samples out.")
        for name, value in given.items():
            checks.whole(name, value, 0 if name == "num_warmup" else 1)

    def steps(self, default: dict[str, int]) -> dict[str, int]:
        """The number of steps that :func:`inference.sample` takes, from a kernel's `default` ones.

        >>> default = {"num_warmup": 100, "num_samples": 2500, "thinning": 10}
        >>> Budget(effort=0.5).steps(default)
        {'num_warmup': 50, 'num_samples': 1250, 'thinning': 5}
        >>> Budget(num_samples=250).steps(default)
        {'num_warmup': 10, 'num_samples': 250, 'thinning': 1}
        >>> Budget(num_warmup=7, thinning=20).steps(default)
        {'num_warmup': 7, 'num_samples': 5000, 'thinning': 20}
        """
        draws = default["num_samples"] // default["thinning"]
        if self.thinning is not None:
            thinning = self.thinning
        elif self.num_samples is not None:
            thinning = max(1, self.num_samples // draws)
        else:
            thinning = max(1, round(self.effort * default["thinning"]))
        warmup = round(default["num_warmup"] * thinning / default["thinning"])
        return {
            "num_warmup": warmup if self.num_warmup is None else self.num_warmup,
            "num_samples": draws * thinning if self.num_samples is None else self.num_samples,
            "thinning": thinning,
        }


def default_sgld(network: Network) -> SGLD:
    """SGLD that finds its step size, with noise that neighbouring steps share.

    That noise leaves no bias on Gaussians, so that the step may be a share of the largest stable
    one, as BAOAB's; of white noise it would have to be a twelfth of it (docs/step_size.md).
    """
    return SGLD(averaged_noise=True)


def _time_step(network: Network) -> float:
    """About the step h that BAOAB finds: the likelihood's curvature grows as 1/κ², so h goes as κ."""
    return (3.2 if isinstance(network.prior, Isotropic) else 1.6) * network.kappa


def recommended_steps(network: Network) -> dict[str, int]:
    """From κ and the prior alone: a draw every 5 units of time, 10 where relevant inputs have scales to
    find; 20 draws' time of warm-up."""
    time = 5.0 if isinstance(network.prior, Isotropic) else 10.0
    return _steps(max(ceil(time / _time_step(network)), 10), 20)


def sgld_steps(network: Network) -> dict[str, int]:
    """From κ and the prior alone: a draw every 0.5/κ² steps, 1.4/κ² where relevant inputs have scales
    to find; 20 to 1000 (ε goes as κ²); warm-up of 16 draws' time."""
    rate = 0.5 if isinstance(network.prior, Isotropic) else 1.4
    return _steps(int(np.clip(round(rate / network.kappa**2), 20, 1000)), 16)


def _steps(thinning: int, warmup: int) -> dict[str, int]:
    """Of a chain that keeps 250 draws, after the time of `warmup` of them."""
    return {"num_warmup": warmup * thinning, "num_samples": 250 * thinning, "thinning": thinning}


@dataclass(frozen=True)
class KernelChoice:
    """A kernel by its name on the command line; `build` takes options of one's own."""

    default: Callable[[Network], MCMCKernel | Callable]
    build: Callable | None
    steps: Callable[[Network], dict[str, int]]
    options: tuple[str, ...] = ()


def _nuts(network: Network) -> Callable:
    """NUTS; where scales are sampled with the weights, at the acceptance that leaves no divergence."""
    acceptance = 0.8 if isinstance(network.prior, Isotropic) else 0.95
    return partial(NUTS, max_tree_depth=8, target_accept_prob=acceptance)


KERNELS: dict[str, KernelChoice] = {
    "sgld": KernelChoice(default_sgld, SGLD, sgld_steps, ("preconditioner",)),
    "psgld": KernelChoice(lambda n: PSGLD(step_size=3.0 * n.kappa**2), PSGLD, sgld_steps),
    "langevin": KernelChoice(
        lambda n: UnderdampedLangevin(friction=0.5),
        UnderdampedLangevin,
        recommended_steps,
        ("preconditioner", "friction"),
    ),
    "sghmc": KernelChoice(
        lambda n: SGHMC(friction=0.5),
        SGHMC,
        # The step that it finds is a third of BAOAB's, since it biases Gaussians.
        lambda n: _steps(3 * recommended_steps(n)["thinning"], 20),
        ("preconditioner", "friction"),
    ),
    "mala": KernelChoice(lambda n: MALA(), MALA, sgld_steps, ("preconditioner",)),
    "nuts": KernelChoice(
        _nuts,
        None,
        lambda n: {"num_warmup": 500, "num_samples": 600, "thinning": 2},
    ),
}


def choose_kernel(
    name: str,
    network: Network,
    step_size: float | None = None,
    preconditioner: str | None = None,
    friction: float | None = None,
) -> MCMCKernel | Callable:
    """The kernel `name` of ``KERNELS`` for `network`, by default or with options of one's own.

    `step_size` is ε of sgld, psgld and mala, h of langevin and sghmc; `preconditioner` ("none" or
    "prior") and `friction` γ go with it. ``ValueError`` for an option that the kernel lacks.
    """
    choice = KERNELS[name]
    given = {"preconditioner": preconditioner, "friction": friction}
    given = {option: value for option, value in given.items() if value is not None}
    for option in given:
        if option not in choice.options:
            takers = ", ".join(kernel for kernel, other in KERNELS.items() if option in other.options)
            raise ValueError(f"{option} is for {takers}; leave it out with {name}.")
        if step_size is None:
            raise ValueError(f"{option} goes with a step size of your own; give step_size as well.")
    if step_size is None:
        return choice.default(network)
    if choice.build is None:
        raise ValueError("step_size is for the Langevin kernels: NUTS adapts its own; leave it out.")
    if given.get("preconditioner") == "none":
        given["preconditioner"] = None
    return choice.build(step_size=step_size, **given)
