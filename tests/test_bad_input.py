"""Bad arguments: each is one sentence that names the argument."""

import re
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import HMC, NUTS

from inference import SGLD, sample
from models import (
    ARD,
    Dataset,
    Isotropic,
    ParitySum,
    SingleIndex,
    SparseParity,
    TwoLayerNetwork,
    WeightPrior,
)

NAN, INF = float("nan"), float("inf")
X, Y = np.ones((6, 3)), np.ones(6)
NETWORK = TwoLayerNetwork(input_dim=3, width=4, kappa=0.1)
DATA = Dataset(X, Y, X, Y)


def spoiled(array, value):
    """A copy of `array` whose first element is `value`."""
    copy = np.array(array, float)
    copy.flat[0] = value
    return copy


@dataclass(frozen=True)
class Transposed(WeightPrior):
    def weights(self, width, input_dim):
        return jnp.zeros((input_dim, width))


def sampled(kernel=None, network=NETWORK, data=DATA, **options):
    options = {"num_warmup": 1, "num_samples": 4, "num_chains": 1, **options}
    return sample(
        network, data, SGLD(step_size=1e-3) if kernel is None else kernel, jax.random.key(0), **options
    )


CASES = {
    # networks
    "input_dim of zero": (lambda: TwoLayerNetwork(0, 4, 0.1), "input_dim"),
    "input_dim that is no integer": (lambda: TwoLayerNetwork(3.5, 4, 0.1), "input_dim"),
    "width of zero": (lambda: TwoLayerNetwork(3, 0, 0.1), "width"),
    "negative width": (lambda: replace(NETWORK, width=-2), "width"),
    "width as text": (lambda: TwoLayerNetwork(3, "wide", 0.1), "width"),
    "width as truth value": (lambda: TwoLayerNetwork(3, True, 0.1), "width"),
    "kappa of zero": (lambda: TwoLayerNetwork(3, 4, 0.0), "kappa"),
    "negative kappa": (lambda: TwoLayerNetwork(3, 4, -0.1), "kappa"),
    "kappa of NaN": (lambda: TwoLayerNetwork(3, 4, NAN), "kappa"),
    "infinite kappa": (lambda: TwoLayerNetwork(3, 4, INF), "kappa"),
    "kappa left None": (lambda: TwoLayerNetwork(3, 4, None), "kappa"),
    "gamma of NaN": (lambda: replace(NETWORK, gamma=NAN), "gamma"),
    "gamma as text": (lambda: replace(NETWORK, gamma="half"), "gamma"),
    "readout_scale of zero": (lambda: replace(NETWORK, readout_scale=0.0), "readout_scale"),
    "negative bias_scale": (lambda: replace(NETWORK, bias_scale=-1.0), "bias_scale"),
    "unknown activation": (lambda: replace(NETWORK, activation="sine"), "activation.*relu.*sine"),
    "activation of a wrong type": (lambda: replace(NETWORK, activation=["relu"]), "activation"),
    "prior by name": (lambda: replace(NETWORK, prior="isotropic"), "prior.*WeightPrior"),
    "prior class for an instance": (lambda: replace(NETWORK, prior=Isotropic), "prior.*WeightPrior"),
    "x of another width": (lambda: NETWORK(np.ones((5, 2)), np.ones(5)), "x must have shape.*input_dim=3"),
    "x of one dimension": (lambda: NETWORK(np.ones(3)), "x must have shape"),
    "x without rows": (lambda: NETWORK(np.ones((0, 3))), "x must have shape"),
    "y as a column": (lambda: NETWORK(X, np.ones((6, 1))), "y must have shape"),
    "y of another length": (lambda: NETWORK(X, np.ones(5)), "y must have shape"),
    "a prior's weights transposed": (
        lambda: sampled(network=replace(NETWORK, prior=Transposed())),
        r"prior\.weights.*width, input_dim",
    ),
    # priors
    "isotropic scale of zero": (lambda: Isotropic(0.0), "scale"),
    "isotropic scale of NaN": (lambda: Isotropic(NAN), "scale"),
    "negative ARD shape": (lambda: ARD(shape=-1.0), "shape"),
    "ARD rate of zero": (lambda: ARD(rate=0.0), "rate"),
    "infinite ARD scale": (lambda: ARD(scale=INF), "scale"),
    # teachers
    "degree above input_dim": (lambda: SparseParity(3, 4), "degree.*input_dim=3"),
    "degree of zero": (lambda: SparseParity(3, 0), "degree"),
    "degree that is no integer": (lambda: SparseParity(3, 1.5), "degree"),
    "parity of no inputs": (lambda: SparseParity(0, 1), "input_dim"),
    "relevant empty": (lambda: SparseParity(3, 2, relevant=()), "relevant"),
    "relevant repeated": (lambda: SparseParity(3, 2, relevant=(1, 1)), "relevant"),
    "relevant out of range": (lambda: SparseParity(3, 2, relevant=(1, 3)), "relevant.*0 to 2"),
    "relevant negative": (lambda: SparseParity(3, 2, relevant=(-1, 0)), "relevant"),
    "relevant of another size": (lambda: SparseParity(3, 2, relevant=(0,)), "relevant.*degree=2"),
    "relevant as text": (lambda: SparseParity(3, 2, relevant=("a", "b")), "relevant"),
    "relevant as fractions": (lambda: SparseParity(3, 2, relevant=(0.5, 1.5)), "relevant"),
    "no subsets": (lambda: ParitySum(3, ()), "subsets"),
    "an empty subset": (lambda: ParitySum(3, ((),)), "relevant|subsets"),
    "the same subset twice": (lambda: ParitySum(3, ((0, 1), (1, 0))), "subsets"),
    "subsets that are numbers": (lambda: ParitySum(3, 5), "subsets"),
    "too few coefficients": (lambda: ParitySum(3, ((0,), (1,)), (1.0,)), "coefficients"),
    "coefficients of NaN": (lambda: ParitySum(3, ((0,),), (NAN,)), "coefficients"),
    "coefficients all zero": (lambda: ParitySum(3, ((0,),), (0.0,)), "coefficients"),
    "coefficients as text": (lambda: ParitySum(3, ((0,),), ("one",)), "coefficients"),
    "num_relevant above input_dim": (lambda: SingleIndex(3, 4, 2), "num_relevant.*input_dim=3"),
    "hermite_degree of zero": (lambda: SingleIndex(3, 2, 0), "hermite_degree"),
    "no training data": (lambda: SparseParity(3, 2).sample(jax.random.key(0), 0), "num_data"),
    "negative num_test": (lambda: SparseParity(3, 2).sample(jax.random.key(0), 5, -1), "num_test"),
    # data sets
    "NaN in x": (lambda: Dataset(spoiled(X, NAN), Y, X, Y), "x holds 1 NaN"),
    "infinity in y": (lambda: Dataset(X, spoiled(Y, INF), X, Y), "y holds 1 NaN or infinite"),
    "NaN in x_test": (lambda: Dataset(X, Y, spoiled(X, NAN), Y), "x_test holds"),
    "infinity in y_test": (lambda: Dataset(X, Y, X, spoiled(Y, -INF)), "y_test holds"),
    "x as a vector": (lambda: Dataset(Y, Y, X, Y), "x must have 2 dimensions"),
    "y as a matrix": (lambda: Dataset(X, X, X, Y), "y must have 1 dimension,"),
    "x and y of different length": (lambda: Dataset(X, Y[:4], X, Y), "y must have one value per row of x"),
    "x_test of other width": (lambda: Dataset(X, Y, X[:, :2], Y), "x_test must have as many columns"),
    "x without columns": (lambda: Dataset(X[:, :0], Y, X, Y), "x must have at least one"),
    "x of text": (lambda: Dataset([["a", "b"]], [1.0], X, Y), "x must be an array of numbers"),
    "ragged x": (lambda: Dataset([[1.0], [1.0, 2.0]], Y, X, Y), "x must be an array of numbers"),
    "data's relevant out of range": (lambda: Dataset(X, Y, X, Y, relevant=[3]), "relevant.*0 to 2"),
    "data's relevant empty": (lambda: Dataset(X, Y, X, Y, relevant=[]), "relevant must name at least one"),
    "y_test all zeros": (lambda: Dataset(X, Y, X, 0 * Y), "y_test must not be all zeros"),
    "x_test alone": (lambda: Dataset.from_arrays(X, Y, x_test=X), "x_test and y_test"),
    "test_fraction of one": (lambda: Dataset.from_arrays(X, Y, test_fraction=1.0), "test_fraction"),
    "test_fraction of NaN": (lambda: Dataset.from_arrays(X, Y, test_fraction=NAN), "test_fraction"),
    "test_fraction as text": (lambda: Dataset.from_arrays(X, Y, test_fraction="half"), "test_fraction"),
    "one row": (lambda: Dataset.from_arrays(X[:1], Y[:1]), "x must have at least 2 rows"),
    # sample
    "network that is a function": (lambda: sampled(network=lambda x: x), "network must be a TwoLayerNetwork"),
    "data as a tuple": (lambda: sampled(data=(X, Y)), "data must be a Dataset"),
    "data of another width": (
        lambda: sampled(network=TwoLayerNetwork(4, 4, 0.1)),
        r"network\.input_dim=4 must equal.*3",
    ),
    "kernel by name": (lambda: sampled("nuts"), "kernel must be a NumPyro kernel"),
    "kernel that makes none": (lambda: sampled(lambda model: model), "kernel must be a NumPyro kernel"),
    "kernel without a model": (lambda: sampled(HMC(potential_fn=lambda z: 0.0)), "kernel HMC has no model"),
    "no chains": (lambda: sampled(num_chains=0), "num_chains"),
    "no samples": (lambda: sampled(num_samples=0), "num_samples"),
    "fewer samples than thinning": (lambda: sampled(num_samples=4, thinning=5), "num_samples"),
    "thinning of zero": (lambda: sampled(thinning=0), "thinning"),
    "negative num_warmup": (lambda: sampled(num_warmup=-1), "num_warmup"),
    "num_warmup as a fraction": (lambda: sampled(num_warmup=1.5), "num_warmup"),
    "unknown start": (lambda: sampled(start="warm"), "start must be one of prior, aligned"),
    "aligned start without relevant inputs": (lambda: sampled(start="aligned"), "start='aligned'.*relevant"),
    "subsample_size above num_data": (lambda: sampled(subsample_size=7), "subsample_size.*num_data=6"),
    "subsample_size of zero": (lambda: sampled(subsample_size=0), "subsample_size"),
    "subsample_size for NUTS": (lambda: sampled(NUTS, subsample_size=2), "subsample_size is for SGLD"),
    "step_size of zero": (lambda: sampled(SGLD(step_size=0.0)), "step_size"),
    "step_size as text": (lambda: sampled(SGLD(step_size="small")), "step_size"),
    "step_size that diverges": (lambda: sampled(SGLD(step_size=50.0), num_warmup=200), "step_size=50"),
    "unknown preconditioner": (lambda: sampled(SGLD(preconditioner="hessian")), "preconditioner"),
    "preconditioner of an unknown site": (
        lambda: sampled(SGLD(preconditioner={"v": 1.0})),
        "preconditioner.*'v'",
    ),
    "init_params of other chains": (
        lambda: sampled(init_params={"w": jnp.zeros((2, 4, 3)), "a": jnp.zeros((2, 4))}),
        "init_params",
    ),
    "init_params without a site": (lambda: sampled(init_params={"w": jnp.zeros((1, 4, 3))}), "init_params"),
    "init_params with NaN": (
        lambda: sampled(init_params={"w": jnp.full((1, 4, 3), NAN), "a": jnp.zeros((1, 4))}),
        "init_params",
    ),
}


def assert_one_sentence(message):
    """One line, ending in its only full stop outside numbers, names and file endings."""
    assert "\n" not in message
    assert message.endswith(".")
    assert not re.search(r"[.!?] +[A-Z]", message)
    assert len(message) < 250


@pytest.mark.parametrize("case", CASES)
def test_bad_argument_is_named_in_one_sentence(case):
    call, named = CASES[case]
    with pytest.raises(ValueError, match=named) as info:
        call()
    assert_one_sentence(str(info.value))


# --- files ---


def text(content):
    return lambda path: path.write_bytes(content)


def archive(**arrays):
    return lambda path: np.savez(path, **arrays)


def one_array(path):
    with path.open("wb") as file:
        np.save(file, X)


FILES = {
    "npz that is text": ("d.npz", text(b"not an archive"), {}, "'d.npz' is not a readable .npz"),
    "npz that is empty": ("d.npz", text(b""), {}, "'d.npz' is not a readable .npz"),
    "npz that is a broken zip": (
        "d.npz",
        text(b"PK\x03\x04 and then nothing"),
        {},
        "'d.npz' is not a readable",
    ),
    "npz that is one array": (
        "d.npz",
        one_array,
        {},
        "'d.npz' is not a readable",
    ),
    "npz of objects": ("d.npz", archive(x=np.array([{}]), y=Y), {}, "'d.npz' is not a readable .npz"),
    "npz without y": ("d.npz", archive(x=X), {}, "'d.npz' must hold arrays named x and y"),
    "npz of other shapes": ("d.npz", archive(x=X, y=Y[:2]), {}, "y must have one value per row"),
    "npz with NaN": ("d.npz", archive(x=spoiled(X, NAN), y=Y), {}, "x holds 1 NaN"),
    "npz with relevant out of range": ("d.npz", archive(x=X, y=Y, relevant=[9]), {}, "relevant"),
    "npz with a target": ("d.npz", archive(x=X, y=Y), {"target": "y"}, "target names a column"),
    "csv that is empty": ("d.csv", text(b""), {}, "'d.csv' is not a readable table"),
    "csv that is binary": ("d.csv", text(bytes(range(128, 256)) * 4), {}, "'d.csv'"),
    "csv of one column": ("d.csv", text(b"u\n1\n2\n"), {}, "'d.csv' must have at least two columns"),
    "csv with words": ("d.csv", text(b"u,v\n1,2\nred,3\n"), {}, "column 'u' is not numeric"),
    "csv with a gap": ("d.csv", text(b"u,v\n1,2\n,3\n4,5\n"), {}, "missing values.*'u' 1, of 3 rows"),
    "csv without rows": ("d.csv", text(b"u,v\n"), {}, "'d.csv'|numeric|at least"),
    "csv with an unknown target": ("d.csv", text(b"u,v\n1,2\n3,4\n"), {"target": "t"}, "target 't'.*u, v"),
    "csv with ragged rows": ("d.csv", text(b"u,v\n1,2\n1,2,3,4\n"), {}, "'d.csv' is not a readable table"),
    "a foreign ending": ("d.xlsx", text(b"u,v\n1,2\n"), {}, r"\.npz, \.csv or \.parquet, got 'd.xlsx'"),
    "no such file": ("d.csv", lambda path: None, {}, "does not exist"),
    "a directory": ("d.csv", lambda path: path.mkdir(), {}, "is not a file"),
}


@pytest.mark.parametrize("case", FILES)
def test_bad_file_is_named_in_one_sentence(case, tmp_path):
    name, write, options, named = FILES[case]
    write(tmp_path / name)
    with pytest.raises(ValueError, match=named) as info:
        Dataset.from_file(tmp_path / name, **options)
    assert_one_sentence(str(info.value))


def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "d.csv"
    path.write_text("u,v\n1,2\n3,4\n")
    path.chmod(0)
    try:
        path.read_text()
    except PermissionError:
        with pytest.raises(ValueError, match=r"'d\.csv' is not a readable table"):
            Dataset.from_file(path)
    else:
        pytest.skip("this user may read every file")
