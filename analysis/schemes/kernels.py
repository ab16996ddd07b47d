"""The kernels that ``mfzoo sample`` offers, with step sizes and lengths that suit the noise where none are given."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from numpyro.infer import NUTS
from numpyro.infer.mcmc import MCMCKernel

from analysis.schemes.registry import default_sgld, recommended_kernel, recommended_steps, sgld_steps
from inference import MALA, PSGLD, SGHMC, SGLD, UnderdampedLangevin
from models import TwoLayerNetwork


@dataclass(frozen=True)
class KernelChoice:
    """A kernel by the name it has on the command line.

    Attributes
    ----------
    default
        ``default(network)`` -> the kernel with its own step size.
    build
        The class of the kernel, for options of one's own; None where it takes none.
    steps
        ``steps(network)`` -> num_warmup, num_samples, thinning.
    options
        Names of the options that `build` takes beside the step size.
    """

    default: Callable[[TwoLayerNetwork], MCMCKernel | Callable]
    build: Callable | None
    steps: Callable[[TwoLayerNetwork], dict[str, int]]
    options: tuple[str, ...] = ()


def _twice(steps: dict[str, int]) -> dict[str, int]:
    return {name: 2 * count for name, count in steps.items()}


def _langevin(network: TwoLayerNetwork) -> UnderdampedLangevin:
    return recommended_kernel(network, 0)


def _sghmc(network: TwoLayerNetwork) -> SGHMC:
    """The step and friction of BAOAB at half the step, since its bias is of first order."""
    same = _langevin(network).settings()
    return SGHMC(step_size=same["step_size"] / 2, friction=same["friction"], preconditioner="prior")


def _mala(network: TwoLayerNetwork) -> MALA:
    return MALA(step_size=default_sgld(network).settings()["step_size"], preconditioner="prior")


KERNELS: dict[str, KernelChoice] = {
    "sgld": KernelChoice(default_sgld, SGLD, sgld_steps, ("preconditioner",)),
    "psgld": KernelChoice(lambda n: PSGLD(step_size=3.0 * n.kappa**2), PSGLD, sgld_steps),
    "langevin": KernelChoice(
        _langevin, UnderdampedLangevin, recommended_steps, ("preconditioner", "friction")
    ),
    "sghmc": KernelChoice(
        _sghmc, SGHMC, lambda n: _twice(recommended_steps(n)), ("preconditioner", "friction")
    ),
    "mala": KernelChoice(_mala, MALA, sgld_steps, ("preconditioner",)),
    "nuts": KernelChoice(
        lambda n: partial(NUTS, max_tree_depth=8),
        None,
        lambda n: {"num_warmup": 500, "num_samples": 600, "thinning": 2},
    ),
}


def choose_kernel(
    name: str,
    network: TwoLayerNetwork,
    step_size: float | None = None,
    preconditioner: str | None = None,
    friction: float | None = None,
) -> MCMCKernel | Callable:
    """The kernel `name` for `network`, with its own step size or with options of one's own.

    Parameters
    ----------
    name
        A key of ``KERNELS``.
    network
        With its κ and prior, on which the defaults depend.
    step_size
        ε of sgld, psgld and mala, h of langevin and sghmc; None for the default, preconditioner included.
    preconditioner
        ``"none"`` or ``"prior"``, with a `step_size`.
    friction
        γ of langevin and sghmc, with a `step_size`.

    Raises
    ------
    ValueError
        For an option that the kernel does not take, or one without a `step_size`.

    Examples
    --------
    >>> choose_kernel("langevin", TwoLayerNetwork(16, 64, kappa=0.05), 0.02, friction=1.0).settings()["friction"]
    1.0
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
