"""Checkpoints: the whole state of a run between two compiled calls, in one file without pickles."""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from inference.runs.atomic import replace_file

_FORMAT = "mean-field-zoo checkpoint 2"


@dataclass(frozen=True)
class Checkpoint:
    """How far a run is, and the kernel state from which it goes on."""

    fingerprint: dict  # what determines the draws, JSON-able
    done: int = 0  # steps of each chain so far, warm-up included
    pieces: tuple[str, ...] = ()  # names of the draw files that are valid, in order
    work: int = 0  # gradient evaluations so far, over all chains
    seconds: float = 0.0  # wall time so far
    leaves: tuple[np.ndarray, ...] = ()  # of the kernel state, keys as their data; none at first

    def with_state(self, state) -> "Checkpoint":
        """This checkpoint with the leaves of `state`."""
        return replace(self, leaves=tuple(np.asarray(_data(v)) for v in jax.tree.leaves(state)))

    def restore(self, state):
        """The stored state in the structure of the freshly initialised `state` of the same kernel.

        ``ValueError`` where number, shapes or number formats of the leaves differ.
        """
        template, structure = jax.tree.flatten(state)
        like = [jnp.asarray(_data(v)) for v in template]
        if [(v.shape, v.dtype) for v in like] != [(v.shape, v.dtype) for v in self.leaves]:
            raise ValueError(
                "checkpoint holds the state of another kernel or model; resume with those it was begun with."
            )
        leaves = [
            jax.random.wrap_key_data(v, impl=jax.random.key_impl(t)) if _is_key(t) else v
            for v, t in zip(map(jnp.asarray, self.leaves), template, strict=True)
        ]
        return jax.tree.unflatten(structure, leaves)


def save_checkpoint(checkpoint: Checkpoint, path: Path) -> None:
    """Write a checkpoint, whole or not at all; ``OSError`` where it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save_checkpoint(Checkpoint({"seed": 1}, done=3).with_state((jnp.ones(2),)), Path(folder) / "c.npz")
    ...     load_checkpoint(Path(folder) / "c.npz").done
    3
    """
    plain = {**asdict(replace(checkpoint, leaves=())), "format": _FORMAT}
    # NumPy stores its own formats; others, such as bfloat16, come back as nameless bytes.
    plain["dtypes"] = [leaf.dtype.name for leaf in checkpoint.leaves]
    arrays = {f"leaf{i:04d}": leaf for i, leaf in enumerate(checkpoint.leaves)}

    def write(temporary: Path) -> None:
        with temporary.open("wb") as file:
            np.savez(file, header=np.array(json.dumps(plain)), **arrays)

    replace_file(path, write)


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint; ``ValueError`` for a file that is cut short or not one."""
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            plain = json.loads(str(file["header"]))
            formats = enumerate(map(jnp.dtype, plain.pop("dtypes")))
            leaves = tuple(file[f"leaf{i:04d}"].view(dtype) for i, dtype in formats)
        if plain.pop("format") != _FORMAT:
            raise ValueError("another format")
        return Checkpoint(**{**plain, "pieces": tuple(plain["pieces"]), "leaves": leaves})
    except Exception:  # of the archive, the arrays or their names: a dozen kinds
        raise ValueError(
            f"checkpoint {str(path)!r} is damaged or not one of this project; delete its folder and start again."
        ) from None


def _data(leaf):
    return jax.random.key_data(leaf) if _is_key(leaf) else leaf


def _is_key(leaf) -> bool:
    return isinstance(leaf, jax.Array) and jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
