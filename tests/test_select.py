"""select, clause by clause, in both colours."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
from collections import Counter
from typing import Any

import pytest
from colours import COLOURS
from programs import run_program
from waiting import until

from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Context,
    Selected,
    SendCase,
    aselect,
    cancel_scope,
    select,
)

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)


@both
def test_takes_what_is_ready(ops: Any) -> None:
    """The one ready case happens, receive or send, and the record names it (S1, S2)."""

    async def body(ops: Any) -> None:
        empty: Channel[int] = Channel()
        full: Channel[int] = Channel(1)
        full.send(7)
        got = await ops.select(empty, full, None)
        assert (got.index, got.channel, got.value, got.ok) == (1, full, 7, True)
        got = await ops.select(empty, None, full.sending(8))
        assert (got.index, got.channel, got.value, got.ok) == (2, full, None, True)
        assert full.recv() == 8
        view = full.receiver
        full.send(9)
        got = await ops.select(empty.receiver, view)
        assert got.channel is view
        with pytest.raises(AttributeError):
            got.value = 1

    ops.run(body)


@both
def test_default(ops: Any) -> None:
    """With a default, nothing ready gives None at once, also without cases (S2, S5)."""

    async def body(ops: Any) -> None:
        full: Channel[int] = Channel(1)
        full.send(1)
        assert await ops.select(Channel(), full.sending(2), None, default=True) is None
        assert await ops.select(default=True) is None
        assert await ops.select(None, default=True) is None

    ops.run(body)


@both
def test_closed_channels_are_ready(ops: Any) -> None:
    """A receive from a closed, drained channel is ready; a send on a closed one raises if chosen (S3)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(1)
        channel.send(1)
        channel.close()
        assert (await ops.select(Channel(), channel)).value == 1
        got = await ops.select(Channel(), channel)
        assert (got.index, got.value, got.ok) == (1, None, False)
        with pytest.raises(ChannelClosed):
            await ops.select(Channel(), channel.sending(1))
        with pytest.raises(ChannelClosed):
            await ops.select(channel.sending(1), default=True)

    ops.run(body)


@both
def test_parked_select_gets_what_comes(ops: Any) -> None:
    """A parked select goes on with the first case that can, and leaves the others as they were (S2, S6)."""

    async def body(ops: Any) -> None:
        a: Channel[int] = Channel()
        b: Channel[int] = Channel()
        c: Channel[int] = Channel()
        for channel, operation in ((a, "send"), (b, "recv"), (c, "close")):
            waiting = ops.spawn(ops.select, a, b.sending(5), c)
            await ops.pause()
            if operation == "send":
                await ops.send(channel, 4)
            elif operation == "recv":
                assert await ops.recv(channel) == 5
            else:
                channel.close()
            got = await waiting.outcome()
            expected = {"send": (0, 4, True), "recv": (1, None, True), "close": (2, None, False)}[operation]
            assert (got.index, got.value, got.ok) == expected
            for other in (a, b, c):
                statistics = other.statistics()
                assert (statistics.waiting_receivers, statistics.waiting_senders) == (0, 0)

    ops.run(body)


@both
def test_parked_send_case_sees_close(ops: Any) -> None:
    """A parked select whose send case's channel is closed raises ChannelClosed (S3, K2)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        waiting = ops.spawn(ops.select, channel.sending(1), Channel())
        await ops.pause()
        channel.close()
        with pytest.raises(ChannelClosed):
            await waiting.outcome()

    ops.run(body)


@both
def test_same_channel_in_several_cases(ops: Any) -> None:
    """One channel stands in several cases; a select never receives from itself (S4)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel()
        with pytest.raises(TimeoutError):
            await ops.select(channel.sending(1), channel, channel, timeout=0.02)
        buffered: Channel[int] = Channel(1)
        got = await ops.select(buffered, buffered.sending(1))
        assert got.index == 1
        got = await ops.select(buffered, buffered.sending(2))
        assert (got.index, got.value) == (0, 1)

    ops.run(body)


@both
def test_two_selects_meet(ops: Any) -> None:
    """Two selects that both send and receive meet each other (S7)."""

    async def body(ops: Any) -> None:
        a: Channel[int] = Channel()
        b: Channel[int] = Channel()

        async def exchange(value: int) -> tuple[int, int]:
            sent = received = 0
            for _ in range(100):
                got = await ops.select(a.sending(value), b.sending(value), a, b, timeout=10)
                if got.index < 2:
                    sent += 1
                else:
                    received += 1
                    assert got.value == 1 - value
            return sent, received

        other = ops.spawn(exchange, 1)
        mine = await exchange(0)
        theirs = await other.outcome()
        assert (mine[0], mine[1]) == (theirs[1], theirs[0])

    ops.run(body)


@both
def test_no_cases_park_until_cancelled(ops: Any) -> None:
    """Without a case, or with none but None, select waits until its context ends (S5)."""

    async def body(ops: Any) -> None:
        for cases in ((), (None, None)):
            context = Context.background().with_cancel()

            async def wait(cases: Any = cases, context: Any = context) -> None:
                with context.attach():
                    await ops.select(*cases)

            waiting = ops.spawn(wait)
            await ops.pause()
            context.cancel()
            with pytest.raises(Cancelled):
                await waiting.outcome()
        with pytest.raises(TimeoutError):
            await ops.select(timeout=0.01)

    ops.run(body)


@both
def test_choice_is_uniform(ops: Any) -> None:
    """Several ready cases are chosen equally often, wherever they stand (S2)."""

    async def body(ops: Any) -> None:
        never: Channel[int] = Channel()
        ready: Channel[int] = Channel()
        ready.close()
        count: Counter[int] = Counter()
        rounds = 6000
        for _ in range(rounds):
            got = await ops.select(ready, never, ready, ready, None)
            count[got.index] += 1
        expected = rounds / 3
        chi_square = sum((count[index] - expected) ** 2 / expected for index in (0, 2, 3))
        assert chi_square < 25, count  # 2 degrees of freedom: exceeded once in 270,000 runs

    ops.run(body)


def test_default_decides_on_one_instant() -> None:
    """A value that moves between two channels, always in one of them, is never missed by all-or-nothing (S2)."""
    # After runtime/chan_test.go, TestNonblockSelectRace: one of two cases is ready all along.
    for _ in range(400):
        first: Channel[int] = Channel(1)
        second: Channel[int] = Channel(1)
        first.send(1)
        missed = []

        def look(first: Any = first, second: Any = second, missed: Any = missed) -> None:
            if select(first, second, default=True) is None:
                missed.append(1)

        thread = threading.Thread(target=look)
        thread.start()
        second.send(1)
        select(first, default=True)
        thread.join(10)
        assert not missed


def test_losing_cases_leave_no_trace() -> None:
    """100,000 selects on a silent channel do not grow memory (S6).

    In a process of its own: here idle threads of other tests end meanwhile, which takes memory too.
    """
    done = run_program("""
        import gc, tracemalloc
        from penstock import Channel, select

        silent, live = Channel(), Channel(1)

        def rounds(count):
            for _ in range(count):
                live.send(1)
                select(silent, live)
                select(silent, default=True)

        rounds(1000)
        gc.collect()
        tracemalloc.start()
        before, _ = tracemalloc.get_traced_memory()
        rounds(100_000)
        gc.collect()
        after, _ = tracemalloc.get_traced_memory()
        print(after - before, silent.statistics().waiting_receivers)
    """)
    assert done.returncode == 0, done.stderr
    grown, waiting = map(int, done.stdout.split())
    assert grown < 20_000
    assert waiting == 0


def test_what_a_lost_send_would_have_sent_is_let_go() -> None:
    """The winner's place in its channel keeps nothing of the losers (S6); dropped there, a loser's finalizer that uses
    that channel found it locked for ever."""

    class Looks:
        def __init__(self, channel: Channel[object]) -> None:
            self._channel = channel

        def __del__(self) -> None:
            looks.append(len(self._channel))

    looks: list[int] = []
    full: Channel[object] = Channel(1)
    silent: Channel[object] = Channel()
    full.send("first")
    cases = [silent.sending(Looks(full)), full.sending("won")]
    thread = threading.Thread(target=lambda: select(*cases), daemon=True)
    thread.start()
    until(lambda: full.statistics().waiting_senders == 1)
    assert full.recv() == "first"
    thread.join(10)
    cases.clear()
    gc.collect()
    assert looks == [1]


def test_timed_out_selects_leave_no_trace() -> None:
    """Selects that parked and timed out stand in no queue any more (S6)."""
    silent: Channel[int] = Channel()
    for _ in range(50):
        with pytest.raises(TimeoutError):
            select(silent, silent.sending(1), timeout=0.0005)
    statistics = silent.statistics()
    assert (statistics.waiting_receivers, statistics.waiting_senders) == (0, 0)


@both
def test_send_case_is_good_for_one_send(ops: Any) -> None:
    """A send case that has been sent, or waits in another select, is refused by name."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(1)
        case = channel.sending(1)
        assert isinstance(case, SendCase)
        await ops.select(case)
        with pytest.raises(RuntimeError, match="this send has happened"):
            await ops.select(case)
        waiting_case = channel.sending(2)
        waiting = ops.spawn(ops.select, waiting_case)
        await ops.pause()
        with pytest.raises(RuntimeError, match="waiting in another select"):
            await ops.select(waiting_case)
        channel.recv()
        await waiting.outcome()
        lost = channel.sending(3)
        with pytest.raises(TimeoutError):
            await ops.select(lost, timeout=0)
        channel.recv()
        await ops.select(lost)
        assert channel.recv() == 3

    ops.run(body)


@pytest.mark.parametrize("case", [1, "channel", object(), Channel])
def test_what_is_no_case(case: Any) -> None:
    """Anything but a case is refused by name (S1)."""
    with pytest.raises(TypeError, match="a case of select is a channel"):
        select(case)


def test_many_cases() -> None:
    """A select over hundreds of channels, in any order and repeated, finds the one that is ready."""
    channels: list[Channel[int]] = [Channel(1) for _ in range(300)]
    cases = channels[::-1] + channels[::3]
    channels[100].send(5)
    got = select(*cases)
    assert (got.channel, got.value) == (channels[100], 5)
    channels[299].send(6)
    assert select(*cases, timeout=5).value == 6


def test_cancelled_aselect_gives_back() -> None:
    """A value handed to an aselect that is cancelled before it runs goes to the next receiver (C4)."""

    async def scenario() -> None:
        a: Channel[int] = Channel()
        b: Channel[int] = Channel()
        task = asyncio.create_task(aselect(a, b))
        await asyncio.sleep(0)
        b.send_nowait(5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert b.recv_nowait() == 5

    asyncio.run(scenario())


def test_selects_across_threads_do_not_deadlock() -> None:
    """Selects that name the same channels in opposite orders, many at once, all come to an end."""
    channels: list[Channel[int]] = [Channel(1) for _ in range(4)]
    stop = time.monotonic() + 1

    def work(order: int) -> None:
        cases: Any = channels if order else channels[::-1]
        while time.monotonic() < stop:
            select(*cases, *(channel.sending(order) for channel in cases), default=True)

    threads = [threading.Thread(target=work, args=(number % 2,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "hung"


def test_select_obeys_an_ended_context() -> None:
    """In an ended context select raises though a case is ready; with default it does not look (X1)."""
    channel: Channel[int] = Channel(1)
    channel.send(1)
    with cancel_scope() as scope:
        scope.cancel()
        assert isinstance(select(channel, default=True), Selected)
        channel.send_nowait(2)
        with pytest.raises(Cancelled):
            select(channel)
    assert channel.recv() == 2
