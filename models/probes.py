"""Probes: shuffled copies of the inputs, irrelevant by construction."""

from dataclasses import replace

import jax
import numpy as np

from models.dataset import Dataset

NAME = "shuffled {}"


def add_probes(data: Dataset, key: jax.Array) -> Dataset:
    """`data` with a copy of every input appended: input d + j is input j with its rows permuted.

    The rows of all copies are permuted together, among the training rows and among the test rows.
    The probes then have, on the training rows exactly, the joint distribution of the inputs (their
    moments, and the correlations between them), and they know nothing of y or of the inputs:
    whatever a ranking makes of them is chance. ``relevant`` stays as it is, where it was unknown
    too, since of the real inputs some may be irrelevant: samplers are not told which are probes.
    Source: Stoppiglia, Dreyfus, Dubois and Oussar, *Ranking a random feature for variable and
    feature selection* (2003); Kursa and Rudnicki, *Feature selection with the Boruta package*
    (2010).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> x = rng.normal(size=(40, 3))
    >>> probed = add_probes(Dataset.from_arrays(x, x[:, 0]), jax.random.key(0))
    >>> probed.x.shape, bool((np.sort(probed.x[:, 3:], axis=0) == np.sort(probed.x[:, :3], axis=0)).all())
    ((30, 6), True)
    """
    key_train, key_test = jax.random.split(key)
    units = data.standardisation
    return replace(
        data,
        x=_with_shuffled(data.x, key_train),
        x_test=_with_shuffled(data.x_test, key_test),
        teacher=None,
        names=None if data.names is None else (*data.names, *map(NAME.format, data.names)),
        standardisation=units and replace(units, mean=2 * units.mean, scale=2 * units.scale),
    )


def _with_shuffled(x: np.ndarray, key: jax.Array) -> np.ndarray:
    return np.concatenate([x, x[np.asarray(jax.random.permutation(key, len(x)))]], axis=1)
