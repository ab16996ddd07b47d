"""What every prior over the hidden weights is made of."""

from dataclasses import fields

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
from jax.typing import ArrayLike

from models import checks

# Where scale mixtures pass from the non-centred to the centred form, in units of σ_w. With ARD on the
# default problem NUTS diverges below (at ∞, non-centred), and log ρ mixes slowly above: docs/step_size.md.
_CROSSING = 2.0


def input_plate(input_dim: int):
    """The plate ``input``: one independent copy per input coordinate (last dimension)."""
    return numpyro.plate("input", input_dim, dim=-1)


def neuron_plate(width: int):
    """The plate ``neuron`` over the rows of the weight matrix (second dimension from the right)."""
    return numpyro.plate("neuron", width, dim=-2)


def has_weights_of(prior: "WeightPrior", *classes: type["WeightPrior"]) -> bool:
    """Whether `prior` is of one of these classes and declares its weights as that class does.

    A theory or guide that knows the weights' density of a class knows nothing of a subclass that
    has another.

    Examples
    --------
    >>> from models import ARD, Isotropic
    >>> class Wide(Isotropic):
    ...     def weights(self, width, input_dim):
    ...         return 2 * super().weights(width, input_dim)
    >>> has_weights_of(Isotropic(), Isotropic, ARD), has_weights_of(Wide(), Isotropic, ARD)
    (True, False)
    """

    def same(each: type[WeightPrior]) -> bool:
        declared = ("weights", "scales")  # the second by scale mixtures
        return all(getattr(type(prior), name, None) is getattr(each, name, None) for name in declared)

    return any(isinstance(prior, each) and same(each) for each in classes)


class WeightPrior:
    """Prior over the hidden weights w ∈ R^(N×d) of a two-layer network.

    The one class to subclass for a new prior. A subclass is a frozen dataclass (its fields are the
    hyperparameters) with one method, :meth:`weights`, that makes ``numpyro.sample`` statements and
    returns the weight matrix. Either one of the sites is called ``w``, or the network records the
    returned matrix as the deterministic site ``w``. Nothing else is needed for SGLD, NUTS and the
    mean-field guide.

    Examples
    --------
    A heavy-tailed prior in a user's own file:

    >>> from dataclasses import dataclass
    >>> import numpyro, numpyro.distributions as dist
    >>> from models import WeightPrior, input_plate, neuron_plate
    >>> @dataclass(frozen=True)
    ... class Laplace(WeightPrior):
    ...     scale: float = 1.0
    ...     def weights(self, width, input_dim):
    ...         with neuron_plate(width), input_plate(input_dim):
    ...             return numpyro.sample("w", dist.Laplace(0.0, self.scale * (2 * input_dim) ** -0.5))
    >>> Laplace().name
    'laplace'
    """

    @property
    def name(self) -> str:
        """Name under which results list this prior: the class name in lower case."""
        return type(self).__name__.lower()

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """Sample sites of the prior; return w of shape (width, input_dim)."""
        raise TypeError(f"{type(self).__name__} must define weights(self, width, input_dim).")

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """Values of this prior's sites that reproduce `w`, for aligned starts; here just ``w``."""
        return {"w": jnp.asarray(w)}


class ScaleMixture(WeightPrior):
    """A Gaussian prior whose scales are random, w_ij = s_ij z_ij with z_ij ~ Normal(0, 1).

    Most shrinkage priors are of this form (Andrews and Mallows, *Scale mixtures of normal
    distributions*, 1974); they differ in the law of s and in who shares it. A subclass is a frozen
    dataclass with a field ``centered`` and two methods: :meth:`scales` and :meth:`scale_sites`.

    Sampled are the sites behind s and, as site ``w_base``,

        u_ij = w_ij/t_ij,      t = s/√(1 + s²/4σ_w²),      u ~ Normal(0, 1 + s²/4σ_w²)

    For s ≪ 2σ_w this is the non-centred form u = z, in which the conditional width of a weight does
    not depend on its scale, so that an input of which the data say nothing makes no funnel; for s ≫
    2σ_w it is the centred one, u = w/2σ_w, in which the scale of an input that the data have told
    does not move its weights (Papaspiliopoulos, Roberts and Sköld, *A general framework for the
    parametrization of hierarchical models*, 2007). The field ``scale`` is σ_w, 1 where there is
    none. ``centered=True`` samples w itself.
    """

    centered = False

    def __post_init__(self):
        """``ValueError`` for a number that is not positive (None is), or a flag that is none."""
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(field.default, bool):
                if not isinstance(value, bool):
                    raise ValueError(f"{field.name} must be True or False, got {value!r}.")
            elif isinstance(field.default, float) or (field.default is None and value is not None):
                checks.positive(field.name, value)

    def scales(self, width: int, input_dim: int) -> jax.Array:
        """Sample sites of the scales; return s > 0, broadcastable to (width, input_dim)."""
        raise TypeError(f"{type(self).__name__} must define scales(self, width, input_dim).")

    def scale_sites(self, w: jax.Array) -> tuple[dict[str, jax.Array], jax.Array]:
        """Values of the scales' sites that suit `w` (..., N, d), and the s that they give."""
        raise TypeError(f"{type(self).__name__} must define scale_sites(self, w).")

    def weights(self, width: int, input_dim: int) -> jax.Array:
        """The scales' sites and ``w_base`` or ``w`` (neuron, input); returns w."""
        scale = self.scales(width, input_dim)
        with neuron_plate(width), input_plate(input_dim):
            if self.centered:
                return numpyro.sample("w", dist.Normal(0.0, scale))
            width_of_base = self._base_scale(scale)
            return scale / width_of_base * numpyro.sample("w_base", dist.Normal(0.0, width_of_base))

    def sites_from_weights(self, w: ArrayLike) -> dict[str, jax.Array]:
        """The scales' sites near their mode given w, and ``w`` or ``w_base``."""
        w = jnp.asarray(w)
        sites, scale = self.scale_sites(w)
        return sites | ({"w": w} if self.centered else {"w_base": w / scale * self._base_scale(scale)})

    def _base_scale(self, scale: jax.Array) -> jax.Array:
        """√(1 + s²/4σ_w²), the prior's standard deviation of ``w_base``."""
        return jnp.sqrt(1 + (scale / (_CROSSING * getattr(self, "scale", 1.0))) ** 2)


def isotropic_scale(scale: float, input_dim: int) -> float:
    """σ_w/√d, the isotropic prior's: w·x is then of order σ_w for |x|² = d."""
    return scale * input_dim**-0.5


def record_precision(precision: ArrayLike, input_dim: int) -> None:
    """Record every input's precision ρ_j as the deterministic site ``rho`` (input), like ARD's."""
    with input_plate(input_dim):
        numpyro.deterministic("rho", jnp.broadcast_to(precision, (input_dim,)))
