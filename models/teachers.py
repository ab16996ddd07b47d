"""Teachers: target functions with known relevant inputs, and the inputs they are sampled on."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from models import checks
from models.dataset import Dataset, check_relevant


class Teacher:
    """A target y(x) on random inputs; subclasses define all but :meth:`sample`."""

    input_dim: int
    relevant: tuple[int, ...]

    def inputs(self, key: jax.Array, num: int) -> jax.Array:
        """`num` independent inputs, shape (num, input_dim)."""
        raise TypeError(f"{type(self).__name__} must define inputs(self, key, num).")

    def __call__(self, x: ArrayLike) -> jax.Array:
        """The target at the inputs `x` of shape (..., input_dim); shape (...)."""
        raise TypeError(f"{type(self).__name__} must define __call__(self, x).")

    def sample(self, key: jax.Array, num_data: int, num_test: int = 1000) -> Dataset:
        """Independent training and test data, `num_data` and `num_test` points, at least 1 each."""
        checks.whole("num_data", num_data, 1)
        checks.whole("num_test", num_test, 1)
        key_train, key_test = jax.random.split(key)
        x, x_test = self.inputs(key_train, num_data), self.inputs(key_test, num_test)
        arrays = (np.asarray(v) for v in (x, self(x), x_test, self(x_test)))
        return Dataset(*arrays, relevant=self.relevant, teacher=self)


class _BinaryInputs(Teacher):
    def inputs(self, key: jax.Array, num: int) -> jax.Array:
        """`num` inputs uniform on {±1}^d, shape (num, input_dim)."""
        return jax.random.rademacher(key, (num, self.input_dim), dtype=jnp.float32)


def _check_subset(input_dim: int, name: str, count: int, relevant) -> tuple[int, ...]:
    """The relevant inputs, whose number `count` the teacher calls `name`."""
    checks.whole("input_dim", input_dim, 1)
    checks.whole(name, count, 1)
    if count > input_dim:
        raise ValueError(
            f"{name} must not exceed input_dim={input_dim}, got {count}; lower {name} or raise input_dim."
        )
    relevant = tuple(range(count)) if relevant is None else check_relevant(relevant, input_dim)
    if len(relevant) != count:
        raise ValueError(f"relevant must name {name}={count} inputs, got {len(relevant)}.")
    return relevant


@dataclass(frozen=True)
class SparseParity(_BinaryInputs):
    """k-sparse parity: x uniform on {±1}^d, y = χ_S(x) = Π_{j∈S} x_j with |S| = k, E[y²] = 1.

    S is `relevant`, the first k inputs by default, d `input_dim`, and k `degree`. A ReLU network
    without biases has no overlap with odd parities of degree above 1.

    Examples
    --------
    >>> teacher = SparseParity(input_dim=35, degree=4)
    >>> teacher.relevant
    (0, 1, 2, 3)
    """

    input_dim: int
    degree: int
    relevant: tuple[int, ...] | None = None

    def __post_init__(self):
        object.__setattr__(
            self, "relevant", _check_subset(self.input_dim, "degree", self.degree, self.relevant)
        )

    def __call__(self, x: ArrayLike) -> jax.Array:
        """χ_S(x), shape (...)."""
        return jnp.prod(jnp.asarray(x)[..., np.array(self.relevant)], axis=-1)


@dataclass(frozen=True)
class ParitySum(_BinaryInputs):
    """Weighted sum of parities, y = Σ_T c_T χ_T(x) on x uniform on {±1}^d; E[y²] = Σ_T c_T².

    d is `input_dim`. The index sets T, `subsets`, are distinct; nested ones make a staircase. Their
    `coefficients` c_T are 1/√(number of subsets) each by default, so that E[y²] = 1.

    Examples
    --------
    >>> ParitySum(input_dim=8, subsets=((0,), (0, 1), (0, 1, 5))).relevant
    (0, 1, 5)
    """

    input_dim: int
    subsets: tuple[tuple[int, ...], ...]
    coefficients: tuple[float, ...] | None = None

    def __post_init__(self):
        checks.whole("input_dim", self.input_dim, 1)
        if isinstance(self.subsets, str) or not isinstance(self.subsets, Iterable):
            raise ValueError(f"subsets must be distinct index sets, at least one, got {self.subsets!r}.")
        subsets = tuple(tuple(sorted(check_relevant(t, self.input_dim))) for t in self.subsets)
        if not subsets or len(set(subsets)) < len(subsets):
            raise ValueError(f"subsets must be distinct index sets, at least one, got {self.subsets!r}.")
        coefficients = (len(subsets) ** -0.5,) * len(subsets)
        if self.coefficients is not None:
            coefficients = tuple(checks.finite_array("coefficients", self.coefficients, ndim=1).tolist())
        if len(coefficients) != len(subsets) or not any(coefficients):
            raise ValueError(
                f"coefficients must be {len(subsets)} finite numbers, one per subset and not all 0, "
                f"got {coefficients}."
            )
        object.__setattr__(self, "subsets", subsets)
        object.__setattr__(self, "coefficients", coefficients)

    @property
    def relevant(self) -> tuple[int, ...]:
        """Union of the subsets."""
        return tuple(sorted({j for t in self.subsets for j in t}))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """Σ_T c_T χ_T(x), shape (...)."""
        x = jnp.asarray(x)
        parities = (jnp.prod(x[..., np.array(t)], axis=-1) for t in self.subsets)
        return sum(c * parity for c, parity in zip(self.coefficients, parities, strict=True))


def hermite(order: int, u: ArrayLike) -> jax.Array:
    """Probabilists' Hermite polynomial by He_{p+1} = u He_p - p He_{p-1}; E[He_p(u)²] = p!."""
    previous, current = jnp.zeros_like(u), jnp.ones_like(u)
    for p in range(order):
        previous, current = current, u * current - p * previous
    return current


@dataclass(frozen=True)
class SingleIndex(Teacher):
    """Single index: x ~ Normal(0, I_d), y = He_p(u·x), u = 1/√k on k coordinates, 0 elsewhere.

    d is `input_dim`, k ≤ d `num_relevant`, p ≥ 1 `hermite_degree`; the coordinates are `relevant`,
    the first k by default. E[y²] = p!, or 1 where `normalized`, which divides y by √(p!).

    Examples
    --------
    >>> SingleIndex(input_dim=18, num_relevant=2, hermite_degree=4).relevant
    (0, 1)
    """

    input_dim: int
    num_relevant: int
    hermite_degree: int
    normalized: bool = False
    relevant: tuple[int, ...] | None = None

    def __post_init__(self):
        checks.whole("hermite_degree", self.hermite_degree, 1)
        relevant = _check_subset(self.input_dim, "num_relevant", self.num_relevant, self.relevant)
        object.__setattr__(self, "relevant", relevant)

    def inputs(self, key: jax.Array, num: int) -> jax.Array:
        """`num` standard Gaussian inputs, shape (num, input_dim)."""
        return jax.random.normal(key, (num, self.input_dim))

    def __call__(self, x: ArrayLike) -> jax.Array:
        """He_p(u·x), divided by √(p!) where normalised; shape (...)."""
        u = jnp.asarray(x)[..., np.array(self.relevant)].sum(axis=-1) / math.sqrt(self.num_relevant)
        norm = math.sqrt(math.factorial(self.hermite_degree)) if self.normalized else 1.0
        return hermite(self.hermite_degree, u) / norm
