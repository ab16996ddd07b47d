"""Step-size schedules: callables from the step number t = 0, 1, … to ε, for every Langevin kernel.

Each is a frozen dataclass, so that it compares, pickles, traces under ``jax.jit``, and shows in a result's settings.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from numbers import Real

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from models import checks


@dataclass(frozen=True)
class PolynomialDecay:
    """Polynomially decaying steps.

        ε_t = a (b + t)^(-γ)

    For γ ≤ 1, Σε_t = ∞ and averages weighted by ε_t converge to the posterior's, without the bias of a constant
    step. Welling and Teh, *Bayesian learning via stochastic gradient Langevin dynamics* (2011), ask for
    1/2 < γ ≤ 1, so that Σε_t² < ∞; that is not needed, and γ = 1/3 converges fastest (Teh, Thiery and Vollmer,
    *Consistency and fluctuations for stochastic gradient Langevin dynamics*, 2016). The ``step_size`` recorded
    with every draw is its weight.

    Parameters
    ----------
    scale
        a > 0.
    offset
        b > 0; the decay sets in after about b steps.
    exponent
        γ in (0, 1]; at larger ones Σε_t is finite and the chain stops before it has explored.

    Raises
    ------
    ValueError
        For a parameter out of range.

    Examples
    --------
    >>> schedule = PolynomialDecay(scale=0.1, offset=100.0, exponent=0.5)
    >>> round(float(schedule(0)), 5), round(float(schedule(300)), 5)
    (0.01, 0.005)
    """

    scale: float
    offset: float = 1.0
    exponent: float = 1 / 3

    def __post_init__(self):
        checks.positive("scale", self.scale)
        checks.positive("offset", self.offset)
        checks.positive("exponent", self.exponent)
        if self.exponent > 1:
            raise ValueError(f"exponent must be at most 1, or the chain stops, got {self.exponent!r}.")

    def __call__(self, t: ArrayLike) -> jax.Array:
        """ε at step `t`, of the shape of `t`."""
        return self.scale * (self.offset + t) ** (-self.exponent)


@dataclass(frozen=True)
class Cyclical:
    """Cosine cycles: large steps to find another mode, small ones to sample it.

        ε_t = (ε₀ - ε₁)/2 · [cos(π (t mod C)/C) + 1] + ε₁

    Zhang, Li, Zhang, Chen and Wilson, *Cyclical stochastic gradient MCMC for Bayesian deep learning* (2020),
    whose schedule has ε₁ = 0. Keep the draws from the end of each cycle: those of its beginning carry the bias
    of a large step.

    Parameters
    ----------
    step_size
        ε₀ > 0, at the beginning of each cycle.
    cycle_length
        C ≥ 1 steps.
    floor
        ε₁ in [0, ε₀), towards which each cycle falls.

    Raises
    ------
    ValueError
        For a parameter out of range.

    Examples
    --------
    >>> schedule = Cyclical(step_size=0.5, cycle_length=100)
    >>> [round(float(schedule(t)), 3) for t in (0, 50, 99, 100)]
    [0.5, 0.25, 0.0, 0.5]
    """

    step_size: float
    cycle_length: int
    floor: float = 0.0

    def __post_init__(self):
        checks.positive("step_size", self.step_size)
        checks.whole("cycle_length", self.cycle_length, 1)
        checks.finite("floor", self.floor)
        if not 0 <= self.floor < self.step_size:
            raise ValueError(f"floor must be in [0, step_size={self.step_size!r}), got {self.floor!r}.")

    def __call__(self, t: ArrayLike) -> jax.Array:
        """ε at step `t`, of the shape of `t`."""
        # Whole numbers first: in float32, t itself would lose its last digits after 16 million steps.
        phase = jnp.pi * (jnp.asarray(t) % self.cycle_length) / self.cycle_length
        return self.floor + (self.step_size - self.floor) / 2 * (jnp.cos(phase) + 1)


@dataclass(frozen=True)
class ThenConstant:
    """A schedule during the warm-up, a constant step after it, so that all kept draws have the same law.

        ε_t = s(t) for t < num_steps,      ε_t = ε for t ≥ num_steps

    Parameters
    ----------
    schedule
        s, a callable t -> ε.
    num_steps
        Steps of `schedule` ≥ 0, usually the warm-up's.
    step_size
        ε > 0; None for s(num_steps).

    Raises
    ------
    ValueError
        For a parameter out of range.

    Examples
    --------
    >>> schedule = ThenConstant(PolynomialDecay(scale=1.0, offset=1.0, exponent=1.0), num_steps=3)
    >>> [round(float(schedule(t)), 3) for t in (0, 1, 3, 1000)]
    [1.0, 0.5, 0.25, 0.25]
    """

    schedule: Callable
    num_steps: int
    step_size: float | None = None

    def __post_init__(self):
        if not callable(self.schedule):
            raise ValueError(f"schedule must be a callable t -> ε, got {self.schedule!r}.")
        checks.whole("num_steps", self.num_steps, 0)
        if self.step_size is not None:
            checks.positive("step_size", self.step_size)

    def __call__(self, t: ArrayLike) -> jax.Array:
        """ε at step `t`, of the shape of `t`."""
        final = self.schedule(self.num_steps) if self.step_size is None else self.step_size
        # The schedule may not be defined far beyond its own range: it is asked only within it.
        return jnp.where(t < self.num_steps, self.schedule(jnp.minimum(t, self.num_steps)), final)


def check_step_size_argument(step_size) -> None:
    """``ValueError`` unless `step_size` is a positive number or a schedule."""
    if not callable(step_size) and (
        isinstance(step_size, bool)
        or not isinstance(step_size, Real)
        or not math.isfinite(step_size)
        or step_size <= 0
    ):
        raise ValueError(f"step_size must be a positive number or a callable t -> ε, got {step_size!r}.")


def describe_step_size(step_size: float | Callable) -> float | str:
    """`step_size` as a JSON-able setting: a number, or the name of a schedule."""
    return getattr(step_size, "__name__", repr(step_size)) if callable(step_size) else float(step_size)
