"""Waiting for a count to come down to zero: what stands under wait groups, tasks and one-time calls.

Invariants (guarded by the lock)
  L1. The count is never negative.
  L2. Somebody is parked only while the count is positive; when it comes down to zero, all of them go on, and the
      channel given to `closed_at_zero` is closed.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import lock_drop, lock_take
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Queue, Source, Waiter, chained, new_node, wake_all


class Countdown(Source):
    """A count that tasks wait for."""

    __slots__ = ("_count", "_done", "_waiters")

    def __init__(self, count: int = 0) -> None:
        Source.__init__(self)
        self._count = count
        self._waiters = Queue()
        self._done: Any = None

    def count(self) -> int:
        lock_take(self._lock)
        count = self._count
        lock_drop(self._lock)
        return count

    def add(self, n: int = 1) -> int:
        """Change the count by `n`, which may be negative; gives what it is then.

        ValueError, and no change, if it would become negative.
        """
        first: Waiter | None = None
        last: Waiter | None = None
        done = None
        lock_take(self._lock)
        try:
            count = self._count + n
            if count >= 0:
                self._count = count
                if count == 0 and n < 0:
                    done = self._done
                    node = self._waiters.fire_next()
                    while node is not None:
                        first = chained(first, last, node.waiter)
                        last = node.waiter
                        node = self._waiters.fire_next()
        finally:
            lock_drop(self._lock)
        if count < 0:
            raise ValueError(f"negative counter: {count - n} cannot be changed by {n}")
        if done is not None:
            done.close()
        if first is not None:
            wake_all(first)
        return count

    def join(self) -> bool:
        """Count one more, unless the count is zero."""
        joined = False
        lock_take(self._lock)
        if self._count > 0:
            self._count += 1
            joined = True
        lock_drop(self._lock)
        return joined

    def closed_at_zero(self, channel: Any) -> Any:
        """Let `channel` be closed when the count comes to zero, unless another is already; returns the one that is."""
        lock_take(self._lock)
        try:
            if self._done is None:
                self._done = channel
            else:
                channel = self._done
            zero = self._count == 0
        finally:
            lock_drop(self._lock)
        if zero:
            channel.close()
        return channel

    def _ready_or_queued(self, node: Node) -> bool:
        ready = True
        lock_take(self._lock)
        try:
            if self._count > 0:
                self._waiters.append(node)
                ready = False
        finally:
            lock_drop(self._lock)
        return ready

    def wait_in_thread(self, timeout: float | None, operation: str, instead: str, shielded: bool) -> Any:
        """Park until the count is zero."""
        if not shielded:
            check_ambient()
        if self.count() == 0:
            return None
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out")
        waiter = SEAM.runtime.thread_waiter(operation, instead)
        node = new_node(waiter, self, 0, None)
        if self._ready_or_queued(node):
            waiter.discard_nodes(node)
        else:
            park(waiter, deadline, operation, shielded)
        return None

    def begin_wait(self, timeout: float | None, operation: str, shielded: bool) -> Any:
        """For an asyncio task: None if the count is zero, else a waiter to await and give to `finish_wait`."""
        if not shielded:
            check_ambient()
        if self.count() == 0:
            return None
        deadline = deadline_after(timeout)
        if deadline == 0.0:
            raise TimeoutError(f"{operation} timed out")
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, 0, None)
        if self._ready_or_queued(node):
            waiter.discard_nodes(node)
            return None
        waiter.prepare(deadline, operation, shielded)
        return waiter

    def finish_wait(self, waiter: TaskWaiter) -> Any:
        waiter.settled()
