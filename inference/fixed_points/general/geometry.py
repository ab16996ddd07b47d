"""What a population theory needs of a neuron: its components in the modes of the input distribution.

A geometry splits w into relevant components v, blocks of which only the norms s_B matter, and the bias b; under the
theory's symmetry the kernel is a block matrix, one block for each sector of modes that the symmetry lets mix:

    k(w, w') averaged over the group = Σ_sectors (1/dim) a_sector(w)·a_sector(w') (…),    Λ_sector = N c E_p[a aᵀ]/dim
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from inference.fixed_points.general.irreps import harmonic_dimension, harmonic_fraction
from inference.fixed_points.hermite_modes import hermite_coefficients, mean_square
from inference.fixed_points.relu import _walsh_transform, sign_patterns


@dataclass(frozen=True)
class Mode:
    """One column of the amplitudes.

    Parameters
    ----------
    sector
        Modes with the same label mix; others do not.
    dimension
        Number of copies of the sector.
    degrees
        Degree i in the relevant direction (Hermite) or inputs (Walsh), then the degree in each block.
    """

    sector: tuple[int, ...]
    dimension: int
    degrees: tuple[int, ...]


class Geometry(Protocol):
    """What the solver asks for; `SingleIndexGeometry` and `ParityGeometry` are the two there are."""

    activation: str
    num_components: int
    blocks: tuple[int, ...]

    @property
    def modes(self) -> tuple[Mode, ...]:
        """The resolved modes, those of a sector next to one another."""

    @property
    def target(self) -> int:
        """Position of the mode that the (normalised) target is."""

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """a (n, modes) and E_x[φ²] (n,) of neurons v (n, components), s (n, blocks), b (n,)."""

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """E[|w_S|²] and E[|w_rest|²] over the symmetry group, shape (n, 2)."""

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Weights (n, d) in the order (S, rest) with random orientations, and the target's sign under them (n,)."""


@dataclass(frozen=True)
class SingleIndexGeometry:
    """Gaussian inputs and the target He_p(z)/√(p!), z = u·x.

    w = w_u u + Σ_B s_B ŝ_B with ŝ_B a unit vector of block B. From φ(rζ + b) = Σ_n μ_n(b, r) He_n(ζ)/√(n!) and the
    addition theorem of Hermite polynomials the component along He_i(z) and degree j_B in block B is

        h = √(n!/(i! Π_B j_B!)) (w_u/r)^i Π_B (s_B/r)^{j_B} μ_n(b, r),    n = i + Σ_B j_B,    r = |w|

    and its part in the harmonics of degree l_B is h Π_B √f_{j_B l_B}. Rotations of the blocks and w_u → -w_u are
    symmetries, so that a sector is (parity of i, l_1, l_2, …), of dimension Π_B dim H_{l_B}; modes of one sector mix.

    Parameters
    ----------
    activation
        Of the network.
    degree
        p.
    input_dim, num_relevant
        d and k.
    anisotropic
        True: blocks S ⊖ u and the other inputs (ARD); False: one block, all that is orthogonal to u.
    max_degree, max_order
        Largest n, and largest Σ_B j_B, that are resolved.
    target_only
        Whether only the modes that mix with the target are kept, which are all that a mean prediction can hold.

    Examples
    --------
    >>> geometry = SingleIndexGeometry("relu", 2, 5, 2, False, 2, 2)
    >>> [(mode.degrees, mode.sector[1:], mode.dimension) for mode in geometry.modes][:4]
    [((0, 0), (0,), 1), ((0, 2), (0,), 1), ((2, 0), (0,), 1), ((1, 0), (0,), 1)]
    """

    activation: str
    degree: int
    input_dim: int
    num_relevant: int
    anisotropic: bool
    max_degree: int
    max_order: int
    target_only: bool = False

    num_components = 1

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """Dimensions of the blocks."""
        k, d = self.num_relevant, self.input_dim
        return tuple(n for n in ((k - 1, d - k) if self.anisotropic else (d - 1,)) if n > 0)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """See :class:`Geometry`."""
        found = []
        for orders in itertools.product(range(self.max_order + 1), repeat=len(self.blocks)):
            if sum(orders) > self.max_order:
                continue
            harmonics = [range(j % 2, j + 1, 2) for j in orders]
            for i in range(self.max_degree - sum(orders) + 1):
                for parts in itertools.product(*harmonics):
                    sizes = [harmonic_dimension(part, n) for part, n in zip(parts, self.blocks, strict=True)]
                    if math.prod(sizes):
                        found.append(Mode((i % 2, *parts), math.prod(sizes), (i, *orders)))
        if self.target_only:
            found = [m for m in found if m.sector[0] == self.degree % 2 and not any(m.sector[1:])]
        # The target's sector need not be first; modes of a sector stay together.
        return tuple(sorted(found, key=lambda mode: (mode.sector[1:], mode.sector[0], mode.degrees)))

    @cached_property
    def target(self) -> int:
        """See :class:`Geometry`."""
        zero = (0,) * len(self.blocks)
        return next(
            index
            for index, mode in enumerate(self.modes)
            if mode.degrees == (self.degree, *zero) and mode.sector[1:] == zero
        )

    @cached_property
    def _factors(self) -> np.ndarray:
        """√(n!/(i! Π j!)) Π √f of every mode."""
        out = []
        for mode in self.modes:
            value = math.factorial(sum(mode.degrees)) / math.prod(map(math.factorial, mode.degrees))
            for j, part, n in zip(mode.degrees[1:], mode.sector[1:], self.blocks, strict=True):
                value *= harmonic_fraction(j, part, n)
            out.append(math.sqrt(value))
        return np.array(out)

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Geometry`."""
        parts = np.concatenate([v, s], axis=1)
        r = np.sqrt((parts**2).sum(axis=1))
        mu = hermite_coefficients(self.activation, self.max_degree, b, r)
        powers = (parts / r[:, None])[:, :, None] ** np.arange(self.max_degree + 1)
        degrees = np.array([mode.degrees for mode in self.modes])
        out = mu[:, degrees.sum(axis=1)] * self._factors
        for axis in range(parts.shape[1]):
            out *= powers[:, axis][:, degrees[:, axis]]
        return out, mean_square(self.activation, b, r)

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """See :class:`Geometry`."""
        k, d = self.num_relevant, self.input_dim
        relevant, squares = v[:, 0] ** 2, s**2
        if not self.anisotropic:
            total = squares.sum(axis=1)
            share = (k - 1) / (d - 1) if d > 1 else 0.0
            return np.column_stack([relevant + share * total, (1 - share) * total])
        rest = squares[:, -1] if d > k else np.zeros(len(v))
        return np.column_stack([relevant + squares.sum(axis=1) - rest, rest])

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Geometry`."""
        k, d, sign = self.num_relevant, self.input_dim, rng.choice([-1.0, 1.0], len(v))
        # An orthonormal basis of R^d whose first vector is u and whose first k span S.
        basis = np.eye(d)
        basis[:k, :k] = np.linalg.qr(np.column_stack([np.full(k, k**-0.5), np.eye(k)[:, : k - 1]]))[0]
        basis[:k, 0] = k**-0.5
        coordinates = [(sign * v[:, 0])[:, None]]
        for norm, size in zip(s.T, self.blocks, strict=True):
            direction = rng.standard_normal((len(v), size))
            coordinates.append(direction * (norm / np.linalg.norm(direction, axis=1))[:, None])
        return np.concatenate(coordinates, axis=1) @ basis.T, sign**self.degree


@dataclass(frozen=True)
class ParityGeometry:
    """Inputs ±1 and the target χ_S, the inputs outside S replaced by Gaussians.

    h_{T,j} = 2^-k Σ_σ χ_T(σ) μ_j(w_S·σ + b, s) and Σ_{|T|=i} h_{T,j}² is all of mode (i, j), whose multiplicity is
    C(k, i) C(d-k, j). Flips of the sign of any one weight, at fixed b, and permutations within S and outside it leave
    prior and density unchanged: different modes do not mix, and v may be taken positive and sorted.

    Parameters
    ----------
    activation
        Of the network.
    degree, input_dim
        k and d > k.
    max_order
        Largest degree j in the rest that is resolved.
    """

    activation: str
    degree: int
    input_dim: int
    max_order: int

    @property
    def num_components(self) -> int:
        """k weights, sorted and positive."""
        return self.degree

    @cached_property
    def blocks(self) -> tuple[int, ...]:
        """One block, the d - k other inputs."""
        return (self.input_dim - self.degree,)

    @cached_property
    def modes(self) -> tuple[Mode, ...]:
        """See :class:`Geometry`."""
        k, rest = self.degree, self.input_dim - self.degree
        return tuple(
            Mode((i, j), math.comb(k, i) * math.comb(rest, j), (i, j))
            for j in range(min(self.max_order, rest) + 1)
            for i in range(k + 1)
        )

    @cached_property
    def target(self) -> int:
        """See :class:`Geometry`."""
        return self.degree

    def amplitudes(self, v: np.ndarray, s: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Geometry`."""
        k = self.degree
        patterns = sign_patterns(k)
        size = (patterns == -1).sum(axis=1)
        u, norm = v @ patterns.T + b[:, None], s[:, :1]
        order = min(self.max_order, self.blocks[0])
        mu = hermite_coefficients(self.activation, order, u, norm)
        out = np.empty((len(v), order + 1, k + 1))
        for j in range(order + 1):
            walsh = _walsh_transform(np.ascontiguousarray(mu[:, :, j]))
            out[:, j] = np.sqrt(walsh**2 @ (size[:, None] == np.arange(k + 1)))
            if j == 0:
                out[:, 0, k] = walsh[:, -1]  # with its sign, which the readouts need
        return out.reshape(len(v), -1), mean_square(self.activation, u, norm).mean(axis=1)

    def second_moments(self, v: np.ndarray, s: np.ndarray) -> np.ndarray:
        """See :class:`Geometry`."""
        return np.column_stack([(v**2).sum(axis=1), s[:, 0] ** 2])

    def orient(self, rng: np.random.Generator, v: np.ndarray, s: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See :class:`Geometry`."""
        signs = rng.choice([-1.0, 1.0], v.shape)
        relevant = signs * rng.permuted(v, axis=1)
        rest = rng.standard_normal((len(v), self.blocks[0]))
        rest *= (s[:, 0] / np.linalg.norm(rest, axis=1))[:, None]
        return np.concatenate([relevant, rest], axis=1), signs.prod(axis=1)
