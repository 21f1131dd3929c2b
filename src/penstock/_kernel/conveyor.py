"""The conveyor: items on their way from one feeder through several workers to one reader. What stands under `pmap`.

    feeder: put -> items nobody has taken -> worker: take, give -> results nobody has read -> reader

Items are numbered as they are put. Each is taken by itself, by whoever comes first, so that none ever waits behind
another that turns out to be slow, or that waits for it. A worker's result and its next item change hands in one step.
Whoever is woken looks again; nothing is handed to him.

Invariants (guarded by the conveyor's lock)
  V1. `_read` <= `_ready` <= `_taken` <= `_fed`: how many results have been read and can be, how many items have been
      taken and put. The feeder waits before it takes another from the source while _fed - _read >= `_ahead`.
  V2. `_ring` has a place for each number from `_read` to `_fed`. Up to `_ready` there is a result to be read; from
      `_taken` on, an item that nobody has taken; between them results that wait for one before them, for which
      `_given` is 1, or nothing. Not in order, results stand in the order in which they came: none waits for another.
  V3. While there is an item that nobody has taken, and a worker is parked, another has been called (`_called`): woken,
      and not back yet. Who comes and leaves more behind calls the next, as Go's scheduler does; who was called and
      gives up calls another. So few are woken in vain while one alone can take all that comes.
  V4. Shut: the ring is empty, and stays empty; nobody is parked.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        ambient_bind,
        ambient_get,
        items_of,
        lock_drop,
        lock_take,
        moved,
        ring_put,
        ring_take,
    )
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import FOREVER, park
    from penstock._kernel.scopes import AMBIENT, check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Queue, Source, Waiter, chained, new_node, wake_all

    ROOM, ITEM, RESULT = 0, 1, 2  # What is waited for: a node's kind.
    HIRE, PACE, FULL = 1, 2, 4  # What `put` asks for.

ambient_bind(AMBIENT)

# For the code above the kernel.
ROOM_KIND, ITEM_KIND, RESULT_KIND = ROOM, ITEM, RESULT
WORKER_WANTED, PACE_DUE, IS_FULL = HIRE, PACE, FULL

# What there is in place of an item or a result.
NOTHING: Any = object()
OVER: Any = object()
nothing_yet, no_more = NOTHING, OVER  # For the code above the kernel.

OPERATIONS = ("pmap (room)", "pmap (an item)", "pmap (a result)")


class Conveyor(Source):
    """Items and results under way."""

    __slots__ = (
        "_ahead",
        "_called",
        "_complete",
        "_ended",
        "_failure",
        "_fed",
        "_feeders",
        "_given",
        "_gone",
        "_hiring",
        "_items",
        "_mark",
        "_ordered",
        "_portion",
        "_read",
        "_readers",
        "_ready",
        "_ring",
        "_shut",
        "_size",
        "_taken",
        "_workers",
    )

    def __init__(self, ordered: bool, ahead: int, mark: int) -> None:
        Source.__init__(self)
        self._ordered = ordered
        self._hiring = True
        self._ahead = ahead
        self._portion = 1
        self._mark = mark
        self._size = 8  # Always a power of two.
        self._ring: list[Any] = [None] * self._size
        self._items = items_of(self._ring)
        self._given = bytearray(self._size)
        self._feeders = Queue()
        self._workers = Queue()
        self._readers = Queue()
        self._failure: BaseException | None = None
        if not cython.compiled:
            self._fed = self._taken = self._ready = self._read = self._called = 0
            self._ended = self._complete = self._gone = self._shut = False

    # Under the lock

    @cython.final
    def _may_go_on(self, kind: int) -> bool:
        if self._shut:
            return True
        if kind == ROOM:
            return self._fed - self._read <= self._ahead - self._portion
        if kind == ITEM:
            return self._taken < self._fed or self._ended
        return self._read < self._ready or self._failure is not None or self._gone

    @cython.final
    def _queue_of(self, kind: int) -> Queue:
        if kind == ROOM:
            return self._feeders
        return self._workers if kind == ITEM else self._readers

    @cython.final
    def _next_of(self, kind: int) -> Waiter | None:
        """One who waits and may go on: to be woken."""
        queue = self._queue_of(kind)
        if queue.first is None or not self._may_go_on(kind):
            return None
        if kind == ITEM and self._called > 0:
            return None
        return self._fire(kind)

    @cython.final
    def _fire(self, kind: int) -> Waiter | None:
        node = self._queue_of(kind).fire_next()
        if node is None:
            return None
        if kind == ITEM:
            self._called += 1
        return node.waiter

    @cython.final
    def _all_of(self, kind: int, first: Waiter | None) -> Waiter | None:
        """All who wait for that, behind the chain of `first`: to be woken."""
        last = first
        while last is not None and last._next is not None:
            last = last._next
        added = self._fire(kind)
        while added is not None:
            first = chained(first, last, added)
            last = added
            added = self._fire(kind)
        return first

    @cython.final
    def _place(self, number: int, result: Any) -> None:
        """The result of that item has come."""
        if self._shut:
            return
        mask = self._size - 1
        if not self._ordered:
            ring_put(self._items, self._ready & mask, result)
            self._ready += 1
            return
        ring_put(self._items, number & mask, result)
        self._given[number & mask] = 1
        while self._ready < self._taken and self._given[self._ready & mask] == 1:
            self._ready += 1

    # The feeder

    def put(self, item: Any) -> int:
        """Put an item, and what is to be done before the next: WORKER_WANTED, PACE_DUE, IS_FULL, or nothing.

        `Cancelled`, and nothing done, if the ambient context has ended.
        """
        scope = ambient_get()
        if scope is not None:
            scope.require()
        waiter = None
        asks = 0
        lock_take(self._lock)
        while self._fed - self._read == self._size and not self._shut:
            lock_drop(self._lock)
            self._grow()
            lock_take(self._lock)
        try:
            if not self._shut:
                at = self._fed & (self._size - 1)
                self._given[at] = 0
                ring_put(self._items, at, item)
                self._fed += 1
                if self._workers.first is not None:
                    waiter = self._next_of(ITEM)
                if self._hiring and self._fed - self._taken > self._workers.count() + self._called:
                    asks = HIRE
                if self._fed == self._mark:
                    asks |= PACE
                if self._fed - self._read >= self._ahead:
                    asks |= FULL
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return asks

    @cython.final
    def _grow(self) -> bool:
        """Double the ring."""
        size = 2 * self._size
        ring: list[Any] = [None] * size
        given = bytearray(size)
        items = items_of(ring)
        lock_take(self._lock)
        try:
            if not self._shut and size == 2 * self._size:
                mask = self._size - 1
                for number in range(self._read, self._fed):
                    at = number & (size - 1)
                    ring_put(items, at, ring_take(self._items, number & mask))
                    given[at] = self._given[number & mask]
                ring, self._ring = self._ring, ring
                given, self._given = self._given, given
                self._items = items
                self._size = size
        finally:
            lock_drop(self._lock)
        return True

    def set_pace(self, ahead: int, portion: int, mark: int) -> Any:
        """From now on: how many items may be under way, how many places have to be free before the feeder, which has
        waited for one, goes on, and at which item the pace is to be reckoned again."""
        lock_take(self._lock)
        self._ahead = ahead
        self._portion = portion
        self._mark = mark
        lock_drop(self._lock)

    def hire_no_more(self) -> Any:
        """There are as many workers as there may be."""
        lock_take(self._lock)
        self._hiring = False
        lock_drop(self._lock)

    def end(self, complete: bool) -> Any:
        """No item will be put any more; `complete`: since there is none."""
        waiter = None
        lock_take(self._lock)
        try:
            self._ended = True
            self._complete = complete
            waiter = self._all_of(ITEM, None)
        finally:
            lock_drop(self._lock)
        wake_all(waiter)

    # The workers

    @cython.final
    def exchange(self, hand: Hand) -> Any:
        """Put down the result that the hand holds, and take an item; NOTHING if there is none yet, OVER if there will
        be none. `Cancelled`, and none taken, if the ambient context has ended."""
        scope = ambient_get()
        ended = scope is not None and scope.over()
        waiter = None
        other = None
        item = OVER
        lock_take(self._lock)
        try:
            if hand._holds:
                hand._holds = False
                self._place(hand._number, hand._result)
                if self._readers.first is not None:
                    waiter = self._next_of(RESULT)
            if not ended and not self._shut:
                if self._taken < self._fed:
                    hand._number = self._taken
                    item = ring_take(self._items, self._taken & (self._size - 1))
                    self._taken += 1
                    if self._workers.first is not None:
                        other = self._next_of(ITEM)
                elif not self._ended:
                    item = NOTHING
        finally:
            lock_drop(self._lock)
        hand._result = None
        if waiter is not None:
            wake_all(waiter)
        if other is not None:
            wake_all(other)
        if ended:
            scope.require()
        return moved(item)

    @cython.final
    def take_many(self, hand: Hand, most: int) -> list[Any]:
        """As many items as there are, of consecutive numbers; an empty list in place of NOTHING and OVER."""
        count = 0
        items: list[Any] = [None] * most
        taken = items_of(items)
        lock_take(self._lock)
        try:
            hand._number = self._taken
            while count < most and self._taken < self._fed and not self._shut:
                ring_put(taken, count, ring_take(self._items, self._taken & (self._size - 1)))
                self._taken += 1
                count += 1
            other = self._next_of(ITEM)
        finally:
            lock_drop(self._lock)
        wake_all(other)
        del items[count:]
        return items

    def taken(self) -> int:
        """How many items have been taken so far."""
        lock_take(self._lock)
        count = self._taken
        lock_drop(self._lock)
        return count

    @cython.final
    def untaken(self) -> int:
        """How many items nobody has taken."""
        lock_take(self._lock)
        count = self._fed - self._taken
        lock_drop(self._lock)
        return count

    @cython.final
    def linger(self, most: int) -> bool:
        """Give way to the feeder, up to so many items, for as long as it puts some each time."""
        before = 0
        count = self.untaken()
        while before < count < most:
            SEAM.runtime.give_way()
            before = count
            count = self.untaken()
        return True

    @cython.final
    def give_many(self, hand: Hand, results: list[Any]) -> bool:
        """The results of the items that the hand took last."""
        waiter = None
        lock_take(self._lock)
        try:
            for result in results:
                self._place(hand._number, result)
                hand._number += 1
            waiter = self._next_of(RESULT)
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        return True

    def over(self) -> bool:
        """Will no item be taken any more?"""
        lock_take(self._lock)
        over = self._shut or (self._ended and self._taken == self._fed)
        lock_drop(self._lock)
        return over

    def fail(self, error: BaseException) -> Any:
        """An item failed with `error`; the first such error is what the reader gets."""
        waiter = None
        lock_take(self._lock)
        try:
            if self._failure is None:
                self._failure = error
                waiter = self._all_of(RESULT, None)
        finally:
            lock_drop(self._lock)
        wake_all(waiter)

    def close(self) -> Any:
        """Everybody but the reader is gone."""
        waiter = None
        lock_take(self._lock)
        try:
            self._gone = True
            waiter = self._all_of(RESULT, None)
        finally:
            lock_drop(self._lock)
        wake_all(waiter)

    # The reader

    def next_result(self) -> Any:
        """The next result, if there is one and the ambient context has not ended; else NOTHING."""
        scope = ambient_get()
        if scope is not None and scope.over():
            return NOTHING
        waiter = None
        other = None
        value = NOTHING
        lock_take(self._lock)
        try:
            if self._read < self._ready and not self._shut:
                value = ring_take(self._items, self._read & (self._size - 1))
                self._read += 1
                if self._feeders.first is not None:
                    waiter = self._next_of(ROOM)
                if self._readers.first is not None:
                    other = self._next_of(RESULT)
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        if other is not None:
            wake_all(other)
        return moved(value)

    def failure(self) -> BaseException | None:
        """The first error of an item."""
        lock_take(self._lock)
        error = self._failure
        lock_drop(self._lock)
        return error

    def all_read(self) -> bool:
        """Has the source come to its end, and every result been read?"""
        lock_take(self._lock)
        all_read = self._complete and self._read == self._fed
        lock_drop(self._lock)
        return all_read

    def shut(self) -> Any:
        """Nobody will read any more: let go of everything. Idempotent."""
        ring: list[Any] = []
        waiter = None
        lock_take(self._lock)
        try:
            self._shut = True
            ring, self._ring = self._ring, ring
            self._items = items_of(self._ring)
            waiter = self._all_of(RESULT, self._all_of(ITEM, self._all_of(ROOM, None)))
        finally:
            lock_drop(self._lock)
        wake_all(waiter)

    # Waiting, in both colours

    def _ready_or_queued(self, node: Node) -> bool:
        ready = True
        lock_take(self._lock)
        try:
            if not self._may_go_on(node.kind):
                self._queue_of(node.kind).append(node)
                ready = False
        finally:
            lock_drop(self._lock)
        return ready

    def take_back(self, node: Node) -> bool:
        self._returned(node)
        lock_take(self._lock)
        try:
            waiter = self._next_of(node.kind)
        finally:
            lock_drop(self._lock)
        wake_all(waiter)
        return True

    @cython.final
    def _returned(self, node: Node) -> bool:
        """Who was woken by that node is back."""
        if node.kind == ITEM:
            lock_take(self._lock)
            self._called -= 1
            lock_drop(self._lock)
        return True

    def wait(self, kind: int) -> Any:
        """Park until it makes sense to look for that again."""
        check_ambient()
        operation: str = OPERATIONS[kind]
        waiter = SEAM.runtime.thread_waiter(operation, "apmap")
        node = new_node(waiter, self, kind, None)
        if self._ready_or_queued(node):
            waiter.discard_nodes(node)
        else:
            node = park(waiter, FOREVER, operation, False)
            self._returned(node)

    def begin_wait(self, kind: int) -> Any:
        """For an asyncio task: None if it makes sense now, else a waiter to await and give to `finish_wait`."""
        check_ambient()
        operation: str = OPERATIONS[kind]
        waiter = SEAM.runtime.task_waiter()
        node = new_node(waiter, self, kind, None)
        if self._ready_or_queued(node):
            waiter.discard_nodes(node)
            return None
        waiter.prepare(FOREVER, operation, False)
        return waiter

    def finish_wait(self, waiter: TaskWaiter) -> Any:
        node = waiter.settled()
        self._returned(node)


class Hand:
    """What one worker takes items with, and gives results: an iterator of items."""

    __slots__ = ("_conveyor", "_holds", "_number", "_result")

    def __init__(self, conveyor: Conveyor) -> None:
        self._conveyor = conveyor
        self._result: Any = None
        if not cython.compiled:
            self._holds = False
            self._number = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        while True:
            item = self._conveyor.exchange(self)
            if item is OVER:
                raise StopIteration
            if item is not NOTHING:
                return item
            self._conveyor.wait(ITEM)

    def take(self) -> Any:
        """The next item, for a worker that awaits one if there is none: NOTHING, or OVER."""
        return self._conveyor.exchange(self)

    def give(self, result: Any) -> None:
        """The result of the item that was taken last. It is passed on as the next is taken."""
        self._result = result
        self._holds = True

    def take_many(self, most: int) -> list[Any]:
        """Take up to so many items, at least one; empty: there is no more."""
        check_ambient()
        while True:
            self._conveyor.linger(most)
            items = self._conveyor.take_many(self, most)
            if items or self._conveyor.over():
                return items
            self._conveyor.wait(ITEM)

    def take_many_now(self, least: int, most: int) -> list[Any]:
        """The same if there are at least so many; else empty. Does not look at the ambient context."""
        return self._conveyor.take_many(self, most) if self._conveyor.untaken() >= least else []

    def give_many(self, results: list[Any]) -> None:
        """The results of the first of those items, or of all."""
        self._conveyor.give_many(self, results)


class Delivery:
    """The reader's end, for a thread. A subclass has `_more`: what to do where no result is ready."""

    __slots__ = ("_conveyor",)

    def __init__(self, conveyor: Conveyor) -> None:
        self._conveyor = conveyor

    def __next__(self) -> Any:
        value = self._conveyor.next_result()
        if value is NOTHING:
            return self._more()
        return value
