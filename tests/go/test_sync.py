"""What Go's tests of `sync`, `golang.org/x/sync/semaphore` and `errgroup` probe, in our words and in both colours."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import random
import threading
import time
import weakref
from typing import Any

import pytest
from colours import COLOURS, LIMIT

from penstock import (
    Cancelled,
    Channel,
    Condition,
    Group,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    WaitGroup,
    cancel_scope,
    current,
    move_on_after,
    once_value,
)
from penstock.sync import aonce_value

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)


class FailureError(Exception):
    """What functions fail with."""


# sync/waitgroup_test.go


@both
def test_wait_group(ops: Any) -> None:
    """Those who wait go on when all have reported, and not before; the group can be used again (TestWaitGroup)."""

    async def body(ops: Any) -> None:
        first, second = WaitGroup(), WaitGroup()
        for _ in range(8):  # used again and again
            count = 16
            first.add(count)
            second.add(count)
            exited: Channel[bool] = Channel(count)

            async def member(ops: Any, exited: Channel[bool] = exited) -> None:
                first.done()
                await ops.call(second, "wait")
                exited.send_nowait(True)

            members = [ops.spawn(member, ops) for _ in range(count)]
            await ops.call(first, "wait")
            for _ in range(count):
                assert len(exited) == 0, "released too soon"
                second.done()
            for _ in range(count):
                await ops.recv(exited)
            for each in members:
                await each.outcome()

    ops.run(body)


def test_wait_group_misuse() -> None:
    """A count below zero is refused, and the count stays (TestWaitGroupMisuse)."""
    group = WaitGroup()
    group.add(1)
    group.done()
    with pytest.raises(ValueError, match="negative"):
        group.done()
    assert group.count == 0
    group.wait(0)
    with pytest.raises(TypeError):
        group.add("1")  # type: ignore[arg-type]


def test_wait_group_race() -> None:
    """Adding, reporting and waiting at once: `wait` returns only when both have reported (TestWaitGroupRace)."""
    for _ in range(300):
        group = WaitGroup()
        n: list[int] = []

        def work(group: WaitGroup = group, n: list[int] = n) -> None:
            n.append(1)
            group.done()

        group.add(1)
        first = threading.Thread(target=work)
        first.start()
        group.add(1)
        second = threading.Thread(target=work)
        second.start()
        group.wait(LIMIT)
        assert len(n) == 2
        first.join(LIMIT)
        second.join(LIMIT)


def test_wait_group_go() -> None:
    """`go` counts (TestWaitGroupGo)."""
    group = WaitGroup()
    ran: list[int] = []
    group.go(ran.append, 1)
    group.wait(LIMIT)
    assert ran == [1]


# sync/mutex_test.go


@both
def test_mutex_hammer(ops: Any) -> None:
    """Ten tasks that lock, by waiting and by trying: never two inside (TestMutex)."""

    async def body(ops: Any) -> None:
        mutex = Mutex()
        inside = 0
        entered = 0

        async def hammer(ops: Any, rounds: int) -> None:
            nonlocal inside, entered
            for turn in range(rounds):
                if turn % 3 == 0:
                    if not mutex.try_acquire():
                        continue
                else:
                    await ops.call(mutex, "acquire")
                inside += 1
                assert inside == 1
                entered += 1
                if turn % 16 == 0 and ops.name != "threads":
                    await asyncio.sleep(0)
                inside -= 1
                mutex.release()

        hammers = [ops.spawn(hammer, ops, 500) for _ in range(10)]
        for each in hammers:
            await each.outcome()
        assert entered > 10
        assert not mutex.locked

    ops.run(body)


def test_mutex_try_and_misuse() -> None:
    """Releasing what is free is refused (TestMutex, TestMutexMisuse)."""
    mutex = Mutex()
    assert mutex.try_acquire()
    assert not mutex.try_acquire()
    mutex.release()
    assert mutex.try_acquire()
    mutex.release()
    with pytest.raises(RuntimeError, match="nobody holds"):
        mutex.release()
    rw = RWMutex()
    for release in (rw.release_read, rw.release_write, rw.read().release, rw.write().release):
        with pytest.raises(RuntimeError, match="nobody holds"):
            release()
    rw.acquire_read()
    with pytest.raises(RuntimeError):
        rw.release_write()
    rw.release_read()
    rw.acquire_write()
    with pytest.raises(RuntimeError):
        rw.release_read()
    rw.release_write()


def test_mutex_any_task_may_release() -> None:
    """A lock has no owner: one task takes it, another gives it back (§6)."""
    mutex = Mutex()
    mutex.acquire()
    with Group() as group:
        waiting = group.go(mutex.acquire)
        group.go(mutex.release)
    waiting.result()
    assert mutex.locked
    asyncio.run(asyncio.to_thread(mutex.release))
    assert not mutex.locked


def test_mutex_fairness() -> None:
    """Somebody who holds it nearly all the time does not starve one who asks now and then (TestMutexFairness; C7)."""
    mutex = Mutex()
    stop = threading.Event()

    def greedy() -> None:
        while not stop.is_set():
            with mutex:
                time.sleep(0.0001)

    thread = threading.Thread(target=greedy)
    thread.start()
    try:
        for _ in range(10):
            time.sleep(0.0001)
            mutex.acquire(timeout=LIMIT)
            mutex.release()
    finally:
        stop.set()
        thread.join(LIMIT)


# sync/rwmutex_test.go


@both
@pytest.mark.parametrize("readers", [1, 3, 10])
def test_parallel_readers(ops: Any, readers: int) -> None:
    """All readers are inside at once (TestParallelReaders)."""

    async def body(ops: Any) -> None:
        rw = RWMutex()
        locked: Channel[bool] = Channel()
        unlock: Channel[bool] = Channel()

        async def reader(ops: Any) -> None:
            await ops.call(rw, "acquire_read")
            await ops.send(locked, True)
            await ops.recv(unlock)
            rw.release_read()

        tasks = [ops.spawn(reader, ops) for _ in range(readers)]
        for _ in range(readers):
            await ops.recv(locked)
        assert not rw.try_acquire_write()
        for _ in range(readers):
            await ops.send(unlock, True)
        for each in tasks:
            await each.outcome()
        assert rw.try_acquire_write()
        assert not rw.try_acquire_read()
        rw.release_write()

    ops.run(body)


@both
def test_rwmutex_hammer(ops: Any) -> None:
    """Many readers and writers: a writer is alone, readers see nobody writing (TestRWMutex)."""

    async def body(ops: Any) -> None:
        rw = RWMutex()
        state = {"readers": 0, "writers": 0}
        guard = threading.Lock()

        def change(kind: str, by: int) -> None:
            with guard:
                state[kind] += by
                assert state["writers"] == 0 or (state["writers"] == 1 and state["readers"] == 0), state

        async def reader(ops: Any) -> None:
            for _ in range(150):
                async with ops.inside(rw.read()):
                    change("readers", 1)
                    if ops.name != "threads":
                        await asyncio.sleep(0)
                    change("readers", -1)

        async def writer(ops: Any) -> None:
            for _ in range(100):
                async with ops.inside(rw.write()):
                    change("writers", 1)
                    if ops.name != "threads":
                        await asyncio.sleep(0)
                    change("writers", -1)

        tasks = [ops.spawn(writer, ops) for _ in range(2)]
        tasks += [ops.spawn(reader, ops) for _ in range(5)]
        for each in tasks:
            await each.outcome()
        assert state == {"readers": 0, "writers": 0}

    ops.run(body)


@both
def test_rwmutex_strict_order(ops: Any) -> None:
    """A reader behind a waiting writer waits; readers next to each other go in together (C7)."""

    async def body(ops: Any) -> None:
        rw = RWMutex()
        order: list[str] = []
        go_on: Channel[None] = Channel()

        async def enter(ops: Any, name: str, side: Any) -> None:
            async with ops.inside(side):
                order.append(name)
                if name.startswith("r"):
                    await ops.recv(go_on)

        rw.acquire_read()
        tasks = []
        for number, name in enumerate(["w1", "r1", "r2", "w2", "r3"]):
            tasks.append(ops.spawn(enter, ops, name, rw.write() if name[0] == "w" else rw.read()))
            while rw.waiting() <= number:
                await ops.pause()
        assert not rw.try_acquire_read()
        rw.release_read()
        for _ in range(2):
            await ops.send(go_on, None)
        assert order[:3] in (["w1", "r1", "r2"], ["w1", "r2", "r1"])
        await ops.send(go_on, None)
        assert order[3:] == ["w2", "r3"]
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_rlocker(ops: Any) -> None:
    """A side of the lock is a lock of its own, for a condition too (TestRLocker, ExampleRWMutex_RLocker)."""

    async def body(ops: Any) -> None:
        rw = RWMutex()
        side = rw.read()
        await ops.call(side, "acquire")
        await ops.call(rw.read(), "acquire")
        assert side.locked
        assert not rw.try_acquire_write()
        side.release()
        side.release()
        assert not side.locked
        condition = Condition(rw.read())
        ready = False

        async def waits(ops: Any) -> None:
            async with ops.inside(condition):
                while not ready:
                    await ops.call(condition, "wait")

        tasks = [ops.spawn(waits, ops) for _ in range(3)]
        await ops.pause()
        async with ops.inside(rw.write()):
            ready = True
        condition.notify_all()
        for each in tasks:
            await each.outcome()

    ops.run(body)


# sync/cond_test.go


@both
def test_condition_notify(ops: Any) -> None:
    """One notification wakes one (TestCondSignal)."""

    async def body(ops: Any) -> None:
        mutex = Mutex()
        condition = Condition(mutex)
        count = 2
        running: Channel[bool] = Channel(count)
        awake: Channel[bool] = Channel(count)

        async def waits(ops: Any) -> None:
            async with ops.inside(mutex):
                running.send_nowait(True)
                await ops.call(condition, "wait")
                awake.send_nowait(True)

        tasks = [ops.spawn(waits, ops) for _ in range(count)]
        for _ in range(count):
            await ops.recv(running)
        while count:
            assert len(awake) == 0
            async with ops.inside(mutex):
                condition.notify()
            await ops.recv(awake)
            assert len(awake) == 0
            count -= 1
        condition.notify()
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_condition_generations(ops: Any) -> None:
    """Who waited first is notified first (TestCondSignalGenerations; C7)."""

    async def body(ops: Any) -> None:
        mutex = Mutex()
        condition = Condition(mutex)
        running: Channel[bool] = Channel(100)
        awake: Channel[int] = Channel(100)

        async def waits(ops: Any, number: int) -> None:
            async with ops.inside(mutex):
                running.send_nowait(True)
                await ops.call(condition, "wait")
                awake.send_nowait(number)

        tasks = []
        for number in range(12):
            tasks.append(ops.spawn(waits, ops, number))
            if number:
                assert await ops.recv(awake) == number - 1
            await ops.recv(running)
            async with ops.inside(mutex):
                condition.notify()
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_condition_notify_all(ops: Any) -> None:
    """All are woken, round after round (TestCondBroadcast)."""

    async def body(ops: Any) -> None:
        mutex = Mutex()
        condition = Condition(mutex)
        count, rounds = 20, 4
        running: Channel[int] = Channel(count)
        awake: Channel[int] = Channel(count)
        over = False

        async def waits(ops: Any, number: int) -> None:
            await ops.call(mutex, "acquire")
            while not over:
                running.send_nowait(number)
                await ops.call(condition, "wait")
                awake.send_nowait(number)
            mutex.release()

        tasks = [ops.spawn(waits, ops, number) for number in range(count)]
        for turn in range(rounds):
            for _ in range(count):
                await ops.recv(running)
            async with ops.inside(mutex):
                over = turn == rounds - 1
                assert len(awake) == 0
                condition.notify_all()
            seen = {await ops.recv(awake) for _ in range(count)}
            assert seen == set(range(count)), "woken twice, or not at all"
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_condition_race(ops: Any) -> None:
    """Three who hand a value on under one condition (TestRace)."""

    async def body(ops: Any) -> None:
        condition = Condition(Mutex())
        value = 0

        async def first(ops: Any) -> None:
            nonlocal value
            async with ops.inside(condition):
                value = 1
                await ops.call(condition, "wait")
                assert value == 2
                value = 3
                condition.notify()

        async def second(ops: Any) -> None:
            nonlocal value
            async with ops.inside(condition):
                while True:
                    if value == 1:
                        value = 2
                        condition.notify()
                        return
                    condition.lock.release()
                    await ops.pause()
                    await ops.call(condition.lock, "acquire")

        async def third(ops: Any) -> None:
            async with ops.inside(condition):
                while value not in (2, 3):
                    condition.lock.release()
                    await ops.pause()
                    await ops.call(condition.lock, "acquire")
                if value == 2:
                    await ops.call(condition, "wait")
                    assert value == 3

        tasks = [ops.spawn(each, ops) for each in (first, second, third)]
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_condition_notification_is_not_stolen(ops: Any) -> None:
    """A notification goes to one who waited when it was sent, not to one who came later (TestCondSignalStealing)."""

    async def body(ops: Any) -> None:
        for _ in range(50 if ops.name != "threads" else 15):
            mutex = Mutex()
            condition = Condition(mutex)
            woken: Channel[None] = Channel(1)
            ready: list[bool] = []

            async def early(
                ops: Any, mutex: Mutex = mutex, condition: Condition = condition, woken: Channel[None] = woken
            ) -> None:
                async with ops.inside(mutex):
                    woken.send_nowait(None)
                    await ops.call(condition, "wait")
                    woken.send_nowait(None)

            async def late(
                ops: Any, mutex: Mutex = mutex, condition: Condition = condition, ready: list[bool] = ready
            ) -> None:
                async with ops.inside(mutex):
                    while not ready:
                        await ops.call(condition, "wait")

            waiting = ops.spawn(early, ops)
            await ops.recv(woken)
            async with ops.inside(mutex):  # by now it waits
                condition.notify()
                behind = ops.spawn(late, ops)
            await ops.recv(woken, timeout=LIMIT)
            async with ops.inside(mutex):
                ready.append(True)
                condition.notify_all()
            await waiting.outcome()
            await behind.outcome()

    ops.run(body)


@both
def test_condition_misuse_and_endings(ops: Any) -> None:
    """Waiting without the lock is refused; after a timeout or an ending the lock is held (§6)."""

    async def body(ops: Any) -> None:
        mutex = Mutex()
        condition = Condition(mutex)
        with pytest.raises(RuntimeError, match="lock is not held"):
            await ops.call(condition, "wait")
        async with ops.inside(mutex):
            with pytest.raises(TimeoutError):
                await ops.call(condition, "wait", timeout=0.01)
            assert mutex.locked
            with pytest.raises(TimeoutError):
                await ops.call(condition, "wait", timeout=0)
            assert mutex.locked
            async with ops.inside(move_on_after(0.01)):
                try:
                    await ops.call(condition, "wait")
                finally:
                    assert mutex.locked
        with pytest.raises(TypeError, match="over a Mutex"):
            Condition(threading.Lock())  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="-1"):
            condition.notify(-1)
        condition.notify(10**30)
        with pytest.raises(TypeError, match="integer"):
            condition.notify("1")

    ops.run(body)


@both
def test_a_notification_to_one_who_is_cancelled_goes_to_the_next(ops: Any) -> None:
    """Notified and cancelled in one instant: either it wakes him, or the next (C4)."""

    async def body(ops: Any) -> None:
        for number in range(12):
            mutex = Mutex()
            condition = Condition(mutex)
            woken: Channel[int] = Channel(2)
            scope = cancel_scope()

            async def waits(
                ops: Any,
                me: int,
                condition: Condition = condition,
                woken: Channel[int] = woken,
                scope: Any = scope,
            ) -> None:
                try:
                    async with ops.inside(condition):
                        if me == 0:
                            with scope.attach():
                                await ops.call(condition, "wait")
                        else:
                            await ops.call(condition, "wait")
                        woken.send_nowait(me)
                except Cancelled:
                    assert me == 0

            tasks = [ops.spawn(waits, ops, 0)]
            while condition.waiting() < 1:
                await ops.pause()
            tasks.append(ops.spawn(waits, ops, 1))
            while condition.waiting() < 2:
                await ops.pause()
            if number % 2:
                scope.cancel()
                condition.notify()
            else:
                condition.notify()
                scope.cancel()
            assert await ops.recv(woken, timeout=LIMIT) in (0, 1)
            condition.notify_all()
            for each in tasks:
                await each.outcome()
            scope.cancel()

    ops.run(body)


@both
@pytest.mark.parametrize("side", ["mutex", "read", "write"])
def test_a_notified_task_cancelled_while_it_takes_the_lock_again(ops: Any, side: str) -> None:
    """It has the lock when the cancellation is raised, and the notification goes to the next (C4)."""
    if ops.name == "threads":
        pytest.skip("only Ctrl-C interrupts a thread there; see test_processes.py")

    async def body(ops: Any) -> None:
        rw = RWMutex()
        mutex = Mutex()
        lock: Any = {"mutex": mutex, "read": rw.read(), "write": rw.write()}[side]
        holder: Any = mutex if side == "mutex" else rw.write()
        condition = Condition(lock)
        woken: list[int] = []

        async def waits(me: int) -> None:
            async with condition:
                try:
                    await condition.wait_async()
                finally:
                    assert lock.locked
                woken.append(me)

        tasks = [asyncio.create_task(waits(me)) for me in range(2)]
        while condition.waiting() < 2:
            await ops.pause()
        await holder.aacquire()
        condition.notify()
        await asyncio.sleep(0.01)
        tasks[0].cancel()
        await asyncio.sleep(0.01)
        assert not tasks[0].done()
        holder.release()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [asyncio.CancelledError, type(None)]
        assert woken == [1]
        assert not lock.locked

    ops.run(body)


# sync/once_test.go and oncefunc_test.go


@both
def test_once(ops: Any) -> None:
    """However many ask, it runs once, and nobody returns before it has (TestOnce)."""

    async def body(ops: Any) -> None:
        once = Once()
        calls: list[int] = []

        def call() -> None:
            time.sleep(0.005)
            calls.append(1)

        async def asks(ops: Any) -> None:
            await ops.call(once, "do", call)
            assert calls == [1]

        tasks = [ops.spawn(asks, ops) for _ in range(10)]
        for each in tasks:
            await each.outcome()
        assert calls == [1]
        assert once.done

    ops.run(body)


@both
def test_once_that_fails_counts(ops: Any) -> None:
    """The first caller gets the error; after that nothing is called (TestOncePanic)."""

    async def body(ops: Any) -> None:
        once = Once()

        def fails() -> None:
            raise FailureError

        with pytest.raises(FailureError):
            await ops.call(once, "do", fails)
        await ops.call(once, "do", lambda: pytest.fail("called twice"))

    ops.run(body)


def test_once_does_not_take_the_other_colour() -> None:
    """An async function is refused where nobody would await it."""

    async def function() -> None:
        raise AssertionError("never awaited")

    with pytest.raises(TypeError, match=r"async function; use 'await once\.ado\(\)'"):
        Once().do(function)
    with pytest.raises(TypeError, match="async function; use aonce_value"):
        once_value(function)


def test_once_value() -> None:
    """The value of the one call, for all (TestOnceValue)."""
    calls: list[int] = []

    def compute() -> object:
        calls.append(1)
        return calls

    value = once_value(compute)
    assert calls == []
    assert value() is value() is calls
    assert calls == [1]


def test_once_value_keeps_the_error() -> None:
    """A function that fails is not called again: the same error every time (TestOnceValuePanic)."""
    calls: list[int] = []

    def fails() -> None:
        calls.append(1)
        raise FailureError("once")

    value = once_value(fails)
    errors = []
    for _ in range(3):
        with pytest.raises(FailureError) as raised:
            value()
        errors.append(raised.value)
    assert calls == [1]
    assert errors[0] is errors[1] is errors[2]


def test_once_value_in_asyncio() -> None:
    """An async function, once for all tasks."""
    calls: list[int] = []

    async def compute() -> int:
        calls.append(1)
        await asyncio.sleep(0.001)
        return 5

    async def fails() -> None:
        raise FailureError

    async def main() -> None:
        value = aonce_value(compute)
        assert await asyncio.gather(*(value() for _ in range(5))) == [5] * 5
        assert calls == [1]
        failing = aonce_value(fails)
        for _ in range(2):
            with pytest.raises(FailureError):
                await failing()

    asyncio.run(main())


def test_once_value_lets_go_of_what_it_was_given() -> None:
    """A dropped once_value is garbage, with its function and value (TestOnceXGC)."""

    class Thing:
        pass

    thing = Thing()
    watch = weakref.ref(thing)
    value = once_value(lambda thing=thing: thing)
    del thing
    assert value() is not None
    del value
    gc.collect()
    assert watch() is None


# golang.org/x/sync/semaphore


@both
def test_semaphore_hammer(ops: Any) -> None:
    """Random weights: never more out than there is (TestWeighted)."""

    async def body(ops: Any) -> None:
        size = 8
        semaphore = Semaphore(size)
        out = 0
        guard = threading.Lock()

        async def hammer(ops: Any, weight: int) -> None:
            nonlocal out
            for _ in range(100):
                await ops.call(semaphore, "acquire", weight)
                with guard:
                    out += weight
                    assert out <= size
                if ops.name != "threads":
                    await asyncio.sleep(0)
                with guard:
                    out -= weight
                semaphore.release(weight)

        tasks = [ops.spawn(hammer, ops, weight) for weight in (1, 2, 3, 5, 8, 1)]
        for each in tasks:
            await each.outcome()
        assert semaphore.try_acquire(size)

    ops.run(body)


@both
def test_semaphore_misuse(ops: Any) -> None:
    """Too much is refused, each way (TestWeightedPanic, TestWeightedTryAcquire, TestLargeAcquireDoesntStarve)."""

    async def body(ops: Any) -> None:
        semaphore = Semaphore(2)
        with pytest.raises(ValueError, match="would wait for ever"):
            await ops.call(semaphore, "acquire", 3)
        assert semaphore.try_acquire(3) is False
        with pytest.raises(ValueError, match="would wait for ever"):
            await ops.call(semaphore, "acquire", 10**30)
        assert semaphore.try_acquire(10**30) is False
        with pytest.raises(RuntimeError, match="released too much"):
            semaphore.release(10**30)
        with pytest.raises(ValueError, match="0 or more"):
            semaphore.try_acquire(-(10**30))
        assert Semaphore(10**30).try_acquire(10**15)
        with pytest.raises(RuntimeError, match="released too much: 1, and 0 are held"):
            semaphore.release()
        for operation in (Semaphore, semaphore.release, semaphore.try_acquire, semaphore.acquire):
            with pytest.raises(ValueError, match="0 or more, not -1"):
                operation(-1)
            for wrong in ("2", 1.0, True):
                with pytest.raises(TypeError, match="integer"):
                    operation(wrong)
        assert semaphore.try_acquire(2)
        assert semaphore.try_acquire() is False
        with pytest.raises(TimeoutError):
            await ops.call(semaphore, "acquire", timeout=0)
        with pytest.raises(TimeoutError):
            await ops.call(semaphore, "acquire", timeout=0.01)
        semaphore.release()
        assert semaphore.try_acquire()

    ops.run(body)


@both
def test_large_acquire_does_not_starve(ops: Any) -> None:
    """One who wants it all gets it amid many who want one each: newcomers do not overtake
    (TestLargeAcquireDoesntStarve; C7)."""

    async def body(ops: Any) -> None:
        size = 4
        semaphore = Semaphore(size)
        running = True

        async def small(ops: Any) -> None:
            while running:
                await ops.call(semaphore, "acquire")
                await ops.pause()
                semaphore.release()

        tasks = [ops.spawn(small, ops) for _ in range(size)]
        await ops.pause()
        await ops.call(semaphore, "acquire", size, timeout=LIMIT)
        running = False
        semaphore.release(size)
        for each in tasks:
            await each.outcome()

    ops.run(body)


@both
def test_a_cancelled_acquire_lets_those_behind_go(ops: Any) -> None:
    """A large request at the front gives up: the small ones behind it go ahead (TestAllocCancelDoesntStarve)."""

    async def body(ops: Any) -> None:
        semaphore = Semaphore(10)
        semaphore.acquire(1)
        scope = cancel_scope()

        async def large(ops: Any) -> None:
            with scope.attach(), pytest.raises(Cancelled):
                await ops.call(semaphore, "acquire", 10)

        async def small(ops: Any) -> None:
            await ops.call(semaphore, "acquire", 1, timeout=LIMIT)

        first = ops.spawn(large, ops)
        await ops.pause()
        assert semaphore.try_acquire() is False  # no overtaking
        second = ops.spawn(small, ops)
        await ops.pause()
        scope.cancel()
        await first.outcome()
        await second.outcome()

    ops.run(body)


@both
def test_an_acquire_under_an_ended_context_takes_nothing(ops: Any) -> None:
    """Also where it would not wait; what is held or free stays so (TestWeightedAcquireCanceled; X1)."""

    async def body(ops: Any) -> None:
        semaphore = Semaphore(2)
        await ops.call(semaphore, "acquire", 1)
        scope = cancel_scope()
        scope.cancel()
        with scope.attach():
            for n in (1, 2):
                with pytest.raises(Cancelled):
                    await ops.call(semaphore, "acquire", n)
            with pytest.raises(ValueError, match="would wait for ever"):
                await ops.call(semaphore, "acquire", 3)
        assert semaphore.free == 1
        semaphore.release()
        assert semaphore.try_acquire(2)

    ops.run(body)


@both
def test_an_impossible_acquire_holds_nobody_up(ops: Any) -> None:
    """More than there is: refused at once, and others go on (TestWeightedDoesntBlockIfTooBig)."""

    async def body(ops: Any) -> None:
        semaphore = Semaphore(2)
        with pytest.raises(ValueError, match="3 of a semaphore of 2"):
            await ops.call(semaphore, "acquire", 3)

        async def both_of_them(ops: Any) -> None:
            for _ in range(3):
                await ops.call(semaphore, "acquire", 1, timeout=LIMIT)
                await ops.pause()
                semaphore.release()

        for each in [ops.spawn(both_of_them, ops) for _ in range(2)]:
            await each.outcome()
        assert semaphore.free == 2

    ops.run(body)


def test_semaphore_whose_acquire_is_cancelled_in_the_instant_of_success() -> None:
    """Conservation: whatever the moment of the cancellation, a permit is either held or free (C4)."""

    async def main() -> None:
        semaphore = Semaphore(3)
        rng = random.Random(5)

        async def one(number: int) -> None:
            await semaphore.aacquire(number % 3 + 1)
            try:
                await asyncio.sleep(0)
            finally:
                semaphore.release(number % 3 + 1)

        for _ in range(100):
            tasks = [asyncio.create_task(one(number)) for number in range(6)]
            for _ in range(rng.randrange(5)):
                await asyncio.sleep(0)
            for task in tasks:
                if rng.random() < 0.5:
                    task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            assert semaphore.try_acquire(3)
            semaphore.release(3)

    asyncio.run(main())


# golang.org/x/sync/errgroup


@both
def test_errgroup_zero_members(ops: Any) -> None:
    """A group without members, and members without failures, raise nothing (TestZeroGroup)."""

    async def body(ops: Any) -> None:
        async with ops.inside(Group()):
            pass
        async with ops.inside(Group()) as group:
            for _ in range(3):
                group.go(lambda: None)

    ops.run(body)


@both
def test_errgroup_with_context(ops: Any) -> None:
    """The group's context ends with the first failure, its cause, and with the block (TestWithContext)."""

    async def body(ops: Any) -> None:
        async with ops.inside(Group()) as group:
            assert group.context.error is None
        assert group.context.error is not None
        failure = FailureError("the first")

        def fails() -> None:
            raise failure

        with pytest.raises(ExceptionGroup):
            async with ops.inside(Group()) as group:
                group.go(fails)
                await ops.recv_ok(Channel())
        assert group.context.cause is failure

    ops.run(body)


@both
@pytest.mark.parametrize("failures", [(), (1,), (None,), (None, 1), (1, 2), (None, 1, 2)])
def test_errgroup_cancel_cause(ops: Any, failures: tuple[int | None, ...]) -> None:
    """The cause of the group's context is the first failure, whatever comes after (TestCancelCause)."""

    async def body(ops: Any) -> None:
        expected = [FailureError(number) for number in failures if number is not None]
        given = iter(expected)

        def works(error: FailureError | None) -> None:
            if error is not None:
                raise error

        raised: list[BaseException] = []
        group = Group()
        try:
            async with ops.inside(group):
                for number in failures:
                    task = group.go(works, None if number is None else next(given))
                    with current().without_cancel().attach(), contextlib.suppress(FailureError):
                        await ops.call(task, "result")  # one after the other
        except ExceptionGroup as errors:
            raised += errors.exceptions
        except Cancelled:
            pytest.fail("bare")
        if expected:
            assert group.context.cause is expected[0]
        # Once the first has failed, the others do not start any more.
        assert raised == expected[:1]

    ops.run(body)


@both
def test_errgroup_try_go_and_limit(ops: Any) -> None:
    """`try_go` is refused at the limit, and counts (TestTryGo, TestGoLimit)."""

    async def body(ops: Any) -> None:
        gate: Channel[int] = Channel()
        async with ops.inside(Group(limit=42)) as group:
            for _ in range(42):
                assert group.try_go(gate.recv_ok) is not None
            assert group.try_go(lambda: None) is None
            gate.close()

    ops.run(body)
