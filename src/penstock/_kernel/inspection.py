"""Looking at what is parked, from outside: for reports, and to find what will never be woken.

Nobody registers what is parked, so that parking costs nothing for it: the garbage collector knows all waiters and all
nodes.

Invariants
  I1. A node's queue and waiter are read under its source's lock, under which they change while it stands in a queue.
      What a waiter is born with (thread, future) and what is noted before it sleeps is read without.
  I2. What is seen of tasks that run meanwhile may be out of date at once. What is parked for ever is not.
"""

from __future__ import annotations

import gc
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import WAITING, atomic_load, lock_drop, lock_take
    from penstock._kernel.latch import Countdown
    from penstock._kernel.locks import MutexCore, RWMutexCore
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import FOREVER
    from penstock._kernel.waiters import Node, Queue, Source, Waiter


class Parked:
    """One parked operation."""

    __slots__ = ("deadline", "future", "operation", "places", "since", "thread", "waiter")

    def __init__(self) -> None:
        self.waiter: Any = None
        self.operation = ""
        """Its name, as in an error message."""
        self.since = 0.0
        """When it was parked, on the clock of all deadlines."""
        self.deadline: float | None = None
        """When it times out."""
        self.thread = 0
        """The thread that is parked, or that runs the loop of the asyncio task that is."""
        self.future: Any = None
        """For an asyncio task: the future that it awaits."""
        self.places: list[tuple[Any, int]] = []
        """What it waits for, and as what: a source, its ambient scope among them, and the kind of node there."""


def parked_by(waiter: Waiter) -> Parked:
    parked = Parked()
    parked.waiter = waiter
    parked.operation = waiter._operation
    parked.since = waiter._since
    parked.deadline = None if waiter._deadline == FOREVER else waiter._deadline
    parked.thread = waiter._ident
    if isinstance(waiter, TaskWaiter):
        task_waiter = waiter
        parked.future = task_waiter.future
    return parked


def is_waiting(waiter: Waiter) -> bool:
    """Is it parked, or about to be, in an operation that has not been decided?"""
    return waiter._operation is not None and atomic_load(waiter._state) == WAITING


def add_place(node: Node, parked: dict[Any, Parked]) -> None:
    """Note where `node` stands, if it stands in a queue and can fire."""
    source = node.source
    if source is None:
        return
    waiter: Waiter | None = None
    lock_take(source._lock)
    if node.queue is not None and node.waiting():
        waiter = node.waiter
    lock_drop(source._lock)
    if waiter is None or not is_waiting(waiter):
        return
    operation = parked.get(waiter)
    if operation is None:
        operation = parked[waiter] = parked_by(waiter)
    operation.places.append((source, node.kind))


def parked_operations() -> list[Parked]:
    """All parked operations of the process, those parked longest first."""
    parked: dict[Any, Parked] = {}
    for thing in gc.get_objects():
        if type(thing) is Node:
            add_place(thing, parked)
        elif isinstance(thing, Waiter) and is_waiting(thing) and thing not in parked:
            parked[thing] = parked_by(thing)
    return sorted(parked.values(), key=_age)


def _age(parked: Parked) -> float:
    return parked.since


def still_parked(parked: Parked) -> bool:
    """Is it the same operation that is parked, and not decided?"""
    return is_waiting(parked.waiter)


def fail(parked: Parked, error: BaseException) -> bool:
    """Let the parked operation raise `error`, as if it had been cancelled. False: it was decided already."""
    return fail_waiter(parked.waiter, error)


def fail_waiter(waiter: Waiter, error: BaseException) -> bool:
    if not waiter.fail(error):
        return False
    waiter.wake()
    return True


def holder_of(source: Any) -> int | None:
    """The thread that locked a mutex, or was admitted to a read/write mutex, last; None if nobody holds it."""
    if isinstance(source, MutexCore):
        return mutex_holder(source)
    if isinstance(source, RWMutexCore):
        return rwmutex_holder(source)
    return None


def mutex_holder(mutex: MutexCore) -> int | None:
    lock_take(mutex._lock)
    held = mutex._locked
    holder = mutex._holder
    lock_drop(mutex._lock)
    return holder if held else None


def rwmutex_holder(mutex: RWMutexCore) -> int | None:
    lock_take(mutex._lock)
    held = mutex._writing or mutex._readers > 0
    holder = mutex._holder
    lock_drop(mutex._lock)
    return holder if held else None


# For the code above the kernel, which tells sources and the kernel's own objects apart.
KERNEL_TYPES: tuple[type, ...] = (Node, Queue, Waiter)
COUNTDOWN: type = Countdown
SOURCE: type = Source
