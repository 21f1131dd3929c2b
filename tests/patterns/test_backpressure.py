"""Backpressure: `PressureGauge`, permits, adaptive limits (contract, section 7)."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any

import pytest
from colours import COLOURS
from waiting import until, until_collected

from penstock import (
    AIMD,
    Cancelled,
    Channel,
    DeadlineExceeded,
    Gradient2,
    OutOfCapacity,
    PressureGauge,
    Vegas,
    acall,
    cancel_scope,
    fail_after,
    move_on_after,
)
from penstock.patterns.done import abandoned, limit_abandoned
from penstock.patterns.limits import Window

colours = pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.name)


@colours
def test_what_does_not_fit_is_rejected_at_once(colour: Any) -> None:
    async def body(ops: Any) -> None:
        gauge = PressureGauge(2)
        first = await ops.call(gauge, "acquire")
        second = gauge.try_acquire()
        assert second is not None
        assert gauge.try_acquire() is None
        with pytest.raises(OutOfCapacity, match="2 of 2 are in flight"):
            await ops.call(gauge, "acquire")
        first.release()
        with await ops.call(gauge, "acquire"):
            assert gauge.in_flight == 2
        second.drop()
        statistics = gauge.statistics()
        assert (statistics.in_flight, statistics.admitted, statistics.rejected, statistics.dropped) == (0, 3, 2, 1)
        assert statistics.queue_wait == 0  # Nobody has waited.

    colour.run(body)


@colours
def test_a_few_wait_in_order(colour: Any) -> None:
    async def body(ops: Any) -> None:
        gauge = PressureGauge(1, queue=4)
        order: list[str] = []
        held = await ops.call(gauge, "acquire")

        async def wait(name: str, priority: int) -> None:
            permit = await ops.call(gauge, "acquire", priority)
            order.append(name)
            permit.release()

        waiting = []
        for name, priority in (("a", 0), ("b", 0), ("urgent", 5)):
            waiting.append(ops.spawn(wait, name, priority))
            for _ in range(1000):
                if gauge.statistics().queued == len(waiting):
                    break
                await ops.pause()
        assert gauge.try_acquire() is None
        held.release()
        for one in waiting:
            await one.outcome()
        assert order == ["urgent", "a", "b"]
        assert gauge.statistics().queue_wait > 0

    colour.run(body)


@colours
def test_the_newest_first_while_the_queue_is_long(colour: Any) -> None:
    async def body(ops: Any) -> None:
        gauge = PressureGauge(1, queue=4)
        order: list[int] = []
        held = await ops.call(gauge, "acquire")

        async def wait(number: int) -> None:
            permit = await ops.call(gauge, "acquire")
            order.append(number)
            permit.release()

        waiting = []
        for number in range(4):
            waiting.append(ops.spawn(wait, number))
            for _ in range(1000):
                if gauge.statistics().queued == len(waiting):
                    break
                await ops.pause()
        with pytest.raises(OutOfCapacity):
            await ops.call(gauge, "acquire")
        held.release()
        for one in waiting:
            await one.outcome()
        assert order == [3, 0, 1, 2]

    colour.run(body)


@colours
def test_a_higher_priority_turns_out_a_lower_one(colour: Any) -> None:
    async def body(ops: Any) -> None:
        gauge = PressureGauge(1, queue=1)
        held = await ops.call(gauge, "acquire")

        async def wait(priority: int) -> str:
            try:
                permit = await ops.call(gauge, "acquire", priority)
            except OutOfCapacity:
                return "rejected"
            permit.release()
            return "admitted"

        low = ops.spawn(wait, 0)
        for _ in range(1000):
            if gauge.statistics().queued:
                break
            await ops.pause()
        high = ops.spawn(wait, 1)
        assert await low.outcome() == "rejected"
        held.release()
        assert await high.outcome() == "admitted"
        assert gauge.in_flight == 0

    colour.run(body)


@colours
def test_max_wait_and_the_context(colour: Any) -> None:
    async def body(ops: Any) -> None:
        gauge = PressureGauge(1, queue=1, max_wait=0.01)
        permit = await ops.call(gauge, "acquire")
        with pytest.raises(OutOfCapacity, match=r"no place for 0\.01 seconds"):
            await ops.call(gauge, "acquire")
        assert gauge.statistics().rejected_waited == 1
        patient = PressureGauge(1, queue=1)
        held = await ops.call(patient, "acquire")
        with pytest.raises(DeadlineExceeded):
            async with ops.inside(fail_after(0.01)):
                await ops.call(patient, "acquire")
        assert patient.statistics().queued == 0
        with cancel_scope() as context:
            context.cancel()
            with pytest.raises(Cancelled):
                await ops.call(patient, "acquire")
            assert patient.try_acquire() is None
            with pytest.raises(Cancelled):
                PressureGauge(1).do(int)
        held.ignore()
        permit.ignore()
        assert patient.in_flight == gauge.in_flight == 0

    colour.run(body)


def test_a_loop_is_told_at_once_that_nothing_fits() -> None:
    """Refusing parks nobody; only who would wait is told to await (C3)."""

    async def body() -> None:
        gauge = PressureGauge(1)
        with gauge.acquire():
            with pytest.raises(OutOfCapacity):
                gauge.acquire()
            with pytest.raises(OutOfCapacity):
                gauge.do(int)
        gauge = PressureGauge(1, queue=1)
        held = gauge.acquire()
        with pytest.raises(RuntimeError, match="would block the event loop"):
            gauge.acquire()
        waiting = asyncio.ensure_future(gauge.aacquire())
        await asyncio.sleep(0)
        assert gauge.statistics().queued == 1
        with pytest.raises(OutOfCapacity):
            gauge.acquire()
        with pytest.raises(RuntimeError, match="would block the event loop"):
            gauge.acquire(priority=1)  # It would turn out the other, and wait.
        held.release()
        (await waiting).release()
        assert gauge.in_flight == 0

    asyncio.run(body())


def test_do() -> None:
    gauge = PressureGauge(1)
    assert gauge.do(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        gauge.do(divmod, 7, 0)
    with pytest.raises(OutOfCapacity):
        gauge.do(lambda: gauge.do(int))
    assert gauge.in_flight == 0

    async def work(value: int) -> int:
        await asyncio.sleep(0)
        return value

    async def body() -> None:
        assert await gauge.ado(work, 3) == 3
        with pytest.raises(TypeError, match=r"use 'await gauge\.ado"):
            gauge.do(work, 3)

    asyncio.run(body())
    assert gauge.in_flight == 0


def test_ado_runs_a_function_that_is_not_async_in_a_thread() -> None:
    """As `acall` does; the loop goes on meanwhile."""
    gauge = PressureGauge(1)
    leave = threading.Event()

    def work(value: int) -> tuple[int, int, bool]:
        assert leave.wait(20)
        return value, gauge.in_flight, threading.current_thread() is threading.main_thread()

    async def body() -> None:
        asyncio.get_running_loop().call_later(0.01, leave.set)
        assert await gauge.ado(work, 3) == (3, 1, False)
        assert gauge.in_flight == 0
        with pytest.raises(ZeroDivisionError):
            await gauge.ado(divmod, 7, 0)

    asyncio.run(body())
    assert gauge.in_flight == 0


def test_what_ado_leaves_behind_in_a_thread_holds_its_place() -> None:
    gauge = PressureGauge(1)
    begun, leave = threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        assert leave.wait(20)

    async def body() -> None:
        task = asyncio.create_task(gauge.ado(work))
        assert await asyncio.to_thread(begun.wait, 20)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OutOfCapacity):
            await gauge.ado(work)
        leave.set()

    asyncio.run(body())
    until(lambda: gauge.in_flight == 0)


def test_ado_keeps_no_place_for_what_never_began() -> None:
    gauge = PressureGauge(1)
    begun, leave = threading.Event(), threading.Event()

    def linger() -> None:
        begun.set()
        assert leave.wait(20)

    async def body() -> None:
        limit_abandoned(1)
        try:
            left = asyncio.create_task(acall(linger))
            assert await asyncio.to_thread(begun.wait, 20)
            left.cancel()
            with pytest.raises(asyncio.CancelledError):
                await left
            with pytest.raises(OutOfCapacity, match="abandoned calls"):
                await gauge.ado(int)
        finally:
            limit_abandoned(None)
            leave.set()

    asyncio.run(body())
    assert gauge.in_flight == 0
    until(lambda: abandoned() == 0)


def test_ado_takes_nothing_to_await_for_a_result() -> None:
    gauge = PressureGauge(1)

    async def work() -> None: ...

    class Reply:
        def __await__(self) -> Any: ...

    async def body() -> None:
        for function in (lambda: work(), Reply):  # noqa: PLW0108  that is the misuse
            with pytest.raises(TypeError, match="returned something to await; pass an async function"):
                await gauge.ado(function)

    asyncio.run(body())
    assert gauge.in_flight == 0


def test_a_permit_is_released_once() -> None:
    gauge = PressureGauge(1)
    permit = gauge.try_acquire()
    assert permit is not None
    permit.release()
    for again in (permit.release, permit.drop, permit.ignore):
        with pytest.raises(RuntimeError, match="has been released"):
            again()
    assert gauge.in_flight == 0
    with gauge.acquire() as permit:
        permit.drop()
    assert gauge.statistics().dropped == 1
    with pytest.raises(KeyError), gauge.acquire() as permit:
        raise KeyError
    assert permit.released
    assert gauge.in_flight == 0


def test_a_released_permit_is_entered_by_nobody() -> None:
    gauge = PressureGauge(1)
    permit = gauge.acquire()
    permit.release()
    with pytest.raises(RuntimeError, match="has been released"), permit:
        pass

    async def enter() -> None:
        async with permit:
            pass

    with pytest.raises(RuntimeError, match="has been released"):
        asyncio.run(enter())
    assert gauge.in_flight == 0


def test_a_permit_that_is_dropped_is_ignored() -> None:
    """The slide loses the token of what ends unexpectedly."""
    gauge = PressureGauge(1, queue=1)
    permit: Any = gauge.acquire()
    admitted: list[Any] = []
    waiter = threading.Thread(target=lambda: admitted.append(gauge.acquire()))
    waiter.start()
    until(lambda: gauge.statistics().queued == 1)
    del permit
    until_collected(lambda: not waiter.is_alive())
    assert len(admitted) == gauge.in_flight == 1
    admitted.clear()
    until_collected(lambda: gauge.in_flight == 0)
    assert gauge.statistics().dropped == 0
    with gauge.acquire():
        assert gauge.in_flight == 1
    assert gauge.in_flight == 0


def test_many_threads_release_one_permit() -> None:
    gauge = PressureGauge(5)
    for _ in range(50):
        permit = gauge.try_acquire()
        assert permit is not None
        outcomes: Channel[bool] = Channel(4)
        barrier = threading.Barrier(4)

        def release(permit: Any = permit, barrier: Any = barrier, outcomes: Any = outcomes) -> None:
            barrier.wait(10)
            try:
                permit.release()
            except RuntimeError:
                outcomes.send(False)
            else:
                outcomes.send(True)

        threads = [threading.Thread(target=release) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(10)
        assert sum(outcomes.recv() for _ in range(4)) == 1
        assert gauge.in_flight == 0


def test_storm() -> None:
    """Never more in flight than the limit, and in the end nobody."""
    gauge = PressureGauge(3, queue=4, max_wait=0.002)
    active: list[int] = []
    most = 0

    def work(seed: int) -> None:
        nonlocal most
        for turn in range(300):
            try:
                with move_on_after(0.001 * ((seed + turn) % 4)), gauge.acquire(turn % 3) as permit:
                    active.append(1)
                    most = max(most, len(active))
                    active.pop()
                    if turn % 7 == 0:
                        permit.drop()
            except OutOfCapacity:
                pass

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    statistics = gauge.statistics()
    assert most <= 3
    assert (statistics.in_flight, statistics.queued) == (0, 0)
    assert statistics.admitted + statistics.rejected <= 2400


def test_storm_in_both_colours() -> None:
    """Threads that time out and asyncio tasks that are cancelled, at any moment: no place is lost (C2, C4)."""
    gauge = PressureGauge(2, queue=6, max_wait=0.01)
    outcomes: Channel[bool] = Channel(100_000)

    def threads_work(seed: int) -> None:
        for turn in range(200):
            try:
                with move_on_after(0.0005 * ((seed + turn) % 3)), gauge.acquire(turn % 2):
                    outcomes.send_nowait(gauge.in_flight <= 2)
            except OutOfCapacity:
                pass

    async def work(priority: int) -> None:
        try:
            async with await gauge.aacquire(priority):
                outcomes.send_nowait(gauge.in_flight <= 2)
                await asyncio.sleep(0)
        except OutOfCapacity:
            pass

    async def tasks_work(seed: int) -> None:
        for turn in range(100):
            tasks = [asyncio.create_task(work(number % 2)) for number in range(6)]
            for _ in range((seed + turn) % 4):
                await asyncio.sleep(0)
            for task in tasks[turn % 3 :: 3]:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    threads = [threading.Thread(target=threads_work, args=(seed,)) for seed in range(3)]
    threads += [threading.Thread(target=lambda seed=seed: asyncio.run(tasks_work(seed))) for seed in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(40)
        assert not thread.is_alive()
    statistics = gauge.statistics()
    assert (statistics.in_flight, statistics.queued) == (0, 0)
    assert statistics.admitted >= len(outcomes) > 0
    assert all(outcomes.recv_nowait() for _ in range(len(outcomes)))


def served(algorithm: Any, capacity: int, windows: int, base: float = 0.01, demand: int = 10_000) -> list[int]:
    """A server that serves `capacity` at once in `base` seconds each; what is more than that queues in it."""
    limit = algorithm.initial
    limits = []
    for _ in range(windows):
        in_flight = min(limit, demand)
        seconds = base * max(1.0, in_flight / capacity)
        limit = algorithm.update(Window(seconds, seconds, in_flight, False), limit)
        limits.append(limit)
    return limits


@pytest.mark.parametrize("make", [Vegas, Gradient2])
@pytest.mark.parametrize("capacity", [10, 60, 200])
def test_adaptive_limits_find_the_capacity(make: Any, capacity: int) -> None:
    limits = served(make(), capacity, 2000)
    settled = sorted(limits[500:])
    assert capacity * 0.8 <= settled[len(settled) // 2] <= capacity * 2 + 10


@pytest.mark.parametrize("make", [AIMD, Vegas, Gradient2])
def test_the_limit_does_not_grow_without_demand(make: Any) -> None:
    """Known of Gradient2: endless growth while the gradient is steady."""
    assert max(served(make(), 1000, 3000, demand=15)) <= 40


@pytest.mark.parametrize("make", [Vegas, Gradient2])
def test_lasting_load_is_not_taken_for_its_absence(make: Any) -> None:
    """Known of Vegas: the round trip without load drifts upwards, and the limit with it."""
    limits = served(make(), 50, 20_000)
    assert max(limits[1000:]) <= 130


@pytest.mark.parametrize("make", [Vegas, Gradient2])
def test_a_server_that_becomes_slower_for_good(make: Any) -> None:
    algorithm = make()
    served(algorithm, 50, 1000)
    algorithm.initial = 50
    limits = served(algorithm, 50, 3000, base=0.03)
    assert limits[-1] >= 20


def test_aimd() -> None:
    algorithm = AIMD(initial=10, most=12)
    assert algorithm.update(Window(0.1, 0.1, 10, dropped=False), 10) == 11
    assert algorithm.update(Window(0.1, 0.1, 3, dropped=False), 10) == 10
    assert algorithm.update(Window(0.1, 0.1, 12, dropped=False), 12) == 12
    assert algorithm.update(Window(0.1, 0.1, 10, dropped=True), 10) == 9
    assert algorithm.update(Window(9.0, 9.0, 10, dropped=False), 10) == 9
    assert algorithm.update(Window(9.0, 9.0, 1, dropped=True), 1) == 1


def test_a_gauge_learns() -> None:
    gauge = PressureGauge(AIMD(initial=4, most=6))
    assert gauge.limit == 4
    permits = [gauge.acquire() for _ in range(4)]
    permits[0].drop()
    assert gauge.limit == 3
    for permit in permits[1:]:
        permit.release()
    deadline = time.monotonic() + 10
    while gauge.limit < 5:
        assert time.monotonic() < deadline
        permits = [permit for _ in range(gauge.limit) if (permit := gauge.try_acquire()) is not None]
        for permit in permits:
            permit.release()


@pytest.mark.parametrize("make", [AIMD, Vegas, Gradient2])
def test_one_burst_of_drops_shrinks_the_limit_once(make: Any) -> None:
    """As TCP reacts once to all losses of one window (RFC 5681, RFC 6582)."""
    gauge = PressureGauge(make(initial=100))
    for permit in [gauge.acquire() for _ in range(100)]:
        permit.drop()
    assert gauge.limit == 90
    assert gauge.statistics().dropped == 100
    gauge.acquire().drop()
    assert gauge.limit == 81


@pytest.mark.parametrize("make", [AIMD, Vegas, Gradient2])
def test_overload_that_lasts_shrinks_the_limit_to_what_there_is(make: Any) -> None:
    """With each round trip, and no further: never far below the 50 that the server can take."""
    gauge = PressureGauge(make(initial=200))
    turns = 0
    while gauge.limit > 50:
        turns += 1
        permits = [gauge.acquire() for _ in range(gauge.limit)]
        for permit in permits[50:]:
            permit.drop()
        for permit in permits[:50]:
            permit.release()
    assert turns <= 20
    assert gauge.limit >= 40


@pytest.mark.parametrize("make", [Vegas, Gradient2])
@pytest.mark.parametrize("every", [13, 200])
def test_drops_do_not_make_lasting_load_look_like_its_absence(make: Any, every: int) -> None:
    """A window that a drop ends before any success says nothing of the round trip."""
    algorithm = make()
    limit = algorithm.initial
    limits = []
    for turn in range(20_000):
        seconds = 0.01 * max(1.0, limit / 50)
        dropped = Window(0.0, float("inf"), limit, True)
        limit = algorithm.update(Window(seconds, seconds, limit, False) if turn % every else dropped, limit)
        limits.append(limit)
    assert max(limits[1000:]) <= 100


@pytest.mark.parametrize("make", [Vegas, Gradient2])
def test_a_limit_shrinks_unused_and_grows_only_while_all_of_it_is_in_use(make: Any) -> None:
    algorithm = make(initial=100)
    limit = algorithm.update(Window(0.01, 0.01, 99, False), 100)
    assert limit == 100
    assert algorithm.update(Window(0.01, 0.01, 100, False), limit) > limit
    for _ in range(200):
        limit = algorithm.update(Window(0.1, 0.1, 30, False), limit)
    assert limit < 50


def test_an_adaptive_limit_that_fails_costs_no_place() -> None:
    class Broken:
        initial = 2

        def update(self, _window: Window, _limit: int) -> int:
            raise LookupError("broken")

    gauge = PressureGauge(Broken())
    for _ in range(5):
        permit = gauge.try_acquire()
        assert permit is not None
        with pytest.raises(LookupError, match="broken"):
            permit.drop()
    assert gauge.in_flight == 0
    assert gauge.acquire().release() is None


@pytest.mark.parametrize("limit", [1, AIMD()])
def test_do_takes_no_coroutine_for_a_result(limit: Any) -> None:
    async def work() -> None: ...

    gauge = PressureGauge(limit)
    with pytest.raises(TypeError, match=r"use 'await gauge\.ado"):
        gauge.do(lambda: work())  # noqa: PLW0108  that is the misuse
    assert gauge.in_flight == 0


def test_misuse() -> None:
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="limit must be 1 or more"):
            PressureGauge(wrong)
    with pytest.raises(TypeError, match="an integer or an adaptive limit"):
        PressureGauge("many")  # type: ignore[arg-type]
    for not_made in (True, Vegas, None):
        with pytest.raises(TypeError, match="must be an integer"):
            PressureGauge(not_made)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue must be 0 or more"):
        PressureGauge(1, queue=-1)
    with pytest.raises(TypeError, match="queue must be an integer"):
        PressureGauge(1, queue=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="max_wait must be more than 0"):
        PressureGauge(1, max_wait=0)
    for wrong_wait in ("x", True):
        with pytest.raises(TypeError, match="max_wait must be a number of seconds or None"):
            PressureGauge(1, max_wait=wrong_wait)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="least <= initial <= most"):
        AIMD(initial=0)
    for adaptive in (AIMD, Vegas, Gradient2):
        for bounds in ({"initial": 1.5}, {"least": "1"}, {"most": True}):
            with pytest.raises(TypeError, match=f"{next(iter(bounds))} must be an integer"):
                adaptive(**bounds)  # type: ignore[operator]
    for timeout in (0, -1, float("nan")):
        with pytest.raises(ValueError, match="timeout must be more than 0"):
            AIMD(timeout=timeout)
    for option in ("backoff", "timeout"):
        with pytest.raises(TypeError, match=f"{option} must be a number"):
            AIMD(**{option: "x"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="queue must be 0 or more"):
        Gradient2(queue=-5)
    with pytest.raises(TypeError, match="queue must be an integer"):
        Gradient2(queue=0.5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="tolerance must be"):
        Gradient2(tolerance=float("nan"))
    with pytest.raises(ValueError, match="backoff must lie"):
        AIMD(backoff=1)
    with pytest.raises(ValueError, match="smoothing must lie"):
        Vegas(smoothing=0)
    with pytest.raises(ValueError, match="tolerance must be"):
        Gradient2(tolerance=0.5)
    assert repr(PressureGauge(3)).startswith("<PressureGauge 0 of 3 in flight at")
    assert PressureGauge(10**30, queue=10**30).limit >= 1 << 40


@pytest.mark.parametrize("make", [AIMD, Vegas, Gradient2])
def test_a_limit_learns_from_one_gauge(make: Any) -> None:
    limit = make()
    with pytest.raises(ValueError, match="queue"):
        PressureGauge(limit, queue=-1)
    PressureGauge(limit)  # The failure has not used it up.
    with pytest.raises(ValueError, match=f"make a {make.__name__} for each gauge"):
        PressureGauge(limit)


def test_a_limit_of_ones_own_has_to_admit_something() -> None:
    class Mine:
        def __init__(self, initial: Any) -> None:
            self.initial = initial

        def update(self, _window: Window, limit: int) -> int:
            return limit

    assert PressureGauge(Mine(2)).limit == 2
    with pytest.raises(ValueError, match="initial value of a gauge's limit must be 1 or more"):
        PressureGauge(Mine(0))
    with pytest.raises(TypeError, match="initial value of a gauge's limit must be an integer"):
        PressureGauge(Mine(1.5))


@colours
@pytest.mark.parametrize("held", [0, 1])
def test_a_priority_is_an_integer(colour: Any, held: int) -> None:
    """Whether there is room or not."""

    async def body(ops: Any) -> None:
        gauge = PressureGauge(1, queue=1, max_wait=5)
        permits = [gauge.acquire() for _ in range(held)]
        for wrong in ("x", None, 1.0, True):
            with pytest.raises(TypeError, match="priority must be an integer"):
                await ops.call(gauge, "acquire", wrong)
        for wrong in (10**30, -(10**30)):
            with pytest.raises(ValueError, match="priority must lie between"):
                await ops.call(gauge, "acquire", wrong)
        assert gauge.in_flight == len(permits)
        assert gauge.statistics().queued == 0

    colour.run(body)
