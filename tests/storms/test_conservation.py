"""Storms: whatever is cancelled, timed out or closed at whatever moment, no value is lost and none comes twice (C4)."""

from __future__ import annotations

import asyncio
import contextlib
import random
import threading
import time
from collections import Counter
from typing import Any

import pytest

from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Context,
    WouldBlock,
    aselect,
    select,
)


class Ledger:
    """What was sent, and what was received, by all tasks. Values are unique."""

    def __init__(self) -> None:
        self.sent: list[object] = []
        self.received: list[object] = []

    def check(self, channels: list[Channel]) -> None:
        left = []
        for channel in channels:
            channel.close()
            left += list(channel)
        balance = Counter(self.sent)
        balance.subtract(self.received)
        balance.subtract(left)
        wrong = {value: count for value, count in balance.items() if count}
        assert not wrong, f"lost (positive) or doubled (negative): {dict(list(wrong.items())[:5])}"


def one_thread_operation(ledger: Ledger, channels: list[Channel], rng: random.Random, value: object) -> None:
    channel = rng.choice(channels)
    timeout = rng.choice([0, 0.0001, 0.001, 0.002])
    match rng.randrange(5):
        case 0:
            channel.send(value, timeout)
            ledger.sent.append(value)
        case 1:
            ledger.received.append(channel.recv(timeout))
        case 2:
            other = rng.choice(channels)
            got = select(channel.sending(value), other, timeout=timeout)
            if got.index == 0:
                ledger.sent.append(value)
            elif got.ok:
                ledger.received.append(got.value)
        case 3:
            channel.send_nowait(value)
            ledger.sent.append(value)
        case 4:
            ledger.received.append(channel.recv_nowait())


def thread_task(ledger: Ledger, channels: list[Channel], seed: int, rounds: int, context: Context) -> None:
    rng = random.Random(seed)
    for number in range(rounds):
        scope = context.with_timeout(rng.choice([0.0002, 0.001, 5]))
        if rng.random() < 0.1:
            threading.Thread(target=scope.cancel).start() if rng.random() < 0.2 else scope.cancel()
        try:
            with scope.attach():
                one_thread_operation(ledger, channels, rng, (seed, number))
        except (TimeoutError, Cancelled, WouldBlock, ChannelClosed):
            pass
        finally:
            scope.cancel()


async def one_operation(ledger: Ledger, channels: list[Channel], rng: random.Random, value: object) -> None:
    channel = rng.choice(channels)
    timeout = rng.choice([0, 0.0005, 0.002, 0.004])
    match rng.randrange(4):
        case 0:
            await channel.asend(value, timeout)
            ledger.sent.append(value)
        case 1:
            ledger.received.append(await channel.arecv(timeout))
        case 2:
            other = rng.choice(channels)
            got = await aselect(channel.sending(value), other, timeout=timeout)
            if got.index == 0:
                ledger.sent.append(value)
            elif got.ok:
                ledger.received.append(got.value)
        case 3:
            async with Context.background().with_timeout(timeout):
                ledger.received.append(await channel.arecv())


async def asyncio_tasks(ledger: Ledger, channels: list[Channel], seed: int, rounds: int) -> None:
    rng = random.Random(seed)

    async def cancelled_at_some_point(number: int) -> None:
        task = asyncio.create_task(one_operation(ledger, channels, rng, (seed, number)))
        for _ in range(rng.randrange(4)):
            await asyncio.sleep(0)
        if rng.random() < 0.5:
            if rng.random() < 0.5:
                await asyncio.sleep(rng.random() * 0.002)
            task.cancel()
        with contextlib.suppress(TimeoutError, Cancelled, ChannelClosed, asyncio.CancelledError):
            await task

    async def worker(first: int) -> None:
        for number in range(first, rounds, 8):
            await cancelled_at_some_point(number)

    await asyncio.gather(*(worker(first) for first in range(8)))


@pytest.mark.parametrize("capacity", [0, 1, 7])
@pytest.mark.parametrize("seed", range(3))
def test_threads_and_loops_lose_nothing(capacity: int, seed: int) -> None:
    """Threads and two event loops share channels under cancellations and timeouts; the books balance (C2, C4)."""
    ledger = Ledger()
    channels: list[Channel] = [Channel(capacity) for _ in range(3)]
    context = Context.background().with_cancel()
    tasks = [
        threading.Thread(target=thread_task, args=(ledger, channels, seed * 100 + n, 2000, context)) for n in range(4)
    ]
    tasks += [
        threading.Thread(target=asyncio.run, args=(asyncio_tasks(ledger, channels, seed * 100 + 50 + n, 2000),))
        for n in range(2)
    ]
    for task in tasks:
        task.start()
    for task in tasks:
        task.join(50)
        assert not task.is_alive(), "hung"
    statistics = [channel.statistics() for channel in channels]
    assert all(s.waiting_senders == 0 and s.waiting_receivers == 0 for s in statistics)
    ledger.check(channels)


@pytest.mark.parametrize("capacity", [0, 3])
def test_close_in_the_storm(capacity: int) -> None:
    """A channel closed amid sends and receives: who sent successfully finds the value received or still there (K2)."""
    for round_number in range(100):
        ledger = Ledger()
        channel: Channel = Channel(capacity)

        def sender(first: int, channel: Channel = channel, ledger: Ledger = ledger) -> None:
            try:
                for value in range(first, first + 1000):
                    channel.send(value)
                    ledger.sent.append(value)
            except ChannelClosed:
                pass

        def receiver(channel: Channel = channel, ledger: Ledger = ledger) -> None:
            ledger.received.extend(channel)

        tasks = [threading.Thread(target=sender, args=(1000 * n,)) for n in range(2)]
        tasks += [threading.Thread(target=receiver) for _ in range(2)]
        for task in tasks:
            task.start()
        time.sleep(0.0005 * (round_number % 4))
        channel.close()
        for task in tasks:
            task.join(30)
            assert not task.is_alive(), "hung"
        ledger.check([channel])


def test_cancelled_receivers_give_back_in_order() -> None:
    """Values handed to asyncio receivers that are cancelled before they run go back to the front, in order (C4)."""

    async def scenario() -> None:
        for order in ((0, 1, 2), (2, 1, 0), (1, 2, 0)):
            channel: Channel[int] = Channel()
            receivers = [asyncio.create_task(channel.arecv()) for _ in range(3)]
            await asyncio.sleep(0)
            for value in range(3):
                channel.send_nowait(value)
            for number in order:
                receivers[number].cancel()
            await asyncio.gather(*receivers, return_exceptions=True)
            assert len(channel) == 3
            assert [channel.recv_nowait() for _ in range(3)] == [0, 1, 2]

    asyncio.run(scenario())


def test_a_coroutine_closed_as_its_value_comes() -> None:
    """Of a loop closed with receivers parked: a value handed to one whose coroutine is closed at that instant goes back
    to the channel, whether the sender finds the loop closed first or the coroutine gives up first (C4, W6)."""
    for _ in range(15):
        channels: list[Channel[int]] = [Channel(1) for _ in range(800)]
        coroutines = [channel.arecv() for channel in channels]
        loop = asyncio.new_event_loop()

        async def park(coroutines: list[Any] = coroutines) -> list[asyncio.Task[int]]:
            tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
            await asyncio.sleep(0)
            return tasks

        tasks = loop.run_until_complete(park())
        loop.close()
        for task in tasks:
            task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is what is tested
        meeting = threading.Barrier(2)
        rng = random.Random(1)

        def send(channels: list[Channel[int]] = channels, meeting: threading.Barrier = meeting) -> None:
            for number, channel in enumerate(channels):
                if number % 16 == 0:
                    meeting.wait(30)
                channel.send(number)

        sender = threading.Thread(target=send)
        sender.start()
        for number, coroutine in enumerate(coroutines):
            if number % 16 == 0:
                meeting.wait(30)
            for _ in range(rng.randrange(20)):
                pass
            coroutine.close()
        sender.join(30)
        assert not sender.is_alive(), "hung"
        assert [len(channel) for channel in channels] == [1] * len(channels)
