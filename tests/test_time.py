"""Sleeping, timers and tickers: the contract, and what Go's time/sleep_test.go and time/tick_test.go probe."""

from __future__ import annotations

import asyncio
import gc
import time
import weakref
from typing import Any

import pytest
from colours import COLOURS, LIMIT
from programs import run_program

from penstock import Channel, ChannelClosed, Group, Ticker, Timer, after, select, sleep, tick
from penstock._kernel.timers import pending_timers

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)


@both
def test_sleep(ops: Any) -> None:
    """At least as long as asked, and not at all for nothing or less (TestSleep, TestNegative)."""

    async def body(ops: Any) -> None:
        start = time.monotonic()
        await ops.call(sleeping, "sleep", 0.02)
        assert 0.019 <= time.monotonic() - start < LIMIT
        for nothing in (0, -1, -1e9):
            await ops.call(sleeping, "sleep", nothing)
        assert time.monotonic() - start < LIMIT

    import penstock as sleeping

    ops.run(body)


@both
def test_after(ops: Any) -> None:
    """The time is received, not before it has come (TestAfter)."""

    async def body(ops: Any) -> None:
        start = time.monotonic()
        fired = await ops.recv(after(0.02), timeout=LIMIT)
        assert fired - start >= 0.019
        assert fired <= time.monotonic()
        got = await ops.select(Channel(), after(0.005), timeout=LIMIT)
        assert got.index == 1

    ops.run(body)


@both
def test_after_in_order(ops: Any) -> None:
    """Several at once come in the order of their times (TestAfterQueuing)."""

    async def body(ops: Any) -> None:
        delays = [0.05, 0.03, 0.06, 0.02, 0.01, 0.04]
        took = 1.0
        while took > 0.005:  # Those that are made later, by more than the delays differ, may be due in another order.
            start = time.monotonic()
            channels = [after(delay) for delay in delays]
            took = time.monotonic() - start
        times: dict[float, float] = {}
        for _ in delays:
            got = await ops.select(
                *(None if delays[number] in times else channel for number, channel in enumerate(channels))
            )
            times[delays[got.index]] = got.value  # Several may be there by now, and select takes any of them.
        assert [times[delay] for delay in sorted(delays)] == sorted(times.values())

    ops.run(body)


@both
def test_stop_and_reset_say_what_was(ops: Any) -> None:
    """`stop` and `reset` are true if the time had not been received (TestStopResult, TestResetResult)."""

    async def body(ops: Any) -> None:
        timer = Timer(100)
        assert timer.stop() is True
        assert timer.stop() is False
        assert timer.reset(0.001) is False
        await ops.recv(timer.channel, timeout=LIMIT)
        assert timer.stop() is False
        assert timer.reset(100) is False
        assert timer.reset(0.001) is True
        await ops.recv(timer.channel, timeout=LIMIT)
        assert timer.reset(50) is False
        assert timer.stop() is True
        assert not pending_timers()

    ops.run(body)


def test_nothing_of_before_after_stop_or_reset() -> None:
    """Once `stop` or `reset` has returned, the old time cannot be received (TestChan of tick_test.go)."""
    timer = Timer(0.001)
    deadline = time.monotonic() + LIMIT
    while not len(timer.channel) and time.monotonic() < deadline:
        time.sleep(0.001)
    assert timer.reset(100) is True
    assert select(timer.channel, default=True) is None
    timer.stop()
    timer.reset(0.001)
    time.sleep(0.01)
    assert timer.stop() is True
    assert select(timer.channel, default=True) is None


def test_stop_stress() -> None:
    """Stopped in the instant it fires: received, or stopped, and never both (TestTimerStopStress)."""
    for number in range(300):
        timer = Timer(0.0001 * (number % 5))
        time.sleep(0.0001 * (number % 7))
        received = select(timer.channel, default=True) is not None if number % 2 else False
        stopped = timer.stop()
        assert stopped is not received
        assert select(timer.channel, default=True) is None


@both
def test_ticker(ops: Any) -> None:
    """Ticks come every so often, until it is stopped (TestTicker, TestTickTimes)."""

    async def body(ops: Any) -> None:
        start = time.monotonic()
        ticker = Ticker(0.005)
        times = [await ops.recv(ticker.channel, timeout=LIMIT) for _ in range(5)]
        assert times == sorted(times)
        assert time.monotonic() - start >= 0.024
        assert ticker.reset(0.002) is True
        await ops.recv(ticker.channel, timeout=LIMIT)
        assert ticker.stop() is True
        assert ticker.stop() is False
        with pytest.raises(TimeoutError):
            await ops.recv(ticker.channel, timeout=0.02)
        assert ticker.reset(0.001) is False
        await ops.recv(ticker.channel, timeout=LIMIT)
        ticker.stop()

    ops.run(body)


def test_a_slow_receiver_misses_ticks() -> None:
    """Ticks do not pile up, and the ticker keeps its time (TestTicker)."""
    ticker = Ticker(0.002)
    time.sleep(0.05)
    assert len(ticker.channel) == 1
    ticker.channel.recv()
    assert len(ticker.channel) <= 1
    ticker.stop()


def test_a_dropped_ticker_stops() -> None:
    """What nobody refers to has no timer (TestTimerGC; Go 1.23)."""
    ticker = Ticker(1000)
    timer = Timer(1000)
    channels = [after(1000), tick(1000)]
    kept = timer.channel
    assert pending_timers() == 4
    watch = weakref.ref(ticker)
    del ticker, channels
    gc.collect()
    assert watch() is None
    assert pending_timers() == 1
    del timer
    gc.collect()
    assert pending_timers() == 1, "its channel is in use"
    assert kept.recv_ok is not None
    del kept
    gc.collect()
    assert pending_timers() == 0


def test_tick() -> None:
    """A channel that ticks for as long as somebody refers to it (TestTick)."""
    channel = tick(0.002)
    first = channel.recv(timeout=LIMIT)
    assert channel.recv(timeout=LIMIT) > first


def test_earlier_and_later() -> None:
    """A timer moved to an earlier time fires then (TestTimerModifiedEarlier, TestAdjustTimers)."""
    timer = Timer(1000)
    timer.reset(0.005)
    timer.channel.recv(timeout=LIMIT)
    timers = [Timer(1000 + number) for number in range(50)]
    for number in reversed(range(50)):
        timers[number].reset(0.001 * (number % 10))
    for each in timers:
        each.channel.recv(timeout=LIMIT)
    assert not pending_timers()


@both
def test_a_ticker_and_a_timer_shared_by_many(ops: Any) -> None:
    """Several tasks take from one ticker, reset one timer (TestMultiWakeupTicker, TestMultiWakeupTimer)."""

    async def body(ops: Any) -> None:
        ticker = Ticker(0.0005)
        timer = Timer(0)

        async def takes(ops: Any) -> None:
            for _ in range(30):
                got = await ops.select(ticker.channel, after(0.001))
                assert got.ok
                await ops.select(timer.channel, default=True)
                timer.reset(0)

        for each in [ops.spawn(takes, ops) for _ in range(4)]:
            await each.outcome()
        ticker.stop()
        await ops.recv(timer.channel, timeout=LIMIT)
        assert timer.stop() is False

    ops.run(body)


@both
def test_no_tick_comes_after_stop(ops: Any) -> None:
    """A stopped ticker is silent, and its channel stays open; reset starts it again (TestTicker, TestTeardown)."""

    async def body(ops: Any) -> None:
        for _ in range(3):
            ticker = Ticker(0.0005)
            await ops.recv(ticker.channel, timeout=LIMIT)
            assert ticker.stop() is True
            assert ticker.stop() is False
            assert await ops.select(ticker.channel, after(0.01), default=False) is not None
            assert await ops.select(ticker.channel, default=True) is None
            assert not ticker.channel.closed
            assert ticker.reset(0.0005) is False
            await ops.recv(ticker.channel, timeout=LIMIT)
            ticker.stop()

    ops.run(body)


def test_many_timers_that_come_and_go() -> None:
    """Thousands armed, moved and stopped while others fire: each fires once, or was stopped (TestLongAdjustTimers)."""
    timers = [Timer(100 + number) for number in range(3000)]
    for number, timer in enumerate(timers):
        if number % 3 == 0:
            assert timer.stop() is True
        elif number % 3 == 1:
            assert timer.reset(0.0001 * (number % 50)) is True
    for number, timer in enumerate(timers):
        if number % 3 == 1:
            timer.channel.recv(timeout=LIMIT)
        assert timer.stop() is (number % 3 == 2)
        assert select(timer.channel, default=True) is None
    assert not pending_timers()


def test_the_last_of_several_resets_counts() -> None:
    """Reset by several threads at once, a timer fires; nothing of it gets lost between them (TestResetResult's shape).

    A reset that loses the race to the timer service must not leave the timer where it was."""
    for number in range(150):
        timer = Timer(1000)
        with Group() as group:
            for delay in (0.0, 0.0005, 0.001, 0.002):
                group.go(timer.reset, delay + number % 3 * 0.0005)
        timer.channel.recv(timeout=LIMIT)
        timer.stop()
    assert not pending_timers()


def test_reset_while_it_ticks() -> None:
    """A ticker of a long period that is reset in the instant of its tick goes on with the new one."""
    for _ in range(100):
        ticker = Ticker(1000)
        with Group() as group:
            for _ in range(2):
                group.go(ticker.reset, 1000)
            for _ in range(2):
                group.go(ticker.reset, 0.0002)
        ticker.reset(0.0001)
        ticker.channel.recv(timeout=LIMIT)
        ticker.stop()
    assert not pending_timers()


def test_ticker_stress() -> None:
    """Reset and stopped from several threads while it ticks (TestTickerConcurrentStress)."""

    def work(ticker: Ticker) -> None:
        for number in range(200):
            ticker.reset(0.0001 * (1 + number % 3))
            select(ticker.channel, default=True)
            if number % 10 == 0:
                sleep(0)

    ticker = Ticker(0.0001)
    with Group() as group:
        for _ in range(4):
            group.go(work, ticker)
    ticker.stop()
    assert not pending_timers()


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ("1", TypeError),
        (None, TypeError),
        (float("nan"), ValueError),
        (float("inf"), ValueError),
        (10**400, ValueError),
    ],
)
def test_misuse(bad: Any, error: type[Exception]) -> None:
    """What is no time is refused, everywhere alike (TestNewTickerLtZeroDuration, TestTickerResetLtZeroDuration)."""
    timer = Timer(1000)
    ticker = Ticker(1000)
    for wrong in (Timer, Ticker, after, tick, timer.reset, ticker.reset):
        with pytest.raises(error, match=r"must be|number"):
            wrong(bad)
    for not_positive in (0, -1):
        for wrong in (Ticker, tick, ticker.reset):
            with pytest.raises(ValueError, match="must be positive"):
                wrong(not_positive)
    timer.stop()
    ticker.stop()


def test_times_that_have_passed() -> None:
    """Zero and less: at once (TestAfterFunc with a negative duration, TestOverflowSleep)."""
    assert after(0).recv(timeout=LIMIT) > 0
    assert after(-1000).recv(timeout=LIMIT) > 0
    timer = Timer(-1)
    timer.channel.recv(timeout=LIMIT)
    far = Timer(1e15)
    assert far.stop() is True


def test_the_channel_only_receives() -> None:
    """The channel of a timer is a receiving view: nobody can close or fill it."""
    timer = Timer(1000)
    with pytest.raises((AttributeError, TypeError)):
        timer.channel.send(1.0)  # type: ignore[attr-defined]
    with pytest.raises((AttributeError, TypeError, ChannelClosed)):
        timer.channel.close()  # type: ignore[attr-defined]
    timer.stop()


def test_one_timer_for_two_loops() -> None:
    """A ticker read from two event loops and a thread (C2)."""
    ticker = Ticker(0.001)

    async def read() -> int:
        for _ in range(10):
            await ticker.channel.arecv(timeout=LIMIT)
        return 10

    import threading

    totals: list[int] = []
    threads = [threading.Thread(target=lambda: totals.append(asyncio.run(read()))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for _ in range(10):
        ticker.channel.recv(timeout=LIMIT)
    for thread in threads:
        thread.join(LIMIT)
    assert totals == [10, 10]
    ticker.stop()


def test_a_service_that_could_not_be_started_is_started_again() -> None:
    """No thread for timers: who wants one is told, and the next one tries again."""
    ended = run_program("""
        import penstock._kernel.threads as threads
        from penstock import after, pmap

        def refuse(thread):
            raise RuntimeError("can't start new thread")

        start, threads.start_thread = threads.start_thread, refuse
        try:
            after(0.01)
        except RuntimeError as error:
            print(error)
        threads.start_thread = start
        after(0.01).recv(timeout=20)
        print("timers work")
    """)
    assert ended.stdout.splitlines() == ["can't start new thread", "timers work"], ended.stderr
