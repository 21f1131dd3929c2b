"""What several kernels of races share. It stands apart from them: no switch between its lines is of interest."""

from __future__ import annotations

from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from kernels.goroutines import go

from penstock import Channel, Mutex, WaitGroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager


def lock_if(fixed: bool) -> AbstractContextManager[Any]:
    """What the fixed form locks and the other does not."""
    return Mutex() if fixed else nullcontext()


def in_tasks(*functions: Callable[[], object]) -> None:
    """Run each in a task that one task starts, and wait for all of them."""

    def start() -> None:
        for function in functions:
            go(run, function)
        running.done()

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        finally:
            running.done()

    running = WaitGroup()
    running.add(1 + len(functions))
    go(start)
    running.wait()


def parallel(workers: int, pieces: int, work: Callable[[int], None]) -> None:
    """Share pieces of work out to tasks, and wait for them."""

    def run() -> None:
        try:
            for piece in to_do:
                work(piece)
        finally:
            running.done()

    to_do: Channel[int] = Channel(pieces)
    for piece in range(pieces):
        to_do.send(piece)
    to_do.close()
    running = WaitGroup()
    running.add(workers)
    for _ in range(workers):
        go(run)
    running.wait()
