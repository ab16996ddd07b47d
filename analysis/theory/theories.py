"""The fixed-point theories by the one name that each has everywhere."""

from __future__ import annotations

from dataclasses import dataclass, replace

from inference.fixed_points import (
    NNGP,
    AdaptiveKernel,
    BlockAdaptiveKernel,
    DeepLinear,
    KernelRenormalisation,
    MeanField,
    MeanFieldARD,
)
from models import ARD, Isotropic, TwoLayerNetwork, WeightPrior, checks
from models.priors import has_weights_of

STARTS = ("prior", "aligned")


@dataclass(frozen=True)
class Theory:
    """One theory: its `solver` in :mod:`inference.fixed_points`, the `priors` it describes.

    `finite_data` says whether it knows of a number of data P (the others have P = ∞), `sampled`
    whether its solution is drawn, which takes a minute, and not iterated, `deep` whether it covers
    several hidden layers, on a data set, and `population` whether it covers a teacher's population.
    """

    solver: type
    priors: tuple[type[WeightPrior], ...]
    finite_data: bool = False
    sampled: bool = False
    deep: bool = False
    population: bool = True

    @property
    def has_curve(self) -> bool:
        """Whether it gives every noise at once."""
        return hasattr(self.solver, "noise_curve")

    def covers(self, prior: WeightPrior) -> bool:
        """Whether it is a theory of this prior."""
        return has_weights_of(prior, *self.priors)

    def network(self, network: TwoLayerNetwork) -> TwoLayerNetwork:
        """`network`, with the theory's own prior of the same scale where it does not cover it."""
        if self.covers(network.prior):
            return network
        if not has_weights_of(network.prior, Isotropic, ARD):
            raise ValueError(
                f"prior must be isotropic or ard for the theories, got {type(network.prior).__name__}."
            )
        return replace(network, prior=self.priors[0](scale=network.prior.scale))


THEORIES: dict[str, Theory] = {
    "nngp": Theory(NNGP, (Isotropic,), finite_data=True, deep=True),
    "mean-field": Theory(MeanField, (Isotropic,)),
    "mean-field-ard": Theory(MeanFieldARD, (ARD,)),
    "adaptive-kernel": Theory(AdaptiveKernel, (Isotropic, ARD), finite_data=True),
    "block-adaptive-kernel": Theory(BlockAdaptiveKernel, (Isotropic, ARD), finite_data=True, sampled=True),
    "kernel-renormalisation": Theory(KernelRenormalisation, (Isotropic,), deep=True, population=False),
    "deep-linear": Theory(DeepLinear, (Isotropic,), deep=True, population=False),
}


def theory(name: str) -> Theory:
    """The theory of that name, or a ``ValueError`` that lists them."""
    checks.one_of("theory", name, THEORIES)
    return THEORIES[name]
