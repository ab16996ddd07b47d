"""Run chains into a folder: draws to disk as they come, checkpoints, a clean stop at Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np
import xarray as xr

from inference.runs import chains as calls
from inference.runs.chains import CompiledChains, current_text
from inference.runs.progress import ProgressCallback
from inference.runs.run_folder import RunFolder

# Of draws in memory before they go to disk; this bounds the memory of a run.
PIECE_BYTES = 8 * 2**20


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C after its last checkpoint had been written."""


def stream_chains(
    chains: CompiledChains,
    folder: RunFolder,
    build: Callable[..., xr.DataTree],
    checkpoint_every: float,
    began: float,
    progress: ProgressCallback,
    status: Callable[[dict], str] | None,
) -> None:
    """Run `chains`, in their initial state, from where `folder` is to their end: to its ``run.nc``.

    ``build(sites, fields, first_draw, work, seconds)`` makes a tree of draws (draw, chain, ...);
    this part of the run `began` at that ``time.perf_counter``; `progress` and `status` are as for
    :func:`inference.runs.chains.run_chains`. :class:`Interrupted` comes after Ctrl-C, with all
    saved, ``ValueError`` where the folder cannot be written or a chain diverges.
    """
    start, pending, text = folder.checkpoint, [], ""
    if start.leaves:
        chains.state = start.restore(chains.state)
    total, done, work = chains.num_steps, start.done, start.work
    entered = saved = time.perf_counter()

    def save() -> None:
        nonlocal pending, saved
        seconds = start.seconds + time.perf_counter() - began
        tree = None
        if pending:
            sites, fields = jax.tree.map(lambda *parts: np.concatenate(parts), *pending)
            first = max(0, done - chains.num_warmup) // chains.thinning - len(next(iter(sites.values())))
            tree = build(sites, fields, first, work, seconds)
        checkpoint = replace(folder.checkpoint, done=done, work=work, seconds=seconds)
        folder.save(checkpoint.with_state(chains.state), tree)
        pending, saved = [], time.perf_counter()

    def joining(count: int, pieces: int) -> None:
        _stop_if(stop, folder, done, total)
        progress(total - 1, total, f"writing run.nc: {count} of {pieces} pieces")

    with _stop_request() as stop:
        seconds = min(calls.CALL_SECONDS, checkpoint_every / 2)
        for done, collected, is_draw, evaluations in chains.calls(start.done, seconds):
            work += evaluations
            if is_draw:
                pending.append(collected)
            full = sum(v.nbytes for v in jax.tree.leaves(pending)) >= PIECE_BYTES
            due = time.perf_counter() - saved >= checkpoint_every
            if full or due or done == total or stop.is_set():
                save()
            _stop_if(stop, folder, done, total)
            text = current_text(done - start.done, entered, collected[0], status)
            if done < total:  # the end is reported once the file is there
                try:
                    progress(done, total, text)
                except BaseException:  # whoever watches may call the run off
                    save()
                    raise
        stop.patient = True  # HDF5 must not be interrupted while it writes
        folder.finish(joining)
        _stop_if(stop, folder, done, total)
    progress(total, total, text)


class _Stop(threading.Event):
    """Set by the first Ctrl-C; a second one interrupts at once, unless `patient`."""

    patient = False

    def request(self, number, frame) -> None:
        if self.is_set() and not self.patient:
            raise KeyboardInterrupt
        self.set()


@contextmanager
def _stop_request() -> Iterator[_Stop]:
    """Turn Ctrl-C into a request while the block runs."""
    stop = _Stop()
    # Signals reach the main thread only; a handler of the caller's own stays in charge.
    if (
        threading.current_thread() is not threading.main_thread()
        or signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    ):
        yield stop
        return
    signal.signal(signal.SIGINT, stop.request)
    try:
        yield stop
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _stop_if(stop: _Stop, folder: RunFolder, done: int, total: int) -> None:
    if stop.is_set():
        raise Interrupted(
            f"stopped after {done} of {total} steps, which are saved in {str(folder.path)!r}; resume to go on."
        )
