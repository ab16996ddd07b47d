"""The check that a network and its data belong together."""

from models import Dataset, TwoLayerNetwork


def check_problem(network: TwoLayerNetwork, data: Dataset) -> None:
    """``ValueError`` unless `data` fits `network`."""
    if not isinstance(network, TwoLayerNetwork):
        raise ValueError(f"network must be a TwoLayerNetwork, got {type(network).__name__}.")
    if not isinstance(data, Dataset):
        raise ValueError(
            f"data must be a Dataset, got {type(data).__name__}; use teacher.sample(...) or Dataset.from_arrays(...)."
        )
    if data.input_dim != network.input_dim:
        raise ValueError(
            f"network.input_dim={network.input_dim} must equal the data's number of inputs, {data.input_dim}."
        )
