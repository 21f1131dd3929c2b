"""The belt: numbered places for items that become results. What a conveyor moves; it knows nobody who waits.

Invariants (guarded by the lock)
  B1. `_read` <= `_fetched` <= `_ready` <= `_taken` <= `_fed`: how many results have been read for certain, have been
      fetched and can be, how many items have been taken and put. What has been fetched and not read lies in the basket.
  B2. `_ring` has a place for each number from `_read` to `_fed`. From `_fetched` to `_ready` there is a result to be
      read; from `_taken` on, an item that nobody has taken; between them results that wait for one before them, for
      which `_given` is 1, or nothing. Not in order, results stand in the order in which they came: none waits for
      another.
  B3. Cleared: ring and basket are empty, and stay empty.
  B4. Where each item was made when it was drawn (`_sole`), nothing but its place refers to an item that nobody has
      taken, and the reference is counted as its maker's own: who takes it owns it, or claims it.
The basket has a lock of its own, which is taken after the belt's where both are.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        Lock,
        immortal,
        items_of,
        lock_drop,
        lock_take,
        moved,
        ring_claim,
        ring_draw,
        ring_move,
        ring_put,
        ring_share,
        ring_take,
    )
    from penstock._kernel.waiters import Source

    BATCH = 64  # So many are moved at once that it pays, and so few that the lock is held briefly.

# What there is in place of an item or a result.
NOTHING: Any = immortal(object())


class Basket:
    """What the reader has fetched and not read yet: it costs him no turn at the belt's lock."""

    __slots__ = ("_at", "_count", "_items", "_lock", "_results")

    def __init__(self) -> None:
        self._results: list[Any] = [None] * BATCH
        self._items = items_of(self._results)
        if not cython.compiled:
            self._lock = Lock()
            self._at = self._count = 0

    def take(self) -> Any:
        """The next of them; NOTHING if there is none."""
        lock_take(self._lock)
        value = self._next()
        lock_drop(self._lock)
        return moved(value)

    def _next(self) -> Any:
        """The same, under the lock."""
        value = NOTHING
        if self._at < self._count:
            value = ring_take(self._items, self._at)
            self._at += 1
        return moved(value)

    def empty(self, results: list[Any]) -> list[Any]:
        """Begin again with that list; what the other still holds is left to the caller."""
        lock_take(self._lock)
        results, self._results = self._results, results
        self._items = items_of(self._results)
        self._at = self._count = 0
        lock_drop(self._lock)
        return results


class Belt(Source):
    """Places in a ring that grows with the items under way. Methods with a `_`: under the lock."""

    __slots__ = (
        "_basket",
        "_cleared",
        "_fed",
        "_fetched",
        "_given",
        "_items",
        "_ordered",
        "_read",
        "_ready",
        "_ring",
        "_size",
        "_sole",
        "_taken",
    )

    def __init__(self, ordered: bool) -> None:
        Source.__init__(self)
        self._ordered = ordered
        self._size = 8  # Always a power of two.
        self._ring: list[Any] = [None] * self._size
        self._items = items_of(self._ring)
        self._given = bytearray(self._size)
        self._basket = Basket()
        if not cython.compiled:
            self._fed = self._taken = self._ready = self._fetched = self._read = 0
            self._cleared = self._sole = False

    @cython.final
    def _places(self) -> int:
        """How many items could be put before the ring has to grow."""
        return self._size - (self._fed - self._read)

    @cython.final
    def _lay(self, item: Any) -> None:
        """Put an item; there must be a place for it."""
        at = self._fed & (self._size - 1)
        self._given[at] = 0
        ring_put(self._items, at, item)
        self._fed += 1

    @cython.final
    def _lay_from(self, stock: Any, most: int) -> int:
        """Put so many items of an iterator, if there are that many, and places for them. How many were wanting;
        negative: it failed."""
        most = min(most, self._places())
        drawn = ring_draw(stock, self._sole, most, self._items, self._fed, self._size - 1)
        count = -1 - drawn if drawn < 0 else drawn
        for number in range(self._fed, self._fed + count):
            self._given[number & (self._size - 1)] = 0
        self._fed += count
        return -1 if drawn < 0 else most - count

    @cython.final
    def _lift(self) -> Any:
        """Take the next item; there must be one."""
        at = self._taken & (self._size - 1)
        if self._sole:
            ring_claim(self._items, at)
        item = ring_take(self._items, at)
        self._taken += 1
        return item

    @cython.final
    def _lift_into(self, items: Any, most: int) -> int:
        """Take so many items, if there are that many. How many it were."""
        count = 0
        while count < most and self._taken < self._fed:
            at = self._taken & (self._size - 1)
            if self._sole:
                ring_claim(self._items, at)
            ring_move(self._items, at, items, count)
            self._taken += 1
            count += 1
        return count

    @cython.final
    def _place(self, number: int, results: Any, at: int) -> None:
        """The result of that item has come: it is moved from there."""
        if self._cleared:
            return
        mask = self._size - 1
        ring_share(results, at)
        if not self._ordered:
            ring_move(results, at, self._items, self._ready & mask)
            self._ready += 1
            return
        ring_move(results, at, self._items, number & mask)
        self._given[number & mask] = 1
        while self._ready < self._taken and self._given[self._ready & mask] == 1:
            self._ready += 1

    @cython.final
    def _fetch(self, most: int) -> Any:
        """For the reader: of so many results that are ready one, the others into the basket; NOTHING if none is. All
        that he had before have been read."""
        basket = self._basket
        lock_take(basket._lock)
        if basket._at == basket._count and not self._cleared:  # Otherwise somebody else, who reads as well, was here.
            self._read = self._fetched
            basket._at = basket._count = 0
            while basket._count < most and self._fetched < self._ready:
                ring_move(self._items, self._fetched & (self._size - 1), basket._items, basket._count)
                self._fetched += 1
                basket._count += 1
        value = basket._next()
        if basket._at == basket._count:
            self._read = self._fetched
        lock_drop(basket._lock)
        return moved(value)

    @cython.final
    def _all_read(self) -> bool:
        """Have all results of all items been read?"""
        lock_take(self._basket._lock)
        all_read = self._fetched == self._fed and self._basket._at == self._basket._count
        lock_drop(self._basket._lock)
        return all_read

    @cython.final
    def _clear(self, ring: list[Any]) -> list[Any]:
        """Let the empty list be the ring; what it was is left to the caller, who drops it without the lock."""
        ring, self._ring = self._ring, ring
        self._items = items_of(self._ring)
        self._cleared = True
        return ring

    @cython.final
    def grow(self) -> bool:
        """Double the ring."""
        lock_take(self._lock)
        size = 2 * self._size
        lock_drop(self._lock)
        ring: list[Any] = [None] * size
        given = bytearray(size)
        items = items_of(ring)
        lock_take(self._lock)
        if not self._cleared and size == 2 * self._size:
            mask = self._size - 1
            for number in range(self._read, self._fed):
                at = number & (size - 1)
                ring_move(self._items, number & mask, items, at)
                given[at] = self._given[number & mask]
            ring, self._ring = self._ring, ring
            given, self._given = self._given, given
            self._items = items
            self._size = size
        lock_drop(self._lock)
        return True
