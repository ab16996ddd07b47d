"""Where the cells of a sweep run: in this process, or on the workers of a Dask cluster.

Each engine is a generator of outcomes as they come; closing it stops what still runs.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import cloudpickle

from analysis.schemes.compare import sentence
from analysis.sweep.cells import Cell, Outcome

_DIED = "the process that ran the cell died (killed, perhaps for want of memory); use fewer workers."
# How long a cluster may take to answer, and then to have its first worker.
_PATIENCE_S = 30


def in_process(cells: Sequence[Cell], retries: int) -> Iterator[Outcome]:
    """One cell after the other in this process."""
    for cell in cells:
        for _ in range(retries + 1):
            try:
                outcome = Outcome(cell, cell.run())
                break
            except Exception as error:
                outcome = Outcome(cell, None, sentence(error))
        yield outcome


def on_workers(
    cells: Sequence[Cell], retries: int, workers: int | None = None, scheduler: str | None = None
) -> Iterator[Outcome]:
    """The workers of the Dask `scheduler` (``ValueError`` without one), or else `workers` processes."""
    local = scheduler is None
    workers = min(workers or cores(), len(cells))
    with _processes(workers) if local else _connected(scheduler) as client:
        yield from _run(client, cells, retries, at_once=workers if local else len(cells))


def _run(client, cells: Sequence[Cell], retries: int, at_once: int) -> Iterator[Outcome]:
    from distributed import KilledWorker, as_completed

    # No more cells than processes at once: Dask blames all that wait at a worker for its death.
    waiting, running, finished = deque((cell, 0) for cell in cells), {}, as_completed(loop=client.loop)

    def submit() -> None:
        cell, failures = waiting.popleft()
        # The key is the cell's own, so that two sweeps which share a cell compute it once.
        key = f"mfzoo-cell-{cell.fingerprint}" + (f"-retry-{failures}" if failures else "")
        future = client.submit(_run_pickled, _pickled(cell), key=key)
        running[future] = cell, failures
        finished.add(future)

    try:
        for _ in range(at_once):
            submit()
        for future in finished:
            cell, failures = running.pop(future)
            if future.status in ("cancelled", "lost"):
                raise ValueError(
                    f"scheduler {client.scheduler.address} was lost in mid-sweep; start it again and repeat the same "
                    "command with the same out, which keeps the finished cells."
                )
            error = future.exception()
            if error is not None and failures < retries:
                waiting.append((cell, failures + 1))
            elif error is not None:
                yield Outcome(cell, None, _DIED if isinstance(error, KilledWorker) else sentence(error))
            else:
                yield Outcome(cell, future.result())
            if waiting:
                submit()
    finally:
        # Also after Ctrl-C: cells that wait are withdrawn; one that runs ends there, unheard.
        if client.status == "running":
            client.cancel(list(running))


def cores() -> int:
    """Cores that this process may use."""
    return getattr(os, "process_cpu_count", os.cpu_count)() or 1


@contextmanager
def _processes(workers: int):
    """A client of `workers` new processes of this machine, which end with this one."""
    from distributed import Client, LocalCluster

    # XLA's CPU client makes this many threads; one per core in every process would be too many.
    threads = os.environ.get("NPROC", str(max(1, cores() // workers)))
    try:
        cluster = LocalCluster(
            n_workers=workers,
            threads_per_worker=1,
            memory_limit=0,
            dashboard_address=None,
            silence_logs=logging.CRITICAL,
            # A free port, also where another sweep runs.
            scheduler_kwargs={"allowed_failures": 0, "dashboard_address": ":0"},
            env={"NPROC": threads},
        )
    except RuntimeError as error:
        raise ValueError(
            f"workers: no process could be started ({error}); keep the call of sweep in a script below "
            "`if __name__ == '__main__':`, or give workers=0."
        ) from None
    with cluster, Client(cluster, set_as_default=False) as client:
        client.register_plugin(_ignore_interrupts())
        yield client


def _ignore_interrupts():
    from distributed import WorkerPlugin

    class IgnoreInterrupts(WorkerPlugin):
        """Ctrl-C reaches every process; the one that runs the sweep decides what it means."""

        def setup(self, worker):
            signal.signal(signal.SIGINT, signal.SIG_IGN)

    return IgnoreInterrupts()


@contextmanager
def _connected(address: str):
    """A client of the scheduler at `address`, which has a worker."""
    from distributed import Client

    try:
        client = Client(address, timeout=_PATIENCE_S, set_as_default=False)
    except (OSError, ValueError, TypeError):
        raise ValueError(
            f"scheduler must be the address of a Dask scheduler such as tcp://host:8786, but none answers at "
            f"{address!r}; start one with `dask scheduler`, or leave scheduler out."
        ) from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_PATIENCE_S)
        except TimeoutError:
            raise ValueError(
                f"scheduler {address} has no worker; start some with `dask worker {address} --nthreads 1`."
            ) from None
        yield client


def _pickled(cell: Cell) -> bytes:
    """`cell` with the classes that a user has declared in files that workers may lack."""
    classes = [kind for part in (*cell.network.priors, cell.teacher) for kind in type(part).__mro__]
    # A file loaded as a module is in no package nor in Python; cloudpickle cares for notebooks.
    names = {kind.__module__ for kind in classes} - set(sys.stdlib_module_names) - {"__main__"}
    files = [sys.modules[name] for name in names if "." not in name and name in sys.modules]
    for module in files:
        cloudpickle.register_pickle_by_value(module)
    try:
        return cloudpickle.dumps(cell)
    finally:
        for module in files:
            cloudpickle.unregister_pickle_by_value(module)


def _run_pickled(pickled: bytes) -> dict:
    """Run a cell in a worker; any failure as a ``ValueError``, which can travel."""
    try:
        cell = cloudpickle.loads(pickled)
    except ImportError as error:
        raise ValueError(
            f"the workers cannot load the prior or the teacher ({error}); declare it in one file without imports "
            "from its neighbours, or install the module on every worker."
        ) from None
    try:
        return cell.run()
    except Exception as error:
        raise ValueError(sentence(error)) from None
