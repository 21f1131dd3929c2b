"""Shards: a hash map in parts, each a dictionary with a lock of its own.

Invariants
  M1. A key stands in the shard that its hash says, if anywhere, and that never changes.
  M2. A shard's dictionary changes while its lock is held (`_state` is not FREE). A reader needs no lock: looking up,
      and copying, is one step of the dictionary, with the GIL and free-threaded.
  M3. It is a lock of threads, not a kernel lock: user code runs while it is held (`==` of keys, callbacks, finalizers
      of what is replaced). Whoever waits for it parks; asyncio tasks too, since a holder is always at work in another
      thread. `holder` is the thread that has it.
  M4. A holder that comes again has been called back. During a callback, which is atomic, that is refused. Otherwise it
      is a finalizer or `==`, called by the only step there is, and goes ahead.
  M5. `_state` is CONTENDED while somebody is parked or about to be; who releases a contended lock wakes one, who tries
      again. Whoever parks stands in WAITING, so that threads that wait for each other in a circle notice.
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
        atomic_load,
        borrowed,
        call_one,
        dict_get,
        dict_get_in,
        guarded_cas,
        guarded_cas_soon,
        immortal,
        is_coroutine,
        item_at,
        items_of,
        moved,
        shard_number,
        thread_ident,
    )
    from penstock._kernel.locks import SemaphoreCore

    FREE, HELD, CONTENDED = 0, 1, 2

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MANY = 1 << 30
SUSPICION = 0.02  # Seconds after which what looks like a circle is looked at again.

MISSING: Any = immortal(object())
missing_mark = MISSING  # For the code above the kernel.

WAITING: dict[int, Shard] = {}


def refuse(function: Any, coroutine: Any) -> None:
    coroutine.close()
    raise TypeError(f"{function!r} is an async function; await its result first, and give the map that")


class Shard:
    """One part of the map."""

    __slots__ = ("_dictionary", "_state", "_wakes", "calling", "contended", "holder", "items")

    def __init__(self) -> None:
        if not cython.compiled:
            self._state = Atomic()
        self.items: dict[Any, Any] = {}
        self._dictionary = borrowed(self.items)
        self.holder = 0
        self.calling = False
        self.contended = 0
        self._wakes = SemaphoreCore(MANY)
        self._wakes.try_acquire(MANY)

    def take(self, calling: bool) -> bool:
        """Lock. False: this thread has it already, and goes ahead (M4)."""
        if not guarded_cas(self._state, FREE, HELD) and not self.take_from_other():
            return False
        self.holder = thread_ident()
        self.calling = calling
        return True

    def take_from_other(self) -> bool:
        """The rest of `take`, where somebody has the lock."""
        if self.holder == thread_ident():
            if self.calling:
                raise RuntimeError(
                    "a callback of a ShardedMap uses its own shard of the map; let it use the value it is given"
                )
            return False
        if not guarded_cas_soon(self._state, FREE, HELD):
            self._wait()
        return True

    def drop(self) -> None:
        self.holder = 0
        self.calling = False
        if not guarded_cas(self._state, HELD, FREE):
            self.drop_contended()

    def drop_contended(self) -> None:
        """The rest of `drop`, where somebody waits."""
        guarded_cas(self._state, CONTENDED, FREE)
        self._wakes.release(1)

    def put(self, key: Any, value: Any) -> bool:
        """Let `value` be the value of `key`."""
        taken = self.take(False)
        try:
            self.items[key] = value
        finally:
            if taken:
                self.drop()
        return True

    def update(self, key: Any, function: Callable[[Any], Any], default: Any) -> Any:
        """Let `function` of the value of `key` be its value; KeyError if there is none, and `default` is the mark."""
        taken = self.take(True)
        try:
            old = dict_get_in(self._dictionary, key, default)
            if old is MISSING:
                raise KeyError(key)
            value = call_one(function, old)
            if is_coroutine(value):
                refuse(function, value)
            self.items[key] = value
        finally:
            if taken:
                self.drop()
        return moved(value)  # `old` goes when the lock has gone.

    def _wait(self) -> bool:
        me = thread_ident()
        suspected = False
        while True:
            if guarded_cas(self._state, FREE, CONTENDED):
                self.contended += 1
                return True
            if atomic_load(self._state) == CONTENDED or guarded_cas(self._state, HELD, CONTENDED):
                WAITING[me] = self
                try:
                    # What is seen of other threads may be out of date; a circle that is one is still there later.
                    circle = self._in_circle(me)
                    if circle and suspected:
                        raise RuntimeError(
                            "callbacks of a ShardedMap wait for each other's shards; a callback should use no other key"
                        )
                    suspected = circle and not self._wakes.enter_shielded(SUSPICION, "ShardedMap")
                    if not circle:
                        self._wakes.enter_shielded(None, "ShardedMap")
                finally:
                    del WAITING[me]

    def _in_circle(self, me: int) -> bool:
        """Do threads wait for each other's shards, each in a callback, as they would for ever?"""
        holder = self.holder
        for _ in range(len(WAITING)):
            shard = dict_get(WAITING, holder, None)
            if shard is None:
                return False
            holder = shard.holder
            if holder == me:
                return True
        return False


class ShardedMapCore:
    """A mutable mapping in shards, without what `collections.abc` gives to it."""

    __slots__ = ("__weakref__", "_dictionaries", "_parts", "_places", "_shards", "_size")

    def __init__(self, shards: int = 16) -> None:
        if isinstance(shards, bool) or not isinstance(shards, int):
            raise TypeError(f"the number of shards must be an integer, not {shards!r}")
        if shards < 1:
            raise ValueError(f"the number of shards must be 1 or more, not {shards}")
        self._size = shards
        self._shards = [Shard() for _ in range(shards)]
        self._dictionaries = [cython.cast(Shard, shard).items for shard in self._shards]
        self._places = items_of(self._shards)
        self._parts = items_of(self._dictionaries)

    @cython.final
    def _part(self, key: Any) -> Any:
        """The dictionary that has the key, if any has: a reference that is not counted."""
        return item_at(self._parts, shard_number(key, self._size))

    @cython.final
    def _shard(self, key: Any) -> Shard:
        return self._shards[shard_number(key, self._size)]

    def __getitem__(self, key: Any) -> Any:
        value = dict_get_in(self._part(key), key, MISSING)
        if value is MISSING:
            raise KeyError(key)
        return value

    def get(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return dict_get_in(self._part(key), key, default)

    def __contains__(self, key: Any) -> bool:
        return dict_get_in(self._part(key), key, MISSING) is not MISSING

    def __len__(self) -> int:
        return self.length()

    def length(self) -> int:
        size = 0
        for shard in self._shards:
            size += len(shard.items)
        return size

    def __setitem__(self, key: Any, value: Any) -> None:
        cython.cast(Shard, item_at(self._places, shard_number(key, self._size))).put(key, value)

    def __delitem__(self, key: Any) -> None:
        self.remove(key, MISSING)

    def remove(self, key: Any, default: Any) -> Any:
        """As `dict.pop`; KeyError if `default` is the mark."""
        shard = self._shard(key)
        taken = shard.take(False)
        try:
            value = shard.items.pop(key, default)
        finally:
            if taken:
                shard.drop()
        if value is MISSING:
            raise KeyError(key)
        return value

    def setdefault(self, key: Any, default: Any = None) -> Any:
        """The value of `key`, which becomes `default` if there is none. Atomic."""
        shard = self._shard(key)
        taken = shard.take(False)
        try:
            return shard.items.setdefault(key, default)
        finally:
            if taken:
                shard.drop()

    def update_with(self, key: Any, function: Callable[[Any], Any], default: Any = MISSING) -> Any:
        """Let `function(old)` be the value of `key`, atomically; returns it.

        Where there is no value, `default` is the old one; without it, KeyError. If the function raises, nothing has
        changed. Meanwhile changes of keys in the same shard wait; the function must not use the map itself: for keys of
        its own shard that raises RuntimeError.
        """
        shard = item_at(self._places, shard_number(key, self._size))
        return cython.cast(Shard, shard).update(key, function, default)

    def compute_if_absent(self, key: Any, factory: Callable[[], Any]) -> Any:
        """The value of `key`, which becomes `factory()` if there is none: the factory is called once for each key.

        If it raises, nothing has changed. The same holds for it as for the function of `update_with`.
        """
        value = dict_get_in(self._part(key), key, MISSING)
        if value is not MISSING:
            return value
        shard = self._shard(key)
        taken = shard.take(True)
        try:
            value = dict_get(shard.items, key, MISSING)
            if value is MISSING:
                value = factory()
                if is_coroutine(value):
                    refuse(factory, value)
                shard.items[key] = value
        finally:
            if taken:
                shard.drop()
        return value

    def clear(self) -> None:
        """Remove everything, shard by shard."""
        for shard in self._shards:
            if shard.calling and shard.holder == thread_ident():
                shard.take(False)  # That raises, before anything has been removed.
        for shard in self._shards:
            taken = shard.take(False)
            try:
                dropped = shard.items.copy()
                shard.items.clear()
            finally:
                if taken:
                    shard.drop()
            dropped = None  # noqa: F841  now, with the lock gone

    def parts(self) -> Iterator[dict[Any, Any]]:
        """A copy of each shard, made when it comes to it. No lock is held while it is used."""
        all_items = []
        for shard in self._shards:
            all_items.append(shard.items)  # noqa: PERF401  a comprehension's variable has no C type
        return map(dict.copy, all_items)

    def frozen_parts(self) -> list[dict[Any, Any]]:
        """Copies of all shards as of one instant."""
        taken: list[Any] = []
        copies = []
        try:
            for shard in self._shards:
                if shard.take(True):
                    taken.append(shard)  # noqa: PERF401  as in `parts`
            for shard in self._shards:
                copies.append(shard.items.copy())  # noqa: PERF401
        finally:
            for shard in taken:
                shard.drop()
        return copies

    def counts(self) -> list[tuple[int, int]]:
        """Of each shard: how many items it has, and how many operations had to wait for its lock."""
        counts = []
        for shard in self._shards:
            counts.append((len(shard.items), shard.contended))  # noqa: PERF401
        return counts
