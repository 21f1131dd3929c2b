"""report(): who is parked, what for, since when, where, and who has to act (contract section 8)."""

from __future__ import annotations

import asyncio
import ctypes
import json
import signal
import subprocess
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree as ET

import pytest
from parking import parked, release_all
from waiting import LIMIT, until

from penstock import (
    Cancelled,
    Channel,
    ChannelClosed,
    Condition,
    Context,
    Group,
    Mutex,
    Once,
    PressureGauge,
    RWMutex,
    Semaphore,
    Timer,
    WaitGroup,
    after,
    aselect,
    go,
    pmap,
    select,
    sleep,
)
from penstock._kernel.threads import ThreadWaiter
from penstock._kernel.waiters import Node
from penstock.deadlock import record_sites, report
from penstock.group import Task
from penstock.sync import Side

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from penstock.deadlock import ParkedTask


@pytest.fixture(autouse=True, scope="module")
def begun() -> None:
    """Nothing is parked that tests elsewhere have left."""
    release_all()


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """Nothing stays parked after a test."""
    yield
    release_all()


def quietly(function: Callable[[], Any]) -> Task[Any]:
    """Let a task call `function`, whose end by the test is nobody's failure."""

    def call() -> None:
        with suppress(Cancelled, ChannelClosed):
            function()

    return go(call)


def the_one(operation: str) -> ParkedTask:
    """The record of the only operation of that name that is parked."""

    def found() -> list[ParkedTask]:
        return [task for task in report().tasks if task.operation == operation]

    until(found)
    (task,) = found()
    return task


def holder(lock: Any) -> Task[Any]:
    """Let a task hold `lock`, which waits for a channel meanwhile."""

    def hold() -> None:
        with lock, suppress(Cancelled):
            Channel(name="never").recv()

    task = go(hold)
    until(lambda: parked("Channel.recv"))
    return task


def test_channels() -> None:
    """Whether to send or to receive, and the channel, by the name that it has been given."""
    full: Channel[int] = Channel(name="orders")
    quietly(full.recv)
    quietly(lambda: Channel(name="unread").send(1))
    receives, sends = the_one("Channel.recv"), the_one("Channel.send")
    assert str(receives.waits_for[0]) == "to receive from channel orders"
    assert str(sends.waits_for[0]) == "to send to channel unread"
    assert receives.waits_for[0].kind == "channel receive"
    assert sends.waits_for[0].kind == "channel send"
    assert receives.seconds >= 0
    assert receives.since <= time.monotonic()
    assert receives.deadline is None


def test_select() -> None:
    """Each case with its index; None is none."""
    quietly(lambda: select(Channel(name="in"), None, Channel(name="out").sending(1)))
    assert [(one.kind, one.name, one.case) for one in the_one("select").waits_for] == [
        ("channel receive", "channel in", 0),
        ("channel send", "channel out", 2),
    ]
    quietly(lambda: select(None))
    until(lambda: parked("select", "select"))
    assert "waits for nothing: the select has no case that could be ready" in str(report())


def test_timers() -> None:
    """A channel that the clock sends on is told from others, with the time that is left."""
    stopped = Timer(100)
    stopped.stop()
    quietly(lambda: select(after(100), stopped.channel))
    first, second = the_one("select").waits_for
    assert first.kind == second.kind == "timer"
    assert first.seconds is not None
    assert 90 < first.seconds <= 100
    assert second.seconds is None
    assert str(second) == f"for {second.name}, which is stopped (case 1)"
    quietly(lambda: sleep(100))
    sleeps = the_one("sleep")
    assert str(sleeps.waits_for[0]) == "for the clock"
    assert sleeps.deadline is not None


LOCKS: list[tuple[Callable[[], Any], Callable[[Any], Any], str, str]] = [
    (Mutex, Mutex.acquire, "Mutex.acquire", "for mutex 1, held by holder.<locals>.hold"),
    (Semaphore, Semaphore.acquire, "Semaphore.acquire", "for semaphore 1, held by holder.<locals>.hold"),
    (
        lambda: RWMutex().write(),
        lambda side: side._rw.acquire_read(),
        "RWMutex.acquire_read",
        "to read under rwmutex 1, held by holder.<locals>.hold",
    ),
    (
        lambda: RWMutex().read(),
        lambda side: side._rw.acquire_write(),
        "RWMutex.acquire_write",
        "to write under rwmutex 1, held by holder.<locals>.hold",
    ),
]


@pytest.mark.parametrize(("make", "ask", "operation", "told"), LOCKS)
def test_locks(make: Callable[[], Any], ask: Callable[[Any], Any], operation: str, told: str) -> None:
    """The lock, and the task that is in a block that holds it."""
    lock = make() if make is not Semaphore else Semaphore(1)
    holder(lock)
    quietly(lambda: ask(lock))
    waiting = the_one(operation).waits_for[0]
    assert str(waiting) == told
    assert waiting.holder == "holder.<locals>.hold"


def test_what_belongs_to_others() -> None:
    """Wait groups and groups with their members, tasks, conditions, calls made once, gauges."""
    silent, wait_group, gauge = Channel[int](name="silent"), WaitGroup(), PressureGauge(1, queue=1)
    permit = gauge.acquire()

    def member() -> None:
        with suppress(Cancelled):
            silent.recv()

    def lead() -> None:
        with Group(limit=1) as group:
            group.go(member)
            group.go(member)

    def leave() -> None:
        with Group() as group:
            group.go(member)

    def wait() -> None:
        with Condition(Mutex()) as condition:
            condition.wait()

    once = Once()
    quietly(lambda: once.do(silent.recv))
    until(lambda: parked("Channel.recv"))
    quietly(lambda: once.do(silent.recv))
    task = wait_group.go(member)
    for function in (wait_group.wait, lead, leave, wait, gauge.acquire, task.result):
        quietly(function)  # type: ignore[arg-type]
    operations = ["Condition.wait", "Group.go", "Once.do", "PressureGauge.acquire", "Task.result", "WaitGroup.wait"]
    until(lambda: parked(*["Channel.recv"] * 4, *operations, "leaving a Group"))
    told = {one.operation: one.waits_for[0] for one in report().tasks}
    kinds = {operation: told[operation].kind for operation in told}
    assert kinds == {
        "Channel.recv": "channel receive",
        "Condition.wait": "condition",
        "Group.go": "group place",
        "Once.do": "once",
        "PressureGauge.acquire": "gauge",
        "Task.result": "task",
        "WaitGroup.wait": "wait group",
        "leaving a Group": "group",
    }
    for operation in ("Group.go", "Task.result", "WaitGroup.wait", "leaving a Group"):
        assert told[operation].holders[0].startswith("test_what_belongs_to_others.<locals>.member")
    assert not permit.released


def test_pmap() -> None:
    silent: Channel[int] = Channel(name="silent")

    def work(_item: int) -> int:
        return silent.recv()

    quietly(lambda: list(pmap(work, iter(range(100)), limit=2)))
    reader = the_one("pmap (a result)")
    until(lambda: len(report().tasks) == 4)
    assert reader.waits_for[0].name == "pmap 1"
    names = sorted(task.name for task in report().tasks if task.name.startswith("pmap"))
    called = work.__qualname__
    assert names == [f"pmap: items for {called}", f"pmap: {called}", f"pmap: {called} (2)"]
    silent.close()


def test_asyncio_tasks() -> None:
    """As threads are: by name, with the coroutines' stack; the library's own, and those of asyncio."""

    async def main() -> None:
        mutex = Mutex()
        channel = Channel[int](name="orders")

        async def hold() -> None:
            async with mutex:
                await channel.arecv_ok()

        async def ask() -> None:
            async with mutex:
                pass

        async def choose() -> None:
            await aselect(channel, after(100))

        go(hold)
        await asyncio.sleep(0)
        go(ask)
        plain = asyncio.create_task(choose(), name="plain")
        deadline = time.monotonic() + LIMIT
        while not parked("Channel.arecv_ok", "Mutex.aacquire", "aselect"):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)
        told = {one.operation: one for one in report().tasks}
        assert told["Mutex.aacquire"].waits_for[0].holder == told["Channel.arecv_ok"].name
        assert told["Mutex.aacquire"].stack[-1].function.endswith("ask")
        assert told["aselect"].name == "asyncio task plain"
        assert [one.kind for one in told["aselect"].waits_for] == ["channel receive", "timer"]
        channel.close()
        with suppress(ChannelClosed):
            await plain

    asyncio.run(main())


def test_where_things_were_made() -> None:
    """While that is recorded, what has no name is called by it, and tasks tell where they were started."""
    own = Channel.__dict__.get("__init__"), Task.__dict__["__init__"]
    record_sites(True)
    try:
        channel = Channel[int]()
        quietly(channel.recv)
        task = the_one("Channel.recv")
    finally:
        record_sites(False)
    assert task.waits_for[0].name.startswith("channel made at test_reports.py:")
    assert task.created[-1].function == "quietly"
    assert task.stack[-1].function == "quietly.<locals>.call"
    assert (Channel.__dict__.get("__init__"), Task.__dict__["__init__"]) == own  # Off, it costs nothing.


def deadlock_of_two() -> None:
    """Two tasks wait for each other's mutex."""
    locks, both = [Mutex(), Mutex()], WaitGroup()
    both.add(2)

    def take(first: int) -> None:
        with suppress(Cancelled), locks[first]:
            both.done()
            both.wait()
            locks[1 - first].acquire()

    go(take, 0)
    go(take, 1)
    until(lambda: parked("Mutex.acquire", "Mutex.acquire"))


def test_forms() -> None:
    """JSON, Mermaid and SVG can be read by those who read that, whatever things are called."""
    channel = Channel[int](name='<&"\x00\n\ud800')
    deadlock_of_two()
    quietly(channel.recv)
    the_one("Channel.recv")
    made = report()
    data = json.loads(made.to_json())
    assert len(data["tasks"]) == 3
    assert data["tasks"][2]["waits_for"][0]["name"] == f"channel {channel.name}"
    assert [len(cycle) for cycle in data["cycles"]] == [2]
    picture = ET.fromstring(made.to_svg())
    arrows = [path.get("stroke") for path in picture.iter("{http://www.w3.org/2000/svg}path") if path.get("stroke")]
    assert len(arrows) == 5
    assert sorted(map(arrows.count, arrows)) == [1, 4, 4, 4, 4]  # The circle has a colour of its own.
    mermaid = made.to_mermaid()
    assert mermaid.startswith("flowchart LR\n")
    assert mermaid.count("==>") == 4
    assert all(line == "flowchart LR" or line.startswith("    ") for line in mermaid.split("\n"))
    assert "Deadlock: 2 tasks wait for each other in a circle" in str(made)


class Hostile:
    """An object of the user's that nobody should ask for anything."""

    def __init__(self, channel: Channel[int]) -> None:
        self.channel = channel

    def __repr__(self) -> str:
        raise AssertionError

    def __str__(self) -> str:
        time.sleep(LIMIT)
        raise AssertionError

    def __eq__(self, other: object) -> bool:
        raise AssertionError

    def __hash__(self) -> int:
        raise AssertionError

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("__") or name == "channel":
            return object.__getattribute__(self, name)
        raise AssertionError(name)

    def __call__(self) -> None:
        with suppress(Cancelled):
            self.channel.send(self)  # type: ignore[arg-type]


def test_objects_whose_repr_raises_or_blocks() -> None:
    """Nobody's `repr` is asked for: not of a task's function, nor of its arguments, nor of what is sent."""
    hostile = Hostile(Channel())
    go(hostile.__call__)
    context = Context.background().with_value("key", hostile)

    def wait(_: Any) -> None:
        with context.attach(), suppress(Cancelled):
            Channel[int]().recv()

    go(wait, hostile)
    threading.Thread(target=wait, args=(hostile,), daemon=True).start()
    until(lambda: parked("Channel.recv", "Channel.recv", "Channel.send"))
    record_sites(True)
    try:
        made = report()
        assert len(made.tasks) == 3
        assert all((str(made), made.to_json(), made.to_mermaid(), made.to_svg()))
    finally:
        record_sites(False)


def test_in_a_signal_handler() -> None:
    """Wherever it interrupts the program: the library included, and a report that is being made."""
    quietly(Channel[int](name="orders").recv)
    until(lambda: parked("Channel.recv"))
    found: list[str] = []

    def handle(*_: object) -> None:
        found.append(str(report()))
        if len(found) < 20:
            signal.setitimer(signal.ITIMER_REAL, 0.003)

    before = signal.signal(signal.SIGALRM, handle)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.003)
        busy = Channel[int](1)
        while len(found) < 20:
            busy.send(1)
            busy.recv()
            report()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all("waits to receive from channel orders" in one for one in found)


def test_while_a_thread_has_let_go_of_the_gil() -> None:
    """Threads inside C code that has released it are told of as any; and it can be asked for by a thread of C's own."""
    quietly(Channel[int](name="orders").recv)
    until(lambda: parked("Channel.recv"))
    ready, go_on = threading.Event(), subprocess.Popen(["sleep", "60"])

    def in_c() -> None:
        ready.set()
        go_on.wait()

    inside = threading.Thread(target=in_c)
    inside.start()
    ready.wait()
    found: list[str] = []

    def called(_: Any) -> None:
        found.append(str(report()))

    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p)
    callback, libc = kind(called), ctypes.CDLL(None)
    thread = ctypes.c_ulong()
    try:
        assert libc.pthread_create(ctypes.byref(thread), None, callback, None) == 0
        libc.pthread_join(thread, None)
    finally:
        go_on.kill()
        inside.join()
    assert len(found) == 1
    assert "waits to receive from channel orders" in found[0]
    assert "in test_while_a_thread_has_let_go_of_the_gil.<locals>.in_c" in found[0] or "subprocess.py" in found[0]


def test_what_is_being_made() -> None:
    """Another thread may be about to make a task, a lock, or what it parks by: these have nothing yet."""
    kinds: tuple[Any, ...] = (Condition, Group, Mutex, Node, Once, RWMutex, Side, Task, ThreadWaiter, WaitGroup)
    made = {kind: kind.__new__(kind) for kind in kinds}
    try:
        assert report().tasks == ()
    finally:
        made[Task]._error = None  # Its finalizer looks.
