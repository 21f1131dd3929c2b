"""Contexts: the tree, its scopes and their edges, clause by clause. The tree's tests follow the ideas of Go's
context/context_test.go and x_test.go."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from colours import COLOURS, LIMIT

from penstock import (
    Cancelled,
    Channel,
    Condition,
    Context,
    DeadlineExceeded,
    Mutex,
    Once,
    RWMutex,
    Semaphore,
    WaitGroup,
    WouldBlock,
    asleep,
    cancel_scope,
    current,
    fail_after,
    go,
    move_on_after,
    select,
    sleep,
)
from penstock._kernel.timers import LONGEST_SLEEP, pending_timers

if TYPE_CHECKING:
    from collections.abc import Callable

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)
background = Context.background()


# The tree (X4)


def test_background() -> None:
    """The background never ends, and has nothing (X4)."""
    assert background.error is None
    assert background.cause is None
    assert background.deadline is None
    assert background.value("key") is None
    assert not background.done
    background.check()
    with pytest.raises(WouldBlock):
        background.done.recv_nowait()
    with pytest.raises(RuntimeError, match="cannot be cancelled; derive"):
        background.cancel()
    assert current() is background


def test_cancelling_goes_down_and_not_up() -> None:
    """A context ends with those above it; those above and beside it go on (X4)."""
    parent = background.with_cancel()
    child = parent.with_cancel()
    grandchild = child.with_value("k", 1)
    sibling = parent.with_cancel()
    child.cancel()
    assert isinstance(child.error, Cancelled)
    assert isinstance(grandchild.error, Cancelled)
    assert grandchild.done.recv_ok() == (None, False)
    assert parent.error is None
    assert sibling.error is None
    parent.cancel()
    assert isinstance(sibling.error, Cancelled)
    late = parent.with_timeout(100)
    assert isinstance(late.error, Cancelled)
    assert late.done
    assert not pending_timers()


def test_causes() -> None:
    """The first cause wins; without one it is the error itself; descendants show the cause of what ended (X4)."""
    context = background.with_cancel()
    child = context.with_cancel()
    why = ValueError("why")
    context.cancel(why)
    context.cancel(KeyError())
    child.cancel("too late")
    assert context.cause is why
    assert child.cause is why
    assert isinstance(context.error, Cancelled)
    plain = background.with_cancel()
    plain.cancel()
    assert plain.cause is plain.error
    late = background.with_timeout(0.001, cause="slow")
    assert late.done.recv_ok(timeout=LIMIT) == (None, False)
    assert isinstance(late.error, DeadlineExceeded)
    assert late.cause == "slow"
    first = background.with_cancel()
    second = first.with_cancel()
    second.cancel("own")
    first.cancel("parent's")
    assert (second.cause, first.cause) == ("own", "parent's")


def test_cancelled_carries_cause_and_origin() -> None:
    """What is raised inside says why, and which context ended (X2)."""
    context = background.with_cancel()
    child = context.with_cancel()
    why = ValueError("why")
    context.cancel(why)
    with pytest.raises(Cancelled, match="why") as raised:
        child.check()
    assert raised.value.cause is why
    assert raised.value.__cause__ is why
    assert raised.value.origin is context
    assert not isinstance(raised.value, Exception)


def test_error_is_set_no_later_than_done_closes() -> None:
    """Who sees `done` closed sees the error (X4)."""
    for _ in range(300):
        context = background.with_cancel()
        thread = threading.Thread(target=context.cancel)
        thread.start()
        while not context.done.closed:
            pass
        assert context.error is not None
        thread.join()


def test_cancel_is_idempotent_and_thread_safe() -> None:
    """Many threads cancel a tree at once; each context has one cause, and children agree with who ended them (X4)."""
    for _ in range(100):
        context = background.with_cancel()
        children = [context.with_cancel() for _ in range(10)]
        barrier = threading.Barrier(4)

        def cancel(number: int, context: Context = context, barrier: Any = barrier) -> None:
            barrier.wait()
            context.cancel(number)

        threads = [threading.Thread(target=cancel, args=(number,)) for number in range(1, 5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert context.cause in range(1, 5)
        assert {child.cause for child in children} == {context.cause}


def test_deriving_races_with_cancelling() -> None:
    """A child derived while its parent is being cancelled ends too (X4)."""
    for _ in range(200):
        context = background.with_cancel()
        children: list[Context] = []

        def derive(context: Context = context, children: list[Context] = children) -> None:
            children.extend(context.with_cancel() for _ in range(20))

        thread = threading.Thread(target=derive)
        thread.start()
        context.cancel()
        thread.join()
        assert all(child.error is not None for child in children)


def test_values() -> None:
    """A value is found from below, by equality, the nearest first (X4)."""
    top = background.with_value("user", "ann")
    below = top.with_cancel().with_value(("a", 1), "tuple").with_timeout(100)
    shadowing = below.with_value("user", None)
    assert below.value("user") == "ann"
    assert below.value(("a", 1)) == "tuple"
    assert shadowing.value("user") is None
    assert top.value(("a", 1)) is None
    below.cancel()
    with pytest.raises(TypeError, match="must not be None"):
        background.with_value(None, 1)


def test_without_cancel() -> None:
    """Keeps the values, and neither the ending nor the deadline (X4)."""
    parent = background.with_value("k", 1).with_timeout(100)
    free = parent.without_cancel()
    parent.cancel()
    assert free.error is None
    assert free.deadline is None
    assert free.value("k") == 1
    child = free.with_cancel()
    assert child.error is None
    child.cancel()


def test_deadlines() -> None:
    """The earliest deadline counts; one that has passed ends the context at once (X4)."""
    outer = background.with_timeout(50)
    inner = outer.with_timeout(100)
    assert inner.deadline == outer.deadline
    sooner = outer.with_deadline(time.monotonic() + 10)
    assert outer.deadline is not None
    assert sooner.deadline is not None
    assert sooner.deadline < outer.deadline
    for past in (background.with_timeout(0), background.with_timeout(-1), background.with_deadline(time.monotonic())):
        assert isinstance(past.error, DeadlineExceeded)
        assert isinstance(past.error, TimeoutError)
        with pytest.raises(Cancelled):
            past.check()
    outer.cancel()


@pytest.mark.parametrize(("bad", "error"), [("1", TypeError), (None, TypeError), (float("nan"), ValueError)])
def test_bad_times(bad: Any, error: type[Exception]) -> None:
    """A time that is no time is refused; one beyond all numbers is for ever."""
    assert background.with_timeout(10**400).deadline is None
    assert background.with_timeout(-(10**400)).error is not None
    for derive in (background.with_timeout, background.with_deadline, fail_after, move_on_after, sleep):
        with pytest.raises(error):
            derive(bad)


def eventually(condition: Callable[[], bool]) -> bool:
    """Does it come true soon? Another thread may be looking at what is to be freed, but must not sleep on it."""
    deadline = time.monotonic() + LONGEST_SLEEP / 2
    while not condition() and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.01)
    return condition()


def test_cancelled_child_is_forgotten() -> None:
    """A parent refers to no child that has ended, nor a timer to a context cancelled before its deadline (X4)."""
    parent = background.with_cancel()
    references = []
    for number in range(1000):
        child = parent.with_timeout(1000) if number % 2 else parent.with_cancel()
        references.append(weakref.ref(child))
        child.cancel()
    del child
    assert not pending_timers()
    assert eventually(lambda: not any(reference() is not None for reference in references))
    parent.cancel()


def test_dropped_context_with_deadline_is_freed() -> None:
    """A context that nobody refers to is not kept by its parent for ever, and not by a timer past its deadline."""
    reference = weakref.ref(background.with_timeout(0.02))
    assert eventually(lambda: reference() is None)


def test_after_func() -> None:
    """Called once, in a task of its own, when the context ends; stop() is true if that will not happen (X4)."""
    context = background.with_cancel()
    calls: Channel[int] = Channel(10)
    stop = context.after_func(lambda: calls.send(threading.get_ident()))
    stopped = context.after_func(lambda: calls.send(0))
    assert stopped() is True
    assert stopped() is False
    context.cancel()
    assert calls.recv(timeout=LIMIT) != threading.get_ident()
    assert stop() is False
    context.after_func(lambda: calls.send(-1))
    assert calls.recv(timeout=LIMIT) == -1
    assert len(calls) == 0
    with pytest.raises(TypeError, match="after_func"):
        context.after_func(3)  # type: ignore[arg-type]


def test_after_func_error_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """An exception of the function is reported like a thread's."""
    reports: Channel[Any] = Channel(1)
    monkeypatch.setattr("sys.excepthook", lambda *report: reports.send(report))
    monkeypatch.setattr("threading.excepthook", lambda report: reports.send((report.exc_type,)))
    context = background.with_cancel()

    def fail() -> None:
        raise ValueError

    context.after_func(fail)
    context.cancel()
    assert reports.recv(timeout=LIMIT)[0] is ValueError


def test_many_deadlines_one_thread() -> None:
    """A hundred thousand contexts with deadlines need no thread each (X5)."""
    before = threading.active_count()
    contexts = [background.with_timeout(1000 + number % 7) for number in range(100_000)]
    soon = [background.with_timeout(0.01) for _ in range(1000)]
    assert threading.active_count() <= before + 1
    assert pending_timers() >= len(contexts)
    for context in soon:
        assert context.done.recv_ok(timeout=LIMIT) == (None, False)
    for context in contexts:
        context.cancel()
    assert not pending_timers()


def test_misuse_of_contexts() -> None:
    """A context is not made by hand, not subclassed, and entered once; each error names the remedy."""
    with pytest.raises(TypeError, match="with_cancel"):
        Context()
    with pytest.raises(TypeError, match="with_value"):
        type("Mine", (Context,), {})
    scope = cancel_scope()
    with scope:
        pass
    with pytest.raises(RuntimeError, match="derive a new one"), scope:
        pass
    with pytest.raises(RuntimeError, match="attach"), background:
        pass
    with pytest.raises(TypeError, match="function without arguments"):
        background.after_func(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="awaited in a loop"):
        background.after_func(asyncio.sleep)  # type: ignore[arg-type]
    attachment = scope.attach()
    with attachment, pytest.raises(RuntimeError, match="for each block"), attachment:
        pass


# Every parking operation obeys the ambient context (X1)


def parking_operations() -> list[tuple[str, Any, str, tuple[Any, ...]]]:
    """Name, object, operation, arguments: each would park."""
    held = Mutex()
    held.acquire()
    busy = WaitGroup()
    busy.add()
    taken = Semaphore(1)
    taken.acquire()
    written = RWMutex()
    written.acquire_write()
    waited = Mutex()
    waited.acquire()
    at_work = go(Channel[None]().recv)
    once = Once()
    go(once.do, Channel[None]().recv)
    while not once._claimed.locked:
        time.sleep(0.001)
    return [
        ("send", Channel(), "send", (1,)),
        ("recv", Channel(), "recv", ()),
        ("recv_ok", Channel(), "recv_ok", ()),
        ("mutex", held, "acquire", ()),
        ("semaphore", taken, "acquire", ()),
        ("wait group", busy, "wait", ()),
        ("read lock", written, "acquire_read", ()),
        ("write lock", written, "acquire_write", ()),
        ("reading side", written.read(), "acquire", ()),
        ("condition", Condition(waited), "wait", ()),
        ("result", at_work, "result", ()),
        ("once", once, "do", (int,)),
    ]


@both
@pytest.mark.parametrize("which", range(12))
def test_parked_operation_obeys(ops: Any, which: int) -> None:
    """A parked operation is woken by the ending of its context, and has not happened (X1, C4)."""

    async def body(ops: Any) -> None:
        name, target, operation, arguments = parking_operations()[which]
        scope = background.with_cancel()

        async def waiting() -> str:
            try:
                with scope.attach():
                    await ops.call(target, operation, *arguments)
            except Cancelled as error:
                return str(error.cause)
            return f"{name} went ahead"

        other = ops.spawn(waiting)
        await ops.pause()
        scope.cancel("enough")
        assert await other.outcome() == "enough"

    ops.run(body)


@both
def test_ended_context_refuses_what_could_go_ahead(ops: Any) -> None:
    """In an ended context the next parking operation raises; *_nowait and default=True do not look (X1)."""

    async def body(ops: Any) -> None:
        full: Channel[int] = Channel(2)
        full.send(1)
        free = Mutex()
        idle = WaitGroup()
        ended = go(int)
        await ops.call(ended, "result")
        done = Once()
        await ops.call(done, "do", int)
        scope = background.with_cancel()
        scope.cancel()
        with scope.attach():
            for target, operation, arguments in (
                (full, "recv", ()),
                (full, "recv_ok", ()),
                (full, "send", (2,)),
                (full, "recv", (0,)),
                (free, "acquire", ()),
                (Semaphore(1), "acquire", ()),
                (idle, "wait", ()),
                (RWMutex(), "acquire_read", ()),
                (RWMutex(), "acquire_write", ()),
                (RWMutex().write(), "acquire", ()),
                (ended, "result", ()),
                (Once(), "do", (int,)),
                (done, "do", (int,)),
            ):
                with pytest.raises(Cancelled):
                    await ops.call(target, operation, *arguments)
            with pytest.raises(Cancelled):
                await ops.select(full)
            assert (await ops.select(full, default=True)).value == 1
            full.send_nowait(3)
            assert full.recv_nowait() == 3
            assert free.try_acquire()
        assert len(full) == 0

    ops.run(body)


def test_select_and_sleep_obey() -> None:
    """A parked select, a select without cases and a sleep too (X1, S5)."""
    for wait in (lambda: select(Channel()), lambda: select(None), select, lambda: sleep(1000)):
        with pytest.raises(DeadlineExceeded), fail_after(0.01):
            wait()


# Scopes, clause X2.


def busy_until(scope: Context) -> None:
    """Work without noticing until the scope has ended."""
    while not scope.done:
        time.sleep(0.001)


@both
def test_edges(ops: Any) -> None:
    """What each kind of scope does at its edge when it ended the body (X2)."""

    async def body(ops: Any) -> None:
        silent: Channel[int] = Channel()
        with pytest.raises(DeadlineExceeded):
            async with ops.inside(fail_after(0.01)):
                await ops.recv(silent)
        with pytest.raises(DeadlineExceeded, match="slow"):
            async with ops.inside(current().with_timeout(0.01, cause="slow")):
                await ops.recv(silent)
        with pytest.raises(DeadlineExceeded):
            async with ops.inside(current().with_deadline(time.monotonic() + 0.01)):
                await ops.recv(silent)
        async with ops.inside(move_on_after(0.01)) as scope:
            await ops.recv(silent)
        assert isinstance(scope.error, DeadlineExceeded)
        async with ops.inside(cancel_scope()) as scope:
            scope.cancel()
            await ops.recv(silent)
        async with ops.inside(fail_after(1000)) as scope:
            scope.cancel("given up")
            await ops.recv(silent)
        assert scope.cause == "given up"

    ops.run(body)


@both
def test_scope_ends_with_its_block(ops: Any) -> None:
    """At the end of the block its context is cancelled, whatever the body did; current() is what it was (X2)."""

    async def body(ops: Any) -> None:
        async with ops.inside(cancel_scope()) as scope:
            assert current() is scope
            child = current().with_cancel()
            assert scope.error is None
        assert isinstance(scope.error, Cancelled)
        assert isinstance(child.error, Cancelled)
        assert current() is background
        with pytest.raises(ValueError, match="mine"):
            async with ops.inside(fail_after(1000)) as scope:
                raise ValueError("mine")
        assert isinstance(scope.error, Cancelled)

    ops.run(body)


@both
def test_outer_ending_passes_through(ops: Any) -> None:
    """An inner scope does not stop the ending of an outer one (X2)."""

    async def body(ops: Any) -> None:
        reached = []
        async with ops.inside(move_on_after(0.01)):
            async with ops.inside(fail_after(1000)):
                async with ops.inside(move_on_after(1000)):
                    await ops.recv(Channel())
                reached.append("innermost")
            reached.append("inner")
        assert reached == []

    ops.run(body)


@both
def test_body_that_finished_in_time_raises_nothing(ops: Any) -> None:
    """A body that has finished before it noticed raises nothing, nor does one whose own error came first (X2)."""

    async def body(ops: Any) -> None:
        with fail_after(0.001) as scope:
            busy_until(scope)
        with pytest.raises(ValueError, match="own"), fail_after(0.001) as scope:
            busy_until(scope)
            raise ValueError("own")
        async with ops.inside(cancel_scope()) as scope:
            scope.cancel()

    ops.run(body)


def test_retrying_on_exceptions_does_not_swallow() -> None:
    """`except Exception: retry` ends with its scope (X2)."""
    attempts = 0
    with move_on_after(0.02):
        while True:
            attempts += 1
            try:
                Channel[int]().recv()
            except Exception:  # noqa: BLE001
                continue
    assert attempts == 1


def test_catching_everything_meets_the_ending_again() -> None:
    """Who swallows `Cancelled` gets it again at the next operation (X1)."""
    endings = 0
    with cancel_scope() as scope:
        scope.cancel()
        for _ in range(3):
            try:
                sleep(1000)
            except Cancelled:
                endings += 1
    assert endings == 3


def test_ending_among_other_errors() -> None:
    """An exception group is relieved of the endings of the scope it leaves (X2)."""
    with pytest.raises(ExceptionGroup) as raised, cancel_scope() as scope:
        scope.cancel()
        try:
            sleep(1)
        except Cancelled as ending:
            raise BaseExceptionGroup("two", [ending, ValueError("other")]) from None
    assert [type(error) for error in raised.value.exceptions] == [ValueError]


def test_cleaning_up_in_an_ended_scope() -> None:
    """`without_cancel().attach()` lets an ended scope's clean-up park (X1)."""
    channel: Channel[int] = Channel(1)
    with cancel_scope() as scope:
        try:
            scope.cancel()
            sleep(1)
        finally:
            with current().without_cancel().attach():
                channel.send(1)
    assert channel.recv() == 1


@both
def test_attach(ops: Any) -> None:
    """Makes a context ambient, any number of times, and neither cancels it nor stops its ending (X2)."""

    async def body(ops: Any) -> None:
        context = background.with_cancel()
        for _ in range(2):
            async with ops.inside(context.attach()):
                assert current() is context
            assert context.error is None
        context.cancel()
        with pytest.raises(Cancelled):
            async with ops.inside(context.attach()):
                await ops.recv(Channel())
        async with ops.inside(cancel_scope()) as scope:
            with background.attach():
                scope.cancel()
                channel: Channel[int] = Channel(1)
                await ops.send(channel, 1)
        attachment = context.attach()
        with attachment, pytest.raises(RuntimeError, match="attach"), attachment:
            pass

    ops.run(body)


def test_scopes_are_inherited_by_context_variables() -> None:
    """The ambient context is a context variable: copied with the others."""
    with cancel_scope() as scope:
        copied = contextvars.copy_context()
    assert copied.run(current) is scope


def test_sleep() -> None:
    """Sleeps at least as long as asked; not at all for zero or less, but looks at the context (X1)."""
    begun = time.monotonic()
    sleep(0.02)
    assert time.monotonic() - begun >= 0.02
    sleep(0)
    sleep(-1)
    ended = background.with_cancel()
    ended.cancel()
    with ended.attach(), pytest.raises(Cancelled):
        sleep(0)
    asyncio.run(asleep(0.001))


# Interrupting foreign awaits (X3)


async def foreign_wait() -> None:
    """An await that knows nothing of contexts."""
    await asyncio.get_running_loop().create_future()


def run(coroutine: Any) -> Any:
    async def limited() -> Any:
        async with asyncio.timeout(LIMIT):
            return await coroutine

    return asyncio.run(limited())


def uncancelled() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() == 0


def test_interrupts_foreign_awaits() -> None:
    """`async with` interrupts awaits that are not the library's, and leaves no cancellation behind (X3)."""

    async def body() -> None:
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.01):
                await foreign_wait()
        assert uncancelled()
        async with move_on_after(0.01):
            await foreign_wait()
        assert uncancelled()
        async with cancel_scope() as scope:
            threading.Timer(0.01, scope.cancel).start()
            await foreign_wait()
        assert uncancelled()
        await asyncio.sleep(0)

    run(body())


def test_inside_it_shows_as_cancelled() -> None:
    """The interrupted await of another library raises `asyncio.CancelledError`; operations raise `Cancelled` (X2)."""

    async def body() -> None:
        seen = []
        async with cancel_scope() as scope:
            scope.cancel()
            try:
                await foreign_wait()
            except asyncio.CancelledError:
                seen.append("foreign")
            try:
                await asleep(1)
            except Cancelled:
                seen.append("own")
        assert seen == ["foreign", "own"]
        assert uncancelled()

    run(body())


def test_plain_with_does_not_interrupt() -> None:
    """`with` in an asyncio task obeys at the library's operations alone (X3)."""

    async def body() -> None:
        with move_on_after(0.01) as scope:
            await asyncio.sleep(0.05)
            while not scope.done:  # noqa: ASYNC110  the timer may be served late
                await asyncio.sleep(0.01)
            await asleep(1000)

    run(body())


def test_with_asyncio_timeout() -> None:
    """Gets along with `asyncio.timeout`, either way round (X3)."""

    async def body() -> None:
        with pytest.raises(TimeoutError) as raised:
            async with asyncio.timeout(0.01), fail_after(1000):
                await foreign_wait()
        assert not isinstance(raised.value, DeadlineExceeded)
        with pytest.raises(DeadlineExceeded):
            async with asyncio.timeout(1000), fail_after(0.01):
                await foreign_wait()
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.01), asyncio.timeout(1000):
                await foreign_wait()
        with pytest.raises(TimeoutError):
            async with fail_after(1000), asyncio.timeout(0.01):
                await asleep(1000)
        assert uncancelled()

    run(body())


def test_with_task_group() -> None:
    """A scope around a TaskGroup ends its members; a scope inside leaves it alone (X3)."""

    async def body() -> None:
        ended = []

        async def member() -> None:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                ended.append(1)
                raise

        async with move_on_after(0.01), asyncio.TaskGroup() as group:
            group.create_task(member())
            group.create_task(member())
        assert ended == [1, 1]
        assert uncancelled()
        async with asyncio.TaskGroup() as group:
            other = group.create_task(asyncio.sleep(0.02, "fine"))
            async with move_on_after(0.001):
                await foreign_wait()
        assert other.result() == "fine"

    run(body())


def test_own_cancellation_passes() -> None:
    """The asyncio task's own cancellation is no ending of a scope (X3)."""

    async def body() -> None:
        async def inner() -> None:
            async with move_on_after(1000), cancel_scope():
                await asleep(1000)

        task = asyncio.create_task(inner())
        await asyncio.sleep(0.01)
        task.cancel("mine")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(body())


@pytest.mark.parametrize("order", ["task first", "scope first"])
@pytest.mark.parametrize("wait", [foreign_wait, lambda: asleep(1000)], ids=["foreign", "own"])
def test_both_in_one_instant(order: str, wait: Any) -> None:
    """If the scope ends and the task is cancelled in one instant, the task's own cancellation wins (X3)."""

    async def body() -> None:
        scopes = []

        async def inner() -> None:
            async with cancel_scope() as scope:
                scopes.append(scope)
                await wait()

        task = asyncio.create_task(inner())
        await asyncio.sleep(0.01)
        first, second = (task.cancel, scopes[0].cancel) if order == "task first" else (scopes[0].cancel, task.cancel)
        first()
        second()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()

    run(body())


def test_ending_as_the_body_ends() -> None:
    """A scope that ends while its body is finishing leaves no cancellation behind, ever (X3)."""

    async def body() -> None:
        for round_ in range(200):
            async with cancel_scope() as scope:
                thread = threading.Thread(target=scope.cancel)
                thread.start()
                for _ in range(round_ % 5):
                    await asyncio.sleep(0)
            thread.join()
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            assert uncancelled()

    run(body())


def test_nested_async_scopes_ending_together() -> None:
    """Outer and inner end at once: the outer one's ending passes the inner edge, and all counts are restored (X3)."""

    async def body() -> None:
        for _ in range(20):
            reached = False
            async with move_on_after(0.002):
                async with move_on_after(0.002):
                    async with move_on_after(0.002):
                        await foreign_wait()
                    await foreign_wait()
                reached = True
                await asleep(1000)
            assert uncancelled()
        assert reached in (True, False)

    run(body())


def test_async_scope_needs_a_task() -> None:
    """`async with` outside an asyncio task says so."""

    async def body() -> None:
        async with cancel_scope():
            pass

    coroutine = body()
    with pytest.raises(RuntimeError, match="task"):
        coroutine.send(None)
    coroutine.close()


def test_storm_of_async_scopes() -> None:
    """Scopes with random deadlines over random awaits: each task ends, with no cancellation left over (X3, C4)."""

    async def worker(seed: int) -> int:
        import random

        rng = random.Random(seed)
        channel: Channel[int] = Channel(1)
        ended = 0
        for _ in range(60):
            try:
                async with fail_after(rng.random() * 0.002):
                    async with move_on_after(rng.random() * 0.002):
                        await rng.choice([foreign_wait, channel.arecv, lambda: asyncio.sleep(rng.random() * 0.002)])()
                    await asyncio.sleep(rng.random() * 0.001)
            except DeadlineExceeded:
                ended += 1
            assert uncancelled()
        return ended

    async def body() -> None:
        counts = await asyncio.gather(*(worker(seed) for seed in range(10)))
        assert sum(counts) > 0

    run(body())


def test_who_ends_a_scope_never_has_its_task() -> None:
    """What may outlive a task in another thread does not refer to it: CPython 3.14.5, free-threaded, crashes when a
    task ends in a thread that is not its loop's while garbage is collected (CPython issue 153809)."""

    async def scenario() -> None:
        async with Context.background().with_cancel() as scope:
            interrupter = scope.interrupter()
            assert asyncio.current_task() in gc.get_referents(interrupter)
        shared = [scope, interrupter]
        assert not [thing for thing in gc.get_referents(*shared) if isinstance(thing, asyncio.Task)]

    asyncio.run(scenario())
