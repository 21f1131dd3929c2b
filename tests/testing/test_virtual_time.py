"""Virtual time: one clock for threads and event loops, which jumps when all are parked."""

from __future__ import annotations

import asyncio
import socket
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from queue import Queue
from typing import TYPE_CHECKING

import pytest

from penstock import (
    AIMD,
    Cancelled,
    Channel,
    Context,
    DeadlineExceeded,
    DeadlockError,
    Group,
    Mutex,
    OutOfCapacity,
    PressureGauge,
    Semaphore,
    Stream,
    Ticker,
    Timer,
    WaitGroup,
    after,
    aselect,
    asleep,
    call,
    cancel_scope,
    fail_after,
    go,
    move_on_after,
    pmap,
    select,
    sleep,
    tick,
)
from penstock.testing import asettled, explore, settled, virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from typing import Any

HOUR = 3600
SOON = 30.0
"""Real seconds that no test here takes."""

pytestmark = pytest.mark.timeout(60)


@pytest.fixture(autouse=True)
def not_for_real() -> Any:
    """Whatever the virtual clock says, next to no time goes by."""
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < SOON


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(main())


def test_sleeps() -> None:
    """The library's, and those of time: an hour at once."""
    with virtual_time() as clock:
        sleep(HOUR)
        assert clock.elapsed == HOUR
        time.sleep(HOUR)
        assert clock.elapsed == 2 * HOUR
        before = time.monotonic()
        sleep(0.5)
        assert time.monotonic() - before == 0.5
    assert "7200.5" in repr(clock)


def test_sleeps_in_a_loop() -> None:
    """The library's, and asyncio's."""

    async def main() -> None:
        await asleep(HOUR)
        await asyncio.sleep(HOUR)
        await asyncio.gather(asyncio.sleep(HOUR), asleep(2 * HOUR))

    with virtual_time() as clock:
        run(main)
        assert clock.elapsed == 4 * HOUR


def test_in_a_running_loop() -> None:
    """The block may begin in a coroutine, and ends there; timers that are left keep what is left of their time."""

    async def main() -> None:
        left = asyncio.get_running_loop().create_future()
        before = asyncio.get_running_loop().time()
        with virtual_time() as clock:
            await asyncio.sleep(HOUR)
            await asleep(HOUR)
            assert clock.elapsed == 2 * HOUR
            asyncio.get_running_loop().call_later(0.05, left.set_result, None)
        assert asyncio.get_running_loop().time() - before < HOUR
        await asyncio.wait_for(left, 10)

    run(main)


def test_deadlines() -> None:
    """Of operations, scopes and contexts, in the order of their times."""
    with virtual_time() as clock:
        with pytest.raises(TimeoutError):
            Channel[int]().recv(timeout=HOUR)
        assert clock.elapsed == HOUR
        with pytest.raises(DeadlineExceeded), fail_after(60):
            sleep(HOUR)
        assert clock.elapsed == HOUR + 60
        with move_on_after(60):
            Channel[int]().send(1)
        assert clock.elapsed == HOUR + 120
        context = Context.background().with_timeout(5)
        with context.attach(), pytest.raises(Cancelled):
            Mutex().acquire()  # Free: one takes it at once.
            Channel[int]().recv()
        assert clock.elapsed == HOUR + 125
        ended = Context.background().with_deadline(time.monotonic() + 5).done
        assert ended.recv_ok() == (None, False)
        assert clock.elapsed == HOUR + 130


def test_deadlines_in_a_loop() -> None:
    """The library's and asyncio's."""

    async def main() -> None:
        with pytest.raises(TimeoutError):
            await Channel[int]().arecv(timeout=HOUR)
        with pytest.raises(TimeoutError):
            async with fail_after(HOUR):
                await asyncio.Event().wait()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await Channel[int]().arecv()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.Event().wait(), HOUR)
        assert await aselect(after(HOUR), after(2 * HOUR)) is not None

    with virtual_time() as clock:
        run(main)
        assert clock.elapsed == 5 * HOUR


def test_timers_and_tickers() -> None:
    """A tick comes at its time; a reader that sleeps misses some."""
    with virtual_time() as clock:
        ticks = tick(1.0)
        assert [clock.elapsed for _ in ticks and range(3) if ticks.recv()] == [1, 2, 3]
        ticker = Ticker(10)
        sleep(35)
        assert len(ticker.channel) == 1
        ticker.stop()
        timer = Timer(HOUR)
        assert timer.stop()
        timer.reset(5)
        timer.channel.recv()
        assert clock.elapsed == 43


def test_the_clock_waits_for_whoever_is_at_work() -> None:
    """It does not move while any task runs, a thread that has just been started among them."""
    with virtual_time() as clock, Group() as group:
        steps = Channel[float](100)

        def work() -> None:
            for _ in range(200):
                sum(range(1000))
            steps.send(clock.elapsed)
            sleep(1)
            steps.send(clock.elapsed)

        for _ in range(10):
            group.go(work)
        threads = [threading.Thread(target=work) for _ in range(3)]
        for thread in threads:
            thread.start()
        sleep(0.5)
        assert [steps.recv() for _ in range(13)] == [0] * 13
        sleep(1)
        assert [steps.recv() for _ in range(13)] == [1] * 13
        for thread in threads:
            thread.join()


def test_threads_and_loops_share_it() -> None:
    """Values cross between threads and two loops, at the times that they should."""

    async def pass_on(source: Channel[int], to: Channel[float], pause: float) -> None:
        async for value in source:
            await asyncio.sleep(pause)
            await to.asend(value)
        to.close()

    with virtual_time() as clock, Group() as group:
        first, second, third = Channel[int](), Channel[int](), Channel[float]()
        group.go(asyncio.run, pass_on(first, second, 10))
        group.go(asyncio.run, pass_on(second, third, 20))

        def feed() -> None:
            with first:
                for number in range(5):
                    first.send(number)

        group.go(feed)
        assert [(value, clock.elapsed) for value in third] == [(number, 30.0 + 20 * number) for number in range(5)]


def test_waits_of_the_standard_library() -> None:
    """Who waits for another thread without a timeout is parked."""
    with virtual_time() as clock:
        thread = threading.Thread(target=sleep, args=(HOUR,))
        thread.start()
        thread.join()
        assert clock.elapsed == HOUR
        event = threading.Event()
        go(lambda: (sleep(HOUR), event.set()))
        event.wait()
        assert clock.elapsed == 2 * HOUR
        queue: Queue[int] = Queue()
        go(lambda: (sleep(HOUR), queue.put(1)))
        assert queue.get() == 1
        assert clock.elapsed == 3 * HOUR
        with ThreadPoolExecutor(2) as executor:
            executor.submit(sleep, HOUR).result()
            assert clock.elapsed == 4 * HOUR
            sleep(HOUR)  # The executor's thread is idle.
        assert clock.elapsed == 5 * HOUR


@pytest.mark.skipif(sys.platform != "linux", reason="what a thread waits for is known on Linux alone")
def test_locks_of_the_standard_library() -> None:
    """Who waits for a lock whose holder sleeps is parked."""
    lock = threading.Lock()
    with virtual_time() as clock:

        def hold() -> None:
            with lock:
                settled.send(1)
                sleep(HOUR)

        settled = Channel[int]()
        go(hold)
        settled.recv()
        with lock:
            assert clock.elapsed == HOUR


def test_to_thread() -> None:
    """Threads that asyncio starts are members too, and so is what they start."""

    async def main() -> None:
        await asyncio.to_thread(time.sleep, HOUR)
        await asyncio.gather(*(asyncio.to_thread(sleep, HOUR) for _ in range(3)))

    with virtual_time() as clock:
        run(main)
        assert clock.elapsed == 2 * HOUR


def test_sockets() -> None:
    """A loop that waits for one is not parked while bytes come."""

    async def main() -> None:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while line := await reader.readline():
                await asyncio.sleep(HOUR)
                writer.write(line.upper())
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        for line in (b"one\n", b"two\n"):
            writer.write(line)
            async with asyncio.timeout(2 * HOUR):
                assert await reader.readline() == line.upper()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(HOUR):
                await reader.readline()
        writer.close()
        await writer.wait_closed()
        server.close()

    with virtual_time() as clock:
        run(main)
        assert clock.elapsed == 3 * HOUR


def test_other_threads_stay_in_real_time() -> None:
    """One that was there before sees the real clock, and may wake a member."""
    channel, seen = Channel[int](), Channel[float](1)
    go_on = threading.Event()

    def outside() -> None:
        go_on.wait()
        before = time.monotonic()
        time.sleep(0.1)
        seen.send(time.monotonic() - before)
        channel.send(1)

    thread = threading.Thread(target=outside)
    thread.start()
    with virtual_time() as clock:
        sleep(HOUR)
        go_on.set()
        assert channel.recv() == 1
        assert 0.05 < seen.recv() < HOUR
        assert clock.elapsed == HOUR
    thread.join()


def test_settled() -> None:
    """All others are parked by then, and the clock has not moved."""
    with virtual_time() as clock:
        parked = Channel[int]()
        reached: list[int] = []

        def work(number: int) -> None:
            for _ in range(20):
                sum(range(1000))
            reached.append(number)
            parked.send(number)

        tasks = [go(work, number) for number in range(5)]
        go(sleep, 1)
        settled()
        assert sorted(reached) == [0, 1, 2, 3, 4]
        assert clock.elapsed == 0
        assert sorted(parked.recv() for _ in range(5)) == [0, 1, 2, 3, 4]
        for task in tasks:
            task.result()


def test_settled_in_a_loop() -> None:
    """Other tasks of the loop are meant as well, and those of other threads."""

    async def main() -> None:
        parked = Channel[int]()
        reached: list[int] = []

        async def work(number: int) -> None:
            for _ in range(number):
                await asyncio.sleep(0)
            reached.append(number)
            await parked.asend(number)

        async with Group() as group:
            for number in range(5):
                group.go(work, number)
            group.go(lambda: reached.append(5))
            group.go(asyncio.sleep, HOUR)
            await asettled()
            assert sorted(reached) == [0, 1, 2, 3, 4, 5]
            assert clock.elapsed == 0
            assert sorted([await parked.arecv() for _ in range(5)]) == [0, 1, 2, 3, 4]
        assert clock.elapsed == HOUR

    with virtual_time() as clock:
        run(main)


def test_settled_is_for_worlds() -> None:
    """In real time nobody knows what is still to come."""
    with pytest.raises(RuntimeError, match="virtual_time"):
        settled()
    with pytest.raises(RuntimeError, match="virtual_time"):
        asyncio.run(asettled())

    async def main() -> None:
        with virtual_time(), pytest.raises(RuntimeError, match="await asettled"):
            settled()

    run(main)


def test_settled_in_an_explored_scenario() -> None:
    """There it is the same."""

    def scenario() -> None:
        channel = Channel[int]()
        done: list[int] = []
        task = go(lambda: (done.append(1), channel.recv()))
        settled()
        assert done == [1]
        channel.send(1)
        task.result()

    explore(scenario, schedules=50)

    async def colourful() -> None:
        channel = Channel[int]()
        task = go(channel.arecv)
        await asettled()
        channel.send_nowait(1)  # There is a receiver.
        assert await task.aresult() == 1

    explore(colourful, schedules=50)


def test_deadlock() -> None:
    """With nothing left that could happen, the block's thread gets the report."""
    with virtual_time(), pytest.raises(DeadlockError, match=r"Channel\.recv"):
        sleep(1)
        Channel[int]().recv()


def test_deadlock_with_a_ticker() -> None:
    """Ticks that nobody reads are nothing that could happen."""
    with virtual_time(), pytest.raises(DeadlockError):
        ticks = tick(0.001)
        ticks.recv()
        WaitGroup().add()
        Channel[int]().recv()


def test_deadlock_in_a_loop() -> None:
    """It is raised in the task that the loop runs."""

    async def main() -> None:
        task = go(Channel[int]().arecv)
        with pytest.raises(DeadlockError):
            await asyncio.gather(task.aresult(), Channel[int]().arecv())
        task.cancel()

    with virtual_time():
        run(main)


def test_cancellation_and_interruption() -> None:
    """A cancelled sleeper goes on at once; the clock has not moved."""
    with virtual_time() as clock:
        with cancel_scope() as scope, Group() as group:
            group.go(sleep, HOUR)
            group.go(Channel[int]().recv)
            settled()
            scope.cancel()
        assert clock.elapsed == 0


def test_patterns() -> None:
    """What the library is built of keeps its times."""
    with virtual_time() as clock:
        assert list(pmap(lambda pause: (sleep(pause), pause)[1], [3, 2, 1], limit=3)) == [3, 2, 1]
        assert clock.elapsed == 3
        gauge = PressureGauge(1, queue=1, max_wait=10)
        with gauge.acquire(), pytest.raises(OutOfCapacity):
            gauge.acquire()
        assert clock.elapsed == 13
        assert len(Stream(range(5)).throttle(1, per=60.0).collect()) == 5
        assert clock.elapsed == 13 + 240
        with pytest.raises(TimeoutError), fail_after(5):
            call(time.sleep, HOUR)
        semaphore = Semaphore(2)
        with Group() as group, semaphore:
            group.go(lambda: semaphore.acquire(2, timeout=7))
            with pytest.raises(TimeoutError):
                semaphore.acquire(2, timeout=3)
            sleep(3)
        adaptive = PressureGauge(AIMD(initial=5))
        with adaptive.acquire():
            sleep(1)
    assert clock.elapsed < 2 * HOUR


def test_select() -> None:
    """The case whose time comes first."""
    with virtual_time() as clock:
        late, soon = after(20), after(10)
        assert select(late, soon).index == 1  # type: ignore[union-attr]
        assert select(late, timeout=5, default=True) is None
        with pytest.raises(TimeoutError):
            select(late, timeout=5)
        assert clock.elapsed == 15


def test_what_is_left_goes_on_in_real_time() -> None:
    """A sleeper, a context's deadline and a loop's timer have what was left of their time."""
    ended = Channel[str](10)

    async def dream() -> None:
        await asyncio.sleep(HOUR + 0.05)
        await ended.asend("loop")

    with virtual_time():
        tasks = [
            go(lambda: (sleep(HOUR + 0.1), ended.send("thread"))),
            go(lambda: (sleep(HOUR), sleep(0.1), ended.send("twice"))),
            go(asyncio.run, dream()),
        ]
        context = Context.background().with_timeout(HOUR + 0.1)
        settled()
        sleep(HOUR)
    assert {ended.recv(timeout=10) for _ in range(3)} == {"thread", "twice", "loop"}
    assert context.done.recv_ok(timeout=10) == (None, False)
    for task in tasks:
        task.result(timeout=10)
    before = time.monotonic()
    sleep(0.01)
    assert time.monotonic() - before < HOUR


def test_a_ticker_that_is_left_ticks_on() -> None:
    """At its own pace, once for each period."""
    with virtual_time():
        ticker = Ticker(0.05)
        sleep(HOUR)
        assert ticker.channel.recv() > 0
    began = time.monotonic()
    for _ in range(4):
        ticker.channel.recv(timeout=10)
    ticker.stop()
    assert time.monotonic() - began >= 0.1


def test_misuse() -> None:
    """It is one clock."""
    with virtual_time():
        with pytest.raises(RuntimeError, match="virtual already"), virtual_time():
            pass
        with pytest.raises(RuntimeError):
            explore(lambda: None)
    inside, done = threading.Event(), threading.Event()

    def other() -> None:
        with virtual_time():
            inside.set()
            real_wait(done)

    def real_wait(event: threading.Event) -> None:
        event.wait()

    thread = threading.Thread(target=other)
    thread.start()
    inside.wait()
    with pytest.raises(RuntimeError, match="two threads"), virtual_time():
        pass
    done.set()
    thread.join()

    def scenario() -> None:
        with virtual_time():
            pass

    with pytest.raises(AssertionError, match="virtual already"):
        explore(scenario, schedules=1)


def test_other_loops() -> None:
    """A loop that keeps the real time is refused where its time would matter."""
    uvloop = pytest.importorskip("uvloop")

    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"uvloop\.Loop"):
            await asleep(HOUR)

    with virtual_time():
        uvloop.run(main())


def test_nothing_is_left_patched() -> None:
    """After the block, and after one that failed."""
    before = time.monotonic, time.sleep, threading.Thread.start, asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
    with virtual_time():
        assert time.monotonic is not before[0]
    with pytest.raises(ZeroDivisionError), virtual_time():
        sleep(1)
        raise ZeroDivisionError
    after_it = time.monotonic, time.sleep, threading.Thread.start, asyncio.BaseEventLoop._run_once  # type: ignore[attr-defined]
    assert after_it == before


def test_storm(storm_scale: int) -> None:
    """Sleepers of all kinds wake in the order of their times, again and again."""
    for _ in range(10 * storm_scale):
        with virtual_time() as clock:
            woken: list[float] = []

            def dream(pause: float) -> None:
                sleep(pause)
                woken.append(clock.elapsed)  # noqa: B023  within the round

            async def doze(pause: float) -> None:
                await asyncio.sleep(pause)
                await asleep(pause)
                woken.append(clock.elapsed)  # noqa: B023

            async def night() -> None:
                async with Group() as group:
                    for number in range(10):
                        group.go(doze, number / 2)
                        group.go(dream, number)

            with Group() as group:
                for number in range(20):
                    group.go(dream, 20 - number)
                group.go(asyncio.run, night())
            assert woken == sorted(woken)
            assert len(woken) == 40
            assert clock.elapsed == 20


def test_a_call_into_a_loop_is_work(storm_scale: int) -> None:
    """From the instant at which another thread calls it: the clock does not jump before the loop has looked."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        with virtual_time() as clock, Group() as group:
            there, back = Channel[int](), Channel[int]()

            async def echo() -> None:
                async for value in there:
                    await back.asend(value, timeout=1)

            group.go(lambda: asyncio.run(echo()))
            for number in range(1000 * storm_scale):
                there.send(number, timeout=1)
                assert back.recv(timeout=1) == number
            there.close()
            assert clock.elapsed == 0
    finally:
        sys.setswitchinterval(interval)


def test_sockets_of_threads() -> None:
    """A thread that waits for a socket is at work: the clock stands still meanwhile."""
    ours, theirs = socket.socketpair()
    with ours, theirs, virtual_time() as clock:
        go(sleep, HOUR)
        task = go(ours.recv, 1)
        outside = threading.Event()

        def send() -> None:
            outside.wait(0.2)
            theirs.send(b"x")

        go(send)
        assert task.result() == b"x"
        assert clock.elapsed == 0
