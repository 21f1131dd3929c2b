"""Where tasks can be switched: before and after each call of the library that the scenario makes."""

from __future__ import annotations

import sys
from functools import wraps
from inspect import iscoroutine, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from penstock import channel, group
from penstock._kernel.simulation import simulated, watch_select
from penstock.channel import Channel, DoneChannel, RecvChannel, SendChannel
from penstock.context import Context
from penstock.deadlock.wrapping import Wrapping
from penstock.errors import Cancelled, WouldBlock
from penstock.group import Group, Task
from penstock.patterns.backpressure import PressureGauge
from penstock.patterns.fan import FanReader, Merged
from penstock.patterns.sharding import ShardedMap
from penstock.patterns.stream import Stream
from penstock.sync import Condition, Mutex, Once, RWMutex, Semaphore, Side, WaitGroup
from penstock.testing.actors import USER, Actor
from penstock.testing.naming import subject_of
from penstock.testing.world import ExploredWorld
from penstock.time import Ticker, Timer

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock.testing.strategies import Footprint

_BLOCK = ("__enter__", "__exit__", "__aenter__", "__aexit__")
_LOCK = ("acquire", "try_acquire", "release", "aacquire", *_BLOCK)
_RECEIVE = ("recv", "recv_ok", "recv_nowait", "arecv", "arecv_ok")
_ITERATE = ("__next__", "__anext__")
_SEND = ("send", "send_nowait", "asend", "close", "__exit__")
_LOOK = ("__len__", "closed", "error", "statistics")
_SIDES = ("acquire_read", "try_acquire_read", "release_read", "acquire_write", "try_acquire_write", "release_write")
_MAPPING = ("__getitem__", "__setitem__", "__delitem__", "__contains__", "__len__", "__iter__", "__eq__", "__ior__")
_MORE_MAPPING = ("get", "pop", "popitem", "clear", "update", "setdefault", "update_with", "compute_if_absent")
_DERIVE = ("with_cancel", "with_timeout", "with_deadline", "with_value", "without_cancel")
_GAUGE = ("acquire", "aacquire", "try_acquire", "do", "ado", "in_flight", "limit", "admitted", "statistics")

OPERATIONS: dict[type, tuple[str, ...]] = {
    Channel: (*_RECEIVE, *_ITERATE, *_SEND, *_LOOK),
    RecvChannel: (*_RECEIVE, *_LOOK),
    DoneChannel: ("__bool__",),
    SendChannel: (*_SEND, *_LOOK),
    Merged: (*_RECEIVE, *_ITERATE, *_LOOK),
    FanReader: (*_ITERATE, "statistics", "leave"),
    Mutex: (*_LOCK, "locked"),
    RWMutex: (*_SIDES, "aacquire_read", "aacquire_write", "readers", "writing"),
    Side: (*_LOCK, "locked"),
    Semaphore: (*_LOCK, "free"),
    Condition: ("wait", "wait_async", "notify", "notify_all", *_BLOCK),
    WaitGroup: ("add", "done", "wait", "wait_async", "go", "count"),
    Once: ("do", "ado", "done"),
    Task: ("result", "aresult", "cancel", "done"),
    Group: ("go", "ago", "try_go", *_BLOCK),
    Context: ("cancel", "check", "error", "cause", "done", "after_func", *_DERIVE, *_BLOCK),
    Timer: ("stop", "reset"),
    Ticker: ("stop", "reset"),
    ShardedMap: (*_MAPPING, *_MORE_MAPPING, "keys", "values", "items", "snapshot", "statistics"),
    PressureGauge: (*_GAUGE, "leave", "ended"),  # The last two: what a permit calls when it is released.
    Stream: ("__iter__", "for_each", "afor_each", "collect", "acollect"),
}

_SHARED = (Channel, Mutex, RWMutex, Semaphore, WaitGroup)
"""What these do touches nothing but themselves, as long as no timer is set and no task started."""

_RUNNERS = {group._run.__code__, group._run_async.__code__, ExploredWorld._live.__code__}
"""Who calls the user's functions on his behalf: what these call is as if he had called it."""

_INVISIBLE = ("penstock._kernel.", "penstock.deadlock.")
"""Compiled, the kernel has no frames; interpreted, it is as if it had none. The other wraps what is wrapped here."""


def _world() -> ExploredWorld | None:
    world = simulated.world()
    return world if isinstance(world, ExploredWorld) else None


def _outside(world: ExploredWorld, name: str) -> FrameType | None:
    """Who makes a call of the library, if it is the user and not the library itself."""
    caller: FrameType | None = sys._getframe(2)
    while caller is not None:
        module = caller.f_globals.get("__name__", "")
        if not module.startswith("penstock."):
            break
        if caller.f_code in _RUNNERS and name != "check":
            return caller
        if not module.startswith(_INVISIBLE):
            return None
        caller = caller.f_back
    callers = world.current.thread.inside.callers
    # If the one whose call is under way makes another, then the kernel makes it.
    return None if callers and callers[-1] is caller else caller


def _footprint(world: ExploredWorld, subject: Any) -> Footprint:
    subject = subject_of(subject)
    return frozenset({world.names.number(subject)}) if isinstance(subject, _SHARED) else None


def _with_points(original: Callable[..., Any], cls: type, name: str) -> Callable[..., Any]:
    """`original` with a switch point before and one after it."""
    label = f"{cls.__name__}.{name}"
    polls = name.startswith("try_") or name == "__bool__"
    if iscoroutinefunction(original):

        @wraps(original)
        async def aoperation(self: Any, *args: Any, **options: Any) -> Any:
            world = _world()
            caller = None if world is None else _outside(world, name)
            if world is None or caller is None:
                return await original(self, *args, **options)
            world.point(label, self, None)
            me = world.current.thread.inside
            me.callers.append(caller)
            return await _to_the_end(world, me, original(self, *args, **options))

        return aoperation

    def operation(self: Any, *args: Any, **options: Any) -> Any:
        world = _world()
        caller = None if world is None else _outside(world, name)
        if world is None or caller is None:
            return original(self, *args, **options)
        world.point(label, self, _footprint(world, self))
        me = world.current.thread.inside
        me.callers.append(caller)
        awaited = None
        try:
            result = original(self, *args, **options)
            if polls:
                world.polled(in_vain=not result)
            if iscoroutine(result):
                awaited = _to_the_end(world, me, result)
                return awaited
        except (WouldBlock, TimeoutError):
            world.polled(in_vain=True)
            raise
        finally:
            if awaited is None:
                me.callers.pop()
                world.point("", None, USER)
        return _watched_stop(result) if name == "after_func" else result

    operation.__name__ = name
    operation.__qualname__ = label
    return operation


async def _to_the_end(world: ExploredWorld, me: Actor, coroutine: Any) -> Any:
    """Await what is left of an operation."""
    try:
        return await coroutine
    except TimeoutError:
        if not world.over:
            world.polled(in_vain=True)
        raise
    finally:
        me.callers.pop()
        world.point("", None, USER)


def _watched_stop(stop: Callable[[], bool]) -> Callable[[], bool]:
    """What `after_func` returns, with switch points."""

    def stop_callback() -> bool:
        world = _world()
        if world is None:
            return stop()
        world.point("stop", None, None)
        try:
            return stop()
        finally:
            world.point("", None, USER)

    return stop_callback


def _select_footprint(world: ExploredWorld, cases: tuple[Any, ...]) -> Footprint:
    subjects = [subject_of(case) for case in cases if case is not None]
    if all(isinstance(subject, Channel) for subject in subjects):
        return frozenset(map(world.names.number, subjects))
    return None


def _watch_select(select: Callable[..., Any], cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
    world = _world()
    caller = None if world is None else _outside(world, "select")
    if world is None or caller is None:
        return select(cases, timeout, default)
    world.point("select", cases, _select_footprint(world, cases))
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


def _watch_aselect(original: Callable[..., Any]) -> Callable[..., Any]:
    """In place of what an asynchronous select begins with: the point before it. Being resumed is one after it."""

    def select_or_wait(cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
        world = _world()
        caller = sys._getframe(1).f_back  # Past `aselect`.
        module = "" if caller is None else caller.f_globals.get("__name__", "")
        if world is None or module.startswith("penstock.patterns."):
            return original(cases, timeout, default)
        world.point("select", cases, None)
        got = original(cases, timeout, default)
        if default:
            world.polled(in_vain=got is None)
        return got

    return select_or_wait


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


_CHANNEL: Any = channel
_select_or_wait = _CHANNEL.select_or_wait


def install() -> None:
    """From now on there are switch points."""
    for wrapping in _WRAPPINGS:
        wrapping.install()
    watch_select(_watch_select)
    _CHANNEL.select_or_wait = _watch_aselect(_select_or_wait)


def remove() -> None:
    """There are none any more."""
    _CHANNEL.select_or_wait = _select_or_wait
    watch_select(None)
    for wrapping in _WRAPPINGS:
        wrapping.remove()
