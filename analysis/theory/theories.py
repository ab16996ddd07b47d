"""The fixed-point theories by the one name that each has everywhere, and the priors that they cover."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.fixed_points import NNGP, AdaptiveKernel, BlockAdaptiveKernel, MeanField, MeanFieldARD
from models import ARD, Isotropic, TwoLayerNetwork, checks
from models.priors import has_weights_of


@dataclass(frozen=True)
class Theory:
    """One theory.

    Attributes
    ----------
    solver
        The class whose ``solve`` it is.
    priors
        Names of the priors that it covers, its own first.
    finite_data
        Whether it has a finite-P form on a teacher's population.
    has_curve
        Whether it gives every noise at once, by ``noise_curve``, on sparse parity.
    has_starts
        Whether ``solve`` takes a start on a teacher's population.
    on_data
        Whether ``solve`` takes a dataset.
    sampled
        Whether ``solve`` draws, and takes a key, on a teacher's population too; on a dataset all but NNGP do.
    """

    solver: type
    priors: tuple[str, ...]
    finite_data: bool = False
    has_curve: bool = False
    has_starts: bool = True
    on_data: bool = True
    sampled: bool = False

    def network(self, network: TwoLayerNetwork) -> TwoLayerNetwork:
        """`network`, with the theory's own prior of the same scale σ_w where that is the other one of the two.

        Raises
        ------
        ValueError
            For a prior that no theory covers.
        """
        if network.prior.name in self.priors:
            return network
        if not has_weights_of(network.prior, Isotropic, ARD):
            raise ValueError(
                f"prior must be isotropic or ard for the theories, got {type(network.prior).__name__}."
            )
        scale = getattr(network.prior, "scale", 1.0)
        return replace(network, prior=Isotropic(scale) if self.priors[0] == "isotropic" else ARD(scale=scale))


THEORIES: dict[str, Theory] = {
    "nngp": Theory(NNGP, ("isotropic",), finite_data=True, has_starts=False),
    "mean-field": Theory(MeanField, ("isotropic",), has_curve=True, has_starts=False),
    "mean-field-ard": Theory(MeanFieldARD, ("ard",), has_curve=True),
    "adaptive-kernel": Theory(AdaptiveKernel, ("isotropic", "ard"), finite_data=True, has_curve=True),
    "block-adaptive-kernel": Theory(
        BlockAdaptiveKernel, ("isotropic", "ard"), finite_data=True, on_data=False, sampled=True
    ),
}


def theory(name: str) -> Theory:
    """The theory of that name, or a ``ValueError`` that lists them."""
    checks.one_of("theory", name, THEORIES)
    return THEORIES[name]
