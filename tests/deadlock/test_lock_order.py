"""Lock order: inversions, double locks, recursive read locks (contract section 8)."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from programs import run_program

from penstock import Cancelled, Condition, Group, Mutex, RWMutex, cancel_scope, go, sleep
from penstock.deadlock import lock_order
from penstock.deadlock.naming import record_sites

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    lock_order.clear()
    lock_order.start(printed=False)
    yield
    lock_order.stop()
    lock_order.clear()


def kinds() -> list[str]:
    return [finding.kind for finding in lock_order.findings()]


def test_inversion_that_did_no_harm() -> None:
    """Two tasks take two locks in different orders, one after the other: told once, with all four stacks."""
    first, second = Mutex(), Mutex()

    def one_way() -> None:
        with first, second:
            pass

    def other_way() -> None:
        with second, first:
            pass

    for _ in range(3):
        go(one_way).result()
        go(other_way).result()
    (found,) = lock_order.findings()
    assert found.kind == "inversion"
    assert len(found.steps) == 2
    assert {step.task.rpartition(".")[2] for step in found.steps} == {"one_way", "other_way"}
    for step in found.steps:
        assert step.held_stack[-1].file == step.wanted_stack[-1].file == __file__
        assert step.held_stack[-1].function == step.wanted_stack[-1].function
    assert found.steps[0].held == found.steps[1].wanted
    assert "different orders" in str(found)
    assert str(found).count("test_lock_order.py") >= 4


def test_inversion_of_asyncio_tasks() -> None:
    """Held locks are each asyncio task's own, although all run in one thread."""
    first, second, third = Mutex(), Mutex(), Mutex()

    async def hold(one: Mutex, other: Mutex, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        async with one:
            await asyncio.sleep(0)
            async with other:
                await asyncio.sleep(0)

    async def main() -> None:
        async with Group() as group:
            group.go(hold, first, second, 0)
            group.go(hold, third, Mutex(), 1)  # Meanwhile, and no part of it.
            group.go(hold, second, first, 20)

    asyncio.run(main())
    assert kinds() == ["inversion"]
    assert "asyncio task" in lock_order.findings()[0].steps[0].task


@pytest.mark.parametrize("length", [3, 5])
def test_longer_circles(length: int) -> None:
    """A circle of any length; the locks in the order in which each is held while the next is asked for."""
    locks = [Mutex() for _ in range(length)]
    for at in range(length - 1):
        with locks[at], locks[at + 1]:
            pass
    assert kinds() == []
    with locks[-1], locks[0]:
        pass
    (found,) = lock_order.findings()
    assert len(found.steps) == length
    for step, following in zip(found.steps, (*found.steps[1:], found.steps[0]), strict=True):
        assert step.wanted == following.held


def test_gate_lock() -> None:
    """Under a common third lock no two tasks are inside at the same time; once beside it, it is told."""
    gate, first, second = Mutex(), Mutex(), Mutex()
    with gate, first, second:
        pass
    with gate, second, first:
        pass
    assert kinds() == []
    with first, second:  # Beside the gate, where somebody may be inside in the other order.
        pass
    assert kinds() == ["inversion"]


def test_gate_held_for_reading_is_none() -> None:
    """Two readers may be inside at once."""
    gate, first, second = RWMutex(), Mutex(), Mutex()
    with gate.read(), first, second:
        pass
    with gate.read(), second, first:
        pass
    assert kinds() == ["inversion"]


def test_trying_waits_for_nothing() -> None:
    """`try_acquire`, and a timeout of 0, take no part in a circle; what they have taken does."""
    first, second = Mutex(), Mutex()
    with first, second:
        pass
    with second:
        assert first.try_acquire()
        first.release()
        first.acquire(timeout=0)
        first.release()
    assert kinds() == []
    assert second.try_acquire()
    with first:
        second.release()
    assert kinds() == ["inversion"]


def test_double_lock_is_told_before_it_hangs() -> None:
    """A task that waits for what it holds itself."""
    mutex = Mutex()

    def lock_twice() -> None:
        with mutex, cancel_scope() as scope:
            go(lambda: (wait_until_parked(mutex), scope.cancel()))
            with pytest.raises(Cancelled):
                mutex.acquire()

    go(lock_twice).result()
    (found,) = lock_order.findings()
    assert found.kind == "double lock"
    assert found.steps[0].held_stack[-1].function.endswith("lock_twice")
    assert found.steps[0].wanted_stack[-1].line > found.steps[0].held_stack[-1].line
    with mutex, pytest.raises(TimeoutError):
        mutex.acquire(timeout=0.01)  # It gives up: not for ever.
    assert kinds() == ["double lock"]


def wait_for(condition: Callable[[], object]) -> None:
    while not condition():
        sleep(0.001)


def wait_until_parked(lock: Any) -> None:
    wait_for(lock.waiting)


def test_locks_that_another_task_releases() -> None:
    """A lock has no owner: whoever releases it, it is held no more."""
    mutex, other = Mutex(), Mutex()
    mutex.acquire()
    go(mutex.release).result()
    with mutex:
        pass
    with other, mutex:
        pass
    mutex.acquire()
    go(mutex.release).result()
    with other:
        pass
    assert kinds() == []


def rereads(rw: RWMutex) -> None:
    """Ask once more, until it is seen that this waits."""
    with cancel_scope() as scope:
        go(lambda: (wait_for(lambda: rw.waiting() == 2), scope.cancel()))
        with pytest.raises(Cancelled):
            rw.acquire_read()


def test_read_write_mutex() -> None:
    """Reading again is recursive, told with the writer that waits; writing while reading is a double lock."""
    rw = RWMutex()
    with rw.read():
        rw.acquire_read()
        rw.release_read()
    assert kinds() == ["recursive read lock"]
    assert "with a writer in between" in lock_order.findings()[0].text

    with rw.read():
        writer = go(rw.acquire_write)
        wait_until_parked(rw)
        rereads(rw)
    writer.result()
    rw.release_write()
    assert kinds() == ["recursive read lock"] * 2
    assert "a writer waits in between" in lock_order.findings()[1].text

    with rw.read(), cancel_scope() as scope:
        go(lambda: (wait_until_parked(rw), scope.cancel()))
        with pytest.raises(Cancelled):
            rw.acquire_write()
    assert kinds()[2:] == ["double lock"]


def test_condition_takes_its_lock_again() -> None:
    """While it waits the lock is not held; that it is taken again counts."""
    mutex, other = Mutex(), Mutex()
    condition = Condition(mutex)

    def wait() -> None:
        with condition:
            condition.wait()

    with mutex, other:
        pass
    waits = go(wait)
    wait_until_parked(condition)
    with mutex:
        condition.notify()
    waits.result()
    assert kinds() == []

    def wait_holding() -> None:
        with other, mutex:
            condition.wait()

    waits = go(wait_holding)
    wait_until_parked(condition)
    with mutex:
        condition.notify()
    waits.result()
    assert kinds() == ["inversion"]


def test_locks_are_not_kept_alive() -> None:
    """What is known of a lock goes with it, and so do the edges."""
    keep = Mutex()
    gone = [Mutex() for _ in range(10)]
    for mutex in gone:
        with keep, mutex:
            pass
    references = [weakref.ref(mutex) for mutex in gone]
    graph = lock_order._ORDER.graph
    assert len(graph.locks[id(keep)].after) == 10
    del mutex
    gone.clear()
    gc.collect()
    assert not any(reference() for reference in references)
    assert list(graph.locks) == [id(keep)]
    assert not graph.locks[id(keep)].after
    assert not lock_order._ORDER.held


def test_one_place_is_told_once() -> None:
    """However many locks are made there."""
    for _ in range(5):
        first, second = Mutex(), Mutex()
        with first, second:
            pass
        with second, first:
            pass
    assert kinds() == ["inversion"]


def test_locks_are_called_by_where_they_were_made() -> None:
    """While that is recorded."""
    record_sites(True)
    try:
        first, second = Mutex(), Mutex()
    finally:
        record_sites(False)
    with first, second:
        pass
    with second, first:
        pass
    assert "made at test_lock_order.py:" in str(lock_order.findings()[0])


def test_switched_off_nothing_is_in_the_way() -> None:
    """The methods are the kernel's own again."""
    lock_order.stop()
    assert "acquire" not in Mutex.__dict__
    with Mutex(), Mutex():
        pass
    assert not lock_order._ORDER.held


def test_the_standard_librarys_locks() -> None:
    """`threading.Lock` and `RLock` of the program take part; an `RLock` may be taken again."""
    done = run_program("""
        import queue, threading
        from penstock.deadlock import lock_order
        plain = threading.Lock
        lock_order.start(printed=False, threading=True)
        first, second, again = threading.Lock(), threading.Lock(), threading.RLock()
        assert isinstance(first, threading.Lock) and isinstance(plain(), threading.Lock)
        assert type(queue.Queue().mutex) is type(plain())
        with first, second, again, again: pass
        condition = threading.Condition(again)
        with second, again: pass
        with again, second: pass
        print(*[step.held.split()[0] for step in lock_order.findings()[0].steps])
        lock_order.clear()
        with condition, condition:
            condition.wait(0.01)
            assert again._is_owned()
            thread = threading.Thread(target=lambda: print(again.acquire(blocking=False)))
            thread.start()
            thread.join()
        assert not again._is_owned()
        assert not lock_order.findings()
        with second, first: pass
        print([finding.kind for finding in lock_order.findings()])
        with first:
            assert not first.acquire(blocking=False)
            assert not first.acquire(timeout=0.01)
            threading.Timer(0.1, first.release).start()
            first.acquire()
        print([finding.kind for finding in lock_order.findings()])
        lock_order.stop()
        assert threading.Lock is plain
        with first: pass
    """)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "threading.RLock threading.Lock\nFalse\n['inversion']\n['inversion', 'double lock']\n"


def test_what_tasks_have_left_locked_the_next_ones_do_not_hold() -> None:
    """A task may end with a lock for another to release; the thread of the pool, and its number, are used again."""
    kept, other = Mutex(), Mutex()
    go(kept.acquire).result()
    go(lock_and_release, other).result()
    kept.release()
    threading.Thread(target=kept.acquire).start()
    wait_for(lambda: kept.locked)
    for _ in range(3):
        thread = threading.Thread(target=lock_and_release, args=(other,))
        thread.start()
        thread.join()
    kept.release()
    with other, kept:
        pass
    assert kinds() == []


def lock_and_release(lock: Mutex) -> None:
    with lock:
        pass
