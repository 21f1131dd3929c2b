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

from penstock._kernel.loops import asyncio_tasks

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.alarms import Alarm
    from penstock._kernel.channel import ChannelCore
    from penstock._kernel.conveyor import Conveyor
    from penstock._kernel.interpreted import dict_get, lock_drop, lock_take
    from penstock._kernel.latch import Countdown
    from penstock._kernel.locks import MutexCore, RWMutexCore
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import FOREVER
    from penstock._kernel.seam import SEAM
    from penstock._kernel.shards import WAITING as WAITING_FOR_SHARDS
    from penstock._kernel.threads import WORKERS
    from penstock._kernel.timers import TIMERS
    from penstock._kernel.waiters import Node, Queue, Waiter


class Parked:
    """One parked operation."""

    __slots__ = ("cases", "deadline", "future", "operation", "places", "since", "thread", "waiter")

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
        self.cases: list[int] = []
        """For each of the places: the index of the case, in a select."""


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


def add_place(node: Node, parked: dict[Any, Parked]) -> None:
    """Note where `node` stands, if it stands in a queue and can fire."""
    try:
        source = node.source
    except AttributeError:  # Interpreted: another thread is making it.
        return
    if source is None:
        return
    waiter: Waiter | None = None
    lock_take(source._lock)
    if node.queue is not None and node.waiting():
        waiter = node.waiter
    lock_drop(source._lock)
    if waiter is None or not waiter.waiting():
        return
    operation = dict_get(parked, waiter, None)
    if operation is None:
        operation = parked[waiter] = parked_by(waiter)
    operation.places.append((source, node.kind))
    operation.cases.append(node.index)


def add_waiter(waiter: Waiter, parked: dict[Any, Parked]) -> None:
    try:
        waits = waiter.waiting()
    except AttributeError:  # As above.
        return
    if waits and waiter not in parked:
        parked[waiter] = parked_by(waiter)


def parked_operations() -> list[Parked]:
    """All parked operations of the process, those parked longest first."""
    parked: dict[Any, Parked] = {}
    for thing in gc.get_objects():
        if type(thing) is Node:
            add_place(thing, parked)
        elif isinstance(thing, Waiter):
            add_waiter(thing, parked)
    return sorted(parked.values(), key=_age)


def _age(parked: Parked) -> float:
    return parked.since


def still_parked(parked: Parked) -> bool:
    """Is it the same operation that is parked, and not decided?"""
    return waiter_waits(parked.waiter)


def waiter_waits(waiter: Waiter) -> bool:
    return waiter.waiting()


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


def name_of_channel(channel: ChannelCore) -> str | None:
    """The channel's name; nobody's code is called for it."""
    name: str | None = channel._name
    return name


def timer_of(alarm: Alarm) -> tuple[Any, float | None]:
    """The channel on which a timer or ticker sends, None if it is gone; and when it does so, None if it is stopped."""
    try:
        reference = alarm._channel
    except AttributeError:  # As above.
        return None, None
    channel = None if reference is None else reference()
    if channel is None:
        return None, None
    lock_take(channel._lock)
    armed = alarm._armed
    due = alarm._due
    lock_drop(channel._lock)
    return channel, due if armed else None


def registries() -> list[Any]:
    """The containers in which the kernel notes what there is, and which let nobody get at it."""
    return [WAITING_FOR_SHARDS, asyncio_tasks]


def roots() -> list[Any]:
    """What the kernel can get at by itself: jobs that threads are about to take, timers, and worlds."""
    return [WORKERS, TIMERS, SEAM]


# For the code above the kernel, which tells sources and the kernel's own objects apart.
KERNEL_TYPES: tuple[type, ...] = (Node, Queue, Waiter)
COUNTDOWN: type = Countdown
CONVEYOR: type = Conveyor
ALARM: type = Alarm
CHANNEL: type = ChannelCore
