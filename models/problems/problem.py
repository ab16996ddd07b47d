"""A named problem: a model, its data, where it comes from and why it is hard."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from models.dataset import Dataset
from models.problems.reference import Reference, load_reference

REFERENCES = Path(__file__).parent / "references"
# Of a network's functions: f at so many test points, and second moments of so many inputs.
_TEST_POINTS, _INPUTS = 40, 24


@dataclass(frozen=True, eq=False)
class Problem:
    """A posterior by name: data and a declaration.

    Parameters
    ----------
    name
        Its name; a user's problem is ``FILE.py:NAME``, where NAME is the variable that holds it.
    network
        The NumPyro model: a network of the zoo, or any model with no discrete latent sites.
    data
        A :class:`models.Dataset` for a network; the model's keyword arguments, the observed ones
        among them, for any other model.
    description, source, difficulty
        What it is, where it comes from and why it is hard, in a sentence each.
    exact
        For a posterior in closed form: a function from the problem to the mean and standard
        deviation of each function of it.
    folder
        Where its reference is kept: ``NAME.json``.

    Examples
    --------
    >>> import jax, numpyro
    >>> from models import SparseParity, TwoLayerNetwork
    >>> own = Problem(
    ...     "own",
    ...     network=TwoLayerNetwork(input_dim=6, width=8, kappa=0.3),
    ...     data=SparseParity(6, 2).sample(jax.random.key(0), num_data=50),
    ...     description="a small parity",
    ... )
    >>> own.of_network, own.reference is None
    (True, True)
    """

    name: str
    network: Callable
    data: Dataset | Mapping
    description: str
    source: str = ""
    difficulty: str = ""
    exact: Callable | None = None
    folder: Path = REFERENCES

    def __post_init__(self):
        if not callable(self.network):
            raise ValueError(
                f"network of problem {self.name!r} must be a NumPyro model, got {type(self.network).__name__}."
            )
        if self.of_network:
            declared = getattr(self.network, "input_dim", None)
            if declared != self.data.input_dim:
                raise ValueError(
                    f"data of problem {self.name!r} have {self.data.input_dim} inputs, but its network {declared}; "
                    "other models take their keyword arguments as data."
                )
        elif not isinstance(self.data, Mapping):
            raise ValueError(
                f"data of problem {self.name!r} must be a Dataset or the model's keyword arguments, got "
                f"{type(self.data).__name__}."
            )

    @property
    def of_network(self) -> bool:
        """Whether the model is a network on a data set, and no other NumPyro model."""
        return isinstance(self.data, Dataset)

    @property
    def model_kwargs(self) -> dict:
        """The keyword arguments with which the model is that of the posterior."""
        return {"x": self.data.x, "y": self.data.y} if self.of_network else dict(self.data)

    @property
    def reference(self) -> Reference | None:
        """What is known of the posterior, from its file; None where there is none yet."""
        return load_reference(self.reference_path)

    @property
    def reference_path(self) -> Path:
        """The file of the reference."""
        return self.folder / f"{self.name}.json"

    @property
    def test_points(self) -> range:
        """The test points at which a network's f is one of the functions: the first forty."""
        return range(min(_TEST_POINTS, len(self.data.x_test)))

    @property
    def inputs(self) -> tuple[int, ...]:
        """The inputs whose second moment and log ρ are: the relevant ones, others evenly spaced."""
        relevant, d = self.data.relevant or (), self.data.input_dim
        others = np.setdiff1d(np.arange(d), relevant)
        count = min(len(others), max(0, _INPUTS - len(relevant)))
        picked = others[np.linspace(0, len(others) - 1, count).round().astype(int)] if count else ()
        return tuple(sorted({*relevant, *map(int, picked)}))
