"""Measurements that scikit-learn ships, in standard units, each input with a shuffled copy."""

import jax
import numpy as np

from models.dataset import Dataset
from models.probes import add_probes


def diabetes() -> tuple:
    """442 patients, 10 inputs, progression of the disease after a year."""
    return _table("load_diabetes")


def breast_cancer() -> tuple:
    """569 tumours, 30 inputs, malignant (-1) or benign (+1)."""
    x, y, names = _table("load_breast_cancer")
    return x, 2.0 * y - 1.0, names


def digits() -> tuple:
    """357 images of 8 × 8 pixels, the digits 3 (-1) and 8 (+1)."""
    x, y, names = _table("load_digits")
    pair = np.isin(y, (3, 8))
    return x[pair], np.where(y[pair] == 8, 1.0, -1.0), names


MEASURED = {"diabetes": diabetes, "breast-cancer": breast_cancer, "digits-3-8": digits}


def with_probes(name: str, split: int = 0) -> Dataset:
    """One of :data:`MEASURED`: a quarter held out by the seed `split`, standardised, with probes."""
    x, y, names = MEASURED[name]()
    data = Dataset.from_arrays(x, y, names=names, seed=split).standardised()
    return add_probes(data, jax.random.key(split))


def _table(loader: str) -> tuple:
    try:
        from sklearn import datasets
    except ImportError:
        raise ValueError(
            "this data set comes with scikit-learn; install it with pip install 'mean-field-zoo[real-data]'."
        ) from None
    bunch = getattr(datasets, loader)()
    return (
        np.asarray(bunch.data, float),
        np.asarray(bunch.target, float),
        tuple(map(str, bunch.feature_names)),
    )
