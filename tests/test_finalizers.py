"""Finalizers that call in (C6), and what becomes of what is dropped (K5)."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from typing import Any

import pytest

import penstock
from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    Ticker,
    Timer,
    WaitGroup,
    WouldBlock,
    after,
    go,
    move_on_after,
    select,
)

LIMIT = 20


class Busy:
    """Does non-parking operations when it is collected."""

    def __init__(self, channel: Channel[Any], mutex: Mutex, context: Context) -> None:
        self.use = channel, mutex, context

    def __del__(self) -> None:
        channel, mutex, context = self.use
        try:
            channel.send_nowait(1)
            channel.recv_nowait()
        except (WouldBlock, ChannelClosed):
            pass
        select(channel, default=True)
        if mutex.try_acquire():
            mutex.release()
        context.with_timeout(100).cancel()
        len(channel)
        channel.statistics()


@pytest.mark.skipif(not penstock.COMPILED, reason="interpreted, a finalizer may see a locked region half done")
def test_finalizers_during_kernel_operations() -> None:
    """Garbage that is collected at whatever allocation, with finalizers that use the same objects: no deadlock (C6)."""
    channel: Channel[Any] = Channel(3)
    mutex = Mutex()
    context = Context.background().with_cancel()
    thresholds = gc.get_threshold()
    gc.set_threshold(5)
    try:
        for number in range(4000):
            busy = Busy(channel, mutex, context)
            cycle: list[Any] = [busy]
            cycle.append(cycle)
            del cycle, busy
            try:
                channel.send_nowait(number)
                channel.recv_nowait()
            except WouldBlock:
                pass
            with mutex:
                pass
            context.with_timeout(100).cancel()
            select(channel, Channel(), default=True)
            if number % 100 == 0:
                with move_on_after(0):
                    Channel[int]().recv()
    finally:
        gc.set_threshold(*thresholds)
        context.cancel()


def test_weakref_callbacks_that_call_in() -> None:
    """A value whose last reference the channel drops: its callback may use the channel (C6, H3)."""

    class Value:
        pass

    channel: Channel[Any] = Channel(2)
    seen: list[int] = []
    keep = []
    for _ in range(100):
        value = Value()
        keep.append(weakref.ref(value, lambda _: seen.append(len(channel))))
        channel.send(value)
        del value
        channel.recv()
    assert len(seen) == 100


def test_a_dropped_channel_frees_its_values() -> None:
    """Values in the buffer of a channel that nobody refers to are freed (K5)."""

    class Value:
        pass

    channel: Channel[Any] = Channel(10)
    watches = []
    for _ in range(10):
        value = Value()
        watches.append(weakref.ref(value))
        channel.send(value)
        del value
    channel.recv()
    gc.collect()
    assert sum(watch() is not None for watch in watches) == 9
    del channel
    gc.collect()
    assert all(watch() is None for watch in watches)


def test_a_channel_in_itself() -> None:
    """A cycle through a channel's buffer is garbage like any other (K5)."""
    channel: Channel[Any] = Channel(1)
    channel.send(channel)
    watch = weakref.ref(channel)
    del channel
    gc.collect()
    assert watch() is None


def test_abandoned_asyncio_tasks_keep_no_channel_alive() -> None:
    """A loop that is closed with tasks parked leaves neither them nor the channel (K5)."""

    async def park(channel: Channel[Any]) -> None:
        await channel.arecv()

    channel: Channel[Any] = Channel()
    loop = asyncio.new_event_loop()
    task = loop.create_task(park(channel))
    loop.run_until_complete(asyncio.sleep(0))
    assert channel.statistics().waiting_receivers == 1
    task.cancel()
    loop.run_until_complete(asyncio.gather(task, return_exceptions=True))
    loop.close()
    assert channel.statistics().waiting_receivers == 0
    watch = weakref.ref(channel)
    del channel, task, loop
    gc.collect()
    assert watch() is None


def test_a_loop_closed_with_tasks_parked_loses_no_value() -> None:
    """A value handed to a task whose loop closes before it runs goes to the next receiver (C4)."""
    channel: Channel[int] = Channel()
    loop = asyncio.new_event_loop()
    task = loop.create_task(channel.arecv())
    loop.run_until_complete(asyncio.sleep(0))
    channel.send_nowait(7)  # handed over to a task that never runs again
    loop.close()
    del task, loop
    gc.collect()
    assert channel.recv(timeout=LIMIT) == 7


def everything() -> list[Any]:
    mutex = Mutex()
    channel: Channel[int] = Channel()
    return [
        channel,
        channel.sender,
        channel.receiver,
        channel.sending(1),
        mutex,
        RWMutex(),
        RWMutex().read(),
        Semaphore(1),
        Condition(mutex),
        WaitGroup(),
        Once(),
        Group(),
        Context.background().with_cancel(),
        Context.background().with_cancel().attach(),
        Context.background().with_cancel().done,
        channel.statistics(),
        Cancelled("reason"),
        ChannelClosed(),
        go(int),
        after(1000),
        Timer(1000),
        Ticker(1000),
    ]


def test_all_public_objects_can_be_weakly_referenced() -> None:
    """(C8)"""
    objects = everything()
    objects.append(select(Channel(1).sending(1)))
    watches = [weakref.ref(each) for each in objects]
    assert all(watch() is not None for watch in watches)
    objects.clear()
    deadline = time.monotonic() + LIMIT
    while any(watch() is not None for watch in watches) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)
    assert [watch() for watch in watches if watch() is not None] == []


def test_public_objects_have_readable_reprs() -> None:
    for each in everything():
        assert type(each).__name__ in repr(each) or "hannel" in repr(each), repr(each)


def test_many_selects_leave_no_memory() -> None:
    """100,000 selects on a silent channel do not grow memory (S6)."""
    import tracemalloc

    silent: Channel[int] = Channel()
    busy: Channel[int] = Channel()

    def feed() -> None:
        for number in range(10_000):
            busy.send(number)

    def rounds() -> None:
        feeder = threading.Thread(target=feed)
        feeder.start()
        for _ in range(10_000):
            select(silent, busy)
        feeder.join(LIMIT)
        for _ in range(40_000):
            select(silent, default=True)

    rounds()
    gc.collect()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        rounds()
        gc.collect()
        grown = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert grown < 100_000
    statistics = silent.statistics()
    assert statistics.waiting_receivers == 0
