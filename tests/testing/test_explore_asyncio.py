"""Exploration of asyncio: the library's operations and asyncio's own, in one loop, in several, beside threads."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

from penstock import Channel, Group, Mutex, aselect, asleep, fail_after, go, move_on_after
from penstock.testing import ScheduleFailed, explore, replay

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

every_strategy = pytest.mark.parametrize("strategy", ["pct", "random", "dfs"])


async def sleeping() -> None:
    results = await asyncio.gather(asyncio.sleep(2, "late"), asyncio.sleep(1, "early"))
    assert results == ["late", "early"]


async def queued() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue(1)

    async def produce() -> None:
        for number in range(3):
            await queue.put(number)

    producer = asyncio.create_task(produce())
    assert [await queue.get() for _ in range(3)] == [0, 1, 2]
    await producer


async def an_event() -> None:
    event, woken = asyncio.Event(), []

    async def wait(number: int) -> None:
        await event.wait()
        woken.append(number)

    async with asyncio.TaskGroup() as group:
        for number in range(3):
            group.create_task(wait(number))
        event.set()
    assert sorted(woken) == [0, 1, 2]


async def timed() -> None:
    try:
        async with asyncio.timeout(5):
            await asyncio.Event().wait()
    except TimeoutError:
        pass
    else:
        raise AssertionError
    try:
        await asyncio.wait_for(asyncio.Queue[int]().get(), 3)
    except TimeoutError:
        pass
    else:
        raise AssertionError


async def aborted() -> None:
    async def fail() -> None:
        await asyncio.sleep(1)
        raise ValueError

    try:
        async with asyncio.TaskGroup() as group:
            for _ in range(4):
                group.create_task(asyncio.sleep(9))
            group.create_task(fail())
    except* ValueError as errors:
        assert len(errors.exceptions) == 1
    else:
        raise AssertionError


async def locked() -> None:
    lock, semaphore, inside = asyncio.Lock(), asyncio.Semaphore(2), [0]

    async def work() -> None:
        async with semaphore, lock:
            inside[0] += 1
            await asyncio.sleep(0)
            assert inside[0] == 1
            inside[0] -= 1

    await asyncio.gather(*(work() for _ in range(3)))


async def waited() -> None:
    tasks = [asyncio.create_task(asyncio.sleep(seconds)) for seconds in (1, 1, 9)]
    done, pending = await asyncio.wait(tasks, timeout=5)
    assert len(done) + len(pending) == 3
    assert [task async for task in _as_they_end(tasks)] == [None, None, None]


async def _as_they_end(tasks: list[asyncio.Task[None]]) -> Any:
    for task in asyncio.as_completed(tasks):
        yield await task


async def in_a_thread() -> None:
    channel: Channel[int] = Channel()
    async with asyncio.TaskGroup() as group:
        sent = group.create_task(asyncio.to_thread(channel.send, 1))
        assert await channel.arecv() == 1
        await sent
    try:
        await asyncio.to_thread(int, "x")
    except ValueError:
        return
    raise AssertionError


async def both_kinds() -> None:
    channel: Channel[int] = Channel()
    loop_only = asyncio.Event()

    def thread() -> None:
        channel.send(1)

    async def task() -> None:
        await asyncio.sleep(1)
        loop_only.set()

    async with Group() as group:
        group.go(thread)
        group.go(task)
        await loop_only.wait()
        assert (await aselect(channel)).value == 1


async def scoped() -> None:
    async with move_on_after(1):
        await asyncio.sleep(5)
        raise AssertionError
    try:
        async with fail_after(1):
            await asyncio.Event().wait()
    except TimeoutError:
        return
    raise AssertionError


def loops_in_threads() -> None:
    channel: Channel[int] = Channel()

    async def send() -> None:
        kept = [asyncio.create_task(asyncio.sleep(99)) for _ in range(3)]
        await channel.asend(len(kept))

    async def receive() -> None:
        assert await channel.arecv() == 3

    with Group() as group:
        group.go(lambda: asyncio.run(send()))
        group.go(lambda: asyncio.run(receive()))


PASSING = [
    *(sleeping, queued, an_event, timed, aborted, locked, waited, in_a_thread, both_kinds, scoped, loops_in_threads),
]


@every_strategy
@pytest.mark.parametrize("scenario", PASSING, ids=lambda scenario: scenario.__name__)
def test_what_is_asyncios_own_works(strategy: str, scenario: Callable[[], Any]) -> None:
    """Sleeps, queues, events, groups, timeouts, threads: under every schedule as outside."""
    explored = explore(scenario, schedules=60, strategy=strategy)
    assert explored.cut == 0


async def stuck() -> None:
    await asyncio.Event().wait()


async def hurried() -> None:
    queue: asyncio.Queue[int] = asyncio.Queue()

    async def late() -> None:
        await asyncio.sleep(1)
        await queue.put(1)

    kept = asyncio.create_task(late())
    await asyncio.wait_for(queue.get(), 1)
    await kept


async def unseen() -> None:
    async def fail() -> None:
        raise ValueError("boo")

    kept = asyncio.create_task(fail())
    await asyncio.sleep(1)
    assert kept.done()


async def left_waiting() -> None:
    kept.append(asyncio.create_task(asyncio.Queue[int]().get()))
    await asyncio.sleep(0)


kept: list[asyncio.Task[int]] = []


async def crossed() -> None:
    one, other = asyncio.Lock(), Mutex()

    async def first() -> None:
        async with one, other:
            pass

    async def second() -> None:
        async with other:
            await asyncio.sleep(0)
            async with one:
                pass

    await asyncio.gather(first(), second())


FAILING: list[tuple[Callable[[], Coroutine[Any, Any, None]], str, str]] = [
    (stuck, "deadlock", "stuck waits in Event.wait"),
    (hurried, "exception", "exception in"),
    (unseen, "exception", "exception in fail: ValueError: boo"),
    (left_waiting, "leak", "Queue.get"),
    (crossed, "deadlock", "second waits in Lock.acquire"),
]


@every_strategy
@pytest.mark.parametrize(("scenario", "kind", "told"), FAILING, ids=[case[0].__name__ for case in FAILING])
def test_failures_of_asyncios_own_are_found(
    strategy: str, scenario: Callable[[], Coroutine[Any, Any, None]], kind: str, told: str
) -> None:
    """Tasks that wait for ever for something of asyncio's, and errors that nobody looks at; and they come again."""
    with pytest.raises(ScheduleFailed) as found:
        explore(scenario, strategy=strategy)
    assert found.value.kind == kind
    assert told in found.value.report
    with pytest.raises(ScheduleFailed) as again:
        replay(scenario, found.value.schedule)
    assert again.value.report == found.value.report


@pytest.mark.parametrize(
    ("call", "name"),
    [
        (lambda: asyncio.open_connection("localhost", 1), "the event loop's create_connection()"),
        (lambda: asyncio.start_server(print, "localhost", 1), "the event loop's create_server()"),
        (lambda: asyncio.create_subprocess_exec("true"), "the event loop's subprocess_exec()"),
        (lambda: asyncio.get_running_loop().getaddrinfo("localhost", 1), "the event loop's getaddrinfo()"),
    ],
)
def test_the_real_world_is_refused(call: Callable[[], Any], name: str) -> None:
    """Connections and processes are named, with the line."""

    async def scenario() -> None:
        await asleep(1)
        await call()

    with pytest.raises(RuntimeError) as refused:
        explore(scenario)
    assert str(refused.value).startswith(f"{name}, at test_explore_asyncio.py:")


def test_outside_loops_are_as_before() -> None:
    """An exploration leaves nothing behind in asyncio."""
    explore(sleeping, schedules=2)

    async def real() -> str:
        return type(asyncio.get_running_loop()).__name__

    assert asyncio.run(real()) != "SimulatedLoop"
    assert go(int).result() == 0
