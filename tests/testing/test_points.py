"""Switch points: each operation of each public class has one before and one after it."""

from __future__ import annotations

from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

import penstock
from penstock import (
    Channel,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    PressureGauge,
    RWMutex,
    Semaphore,
    ShardedMap,
    Stream,
    Ticker,
    Timer,
    WaitGroup,
    aselect,
    broadcast,
    current,
    fan_in,
    go,
    select,
    sleep,
)
from penstock.channel import DoneChannel
from penstock.context import Attachment
from penstock.patterns.fan import FanReader, Merged
from penstock.sync import Side
from penstock.testing import ScheduleFailed, explore
from penstock.testing.points import OPERATIONS

if TYPE_CHECKING:
    from collections.abc import Callable

# Completeness

EXPORTED = [thing for name in penstock.__all__ if isinstance(thing := getattr(penstock, name), type)]
CLASSES = [
    cls
    for cls in (*EXPORTED, Attachment, DoneChannel, FanReader, Merged, Side)
    if not issubclass(cls, BaseException) and not hasattr(cls, "__dataclass_fields__")
]

VALUES = {penstock.AIMD, penstock.Gradient2, penstock.Vegas, penstock.Selected, penstock.SendCase}
"""What is used by one task at a time, or never changes."""

SPECIAL = {
    *("__len__", "__bool__", "__next__", "__anext__", "__enter__", "__exit__", "__aenter__", "__aexit__"),
    *("__iter__", "__aiter__", "__getitem__", "__setitem__", "__delitem__", "__contains__", "__ior__"),
}

CONSTANT = {
    *("capacity", "name", "sender", "receiver", "channel", "lock", "size", "context", "parent", "deadline", "value"),
    *("since", "gauge", "background", "attach", "sending", "read", "write"),
}
"""What never changes, or only makes something that nobody else has."""

ELSEWHERE: dict[type, set[str]] = {
    Attachment: {"__enter__", "__exit__", "__aenter__", "__aexit__"},  # Of the task that has it alone.
    Channel: {"__bool__", "__iter__", "__aiter__", "__enter__"},  # Nothing, or the channel itself.
    Context: {"leave"},  # Behind `with`.
    penstock.SendChannel: {"__bool__", "__enter__"},
    penstock.RecvChannel: {"__bool__", "__iter__", "__aiter__"},
    penstock.Permit: {"release", "drop", "ignore", "released", *SPECIAL},  # PressureGauge.leave and .ended.
    PressureGauge: {"permit"},
    ShardedMap: {"__reversed__"},  # Raises.
    # They make what is yet to run, or run when what they made is iterated.
    Stream: {
        "map",
        "filter",
        "flat_map",
        "batch",
        "merge",
        "throttle",
        "catch",
        "take",
        "progress",
        "tee",
        "__aiter__",
    },
}

OF_THE_KERNEL = {
    *("abandon", "acquire_now", "admit_in_context", "admit_now", "amount", "begin_acquire", "begin_enter"),
    *("begin_join", "begin_take", "begin_wait", "begin_wait_in_thread", "call_at_end", "cancellation"),
    *("closed_at_end", "closed_error", "counts", "derive", "description", "discard", "done_channel", "end", "enlist"),
    *("enter", "enter_async", "enter_in_thread", "enter_now", "enter_shielded", "finish_enter", "finish_join"),
    *("finish_receive", "finish_send", "finish_take", "finish_value", "finish_wait", "found_closed", "frozen_parts"),
    *("interrupter", "join_in_thread", "leads_to", "leave_interrupter", "length", "lock_now", "notify_some"),
    *("gather", "give", "give_free", "has_failed", "run_now"),
    *(
        "offered",
        "on_end",
        "origin",
        "outer",
        "over",
        "parts",
        "permit",
        "poll",
        "poll_sources",
        "possible",
        "receivable",
    ),
    *("receive", "receive_locked", "receive_or_wait", "rejected", "remove", "require", "root", "send_locked"),
    *("send_or_wait", "send_value", "sendable", "set_limit", "shown_cancellation", "sources", "stand", "state"),
    *(
        "synchronise",
        "take",
        "take_back",
        "take_free",
        "take_now",
        "take_woken",
        "taken",
        "timed",
        "try_enter",
        "try_lock",
    ),
    *("try_take", "unlock", "value_or_wait", "wait_in_thread", "waiting"),
}
"""What the library calls, and is not documented."""


def is_watched(cls: type, name: str) -> bool:
    return any(name in OPERATIONS.get(base, ()) for base in cls.__mro__[: _defined_at(cls, name) + 1])


def _defined_at(cls: type, name: str) -> int:
    return next(at for at, base in enumerate(cls.__mro__) if name in base.__dict__)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_no_operation_is_without(cls: type) -> None:
    """Whoever adds an operation to a public class adds it to `points.OPERATIONS`, or says here why not."""
    if cls in VALUES:
        return
    names = {name for name in dir(cls) if not name.startswith("_") or name in SPECIAL}
    exempt = CONSTANT | OF_THE_KERNEL
    for base in cls.__mro__:
        exempt |= ELSEWHERE.get(base, set())
    missing = {name for name in names - exempt if getattr(cls, name) is not None and not is_watched(cls, name)}
    assert missing == set()


@pytest.mark.parametrize("cls", OPERATIONS, ids=lambda cls: cls.__name__)
def test_there_are_such_operations(cls: type) -> None:
    """What is said to be watched exists."""
    assert [name for name in OPERATIONS[cls] if not hasattr(cls, name)] == []


# That they are reached, and told


def told(scenario: Callable[[], Any]) -> list[str]:
    """What the timeline says that the tasks did."""

    def failing() -> None:
        scenario()
        raise LookupError

    async def afailing() -> None:
        await scenario()
        raise LookupError

    with pytest.raises(ScheduleFailed) as found:
        explore(afailing if iscoroutinefunction(scenario) else failing, schedules=1)
    assert isinstance(found.value.__cause__, LookupError), found.value
    lines = found.value.report.split("\n\n")[1].splitlines()
    return [line.rpartition("  ")[2].removesuffix(", and waits") for line in lines if "test_points.py" in line]


def views() -> None:
    channel: Channel[int] = Channel(2)
    channel.sender.send(1)
    channel.sender.send_nowait(2)
    channel.receiver.recv()
    channel.receiver.recv_ok()
    len(channel.receiver)
    with channel.sender:
        pass
    assert channel.receiver.closed


def contexts() -> None:
    context = current().with_cancel()
    assert not context.done
    stop = context.after_func(int)
    stop()
    context.cancel()
    assert context.error


def gauges() -> None:
    gauge = PressureGauge(1)
    permit = gauge.acquire()
    permit.release()
    with gauge.try_acquire() or permit:
        pass
    gauge.acquire().drop()


def maps() -> None:
    shared: ShardedMap[int, int] = ShardedMap()
    shared[1] = 2
    assert 1 in shared
    shared.update_with(1, lambda old: old + 1)
    shared.snapshot()
    list(shared.items())


def merged() -> None:
    one, other = Channel[int](1), Channel[int](1)
    both = fan_in(one, other)
    one.send(1)
    both.recv()
    one.close()
    other.close()
    assert list(both) == []


def read() -> None:
    channel: Channel[int] = Channel(1)
    reader, *_ = broadcast(channel, 1)
    reader.leave()


def clocks() -> None:
    timer, ticker = Timer(1), Ticker(1)
    timer.reset(2)
    timer.stop()
    ticker.reset(2)
    ticker.stop()


def counted() -> None:
    waits, once, semaphore = WaitGroup(), Once(), Semaphore(2)
    waits.add()
    waits.done()
    once.do(int)
    assert once.done
    assert semaphore.free
    task = go(int)
    task.result()
    assert task.done


async def selected() -> None:
    channel: Channel[int] = Channel(1)
    await aselect(channel, default=True)
    await channel.asend(1)
    assert (await aselect(channel)).value == 1


EXPECTED: dict[Callable[[], Any], str] = {
    views: """
        Channel 1: send
        Channel 1: send_nowait
        Channel 1: recv
        Channel 1: recv_ok
        Channel 1: len()
        Channel 1: close (with)
        Channel 1: closed
    """,
    contexts: """
        Context 1: with_cancel
        Context 2: done
        Channel 1: is it closed?
        Context 2: after_func
        stop
        Context 2: cancel
        Context 2: error
    """,
    gauges: """
        PressureGauge 1: acquire
        PressureGauge 1: leave
        PressureGauge 1: try_acquire
        PressureGauge 1: leave
        PressureGauge 1: acquire
        PressureGauge 1: ended
    """,
    maps: """
        ShardedMap 1: __setitem__
        ShardedMap 1: __contains__
        ShardedMap 1: update_with
        ShardedMap 1: snapshot
        ShardedMap 1: items
    """,
    merged: """
        Channel 1: send
        Merged 1: recv
        Channel 1: close
        Channel 2: close
        Merged 1: len()
        Merged 1: recv (for)
    """,
    read: """
        starts _pump
        Channel 1: leave
    """,
    clocks: """
        Timer 1: reset
        Timer 1: stop
        Ticker 1: reset
        Ticker 1: stop
    """,
    counted: """
        WaitGroup 1: add
        WaitGroup 1: done
        Once 1: do
        Once 1: done
        Semaphore 1: free
        starts int
        Task int: result
        Task int: done
        Channel 1: is it closed?
    """,
    selected: """
        select(receive from Channel 1)
        Channel 1: asend
        select(receive from Channel 1)
    """,
}


@pytest.mark.parametrize("scenario", EXPECTED, ids=lambda scenario: scenario.__name__)
def test_operations_are_told(scenario: Callable[[], Any]) -> None:
    """Each under its own name, once, in order; what the library calls inside is not told."""
    assert told(scenario) == [line.strip() for line in EXPECTED[scenario].strip().splitlines()]


# That tasks are switched there


def check_then_act(check: Callable[[], Any], act: Callable[[], Any]) -> None:
    """Two tasks that each look first, and rely on what they saw."""

    def work() -> None:
        if check():
            act()

    with Group() as group:
        group.go(work)
        group.go(work)


def view() -> None:
    channel: Channel[int] = Channel(1)
    channel.send(1)
    check_then_act(lambda: len(channel.receiver), channel.receiver.recv_nowait)


def shard() -> None:
    shared: ShardedMap[str, int] = ShardedMap()
    shared["key"] = 1
    check_then_act(lambda: "key" in shared, lambda: shared.pop("key"))


def permit() -> None:
    gauge = PressureGauge(1)
    check_then_act(lambda: not gauge.in_flight, gauge.acquire)


def released() -> None:
    gauge, seen = PressureGauge(1), []

    def work() -> None:
        permit = gauge.acquire()
        seen.append(1)
        permit.release()
        seen.append(2)

    with Group() as group:
        group.go(work)
        group.go(lambda: seen.append(gauge.try_acquire() is not None))
    assert seen != [1, True, 2]


def done() -> None:
    context = current().with_cancel()
    with Group() as group:
        group.go(context.cancel)
        if not context.done:
            assert context.error is None


def counter() -> None:
    waits = WaitGroup()
    waits.add()
    check_then_act(lambda: waits.count, waits.done)


def writing() -> None:
    lock = RWMutex()
    check_then_act(lambda: not lock.writing, lambda: _take(lock.try_acquire_write()))


def _take(got: bool) -> None:
    assert got


def notified() -> None:
    lock = Mutex()
    condition = Condition(lock)
    ready: list[int] = []

    def wait() -> None:
        if not ready:
            with condition:
                condition.wait()

    with Group() as group:
        group.go(wait)
        ready.append(1)
        with condition:
            condition.notify()


def bound_method() -> None:
    mutex = Mutex()
    go(mutex.try_acquire)
    assert mutex.try_acquire()


async def asynchronous_select() -> None:
    channel: Channel[int] = Channel(1)
    go(lambda: channel.send(1))
    before = len(channel)
    got = await aselect(channel, default=True)
    assert (got is None) == (before == 0)


RACES = [view, shard, permit, released, done, counter, writing, notified, bound_method, asynchronous_select]


@pytest.mark.parametrize("strategy", ["pct", "dfs"])
@pytest.mark.parametrize("scenario", RACES, ids=lambda scenario: scenario.__name__)
def test_tasks_are_switched_between_two_operations(scenario: Callable[[], Any], strategy: str) -> None:
    """A race between looking and acting is found, whatever is looked at."""
    with pytest.raises(ScheduleFailed) as found:
        explore(scenario, schedules=300, strategy=strategy)
    assert found.value.kind in {"exception", "deadlock"}


def test_nobody_watches_afterwards() -> None:
    """Outside explorations the classes are as they were."""
    before = {(cls, name): cls.__dict__.get(name) for cls, names in OPERATIONS.items() for name in names}
    explore(lambda: select(Channel[int](), default=True), schedules=1)
    after = {(cls, name): cls.__dict__.get(name) for cls, names in OPERATIONS.items() for name in names}
    assert after == before


def test_objects_are_not_kept() -> None:
    """A reader that is dropped leaves, in an exploration too."""

    def scenario() -> None:
        channel: Channel[int] = Channel()
        one, other = broadcast(channel, 2)
        assert len(one) == 0
        del one
        go(channel.send, 1)
        other.recv()
        sleep(1)
        assert Context is not None
        other.leave()

    explore(scenario, schedules=50)
