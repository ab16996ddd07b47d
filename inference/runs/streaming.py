"""Run chains into a folder: draws to disk as they come, checkpoints in between, a clean stop at Ctrl-C."""

import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import jax
import numpy as np
import xarray as xr

from inference.runs.chains import CompiledChains, last_draw
from inference.runs.observables import observe
from inference.runs.progress import ProgressCallback, rate_text
from inference.runs.run_folder import RunFolder
from models import Dataset, TwoLayerNetwork

# Draws in memory before they go to disk, and of one compiled call: what bounds the memory of a run.
PIECE_BYTES = 8 * 2**20
CALL_BYTES = 4 * 2**20
# Seconds of one compiled call: often enough for Ctrl-C and a lively bar, rarely enough that leaving it is free.
_CALL_SECONDS = 1.0
# Draws observed at once. The shape is always the same, and a draw's place in it follows from its number, so that
# its observables have the same bits wherever a run was cut.
_BLOCK = 8


class Interrupted(KeyboardInterrupt):
    """A run was stopped by Ctrl-C after its last checkpoint had been written."""


def stream_chains(
    chains: CompiledChains,
    folder: RunFolder,
    build: Callable[..., xr.DataTree],
    *,
    num_warmup: int,
    num_draws: int,
    thinning: int,
    checkpoint_every: float,
    began: float,
    progress: ProgressCallback,
    status: Callable[[dict], str] | None = None,
) -> None:
    """Run `chains` from where `folder` is to their end; its ``run.nc`` then holds all draws.

    How many steps one compiled call takes follows the clock. This leaves no trace in the draws: the loop over
    steps is the same program however often it is left and entered again.

    Parameters
    ----------
    chains
        Chains in their initial state.
    folder
        The run's folder, new or begun.
    build
        ``build(sites, fields, first_draw, work, seconds)`` makes a tree of draws with leading dimensions (draw,
        chain).
    num_warmup, num_draws, thinning
        As for :func:`inference.runs.chains.run_chains`.
    checkpoint_every
        Seconds between checkpoints.
    began
        When this part of the run began, by ``time.perf_counter``, for the wall time.
    progress, status
        As for :func:`inference.runs.chains.run_chains`.

    Raises
    ------
    Interrupted
        After Ctrl-C; everything up to it has been saved.
    ValueError
        Where the folder cannot be written, or a chain diverges.
    """
    start, pending = folder.checkpoint, []
    if start.leaves is not None:
        chains.state = start.restore(chains.state)
    total = num_warmup + num_draws * thinning
    done, work, budget, text = start.done, start.work, 1, ""
    entered = saved = time.perf_counter()

    def save() -> None:
        nonlocal pending, saved
        seconds = start.seconds + time.perf_counter() - began
        tree = None
        if pending:
            sites, fields = jax.tree.map(lambda *parts: np.concatenate(parts), *pending)
            first = max(0, done - num_warmup) // thinning - len(next(iter(sites.values())))
            tree = build(sites, fields, first, work, seconds)
        checkpoint = replace(folder.checkpoint, done=done, work=work, seconds=seconds)
        folder.save(checkpoint.with_state(chains.state), tree)
        pending, saved = [], time.perf_counter()

    with _stop_request() as stop:
        while done < total:
            draws, steps, kept = next_call(done, budget, chains.capacity, num_warmup, num_draws, thinning)
            called = time.perf_counter()
            collected, evaluations = chains.advance(draws, steps)
            done, work = done + draws * steps, work + evaluations
            rate = draws * steps / (time.perf_counter() - called)
            budget = int(np.clip(rate * min(_CALL_SECONDS, checkpoint_every / 2), 1, 8 * budget))
            if kept:
                # A copy: what the compiled call returned is as large as its capacity.
                pending.append(jax.tree.map(np.copy, collected))
            full = sum(v.nbytes for v in jax.tree.leaves(pending)) >= PIECE_BYTES
            due = time.perf_counter() - saved >= checkpoint_every
            if full or due or done == total or stop.is_set():
                save()
            _stop_if(stop, folder, done, total)
            text = rate_text(done - start.done, time.perf_counter() - entered)
            text = text if status is None else f"{text} {status(last_draw(collected[0]))}"
            if done < total:  # the end is reported once the file is there
                try:
                    progress(done, total, text)
                except BaseException:  # whoever watches may call the run off
                    save()
                    raise

        def joining(count: int, pieces: int) -> None:
            _stop_if(stop, folder, done, total)
            progress(total - 1, total, f"writing run.nc: {count} of {pieces} pieces")

        stop.patient = True  # HDF5 must not be interrupted while it calls back for its file
        folder.finish(joining)
        _stop_if(stop, folder, done, total)
    progress(total, total, text)


def next_call(
    done: int, budget: int, capacity: int, num_warmup: int, num_draws: int, thinning: int
) -> tuple[int, int, bool]:
    """Draws and steps per draw of the next compiled call of about `budget` steps, and whether its draws are kept.

    Examples
    --------
    >>> next_call(done=90, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 10, False)
    >>> next_call(done=100, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (5, 10, True)
    >>> next_call(done=103, budget=50, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 7, True)
    >>> next_call(done=100, budget=4, capacity=8, num_warmup=100, num_draws=20, thinning=10)
    (1, 4, False)
    """
    if done < num_warmup:
        return 1, min(budget, num_warmup - done), False
    draw, within = divmod(done - num_warmup, thinning)
    if within or budget < thinning:
        steps = min(budget, thinning - within)
        return 1, steps, within + steps == thinning
    return min(budget // thinning, capacity, num_draws - draw), thinning, True


def observe_draws(network: TwoLayerNetwork, data: Dataset, sites: dict, first: int) -> dict[str, np.ndarray]:
    """Observables of draws (draw, chain, ...) that begin with number `first`, the same bits however they are cut."""
    sites = {name: sites[name] for name in ("w", "a", "b") if name in sites}
    count = len(sites["a"])
    before = first % _BLOCK
    padding = (before, -(before + count) % _BLOCK)
    padded = {k: np.pad(v, (padding, *[(0, 0)] * (v.ndim - 1)), mode="edge") for k, v in sites.items()}
    blocks = [
        observe(network, data, {k: v[begin : begin + _BLOCK] for k, v in padded.items()})
        for begin in range(0, before + count, _BLOCK)
    ]
    return jax.tree.map(lambda *parts: np.concatenate(parts)[before : before + count], *blocks)


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
