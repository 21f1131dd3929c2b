"""The seam between the library and the world: time, chance, waiting, and the start of threads.

Everything that parks, wakes, looks at the clock, starts a thread or chooses at random goes through `SEAM.runtime`. The
real runtime is in `threads.py`; simulated time, exploration of schedules and inspection are other runtimes, installed
in its place. `Waiter.park` and `Waiter.wake` are the other half of the seam: a runtime hands out its own waiters.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.waiters import Waiter


class Interruption:
    """Interrupts one asynchronous task, whatever it awaits, when the scope that it is in ends."""

    __slots__ = ()

    def interrupt(self) -> None:
        """The scope has ended. Called in any thread."""
        raise NotImplementedError

    def shown(self) -> None:
        """`Cancelled` is about to be raised. If it is in this task, no interruption is needed."""
        raise NotImplementedError

    def leave(self, error: BaseException | None) -> bool:
        """The task leaves the scope with `error`. True if that is the interruption delivered here, and nothing else."""
        raise NotImplementedError

    def interrupts(self, number: int) -> bool:
        """Does it interrupt the asyncio task with that `id`?"""
        raise NotImplementedError

    def unnoticed(self) -> bool:
        """After `leave`: is the interruption, requested before, still pending? The next await would raise it."""
        raise NotImplementedError

    async def absorb(self) -> None:
        """Let the pending request end here."""
        raise NotImplementedError


class Runtime:
    """What the kernel asks of the world."""

    __slots__ = ()

    def monotonic(self) -> float:
        """Seconds, on the clock of all deadlines."""
        raise NotImplementedError

    def thread_waiter(self, operation: str, instead: str) -> Waiter:
        """A waiter for the calling thread.

        RuntimeError, naming what to await `instead`, if the thread must not park, since it runs an event loop. Where
        that is empty the wait is a short one, which a loop bears.
        """
        raise NotImplementedError

    def task_waiter(self) -> Waiter:
        """An awaitable waiter for the running asynchronous task; RuntimeError if there is none."""
        raise NotImplementedError

    def interruption(self, scope: Any) -> Interruption:
        """What can interrupt the running asynchronous task; RuntimeError if there is none."""
        raise NotImplementedError

    def start(self, function: Callable[[], object]) -> None:
        """Call `function` in a thread of its own, soon."""
        raise NotImplementedError

    def arm(self, timer: Any, deadline: float) -> None:
        """Let the `Timer` expire at `deadline`; if it is armed already, at `deadline` instead."""
        raise NotImplementedError

    def disarm(self, timer: Any) -> bool:
        """Forget the `Timer`. False if it was not armed."""
        raise NotImplementedError

    def give_way(self) -> None:
        """The calling thread sleeps for no time at all: another may go first."""
        raise NotImplementedError

    def choose(self, n: int) -> int:
        """One of range(n), uniformly."""
        raise NotImplementedError


class Seam:
    """Holds the runtime in use."""

    __slots__ = ("runtime", "select_watcher")

    def __init__(self) -> None:
        self.runtime = Runtime()
        self.select_watcher: Any = None
        """Called in place of `select`, with what does it, the cases, the timeout and whether there is a default."""


SEAM = Seam()
