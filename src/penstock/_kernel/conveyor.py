"""The conveyor: items on their way from one feeder through several workers to one reader. What stands under `pmap`.

    feeder: put -> items nobody has taken -> worker: take, give -> results nobody has read -> reader

Items are numbered as they are put. Each is taken by itself, by whoever comes first, so that none ever waits behind
another that turns out to be slow, or that waits for it. A worker's result and its next item change hands in one step.
Whoever is woken looks again; nothing is handed to him. Where all items are at hand (`draw_from`) there is no feeder: a
worker who finds none puts some himself.

Items are called hasty that take less time than it takes to wake somebody. They are best left to one worker, who is
awake, and to a reader who fetches many results at once.

Invariants (guarded by the lock; those of the belt stand there)
  V1. No item is taken from the source while _fed - _read >= `_ahead`.
  V2. While there is an item that nobody has taken, and a worker is parked, another has been called (`_called`): woken,
      and not back yet. Who comes and leaves more behind calls the next, as Go's scheduler does; who was called and
      gives up calls another. So few are woken in vain while one alone can take all that comes. While items are hasty
      nobody need be called, nor the reader be woken for a few results, but somebody will look within LOOK seconds
      whether they still are (`_watched`); and a worker that finds no item wakes the reader.
  V3. Once the belt is cleared nobody is parked.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.belt import BATCH, NOTHING, Belt
    from penstock._kernel.interpreted import (
        LOCKS,
        ambient_bind,
        ambient_get,
        immortal,
        items_of,
        lock_drop,
        lock_take,
        moved,
        ring_keep,
    )
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import FOREVER, park
    from penstock._kernel.scopes import AMBIENT, check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.timers import Timer
    from penstock._kernel.waiters import Node, Queue, Waiter, chained, new_node, wake_all

    ROOM, ITEM, RESULT = 0, 1, 2  # What is waited for: a node's kind.
    HIRE, PACE, FULL, FAILED = 1, 2, 4, 8  # What feeder and workers are asked for.

# Items that are taken more slowly than so many in so many seconds are not hasty any more.
HASTY_FLOW = 500
LOOK = 5e-3

ambient_bind(AMBIENT)

# For the code above the kernel.
ROOM_KIND, ITEM_KIND, RESULT_KIND = ROOM, ITEM, RESULT
WORKER_WANTED, PACE_DUE, IS_FULL, DRAW_FAILED = HIRE, PACE, FULL, FAILED

# Of ranges within C integers: each item is made as it is asked for. A larger range's first item is its own start.
RANGE_ITERATOR: Any = type(iter(range(0)))

OVER: Any = immortal(object())  # What there is in place of an item.
nothing_yet, no_more = NOTHING, OVER  # For the code above the kernel.

OPERATIONS = ("pmap (room)", "pmap (an item)", "pmap (a result)")


class Look(Timer):
    """A look at a conveyor, some time from now."""

    __slots__ = ("_conveyor",)

    def __init__(self, conveyor: Conveyor) -> None:
        Timer.__init__(self)
        self._conveyor = conveyor

    def expire(self) -> None:
        self._conveyor.look()


class Conveyor(Belt):
    """Items and results under way, and those who wait for them."""

    __slots__ = (
        "_ahead",
        "_called",
        "_complete",
        "_ended",
        "_failure",
        "_feeders",
        "_gone",
        "_goods",
        "_hasty",
        "_hiring",
        "_mark",
        "_portion",
        "_readers",
        "_stock",
        "_stocked",
        "_taken_then",
        "_watched",
        "_workers",
    )

    def __init__(self, ordered: bool, ahead: int, mark: int) -> None:
        Belt.__init__(self, ordered)
        self._hiring = True
        self._ahead = ahead
        self._portion = 1
        self._mark = mark
        self._feeders = Queue()
        self._workers = Queue()
        self._readers = Queue()
        self._failure: BaseException | None = None
        self._goods: Any = None
        self._stock: Any = None
        if not cython.compiled:
            self._called = self._taken_then = 0
            self._ended = self._complete = self._gone = self._hasty = self._stocked = self._watched = False

    # Under the lock

    @cython.final
    def _may_go_on(self, kind: int) -> bool:
        if self._cleared:
            return True
        if kind == ROOM:
            return self._has_room()
        if kind == ITEM:
            return self._taken < self._fed or self._ended or (self._stocked and self._has_room())
        return self._fetched < self._ready or self._failure is not None or self._gone

    @cython.final
    def _has_room(self) -> bool:
        return self._fed - self._read <= self._ahead - self._portion

    @cython.final
    def _begin_watch(self) -> bool:
        """Since nobody is called: must the caller `arm`, once the lock has been dropped?"""
        if self._watched:
            return False
        self._watched = True
        self._taken_then = self._taken
        return True

    @cython.final
    def _arm(self) -> bool:
        try:
            SEAM.runtime.arm(Look(self), SEAM.runtime.monotonic() + LOOK)
        except Exception:  # noqa: BLE001  there may be no thread for timers: then at once
            self._taken_then = self._taken
            self.look()
        return True

    @cython.final
    def look(self) -> bool:
        """Items were hasty when the watch began. If they are not any more, who waits is called at once from now on."""
        waiter = None
        reader = None
        again = False
        lock_take(self._lock)
        try:
            self._watched = False
            if not self._hasty or self._taken - self._taken_then < HASTY_FLOW:
                self._hasty = False
                waiter = self._next_of(ITEM)
            elif self._workers.first is not None and self._may_go_on(ITEM):
                again = self._begin_watch()  # Whoever has worked so far may be held up by now.
            reader = self._next_of(RESULT)
        finally:
            lock_drop(self._lock)
        wake_all(waiter)
        wake_all(reader)
        if again:
            self._arm()
        return True

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
    def _draw(self, hand: Hand) -> Waiter | None:
        """Put some items from the stock; those who need not wait for any more, if there were no more."""
        wanting = self._lay_from(self._stock, min(BATCH, self._ahead - (self._fed - self._read)))
        if wanting != 0:
            self._stocked = False
            self._ended = True
            self._complete = wanting > 0
            if wanting < 0:
                hand._asks |= FAILED
            return self._all_of(ITEM, None)
        if 0 <= self._mark <= self._fed:
            self._mark = -1
            hand._asks |= PACE
        return None

    @cython.final
    def _ask_for_another(self, hand: Hand) -> bool:
        """Without a feeder, each worker that finds an item and leaves some behind has another hired, once."""
        if hand._followed or not self._hiring or self._goods is None:
            return False
        hand._followed = self._stocked or self._taken < self._fed
        if hand._followed:
            hand._asks |= HIRE
        return hand._followed

    @cython.final
    def _lock_with_places(self, count: int) -> bool:
        """Take the lock, with so many places in the ring for items to be drawn, or as many as there may be items."""
        lock_take(self._lock)
        while self._stocked and self._has_room():  # Not once it is cleared.
            if self._places() >= min(count, self._ahead - (self._fed - self._read)):
                break
            lock_drop(self._lock)
            self.grow()
            lock_take(self._lock)
        return True

    # The feeder

    def put(self, item: Any) -> int:
        """Put an item, and what is to be done before the next: WORKER_WANTED, PACE_DUE, IS_FULL, or nothing.

        `Cancelled`, and nothing done, if the ambient context has ended.
        """
        scope = ambient_get()
        if scope is not None:
            scope.require()
        waiter = None
        watch = False
        asks = 0
        lock_take(self._lock)
        while self._places() == 0 and not self._cleared:
            lock_drop(self._lock)
            self.grow()
            lock_take(self._lock)
        try:
            if not self._cleared:
                self._lay(item)
                if self._workers.first is not None:
                    if self._hasty and self._fed - self._taken < self._portion:
                        watch = self._begin_watch()
                    else:
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
        if watch:
            self._arm()
        return asks

    def draw_from(self, goods: Any) -> Any:
        """There is no feeder: whoever finds no item puts some of these himself. They must be a list, a tuple or a
        range, from which to take an item is not to wait and runs no code of the user's."""
        stock = iter(goods)
        lock_take(self._lock)
        self._goods = goods  # When the iterator comes to its end, it lets go of them under the lock.
        self._stock = stock
        self._stocked = True
        self._sole = type(stock) is RANGE_ITERATOR
        lock_drop(self._lock)

    def parked(self) -> int:
        """How many workers wait for an item."""
        lock_take(self._lock)
        count = self._workers.count()
        lock_drop(self._lock)
        return count

    def set_pace(self, ahead: int, portion: int, mark: int, hasty: bool) -> Any:
        """From now on: how many items may be under way, how many places have to be free before the feeder, which has
        waited for one, goes on, at which item the pace is to be reckoned again, and whether items are hasty."""
        lock_take(self._lock)
        self._ahead = ahead
        self._portion = portion
        self._mark = mark
        self._hasty = hasty
        waiter = self._next_of(ITEM)  # With a stock, somebody may have waited for more room.
        lock_drop(self._lock)
        wake_all(waiter)

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
        be none. `Cancelled`, and none taken, if the hand's context has ended."""
        ended = hand._scope is not None and hand._scope.over()
        watch = False
        waiter = None
        other = None
        taken = False
        item = OVER
        hand._asks = 0
        self._lock_with_places(BATCH)
        try:
            if hand._holds:
                hand._holds = False
                self._place(hand._number, hand._result, 0)
            if not ended and not self._cleared:
                if self._stocked and self._taken == self._fed and self._has_room():
                    other = self._draw(hand)
                if self._taken < self._fed:
                    hand._number = self._taken
                    item = self._lift()
                    taken = True
                    self._ask_for_another(hand)
                    if other is None and self._workers.first is not None:
                        if self._hasty:
                            watch = self._begin_watch()
                        else:
                            other = self._next_of(ITEM)
                elif not self._ended:
                    item = NOTHING
            if self._readers.first is not None:
                # Where both run at once, a reader who is woken for each hasty item gets in the worker's way.
                if not LOCKS or not self._hasty or not taken or self._ready - self._fetched >= BATCH:
                    waiter = self._next_of(RESULT)
                elif self._begin_watch():
                    watch = True
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
        if other is not None:
            wake_all(other)
        if watch:
            self._arm()
        if ended:
            hand._scope.require()
        return moved(item)

    @cython.final
    def take_many(self, hand: Hand, least: int, most: int) -> list[Any]:
        """As many items as there are, of consecutive numbers; an empty list in place of NOTHING and OVER, and if there
        are fewer than `least`."""
        other = None
        count = 0
        items: list[Any] = [None] * most
        hand._asks = 0
        self._lock_with_places(most)
        try:
            while self._stocked and self._fed - self._taken < most and self._has_room():
                other = self._draw(hand)
            if self._fed - self._taken >= least and not self._cleared:
                hand._number = self._taken
                count = self._lift_into(items_of(items), most)
                self._ask_for_another(hand)
            if other is None:
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
        own = results[:]
        waiter = None
        lock_take(self._lock)
        try:
            for at in range(len(own)):
                self._place(hand._number, items_of(own), at)
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
        over = self._cleared or (self._ended and self._taken == self._fed)
        lock_drop(self._lock)
        return over

    def fail(self, error: BaseException) -> Any:
        """An item failed with `error`; the first such error is what the reader gets."""
        waiter = None
        lock_take(self._lock)
        try:
            if self._failure is None and not self._cleared:
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
        value = self._basket.take()
        return self._next_fetched() if value is NOTHING else value

    @cython.final
    def _next_fetched(self) -> Any:
        waiter = None
        other = None
        value = NOTHING
        lock_take(self._lock)
        try:
            value = self._fetch(min(BATCH, self._portion))
            if self._feeders.first is not None:
                waiter = self._next_of(ROOM)
            elif self._stocked and self._workers.first is not None:
                waiter = self._next_of(ITEM)
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
        all_read = self._complete and self._all_read()
        lock_drop(self._lock)
        return all_read

    def shut(self) -> Any:
        """Nobody will read any more: let go of everything. Idempotent."""
        ring: list[Any] = []
        results: list[Any] = []
        goods = stock = failure = None
        waiter = None
        lock_take(self._lock)
        try:
            self._failure, failure = failure, self._failure
            ring = self._clear(ring)
            results = self._basket.empty(results)
            self._stocked = False
            self._goods, goods = goods, self._goods
            self._stock, stock = stock, self._stock
            waiter = self._all_of(RESULT, self._all_of(ITEM, self._all_of(ROOM, None)))
        finally:
            lock_drop(self._lock)
        wake_all(waiter)
        del ring, results, goods, stock, failure  # Only now: what is let go of may run code of the user's.

    # Waiting, in both colours

    def _ready_or_queued(self, node: Node) -> bool:
        ready = True
        waiter = None
        lock_take(self._lock)
        try:
            if not self._may_go_on(node.kind):
                if node.kind == ROOM:
                    waiter = self._next_of(ITEM)  # The items may be fewer than hasty workers are called for.
                if node.kind == ITEM and self._hasty:
                    self._workers.prepend(node)  # Who worked last is called first: he may not be asleep yet.
                else:
                    self._queue_of(node.kind).append(node)
                ready = False
        finally:
            lock_drop(self._lock)
        if waiter is not None:
            wake_all(waiter)
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

    def wait(self, kind: int, patient: bool = False) -> Any:
        """Park until it makes sense to look for that again; `patient`: it will take a while."""
        check_ambient()
        operation: str = OPERATIONS[kind]
        waiter = SEAM.runtime.thread_waiter(operation, "apmap")
        waiter._patient = patient
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
    """What one worker takes items with, and gives results: an iterator of items. `attend` does what the conveyor asks
    for: WORKER_WANTED, PACE_DUE, DRAW_FAILED. Its context is what was the ambient one when it was made."""

    __slots__ = (
        "_asks",
        "_attend",
        "_conveyor",
        "_followed",
        "_held",
        "_holds",
        "_number",
        "_result",
        "_scope",
        "_worked",
    )

    def __init__(self, conveyor: Conveyor, attend: Any) -> None:
        self._conveyor = conveyor
        self._attend = attend
        self._scope = ambient_get()
        self._held: list[Any] = [None]
        self._result = items_of(self._held)
        if not cython.compiled:
            self._holds = self._followed = self._worked = False
            self._asks = self._number = 0

    def __iter__(self) -> Any:
        return self

    def __next__(self) -> Any:
        while True:
            item = self.take()
            if item is OVER:
                raise StopIteration
            if item is not NOTHING:
                self._worked = True
                return item
            self._conveyor.wait(ITEM, not self._worked)  # Who was woken for nothing does not expect to be soon again.
            self._worked = False

    def take(self) -> Any:
        """The next item, for a worker that awaits one if there is none: NOTHING, or OVER."""
        item = self._conveyor.exchange(self)
        if self._asks != 0:
            self._attend(self._asks)
        return item

    def give(self, result: Any) -> None:
        """The result of the item that was taken last. It is passed on as the next is taken."""
        ring_keep(self._result, 0, result)
        self._holds = True

    def take_many(self, most: int) -> list[Any]:
        """Take up to so many items, at least one; empty: there is no more."""
        check_ambient()
        while True:
            self._conveyor.linger(most)
            items = self.take_many_now(1, most)
            if items or self._conveyor.over():
                return items
            self._conveyor.wait(ITEM)

    def take_many_now(self, least: int, most: int) -> list[Any]:
        """The same if there are at least so many; else empty. Does not look at the ambient context."""
        items = self._conveyor.take_many(self, least, most)
        if self._asks != 0:
            self._attend(self._asks)
        return items

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
