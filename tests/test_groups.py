"""Tasks and groups, clause by clause."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import gc
import inspect
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from colours import COLOURS, LIMIT

from penstock import (
    Cancelled,
    Channel,
    Context,
    DeadlineExceeded,
    Group,
    Task,
    WaitGroup,
    asleep,
    cancel_scope,
    current,
    fail_after,
    go,
    move_on_after,
    select,
    sleep,
)

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)


class OopsError(Exception):
    """What members fail with."""


def failing(error: BaseException) -> None:
    raise error


def for_ever() -> None:
    Channel[None]().recv()


# Leaving the block


@both
def test_the_block_waits_for_all(ops: Any) -> None:
    """All members have ended when the block has been left, and their results are there (T1)."""

    async def body(ops: Any) -> None:
        ended: list[int] = []

        def work(number: int) -> int:
            sleep(0.01 * (3 - number))
            ended.append(number)
            return number * 10

        async with ops.inside(Group()) as group:
            tasks = [group.go(work, number) for number in range(3)]
        assert sorted(ended) == [0, 1, 2]
        assert [await ops.call(task, "result") for task in tasks] == [0, 10, 20]
        assert all(task.done for task in tasks)

    ops.run(body)


@both
def test_a_failure_cancels_the_others_and_comes_out_in_a_group(ops: Any) -> None:
    """The first failure cancels; all failures come out together; who ended because of it has not failed (T1)."""

    async def body(ops: Any) -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with ops.inside(Group()) as group:
                waiting = group.go(for_ever)
                group.go(failing, OopsError("first"))
        assert [str(error) for error in raised.value.exceptions] == ["first"]
        assert "1 member of a group failed" in str(raised.value)
        with pytest.raises(Cancelled):
            await ops.call(waiting, "result")
        assert isinstance(group.context.cause, OopsError)

    ops.run(body)


@both
def test_all_failures_are_there(ops: Any) -> None:
    """Failures that come while the others are being waited for are not lost (T1)."""

    async def body(ops: Any) -> None:
        def fails_when_cancelled() -> None:
            try:
                for_ever()
            except Cancelled:
                raise OopsError("second") from None

        with pytest.raises(ExceptionGroup) as raised:
            async with ops.inside(Group()) as group:
                group.go(fails_when_cancelled)
                sleep(0.01) if ops.name == "threads" else await asyncio.sleep(0.01)
                raise OopsError("first")
        assert [str(error) for error in raised.value.exceptions] == ["first", "second"]

    ops.run(body)


@both
def test_the_body_is_a_member(ops: Any) -> None:
    """Its failure cancels the others, and it is cancelled by theirs (T1)."""

    async def body(ops: Any) -> None:
        with pytest.raises(ExceptionGroup) as raised:
            async with ops.inside(Group()) as group:
                task = group.go(for_ever)
                raise OopsError("body")
        assert [type(error) for error in raised.value.exceptions] == [OopsError]
        assert isinstance(task._error, Cancelled)
        with pytest.raises(ExceptionGroup) as raised:
            async with ops.inside(Group()) as group:
                group.go(failing, OopsError("member"))
                await ops.recv(Channel())
        assert [str(error) for error in raised.value.exceptions] == ["member"]

    ops.run(body)


@both
def test_cancelling_the_group_ends_it_quietly(ops: Any) -> None:
    """An ending caused by the group's context is no failure (T1)."""

    async def body(ops: Any) -> None:
        async with ops.inside(Group()) as group:
            task = group.go(for_ever)
            group.context.cancel("enough")
        assert group.context.cause == "enough"
        with pytest.raises(Cancelled, match="enough"):
            await ops.call(task, "result")

    ops.run(body)


@both
def test_an_ending_from_above_passes_through_bare(ops: Any) -> None:
    """A context above the group ends: `Cancelled` leaves the block as it is, and stops at its own scope (T1)."""

    async def body(ops: Any) -> None:
        passed = False
        async with ops.inside(move_on_after(0.02)):
            try:
                async with ops.inside(Group()) as group:
                    group.go(for_ever)
            except Cancelled:
                passed = True
                raise
        assert passed
        with pytest.raises(DeadlineExceeded):
            async with ops.inside(fail_after(0.02)), ops.inside(Group()) as group:
                group.go(for_ever)

    ops.run(body)


@both
def test_an_ending_from_above_that_no_member_notices(ops: Any) -> None:
    """Leaving the block obeys the context: what ended shows, once all members have ended (T1, X1)."""

    async def body(ops: Any) -> None:
        ended: list[int] = []
        begun: Channel[None] = Channel(1)

        def deaf() -> None:
            begun.send(None)
            time.sleep(0.05)
            ended.append(1)

        async with ops.inside(cancel_scope()) as scope:
            with pytest.raises(Cancelled) as raised:
                async with ops.inside(Group()) as group:
                    group.go(deaf)
                    await ops.recv(begun)
                    scope.cancel()
            assert raised.value.origin is scope
            assert ended == [1]

    ops.run(body)


@both
def test_failures_together_with_an_ending_from_above(ops: Any) -> None:
    """The failures are raised; the ending shows at the next parking operation (T1)."""

    async def body(ops: Any) -> None:
        def fails_when_cancelled() -> None:
            try:
                for_ever()
            except Cancelled:
                raise OopsError from None

        async with ops.inside(cancel_scope()) as outer:
            with pytest.raises(ExceptionGroup) as raised:
                async with ops.inside(Group()) as group:
                    group.go(fails_when_cancelled)
                    await ops.pause()
                    outer.cancel()
            assert [type(error) for error in raised.value.exceptions] == [OopsError]
            with pytest.raises(Cancelled):
                await ops.recv(Channel(1))

    ops.run(body)


@both
def test_a_result_of_a_cancelled_task_is_an_ending_of_somebody_elses(ops: Any) -> None:
    """It passes bare, and cancels the group (T1)."""

    async def body(ops: Any) -> None:
        async with ops.inside(Group()) as elsewhere:
            task = elsewhere.go(for_ever)
            task.cancel("just that one")
        with pytest.raises(Cancelled, match="just that one"):
            async with ops.inside(Group()) as group:
                other = group.go(for_ever)
                await ops.call(task, "result")
        assert group.context.error is not None
        assert isinstance(other._error, Cancelled)

    ops.run(body)


@both
def test_a_member_cancelled_alone_leaves_the_others_at_work(ops: Any) -> None:
    """`Task.cancel` is no failure of the group (T1)."""

    async def body(ops: Any) -> None:
        channel: Channel[int] = Channel(1)
        async with ops.inside(Group()) as group:
            lonely = group.go(for_ever)
            other = group.go(channel.recv)
            lonely.cancel()
            await ops.recv_ok(lonely.done)
            await ops.send(channel, 7)
        assert await ops.call(other, "result") == 7

    ops.run(body)


@both
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_interrupts_pass_bare_and_win(ops: Any, kind: type[BaseException]) -> None:
    """The failures become their context (T1)."""
    if ops.name == "uvloop":
        pytest.skip("uvloop stops at once on these, in the middle of the task, as asyncio's loop does")

    async def body(ops: Any) -> None:
        def fails_when_cancelled() -> None:
            try:
                for_ever()
            except Cancelled:
                raise OopsError("late") from None

        with pytest.raises(kind) as raised:
            async with ops.inside(Group()) as group:
                group.go(fails_when_cancelled)
                await ops.pause()
                raise kind
        assert isinstance(raised.value.__context__, BaseExceptionGroup)
        assert [type(error) for error in raised.value.__context__.exceptions] == [OopsError]
        with pytest.raises(kind):
            with Group() as threads:
                threads.go(failing, kind())

    if ops.name == "threads":
        ops.run(body)
    else:
        # A with-block of threads inside a running loop would block it: that part is for threads.
        async def async_body(ops: Any) -> None:
            with pytest.raises(kind):
                async with ops.inside(Group()) as group:
                    group.go(for_ever)
                    raise kind

        ops.run(async_body)


def test_asyncios_own_cancellation_passes_bare_and_waits() -> None:
    """The asyncio task's cancellation cancels the group, waits for the members, and leaves bare (T1)."""

    async def main() -> None:
        left: list[str] = []

        async def member() -> None:
            try:
                await asleep(1000)
            finally:
                await asyncio.sleep(0.01)
                left.append("member")

        async def owner() -> None:
            async with Group() as group:
                group.go(member)
                group.go(for_ever)
                await asleep(1000)

        task = asyncio.create_task(owner())
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert left == ["member"]

    asyncio.run(main())


def test_asyncios_cancellation_during_the_wait() -> None:
    """Cancelled while it waits for its members: cancels them, waits for them, and leaves bare (T1)."""

    async def main() -> None:
        entered = asyncio.Event()
        started: Channel[int] = Channel(1)
        ended: list[int] = []

        def member() -> None:
            try:
                started.send(1)
                for_ever()
            finally:
                time.sleep(0.02)
                ended.append(1)

        async def owner() -> None:
            async with Group() as group:
                group.go(member)
                entered.set()

        task = asyncio.create_task(owner())
        await entered.wait()
        await started.arecv()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert ended == [1]

    asyncio.run(main())


def test_a_task_groups_endings_are_no_failures() -> None:
    """A member whose asyncio.TaskGroup was ended with the group has not failed (T1, X3)."""

    async def member() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(Channel[int]().arecv())
            tasks.create_task(Channel[int]().arecv())

    async def fails() -> None:
        await asyncio.sleep(0.01)
        raise OopsError

    async def main() -> None:
        async with Group() as group:
            group.go(member)
            await asyncio.sleep(0.01)
            group.context.cancel()
        with pytest.raises(ExceptionGroup) as raised:
            async with Group() as group:
                group.go(member)
                group.go(fails)
        assert [type(error) for error in raised.value.exceptions] == [OopsError]
        async with move_on_after(0.01) as scope:
            async with Group() as group:
                group.go(member)
                await member()
        assert scope.error is not None

    asyncio.run(main())


@both
def test_endings_among_a_members_failures(ops: Any) -> None:
    """Of an exception group only what is no ending is a failure; an ending from above passes bare (T1)."""

    async def body(ops: Any) -> None:
        def fails(others: list[BaseException]) -> None:
            try:
                for_ever()
            except Cancelled as ending:
                raise BaseExceptionGroup("mixed", [ending, *others]) from None

        outer = current().with_cancel()
        with pytest.raises(ExceptionGroup) as raised:
            async with ops.inside(outer), ops.inside(Group()) as group:
                group.go(fails, [OopsError("own")])
                await ops.pause()
                group.context.cancel()
        assert str(raised.value.exceptions[0].exceptions[0]) == "own"
        outer = current().with_cancel()
        with outer.attach():
            with pytest.raises(Cancelled) as ended:
                async with ops.inside(Group()) as group:
                    group.go(fails, [])
                    await ops.pause()
                    outer.cancel("above")
        assert ended.value.cause == "above"

    ops.run(body)


def test_gets_along_with_asyncio_task_groups() -> None:
    """A group inside a TaskGroup, cancelled by a sibling's failure (X3, T1)."""

    async def main() -> None:
        ended: list[str] = []

        async def inner() -> None:
            try:
                async with Group() as group:
                    group.go(asleep, 1000)
            finally:
                ended.append("inner")

        async def fails() -> None:
            await asyncio.sleep(0.01)
            raise OopsError

        with pytest.raises(ExceptionGroup) as raised:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(inner())
                tasks.create_task(fails())
        assert [type(error) for error in raised.value.exceptions] == [OopsError]
        assert ended == ["inner"]

    asyncio.run(main())


def test_threads_and_asyncio_tasks_in_one_group() -> None:
    """One group, both colours: a failure in a thread cancels an asyncio task and the other way round (C2, T1)."""

    async def sleeps(log: list[str]) -> None:
        try:
            await asyncio.sleep(1000)  # not the library's: interrupted through the task's own cancellation
        except asyncio.CancelledError:
            log.append("interrupted")
            raise

    async def fails() -> None:
        raise OopsError("async")

    async def main() -> None:
        log: list[str] = []
        with pytest.raises(ExceptionGroup):
            async with Group() as group:
                group.go(sleeps, log)
                await asyncio.sleep(0.01)
                group.go(failing, OopsError("thread"))
        assert log == ["interrupted"]
        with pytest.raises(ExceptionGroup):
            async with Group() as group:
                thread = group.go(for_ever)
                group.go(fails)
        assert isinstance(thread._error, Cancelled)

    asyncio.run(main())


def test_a_group_ended_by_its_own_task_from_another_thread() -> None:
    """Members may start members, from any thread, until the block has been left (C2)."""

    async def leaf(log: list[int]) -> None:
        log.append(threading.get_ident())

    async def main() -> None:
        log: list[int] = []

        def branch(group: Group, depth: int) -> None:
            if depth:
                group.go(branch, group, depth - 1)
                group.go(branch, group, depth - 1)
            else:
                group.go(leaf, log)

        async with Group() as group:
            group.go(branch, group, 4)
        assert log == [threading.get_ident()] * 16

    asyncio.run(main())


def test_the_block_leaves_its_context(recwarn: pytest.WarningsRecorder) -> None:
    """Afterwards the ambient context is what it was; the group's has ended."""
    before = current()
    with Group() as group:
        assert current() is group.context
    assert current() is before
    assert group.context.error is not None
    assert not recwarn.list


# The limit, clause T2.


@both
def test_the_limit_holds(ops: Any) -> None:
    """No more than `limit` at work at once; `go` waits until a place is free (T2)."""

    async def body(ops: Any) -> None:
        working = peak = 0
        guard = threading.Lock()

        def work() -> None:
            nonlocal working, peak
            with guard:
                working += 1
                peak = max(peak, working)
            time.sleep(0.001)
            with guard:
                working -= 1

        async with ops.inside(Group(limit=3)) as group:
            for _ in range(30):
                await ops.call(group, "go", work)
        assert peak == 3
        assert working == 0

    ops.run(body)


@both
def test_waiting_for_a_place_obeys_the_context(ops: Any) -> None:
    """At the limit `go` raises `Cancelled` when the context ends, and starts nothing (T2)."""

    async def body(ops: Any) -> None:
        gate: Channel[None] = Channel()
        started: list[int] = []
        async with ops.inside(Group(limit=1)) as group:
            await ops.call(group, "go", gate.recv_ok)
            async with ops.inside(move_on_after(0.02)) as limit:
                await ops.call(group, "go", started.append, 1)
            assert limit.error is not None
            assert group.try_go(started.append, 2) is None
            gate.close()
        assert started == []

    ops.run(body)


@both
def test_try_go(ops: Any) -> None:
    """A task if a place is free, None if not; a place is free again when the task has ended (T2)."""

    async def body(ops: Any) -> None:
        gate: Channel[int] = Channel()
        async with ops.inside(Group(limit=1)) as group:
            first = group.try_go(gate.recv)
            assert isinstance(first, Task)
            assert group.try_go(gate.recv) is None
            await ops.send(gate, 1)
            await ops.recv_ok(first.done)
            second = group.try_go(gate.recv)
            assert second is not None
            await ops.send(gate, 2)
        assert (await ops.call(first, "result"), await ops.call(second, "result")) == (1, 2)

    ops.run(body)


def test_a_failed_start_gives_its_place_back() -> None:
    """An async function that could not be started in a thread group costs no place."""

    async def coroutine_function() -> None:
        """Never run."""

    with Group(limit=1) as group:
        for _ in range(3):
            with pytest.raises(TypeError):
                group.go(coroutine_function)
        assert group.go(len, "abc").result() == 3


# Tasks


@both
def test_results_and_errors(ops: Any) -> None:
    """`result` gives what was returned or raises what was raised, any number of times (§6)."""

    async def body(ops: Any) -> None:
        good = go(max, 3, 4)
        assert await ops.call(good, "result") == 4
        assert await ops.call(good, "result", timeout=0) == 4
        bad = go(failing, OopsError("kept"))
        for _ in range(2):
            with pytest.raises(OopsError, match="kept"):
                await ops.call(bad, "result")
        slow = go(for_ever)
        with pytest.raises(TimeoutError):
            await ops.call(slow, "result", timeout=0.01)
        with pytest.raises(TimeoutError):
            await ops.call(slow, "result", timeout=0)
        async with ops.inside(move_on_after(0.01)):
            await ops.call(slow, "result")
        slow.cancel("enough")
        with pytest.raises(Cancelled, match="enough"):
            await ops.call(slow, "result")

    ops.run(body)


@both
def test_done_in_select(ops: Any) -> None:
    """`done` closes at the end: a case for select (§6)."""

    async def body(ops: Any) -> None:
        gate: Channel[int] = Channel()
        task = go(gate.recv)
        assert not task.done
        assert await ops.select(task.done, default=True) is None
        sending = await ops.select(gate.sending(5), task.done)
        assert sending.index == 0
        got = await ops.select(task.done, timeout=LIMIT)
        assert (got.index, got.ok, got.value) == (0, False, None)
        assert task.done
        assert task.result() == 5

    ops.run(body)


def test_names_and_states() -> None:
    gate: Channel[None] = Channel()
    task = go(gate.recv_ok)
    assert "running" in repr(task)
    assert "Channel.recv_ok" in repr(task)
    assert "Core" not in repr(task)
    gate.close()
    task.result()
    assert "done" in repr(task)
    cancelled = go(for_ever)
    cancelled.cancel()
    cancelled.done.recv_ok()
    assert "cancelled" in repr(cancelled)
    failed = go(failing, OopsError())
    failed.done.recv_ok()
    assert "failed" in repr(failed)
    with pytest.raises(OopsError):
        failed.result()


def test_async_tasks() -> None:
    """`go` of an async function is an asyncio task of the running loop; so is what wraps, or is marked as, one (§6)."""

    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return value * 2

    class Doubler:
        async def __call__(self, value: int) -> int:
            return await double(value)

    async def main() -> None:
        assert await go(double, 2).aresult() == 4
        assert await go(functools.partial(double, 3)).aresult() == 6
        if sys.version_info >= (3, 12):
            marked = inspect.markcoroutinefunction(lambda number: double(number + 1))
            assert await go(marked, 3).aresult() == 8
        assert await go(Doubler(), 4).aresult() == 8
        slow = go(asyncio.sleep, 1000)
        slow.cancel()
        with pytest.raises(Cancelled):
            await slow.aresult()

    asyncio.run(main())


def test_an_error_that_nobody_collects_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """...through sys.unraisablehook, with the task's name; one that was collected is not, nor a cancellation (§6)."""
    reports: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: reports.append((report.exc_value, report.object)))
    task = go(failing, OopsError("unseen"))
    task.done.recv_ok()
    del task
    deadline = time.monotonic() + LIMIT
    while not reports and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)
    ((error, _),) = reports
    assert isinstance(error, OopsError)
    assert "Nobody collected this error of the task failing" in error.__notes__[0]
    reports.clear()
    task = go(failing, OopsError("seen"))
    with pytest.raises(OopsError):
        task.result()
    cancelled = go(for_ever)
    cancelled.cancel()
    cancelled.done.recv_ok()
    del task, cancelled
    for _ in range(3):
        gc.collect()
        time.sleep(0.001)
    assert reports == []


def test_a_task_that_ends_with_its_loop_has_nothing_to_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """asyncio.run cancels the tasks that are left, and what was cancelled is no error that nobody collected (§6)."""
    seen: list[Any] = []
    monkeypatch.setattr("sys.unraisablehook", lambda report: seen.append(report.exc_value))

    async def main() -> None:
        go(asyncio.sleep, 1000)
        await asyncio.sleep(0.01)

    asyncio.run(main())
    gc.collect()
    loop = asyncio.new_event_loop()

    async def start() -> None:
        go(asyncio.sleep, 1000)
        await asyncio.sleep(0)

    loop.run_until_complete(start())
    for each in asyncio.all_tasks(loop):
        each.get_coro().close()  # type: ignore[union-attr]
        each._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    gc.collect()
    assert seen == []


def test_a_finished_task_keeps_nothing() -> None:
    """Neither the pool nor the task holds on to the function's arguments (leaks)."""

    class Argument:
        pass

    argument = Argument()
    watch = weakref.ref(argument)
    task = go(lambda _: None, argument)
    task.result()
    del argument
    deadline = time.monotonic() + LIMIT
    while watch() is not None and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.001)
    assert watch() is None
    assert task.done


# Threads, clause T3.


def test_threads_are_reused() -> None:
    """Tasks one after the other run in few threads (T3)."""
    seen = {go(threading.get_ident).result() for _ in range(200)}
    assert len(seen) < 20


def test_as_many_threads_as_tasks_that_wait() -> None:
    """A task never waits for a thread: a thousand that depend on the last one started all run (T3)."""
    gate: Channel[int] = Channel()
    with Group() as group:
        for _ in range(300):
            group.go(gate.recv_ok)
        group.go(gate.close)


def test_start_after_idle_threads_have_ended() -> None:
    """The pool's threads are the pool's affair: many rounds of starting and idling (T3)."""
    for _ in range(5):
        with Group() as group:
            for _ in range(20):
                group.go(time.sleep, 0)
        time.sleep(0.002)


def test_pool_threads_have_a_context_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread first started inside a scope does not carry that scope along to what it does later (T4)."""
    seen: Channel[Any] = Channel(1)
    monkeypatch.setattr("sys.excepthook", lambda *_: seen.send(current()))
    gate: Channel[None] = Channel()
    busy = [go(gate.recv_ok) for _ in range(50)]  # no thread is idle: the next is new
    with cancel_scope():
        task = go(gate.recv_ok)
    with pytest.raises(Cancelled):
        task.result()
    context = Context.background().with_cancel()
    context.after_func(lambda: failing(OopsError()))
    context.cancel()
    assert seen.recv(timeout=LIMIT) is Context.background()
    gate.close()
    for each in busy:
        each.result()


@both
def test_a_task_outlives_the_task_that_started_it(ops: Any) -> None:
    """A task that nobody owns goes on when its starter has ended, and ends with what is above both (§6, T4)."""

    async def body(ops: Any) -> None:
        gate: Channel[int] = Channel()
        middles: Channel[Any] = Channel(1)
        youngests: Channel[Any] = Channel(1)

        def youngest() -> int:
            return gate.recv()

        def middle() -> Context:
            youngests.send(go(youngest))
            return current()

        def oldest() -> Context:
            middles.send(go(middle))
            return current()

        async def async_oldest() -> Context:
            middles.send_nowait(go(middle))
            return current()

        starter = oldest if ops.name == "threads" else async_oldest
        scope = current().with_cancel()
        with scope.attach():
            first = await ops.call(go(starter), "result")
            second = await ops.call(await ops.recv(middles), "result")
            task = await ops.recv(youngests)
        assert (first.error, second.error) == (None, None)
        await ops.send(gate, 5)
        assert await ops.call(task, "result") == 5
        while first.error is None or second.error is None:  # forgotten with the last
            await ops.pause()
        with scope.attach():
            await ops.call(go(starter), "result")
            await ops.recv(middles)
            task = await ops.recv(youngests)
        scope.cancel("above")
        with pytest.raises(Cancelled) as ended:
            await ops.call(task, "result")
        assert ended.value.cause == "above"

    ops.run(body)


# Context variables, clause T4.

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


@both
def test_tasks_inherit_context_variables(ops: Any) -> None:
    """The ambient context and every other variable; what a task sets stays with it (T4)."""

    async def body(ops: Any) -> None:
        def look() -> tuple[str, Any]:
            seen = variable.get(), current().value("key")
            variable.set("changed in the task")
            return seen

        async def async_look() -> tuple[str, Any]:
            return look()

        token = variable.set("inherited")
        try:
            with Context.background().with_value("key", 5).attach():
                async with ops.inside(Group()) as group:
                    tasks = [group.go(look), go(look)]
                    if ops.name != "threads":
                        tasks += [group.go(async_look), go(async_look)]
                    for task in tasks:
                        assert await ops.call(task, "result") == ("inherited", 5)
            assert variable.get() == "inherited"
        finally:
            variable.reset(token)

    ops.run(body)


def test_a_task_in_an_ended_context_does_not_start() -> None:
    """The function is not called; the task has ended with `Cancelled` (X1)."""
    called: list[int] = []
    with cancel_scope() as scope:
        scope.cancel("over")
        task = go(called.append, 1)
    with pytest.raises(Cancelled, match="over"):
        task.result()
    assert called == []


# Misuse


def test_misuse() -> None:
    """Errors that name the misuse and the remedy (§6 of the issue's list)."""

    async def coroutine_function() -> None:
        """Never run."""

    for wrong, error in ((0, ValueError), (-1, ValueError), ("3", TypeError), (True, TypeError), (2.0, TypeError)):
        with pytest.raises(error, match="a group's limit must be"):
            Group(limit=wrong)  # type: ignore[arg-type]
    group = Group()
    with pytest.raises(RuntimeError, match="inside its block"):
        group.go(len, "")
    with pytest.raises(RuntimeError, match="once it has been entered"):
        _ = group.context
    with group:
        with pytest.raises(TypeError, match="is an async function, and this group runs threads; use 'async with"):
            group.go(coroutine_function)
        with pytest.raises(TypeError, match="takes a function and its arguments, not 5"):
            group.go(5)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="pass the function and its arguments, not their call"):
            group.go(coroutine_function())  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="has ended"):
        group.go(len, "")
    with pytest.raises(RuntimeError, match="entered before"), group:
        pass
    with pytest.raises(RuntimeError, match="is an async function, and this thread runs no event loop"):
        go(coroutine_function)
    with pytest.raises(TypeError, match="takes a function"):
        go(None)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="returned a coroutine; pass the async function itself"):
        go(lambda: coroutine_function()).result()  # noqa: PLW0108


def test_a_thread_group_inside_a_running_loop() -> None:
    """Leaving it would block the loop: an error that names `async with`, unless nothing is left to wait for (C3)."""

    async def main() -> None:
        with Group():
            pass
        with pytest.raises(RuntimeError, match="would block the event loop; use 'async with Group"):
            with Group() as group:
                group.go(for_ever)
        task = go(for_ever)
        with pytest.raises(RuntimeError, match=r"would block the event loop; use 'await a?.*aresult"):
            task.result()
        task.cancel()

    asyncio.run(main())


def test_generators_and_exceptions_in_order() -> None:
    """A group in a generator that is closed early: the members are cancelled and waited for."""
    started: Channel[int] = Channel(1)
    ended: list[int] = []

    def member() -> None:
        try:
            started.send(1)
            for_ever()
        finally:
            ended.append(1)

    def items() -> Any:
        with Group() as group:
            group.go(member)
            yield 1
            yield 2

    iterator = items()
    assert next(iterator) == 1
    started.recv()
    iterator.close()
    assert ended == [1]


# WaitGroup.go


def test_wait_group_go() -> None:
    """Counted until it has ended; an error nobody collects is still the task's own."""
    group = WaitGroup()
    gate: Channel[int] = Channel()
    tasks = [group.go(gate.recv) for _ in range(3)]
    assert group.count == 3
    with pytest.raises(TimeoutError):
        group.wait(0.001)
    for value in range(3):
        gate.send(value)
    group.wait(LIMIT)
    assert sorted(task.result() for task in tasks) == [0, 1, 2]
    failed = group.go(failing, OopsError())
    group.wait(LIMIT)
    with pytest.raises(OopsError):
        failed.result()


# Storms


def test_groups_cancelled_at_random_moments() -> None:
    """Whatever the moment, the block ends, all members have ended, and nothing but what was asked for comes out."""
    for number in range(300):
        active = 0
        guard = threading.Lock()

        def member(channel: Channel[int], guard: threading.Lock = guard) -> None:
            nonlocal active
            with guard:
                active += 1
            try:
                while True:
                    select(channel.sending(1), channel)
            finally:
                with guard:
                    active -= 1

        channel: Channel[int] = Channel()
        with move_on_after(0.0003 * (number % 10)), Group() as group:
            for _ in range(4):
                group.go(member, channel)
        assert active == 0
        statistics = channel.statistics()
        assert statistics.waiting_senders == statistics.waiting_receivers == 0


def test_async_groups_cancelled_at_random_moments() -> None:
    """The same with asyncio tasks, cancelled by scope, by asyncio, and by failure."""

    async def main() -> None:
        active = 0

        async def member(channel: Channel[int], number: int) -> None:
            nonlocal active
            active += 1
            try:
                for _ in range(number):
                    await channel.asend(1)
                    await asyncio.sleep(0)
                raise OopsError
            finally:
                active -= 1

        async def owner(number: int) -> None:
            channel: Channel[int] = Channel()
            async with Group() as group:
                for _ in range(3):
                    group.go(member, channel, number % 7 + 1)
                async for _ in channel:
                    pass

        for number in range(200):
            task = asyncio.create_task(owner(number))
            for _ in range(number % 11):
                await asyncio.sleep(0)
            if number % 3 == 0:
                task.cancel()
            try:
                await task
            except asyncio.CancelledError:
                assert number % 3 == 0
            except ExceptionGroup as failures:
                assert {type(error) for error in failures.exceptions} == {OopsError}
            assert active == 0

    asyncio.run(main())
