"""Lock order: mistakes that lead to deadlocks some day are found on any day on which they do no harm.

While this is on, each task's held locks are known, and a graph remembers which lock was asked for while which other
was held. What is found is printed to standard error, once, and kept: see `findings`.

- An inversion: tasks take the same locks in different orders, so that each may come to hold what the next one waits
  for. It need not have happened, nor the tasks have run at the same time.
- A double lock: a task waits without a limit for a lock that it holds itself. It may be meant so where another task
  releases that lock.
- A recursive read lock: a task asks for a read/write mutex that it holds for reading. A writer that comes in between
  is waited for by the second request, and waits for the first.
"""

from __future__ import annotations

import functools
import sys
from typing import TYPE_CHECKING, Any

from penstock._kernel import foreign_locks
from penstock._kernel.loops import running_task
from penstock.deadlock.lock_findings import Finding, Step
from penstock.deadlock.lock_graph import Graph
from penstock.deadlock.lock_holding import Order
from penstock.deadlock.wrapping import Wrapping
from penstock.group import Task
from penstock.sync import Mutex, RWMutex, Side

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["Finding", "Step", "clear", "findings", "start", "stop"]

_READ = 1
_ORDER = Order()
_want = _ORDER.want
_take = _ORDER.take
_take_within = _ORDER.take_within
_release = _ORDER.release
_held = _ORDER.held
_frame = sys._getframe


def _lock_of(target: Any, always: bool | None) -> tuple[Any, bool]:
    """What `target` locks, and whether that excludes all others, as `always` says; for a side, None, its kind does."""
    return (target._rw, target._kind != _READ) if always is None else (target, always)


def _ask(task: Any, lock: Any, kind: str, exclusive: bool, timeout: Any) -> None:
    """`task` is about to ask for the lock. A try waits for nothing, and takes no part."""
    mine = _held.get(task)
    if mine is not None and not (isinstance(timeout, int | float) and timeout <= 0):
        _want(mine, lock, kind, exclusive=exclusive, for_ever=timeout is None)


# What stands for the methods, for as long as this is on. The frame that takes a lock is the wrapper's caller.


def _entering(original: Callable[..., Any], cls: type, _name: str) -> Callable[..., Any]:
    """`with mutex:`, the most frequent way."""
    kind = _kind(cls)

    def enter(lock: Any) -> Any:
        task = running_task()
        mine = _held.get(task)
        if mine is not None:
            _want(mine, lock, kind, exclusive=True, for_ever=True)
        result = original(lock)
        _take_within(task, lock, kind, _frame(1))
        return result

    return enter


def _acquiring(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    kind = _kind(cls)
    always = None if cls is Side else not name.endswith("_read")

    def acquire(target: Any, *args: Any, **options: Any) -> Any:
        lock, exclusive = _lock_of(target, always)
        task = running_task()
        _ask(task, lock, kind, exclusive, args[0] if args else options.get("timeout"))
        result = original(target, *args, **options)
        _take(task, lock, kind, _frame(1), exclusive=exclusive)
        return result

    return acquire


def _acquiring_async(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    kind = _kind(cls)
    always = None if cls is Side else not name.endswith("_read")

    async def acquire(target: Any, *args: Any, **options: Any) -> Any:
        lock, exclusive = _lock_of(target, always)
        task = running_task()
        _ask(task, lock, kind, exclusive, args[0] if args else options.get("timeout"))
        result = await original(target, *args, **options)
        _take(task, lock, kind, _frame(1), exclusive=exclusive)
        return result

    return acquire


def _trying(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    kind = _kind(cls)
    always = None if cls is Side else not name.endswith("_read")

    def try_acquire(target: Any) -> Any:
        taken = original(target)
        if taken:
            lock, exclusive = _lock_of(target, always)
            _take(running_task(), lock, kind, _frame(1), exclusive=exclusive)
        return taken

    return try_acquire


def _releasing(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    if cls is Side:

        def release_side(side: Any) -> Any:
            _release(side._rw, exclusive=side._kind != _READ)
            return original(side)

        return release_side
    exclusive = not name.endswith("_read")

    def release(lock: Any, *args: Any) -> Any:
        _release(lock, exclusive=exclusive)
        return original(lock, *args)

    return release


def _ending(original: Callable[..., Any], _cls: type, _name: str) -> Callable[..., Any]:
    def end(*args: Any) -> Any:
        _ORDER.ended()
        return original(*args)

    return end


def _kind(cls: type) -> str:
    return "mutex" if cls is Mutex else "rwmutex"


def _like(wrap: Callable[..., Callable[..., Any]]) -> Callable[..., Callable[..., Any]]:
    """Let what is wrapped keep its name and its documentation."""

    def wrapper(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
        wrapped = wrap(original, cls, name)
        return functools.update_wrapper(wrapped, original, ("__name__", "__qualname__", "__doc__"), ())

    return wrapper


# Conditions take and release their locks by these.
_METHODS: tuple[tuple[Callable[..., Callable[..., Any]], dict[type, tuple[str, ...]]], ...] = (
    (_entering, {Mutex: ("__enter__",)}),
    (
        _acquiring,
        {
            Mutex: ("acquire", "_reacquire"),
            RWMutex: ("acquire_read", "acquire_write"),
            Side: ("acquire", "_reacquire"),
        },
    ),
    (
        _acquiring_async,
        {
            Mutex: ("aacquire", "__aenter__", "_areacquire"),
            RWMutex: ("aacquire_read", "aacquire_write"),
            Side: ("aacquire", "_areacquire"),
        },
    ),
    (
        _trying,
        {Mutex: ("try_acquire",), RWMutex: ("try_acquire_read", "try_acquire_write"), Side: ("try_acquire",)},
    ),
    (
        _releasing,
        {Mutex: ("release", "__exit__"), RWMutex: ("release_read", "release_write"), Side: ("release",)},
    ),
    (_ending, {Task: ("_end",)}),
)
_WRAPPINGS = [Wrapping(methods, _like(wrap)) for wrap, methods in _METHODS]


class _State:
    """Is it on?"""

    on = False


def start(*, printed: bool = True, threading: bool = False) -> None:
    """Look at the order of locks from now on. Idempotent.

    `printed`: what is found is printed to standard error as well. `threading`: the locks of the module `threading` are
    looked at too, those that are made from now on outside the standard library.
    """
    _ORDER.printed = printed
    if threading:
        foreign_locks.replace(_ORDER)
    if not _State.on:
        _State.on = True
        for wrapping in _WRAPPINGS:
            wrapping.install()


def stop() -> None:
    """Look no more, and forget which locks are held. What has been found stays. Idempotent."""
    foreign_locks.restore()
    if _State.on:
        _State.on = False
        for wrapping in _WRAPPINGS:
            wrapping.remove()
        _ORDER.held.clear()
        _ORDER.graph = Graph()


def findings() -> list[Finding]:
    """What has been found so far."""
    return list(_ORDER.found)


def clear() -> None:
    """Forget what has been found, so that it is told again."""
    _ORDER.found.clear()
    _ORDER.known.clear()
