"""The gauge: admission to work of limited capacity, with a short queue that is ordered by priority.

Invariants (guarded by the gauge's lock)
  G1. `in_flight` is how many have been admitted and have not left. Nobody is admitted while it is `limit` or more; it
      may be more after the limit has been lowered.
  G2. At most `_queue_size` nodes queue that can still fire, higher priorities (`node.kind`) first; of one priority the
      oldest first, or, from the moment that the queue is more than half full, the newest.
  G3. A node that fires with `ok` has been admitted; without, it was turned out by one of higher priority.
  G4. A permit is settled once: its state leaves OPEN by compare-and-swap.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        Atomic,
        Lock,
        atomic_load,
        guarded_cas,
        immortal,
        is_coroutine,
        lock_drop,
        lock_take,
    )
    from penstock._kernel.locks import Gate
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Waiter, chained, new_node, wake_all

    OPEN, SETTLED = 0, 1

if TYPE_CHECKING:
    from collections.abc import Callable

ADMITTED, FULL = 1, 0
UNADMITTED: Any = immortal(object())
admitted_mark, full_mark, unadmitted_mark = ADMITTED, FULL, UNADMITTED  # For the code above the kernel.


class GaugeCore(Gate):
    """How much is in flight, and who waits to be."""

    __slots__ = ("_admitted", "_in_flight", "_learning", "_limit", "_queue_size")

    def __init__(self, limit: int, queue_size: int, learning: bool) -> None:
        Gate.__init__(self)
        self._learning = learning
        self._limit = limit
        self._queue_size = queue_size
        self._in_flight = 0
        self._admitted = 0

    def _admits(self, kind: int, amount: int) -> bool:
        return self._in_flight < self._limit

    def _admit(self, kind: int, amount: int, ident: int) -> None:
        self._in_flight += 1
        self._admitted += 1

    def _readmit(self, kind: int, amount: int) -> None:
        self._in_flight -= 1
        self._admitted -= 1

    def _settle(self) -> Waiter | None:
        first: Waiter | None = None
        last: Waiter | None = None
        while self._in_flight < self._limit:
            node = self._queue.fire_next()
            if node is None:
                break
            node.ok = True
            self._in_flight += 1
            self._admitted += 1
            first = chained(first, last, node.waiter)
            last = node.waiter
        return first

    def take_back(self, node: Node) -> bool:
        if not node.ok:
            return True
        return Gate.take_back(self, node)

    def admit_now(self) -> bool:
        """Admit one if there is room and nobody queues."""
        admitted = False
        lock_take(self._lock)
        alone = self._queue.first is None
        if alone and self._in_flight < self._limit:
            self._in_flight += 1
            self._admitted += 1
            admitted = True
        lock_drop(self._lock)
        return admitted or (not alone and self.try_enter(0, 1))

    def _join(self, node: Node) -> int:
        """Admit, queue (-1) or refuse `node`."""
        turned_out = None
        waiter = None
        outcome = -1
        lock_take(self._lock)
        try:
            if self._queue.next_waiting() is None and self._in_flight < self._limit:
                self._in_flight += 1
                self._admitted += 1
                outcome = ADMITTED
            else:
                queued = self._queue.count()
                if queued >= self._queue_size:
                    turned_out = self._last_below(node.kind)
                    if turned_out is not None:
                        self._queue.remove(turned_out)
                        if turned_out.fire():
                            waiter = turned_out.waiter
                        else:
                            turned_out = None  # It gave up in this instant.
                if queued < self._queue_size or turned_out is not None:
                    self._stand(node, newest_first=2 * queued > self._queue_size)
                else:
                    outcome = FULL
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return outcome

    def _refuses(self, priority: int) -> bool:
        """Would `_join` refuse one of that priority?"""
        lock_take(self._lock)
        refuses = (
            (self._in_flight >= self._limit or self._queue.next_waiting() is not None)
            and self._queue.count() >= self._queue_size
            and self._last_below(priority) is None
        )
        lock_drop(self._lock)
        return refuses

    def _last_below(self, priority: int) -> Node | None:
        """The last in the queue, if its priority is lower."""
        node = self._queue.last
        while node is not None and not node.waiting():
            node = node.previous
        return node if node is not None and node.kind < priority else None

    def _stand(self, node: Node, newest_first: bool) -> bool:
        later = self._queue.first
        while later is not None and (later.kind > node.kind or (later.kind == node.kind and not newest_first)):
            later = later.next
        if later is None:
            self._queue.append(node)
        else:
            self._queue.insert_before(node, later)
        return True

    def join_in_thread(self, priority: int, timeout: float | None) -> int:
        """ADMITTED; FULL if there is no room, or if one of higher priority took it. Parks in the queue."""
        check_ambient()
        deadline = deadline_after(timeout)
        if self._refuses(priority):
            return FULL  # Nothing to wait for: a thread that runs an event loop may be told, too.
        waiter = SEAM.runtime.thread_waiter("PressureGauge.acquire", "PressureGauge.aacquire")
        node = new_node(waiter, self, priority, None)
        outcome = self._join(node)
        if outcome >= 0:
            waiter.discard_nodes(node)
            return outcome
        node = park(waiter, deadline, "PressureGauge.acquire")
        return ADMITTED if node.ok else FULL

    def begin_join(self, priority: int, timeout: float | None) -> Any:
        """As `join_in_thread` for an asyncio task, or a waiter to await and give to `finish_join`."""
        check_ambient()
        deadline = deadline_after(timeout)
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, priority, None)
        outcome = self._join(node)
        if outcome >= 0:
            waiter.discard_nodes(node)
            return outcome
        waiter.prepare(deadline, "PressureGauge.aacquire", False)
        return waiter

    def finish_join(self, waiter: TaskWaiter) -> int:
        node = waiter.settled()
        return ADMITTED if node.ok else FULL

    def leave(self) -> Any:
        chain = None
        lock_take(self._lock)
        self._in_flight -= 1
        if self._queue.first is not None:
            chain = self._settle()
        lock_drop(self._lock)
        if chain is not None:
            wake_all(chain)

    def set_limit(self, limit: int) -> None:
        chain = None
        lock_take(self._lock)
        self._limit = limit
        if self._queue.first is not None:
            chain = self._settle()
        lock_drop(self._lock)
        if chain is not None:
            wake_all(chain)

    def permit(self) -> Any:
        """For one that has been admitted."""
        permit = Permit.__new__(Permit)
        if not cython.compiled:
            permit._state = Atomic()
        permit.gauge = self
        permit.since = SEAM.runtime.monotonic() if self._learning else 0.0
        return permit

    def try_acquire(self) -> Any:
        """A permit, if there is room and nobody waits; None otherwise. Does not look at the context."""
        if GaugeCore.admit_now(self):
            return GaugeCore.permit(self)
        self.rejected()
        return None

    def rejected(self) -> Any:
        """One has been refused at once."""
        raise NotImplementedError

    def ended(self, since: float) -> Any:
        """One leaves that was admitted at that time, with success; negative: it was dropped."""
        raise NotImplementedError

    @property
    def limit(self) -> int:
        """How many may be in flight now."""
        lock_take(self._lock)
        limit = self._limit
        lock_drop(self._lock)
        return limit

    @property
    def in_flight(self) -> int:
        """How many are."""
        lock_take(self._lock)
        in_flight = self._in_flight
        lock_drop(self._lock)
        return in_flight

    @property
    def admitted(self) -> int:
        """How many have been admitted."""
        lock_take(self._lock)
        admitted = self._admitted
        lock_drop(self._lock)
        return admitted

    def admit_in_context(self) -> bool:
        """As `admit_now`, under the ambient context."""
        check_ambient()
        return GaugeCore.admit_now(self)

    def run_now(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        """`function(*args)` as one in flight, if it can be admitted now and nothing is to be learned of it; else the
        mark."""
        check_ambient()
        if self._learning or not GaugeCore.admit_now(self):
            return UNADMITTED
        try:
            result = function(*args)
        finally:
            GaugeCore.leave(self)
        if is_coroutine(result):
            result.close()
            raise TypeError(f"{function!r} is an async function; use 'await gauge.ado()'")
        return result


class Tally:
    """A number that many threads add to."""

    __slots__ = ("_lock", "_value")

    def __init__(self) -> None:
        if not cython.compiled:
            self._lock = Lock()
            self._value = 0

    def add(self, n: int = 1) -> None:
        lock_take(self._lock)
        self._value += n
        lock_drop(self._lock)

    @property
    def value(self) -> int:
        lock_take(self._lock)
        value = self._value
        lock_drop(self._lock)
        return value


class Permit:
    """The right to be in flight. It is released once, by the method that tells what became of the work.

    In `with`, and `async with`: a success, or ignored if the block raises. One that is dropped unreleased is ignored.
    """

    __slots__ = ("__weakref__", "_state", "gauge", "since")

    def __init__(self) -> None:
        raise TypeError("a Permit is acquired from a PressureGauge")

    def release(self) -> None:
        """The work succeeded: its duration counts."""
        self._settle()
        if self.gauge._learning:
            self.gauge.ended(self.since)
        else:
            self.gauge.leave()  # Not directly: who explores schedules looks on.

    def drop(self) -> None:
        """The work failed for overload, of this or of what it depends on: the limit should shrink."""
        self._settle()
        self.gauge.ended(-1.0)

    def ignore(self) -> None:
        """The work says nothing of the load: it failed for another reason, or was cut short."""
        self._settle()
        self.gauge.leave()

    @cython.final
    def _settle(self) -> bool:
        if self.gauge is None:
            raise RuntimeError("a Permit is acquired from a PressureGauge")
        return guarded_cas(self._state, OPEN, SETTLED) or self._require_open()

    @cython.final
    def _require_open(self) -> bool:
        if atomic_load(self._state) != OPEN:
            raise RuntimeError("this permit has been released; acquire another for each piece of work")
        return True

    @property
    def released(self) -> bool:
        """Has it been released, with whatever outcome?"""
        return atomic_load(self._state) != OPEN

    def __enter__(self) -> Any:
        self._require_open()
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        if atomic_load(self._state) != OPEN:
            return  # Inside, by hand, with another outcome.
        if error is None:
            self.release()
        else:
            self.ignore()

    async def __aenter__(self) -> Any:
        self._require_open()
        return self

    async def __aexit__(self, kind: object, error: object, trace: object) -> None:
        self.__exit__(kind, error, trace)

    def __del__(self) -> None:
        if not cython.compiled and not hasattr(self, "gauge"):
            return  # It was not made.
        if self.gauge is not None and guarded_cas(self._state, OPEN, SETTLED):
            self.gauge.leave()

    def __repr__(self) -> str:
        return f"<Permit {'released' if self.released else 'held'} of {self.gauge!r}>"
