"""Where tasks can be switched: before and after each call of the library that the scenario makes."""

from __future__ import annotations

import sys
from functools import wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import simulated, thread_number, watch_select
from penstock.channel import Channel
from penstock.context import Context
from penstock.deadlock.wrapping import Wrapping
from penstock.errors import Cancelled, WouldBlock
from penstock.group import Group, Task
from penstock.patterns.backpressure import PressureGauge
from penstock.patterns.fan import FanReader, Merged
from penstock.patterns.sharding import ShardedMap
from penstock.sync import Condition, Mutex, Once, RWMutex, Semaphore, Side, WaitGroup
from penstock.testing.world import USER, ExploredWorld
from penstock.time import Ticker, Timer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock.testing.strategies import Footprint

_LOCK = ("acquire", "try_acquire", "release", "aacquire", "__enter__", "__exit__", "__aenter__", "__aexit__")
_RECEIVE = ("recv", "recv_ok", "recv_nowait", "arecv", "arecv_ok", "__next__", "__anext__", "__len__", "closed")
_SIDES = ("acquire_read", "try_acquire_read", "release_read", "acquire_write", "try_acquire_write", "release_write")
_MAPPING = ("__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__")

OPERATIONS: dict[type, tuple[str, ...]] = {
    Channel: (*_RECEIVE, "send", "send_nowait", "asend", "close", "error", "statistics"),
    Merged: _RECEIVE,
    FanReader: ("leave",),
    Mutex: (*_LOCK, "locked"),
    RWMutex: (*_SIDES, "aacquire_read", "aacquire_write", "readers", "writing"),
    Side: (*_LOCK, "locked"),
    Semaphore: (*_LOCK, "free"),
    Condition: ("wait", "wait_async", "notify", "notify_all", "__enter__", "__exit__", "__aenter__", "__aexit__"),
    WaitGroup: ("add", "done", "wait", "wait_async", "go", "count"),
    Once: ("do", "ado", "done"),
    Task: ("result", "aresult", "cancel", "done"),
    Group: ("go", "ago", "try_go", "__enter__", "__exit__", "__aenter__", "__aexit__"),
    Context: ("cancel", "check", "error", "done", "after_func", "__enter__", "__exit__", "__aenter__", "__aexit__"),
    Timer: ("stop", "reset"),
    Ticker: ("stop", "reset"),
    ShardedMap: (*_MAPPING, "get", "pop", "setdefault", "update_with", "compute_if_absent"),
    PressureGauge: ("acquire", "aacquire", "try_acquire", "do", "ado"),
}

_SHARED = (Channel, Mutex, RWMutex, Semaphore, WaitGroup, Once)
"""What these do touches nothing but themselves."""


def _world() -> ExploredWorld | None:
    world = simulated.worlds.get(thread_number())
    return world if isinstance(world, ExploredWorld) else None


def _is_internal(caller: FrameType | None) -> bool:
    """Does the library call itself?"""
    return caller is not None and caller.f_globals.get("__name__", "").startswith("penstock.")


def _footprint(subject: Any) -> Footprint:
    if isinstance(subject, Side):
        subject = subject._rw
    return frozenset({id(subject)}) if isinstance(subject, _SHARED) else None


def _with_points(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    """`original` with a switch point before and one after it."""
    label = f"{cls.__name__}.{name}"
    polls = name.startswith("try_")
    if iscoroutinefunction(original):

        @wraps(original)
        async def aoperation(self: Any, *args: Any, **options: Any) -> Any:
            world = _world()
            if world is None or _is_internal(sys._getframe(1)):
                return await original(self, *args, **options)
            world.point(label, self, None)
            try:
                return await original(self, *args, **options)
            finally:
                world.point("", None, USER)

        return aoperation

    def operation(self: Any, *args: Any, **options: Any) -> Any:
        world = _world()
        if world is None or _is_internal(sys._getframe(1)):
            return original(self, *args, **options)
        world.point(label, self, _footprint(self))
        try:
            result = original(self, *args, **options)
            if polls:
                world.polled(in_vain=not result)
        except (WouldBlock, TimeoutError):
            world.polled(in_vain=True)
            raise
        finally:
            world.point("", None, USER)
        return result

    operation.__name__ = name
    operation.__qualname__ = label
    return operation


def _watch_select(select: Callable[..., Any], cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
    world = _world()
    caller: FrameType | None = sys._getframe(1)
    while caller is not None and caller.f_globals.get("__name__") == "penstock._kernel.selecting":
        caller = caller.f_back  # Interpreted, the select itself.
    if world is None or _is_internal(caller):
        return select(cases, timeout, default)
    channels = [getattr(case, "channel", None) or getattr(case, "_channel", case) for case in cases]
    simple = all(case is None or isinstance(case, Channel) for case in channels)
    world.point("select", cases, frozenset(id(case) for case in channels) if simple else None)
    try:
        got = select(cases, timeout, default)
        if default:
            world.polled(in_vain=got is None)
    except TimeoutError:
        world.polled(in_vain=True)
        raise
    finally:
        world.point("", None, USER)
    return got


def _with_name(original: Callable[..., Any], _cls: type, _name: str) -> Callable[..., Any]:
    """A task's `__init__`: the world is told what the thread that comes next is called."""

    def initialise(self: Any, *args: Any, **options: Any) -> None:
        original(self, *args, **options)
        world = _world()
        if world is not None:
            world.newborn = self

    return initialise


def _with_error(original: Callable[..., Any], _cls: type, _name: str) -> Callable[..., Any]:
    """A task's `_end`: the world is told of failures."""

    def end(self: Any, result: Any, error: BaseException | None) -> None:
        world = _world()
        if world is not None and error is not None and not isinstance(error, Cancelled):
            if world.over:
                self._collected = True
            else:
                world.failed.append(self)
        original(self, result, error)

    return end


_WRAPPINGS = (
    Wrapping(OPERATIONS, _with_points),
    Wrapping({Task: ("__init__",)}, _with_name),
    Wrapping({Task: ("_end",)}, _with_error),
)


def install() -> None:
    """From now on there are switch points."""
    for wrapping in _WRAPPINGS:
        wrapping.install()
    watch_select(_watch_select)


def remove() -> None:
    """There are none any more."""
    watch_select(None)
    for wrapping in _WRAPPINGS:
        wrapping.remove()
