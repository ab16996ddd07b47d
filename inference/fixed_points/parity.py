"""What the population theories of sparse parity cover, and the constants of one such problem."""

from __future__ import annotations

from dataclasses import dataclass

from models import Dataset, SparseParity, TwoLayerNetwork, WeightPrior
from models.priors import has_weights_of


@dataclass(frozen=True)
class ParityProblem:
    """Constants of the single-neuron density on population parity.

        p(w) ∝ prior(w) α^(-1/2) exp(β²/(4α)),    α = 1/(2σ_a²) + Σ/(2κ²N^(2γ)),    β = (1-m) J/(κ²N^γ)

    written with R² = |w|², Σ = R²/2 as α = a0 + a1 R² and β²/(4α) = b (1-m)² J²/α. Source: arXiv:2510.15174.

    Parameters
    ----------
    input_dim, degree, width
        d, k and N.
    kappa, gamma, readout_scale
        κ, γ and σ_a.
    relevant
        Indices S.
    """

    input_dim: int
    degree: int
    width: int
    kappa: float
    gamma: float
    readout_scale: float
    relevant: tuple[int, ...]

    @property
    def num_rest(self) -> int:
        """Number of irrelevant inputs d - k."""
        return self.input_dim - self.degree

    @property
    def readout_constant(self) -> float:
        """a0 = 1/(2σ_a²)."""
        return 0.5 / self.readout_scale**2

    @property
    def readout_slope(self) -> float:
        """a1 = 1/(4κ²N^(2γ)), so that α = a0 + a1 R²."""
        return 0.25 / (self.kappa**2 * self.width ** (2 * self.gamma))

    @property
    def drive(self) -> float:
        """b = 1/(4κ⁴N^(2γ)), so that β²/(4α) = b (1-m)² J²/α."""
        return 0.25 / (self.kappa**4 * self.width ** (2 * self.gamma))

    @property
    def gain(self) -> float:
        """N^(1-2γ)/κ², so that m = (1-m) · gain · E_p[J²/(2α)]."""
        return self.width ** (1 - 2 * self.gamma) / self.kappa**2


def parity_problem(
    network: TwoLayerNetwork, teacher, theory: str, *priors: type[WeightPrior]
) -> ParityProblem:
    """The constants of `network` on `teacher`, or a ``ValueError`` that says what `theory` covers.

    Parameters
    ----------
    network, teacher
        A ReLU network without biases and a :class:`models.SparseParity` of even degree k < d.
    theory
        Its public name, for the messages.
    priors
        The classes of prior that the theory is about.
    """
    _check_teacher(teacher, theory)
    if not isinstance(network, TwoLayerNetwork):
        raise ValueError(f"network must be a models.TwoLayerNetwork, got {type(network).__name__}.")
    if network.activation != "relu":
        raise ValueError(
            f"activation must be relu, got {network.activation!r}: {theory} on population parity has closed "
            "forms for ReLU only."
        )
    if network.bias:
        raise ValueError(f"bias must be False: {theory} on population parity covers networks without biases.")
    if not has_weights_of(network.prior, *priors):
        names = " or ".join(f"models.{prior.__name__}" for prior in priors)
        raise ValueError(f"prior must be {names} for {theory}, got {type(network.prior).__name__}.")
    if teacher.input_dim != network.input_dim:
        raise ValueError(
            f"teacher.input_dim must equal network.input_dim={network.input_dim}, got {teacher.input_dim}."
        )
    if teacher.degree % 2:
        raise ValueError(
            f"degree must be even for {theory}, got {teacher.degree}: a ReLU network without biases has no "
            "overlap with odd parities above 1, and the closed forms are those of even degree."
        )
    if teacher.degree >= teacher.input_dim:
        raise ValueError(
            f"degree must be smaller than input_dim={teacher.input_dim} for {theory}, got {teacher.degree}: it "
            "needs at least one irrelevant input."
        )
    return ParityProblem(
        input_dim=network.input_dim,
        degree=teacher.degree,
        width=network.width,
        kappa=float(network.kappa),
        gamma=float(network.gamma),
        readout_scale=float(network.readout_scale),
        relevant=tuple(teacher.relevant),
    )


def readout_data(data, theory: str) -> Dataset:
    """`data`, or a ``ValueError``: networks of `theory` draw their readouts from their posterior on a dataset."""
    if not isinstance(data, Dataset):
        given = "nothing" if data is None else type(data).__name__
        raise ValueError(
            f"data must be a models.Dataset for the networks of {theory}, whose readouts are drawn from their "
            f"posterior on it; pass sample_networks(key, num_draws, data). Got {given}."
        )
    return data


def no_finite_data(num_data, theory: str) -> None:
    """Raise ``ValueError`` unless `num_data` is None."""
    if num_data is not None:
        raise ValueError(
            f"num_data must be None for {theory}, got {num_data!r}: {theory} covers the population (P = ∞) only; "
            "NNGP takes num_data."
        )


def _check_teacher(teacher, theory: str) -> None:
    if isinstance(teacher, Dataset):
        raise ValueError(
            f"teacher must be a models.SparseParity here, got a Dataset: this is {theory} on the population; pass "
            "the Dataset to solve."
        )
    if not isinstance(teacher, SparseParity):
        raise ValueError(
            f"teacher must be a models.SparseParity for {theory} (solve takes a models.SingleIndex too), got "
            f"{type(teacher).__name__}: only their populations are solved."
        )
