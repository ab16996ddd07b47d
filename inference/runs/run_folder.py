"""A run in a folder: what is there, who may write to it, and how it goes on after a stop.

While a run goes on its folder holds ``checkpoint.npz`` and ``draws/draws-BEGIN-END.nc``; at its end
these become one ``run.nc``. Draw files count only if the checkpoint names them.
"""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path

import h5netcdf
import xarray as xr

from inference.runs.atomic import TEMPORARY, reason
from inference.runs.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from inference.runs.draw_files import join_pieces, open_draws, save_piece
from inference.runs.fingerprint import differences

try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

RUN, CHECKPOINT, DRAWS = "run.nc", "checkpoint.npz", "draws"


def holds_run(folder: str | Path) -> bool:
    """Whether a run was begun or finished in `folder`."""
    return any((Path(folder) / name).exists() for name in (RUN, CHECKPOINT))


def refuse_existing_run(folder: str | Path) -> None:
    """``ValueError`` where `folder` holds a run, which must not be overwritten."""
    if holds_run(folder):
        raise ValueError(f"folder {str(folder)!r} holds a run already; resume it, or choose another folder.")


class RunFolder:
    """A folder with a run in it, from :func:`open_run`; ``checkpoint`` is the last one written."""

    def __init__(self, path: Path, fingerprint: dict, resume: bool):
        self.path = path
        if not resume:
            refuse_existing_run(path)
        self.checkpoint = Checkpoint(fingerprint)
        if self.finished:
            with self.result() as tree:
                self._require(fingerprint, json.loads(tree.attrs.get("fingerprint", "null")))
            self._clean_up()
        elif (path / CHECKPOINT).exists():
            self.checkpoint = load_checkpoint(path / CHECKPOINT)
            self._require(fingerprint, self.checkpoint.fingerprint)
            for piece in self.pieces:
                _check_piece(piece)
            self._remove_strays()
        else:
            self.save(self.checkpoint)

    @property
    def finished(self) -> bool:
        """Whether ``run.nc`` is there."""
        return (self.path / RUN).exists()

    @property
    def pieces(self) -> list[Path]:
        """The valid draw files in order."""
        return [self.path / DRAWS / name for name in self.checkpoint.pieces]

    def save(self, checkpoint: Checkpoint, tree: xr.DataTree | None = None) -> None:
        """Write the draws in `tree`, if any are new, then the checkpoint that counts them.

        ``ValueError`` where they cannot be written; what was written before stays valid.
        """
        with _writing(self.path):
            if tree is not None:
                if checkpoint.pieces:  # data and test inputs stand in the first file
                    groups = {name: g for name, g in tree.children.items() if "draw" in g.dims}
                    attributes, tree = tree.attrs, xr.DataTree.from_dict(groups)
                    tree.attrs = attributes
                draw = tree["posterior"].draw.to_numpy()
                name = f"draws-{draw[0]:09d}-{draw[-1] + 1:09d}.nc"
                save_piece(tree, self.path / DRAWS / name)
                checkpoint = replace(checkpoint, pieces=(*checkpoint.pieces, name))
            save_checkpoint(checkpoint, self.path / CHECKPOINT)
        self.checkpoint = checkpoint

    def finish(self, report=lambda done, total: None) -> None:
        """Put the draws together in ``run.nc`` and remove the rest; `report` counts draw files."""
        extra = {"fingerprint": json.dumps(self.checkpoint.fingerprint)}
        with _writing(self.path):
            join_pieces(self.pieces, self.path / RUN, extra, report)
        self._clean_up()

    def result(self) -> xr.DataTree:
        """The finished run, read from its file when used."""
        return open_draws(self.path / RUN)

    def abandon(self) -> None:
        """Remove the traces of a run that cannot go on, unless it has draws."""
        if not (self.checkpoint.pieces or self.finished):
            self._clean_up()
            with suppress(OSError):
                self.path.rmdir()  # only where nothing else is in it

    def _require(self, here: dict, there: dict | None) -> None:
        if there is None:
            raise ValueError(
                f"run file {str(self.path / RUN)!r} does not say of which run it is the result; "
                "choose another folder."
            )
        found = differences(here, there)
        if found:
            raise ValueError(
                f"folder {str(self.path)!r} holds a run with another {', '.join(found)}; resume it with what it was "
                "begun with, or choose another folder."
            )

    def _remove_strays(self) -> None:
        """Remove draw files that no checkpoint came to name, and files that were being written."""
        drawn = self.path / DRAWS
        unnamed = (path for path in drawn.glob("draws-*-*.nc") if path not in self.pieces)
        for path in [*self.path.glob(TEMPORARY + "*"), *drawn.glob(TEMPORARY + "*"), *unnamed]:
            path.unlink()

    def _clean_up(self) -> None:
        # The checkpoint last: as long as it is there the draw files are known to be the run's.
        self.checkpoint = replace(self.checkpoint, pieces=())
        self._remove_strays()
        with suppress(OSError):
            (self.path / DRAWS).rmdir()
        (self.path / CHECKPOINT).unlink(missing_ok=True)


@contextmanager
def open_run(folder: str | Path, fingerprint: dict, *, resume: bool) -> Iterator[RunFolder]:
    """The run in `folder`, begun or found there, which no other process writes to in the meantime.

    ``ValueError`` for a folder with a run, unless `resume`; for a run with another `fingerprint`;
    for files that are damaged, that cannot be written, or that another process is writing.
    """
    path = Path(folder)
    with _writing(path):
        path.mkdir(parents=True, exist_ok=True)
    with _locked(path):
        yield RunFolder(path, json.loads(json.dumps(fingerprint, default=str)), resume)


def _check_piece(path: Path) -> None:
    begin, end = map(int, path.stem.split("-")[1:])
    try:
        with h5netcdf.File(path, "r") as file:
            complete = file["posterior"].dimensions["draw"].size == end - begin
    except (OSError, KeyError, ValueError):
        complete = False
    if not complete:
        raise ValueError(f"draw file {str(path)!r} is missing or damaged; delete the folder and start again.")


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ValueError(
            f"folder: cannot write to {str(path)!r} ({reason(error)}); free some space (or get permission to write "
            "there) and resume the run, whose draws up to the last checkpoint are kept."
        ) from None


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    if fcntl is None:
        yield
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ValueError(
                f"folder {str(path)!r} is being written by another process; wait for it or choose another folder."
            ) from None
        except OSError:
            pass  # some network file systems have no locks
        yield
    finally:
        os.close(handle)
