"""Depth first: that nothing within its bounds is left out, and that what is left out makes no difference."""

from __future__ import annotations

import random
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from penstock import Channel, Group, Mutex, Semaphore, WaitGroup, go, select, sleep
from penstock.testing import explore
from penstock.testing.strategies import DepthFirst

if TYPE_CHECKING:
    from collections.abc import Callable

PLENTY = 200_000


def outcomes_of(program: Callable[[], Any], monkeypatch: pytest.MonkeyPatch, *, reduced: bool) -> tuple[set[Any], int]:
    """What a program may return under all schedules within the bound, and how many of them there are."""
    seen: set[Any] = set()
    monkeypatch.setattr(DepthFirst, "REDUCES", reduced)
    explored = explore(lambda: seen.add(program()), strategy="dfs", schedules=PLENTY)
    assert explored.exhausted
    return seen, explored.schedules


# Counted by hand


@pytest.mark.parametrize(("bound", "schedules"), [(0, 2), (1, 2 + 5), (2, 2 + 5 + 1), (9, 8)])
def test_two_tasks_of_one_step(bound: int, schedules: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Main can be preempted after each `go`. Never: the tasks come in 2 orders. Once: by the first task at the first
    place, or by one of both at the second, followed by two orders of the rest, makes 1 + 2 + 2. Twice: 1."""
    monkeypatch.setattr(DepthFirst, "PREEMPTIONS", bound)

    def scenario() -> None:
        go(int)
        go(int)

    explored = explore(scenario, strategy="dfs", schedules=PLENTY)
    assert (explored.schedules, explored.exhausted) == (schedules, True)


def test_one_task_has_one_schedule() -> None:
    """Where there is nothing to choose, there is one schedule, and it is all."""

    def scenario() -> None:
        mutex = Mutex()
        with mutex:
            pass

    explored = explore(scenario, strategy="dfs")
    assert (explored.schedules, explored.exhausted) == (1, True)


@pytest.mark.parametrize("ready", [1, 2, 3, 4])
def test_a_select_has_as_many_as_cases_are_ready(ready: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each ready case is taken under some schedule."""

    def program() -> int:
        channels = [Channel[int](1) for _ in range(ready)]
        for channel in channels:
            channel.send(1)
        return select(*channels).index

    seen, _ = outcomes_of(program, monkeypatch, reduced=True)
    assert seen == set(range(ready))


def test_a_select_that_waits_is_no_choice() -> None:
    """In which order it stands in the queues of different channels makes no difference."""

    def scenario() -> None:
        channels = [Channel[int]() for _ in range(4)]
        go(channels[0].send, 1)
        select(*channels)

    explored = explore(scenario, strategy="dfs")
    assert explored.exhausted
    assert explored.schedules <= 8  # Of four queues there are 24 orders.


@pytest.mark.parametrize("others", [1, 20])
def test_several_cases_on_one_channel(others: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them may be the one that somebody meets (S3)."""

    def program() -> int:
        channel = Channel[int]()
        sleep(1)
        with Group() as group:
            group.go(channel.send, 1)
            return select(channel, *[None] * others, channel, Channel[int](), channel).index

    seen, _ = outcomes_of(program, monkeypatch, reduced=True)
    assert seen == {0, others + 1, others + 3}


def test_not_exhausted_if_there_are_more() -> None:
    """`exhausted` is not claimed when the number of schedules ends it."""

    def scenario() -> None:
        go(int)
        go(int)

    assert not explore(scenario, strategy="dfs", schedules=7).exhausted


# Partial-order reduction


def two_locks_each() -> tuple[int, ...]:
    """Two tasks that have nothing to do with each other."""
    order: list[int] = []

    def work(number: int) -> None:
        mutex = Mutex()
        for _ in range(3):
            with mutex:
                pass
        order.append(number)

    with Group() as group:
        group.go(work, 1)
        group.go(work, 2)
    return tuple(order)


def test_reduction_saves_schedules(monkeypatch: pytest.MonkeyPatch) -> None:
    """Orders of independent steps are tried once, and all outcomes are seen all the same."""
    reduced, few = outcomes_of(two_locks_each, monkeypatch, reduced=True)
    full, many = outcomes_of(two_locks_each, monkeypatch, reduced=False)
    assert reduced == full == {(1, 2), (2, 1)}
    assert few < many


def tried() -> tuple[bool, ...]:
    mutex = Mutex()
    got: list[bool] = []
    with Group() as group:
        for _ in range(2):
            group.go(lambda: got.append(mutex.try_acquire()))
        got.append(mutex.try_acquire())
    return tuple(got)


def timed_out() -> tuple[str, ...]:
    channel: Channel[int] = Channel(1)
    order: list[str] = []

    def receive() -> None:
        try:
            channel.recv(timeout=1)
            order.append("received")
        except TimeoutError:
            order.append("timed out")

    def late() -> None:
        sleep(1)
        order.append("late")

    with Group() as group:
        group.go(receive)
        group.go(late)
        channel.send(1)
    return tuple(order)


def fired_in_time() -> int:
    channel: Channel[int] = Channel(1)

    def peek() -> int:
        return len(channel)

    def late() -> None:
        sleep(1)
        channel.send(1)

    with Group() as group:
        task = group.go(peek)
        group.go(late)
        return task.result()


def two_timeouts() -> tuple[int, ...]:
    order: list[int] = []

    def receive(number: int, channel: Channel[int]) -> None:
        with suppress(TimeoutError):
            channel.recv(timeout=1)
        order.append(number)

    with Group() as group:
        group.go(receive, 1, Channel[int]())
        group.go(receive, 2, Channel[int]())
    return tuple(order)


def taken_in_between() -> tuple[Any, ...]:
    channel: Channel[int] = Channel(1)
    found: list[Any] = []

    def take() -> None:
        got = select(channel, default=True)
        found.append(got is not None)

    with Group() as group:
        group.go(take)
        group.go(lambda: (channel.send_nowait(1), select(channel, default=True)))
    return tuple(found)


def counted_in_between() -> tuple[int, ...]:
    waits = WaitGroup()
    found: list[int] = []

    def work() -> None:
        waits.add()
        waits.add()
        waits.done()
        waits.done()

    with Group() as group:
        group.go(work)
        group.go(lambda: found.append(waits.count))
    return tuple(found)


PROGRAMS = [tried, timed_out, fired_in_time, two_timeouts, taken_in_between, counted_in_between]


@pytest.mark.parametrize("program", PROGRAMS)
def test_reduction_loses_no_outcome(program: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without it, a program has the same outcomes."""
    reduced, few = outcomes_of(program, monkeypatch, reduced=True)
    full, many = outcomes_of(program, monkeypatch, reduced=False)
    assert reduced == full
    assert len(full) > 1
    assert few <= many


class _Program:
    """A few tasks that each do a few things by lot, none of which waits for another task."""

    def __init__(self, seed: int) -> None:
        source = random.Random(seed)
        self._tasks = [
            [(source.randrange(8), source.randrange(2)) for _ in range(source.randint(2, 3))] for _ in range(2)
        ]

    def __call__(self) -> tuple[Any, ...]:
        channels = [Channel[int](1), Channel[int](2)]
        mutexes = [Mutex(), Mutex()]
        semaphore = Semaphore(2)
        group_of_waits = WaitGroup()
        group_of_waits.add(9)
        variable = [0]
        seen: list[Any] = []

        def work(number: int, steps: list[tuple[int, int]]) -> None:
            for kind, which in steps:
                found: Any = None
                if kind == 0:
                    found = mutexes[which].try_acquire()
                elif kind == 1:
                    found = len(channels[which])
                elif kind == 2:
                    got = select(channels[which].sending(number), default=True)
                    found = got is not None
                elif kind == 3:
                    got = select(channels[which], default=True)
                    found = None if got is None else got.value
                elif kind == 4:
                    found = variable[0]
                    variable[0] = number
                elif kind == 5:
                    found = semaphore.try_acquire(which + 1)
                elif kind == 6:
                    group_of_waits.done()
                    found = group_of_waits.count
                else:
                    sleep(which)
                seen.append((number, found))

        with Group() as group:
            for number, steps in enumerate(self._tasks, 1):
                group.go(work, number, steps)
        by_task = tuple(tuple(found for who, found in seen if who == number) for number in range(1, 3))
        return by_task, variable[0], len(channels[0]), len(channels[1])


@pytest.mark.parametrize("seed", range(6))
def test_reduction_loses_no_outcome_of_programs_by_lot(
    seed: int, monkeypatch: pytest.MonkeyPatch, storm_scale: int
) -> None:
    """With and without it, what each task has seen, and what is left, is the same."""
    for number in range(storm_scale):
        program = _Program(seed + 1000 * number)
        reduced, few = outcomes_of(program, monkeypatch, reduced=True)
        full, many = outcomes_of(program, monkeypatch, reduced=False)
        assert reduced == full
        assert few <= many


def test_objects_that_come_and_go_are_not_confused() -> None:
    """What a step touches is told by the order in which objects come, not by where they are in memory."""

    def work() -> None:
        for _ in range(3):
            mutex = Mutex()
            with mutex:
                pass
            channel = Channel[int](1)
            channel.send(1)
            del mutex, channel

    def scenario() -> None:
        with Group() as group:
            group.go(work)
            group.go(work)

    kept: list[Any] = []  # So that objects come to lie elsewhere in each schedule.

    def shifted() -> None:
        kept.append([Mutex() for _ in range(len(kept) % 5)])
        scenario()

    explored = explore(shifted, strategy="dfs", schedules=2000)
    assert explored.schedules == 2000 or explored.exhausted
