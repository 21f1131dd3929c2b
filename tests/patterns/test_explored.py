"""The patterns under many schedules, on a clock of their own: nothing hangs, leaks or is lost, whoever goes first."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from penstock import (
    AIMD,
    Channel,
    DeadlineExceeded,
    Group,
    OutOfCapacity,
    PressureGauge,
    ShardedMap,
    Stream,
    apmap,
    broadcast,
    call,
    fail_after,
    fan_in,
    fan_out,
    first,
    move_on_after,
    pmap,
    sleep,
)
from penstock._kernel.locks import now
from penstock.testing import explore


def same(value: int) -> int:
    return value


def fail_on_two(value: int) -> int:
    if value == 2:
        raise ValueError(value)
    return value


def results_in_order() -> None:
    assert list(pmap(same, range(5), limit=2)) == list(range(5))


def a_failure_in_its_place() -> None:
    got: list[int] = []
    with pytest.raises(ValueError, match="2"):
        got.extend(pmap(fail_on_two, range(6), limit=2))
    for value in pmap(same, got):
        assert value in {0, 1}


def leaving_early() -> None:
    with pmap(lambda _: sleep(1), iter(int, 1), limit=2) as results:
        next(results)
    dropped = pmap(same, iter(int, 1), limit=2)
    next(dropped)
    del dropped


def a_source_that_fails() -> None:
    def source() -> Any:
        yield 1
        raise KeyError

    results = pmap(same, source(), limit=2)
    assert next(results) == 1
    with pytest.raises(KeyError):
        next(results)


def a_deadline_for_results() -> None:
    with pytest.raises(DeadlineExceeded), fail_after(3):
        for _ in pmap(sleep, iter(lambda: 1, 0), limit=2):
            pass


async def results_in_a_loop() -> None:
    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    assert [value async for value in apmap(work, range(4), limit=2)] == list(range(4))
    assert [value async for value in apmap(same, range(4), limit=2)] == list(range(4))


def broadcasting() -> None:
    source: Channel[int] = Channel()
    one, two = broadcast(source, 2)
    got: list[int] = []

    def leave() -> None:
        one.recv()
        one.leave()

    with Group() as group:
        group.go(leave)
        group.go(lambda: got.extend(two))
        for value in range(4):
            source.send(value)
        source.close()
    assert got == list(range(4))


def fanning_out_and_in() -> None:
    source: Channel[int] = Channel(1)
    even, odd = fan_out(source, 2, key=lambda value: value % 2)
    with Group() as group:

        def send() -> None:
            with source:
                for value in range(5):
                    source.send(value)

        group.go(send)
        got = list(fan_in(even, odd))
    assert [value for value in got if value % 2] == [1, 3]
    assert [value for value in got if not value % 2] == [0, 2, 4]


def a_gauge_with_a_queue() -> None:
    gauge = PressureGauge(1, queue=2, max_wait=2)

    def work(seconds: float) -> None:
        try:
            with move_on_after(seconds), gauge.acquire(int(seconds)):
                assert gauge.in_flight == 1
                sleep(1)
        except OutOfCapacity:
            pass

    with Group() as group:
        for seconds in (1.0, 1.5, 2.0, 3.0):
            group.go(work, seconds)
    statistics = gauge.statistics()
    assert (statistics.in_flight, statistics.queued) == (0, 0)
    gauge.acquire().release()


def racing() -> None:
    assert first(lambda: sleep(1) or 1, lambda: fail_on_two(2), lambda: 3) in {1, 3}


def abandoning() -> None:
    with pytest.raises(DeadlineExceeded), fail_after(1):
        call(sleep, 5)


def merging_in_batches() -> None:
    batches = Stream(range(3)).map(same, limit=2).merge([10, 11]).batch(2, within=5).collect()
    assert sorted(value for batch in batches for value in batch) == [0, 1, 2, 10, 11]


def branches() -> None:
    left, right = Stream(range(4)).map(same, limit=2).tee()
    with Group() as group:
        all_of_it = group.go(left.collect)
        some_of_it = group.go(lambda: right.take(2).collect())
    assert all_of_it.result() == [0, 1, 2, 3]
    assert some_of_it.result() == [0, 1]


def sharing_a_map() -> None:
    values: ShardedMap[int, Any] = ShardedMap(2)
    with Group() as group:
        for _ in range(3):
            group.go(lambda: [values.update_with(key, lambda old: old + 1, 0) for key in (1, 2)])
        group.go(lambda: values.compute_if_absent(5, lambda: sleep(1)))
    assert values[1] == values[2] == 3


SCENARIOS = [
    results_in_order,
    a_failure_in_its_place,
    leaving_early,
    a_source_that_fails,
    a_deadline_for_results,
    results_in_a_loop,
    broadcasting,
    fanning_out_and_in,
    a_gauge_with_a_queue,
    racing,
    abandoning,
    merging_in_batches,
    branches,
    sharing_a_map,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_under_many_schedules(scenario: Any, storm_scale: int) -> None:
    """C4, X1, T1; what is left parked for ever fails the schedule."""
    explore(scenario, schedules=150 * storm_scale, seed=3)


def test_the_patterns_know_no_other_clock() -> None:
    """Hours pass at once (H4)."""

    def throttled() -> None:
        start = now()
        assert len(Stream(range(7)).throttle(3, per=3600).collect()) == 7
        assert now() - start >= 7200

    def batched() -> None:
        source: Channel[int] = Channel(5)
        source.send(1)
        assert Stream(source).batch(3, within=3600).take(1).collect() == [[1]]
        assert now() >= 3600

    def learned() -> None:
        gauge = PressureGauge(AIMD(initial=4, timeout=3000))
        for _ in range(10):
            with gauge.acquire():
                sleep(3600)
        assert gauge.limit == 3
        waiting = PressureGauge(1, queue=1, max_wait=3600)
        with waiting.acquire(), pytest.raises(OutOfCapacity, match="3600 seconds"):
            waiting.acquire()

    for scenario in (throttled, batched, learned):
        explore(scenario, schedules=10)
