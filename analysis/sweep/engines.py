"""Where the cells of a sweep run: in this process, in processes of this machine, or on a Dask cluster.

Each engine is a generator of outcomes in the order in which they come; closing it stops what still runs.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool

from analysis.sweep.cells import Cell, CellError, Outcome, attempt, sentence

_DIED = (
    "the process that ran the cell died (killed, perhaps for want of memory); use fewer workers, and keep the call "
    "of sweep in a script below `if __name__ == '__main__':`."
)
# How long a cluster may take to answer, and to have its first worker, before it counts as not there.
_PATIENCE_S = 30


def in_process(cells: Sequence[Cell], retries: int) -> Iterator[Outcome]:
    """One cell after the other in this process."""
    for cell in cells:
        outcome = None
        for _ in range(retries + 1):
            try:
                outcome = Outcome(cell, attempt(cell))
                break
            except CellError as error:
                outcome = Outcome(cell, None, str(error))
        yield outcome


def cores() -> int:
    """Cores that this process may use."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


class _Slot:
    """A pool of one process, so that a process that dies takes only its own cell with it."""

    def __init__(self, context, *initargs):
        self._make = lambda: ProcessPoolExecutor(
            1, mp_context=context, initializer=_stand_by, initargs=initargs
        )
        self._pool = self._make()

    def submit(self, cell: Cell) -> Future:
        try:
            return self._pool.submit(attempt, cell)
        except BrokenProcessPool:  # it died while it had nothing to do
            self.renew()
            return self._pool.submit(attempt, cell)

    def renew(self) -> None:
        self.close()
        self._pool = self._make()

    def close(self) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)


def _stand_by(lifeline, threads: int) -> None:
    """Prepare a worker process before JAX starts its threads in it."""
    # Ctrl-C reaches every process of the terminal; the one that runs the sweep decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # XLA's CPU client makes this many threads; with one per core in every process they would fight for the cores.
    os.environ.setdefault("NPROC", str(threads))

    def leave_with_parent():
        try:
            lifeline.recv()
        except EOFError:  # the parent closed its end, or is gone
            os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def local_processes(cells: Sequence[Cell], retries: int, workers: int) -> Iterator[Outcome]:
    """`workers` processes of this machine.

    They are spawned, not forked, since JAX's threads do not survive a fork. A cell whose process dies runs again
    in a new one, as often as one that fails.
    """
    context = multiprocessing.get_context("spawn")
    lifeline, parent_end = context.Pipe(duplex=False)
    workers = min(workers, len(cells))
    slots = [_Slot(context, lifeline, max(1, cores() // workers)) for _ in range(workers)]
    waiting = deque((cell, 0) for cell in cells)
    idle, running = list(slots), {}
    try:
        while waiting or running:
            while waiting and idle:
                slot, (cell, failures) = idle.pop(), waiting.popleft()
                running[slot.submit(cell)] = (slot, cell, failures)
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                slot, cell, failures = running.pop(future)
                try:
                    outcome = Outcome(cell, future.result())
                except CellError as error:
                    outcome = Outcome(cell, None, str(error))
                except BrokenProcessPool:
                    slot.renew()
                    outcome = Outcome(cell, None, _DIED)
                idle.append(slot)
                if outcome.figures is None and failures < retries:
                    waiting.append((cell, failures + 1))
                else:
                    yield outcome
    finally:
        parent_end.close()  # workers in the middle of a cell end at once
        for slot in slots:
            slot.close()
        lifeline.close()


def dask_cluster(cells: Sequence[Cell], retries: int, address: str) -> Iterator[Outcome]:
    """The workers of the Dask scheduler at `address`; the scheduler moves the cells of a worker that dies.

    Raises
    ------
    ValueError
        Without the package distributed, a scheduler that answers, or a worker; and when the scheduler is lost.
    """
    try:
        from distributed import Client, as_completed
    except ImportError:
        raise ValueError(
            "scheduler needs the package distributed; install it with pip install 'mean-field-zoo[cluster]', or "
            "leave scheduler out."
        ) from None
    client = _connect(Client, address)
    futures = {}
    try:
        for cell in cells:
            # The key is the cell's own, so that two sweeps which share a cell compute it once.
            future = client.submit(attempt, cell, key=f"mfzoo-cell-{cell.fingerprint}", retries=retries)
            futures[future] = cell
        for future in as_completed(list(futures), loop=client.loop):
            cell = futures.pop(future)
            if future.status in ("cancelled", "lost"):
                raise ValueError(
                    f"scheduler {address} was lost in mid-sweep; start it again and repeat the same command with "
                    "the same out, which keeps the finished cells."
                )
            error = future.exception()
            yield Outcome(cell, future.result()) if error is None else Outcome(cell, None, sentence(error))
    finally:
        # Also after Ctrl-C: cells that wait are withdrawn; one that runs ends on its worker, unheard.
        if client.status == "running":
            client.cancel(list(futures))
        client.close()


def _connect(client_class, address: str):
    try:
        client = client_class(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"scheduler must be the address of a Dask scheduler such as tcp://host:8786, but none answers at "
            f"{address!r}; start one with `dask scheduler`, or leave scheduler out."
        ) from None
    try:
        client.wait_for_workers(1, timeout=_PATIENCE_S)
    except TimeoutError:
        client.close()
        raise ValueError(
            f"scheduler {address} has no worker; start some with `dask worker {address} --nthreads 1`."
        ) from None
    return client
