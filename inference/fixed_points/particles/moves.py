"""Particles of the one-neuron density on a dataset: energy, gradient, invariant moves.

MF and AK share the form of :mod:`inference.fixed_points.neuron.density`. With φ ∈ R^P the
neuron's activations on the training inputs and v = (y - ⟨f⟩)/(κ²P),

    p(w) ∝ prior(w) exp(E(w)),    E = ½ log h + ½ c B² h,    h = 1/(1 + cG),    B = φ·v
    MF: G = |φ|²/(κ²P),           AK: G = φᵀ Ā⁻¹ φ,   Ā = κ²P I + N c E_p[φφᵀ],   for which v = Ā⁻¹ y
"""

from __future__ import annotations

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp

from inference.fixed_points.neuron.density import log_gain, screening
from models.network import ACTIVATIONS

_TARGET_ACCEPTANCE = 0.6
_LEAPS = 4
_MOST_ROUNDS = 64


class Target(NamedTuple):
    """What the particles are to sample, prior(w) exp(E(w) + L(E(w)))."""

    inputs: jax.Array  # on which the neurons are trained, as they see them, (P, D)
    residual: jax.Array  # v, (P,)
    inverse: jax.Array  # Ā⁻¹ (P, P) for AK; shape (0, 0) for MF
    scales: jax.Array  # prior standard deviation of every weight, (D,)
    coupling: jax.Array  # c
    ridge: jax.Array  # κ²P
    knots: jax.Array  # of the umbrella L: linear in between, constant outside, (K,)
    bonus: jax.Array  # L there


class Neurons(NamedTuple):
    """Particles and what is known of each."""

    z: jax.Array  # weights over their prior's scales, (n, D)
    log_density: jax.Array  # -½|z|² + E + L(E), (n,)
    gradient: jax.Array  # of E + L(E) in z, (n, D)
    energy: jax.Array  # E, (n,)


@partial(jax.jit, static_argnums=0)
def features(activation: str, weights: jax.Array, inputs: jax.Array) -> jax.Array:
    """Activations (n, P) of weights (n, D) on inputs (P, D)."""
    return ACTIVATIONS[activation](weights @ inputs.T)


@jax.jit
def quadratic(hidden: jax.Array, inverse: jax.Array) -> jax.Array:
    """φᵀ Ā⁻¹ φ for every row of `hidden` (n, P), in pieces that bound the memory; shape (n,)."""
    return jax.lax.map(lambda h: h @ (inverse @ h), hidden, batch_size=1024)


def evaluate(activation: str, target: Target, z: jax.Array) -> Neurons:
    """E and its gradient at scaled weights (n, D), by hand.

    ∂E/∂φ = -c h (1 + c B² h) ½∂G/∂φ + c B h v
    """
    preactivation = (z * target.scales) @ target.inputs.T
    hidden, slope = jax.jvp(ACTIVATIONS[activation], (preactivation,), (jnp.ones_like(preactivation),))
    image = hidden @ target.inverse if target.inverse.size else hidden / target.ridge
    c, overlap = target.coupling, hidden @ target.residual
    h = screening(c, jnp.sum(hidden * image, axis=1))
    energy = log_gain(jnp, c, h, overlap**2)
    in_hidden = (-c * h * (1 + c * overlap**2 * h))[:, None] * image
    in_hidden += (c * overlap * h)[:, None] * target.residual
    bonus, tilt = _umbrella(target, energy)
    gradient = (1 + tilt)[:, None] * ((in_hidden * slope) @ target.inputs) * target.scales
    return Neurons(z, -0.5 * jnp.sum(z**2, axis=1) + energy + bonus, gradient, energy)


def _umbrella(target: Target, energy: jax.Array) -> tuple[jax.Array, jax.Array]:
    """L and its slope at every energy."""
    knots, bonus = target.knots, target.bonus
    index = jnp.clip(jnp.searchsorted(knots, energy) - 1, 0, len(knots) - 2)
    slope = (bonus[index + 1] - bonus[index]) / (knots[index + 1] - knots[index])
    inside = (energy > knots[0]) & (energy < knots[-1])
    return jnp.interp(energy, knots, bonus), jnp.where(inside, slope, 0.0)


@partial(jax.jit, static_argnums=0)
def move(
    activation: str, num_rounds: int, target: Target, key: jax.Array, z: jax.Array, steps: jax.Array
) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Metropolis moves of scaled weights z (n, D): returns z, the energies (n,) and the steps.

    `num_rounds`, at most 64, of a wide move of every particle, and a flip and a narrow one of the
    upper half, those of the highest energies: three and a half gradients a particle. None of these
    takes one below the highest energy of the lower half, so that the halves stay the same and each
    move is reversible. The `steps`, δ of :func:`_wide` and ε of :func:`_narrow`, move towards an
    acceptance of 0.6 of the wide move on the lower half and of the narrow one on the upper fifth of
    the energies.
    """

    keys = jax.random.split(key, _MOST_ROUNDS)  # `num_rounds` would compile for each number

    def one_round(index, carry):
        state, acceptance = carry
        wide, flip, narrow = jax.random.split(keys[index], 3)
        low = state.energy <= jnp.median(state.energy)
        state, accepted = _wide(activation, target, wide, state, steps[0])
        lower = jnp.sum(accepted * low) / jnp.sum(low)
        order = jnp.argsort(state.energy)
        below, above = order[: len(order) // 2], order[len(order) // 2 :]
        floor, upper = state.energy[below[-1]], jax.tree.map(lambda leaf: leaf[above], state)
        upper = _flip(activation, target, flip, upper, floor)
        high = upper.energy >= jnp.quantile(upper.energy, 0.6)
        upper, accepted = _narrow(activation, target, narrow, upper, steps[1], floor)
        state = jax.tree.map(lambda leaf, part: leaf.at[above].set(part), state, upper)
        return state, acceptance + jnp.stack([lower, jnp.sum(accepted * high) / jnp.sum(high)])

    first = evaluate(activation, target, z), jnp.zeros(2)
    state, acceptance = jax.lax.fori_loop(0, num_rounds, one_round, first)
    steps = steps * jnp.exp(acceptance / num_rounds - _TARGET_ACCEPTANCE)
    return state.z, state.energy, jnp.clip(steps, 1e-5, jnp.array([2.0, 1.0]))


def _flip(activation, target, key, state: Neurons, floor) -> Neurons:
    """Turn the sign of one weight, chosen with probability z_j²/|z|².

    The prior and the choice are the same before and after. Where the targets have a symmetry under
    flips of inputs, as a parity has, this takes a neuron from one of its aligned modes to another,
    which no small step does.
    """
    key_choice, key_accept = jax.random.split(key)
    chosen = jax.random.categorical(key_choice, 2 * jnp.log(jnp.abs(state.z)))
    z = state.z * (1 - 2 * jax.nn.one_hot(chosen, state.z.shape[1]))
    proposal = evaluate(activation, target, z)
    return _accept(key_accept, state, proposal, proposal.log_density - state.log_density, floor)[0]


def _wide(activation, target, key, state: Neurons, delta) -> tuple[Neurons, jax.Array]:
    """z' = ((2-δ) z + 2δ ∇(E+L) + √(8δ) ξ)/(2+δ); returns the state and the acceptances.

    The proposal is reversible with respect to the prior, so that in the bulk of the neurons, where
    E hardly varies, δ = 2 draws nearly independent ones. Source: Cotter, Roberts, Stuart and White
    (2013), pCNL.
    """
    key_noise, key_accept = jax.random.split(key)
    share, variance = 2 + delta, 8 * delta / (2 + delta) ** 2
    mean = ((2 - delta) * state.z + 2 * delta * state.gradient) / share
    noise = jax.random.normal(key_noise, state.z.shape)
    proposal = evaluate(activation, target, mean + jnp.sqrt(variance) * noise)
    back = ((2 - delta) * proposal.z + 2 * delta * proposal.gradient) / share
    gain = jnp.sum((proposal.z - mean) ** 2 - (state.z - back) ** 2, axis=1) / (2 * variance)
    return _accept(key_accept, state, proposal, proposal.log_density - state.log_density + gain)


def _narrow(activation, target, key, state: Neurons, step, floor) -> tuple[Neurons, jax.Array]:
    """Hamiltonian move: kicks by ½ε∇(E+L) around exact rotations by ε under the prior.

    ε differs between particles, log-uniform between 0.4 and 1.4 times the step: the energies they
    climb have many curvatures. Source: Beskos, Pinski, Sanz-Serna and Stuart (2011).
    """
    key_momentum, key_step, key_accept = jax.random.split(key, 3)
    momentum = jax.random.normal(key_momentum, state.z.shape)
    spread = jax.random.uniform(key_step, (len(state.z), 1), minval=math.log(0.4), maxval=math.log(1.4))
    epsilon = step * jnp.exp(spread)

    def leap(carry, _):
        current, p = carry
        p = p + 0.5 * epsilon * current.gradient
        z = jnp.cos(epsilon) * current.z + jnp.sin(epsilon) * p
        p = jnp.cos(epsilon) * p - jnp.sin(epsilon) * current.z
        current = evaluate(activation, target, z)
        return (current, p + 0.5 * epsilon * current.gradient), None

    (proposal, end), _ = jax.lax.scan(leap, (state, momentum), length=_LEAPS)
    kinetic = 0.5 * jnp.sum(momentum**2 - end**2, axis=1)
    return _accept(key_accept, state, proposal, proposal.log_density - state.log_density + kinetic, floor)


def _accept(key, state: Neurons, proposal: Neurons, log_ratio, floor=-jnp.inf) -> tuple[Neurons, jax.Array]:
    """Metropolis with probability min(1, exp(log_ratio)), and 0 where E < `floor`."""
    log_ratio = jnp.where(jnp.isnan(log_ratio) | (proposal.energy < floor), -jnp.inf, log_ratio)
    accept = jnp.log(jax.random.uniform(key, log_ratio.shape)) < log_ratio

    def choose(new, old):
        return jnp.where(accept.reshape((-1,) + (1,) * (new.ndim - 1)), new, old)

    return jax.tree.map(choose, proposal, state), jnp.minimum(1.0, jnp.exp(log_ratio))
