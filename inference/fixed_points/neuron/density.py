"""The density of one neuron, common to all theories.

    p(w) ∝ prior(w) (1 + cG)^(-1/2) exp(½ c B²/(1 + cG)),        c = σ_a²/N^(2γ)

It follows from the evidence Normal(y; 0, Ā + c φφᵀ) of one neuron given the others, by the matrix
determinant lemma and the Sherman-Morrison identity, with G = φᵀĀ⁻¹φ and B = φᵀĀ⁻¹y. The theories
differ in what stands for Ā (docs/theory.md): in the mean field G = Σ/κ², the readout's own
precision, and B = φᵀ(y - ⟨f⟩)/κ². Sources: arXiv:2510.15174 for the mean field; the adaptive kernel
is beyond the paper.

A homogeneous activation gives the square v = R² of a neuron's length, once its direction is fixed,
the law

    p(log v) ∝ v^(d/2) (1 + g v)^(-1/2) exp(-A v/2 + D v/(1 + g v))

with g = cG/R², D = ½ c B²/R² and A the prior's quadratic form over R². The integral over log v is a
trapezoid rule about the mode, with steps in units of its curvature width; its relative error is
below 1e-7.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from scipy.special import lambertw

from inference.fixed_points.neuron.nodes import NodeSet

_CHUNK = 8192  # nodes at a time: arrays that stay in cache
_NEAR = 1e-2  # in log v; a rough mode is enough, since step and reach do not depend on its centre


def screening(coupling, strength):
    """h = 1/(1 + cG), the share of a neuron's pull that its own readout's cost leaves."""
    return 1 / (1 + coupling * strength)


def log_gain(xp, coupling, screened, overlap_squared):
    """½ log h + ½ c B² h, in the arrays of `xp`.

    Parameters
    ----------
    xp
        ``numpy`` or ``jax.numpy``.
    coupling, screened, overlap_squared
        c, h = :func:`screening` and B².

    Examples
    --------
    >>> import numpy as np
    >>> float(log_gain(np, 1.0, screening(1.0, 1.0), 4.0))
    0.6534264097200273
    """
    return 0.5 * xp.log(screened) + 0.5 * coupling * overlap_squared * screened


@dataclass(frozen=True)
class NeuronDensity:
    """The density at given natural parameters.

    Parameters
    ----------
    coupling
        c.
    naturals
        η_G, η_B and η_ρ, shape (3, K).
    dimension
        Of what has the length R, which is integrated out; None where nodes fix it.
    """

    coupling: float
    naturals: np.ndarray
    dimension: int | None

    def law(self, nodes: NodeSet, part: slice = slice(None)):
        """A, D and g at some nodes, for :class:`RadialLaw`."""
        strength, overlap, energy = (nodes.features[part] @ self.naturals.T).T
        # At most rounding, or a trial state that is no kernel, makes G negative.
        slope = self.coupling * np.maximum(strength, 1e-300)
        return energy + nodes.bias_energy[part], 0.5 * self.coupling * np.maximum(overlap, 0.0), slope

    def radial_law(self, nodes: NodeSet, part: slice = slice(None)) -> RadialLaw:
        """The law of R² at some nodes."""
        return RadialLaw.find(self.dimension, *self.law(nodes, part))

    @np.errstate(all="ignore")  # as in averages, of which this is the part in threads
    def moments(self, nodes: NodeSet) -> np.ndarray:
        """Log weight of each node and averages over R, as :func:`radial_moments`, shape (9, n)."""
        out = np.empty((9, len(nodes)))
        for start in range(0, len(nodes), _CHUNK):
            part = slice(start, start + _CHUNK)
            out[:, part] = self.at(nodes, part)
        out[0] += nodes.log_measure
        return out

    def at(self, nodes: NodeSet, part: slice) -> np.ndarray:
        """The same without the nodes' measure, at some of them."""
        if self.dimension is None:
            return fixed_moments(*self.law(nodes, part))
        return radial_moments(self.radial_law(nodes, part))


def radial_offsets(dimension: int) -> np.ndarray:
    """Nodes of the trapezoid rule about the mode, in widths.

    MF-ARD needs its exactness: the prior alone holds all precisions together, so that an error of
    E[w²] enters them times N/(2 α0).
    """
    # At D = 0 log v has density exp(-(d/2)(e^x - 1 - x)) about its mode: cut where it is e^-reach.
    # It is skewed, the more so at small d, which makes the rule converge later than for a Gaussian.
    reach, right, step = 16, 5.7, 0.8
    depth = 2 * reach / dimension
    left = (depth + 1 + lambertw(-math.exp(-depth - 1)).real) * math.sqrt(dimension / 2)
    return np.arange(-left, right, step * min(1.0, 0.4375 * math.sqrt(dimension / 2)))


@dataclass(frozen=True)
class RadialLaw:
    """The law at each of n directions: modes and widths of log v.

    Parameters
    ----------
    dimension
        d, or d + 1 with a bias.
    energy, drive, slope
        A, D and g, shape (n,).
    log_mode, width
        Of log v, shape (n,).
    """

    dimension: int
    energy: np.ndarray
    drive: np.ndarray
    slope: np.ndarray
    log_mode: np.ndarray
    width: np.ndarray

    @classmethod
    def find(cls, dimension: int, energy: np.ndarray, drive: np.ndarray, slope: np.ndarray) -> RadialLaw:
        """Find modes and widths.

        The derivative of the log density, F = d/2 - A v/2 - g v/(2α) + D v/α² with α = 1 + g v, has
        one root for d > 1 (F/v falls), which lies between the root at D = 0, of a quadratic, and
        (d + 2 D/g)/A: bracketed Newton in log v from the former, the answer at most directions.
        """
        d = dimension
        linear = energy - (d - 1) * slope
        root = np.sqrt(linear**2 + 4 * d * slope * energy)
        # The form of the positive root that does not cancel.
        v = np.where(linear > 0, 2 * d / (root + np.abs(linear)), (root - linear) / (2 * slope * energy))
        x = np.log(v)
        moved = np.flatnonzero(drive * v / (1 + slope * v) ** 2 > 0.5 * d * _NEAR)
        if len(moved):
            x[moved] = _driven_mode(d, energy[moved], drive[moved], slope[moved], x[moved])
        v = np.exp(x)
        alpha = 1 + slope * v
        curvature = 0.5 * d - 0.5 * (slope * v / alpha) ** 2 + 2 * drive * slope * v**2 / alpha**3
        return cls(d, energy, drive, slope, x, curvature**-0.5)

    def log_density(self, log_v: np.ndarray) -> np.ndarray:
        """Log density of log v (n, r), up to the direction's constant."""
        v = np.exp(log_v)
        gain = log_gain(np, 1.0, screening(self.slope[:, None], v), 2 * self.drive[:, None] * v)
        return 0.5 * self.dimension * log_v + gain - 0.5 * self.energy[:, None] * v

    def draw(self, rng: np.random.Generator) -> np.ndarray:
        """One v for each direction, by inversion on a grid of a tenth of a width, shape (n,)."""
        offsets = np.arange(-max(7.0, 18 * math.sqrt(2 / self.dimension)), 6.0, 0.1)
        log_density = self.log_density(self.log_mode[:, None] + self.width[:, None] * offsets)
        cumulative = np.exp(log_density - log_density.max(axis=1, keepdims=True)).cumsum(axis=1)
        index = (cumulative < cumulative[:, -1:] * rng.random((len(cumulative), 1))).sum(axis=1)
        jitter = 0.1 * (rng.random(len(index)) - 0.5)
        return np.exp(self.log_mode + self.width * (offsets[index] + jitter))


def _driven_mode(d, energy, drive, slope, low):
    x, high = low.copy(), np.log((d + 2 * drive / slope) / energy)
    rest = np.arange(len(x))
    for _ in range(60):
        e, b, g, at = energy[rest], drive[rest], slope[rest], x[rest]
        v = np.exp(at)
        alpha = 1 + g * v
        pull = b * v / alpha**2
        force = 0.5 * d - 0.5 * e * v - 0.5 * g * v / alpha + pull
        derivative = -0.5 * e * v - 0.5 * g * v / alpha**2 + pull * (1 - g * v) / alpha
        low[rest] = np.where(force > 0, at, low[rest])
        high[rest] = np.where(force > 0, high[rest], at)
        step = at - force / np.minimum(derivative, -1e-300)
        inside = (derivative < 0) & (step > low[rest]) & (step < high[rest])
        x[rest] = np.where(inside, step, 0.5 * (low[rest] + high[rest]))
        rest = rest[np.abs(x[rest] - at) >= _NEAR]
        if not len(rest):
            break
    return x


def radial_moments(law: RadialLaw) -> np.ndarray:
    """Log of the integral over log v, and averages over v, at each direction.

    With h = 1/(1 + g v) and e = h/2 + D v h²: E[v], E[v h], E[v e], then E of v² times 1, h, e, h²
    and h e. Node by node of the equidistant rule, so that v is a geometric progression: one
    exponential and one square root a node, in arrays that stay in cache.

    Returns
    -------
    numpy.ndarray
        Shape (9, n).
    """
    offsets = radial_offsets(law.dimension)
    step = offsets[1] - offsets[0]
    peak = law.log_density(law.log_mode[:, None])[:, 0]
    v, ratio = np.exp(law.log_mode + offsets[0] * law.width), np.exp(step * law.width)
    rise = 0.5 * law.dimension * (law.log_mode + offsets[0] * law.width) - peak
    growth, fall = 0.5 * law.dimension * step * law.width, -0.5 * law.energy
    out = np.zeros((9, len(v)))
    h, driven, weight, term = (np.empty_like(v) for _ in range(4))
    for _ in offsets:
        np.divide(1.0, np.add(np.multiply(v, law.slope, out=h), 1.0, out=h), out=h)
        np.multiply(np.multiply(law.drive, v, out=driven), h, out=driven)
        np.add(driven, rise, out=weight)
        weight += np.multiply(fall, v, out=term)
        np.exp(weight, out=weight)
        weight *= np.sqrt(h, out=term)
        out[0] += weight
        driven += 0.5
        driven *= h  # e
        weight *= v
        out[1] += weight
        out[2] += np.multiply(weight, h, out=term)
        out[3] += np.multiply(weight, driven, out=term)
        weight *= v
        out[4] += weight
        out[6] += np.multiply(weight, driven, out=term)
        weight *= h
        out[5] += weight
        out[8] += np.multiply(weight, driven, out=term)
        out[7] += np.multiply(weight, h, out=term)
        v *= ratio
        rise += growth
    out[1:] /= out[0]
    out[0] = peak + np.log(out[0] * law.width * step)
    return out


def fixed_moments(energy: np.ndarray, drive: np.ndarray, slope: np.ndarray) -> np.ndarray:
    """The same at v = 1, for nodes at which the length is fixed."""
    h = screening(1.0, slope)
    e = h * (0.5 + drive * h)
    one = np.ones_like(h)
    log_weight = log_gain(np, 1.0, h, 2 * drive) - 0.5 * energy
    return np.stack([log_weight, one, h, e, one, h, e, h * h, h * e])
