"""The public API as its users' type checkers see it: checked by mypy and pyright, never run.

Each line with an ignore is an error that the checkers must find; an ignore that is not needed is an error, too. The
errors of directional views are those of Go's test/chan/perm.go.
"""

from __future__ import annotations

from typing import Any, assert_type

import penstock
from penstock import (
    AIMD,
    Channel,
    ChannelStatistics,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    Permit,
    PressureGauge,
    RecvChannel,
    RWMutex,
    Selected,
    Semaphore,
    SendCase,
    SendChannel,
    ShardedMap,
    Stream,
    Task,
    Ticker,
    Timer,
    Vegas,
    WaitGroup,
    acall,
    afirst,
    after,
    aonce_value,
    apmap,
    aselect,
    asleep,
    broadcast,
    call,
    cancel_scope,
    current,
    fail_after,
    fan_in,
    fan_out,
    first,
    for_each,
    go,
    move_on_after,
    once_value,
    pmap,
    select,
    sleep,
    tick,
)

assert_type(penstock.COMPILED, bool)
assert_type(penstock.__version__, str)


def length(text: str) -> int:
    return len(text)


def describe(number: int, unit: str) -> str:
    return f"{number} {unit}"


async def fetch(key: int) -> bytes:
    await asleep(0)
    return bytes(key)


def channels() -> None:
    numbers = Channel[int](8)
    assert_type(numbers, Channel[int])
    assert_type(Channel[str](), Channel[str])
    assert_type(Channel[str](capacity=3, name="words"), Channel[str])
    numbers.send(1)
    numbers.send(1, timeout=0.5)
    numbers.send_nowait(1)
    assert_type(numbers.recv(), int)
    assert_type(numbers.recv(timeout=1), int)
    assert_type(numbers.recv_nowait(), int)
    assert_type(numbers.recv_ok(), tuple[int | None, bool])
    assert_type(numbers.close(), bool)
    assert_type(numbers.close(ValueError("broken")), bool)
    assert_type(len(numbers), int)
    assert_type(numbers.capacity, int)
    assert_type(numbers.closed, bool)
    assert_type(numbers.error, BaseException | None)
    assert_type(numbers.statistics(), ChannelStatistics)
    assert_type(numbers.sending(3), SendCase)
    for number in numbers:
        assert_type(number, int)
    with numbers as entered:
        assert_type(entered, Channel[int])
    numbers.send("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    numbers.send_nowait("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    numbers.sending("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    Channel[int]("eight")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def channels_async() -> None:
    numbers = Channel[int](8)
    await numbers.asend(1)
    await numbers.asend(1, timeout=0.5)
    assert_type(await numbers.arecv(), int)
    assert_type(await numbers.arecv(timeout=1), int)
    assert_type(await numbers.arecv_ok(), tuple[int | None, bool])
    async for number in numbers:
        assert_type(number, int)


def views() -> None:
    numbers = Channel[int]()
    sender = numbers.sender
    assert_type(sender, SendChannel[int])
    sender.send(1)
    assert_type(sender.sending(1), SendCase)
    assert_type(sender.close(), bool)
    receiver = numbers.receiver
    assert_type(receiver, RecvChannel[int])
    assert_type(receiver.recv(), int)
    assert_type(receiver.recv_ok(), tuple[int | None, bool])
    for number in receiver:
        assert_type(number, int)
    sender.send("one")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    sender.recv()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    receiver.send(1)  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]
    receiver.close()  # type: ignore[attr-defined]  # pyright: ignore[reportAttributeAccessIssue, reportUnknownMemberType]


def selects(numbers: Channel[int], words: RecvChannel[str], out: SendChannel[bytes]) -> None:
    got = select(numbers, words, out.sending(b""), None)
    assert_type(got, Selected)
    assert_type(got.index, int)
    assert_type(got.ok, bool)
    assert_type(got.value, Any)
    assert_type(select(numbers, timeout=1.5), Selected)
    assert_type(select(numbers, default=True), Selected | None)
    select(out)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]
    select(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType]


async def selects_async(numbers: Channel[int], words: RecvChannel[str]) -> None:
    assert_type(await aselect(numbers, words), Selected)
    assert_type(await aselect(numbers, timeout=1), Selected)
    assert_type(await aselect(numbers, default=True), Selected | None)


def contexts() -> None:
    context = Context.background()
    assert_type(context, Context)
    assert_type(current(), Context)
    assert_type(context.with_cancel(), Context)
    assert_type(context.with_timeout(1.5, cause=ValueError()), Context)
    assert_type(context.with_deadline(1.5), Context)
    assert_type(context.with_value("key", 3), Context)
    assert_type(context.without_cancel(), Context)
    assert_type(context.deadline, float | None)
    assert_type(context.error, penstock.Cancelled | penstock.DeadlineExceeded | None)
    context.check()
    context.cancel()
    context.cancel(ValueError())
    assert_type(context.after_func(lambda: None)(), bool)
    done: RecvChannel[None] = context.done
    select(done, context.done)
    with context.with_cancel() as child:
        assert_type(child, Context)
    with context.attach(), cancel_scope() as scope, fail_after(1), move_on_after(1.5):
        assert_type(scope, Context)
    sleep(0.5)


async def contexts_async() -> None:
    async with cancel_scope() as scope, fail_after(1), move_on_after(1.5), Context.background().attach():
        assert_type(scope, Context)
        await asleep(0.5)


def tasks() -> None:
    with Group(limit=3) as group:
        assert_type(group, Group)
        assert_type(group.context, Context)
        measured = group.go(length, "four")
        assert_type(measured, Task[int])
        assert_type(measured.result(), int)
        assert_type(measured.result(timeout=1), int)
        assert_type(group.go(describe, 3, "bar").result(), str)
        assert_type(group.try_go(length, "four"), Task[int] | None)
        group.go(length, 4)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType, reportCallIssue]
        measured.cancel()
        select(measured.done)
    assert_type(go(length, "four"), Task[int])
    assert_type(go(fetch, 3), Task[bytes])


async def tasks_async() -> None:
    async with Group() as group:
        assert_type(group.go(fetch, 3), Task[bytes])
        assert_type(await group.go(fetch, 3).aresult(), bytes)
        assert_type(await group.ago(fetch, 3), Task[bytes])
        assert_type(await group.ago(length, "four"), Task[int])
        assert_type(await (await group.ago(length, "four")).aresult(timeout=1), int)


def locks() -> None:
    mutex = Mutex()
    mutex.acquire(timeout=1)
    assert_type(mutex.try_acquire(), bool)
    assert_type(mutex.locked, bool)
    mutex.release()
    shared = RWMutex()
    with mutex, shared.read():
        pass
    with shared.write():
        pass
    assert_type(shared.try_acquire_read(), bool)
    assert_type(shared.try_acquire_write(), bool)
    shared.acquire_read(timeout=1)
    shared.release_read()
    shared.acquire_write()
    shared.release_write()
    places = Semaphore(3)
    places.acquire(2, timeout=1)
    assert_type(places.try_acquire(2), bool)
    places.release(2)
    with places:
        pass
    for lock in (mutex, shared.read(), shared.write()):
        condition = Condition(lock)
        with condition:
            condition.wait(timeout=1)
            condition.notify(2)
            condition.notify_all()
    waiting = WaitGroup()
    waiting.add(2)
    waiting.done()
    waiting.wait(timeout=1)
    assert_type(waiting.go(length, "four"), Task[int])


async def locks_async() -> None:
    mutex, shared, places, waiting = Mutex(), RWMutex(), Semaphore(3), WaitGroup()
    await mutex.aacquire(timeout=1)
    await shared.aacquire_read()
    await shared.aacquire_write(timeout=1)
    await places.aacquire(2)
    await waiting.wait_async()
    async with mutex, shared.read(), shared.write(), places, Condition(mutex) as condition:
        assert_type(condition, Condition)
        await condition.wait_async()


def once() -> None:
    Once().do(lambda: 3)
    assert_type(once_value(lambda: 3)(), int)


async def once_async() -> None:
    await Once().ado(lambda: 3)
    await Once().ado(asleep_briefly)
    assert_type(await aonce_value(asleep_briefly)(), float)


async def asleep_briefly() -> float:
    await asleep(0.001)
    return 0.001


def timers() -> None:
    assert_type(after(1), RecvChannel[float])
    assert_type(tick(0.5), RecvChannel[float])
    ticker = Ticker(1)
    assert_type(ticker.channel, RecvChannel[float])
    ticker.reset(2)
    ticker.stop()
    timer = Timer(1)
    assert_type(timer.channel, RecvChannel[float])
    assert_type(timer.reset(2), bool)
    assert_type(timer.stop(), bool)


def calls() -> None:
    assert_type(call(length, "text"), int)
    assert_type(call(describe, 1, "m"), str)
    call(describe, "m", 1)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    assert_type(first(lambda: 1, lambda: 2), int)


async def calls_async() -> None:
    assert_type(await acall(fetch, 1), bytes)
    assert_type(await acall(length, "text"), int)
    assert_type(await afirst(asleep_briefly, asleep_briefly), float)


def fans() -> None:
    numbers = Channel[int](1)
    assert_type(fan_in(numbers, numbers.receiver).recv(), int)
    assert_type(fan_out(numbers, 2)[0].recv(), int)
    assert_type(broadcast(numbers, 2)[0].recv(), int)
    fan_in(numbers.sender)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


def maps() -> None:
    counts: ShardedMap[str, int] = ShardedMap(4)
    counts["a"] = 1
    counts["a"] = "b"  # type: ignore[assignment]  # pyright: ignore[reportArgumentType]
    assert_type(counts["a"], int)
    assert_type(counts.update_with("a", lambda _: 1), int)
    assert_type(counts.compute_if_absent("a", lambda: 1), int)
    assert_type(counts.snapshot(), dict[str, int])


def bounded() -> None:
    assert_type(list(pmap(length, ["a"], limit=2)), list[int])
    pmap(length, [1])  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    for_each(length, ["a"], 2)


async def bounded_async() -> None:
    async for value in apmap(fetch, [1], 2, ordered=False):
        assert_type(value, bytes)
    async for number in apmap(length, ["a"]):
        assert_type(number, int)


def streams() -> None:
    assert_type(Stream(["a"]).map(length).filter(bool).batch(3).collect(), list[list[int]])
    assert_type(Stream([1]).map(fetch, 3), Stream[bytes])
    assert_type(Stream([1]).tee(), tuple[Stream[int], ...])


def gauges() -> None:
    gauge = PressureGauge(3, queue=2, max_wait=0.5)
    assert_type(gauge.do(length, "text"), int)
    assert_type(gauge.try_acquire(), Permit | None)
    PressureGauge(AIMD())
    PressureGauge(Vegas(initial=5))
    PressureGauge("3")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


async def gauges_async() -> None:
    gauge = PressureGauge(3)
    assert_type(await gauge.ado(fetch, 1), bytes)
    assert_type(await gauge.ado(length, "text"), int)
    async with await gauge.aacquire() as permit:
        permit.drop()
