"""Checkpoints and run folders: what they hold, what they refuse, and what they leave behind."""

import errno
import importlib
import resource
import sys
from functools import partial

import h5netcdf
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import xarray as xr
from numpyro.infer import NUTS

from inference import SGLD, DivergenceError, sample
from inference.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inference.runs.draw_files import join_pieces, open_draws, save_piece
from inference.runs.fingerprint import describe_kernel, describe_value, fingerprint
from inference.runs.run_folder import open_run
from models import ARD, Dataset, TwoLayerNetwork

OPTIONS = {"num_warmup": 4, "num_samples": 12, "num_chains": 2, "thinning": 2}


@pytest.fixture(scope="module")
def run(small_network, small_data):
    """``sample`` on the small problem."""
    return lambda *, seed=7, **changed: sample(
        small_network, small_data, SGLD(step_size=1e-3), jax.random.key(seed), **{**OPTIONS, **changed}
    )


@pytest.fixture(scope="module")
def finished(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished") / "run"
    return folder, run(folder=folder)


# --- the checkpoint file ---


def test_a_state_comes_back_with_its_bits_formats_and_keys(tmp_path):
    state = {
        "key": jax.random.split(jax.random.key(3, impl="rbg"), 2),
        "old key": jax.random.PRNGKey(1),
        "x": jnp.array([0.1, jnp.nan, -0.0, jnp.inf], jnp.float32),
        "i": (jnp.array(7), jnp.array(True), jnp.arange(3, dtype=jnp.uint8), jnp.bfloat16(1.5)),
        "none": None,
    }
    stored = Checkpoint({"seed": [1, 2]}, 5, ("a.nc",), 40, 1.5).with_state(state)
    save_checkpoint(stored, tmp_path / "checkpoint.npz")
    loaded = load_checkpoint(tmp_path / "checkpoint.npz")
    assert (loaded.fingerprint, loaded.done, loaded.pieces, loaded.work, loaded.seconds) == (
        {"seed": [1, 2]},
        5,
        ("a.nc",),
        40,
        1.5,
    )
    fresh = jax.tree.map(lambda v: v[::-1] if v.ndim else v, state)
    restored = loaded.restore(fresh)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    for one, other in zip(jax.tree.leaves(restored), jax.tree.leaves(state), strict=True):
        assert one.dtype == other.dtype
        if jax.dtypes.issubdtype(one.dtype, jax.dtypes.prng_key):
            one, other = jax.random.key_data(one), jax.random.key_data(other)
        assert np.asarray(one).tobytes() == np.asarray(other).tobytes()


@pytest.mark.parametrize("other", [(jnp.ones(3),), (jnp.ones(2), jnp.ones(2)), (jnp.ones(2, jnp.int32),)])
def test_the_state_of_another_kernel_is_refused(other):
    with pytest.raises(ValueError, match="state of another kernel or model"):
        Checkpoint({}).with_state((jnp.ones(2),)).restore(other)


@pytest.mark.parametrize("damage", ["half", "flipped", "empty", "text", "array", "archive", "format"])
def test_a_damaged_or_foreign_checkpoint_is_one_sentence(tmp_path, damage):
    path = tmp_path / "checkpoint.npz"
    save_checkpoint(Checkpoint({"seed": 1}).with_state((jnp.arange(100.0),)), path)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "array":
        np.save(path.with_suffix(".npy"), np.arange(3))
        path.with_suffix(".npy").rename(path)
    elif damage == "archive":
        np.savez(path, x=np.arange(3))
    elif damage == "format":
        with pytest.MonkeyPatch.context() as earlier:
            earlier.setattr("inference.runs.checkpoint._FORMAT", "mean-field-zoo checkpoint 1")
            save_checkpoint(Checkpoint({"seed": 1}), path)
    else:
        half = path.read_bytes()[: len(content) // 2]
        path.write_bytes({"half": half, "flipped": content, "empty": b"", "text": b"not ours"}[damage])
    with pytest.raises(
        ValueError, match=r"^checkpoint .* is damaged or not one of this project; delete .*\.$"
    ):
        load_checkpoint(path)


# --- what determines the draws ---


def test_kernels_are_told_apart_by_their_settings_alone(small_network):
    def nuts(**options):
        return describe_kernel(NUTS(small_network, **options))

    assert nuts() == nuts()
    assert nuts(max_tree_depth=8) != nuts()
    assert nuts(target_accept_prob=0.9) != nuts()
    assert nuts(inverse_mass_matrix=np.ones(3)) != nuts(inverse_mass_matrix=np.full(3, 2.0))
    schedules = [
        SGLD(step_size=lambda t, power=power: 1e-3 * (1 + t) ** power) for power in (-0.5, -0.3, -0.5)
    ]
    one, two, again = (describe_kernel(kernel) for kernel in schedules)
    assert one == again
    assert one != two


def test_values_are_described_without_addresses():
    class Rate:
        def __init__(self, start):
            self.start, self.decay = start, partial(pow, 0.5)

        def at(self, t):
            return [self.start * s for s in (lambda: (t,))()]

    assert describe_value(Rate(1.0).at) == describe_value(Rate(1.0).at)
    assert describe_value(Rate(1.0).at) != describe_value(Rate(2.0).at)
    assert "0x" not in str(describe_value({"a": Rate(1.0).at, "b": (Rate, {1, 2}, np.arange(3))}))
    keys = jax.random.key(0), jax.random.key(1), jax.random.key(0, impl="rbg")
    assert len({describe_value(key) for key in keys}) == 3
    assert len({fingerprint(rate) for rate in (lambda t: 0.1 / (1 + t), lambda t: 0.2 / (1 + t))}) == 2
    assert (
        fingerprint(jax.jit(Rate(1.0).at)) == fingerprint(Rate(1.0).at) != fingerprint(jax.jit(Rate(2.0).at))
    )
    optax_rate = optax.cosine_decay_schedule
    assert (
        fingerprint(optax_rate(0.1, 50))
        == fingerprint(optax_rate(0.1, 50))
        != fingerprint(optax_rate(0.1, 51))
    )


PRIOR = """
from dataclasses import dataclass
from models import Isotropic

@dataclass(frozen=True)
class Own(Isotropic):
    def factor(self):
        return {factor}

def schedule(t):
    return {factor}
"""


def test_an_edited_prior_or_schedule_is_another_one(tmp_path, monkeypatch):
    found = []
    for i, factor in enumerate((1.0, 2.0, 1.0)):
        (tmp_path / str(i)).mkdir()
        (tmp_path / str(i) / "own.py").write_text(PRIOR.format(factor=factor))
        with monkeypatch.context() as process:
            process.syspath_prepend(tmp_path / str(i))
            own = importlib.import_module("own")
            found.append(
                (fingerprint(TwoLayerNetwork(5, 8, 0.3, prior=own.Own())), fingerprint(own.schedule))
            )
            del sys.modules["own"]
    assert found[0] == found[2]
    assert found[0][0] != found[1][0]
    assert found[0][1] != found[1][1]


def test_what_no_other_process_could_recognise_is_refused_where_it_would_be_resumed(
    small_network, small_data, tmp_path
):
    kernel = SGLD(step_size=eval("lambda t: 1e-3 / (1 + t)"))  # as typed at a prompt
    with pytest.raises(
        ValueError, match=r"<lambda> cannot be recognised in another process.*without a folder\.$"
    ):
        sample(small_network, small_data, kernel, jax.random.key(0), **OPTIONS, folder=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []
    assert (
        sample(small_network, small_data, kernel, jax.random.key(0), **OPTIONS).posterior.sizes["draw"] == 6
    )


# --- the folder ---


def test_a_folder_ends_with_one_file_of_the_same_schema(run, finished):
    folder, tree = finished
    reference = run()
    assert [path.name for path in folder.iterdir()] == ["run.nc"]
    assert list(tree.children) == list(reference.children)
    for name, group in reference.children.items():
        xr.testing.assert_equal(tree[name].to_dataset(), group.to_dataset())
        assert {k: v.dtype for k, v in tree[name].items()} == {k: v.dtype for k, v in group.items()}
    for name, value in reference.attrs.items():
        assert type(tree.attrs[name]) is type(value)
        if name not in ("created_at", "wall_time_s"):
            assert tree.attrs[name] == value


def test_arrays_are_read_when_they_are_used(finished):
    tree = open_draws(finished[0] / "run.nc")
    assert not tree["posterior"].variables["w"]._in_memory
    assert tree["posterior"].w.isel(draw=[1]).shape[:2] == (2, 1)
    assert not tree["posterior"].variables["w"]._in_memory


def test_a_finished_run_is_returned_without_computing(run, finished, monkeypatch):
    folder, tree = finished
    monkeypatch.setattr("inference.sampling.CompiledChains", None)
    reports = []
    again = run(folder=folder, resume=True, progress=lambda *report: reports.append(report))
    xr.testing.assert_identical(again["posterior"].to_dataset(), tree["posterior"].to_dataset())
    assert reports == [(16, 16, "finished before")]


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({"seed": 8}, "seed"),
        ({"num_warmup": 5}, "settings.num_warmup"),
        ({"num_samples": 14}, "settings.num_samples"),
        ({"thinning": 3}, "settings.thinning"),
        ({"num_chains": 3}, "num_chains"),
        ({"start": "aligned"}, "settings.start"),
        ({"subsample_size": 5}, "settings.subsample_size"),
    ],
)
def test_another_run_is_not_resumed(run, finished, changed, named):
    with pytest.raises(ValueError, match=rf"holds a run with another {named}; resume it with what"):
        run(folder=finished[0], resume=True, **changed)


def test_another_network_kernel_or_data_is_not_resumed(small_network, small_data, finished):
    def resume(network=small_network, data=small_data, kernel=None):
        kernel = kernel or SGLD(step_size=1e-3)
        return sample(network, data, kernel, jax.random.key(7), **OPTIONS, folder=finished[0], resume=True)

    resume()
    x = small_data.x.copy()
    x[0, 0] *= -1
    others = {
        "network.kappa": {"network": TwoLayerNetwork(5, 8, 0.31)},
        "network.prior": {"network": TwoLayerNetwork(5, 8, 0.3, prior=ARD())},
        "data": {
            "data": Dataset.from_arrays(
                x, small_data.y, small_data.x_test, small_data.y_test, small_data.relevant
            )
        },
        "kernel": {"kernel": SGLD(step_size=1e-3, preconditioner="prior")},
        "platform.jax": {},
    }
    for named, arguments in others.items():
        with pytest.MonkeyPatch.context() as patch:
            if named == "platform.jax":
                patch.setattr("inference.runs.fingerprint.version", lambda name: "0.0.1")
            with pytest.raises(ValueError, match=f"another .*{named}"):
                resume(**arguments)


def test_a_folder_with_a_run_is_not_overwritten(run, finished):
    before = (finished[0] / "run.nc").read_bytes()
    with pytest.raises(ValueError, match=r"holds a run already; resume it, or choose another folder"):
        run(folder=finished[0])
    assert (finished[0] / "run.nc").read_bytes() == before


def test_resuming_a_run_in_memory_is_refused(run):
    with pytest.raises(ValueError, match="resume needs the folder"):
        run(resume=True)
    with pytest.raises(ValueError, match="checkpoint_every must be a finite number greater than 0"):
        run(checkpoint_every=0)


def test_resuming_an_empty_folder_begins(run, finished, tmp_path):
    tree = run(folder=tmp_path / "new", resume=True)
    np.testing.assert_array_equal(tree["posterior"].w, finished[1]["posterior"].w)


def test_a_result_of_something_else_is_not_resumed(run, tmp_path):
    (tmp_path / "run.nc").write_bytes(xr.DataTree().to_netcdf(engine="h5netcdf"))
    with pytest.raises(ValueError, match="does not say of which run it is the result"):
        run(folder=tmp_path, resume=True)


def test_two_processes_do_not_write_to_one_folder(run, tmp_path):
    with (
        open_run(tmp_path, {}, resume=False),
        pytest.raises(ValueError, match="being written by another process"),
    ):
        run(folder=tmp_path, resume=True)


def test_a_diverging_run_leaves_nothing(small_network, small_data, tmp_path):
    with pytest.raises(DivergenceError, match="smaller step_size"):
        sample(
            small_network,
            small_data,
            SGLD(step_size=10.0),
            jax.random.key(0),
            num_warmup=2000,
            num_samples=10,
            folder=tmp_path / "run",
            checkpoint_every=1e-3,
        )
    assert list(tmp_path.iterdir()) == []


# --- draw files ---


def pieces_of(tmp_path, count, draws=50):
    paths, rng = [], np.random.default_rng(0)
    for i in range(count):
        coords = {"chain": [0, 1], "draw": np.arange(i * draws, (i + 1) * draws)}
        w = xr.DataArray(rng.normal(size=(2, draws, 30)), coords, ("chain", "draw", "input"))
        flag = xr.DataArray(rng.random((2, draws)) < 0.5, coords, ("chain", "draw"))
        groups = {"posterior": xr.Dataset({"w": w}), "sample_stats": xr.Dataset({"flag": flag})}
        if i == 0:
            groups["constant_data"] = xr.Dataset({"x": ("data", np.arange(4))})
        tree = xr.DataTree.from_dict(groups)
        tree.attrs = {"piece": i, "text": "κ"}
        paths.append(tmp_path / f"draws-{i}.nc")
        save_piece(tree, paths[-1])
    return paths


def test_pieces_are_joined_along_the_draws(tmp_path):
    pieces = pieces_of(tmp_path, 3)
    join_pieces(pieces, tmp_path / "run.nc", {"fingerprint": "f"})
    with open_draws(tmp_path / "run.nc") as tree:
        parts = [xr.load_dataset(path, group="posterior", engine="h5netcdf") for path in pieces]
        xr.testing.assert_identical(tree["posterior"].to_dataset().load(), xr.concat(parts, "draw"))
        assert tree["sample_stats"].flag.dtype == bool
        assert tree["constant_data"].x.values.tolist() == [0, 1, 2, 3]
        assert tree.attrs == {"piece": 2, "text": "κ", "fingerprint": "f"}
    with h5netcdf.File(tmp_path / "run.nc") as file:
        assert file["posterior"]["w"].chunks is not None


def test_a_file_limit_while_joining_is_an_error_and_leaves_the_pieces(tmp_path):
    """A limit on the size of files stands in for a disk that fills up under HDF5."""
    pieces = pieces_of(tmp_path, 3)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (20_000, 50_000, 70_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OSError, match="File too large") as error:
                join_pieces(pieces, tmp_path / "run.nc")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert error.value.errno == errno.EFBIG
        assert sorted(tmp_path.iterdir()) == pieces
    join_pieces(pieces, tmp_path / "run.nc")
    assert open_draws(tmp_path / "run.nc")["posterior"].sizes["draw"] == 150
