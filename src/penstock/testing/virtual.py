"""Virtual time: a test of an hour's timeout takes a millisecond."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock._kernel.foreign_time import virtualize
from penstock._kernel.loops import main_task, running_event_loop
from penstock._kernel.simulation import simulated
from penstock._kernel.virtual import VirtualWorld
from penstock._kernel.virtual_loop import virtualize_loops
from penstock.deadlock.asleep import deadlock_error, fail_awaited
from penstock.group import go
from penstock.sync import Mutex

if TYPE_CHECKING:
    from collections.abc import Iterator

_ONE_AT_A_TIME = Mutex()


class VirtualClock:
    """The clock of `virtual_time`."""

    def __init__(self, world: VirtualWorld) -> None:
        self._world = world

    @property
    def elapsed(self) -> float:
        """The virtual seconds since the beginning of the block. Whole seconds that tasks sleep add up exactly."""
        return self._world.elapsed()

    def __repr__(self) -> str:
        return f"<VirtualClock {self.elapsed:.6g} s after its beginning>"


@contextmanager
def virtual_time() -> Iterator[VirtualClock]:
    """In the block, time stands still while any task is at work, and jumps to what is due next when all are parked.

    This holds for the calling thread, for all tasks and threads that are started from there (by the library,
    `threading.Thread`, executors, `asyncio.to_thread`), and for asyncio's event loops that run in them: for everything
    in the library that waits or has a deadline, for `asyncio.sleep`, `asyncio.timeout` and timers of loops, for
    `time.sleep` and `time.monotonic` where they are called by these names. Other threads stay in real time.

    A task is parked in an operation of the library, in `time.sleep`, in a loop that has nothing to do, or while it
    waits without a timeout for another thread (`Thread.join`, `Future.result`, `Event.wait`, `Condition.wait`). One
    that does something else, waits for a socket, say, is at work. A loop that waits for files or sockets is parked once
    they have brought nothing for 50 ms of real time.

    Where nothing is left that could happen, `DeadlockError`, with a report, is raised in what began the block; after a
    second of real time, in which no other thread has moved.

    After the block, what is left goes on in real time. RuntimeError if another thread is in such a block, or if this is
    an explored scenario, which has a clock of its own; and where a context, a timeout or a timer is used in an event
    loop that is not asyncio's own, such as uvloop.
    """
    if simulated.world() is not None:
        raise RuntimeError(
            "virtual_time() inside virtual_time(), or in an explored scenario: the clock is virtual already"
        )
    if not _ONE_AT_A_TIME.try_acquire():
        raise RuntimeError("virtual_time() in two threads at a time; it is one clock for what one of them starts")
    try:
        world = VirtualWorld(_tell_deadlock)
        world.begin()
        try:
            world.at_end += [virtualize(_world_here), virtualize_loops(_world_here)]
            yield VirtualClock(world)
        finally:
            world.end()
    finally:
        _ONE_AT_A_TIME.release()


def _world_here() -> VirtualWorld | None:
    world = simulated.world()
    return world if isinstance(world, VirtualWorld) else None


def _tell_deadlock(world: VirtualWorld) -> None:
    """Raise `DeadlockError` in the thread that began, or print it if nothing can be raised there."""
    error = deadlock_error()
    loop = world.owners_loop()
    task = None if loop is None else main_task(loop)
    if world.fail_owner(error):
        return
    if loop is not None and task is not None:
        loop.call_soon_threadsafe(fail_awaited, task, error)
    else:
        sys.stderr.write(f"penstock: {error}\n")


def settled() -> None:
    """Park the calling task until every other task is parked; the clock does not move before it goes on.

    In `virtual_time`, where tasks of other threads are meant too, and in explored scenarios. RuntimeError elsewhere:
    nobody knows there what is still to come.
    """
    world = simulated.world()
    if world is None:
        raise RuntimeError("settled() is for tasks in virtual_time(), and for explored scenarios")
    if running_event_loop() is not None:
        raise RuntimeError("settled() would block the event loop; use 'await asettled()'")
    world.settle()


async def asettled() -> None:
    """As `settled`, in an asyncio task."""
    if simulated.world() is None:
        raise RuntimeError("asettled() is for tasks in virtual_time(), and for explored scenarios")
    await go(settled).aresult()
