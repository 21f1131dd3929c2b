"""Exploration of schedules: what it finds, what it passes, and that a failure comes again."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from penstock import (
    Channel,
    Group,
    Mutex,
    Once,
    RWMutex,
    Ticker,
    after,
    aselect,
    current,
    go,
    move_on_after,
    pmap,
    select,
    sleep,
    tick,
)
from penstock.testing import ScheduleFailed, explore, replay

if TYPE_CHECKING:
    from collections.abc import Callable

STRATEGIES = ("pct", "random", "dfs")
every_strategy = pytest.mark.parametrize("strategy", STRATEGIES)


def two_locks() -> None:
    first, second = Mutex(), Mutex()

    def one() -> None:
        with first, second:
            pass

    def other() -> None:
        with second, first:
            pass

    with Group() as group:
        group.go(one)
        group.go(other)


def left_behind() -> None:
    channel: Channel[int] = Channel()
    go(channel.send, 1)
    select(channel, after(1))


async def left_behind_in_a_loop() -> None:
    channel: Channel[int] = Channel()

    async def send() -> None:
        await channel.asend(1)

    go(send)
    try:
        await aselect(channel, timeout=1)
    except TimeoutError:
        return


def uncollected() -> None:
    def fail() -> None:
        raise ValueError("boo")

    go(fail)


def recursive_reader() -> None:
    lock = RWMutex()

    def read() -> None:
        with lock.read(), lock.read():
            pass

    def write() -> None:
        with lock.write():
            pass

    with Group() as group:
        group.go(read)
        group.go(write)


def five_ways() -> None:
    first, second = Mutex(), Mutex()
    first.acquire()
    second.acquire()
    go(first.acquire)
    go(second.acquire)
    go(Channel[int]().recv)
    go(select, None)
    Channel[int]().send(1)


FAILING = [
    (two_locks, "deadlock"),
    (left_behind, "leak"),
    (left_behind_in_a_loop, "leak"),
    (uncollected, "exception"),
    (recursive_reader, "deadlock"),
    (five_ways, "deadlock"),
    (partial(select), "deadlock"),
]


@every_strategy
@pytest.mark.parametrize(("scenario", "kind"), FAILING)
def test_failures_are_found_and_come_again(strategy: str, scenario: Callable[[], Any], kind: str) -> None:
    """Each is found within 1,000 schedules, and its schedule, as a value or as text, gives the same failure."""
    with pytest.raises(ScheduleFailed) as found:
        explore(scenario, strategy=strategy)
    failure = found.value
    assert failure.kind == kind
    assert 1 <= failure.schedules <= 1000
    for schedule in (failure.schedule, str(failure.schedule)):
        with pytest.raises(ScheduleFailed) as again:
            replay(scenario, schedule)
        assert again.value.kind == kind
        assert again.value.report.splitlines()[0] == failure.report.splitlines()[0]
    assert str(failure.schedule) in failure.report


def test_the_exception_is_the_cause() -> None:
    """A failure that is an exception has it as its cause."""
    with pytest.raises(ScheduleFailed) as found:
        explore(uncollected)
    assert isinstance(found.value.__cause__, ValueError)
    assert found.value.report.startswith("exception in fail: ValueError: boo")


def test_the_report_can_be_read() -> None:
    """It tells who waits for what, and who did what in which order."""
    with pytest.raises(ScheduleFailed) as found:
        explore(two_locks)
    report = found.value.report
    assert report.startswith("deadlock: 3 tasks are parked for ever: main, one, other")
    assert "one waits in Mutex" in report
    assert "test_explore.py" in report


# What passes


def handed_over() -> None:
    channel: Channel[int] = Channel(2)
    with Group() as group:
        group.go(lambda: [channel.send(number) for number in range(4)])
        assert [channel.recv() for _ in range(4)] == [0, 1, 2, 3]


def waited_for_an_hour() -> None:
    channel: Channel[int] = Channel()
    with Group() as group:

        def late() -> None:
            sleep(3600)
            channel.send(1)

        group.go(late)
        assert channel.recv() == 1


def ticks() -> None:
    ticker = Ticker(1)
    for _ in range(3):
        ticker.channel.recv()
    ticker.stop()


def polled() -> None:
    channel: Channel[int] = Channel(1)
    with Group() as group:
        group.go(channel.send, 1)
        while select(channel, default=True) is None:
            pass


def spun() -> None:
    task = go(sleep, 5)
    while not task.done:
        pass


def once() -> None:
    done: list[int] = []

    def work() -> None:
        sleep(1)
        done.append(1)

    it = Once()
    with Group() as group:
        for _ in range(3):
            group.go(it.do, work)
    assert done == [1]


def mapped() -> None:
    assert list(pmap(lambda number: number * 2, range(6), limit=2)) == [0, 2, 4, 6, 8, 10]


def called_back() -> None:
    channel: Channel[int] = Channel(1)
    context = current().with_cancel()
    context.after_func(lambda: channel.send(1))
    context.cancel()
    assert channel.recv() == 1


async def mixed() -> None:
    channel: Channel[int] = Channel(2)

    def produce() -> None:
        with channel:
            for number in range(4):
                channel.send(number)

    async with Group() as group:
        group.go(produce)
        assert [number async for number in channel] == [0, 1, 2, 3]


PASSING = [handed_over, waited_for_an_hour, ticks, polled, spun, once, mapped, called_back, mixed]


@every_strategy
@pytest.mark.parametrize("scenario", PASSING)
def test_correct_scenarios_pass(strategy: str, scenario: Callable[[], Any]) -> None:
    """What is right under every schedule is not reported, whatever it is made of."""
    explored = explore(scenario, schedules=100, strategy=strategy)
    assert 1 <= explored.schedules <= 100
    assert explored.cut == 0
    assert explored.exhausted <= (strategy == "dfs")


def test_depth_first_tries_all_orders() -> None:
    """With dfs, a small scenario is exhausted, and every order of its steps has been seen."""
    orders: set[tuple[int, ...]] = set()

    def race() -> None:
        order: list[int] = []
        with Group() as group:
            for number in range(3):
                group.go(order.append, number)
        orders.add(tuple(order))

    explored = explore(race, schedules=100_000, strategy="dfs")
    assert explored.exhausted
    assert len(orders) == 6


def lost_update() -> None:
    count = [0]

    def add() -> None:
        before = count[0]
        count[0] = before + 1

    with Group() as group:
        group.go(add)
        group.go(add)
    assert count == [2]


@every_strategy
def test_switches_between_lines(strategy: str) -> None:
    """With lines=True, races of plain Python are found too, and `replay` needs no option."""
    explore(lost_update, schedules=200, strategy=strategy)
    with pytest.raises(ScheduleFailed) as found:
        explore(lost_update, lines=True, strategy=strategy)
    assert found.value.kind == "exception"
    with pytest.raises(ScheduleFailed, match="AssertionError"):
        replay(lost_update, str(found.value.schedule))


def test_timers_may_fire_while_tasks_could_run() -> None:
    """A timeout may come before what would have prevented it."""
    timed_out: set[bool] = set()

    def scenario() -> None:
        channel: Channel[int] = Channel(1)
        with Group() as group:
            group.go(channel.send, 1)
            with move_on_after(1):
                channel.recv()
                timed_out.add(False)
                return
            timed_out.add(True)
            channel.recv()

    explore(scenario, schedules=200)
    assert timed_out == {True, False}


def test_the_clock_goes_past_a_ticker_that_nobody_reads() -> None:
    """However often it could tick before the next timer that wakes somebody."""

    def scenario() -> None:
        ticker = Ticker(0.001)
        channel: Channel[int] = Channel()

        def late() -> None:
            sleep(3600)
            channel.send(1)

        go(late)
        channel.recv()
        ticker.stop()

    assert explore(scenario, schedules=30, max_steps=1000).cut == 0


def test_a_ticker_that_nobody_reads_keeps_no_schedule_going() -> None:
    """Who waits for ever is a leak, whatever ticks meanwhile."""

    def scenario() -> None:
        def wait(ticker: Ticker) -> None:
            Channel[Ticker](1).recv()
            ticker.stop()

        go(wait, Ticker(0.001))

    with pytest.raises(ScheduleFailed) as found:
        explore(scenario)
    assert found.value.kind == "leak"


def test_one_who_is_kept_going_by_the_clock_alone_is_cut_soon() -> None:
    """After the scenario has returned, tasks that live on nothing but ticks are no reason to go on for long."""
    ticks = [0]

    def scenario() -> None:
        def count() -> None:
            for _ in tick(1):
                ticks[0] += 1

        go(count)

    assert explore(scenario, schedules=5, strategy="random").cut == 5
    assert ticks[0] < 6 * 2000


def test_no_task_starves() -> None:
    """One that waits for another, and goes on starting tasks meanwhile, does not keep it from running."""

    def scenario() -> None:
        done: list[int] = []

        def work() -> None:
            with Mutex():
                done.append(1)

        def restless() -> None:
            while not done:
                go(lambda: Mutex().acquire())

        with Group() as group:
            group.go(restless)
            group.go(work)

    assert explore(scenario, schedules=60, max_steps=5000).cut == 0


def test_repeated_moves_of_the_clock_are_told_in_one_line() -> None:
    """However often it moves until somebody goes on."""

    def scenario() -> None:
        for seconds in range(1, 20):
            after(seconds)
        kept = [after(seconds) for seconds in range(1, 20)]
        sleep(100)
        assert not kept

    with pytest.raises(ScheduleFailed) as found:
        explore(scenario, schedules=1)
    assert found.value.report.count("the clock") == 1
    assert "the clock moves to 100 s, by way of 19 other times" in found.value.report


def test_endless_schedules_are_cut() -> None:
    """A schedule of more than max_steps steps is cut, which is no failure."""

    def endless() -> None:
        mutex = Mutex()
        while True:
            with mutex:
                pass

    explored = explore(endless, schedules=3, max_steps=500)
    assert explored.cut == explored.schedules == 3


def test_what_is_not_deterministic_is_named() -> None:
    """A scenario that does something else under the same schedule is found out."""
    source = random.Random(1)

    def scenario() -> None:
        mutex = Mutex()
        for _ in range(source.randrange(10)):
            with mutex:
                pass

    with pytest.raises(ScheduleFailed) as found:
        explore(scenario)
    assert found.value.kind == "nondeterministic"
    assert "Mutex" in found.value.report


def pooled() -> None:
    with ThreadPoolExecutor(1) as pool:
        pool.submit(print)


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: time.sleep(0), r"time\.sleep\(\).* use penstock\.sleep"),
        (lambda: threading.Thread(target=print).start(), r"threading\.Thread\.start\(\).* use penstock\.go"),
        (pooled, r"threading\.Thread\.start\(\)"),
        (socket.socket, r"socket\.socket\(\)"),
        (lambda: socket.create_connection(("localhost", 1)), r"socket\.getaddrinfo\(\)"),
        (lambda: subprocess.run(["true"], check=True), r"subprocess\.Popen\(\)"),
        (lambda: os.system("true"), r"os\.system\(\)"),
    ],
)
@pytest.mark.parametrize("place", ["in the scenario", "in a task", "where errors are caught"])
def test_the_real_world_is_refused(call: Callable[[], object], name: str, place: str) -> None:
    """Real sleeps, foreign threads, sockets and processes: the call is named, and the line that makes it."""

    def scenario() -> None:
        with Group() as group:
            group.go(call)

    def caught() -> None:
        with suppress(Exception):
            call()

    with pytest.raises(RuntimeError, match=name) as refused:
        explore({"in the scenario": call, "in a task": scenario}.get(place, caught))
    assert call is socket.socket or "at test_explore.py:" in str(refused.value)


def test_foreign_threads_that_take_part_are_refused() -> None:
    """A thread that was there before, and does something to the scenario's objects, is noticed."""
    asked, answered = threading.Event(), threading.Event()
    channels: list[Channel[int]] = []

    def close() -> None:
        asked.wait(20)
        channels[-1].close()
        answered.set()

    def scenario() -> None:
        channels.append(Channel())
        go(channels[-1].recv_ok)
        sleep(1)
        asked.set()
        answered.wait(5)
        sleep(1)

    thread = threading.Thread(target=close)
    thread.start()
    try:
        with pytest.raises(RuntimeError, match="a thread that the scenario did not start"):
            explore(scenario)
    finally:
        asked.set()
        thread.join()


def test_waiting_in_the_real_world_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock of threading's that is never released: the place is named."""
    monkeypatch.setattr("penstock.testing.exploring.STUCK", 0.3)
    lock = threading.Lock()
    lock.acquire()

    def scenario() -> None:
        lock.acquire()

    with pytest.raises(RuntimeError, match=r"at test_explore\.py:\d+ in .*scenario"):
        try:
            explore(scenario)
        finally:
            lock.release()


def test_an_interrupt_ends_it() -> None:
    """Ctrl-C ends the exploration, whose threads end too; the next is none the worse."""

    def scenario() -> None:
        mutex = Mutex()
        while True:
            with mutex:
                pass
            sleep(1)

    here = threading.get_ident()
    timer = threading.Timer(0.3, lambda: signal.pthread_kill(here, signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        explore(scenario, max_steps=10**9)
    timer.join()
    assert explore(handed_over, schedules=10).schedules == 10


def test_a_coroutine_is_no_scenario() -> None:
    """A function that only makes one is told from an async function."""

    async def scenario() -> None:
        pass

    with pytest.raises(ScheduleFailed, match="pass the async function itself"):
        explore(lambda: scenario())  # noqa: PLW0108  not the function itself


def test_arguments_are_checked() -> None:
    """What is no scenario, no strategy, no schedule, no number is refused."""
    with pytest.raises(TypeError, match="scenario"):
        explore(3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="strategy"):
        explore(once, strategy="best")
    with pytest.raises(ValueError, match="schedules"):
        explore(once, schedules=0)
    with pytest.raises(TypeError, match="max_steps"):
        explore(once, max_steps=1.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="not a schedule"):
        replay(once, "3:4")
    with pytest.raises(TypeError, match="takes a schedule"):
        replay(once, {3: 4})  # type: ignore[arg-type]
    with pytest.raises(ScheduleFailed, match="inside an explored scenario"):
        explore(lambda: explore(once))
