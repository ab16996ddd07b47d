"""A model tempered in κ, by a power of its likelihood.

The likelihood depends on κ as exp(-SSE/(2κ²P)), up to a constant, so that the posterior at κ is the
one at κ₀ with its likelihood raised to the power β = (κ₀/κ)². The powers are arguments of one
compiled program, where a network per κ would need one each.
"""

from collections.abc import Callable
from dataclasses import dataclass

from numpyro.primitives import Messenger

from inference.kernels.langevin import LangevinKernel


class _PowerOfLikelihood(Messenger):
    def __init__(self, fn: Callable, power):
        super().__init__(fn)
        self.power = power

    def process_message(self, msg):
        if msg["type"] == "sample" and msg["is_observed"]:
            msg["scale"] = self.power if msg["scale"] is None else self.power * msg["scale"]


@dataclass(frozen=True)
class Tempered:
    """`model` with its likelihood raised to a power, the first argument: prior · likelihood^β."""

    model: Callable

    def __call__(self, power, *args, **kwargs):
        return _PowerOfLikelihood(self.model, power)(*args, **kwargs)


def check_temperable(kernel) -> None:
    """``ValueError`` unless `kernel` is a Langevin kernel, whose steps follow the given power."""
    if not isinstance(kernel, LangevinKernel):
        raise ValueError(
            f"kernel must be a Langevin kernel such as SGLD(step_size=1e-3), got {type(kernel).__name__}."
        )


def with_growth(kernel: LangevinKernel, factor) -> LangevinKernel:
    """`kernel` with its step sizes multiplied by `factor`; one that finds them needs no factor."""
    if isinstance(kernel._step_size, str):
        return kernel
    return kernel.with_step_size(lambda i: factor * kernel._step_size_at(i))
