"""The twin of native.h and parking.h for the interpreted kernel: the same names, in Python.

The lock can be taken again by the thread that holds it. A finalizer or a signal handler that calls in while its own
thread is inside a locked region therefore never deadlocks, but it may see that region half done (C6); compiled, locked
regions run no Python code, and this cannot happen.
"""

from __future__ import annotations

import _thread
import ctypes
import random
import threading
import time
from itertools import islice
from types import CoroutineType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from contextvars import ContextVar

LOCKS = True

# A waiter's state: FIRED + n says that its node number n fired.
WAITING = 0
EXPIRED = 1
WITHDRAWN = 2
FIRED = 3

monotonic = time.monotonic
thread_ident = threading.get_ident
random_below = random.randrange


class Atomic:
    """An integer with a compare-and-swap."""

    __slots__ = ("_guard", "_value")

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._value = 0


def atomic_load(atomic: Atomic) -> int:
    return atomic._value


def atomic_cas(atomic: Atomic, expected: int, to: int) -> bool:
    with atomic._guard:
        if atomic._value != expected:
            return False
        atomic._value = to
        return True


guarded_cas = atomic_cas


def guarded_cas_soon(_atomic: Atomic, _expected: int, _to: int) -> bool:
    """In a few tries: here to try again at once is no use."""
    return False


Lock = threading.RLock


def lock_take(lock: threading.RLock) -> None:
    lock.acquire()


def lock_drop(lock: threading.RLock) -> None:
    lock.release()


class Locks:
    """The locks of several channels, each once, in one order everywhere."""

    __slots__ = ("all",)

    def __init__(self) -> None:
        self.all: dict[int, threading.RLock] = {}


def locks_open(locks: Locks, most: int) -> None:
    """Nothing is in it yet; `most` locks will be added."""


def locks_add(locks: Locks, lock: threading.RLock) -> None:
    locks.all[id(lock)] = lock


def locks_take(locks: Locks) -> None:
    for _, lock in sorted(locks.all.items()):
        lock.acquire()


def locks_drop(locks: Locks) -> None:
    for lock in locks.all.values():
        lock.release()


_ambient_variable: ContextVar[Any]


def ambient_bind(variable: ContextVar[Any]) -> None:
    """Say which context variable holds the ambient scope."""
    global _ambient_variable
    _ambient_variable = variable


def ambient_get() -> Any:
    """The ambient scope, or None."""
    return _ambient_variable.get(None)


def ambient_set(scope: Any) -> Any:
    """Make `scope` ambient; what it gives undoes that."""
    return _ambient_variable.set(scope)


def ambient_reset(token: Any) -> None:
    """Undo an `ambient_set`."""
    _ambient_variable.reset(token)


def shared(value: Any) -> Any:
    """A reference that another thread may drop: here all are."""
    return value


def disown(value: object) -> None:
    """`value` exists to change threads."""


def immortal(value: Any) -> Any:
    """`value` lives as long as the process."""
    return value


def items_of(ring: list[Any]) -> list[Any]:
    return ring


def item_at(items: list[Any], at: int) -> Any:
    return items[at]


def ring_take(items: list[Any], at: int) -> Any:
    value = items[at]
    items[at] = None
    return value


def ring_put(items: list[Any], at: int, value: Any) -> None:
    items[at] = value


ring_keep = ring_put


def ring_move(origin: list[Any], at: int, items: list[Any], there: int) -> None:
    """From slot to slot: an empty one is left."""
    items[there] = origin[at]
    origin[at] = None


def ring_share(items: list[Any], at: int) -> None:
    """Before what a slot holds is moved where other threads find it: here nothing is to be done."""


def ring_claim(items: list[Any], at: int) -> None:
    """After what a slot holds has come to this thread: as `ring_share`."""


def ring_draw(iterator: Any, _sole: bool, most: int, items: list[Any], at: int, mask: int) -> int:
    """Move so many items of an iterator into a ring's slots from `at` on. How many there were; if it failed, -1 less
    that."""
    count = 0
    try:
        for item in islice(iterator, most):
            items[(at + count) & mask] = item
            count += 1
    except MemoryError:
        return -1 - count
    return count


def moved(value: Any) -> Any:
    """What a local variable holds that is not used any more."""
    return value


dict_get = dict_get_in = dict.get


def borrowed(value: Any) -> Any:
    """A reference that is not counted."""
    return value


def is_coroutine(value: Any) -> bool:
    return type(value) is CoroutineType


def call_one(function: Any, argument: Any) -> Any:
    return function(argument)


def shard_number(key: Any, shards: int) -> int:
    """Which of the shards is the key's: of its hash, spread by Fibonacci hashing, the upper bits."""
    spread = (hash(key) * 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    return ((spread >> 32) * shards) >> 32


def select_function(like: Any, _body: object) -> Any:
    """`like`, called faster: here it is what it is."""
    return like


def new_instance(cls: Any) -> Any:
    return cls.__new__(cls)


# A signal that arrives just before the sleep does not interrupt it: the main thread looks again this often.
SIGNAL_SLICE = 0.1


class Parker:
    """Where one thread sleeps once; any thread wakes it."""

    __slots__ = ("_asleep",)

    def __init__(self) -> None:
        self._asleep = threading.Lock()
        self._asleep.acquire()


_sleepers: set[int] = set()


def parker_park(parker: Parker, deadline: float, main_thread: bool, _spin: bool) -> int:
    """1 when woken, 0 when the clock has passed `deadline`; raises what a signal handler raised."""
    ident = thread_ident()
    try:
        _sleepers.add(ident)
        return _sleep(parker, deadline, main_thread)
    finally:
        _sleepers.discard(ident)


def parker_sleepers() -> int:
    """How many threads are asleep in `parker_park`."""
    return len(_sleepers)


def _sleep(parker: Parker, deadline: float, main_thread: bool) -> int:
    while True:
        seconds = deadline - monotonic()
        if seconds > threading.TIMEOUT_MAX:
            seconds = threading.TIMEOUT_MAX if deadline < float("inf") else -1
        elif seconds <= 0:
            return int(parker._asleep.acquire(blocking=False))
        if main_thread and not 0 <= seconds <= SIGNAL_SLICE:
            seconds = SIGNAL_SLICE
        if parker._asleep.acquire(timeout=seconds):
            return 1


def parker_wake(parker: Parker) -> None:
    parker._asleep.release()


def parker_free(parker: Parker) -> None:
    """Nothing to give back: the lock goes with the parker."""


def raise_soon(error: BaseException) -> None:
    """Raise `error` in the main thread at the next instruction that can."""
    if type(error) is KeyboardInterrupt:
        _thread.interrupt_main()
        return
    ident = ctypes.c_ulong(threading.main_thread().ident or 0)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(type(error)))


def parking_after_fork() -> None:
    """In the child process nobody sleeps."""
    _sleepers.clear()
