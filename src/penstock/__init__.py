"""Go's concurrency patterns for Python, shared by threads and asyncio tasks.

    channel     Channel, select: passing values between tasks
    context     Context, scopes: cancellation, deadlines and values
    group       Group, Task, go: starting tasks and waiting for them
    sync        Mutex, RWMutex, Semaphore, Condition, WaitGroup, Once
    time        sleep, after, tick, Timer, Ticker
    patterns    done, fan, sharding, bounded, stream, backpressure
    errors      what is raised, beside the built-in errors
    _kernel     the only code that locks, parks or wakes; the rest composes it

Every operation that can wait exists twice: `name` parks the calling thread, `await aname` suspends the calling asyncio
task (`wait` has `wait_async`).
"""

from __future__ import annotations

from penstock._kernel.threads import look_out
from penstock._kernel.waiters import COMPILED
from penstock.channel import (
    Channel,
    ChannelStatistics,
    RecvChannel,
    Selected,
    SendCase,
    SendChannel,
    aselect,
    select,
)
from penstock.context import Context, cancel_scope, current, fail_after, move_on_after
from penstock.errors import Cancelled, ChannelClosed, DeadlineExceeded, DeadlockError, OutOfCapacity, WouldBlock
from penstock.group import Group, Task, go
from penstock.patterns.backpressure import AIMD, Gradient2, Permit, PressureGauge, Vegas
from penstock.patterns.bounded import afor_each, apmap, for_each, pmap
from penstock.patterns.done import acall, afirst, call, first
from penstock.patterns.fan import broadcast, fan_in, fan_out
from penstock.patterns.sharding import ShardedMap
from penstock.patterns.stream import Stream
from penstock.sync import Condition, Mutex, Once, RWMutex, Semaphore, WaitGroup, aonce_value, once_value
from penstock.time import Ticker, Timer, after, asleep, sleep, tick

__version__ = "0.1.0"


def _look(slept: float) -> float | BaseException:
    """For the main thread while it is parked for long: is anybody left who could wake it?"""
    from penstock.deadlock.asleep import look_from_main

    return look_from_main(slept)


look_out(_look)

__all__ = [
    "AIMD",
    "COMPILED",
    "Cancelled",
    "Channel",
    "ChannelClosed",
    "ChannelStatistics",
    "Condition",
    "Context",
    "DeadlineExceeded",
    "DeadlockError",
    "Gradient2",
    "Group",
    "Mutex",
    "Once",
    "OutOfCapacity",
    "Permit",
    "PressureGauge",
    "RWMutex",
    "RecvChannel",
    "Selected",
    "Semaphore",
    "SendCase",
    "SendChannel",
    "ShardedMap",
    "Stream",
    "Task",
    "Ticker",
    "Timer",
    "Vegas",
    "WaitGroup",
    "WouldBlock",
    "acall",
    "afirst",
    "afor_each",
    "after",
    "aonce_value",
    "apmap",
    "aselect",
    "asleep",
    "broadcast",
    "call",
    "cancel_scope",
    "current",
    "fail_after",
    "fan_in",
    "fan_out",
    "first",
    "for_each",
    "go",
    "move_on_after",
    "once_value",
    "pmap",
    "select",
    "sleep",
    "tick",
]
