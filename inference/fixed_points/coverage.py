"""What the theories on a data set cover: the sentences for what they do not."""

from __future__ import annotations

from models import Dataset, Network, TwoLayerNetwork, WeightPrior
from models.priors import has_weights_of


def check_inputs(network: Network, data: Dataset) -> None:
    """Raise ``ValueError`` unless `data` has the inputs of `network`."""
    if not isinstance(network, Network):
        raise ValueError(
            f"network must be a models.TwoLayerNetwork or models.DeepNetwork, got {type(network).__name__}."
        )
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"x must have input_dim={network.input_dim} columns to match the network, got {data.input_dim}."
        )


def check_is_dataset(data, theory: str) -> None:
    """``ValueError`` unless `data` are a data set, for a theory without a population form."""
    if not isinstance(data, Dataset):
        raise ValueError(
            f"teacher_or_data must be a models.Dataset for {theory}, got {type(data).__name__}; draw one with "
            "teacher.sample(key, num_data)."
        )


def check_dataset(
    network: Network,
    data: Dataset,
    num_data: int | None,
    theory: str,
    *priors: type[WeightPrior],
    because: str = "",
    deep: bool = False,
) -> None:
    """``ValueError`` unless `theory` covers this on a data set; no `priors` for every prior.

    `deep` says whether it covers several hidden layers.
    """
    check_inputs(network, data)
    if not deep and not isinstance(network, TwoLayerNetwork):
        raise ValueError(
            f"network must be a models.TwoLayerNetwork for {theory}, got {type(network).__name__}; NNGP and "
            "KernelRenormalisation cover several hidden layers."
        )
    if priors and not all(has_weights_of(prior, *priors) for prior in network.priors):
        names = " or ".join(f"models.{prior.__name__}" for prior in priors)
        raise ValueError(f"prior must be {names} for {theory}, got {type(network.prior).__name__}{because}.")
    if num_data is not None:
        raise ValueError("num_data must be None on a Dataset, whose number of rows is P; got both.")


def check_training_points(
    network: TwoLayerNetwork, relevant: tuple[int, ...], data: Dataset | None, theory: str, required: bool
) -> None:
    """``ValueError`` unless `data` can give the readouts of a population theory's networks."""
    if required and not isinstance(data, Dataset):
        given = "nothing" if data is None else type(data).__name__
        raise ValueError(
            f"data must be a models.Dataset for the networks of {theory}, whose readouts are drawn from their "
            f"posterior on it; pass sample_networks(key, num_draws, data). Got {given}."
        )
    if data is None:
        return
    if not isinstance(data, Dataset):
        raise ValueError(f"data must be a models.Dataset, got {type(data).__name__}.")
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"data must have input_dim={network.input_dim} columns to match the network, got {data.input_dim}."
        )
    if data.relevant is None or set(map(int, data.relevant)) != set(relevant):
        raise ValueError(
            f"data must have the teacher's relevant inputs {sorted(relevant)}, got {data.relevant}."
        )
