"""Bounded parallelism: `pmap`, `apmap`, `for_each`, `afor_each` (contract, section 7), and the faults of the slides."""

from __future__ import annotations

import asyncio
import ctypes
import gc
import itertools
import os
import re
import sys
import sysconfig
import threading
import time
import weakref
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from programs import run_program
from waiting import until, until_collected

import penstock
from penstock import Cancelled, Channel, DeadlineExceeded, afor_each, apmap, cancel_scope, fail_after, for_each, pmap
from penstock._kernel.conveyor import Conveyor, Hand
from penstock.patterns import bounded
from penstock.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


def double(value: int) -> int:
    return 2 * value


async def adouble(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def fail_on(bad: int) -> Any:
    def function(value: int) -> int:
        if value == bad:
            raise ValueError(value)
        return value

    return function


class Watch:
    """How many items were taken, how many calls are at work, and at most were."""

    def __init__(self, work: Any = None) -> None:
        self.taken = 0
        self.active = 0
        self.most = 0
        self.started = 0
        self._work = work
        self._lock = threading.Lock()

    def items(self, n: int | None = None) -> Iterator[int]:
        number = 0
        while n is None or number < n:
            self.taken += 1
            yield number
            number += 1

    def __call__(self, value: int) -> int:
        with self._lock:
            self.started += 1
            self.active += 1
            self.most = max(self.most, self.active)
        try:
            if self._work is not None:
                self._work(value)
            return value
        finally:
            with self._lock:
                self.active -= 1


def as_iterator(items: Any) -> Iterator[Any]:
    """An iterable of which nobody knows that all items are at hand: it gets a feeder."""
    return (item for item in items)


SOURCES = [list, tuple, lambda items: items, as_iterator]
"""Ways to pass a range: at hand, so that the workers take the items themselves, or not."""


@pytest.mark.parametrize("limit", [1, 3, 50])
@pytest.mark.parametrize("n", [0, 1, 7, 3000])
@pytest.mark.parametrize("source", SOURCES)
def test_results_come_in_order(limit: int, n: int, source: Any) -> None:
    assert list(pmap(double, source(range(n)), limit=limit)) == [2 * number for number in range(n)]
    assert sorted(pmap(double, source(range(n)), limit=limit, ordered=False)) == [2 * number for number in range(n)]


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("ahead", [None, 1, 7])
def test_items_at_hand_are_called_for_no_further_ahead(ahead: int | None, ordered: bool) -> None:
    for seconds, n in ((0.0, 5000), (0.001, 20)):
        watch = Watch((lambda _, seconds=seconds: time.sleep(seconds)) if seconds else None)
        with pmap(watch, range(10**12), 2, ordered=ordered, ahead=ahead) as results:
            for delivered in range(1, n):
                next(results)
                assert watch.started - delivered <= (ahead or (4 if seconds else 1024))


def test_items_at_hand_are_let_go() -> None:
    item = Watch()
    gone = weakref.ref(item)
    items = [item]
    del item
    results = pmap(id, items, limit=2)
    assert next(results)
    assert gone() is not None
    items.clear()
    assert list(results) == []
    until_collected(lambda: gone() is None)


def test_as_many_are_at_work_as_there_are_items() -> None:
    """All that may be at work are, although the last item has been taken from the source before the first ends."""
    for n in (1, 2, 4):
        barrier = threading.Barrier(n)
        assert list(pmap(lambda _, barrier=barrier: barrier.wait(20), range(n), limit=4)) != []


def test_unordered_delivers_what_is_ready() -> None:
    release = threading.Event()

    def work(value: int) -> int:
        if value == 0:
            assert release.wait(20)
        return value

    with pmap(work, range(5), limit=2, ordered=False) as results:
        assert [next(results) for _ in range(4)] == [1, 2, 3, 4]
        release.set()
        assert list(results) == [0]


@pytest.mark.parametrize("source", SOURCES)
def test_the_limit_is_reached_and_holds(source: Any) -> None:
    barrier = threading.Barrier(4)
    watch = Watch(lambda _: barrier.wait(20))
    assert list(pmap(watch, source(range(40)), limit=4)) == list(range(40))
    assert watch.most == 4


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("source", SOURCES)
def test_a_barrier_behind_quick_items(source: Any, reads: bool) -> None:
    """Items that took next to nothing were left to one worker. Now four are needed, whether somebody reads or not."""
    barrier = threading.Barrier(4)

    def work(value: int) -> int:
        if 3000 <= value < 3012:
            barrier.wait(20)
        return value

    results = pmap(work, source(range(9000)), limit=4)
    got = []
    if not reads:
        got = [next(results) for _ in range(2500)]
        run = results._run  # On a machine that stood still the items may look slow: then not so many are taken ahead.
        until(lambda: (barrier.n_waiting == 0 and run.conveyor.taken() >= 3012) or run.ahead < 600)
    assert got + list(results) == list(range(9000))


def test_one_item_after_many_quick_ones() -> None:
    """The worker who has done all of them may be parked by then, and the others are; nothing more comes to wake any."""
    for n in range(1500, 6000, 150):
        read = threading.Event()

        def source(n: int = n, read: threading.Event = read) -> Iterator[int]:
            yield from range(n)
            time.sleep(0.004 * (n % 400) / 400)
            yield -1
            assert read.wait(20)

        for value in pmap(double, source(), limit=4):
            if value == -2:
                read.set()


def test_virtual_time_is_exact_behind_quick_items() -> None:
    """No time passes while items are quick there: that does not make others quick."""
    for quick in (100, 1000):
        for source in SOURCES:
            with virtual_time():
                before = time.monotonic()
                for _ in pmap(lambda v, q=quick: penstock.sleep(1) if v >= q else None, source(range(quick + 40)), 4):
                    pass
                assert time.monotonic() - before == 10.0


class Slow:
    """A result whose end lets others go first."""

    def __init__(self, reached: threading.Event, goes: threading.Event) -> None:
        self._reached, self._goes = reached, goes

    def __del__(self) -> None:
        if self._reached.is_set() and not self._goes.is_set():
            self._goes.set()
            time.sleep(0.05)


@pytest.mark.parametrize("executor", [False, True])
def test_closing_while_results_have_finalizers(executor: bool) -> None:
    """A worker that comes for items meanwhile finds none, and no place for any."""
    for _ in range(5 if penstock.COMPILED else 1):
        reached, goes = threading.Event(), threading.Event()
        read = [threading.Event(), threading.Event()]

        def work(
            value: int,
            reached: threading.Event = reached,
            goes: threading.Event = goes,
            read: list[threading.Event] = read,
        ) -> Slow:
            if value < 2 or (value == 2 and executor):
                time.sleep(0.006)
            if value in (1, 2) and not executor:
                assert read[value - 1].wait(20)
            if value == 3:
                reached.set()
                assert goes.wait(20)
            return Slow(reached, goes)

        with ThreadPoolExecutor(2) as pool:
            options: dict[str, Any] = {"on": pool, "ahead": 4} if executor else {}
            results = pmap(work, range(10**6), 1, **options)
            next(results)
            read[0].set()
            if not executor:
                next(results)
            read[1].set()
            assert reached.wait(20)
            results.close()
            goes.set()


def test_closing_lets_go_of_what_was_fetched() -> None:
    results = pmap(lambda _: Watch(), range(5000), limit=2)
    seen = [weakref.ref(next(results)) for _ in range(2000)]
    kept = results._run.conveyor
    results.close()
    del results
    assert kept.taken() >= 2000
    until_collected(lambda: not any(isinstance(one, Watch) for one in gc.get_objects()))
    assert all(one() is None for one in seen)


@pytest.mark.skipif(penstock.COMPILED, reason="memory cannot be made to run out at a certain point")
def test_no_memory_for_items_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    from penstock._kernel import belt

    def draw(*args: Any) -> int:
        return -1 if failing else original(*args)

    failing: list[int] = []
    original = belt.ring_draw
    monkeypatch.setattr(belt, "ring_draw", draw)

    def work(value: int) -> int:
        if value == 3:
            time.sleep(0.05)
            failing.append(1)
        return value

    got = []
    with pytest.raises(MemoryError):
        got.extend(pmap(work, range(100), limit=1, ahead=4))


def test_no_more_workers_than_items_may_be_under_way() -> None:
    results = pmap(double, range(500), limit=50, ahead=2)
    assert list(results) == [2 * number for number in range(500)]
    assert results._run.workers == 2


def test_room_that_a_new_pace_makes_is_used() -> None:
    conveyor = Conveyor(True, 2, -1)
    conveyor.draw_from(range(100))
    hands = [Hand(conveyor, lambda _: None) for _ in range(3)]
    assert [hands[0].take(), hands[1].take()] == [0, 1]
    got: list[int] = []
    worker = threading.Thread(target=lambda: got.append(next(hands[2])))
    worker.start()
    until(lambda: conveyor.parked() == 1)
    conveyor.set_pace(64, 16, -1, False)
    worker.join(20)
    assert got == [2]
    conveyor.shut()


def test_what_was_fetched_has_not_been_read() -> None:
    conveyor = Conveyor(True, 1000, -1)
    conveyor.set_pace(1000, 250, -1, True)
    for number in range(9):
        conveyor.put(number)
    conveyor.end(True)
    hand = Hand(conveyor, lambda _: None)
    for number in hand:
        hand.give(-number)
    for number in range(9):
        assert not conveyor.all_read()
        assert conveyor.next_result() == -number
    assert conveyor.all_read()


def counts_of(items: list[Any]) -> set[int]:
    return {sys.getrefcount(item) for item in items}


@pytest.mark.parametrize("source", SOURCES[:3])
@pytest.mark.parametrize("at_once", [1, 50])
def test_every_reference_is_counted_whoever_takes_an_item(source: Any, at_once: int) -> None:
    """Those to items that another thread has put, that are kept, returned, or dropped with the conveyor."""
    first, last = 1000, 1300
    conveyor = Conveyor(False, last, -1)
    conveyor.draw_from(source(range(first, last)))
    theirs = [Hand(conveyor, lambda _: None)]
    mine = Hand(conveyor, lambda _: None)
    kept: list[Any] = []

    def work(hand: Hand, n: int) -> None:
        while n > 0:
            items = [hand.take()] if at_once == 1 else hand.take_many_now(1, min(at_once, n))
            kept.extend(items)
            n -= len(items)
            if at_once == 1:
                hand.give(items.pop())
            else:
                hand.give_many(items)
            del items

    puts = threading.Thread(target=work, args=(theirs.pop(), 100))  # It puts more than it takes.
    puts.start()
    puts.join(20)
    work(mine, 100)
    del mine  # With a result in it, like the other.
    read = [conveyor.next_result() for _ in range(150)]
    conveyor.shut()
    del conveyor
    gc.collect()
    fresh = list(range(first, last))
    again = fresh[:]
    assert counts_of(read) == counts_of(again)
    del read
    assert kept == fresh[:200]
    del again
    assert counts_of(kept) == counts_of(fresh)


@pytest.mark.skipif(not sysconfig.get_config_var("Py_GIL_DISABLED"), reason="with the GIL, objects have no owner")
def test_the_start_of_a_large_range_stays_its_makers() -> None:
    """A range beyond C integers gives its own start as its first item, to which others may refer."""
    start = int("1000")
    owner = ctypes.c_size_t.from_address(id(start))
    conveyor = Conveyor(True, 10, -1)
    conveyor.draw_from(range(start, 2**64))
    hand = Hand(conveyor, lambda _: None)
    seen: list[Any] = []
    worker = threading.Thread(target=lambda: seen.extend([hand.take(), owner.value]))
    before = owner.value
    worker.start()
    worker.join(20)
    assert seen == [start, before]
    conveyor.shut()


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="free-threaded, what another thread drops may wait for the thread that made it",
)
@pytest.mark.parametrize("source", SOURCES)
def test_an_error_of_an_item_is_gone_once_it_has_been_dealt_with(source: Any) -> None:
    """Without the garbage collector: nothing that its traceback shows refers to it."""

    class ThisError(Exception):
        pass

    def function(value: int) -> int:
        if value == 3:
            raise ThisError
        return value

    async def afunction(value: int) -> int:
        return function(value)

    async def body(function: Any) -> None:
        try:
            await afor_each(function, source(range(9)), limit=2)
        except ThisError as error:  # Not outside: asyncio.run() itself keeps it.
            caught.append(weakref.ref(error))

    caught: list[Any] = []
    gc.disable()
    try:
        try:
            for_each(function, source(range(9)), limit=2)
        except ThisError as error:
            caught.append(weakref.ref(error))
        asyncio.run(body(function))
        asyncio.run(body(afunction))
        until(lambda: [reference() for reference in caught] == [None] * 3)
    finally:
        gc.enable()


def test_an_executor_keeps_what_it_returned() -> None:
    kept: list[Future[Any]] = []

    class Keeping(ThreadPoolExecutor):
        def submit(self, *args: Any, **options: Any) -> Future[Any]:
            kept.append(super().submit(*args, **options))
            return kept[-1]

    with Keeping(2) as executor:
        got = list(pmap(double, range(50), on=executor))
    assert sorted(itertools.chain.from_iterable(future.result()[0] for future in kept)) == got


def test_items_of_a_class_that_cannot_be_hashed() -> None:
    class Meta(type):
        __hash__ = None  # type: ignore[assignment]

        def __eq__(cls, other: object) -> bool:
            return cls is other

    class Items(metaclass=Meta):
        def __iter__(self) -> Iterator[int]:
            return iter([1, 2])

    assert list(pmap(double, Items(), limit=2)) == [2, 4]


def test_lazy_both_ways() -> None:
    watch = Watch(lambda _: time.sleep(0.001))
    results = pmap(watch, watch.items(), limit=3)
    time.sleep(0.02)
    assert watch.taken == 0
    delivered = 0
    for _ in range(30):
        next(results)
        delivered += 1
        assert watch.taken - delivered <= 6
    time.sleep(0.05)
    assert watch.taken - delivered <= 6
    results.close()
    taken = watch.taken
    time.sleep(0.02)
    assert watch.taken == taken
    assert list(results) == []


def test_ahead_is_what_was_asked_for() -> None:
    for ahead in (1, 2, 9):
        watch = Watch()
        with pmap(watch, watch.items(), limit=2, ahead=ahead) as results:
            for delivered in range(1, 200):
                next(results)
                assert watch.taken - delivered <= ahead


def test_quick_items_are_taken_further_ahead() -> None:
    watch = Watch()
    with pmap(watch, watch.items(), limit=2) as results:
        for delivered in range(1, 20_000):
            next(results)
            assert watch.taken - delivered <= 1024


def test_nothing_more_is_taken_once_nobody_reads() -> None:
    for _ in range(30):
        watch = Watch()
        with pmap(watch, watch.items(), limit=4) as results:
            for _ in range(3000):
                next(results)
        assert watch.taken - 3000 <= 1024


def test_results_do_not_wait_for_the_source() -> None:
    """What is ready is delivered, although the source is silent; so results may be what the source waits for."""
    source: Channel[int] = Channel(4)
    source.send(0)
    got = []
    for value in pmap(double, source, limit=4):
        got.append(value)
        if len(got) == 500:
            source.close()
        else:
            source.send(value + 1)
    assert len(got) == 500


def test_the_first_failure_is_raised_bare_in_its_place() -> None:
    watch = Watch(fail_on(5))
    with pytest.raises(ValueError, match="5"):
        list(pmap(watch, watch.items(), limit=3))
    results = pmap(watch, range(10), limit=3)
    assert [next(results) for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(ValueError, match="5"):
        next(results)
    assert next(results, "ended") == "ended"
    until_collected(lambda: watch.active == 0)


def test_a_failure_cancels_what_is_under_way() -> None:
    cancelled: Channel[bool] = Channel(1)
    parked = threading.Event()

    def work(value: int) -> None:
        if value == 0:
            parked.wait(20)
            raise ValueError("zero")
        parked.set()
        try:
            penstock.sleep(20)
        except Cancelled:
            cancelled.send_nowait(True)
            raise

    with pytest.raises(ValueError, match="zero"):
        list(pmap(work, range(2), limit=2))
    assert cancelled.recv_nowait()


@pytest.mark.parametrize("ordered", [True, False])
def test_a_failure_does_not_wait_for_what_comes_before_it(ordered: bool) -> None:
    parked = threading.Event()

    def work(value: int) -> None:
        if value == 0:
            parked.set()
            penstock.sleep(30)
        parked.wait(20)
        raise ValueError("one")

    with pytest.raises(ValueError, match="one"):
        list(pmap(work, range(2), limit=2, ordered=ordered))

    async def awork(value: int) -> None:
        if value == 0:
            await asyncio.sleep(30)
        raise ValueError("one")

    async def body() -> None:
        with pytest.raises(ValueError, match="one"):
            async for _ in apmap(awork, range(2), limit=2, ordered=ordered):
                pass

    asyncio.run(body())


def test_work_that_does_not_react_is_not_waited_for_long() -> None:
    release = threading.Event()

    def work(value: int) -> None:
        if value == 0:
            raise ValueError("zero")
        release.wait(30)

    start = time.monotonic()
    with pytest.raises(ValueError, match="zero"):
        list(pmap(work, range(2), limit=2))
    assert time.monotonic() - start < 10
    release.set()


def test_a_source_that_fails_half_way() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise LookupError("no more")

    for ordered in (True, False):
        got = []
        results = pmap(double, items(), limit=3, ordered=ordered)
        with pytest.raises(LookupError, match="no more"):
            while True:
                got.append(next(results))
        assert sorted(got) == [0, 2, 4, 6, 8]


def cancelled_elsewhere() -> None:
    """Raise a `Cancelled` that is no ending of the context that it is raised in."""
    task = penstock.go(penstock.sleep, 20)
    task.cancel()
    task.result()


def test_a_cancelled_of_its_own_fails_the_source() -> None:
    """It must not look like the source's end."""

    def items() -> Iterator[int]:
        yield 1
        cancelled_elsewhere()
        yield 2

    results = pmap(double, items(), limit=2)
    assert next(results) == 2
    with pytest.raises(Cancelled):
        next(results)

    async def aitems() -> AsyncIterator[int]:
        yield 1
        raise Cancelled("elsewhere")

    async def body() -> None:
        results = apmap(double, aitems(), limit=2)
        assert await anext(results) == 2
        with pytest.raises(Cancelled):
            await anext(results)

    asyncio.run(body())


@pytest.mark.parametrize("error", [StopIteration, StopAsyncIteration])
def test_a_function_does_not_end_the_results(error: type[Exception]) -> None:
    """As in generators: the errors that end iterators must not pass for the end."""

    def stops(value: int) -> int:
        if value == 2:
            raise error(value)
        return value

    results = pmap(stops, range(5), limit=2)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(RuntimeError, match=rf"stops.* raised {error.__name__}\(2\)"):
        next(results)

    async def body() -> None:
        with pytest.raises(RuntimeError, match=f"raised {error.__name__}"):
            async for _ in apmap(stops, range(5), limit=2):
                pass

    asyncio.run(body())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_inside_passes_bare(error: type[BaseException]) -> None:
    def interrupts(value: int) -> int:
        if value == 2:
            raise error
        return value

    def items() -> Iterator[int]:
        yield 0
        raise error

    for results in (pmap(interrupts, range(50), limit=2), pmap(double, items(), limit=2)):
        with pytest.raises(error):
            list(results)
        until_collected(lambda results=results: results._run.at_work.count() == 0)


@pytest.mark.parametrize("ordered", [True, False])
@pytest.mark.parametrize("limit", [1, 2, 5, 40])
@pytest.mark.parametrize("ahead", [None, 1, 3, 50])
def test_pulls_from_the_source_are_bounded_by_what_was_delivered(ahead: int | None, limit: int, ordered: bool) -> None:
    for seconds, n in ((0.0, 1500), (0.001, 20)):
        watch = Watch((lambda _, seconds=seconds: time.sleep(seconds)) if seconds else None)
        with pmap(watch, watch.items(), limit, ordered=ordered, ahead=ahead) as results:
            for delivered in range(1, n):
                next(results)
                assert watch.taken - delivered <= (ahead or (2 * limit if seconds else 1024))
        assert watch.most <= limit


def test_a_feeder_that_is_held_up_does_not_take_slow_items_for_quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine time passes between any two steps; how quick items are must not be told from what it hides."""
    calls = 0

    def late() -> float:
        nonlocal calls
        calls += 1
        time.sleep(0.005 * (calls % 2))
        return time.monotonic()

    monkeypatch.setattr(bounded, "now", late)
    for _ in range(5):
        watch = Watch(lambda _: time.sleep(0.001))
        with pmap(watch, watch.items(), limit=1) as results:
            for delivered in range(1, 20):
                next(results)
                assert watch.taken - delivered <= 2


@pytest.mark.parametrize("is_async", [True, False])
@pytest.mark.parametrize("is_async_source", [True, False])
@pytest.mark.parametrize("ahead", [None, 1, 7])
def test_pulls_are_bounded_in_asyncio(ahead: int | None, is_async_source: bool, is_async: bool) -> None:
    async def body() -> None:
        watch = Watch(lambda _: time.sleep(0.001))

        async def source() -> AsyncIterator[int]:
            for number in watch.items():
                yield number

        async def work(value: int) -> int:
            await asyncio.sleep(0.001)
            return value

        items: Any = source() if is_async_source else watch.items()
        async with apmap(work if is_async else watch, items, 3, ahead=ahead) as results:  # type: ignore[arg-type]
            assert watch.taken == 0
            for delivered in range(1, 30):
                await anext(results)
                assert watch.taken - delivered <= (ahead or 6)

    asyncio.run(body())


def test_leaving_early_leaks_nothing() -> None:
    for how in ("break", "with", "drop", "close"):
        watch = Watch()
        results = pmap(watch, watch.items(), limit=3)
        run = results._run
        if how == "break":
            for value in results:
                if value == 10:
                    break
            del results
        elif how == "with":
            with results:
                next(results)
        elif how == "drop":
            next(results)
            del results
        else:
            results.close()
            results.close()
        until_collected(lambda run=run: run.at_work.count() == 0)
        assert watch.active == 0


def test_the_context_ends_it() -> None:
    with pytest.raises(DeadlineExceeded), fail_after(0.05):
        list(pmap(penstock.sleep, [20, 20], limit=2))
    with cancel_scope() as context:
        context.cancel()
        list(pmap(double, range(3), limit=2))
        raise AssertionError("not reached")
    key = object()
    with penstock.current().with_value(key, "inherited"):
        assert list(pmap(lambda _: penstock.current().value(key), range(2), limit=2)) == ["inherited"] * 2


@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("ordered", [True, False])
def test_results_that_are_cut_short_do_not_look_complete(ordered: bool, source: Any) -> None:
    """Begun in a context that ends, read in one that goes on (X1)."""
    with cancel_scope():
        results = pmap(double, source(range(100_000)), limit=2, ordered=ordered)
        next(results)
    with pytest.raises(Cancelled):
        list(results)
    assert list(results) == []
    results = pmap(double, source(range(100_000)), limit=2, ordered=ordered)
    for _ in range(5000):  # Many have been fetched for the reader by now.
        next(results)
    with cancel_scope() as context:
        context.cancel()
        next(results)
        raise AssertionError("not reached")
    assert list(results) == []
    results = pmap(double, source(range(100_000)), limit=2, ordered=ordered)
    for _ in range(5000):
        next(results)
    results.close()
    assert list(results) == []
    with cancel_scope():
        results = pmap(double, source(range(5)), limit=2, ordered=ordered)
        assert sorted(next(results) for _ in range(5)) == [0, 2, 4, 6, 8]
        until_collected(results._run.conveyor.all_read)  # It has been noticed that there is no sixth.
    assert list(results) == []  # There was no more.

    async def body() -> None:
        async with cancel_scope():
            aresults = apmap(adouble, range(100_000), limit=2, ordered=ordered)
            await anext(aresults)
        with pytest.raises(Cancelled):
            async for _ in aresults:
                pass
        async with cancel_scope():
            aresults = apmap(adouble, range(2), limit=2, ordered=ordered)
            assert {await anext(aresults), await anext(aresults)} == {0, 2}
            while not aresults._run.conveyor.all_read():  # noqa: ASYNC110  nobody tells
                await asyncio.sleep(0.001)
        assert [value async for value in aresults] == []

    asyncio.run(body())


def test_for_each() -> None:
    seen: list[int] = []
    for_each(seen.append, range(100), limit=4)
    assert sorted(seen) == list(range(100))
    with pytest.raises(ValueError, match="7"):
        for_each(fail_on(7), range(100), limit=4)


@pytest.mark.parametrize("function", [double, adouble])
@pytest.mark.parametrize("source", [lambda: range(500), lambda: numbers(500)])
@pytest.mark.parametrize("ordered", [True, False])
def test_apmap_mixes_colours(function: Any, source: Any, ordered: bool) -> None:
    async def body() -> None:
        got = [value async for value in apmap(function, source(), limit=4, ordered=ordered)]
        assert (got if ordered else sorted(got)) == [2 * number for number in range(500)]
        seen: list[int] = []

        async def see(value: int) -> None:
            seen.append(await adouble(value))

        await afor_each(see, source(), limit=3)
        assert len(seen) == 500

    asyncio.run(body())


def test_apmap_fails_and_cancels() -> None:
    async def body() -> None:
        events: list[str] = []

        async def work(value: int) -> None:
            if value == 0:
                await asyncio.sleep(0.01)
                raise ValueError("zero")
            try:
                await asyncio.sleep(20)
            except BaseException as error:
                events.append(type(error).__name__)
                raise

        with pytest.raises(ValueError, match="zero"):
            async for _ in apmap(work, numbers(10), limit=3):
                pass
        assert events == ["CancelledError", "CancelledError"]
        assert len(asyncio.all_tasks()) == 1
        async with apmap(adouble, numbers(1000), limit=3) as results:
            assert await anext(results) == 0
        await asyncio.sleep(0.01)  # asyncio closes the abandoned generator in a task of its own.
        assert len(asyncio.all_tasks()) == 1
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.02):
                async for _ in apmap(asyncio.sleep, [20, 20], limit=2):
                    pass
        assert len(asyncio.all_tasks()) == 1
        task = asyncio.create_task(afor_each(asyncio.sleep, [20, 20], limit=2))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(body())


def test_apmap_is_lazy() -> None:
    async def body() -> None:
        watch = Watch()

        async def items() -> AsyncIterator[int]:
            for number in watch.items():
                yield number

        async def work(value: int) -> int:
            await asyncio.sleep(0.001)
            return value

        async with apmap(work, items(), limit=2) as results:
            for delivered in range(1, 50):
                await anext(results)
                assert watch.taken - delivered <= 4

    asyncio.run(body())


def executors() -> list[Any]:
    return [
        pytest.param(lambda: ProcessPoolExecutor(2, mp_context=get_context("spawn")), id="processes"),
        pytest.param(lambda: ThreadPoolExecutor(2), id="threads"),
    ]


@pytest.mark.parametrize("make", executors())
def test_on_an_executor(make: Any) -> None:
    with make() as executor:
        assert list(pmap(double, range(5000), on=executor)) == [2 * number for number in range(5000)]

        async def body() -> None:
            assert [value async for value in apmap(double, numbers(100), on=executor)] == [2 * n for n in range(100)]

        asyncio.run(body())
        with pytest.raises(ZeroDivisionError):
            list(pmap(reciprocal, [1, 2, 0, 4], on=executor, limit=2))
        assert next(pmap(double, iter(range(10**9)), on=executor)) == 0


class AtOnce(Executor):
    """Runs what is submitted there and then."""

    def submit(self, function: Any, /, *args: Any, **options: Any) -> Future[Any]:
        future: Future[Any] = Future()
        future.set_result(function(*args, **options))
        return future


def test_an_executor_that_calls_at_once() -> None:
    def slow(value: int) -> int:
        time.sleep(0.0001)
        return value

    assert list(pmap(slow, range(3000), on=AtOnce(), limit=2)) == list(range(3000))


def test_leaving_early_cancels_what_an_executor_has_not_begun() -> None:
    begun = []

    def work(value: int) -> int:
        begun.append(value)
        time.sleep(0.001)
        return value

    with ThreadPoolExecutor(1) as executor:
        with pmap(work, itertools.count(), on=executor, limit=6) as results:
            for _ in range(20):
                next(results)
        ended = len(begun)
        time.sleep(0.05)
        assert len(begun) <= ended + 6  # What is left of the chunk that was running.


def reciprocal(value: int) -> float:
    return 1 / value


class Intricate(Exception):  # noqa: N818  named for what it is
    """Can be pickled, but not be unpickled."""

    def __init__(self, one: int, other: int) -> None:
        super().__init__(f"{one} and {other}")


def intricate(value: int) -> int:
    if value == 3:
        raise Intricate(value, value)
    return value


def test_errors_in_other_processes_say_where_and_what() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        with pytest.raises(ZeroDivisionError) as caught:
            list(pmap(reciprocal, [1, 0], on=executor))
        assert "return 1 / value" in str(caught.value.__cause__)
        with pytest.raises(RuntimeError, match="Intricate, which cannot be unpickled, was raised: 3 and 3") as caught:
            list(pmap(intricate, range(5), on=executor))
        assert "raise Intricate(value, value)" in str(caught.value.__cause__)
        assert list(pmap(double, [1], on=executor)) == [2]  # It is not broken.


def test_errors_in_threads_of_an_executor_keep_their_traceback() -> None:
    with ThreadPoolExecutor(1) as executor, pytest.raises(ZeroDivisionError) as caught:
        list(pmap(reciprocal, [0], on=executor))
    assert caught.traceback[-1].name == "reciprocal"
    assert caught.value.__cause__ is None


def die(_value: Any) -> None:
    os._exit(3)


def test_failures_of_the_executor_name_the_items() -> None:
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as executor:
        with pytest.raises(RuntimeError, match=r"ProcessPoolExecutor failed on the item <function .*lambda"):
            list(pmap(double, [lambda: 0], on=executor))  # type: ignore[arg-type]
        with pytest.raises(RuntimeError, match="ProcessPoolExecutor failed on the item 'poison': BrokenProcessPool"):
            list(pmap(die, ["poison"], on=executor))
        with pytest.raises(RuntimeError, match="failed on the item 1: BrokenProcessPool"):
            list(pmap(double, [1], on=executor))


def die_of_it(value: int) -> int:
    if value == 5:
        os._exit(3)
    time.sleep(0.002)
    return value


def test_whose_worker_died_is_among_the_items_named() -> None:
    """All calls of a broken executor fail, and often another's is heard of first."""
    # In a process of its own: what broken pools leave behind is not this one's to collect.
    done = run_program(f"""
        import sys
        sys.path[:0] = {[str(folder) for folder in Path(__file__).parents[:2]]!r}
        from concurrent.futures import ProcessPoolExecutor
        from multiprocessing import get_context
        from test_bounded import die_of_it
        from penstock import pmap
        for _ in range(4):
            with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as executor:
                try:
                    list(pmap(die_of_it, range(40), on=executor, ahead=20))
                except RuntimeError as error:
                    print(error)
    """)
    errors = done.stdout.splitlines()
    assert len(errors) == 4, done.stderr
    for error in errors:
        assert re.search(r"ProcessPoolExecutor failed on .*\b5\b.*: BrokenProcessPool", error)


@pytest.mark.skipif(sys.version_info < (3, 14), reason="InterpreterPoolExecutor came with Python 3.14")
def test_on_interpreters() -> None:
    from concurrent.futures import InterpreterPoolExecutor

    with InterpreterPoolExecutor(2) as executor:
        assert list(pmap(abs, range(-200, 0), on=executor)) == list(range(200, 0, -1))


@pytest.mark.parametrize("which", [1, 2, 3])
@pytest.mark.parametrize("source", [iter, lambda items: items])
def test_a_thread_that_cannot_be_started(which: int, source: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The feeder's, or a worker's: an error for the reader, and nobody waits for those that never began."""
    started = 0

    def start_task(*args: Any) -> Any:
        nonlocal started
        started += 1
        if started == which:
            raise RuntimeError("can't start new thread")
        return start(*args)

    start = bounded.start_task
    monkeypatch.setattr(bounded, "start_task", start_task)
    results = pmap(double, source(range(10**9)), limit=4)
    before = time.monotonic()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        list(results)
    assert results._run.at_work.count() == 0
    assert time.monotonic() - before < 1.5
    assert list(results) == []


class Unspeakable(Exception):  # noqa: N818  named for what it is
    def __str__(self) -> str:
        raise LookupError("no words")

    __repr__ = __str__


def test_errors_that_cannot_be_shown() -> None:
    """What is said of an error is not worth losing it."""

    class Function:
        def __call__(self, value: int) -> int:
            if value == 3:
                raise StopIteration(Unspeakable())
            return value

        __repr__ = Unspeakable.__repr__

    results = pmap(Function(), range(10), limit=2)
    with pytest.raises(RuntimeError, match=r"Function object .* raised <StopIteration object"):
        list(results)

    class Broken(ThreadPoolExecutor):
        def submit(self, *_args: Any, **_options: Any) -> Future[Any]:
            future: Future[Any] = Future()
            threading.Timer(0.01, future.set_exception, [Unspeakable()]).start()
            return future

    with Broken(1) as executor, pytest.raises(RuntimeError, match="Broken failed on the item 0: Unspeakable: <"):
        list(pmap(double, range(10), on=executor, limit=1))


def is_worker(task: asyncio.Task[Any]) -> bool:
    coroutine: Any = task.get_coro()
    return coroutine.cr_frame is not None and coroutine.cr_frame.f_locals.get("function") is bounded._work_async


def test_a_worker_that_somebody_cancels_is_missed() -> None:
    async def body() -> None:
        async def items() -> AsyncIterator[float]:
            yield 0.0
            await asyncio.sleep(0.05)
            yield 0.0

        results = apmap(asyncio.sleep, items(), limit=1)
        await anext(results)
        await asyncio.sleep(0.01)  # The worker waits for an item.
        (worker,) = filter(is_worker, asyncio.all_tasks())
        worker.cancel()
        async with asyncio.timeout(20):
            with pytest.raises(asyncio.CancelledError):
                await anext(results)

    asyncio.run(body())


def test_the_coroutine_of_a_result_can_be_closed() -> None:
    async def body() -> None:
        results = apmap(asyncio.sleep, [20], limit=1)
        coroutine = results.__anext__()
        coroutine.send(None)
        coroutine.close()  # type: ignore[attr-defined]
        await results.aclose()

    asyncio.run(body())


def test_results_outlive_the_task_that_began_them() -> None:
    def head() -> Any:
        results = pmap(slowly, range(6), limit=2)
        return next(results), results

    first, results = penstock.go(head).result()
    assert [first, *results] == [0, 2, 4, 6, 8, 10]


def slowly(value: int) -> int:
    penstock.sleep(0.02)
    return 2 * value


def test_threads_of_an_executor_stay_in_no_context_of_a_run() -> None:
    with ThreadPoolExecutor(2) as executor:
        for _ in range(3):
            with cancel_scope():
                assert list(pmap(slowly, range(6), on=executor, limit=3)) == [0, 2, 4, 6, 8, 10]
        assert executor.submit(slowly, 1).result() == 2


def test_two_threads_may_begin_to_read_at_once() -> None:
    for _ in range(50):
        results = pmap(double, range(200), limit=2)
        got: list[int] = []
        barrier = threading.Barrier(2)

        def read(results: Any = results, got: list[int] = got, barrier: threading.Barrier = barrier) -> None:
            barrier.wait(20)
            for value in results:
                got.append(value)  # noqa: PERF402  what there is if it fails

        with penstock.Group() as group:
            group.go(read)
            group.go(read)
        assert sorted(got) == [2 * number for number in range(200)]


def test_closing_in_another_thread_does_not_look_like_the_end() -> None:
    results = pmap(penstock.sleep, [20, 20], limit=2)
    reader = penstock.go(list, results)
    until_collected(lambda: results._run.workers == 2)
    results.close()
    with pytest.raises(Cancelled):
        reader.result(20)


def test_bounds_beyond_all_items() -> None:
    assert list(pmap(double, range(3), limit=10**30, ahead=10**30)) == [0, 2, 4]
    assert list(pmap(double, range(3), limit=10**30)) == [0, 2, 4]


def test_misuse() -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="limit must be 1 or more"):
            pmap(double, [], limit=wrong)
        with pytest.raises(ValueError, match="ahead must be 1 or more"):
            apmap(double, [], ahead=wrong)
    with pytest.raises(TypeError, match="limit must be an integer"):
        pmap(double, [], limit=1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be a function"):
        pmap(3, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="must be an iterable"):
        pmap(double, 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="use 'async for"):
        pmap(adouble, [])
    with pytest.raises(TypeError, match="use 'async for"):
        pmap(double, numbers(3))  # type: ignore[arg-type]
    for no_executor in ("threads", ThreadPoolExecutor):
        with pytest.raises(TypeError, match="on= takes an executor"):
            pmap(double, [], on=no_executor)  # type: ignore[arg-type]
    with ThreadPoolExecutor(1) as executor, pytest.raises(TypeError, match="no executor runs"):
        apmap(adouble, [], on=executor)  # type: ignore[call-overload]
    with pytest.raises(TypeError, match="returned a coroutine"):
        list(pmap(lambda value: adouble(value), [1]))  # noqa: PLW0108  that is the misuse
    with ThreadPoolExecutor(1) as executor, pytest.raises(TypeError, match="returned a coroutine"):
        list(pmap(lambda value: adouble(value), [1], on=executor))  # noqa: PLW0108


def test_in_an_event_loop_it_says_what_to_use() -> None:
    async def body() -> None:
        watch = Watch()
        for results in (pmap(watch, watch.items(), limit=1), pmap(watch, watch.items(), limit=2, ordered=False)):
            with pytest.raises(RuntimeError, match=r"would block the event loop; use 'async for … in apmap\(\)'"):
                list(results)
        await asyncio.sleep(0.02)
        assert (watch.taken, watch.started) == (0, 0)  # It has not happened (C4).

    asyncio.run(body())
