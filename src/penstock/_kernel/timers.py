"""Timers: one heap, served by one thread that is started when there is a timer and ends when there is none.

Invariants (guarded by the service's lock)
  T1. `_heap` is a binary heap by deadline; `timer.position` is a timer's place in it, -1 outside.
  T2. While `_serving`, a thread runs `_serve`, and wakes no later than the first deadline: `_wakes_at` is when it wakes
      by itself, and a timer due before that wakes it.
  T3. A timer expires once for each time it is added, unless it is removed first, outside the lock.
  T4. `timer.inherited` while it waits in a child process since before the fork. What it locks to expire may be held for
      ever by a thread that has not come along, so it expires in a thread of its own, and holds up no other.
A removed timer is forgotten at once: removal costs the logarithm of the number of timers.
"""

from __future__ import annotations

import os
import sys
from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import Lock, lock_drop, lock_take
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Waiter

# The service looks this often, in seconds, whether there are still timers.
LONGEST_SLEEP = 10.0


def number(value: Any, name: str, kind: str) -> float:
    """`value` as a number of seconds. TypeError for what is none, ValueError for NaN."""
    if isinstance(value, str | bytes | bytearray) or value is None:
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    try:
        seconds = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be {kind}, not {value!r}") from None
    except OverflowError:  # An integer beyond all floats.
        return float("inf") if value > 0 else float("-inf")
    if seconds != seconds:  # noqa: PLR0124  the test for NaN
        raise ValueError(f"{name} must be {kind}, not NaN")
    return seconds


class Timer:
    """Something due at a time. Subclasses say what `expire` does; it must not park or take long."""

    __slots__ = ("__weakref__", "deadline", "inherited", "position")

    def __init__(self) -> None:
        self.deadline = 0.0
        self.inherited = False
        self.position = -1

    def expire(self) -> None:
        raise NotImplementedError


class Inherited:
    """Lets a timer expire in a thread of its own (T4)."""

    __slots__ = ("_timer",)

    def __init__(self, timer: Timer) -> None:
        self._timer = timer

    def __call__(self) -> None:
        self._timer.expire()


class TimerService:
    """All timers of the process."""

    __slots__ = ("_heap", "_lock", "_serving", "_sleeper", "_wakes_at")

    def __init__(self) -> None:
        if not cython.compiled:
            self._lock = Lock()
        self._heap: list[Timer] = []
        self._serving = False
        self._wakes_at = 0.0
        self._sleeper: Waiter | None = None

    def add(self, timer: Timer, deadline: float) -> None:
        """Let `timer` expire at `deadline`; if it waits already, at `deadline` instead."""
        start = False
        sleeper = None
        lock_take(self._lock)
        try:
            if timer.position >= 0:
                self._take_out(timer)
            timer.deadline = deadline
            timer.inherited = False
            self._heap.append(timer)
            self._rise(timer, len(self._heap) - 1)
            if not self._serving:
                self._serving = start = True
                self._wakes_at = 0.0
            elif deadline < self._wakes_at:
                self._wakes_at = 0.0
                sleeper = self._sleeper
                self._sleeper = None
        finally:
            lock_drop(self._lock)
        if sleeper is not None:
            sleeper.wake()
        if start:
            try:
                SEAM.runtime.start(self._serve)
            except BaseException:  # The next to add a timer tries again.
                lock_take(self._lock)
                self._serving = False
                lock_drop(self._lock)
                self.remove(timer)
                raise

    def remove(self, timer: Timer) -> bool:
        """Forget `timer`. False if it was not waiting."""
        found = False
        lock_take(self._lock)
        try:
            if timer.position >= 0:
                self._take_out(timer)
                found = True
        finally:
            lock_drop(self._lock)
        return found

    def _take_out(self, timer: Timer) -> None:
        at = timer.position
        timer.position = -1
        last = self._heap.pop()
        if last is not timer:
            self._rise(last, at)
            self._sink(last, last.position)

    def _rise(self, timer: Timer, at: int) -> None:
        while at > 0:
            above = (at - 1) >> 1
            parent = self._heap[above]
            if parent.deadline <= timer.deadline:
                break
            self._heap[at] = parent
            parent.position = at
            at = above
        self._heap[at] = timer
        timer.position = at

    def _sink(self, timer: Timer, at: int) -> None:
        size = len(self._heap)
        while True:
            below = 2 * at + 1
            if below >= size:
                break
            child = self._heap[below]
            if below + 1 < size:
                other = self._heap[below + 1]
                if other.deadline < child.deadline:
                    below += 1
                    child = other
            if timer.deadline <= child.deadline:
                break
            self._heap[at] = child
            child.position = at
            at = below
        self._heap[at] = timer
        timer.position = at

    def _take_due(self, due: list[Timer], now: float) -> None:
        while self._heap:
            timer = self._heap[0]
            if timer.deadline > now:
                break
            self._take_out(timer)
            due.append(timer)

    def _serve(self) -> None:
        due: list[Timer] = []
        while True:
            sleeper = SEAM.runtime.thread_waiter("the timer service", "")
            sleeper._patient = True
            now = SEAM.runtime.monotonic()
            wakes_at = now
            lock_take(self._lock)
            try:
                self._take_due(due, now)
                if not due:
                    if not self._heap:
                        self._serving = False
                        return
                    timer = self._heap[0]
                    wakes_at = min(timer.deadline, now + LONGEST_SLEEP)
                    self._wakes_at = wakes_at
                    self._sleeper = sleeper
            finally:
                lock_drop(self._lock)
            if due:
                for timer in due:
                    try:
                        if timer.inherited:
                            SEAM.runtime.start(Inherited(timer))
                        else:
                            timer.expire()
                    except BaseException:  # noqa: BLE001  one timer's failure must not stop the others
                        sys.excepthook(*sys.exc_info())
                due.clear()
            else:
                timer = None  # While it sleeps, the service keeps nothing alive that may be removed meanwhile.
                sleeper.park(wakes_at)

    def pending(self) -> int:
        """How many timers wait."""
        return len(self._heap)

    def idle_thread(self) -> int:
        """The thread that serves and sleeps although there is no timer any more; 0 if there is none."""
        ident = 0
        lock_take(self._lock)
        if self._sleeper is not None and not self._heap:
            ident = self._sleeper._ident
        lock_drop(self._lock)
        return ident

    def before_fork(self) -> None:
        """Hold the lock over a fork, so that the child finds the heap whole."""
        lock_take(self._lock)

    def after_fork(self) -> None:
        lock_drop(self._lock)

    def _inherit(self) -> None:
        for timer in self._heap:
            timer.inherited = True

    def after_fork_in_child(self) -> None:
        """The thread that served is gone; the next timer starts another."""
        self._inherit()
        self._serving = False
        self._sleeper = None
        lock_drop(self._lock)


TIMERS = TimerService()


def pending_timers() -> int:
    """How many timers wait in this process."""
    return TIMERS.pending()


def idle_service() -> int:
    """The thread that serves timers, while there is none; 0 if there is no such thread."""
    return TIMERS.idle_thread()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=TIMERS.before_fork,
        after_in_parent=TIMERS.after_fork,
        after_in_child=TIMERS.after_fork_in_child,
    )
