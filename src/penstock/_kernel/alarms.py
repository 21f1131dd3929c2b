"""The clock as a source: alarms that send the time on a channel, and sleeping.

Invariants
  A1. An alarm's state is guarded by its channel's lock, under which it also sends. Once `stop` or `start` has returned,
      no value of before can be received (as Go's timers since 1.23): both take out what the channel holds.
  A2. What the timer service knows of an alarm is its state: whoever changes the state tells the service after the lock
      has been released, and again if it was changed meanwhile.
  A3. An alarm refers to its channel weakly: where nobody could receive, there is no alarm.
"""

from __future__ import annotations

import weakref
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.channel import CLOSED, EMPTY, ChannelCore
    from penstock._kernel.interpreted import lock_drop, lock_take
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.timers import Timer, number
    from penstock._kernel.waiters import wake_all


class Alarm(Timer):
    """Sends the time on a channel of capacity 1: once, or every so often. What finds the channel full is dropped."""

    __slots__ = ("_armed", "_channel", "_due", "_period")

    def __init__(self, channel: Any) -> None:
        Timer.__init__(self)
        self._armed = False
        self._due = 0.0
        self._period = 0.0
        self._channel: Any = weakref.ref(channel, self._forgotten)

    def _forgotten(self, reference: Any) -> None:
        SEAM.runtime.disarm(self)

    def expire(self) -> None:
        channel = self._channel()
        if channel is None:
            return
        now = SEAM.runtime.monotonic()
        value = now
        waiter = None
        lock_take(channel._lock)
        try:
            if self._armed and now >= self._due:
                if self._period > 0.0:
                    self._due += self._period * (1.0 + (now - self._due) // self._period)
                else:
                    self._armed = False
                channel.send_locked(value, None)
                waiter = channel.take_woken()
        finally:
            lock_drop(channel._lock)
        if waiter is not None:
            wake_all(waiter)
        self._tell(channel)

    def start(self, seconds: float, period: float) -> bool:
        """Send in `seconds`, and every `period` seconds after that if it is positive. As `stop`, tells what was."""
        due = SEAM.runtime.monotonic() + seconds
        channel = self._channel()
        if channel is None:
            return False
        lock_take(channel._lock)
        try:
            pending = drained(channel) or self._armed
            self._armed = True
            self._due = due
            self._period = period
        finally:
            lock_drop(channel._lock)
        self._tell(channel)
        return pending

    def stop(self) -> bool:
        """Send no more. True if there was still something to send, or to receive."""
        channel = self._channel()
        if channel is None:
            return False
        lock_take(channel._lock)
        try:
            pending = drained(channel) or self._armed
            self._armed = False
        finally:
            lock_drop(channel._lock)
        self._tell(channel)
        return pending

    def _tell(self, channel: ChannelCore) -> None:
        """Tell the timer service when this alarm is due, if ever (A2)."""
        told = False
        armed = False
        due = 0.0
        while True:
            lock_take(channel._lock)
            done = told and self._armed == armed and (not armed or self._due == due)
            armed = self._armed
            due = self._due
            lock_drop(channel._lock)
            if done:
                return
            if armed:
                SEAM.runtime.arm(self, due)
            else:
                SEAM.runtime.disarm(self)
            told = True


def drained(channel: ChannelCore) -> bool:
    """Under the channel's lock: take out what it holds. True if there was something."""
    found = False
    while True:
        value = channel.receive_locked(None)
        if value is EMPTY or value is CLOSED:
            return found
        found = True


def sleep(seconds: float) -> None:
    """Park the calling thread for `seconds`; raises `Cancelled` if the ambient context ends before."""
    check_ambient()
    deadline = deadline_after(number(seconds, "the time to sleep", "a number of seconds"))
    if deadline == 0.0:
        SEAM.runtime.give_way()
        return
    waiter = SEAM.runtime.thread_waiter("sleep", "asleep")
    try:
        park(waiter, deadline, "sleep")
    except TimeoutError:
        return


def begin_sleep(seconds: float) -> Any:
    """For an asyncio task: a waiter to await, which times out; None where there is nothing to wait for."""
    check_ambient()
    deadline = deadline_after(number(seconds, "the time to sleep", "a number of seconds"))
    if deadline == 0.0:
        return None
    waiter = SEAM.runtime.task_waiter()
    waiter.prepare(deadline, "asleep", False)
    return waiter
