"""What Go's tests of the `context` package probe (context_test.go, x_test.go, afterfunc_test.go), in our words.

Custom contexts, which Go has as an interface, and counts of allocations have no counterpart here.
"""

from __future__ import annotations

import random
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from colours import COLOURS, LIMIT

from penstock import (
    Cancelled,
    Channel,
    Context,
    DeadlineExceeded,
    Group,
    WaitGroup,
    go,
    select,
)
from penstock._kernel.timers import pending_timers

if TYPE_CHECKING:
    from collections.abc import Callable

both = pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)
background = Context.background()

FOREVER = 1e6
SHORT = 0.01


async def ended(ops: Any, context: Context) -> bool:
    """Does `done` say so, at once?"""
    got = await ops.select(context.done, default=True)
    assert got is None or got.ok is False
    return got is not None


# x_test.go


def cancelled(context: Context, *causes: Any) -> Context:
    context.cancel(*causes)
    return context


def child_after(*steps: tuple[int, Any]) -> Context:
    """The child of a parent of which each step cancels one: 0 the parent, 1 the child."""
    parent = background.with_cancel()
    child = parent.with_cancel()
    for which, cause in steps:
        (parent, child)[which].cancel(cause)
    return child


def below(make: Callable[[Context], Context], cause: Any, parent: Context | None = None) -> Context:
    """A context made from a parent that is cancelled afterwards."""
    parent = background.with_cancel() if parent is None else parent
    context = make(parent)
    parent.cancel(cause)
    return context


ITSELF = object()

CAUSES: dict[str, tuple[Callable[[], Context], type[BaseException] | None, Any]] = {
    # how it is made, the kind of its error, its cause
    "background": (lambda: background, None, None),
    "cancelled": (lambda: cancelled(background.with_cancel()), Cancelled, ITSELF),
    "cancelled with a cause": (lambda: cancelled(background.with_cancel(), "why"), Cancelled, "why"),
    "cancelled with None": (lambda: cancelled(background.with_cancel(), None), Cancelled, ITSELF),
    "cancelled with a false cause": (lambda: cancelled(background.with_cancel(), 0), Cancelled, 0),
    "parent before child": (lambda: child_after((0, "parent"), (1, "child")), Cancelled, "parent"),
    "parent after child": (lambda: child_after((1, "child"), (0, "parent")), Cancelled, "child"),
    "parent before child without": (lambda: child_after((0, "parent"), (1, None)), Cancelled, "parent"),
    "parent after child without": (lambda: child_after((1, None), (0, "parent")), Cancelled, ITSELF),
    "child after parent without": (lambda: child_after((0, None), (1, "child")), Cancelled, ITSELF),
    "child before parent without": (lambda: child_after((1, "child"), (0, None)), Cancelled, "child"),
    "timed out": (lambda: cancelled(background.with_timeout(0), "late"), DeadlineExceeded, ITSELF),
    "timeout, cancelled": (lambda: cancelled(background.with_timeout(FOREVER)), Cancelled, ITSELF),
    "timed out with a cause": (lambda: cancelled(background.with_timeout(0, "slow")), DeadlineExceeded, "slow"),
    "timeout with a cause, cancelled": (lambda: cancelled(background.with_timeout(FOREVER, "slow")), Cancelled, ITSELF),
    "timed out below what is cancelled": (
        lambda: below(lambda parent: parent.with_timeout(0, "slow"), "finished"),
        DeadlineExceeded,
        "slow",
    ),
    "timeout below what is cancelled": (
        lambda: below(lambda parent: parent.with_timeout(FOREVER, "slow"), "finished"),
        Cancelled,
        "finished",
    ),
    "later deadline than its parent's": (
        lambda: background.with_timeout(0, "parent's").with_timeout(FOREVER, "slow"),
        DeadlineExceeded,
        "parent's",
    ),
    "value below what is cancelled": (
        lambda: below(lambda parent: parent.with_value("key", 1), "finished"),
        Cancelled,
        "finished",
    ),
    "detached": (background.without_cancel, None, None),
    "detached below what is cancelled": (lambda: below(Context.without_cancel, "finished"), None, None),
    "detached below what timed out": (lambda: background.with_timeout(0, "slow").without_cancel(), None, None),
}


@pytest.mark.parametrize("name", CAUSES)
def test_cause(name: str) -> None:
    """Error and cause of every kind of ending (TestCause, TestWithCancelCause)."""
    make, kind, cause = CAUSES[name]
    context = make()
    error = context.error
    assert error is None if kind is None else type(error) is kind
    if cause is ITSELF:
        assert context.cause is error
    else:
        assert context.cause == cause
    if kind is not None:
        with pytest.raises(Cancelled) as shown:  # inside it always shows so, the deadline's too
            context.check()
        assert shown.value.cause is context.cause
    assert not pending_timers()


def test_cause_race() -> None:
    """Who polls the cause sees the whole of it (TestCauseRace)."""
    for _ in range(200):
        context = background.with_cancel()
        why = ValueError("why")
        task = go(context.cancel, why)
        while context.cause is None:
            time.sleep(0)
        assert context.cause is why
        task.result()


def test_error_and_done_race() -> None:
    """Error set and `done` closed are one to everybody, whichever is looked at first (TestContextErrDoneRace)."""
    for number in range(200):
        context = background.with_timeout(0.0005) if number % 2 else background.with_cancel()
        task = None if number % 2 else go(context.cancel)
        if number % 4 < 2:
            while context.error is None:
                time.sleep(0)
            assert context.done.recv_ok(timeout=LIMIT) == (None, False)
        else:
            context.done.recv_ok(timeout=LIMIT)
            assert context.error is not None
        if task is not None:
            task.result()


@both
def test_with_cancel(ops: Any) -> None:
    """One channel for all who ask, silent until the end; then the error stays (TestWithCancel)."""

    async def body(ops: Any) -> None:
        context = background.with_cancel()
        done = context.done
        assert done == context.done
        assert not await ended(ops, context)
        assert context.error is None
        context.cancel()
        for _ in range(2):
            assert await ended(ops, context)
            assert isinstance(context.error, Cancelled)
            assert context.error is context.error
            context.cancel("too late")
        assert done.closed

    ops.run(body)


@both
@pytest.mark.parametrize("layer", ["none", "value", "cancel", "later deadline"])
def test_deadline_and_timeout(ops: Any, layer: str) -> None:
    """It ends by the clock, and so does what is derived from it (TestDeadline, TestTimeout)."""

    async def body(ops: Any) -> None:
        for make in (
            lambda: background.with_timeout(SHORT),
            lambda: background.with_deadline(time.monotonic() + SHORT),
            lambda: background.with_deadline(time.monotonic() - 1),
            lambda: background.with_timeout(0),
        ):
            context = make()
            deadline = context.deadline
            assert deadline is not None
            if layer == "value":
                context = context.with_value("key", 1)
            elif layer == "cancel":
                context = context.with_cancel()
            elif layer == "later deadline":
                context = context.with_timeout(FOREVER)
            assert context.deadline == deadline
            assert await ops.recv_ok(context.done, timeout=LIMIT) == (None, False)
            assert time.monotonic() >= deadline
            assert isinstance(context.error, DeadlineExceeded)

    ops.run(body)


@both
def test_cancelled_timeout(ops: Any) -> None:
    """Cancelled before its time, twice: it is cancelled, and nothing of its deadline is left (TestCanceledTimeout)."""

    async def body(ops: Any) -> None:
        outer = background.with_timeout(FOREVER)
        context = outer.with_timeout(FOREVER - 1)
        assert context.deadline is not None
        assert outer.deadline is not None
        assert context.deadline < outer.deadline
        context.cancel()
        context.cancel()
        assert await ended(ops, context)
        assert isinstance(context.error, Cancelled)
        assert not await ended(ops, outer)
        assert pending_timers() == 1
        outer.cancel()
        assert not pending_timers()

    ops.run(body)


def test_the_deadline_is_a_timeout() -> None:
    """What code that knows nothing of the library can ask of the error (TestDeadlineExceededSupportsTimeout)."""
    error = background.with_timeout(0).error
    assert isinstance(error, TimeoutError)
    assert "deadline exceeded" in str(error)


def test_values() -> None:
    """The nearest wins; keys of other types are other keys; endings change nothing (TestValues)."""

    class Key:
        def __init__(self, number: int) -> None:
            self.number = number

        def __eq__(self, other: object) -> bool:
            return isinstance(other, Key) and self.number == other.number

        def __hash__(self) -> int:
            return hash(self.number)

    one = background.with_value(Key(1), "1")
    two = one.with_value(Key(2), "2")
    three = two.with_cancel().with_value(Key(3), "3").with_timeout(FOREVER)
    hidden = three.with_value(Key(1), None)
    shared = hidden.without_cancel()
    assert [one.value(Key(number)) for number in (1, 2, 3)] == ["1", None, None]
    assert [two.value(Key(number)) for number in (1, 2, 3)] == ["1", "2", None]
    assert [three.value(Key(number)) for number in (1, 2, 3)] == ["1", "2", "3"]
    assert [hidden.value(Key(number)) for number in (1, 2, 3)] == [None, "2", "3"]
    assert [shared.value(Key(number)) for number in (1, 2, 3)] == [None, "2", "3"]
    assert three.value(1) is None
    hidden.cancel()
    three.cancel()
    assert [shared.value(Key(number)) for number in (1, 2, 3)] == [None, "2", "3"]
    assert [three.value(Key(number)) for number in (1, 2, 3)] == ["1", "2", "3"]
    with pytest.raises(TypeError, match="must not be None"):
        background.with_value(None, 1)  # TestWithValueChecksKey


@both
def test_parent_finishes_child(ops: Any) -> None:
    """Everything that was derived from it ends with it, at once, and so does what is derived later
    (TestParentFinishesChild, TestWithCancelCanceledParent)."""

    async def body(ops: Any) -> None:
        parent = background.with_cancel()
        value = parent.with_value("key", "value")
        children = [parent.with_cancel(), value, value.with_timeout(FOREVER), parent.with_cancel().with_value(1, 2)]
        called: Channel[int] = Channel(1)
        stop = parent.after_func(lambda: called.send(1))
        apart = parent.without_cancel()
        for each in (parent, *children, apart):
            assert not await ended(ops, each)
        parent.cancel("why")
        late = [parent.with_cancel(), parent.with_value("key", 2), children[0].with_timeout(FOREVER)]
        for each in (parent, *children, *late):
            assert await ended(ops, each)
            assert isinstance(each.error, Cancelled)
            assert each.cause == "why"
        assert not await ended(ops, apart)
        assert await ops.recv(called, timeout=LIMIT) == 1
        assert not stop()
        assert not pending_timers()

    ops.run(body)


@both
def test_child_finishes_first(ops: Any) -> None:
    """A child that ends tells its parent nothing (TestChildFinishesFirst)."""

    async def body(ops: Any) -> None:
        for parent in (background, background.with_cancel(), background.with_value("key", 1)):
            child = parent.with_cancel()
            child.cancel("mine")
            assert await ended(ops, child)
            assert isinstance(child.error, Cancelled)
            assert not await ended(ops, parent)
            assert parent.error is None
            assert parent.cause is None

    ops.run(body)


def test_derived_while_the_parent_is_cancelled() -> None:
    """Whatever the instant, the child ends, with its parent's cause (TestWithCancelSimultaneouslyCanceledParent)."""
    for _ in range(200):
        parent = background.with_cancel()
        task = go(parent.cancel, "why")
        child = parent.with_cancel() if _ % 2 else parent.with_timeout(FOREVER)
        assert child.done.recv_ok(timeout=LIMIT) == (None, False)
        assert isinstance(child.error, Cancelled)
        assert child.cause == "why"
        task.result()
    assert not pending_timers()


@both
def test_simultaneous_cancels(ops: Any) -> None:
    """A tree of which every node is cancelled at once, by a task each: all end (TestSimultaneousCancels)."""

    async def body(ops: Any) -> None:
        tree = [background.with_cancel()]
        for at in range(30):
            tree += [tree[at].with_cancel() for _ in range(4)]
        order = tree.copy()
        random.shuffle(order)
        counted = WaitGroup()
        for each in order:
            counted.go(each.cancel)
        random.shuffle(order)
        for each in order:
            assert await ops.recv_ok(each.done, timeout=LIMIT) == (None, False)
        await ops.call(counted, "wait", timeout=LIMIT)

    ops.run(body)


@both
def test_interlocked_cancels(ops: Any) -> None:
    """One who waits for the parent's end cancels the child, which is ending already (TestInterlockedCancels)."""

    async def body(ops: Any) -> None:
        for _ in range(50):
            parent = background.with_cancel()
            child = parent.with_cancel()

            async def cancels(ops: Any, parent: Context = parent, child: Context = child) -> None:
                await ops.recv_ok(parent.done, timeout=LIMIT)
                child.cancel("second")

            other = ops.spawn(cancels, ops)
            parent.cancel("first")
            assert await ops.recv_ok(child.done, timeout=LIMIT) == (None, False)
            await other.outcome()
            assert child.cause in {"first", "second"}

    ops.run(body)


@both
@pytest.mark.parametrize("timed", [False, True], ids=["cancel", "timeout"])
@pytest.mark.parametrize("seed", range(5))
def test_layers(ops: Any, seed: int, timed: bool) -> None:
    """Thirty layers of values, cancellations and deadlines: one that ends ends what is below, and values stay
    (TestLayersCancel, TestLayersTimeout)."""

    async def body(ops: Any) -> None:
        chance = random.Random(seed)
        layers: list[Context] = [background]
        kinds = [0, 1, 2, *(chance.randrange(3) for _ in range(27))]
        chance.shuffle(kinds)
        for number, kind in enumerate(kinds):
            innermost = layers[-1]
            if kind == 0:
                layers.append(innermost.with_value(number, number))
            elif kind == 1:
                layers.append(innermost.with_cancel())
            else:
                layers.append(innermost.with_timeout(chance.random() * 5 * SHORT if timed else FOREVER))

        def check() -> None:
            for number, kind in enumerate(kinds):
                assert layers[-1].value(number) == (number if kind == 0 else None)

        check()
        assert str(layers[-1]).startswith("background.")
        if timed:
            assert await ops.recv_ok(layers[-1].done, timeout=LIMIT) == (None, False)
            assert isinstance(layers[-1].error, DeadlineExceeded)
        else:
            assert not await ended(ops, layers[-1])
            which = 1 + chance.randrange(len(kinds))
            layers[which].cancel(which)
            assert [await ended(ops, each) for each in layers] == [at >= which for at in range(len(layers))]
            assert layers[-1].cause == which
        check()
        layers[1].cancel()
        for each in layers[1:]:  # those whose deadline has not come
            each.cancel()
        assert not pending_timers()

    ops.run(body)


def test_without_cancel() -> None:
    """Neither ending, deadline nor cause come through; values do (TestWithoutCancel)."""
    context = background.with_value("key", "value")
    apart = context.without_cancel()
    assert (apart.error, apart.cause, apart.deadline, bool(apart.done)) == (None, None, None, False)
    assert apart.value("key") == "value"
    timed = background.with_timeout(0).with_value("key", "value").without_cancel()
    assert (timed.error, timed.cause, timed.deadline, bool(timed.done)) == (None, None, None, False)
    timed.check()
    below_it = timed.with_cancel()
    below_it.cancel()
    assert isinstance(below_it.error, Cancelled)
    assert timed.error is None


# After functions


@both
def test_after_func_is_called_after_the_end(ops: Any) -> None:
    """Not before; then in a task of its own (TestAfterFuncCalledAfterCancel, TestAfterFuncCalledAfterTimeout)."""

    async def body(ops: Any) -> None:
        for end in (None, SHORT):
            context = background.with_cancel() if end is None else background.with_timeout(end)
            called: Channel[int] = Channel()
            stop = context.after_func(lambda called=called: called.send(threading.get_ident()))  # type: ignore[misc]
            if end is None:
                with pytest.raises(TimeoutError):
                    await ops.recv(called, timeout=SHORT)
                context.cancel()  # which does not wait for it: it waits for us (TestAfterFuncCalledAsynchronously)
            assert await ops.recv(called, timeout=LIMIT) != threading.get_ident()
            assert stop() is False

    ops.run(body)


@both
def test_after_func_of_what_has_ended(ops: Any) -> None:
    """Is called at once; stopping comes too late (TestAfterFuncCalledImmediately)."""

    async def body(ops: Any) -> None:
        for context in (cancelled(background.with_cancel()), background.with_timeout(0).with_value("key", 1)):
            called: Channel[int] = Channel()
            stop = context.after_func(lambda called=called: called.send(1))  # type: ignore[misc]
            assert stop() is False
            assert await ops.recv(called, timeout=LIMIT) == 1

    ops.run(body)


@both
def test_after_func_stopped(ops: Any) -> None:
    """It is not called; the second stop says no (TestAfterFuncNotCalledAfterStop)."""

    async def body(ops: Any) -> None:
        context = background.with_cancel()
        called: Channel[int] = Channel(2)
        stop = context.after_func(lambda: called.send(1))
        other = context.after_func(lambda: called.send(2))  # each for itself
        assert stop() is True
        assert stop() is False
        context.cancel()
        assert stop() is False
        assert await ops.recv(called, timeout=LIMIT) == 2
        with pytest.raises(TimeoutError):
            await ops.recv(called, timeout=SHORT)
        assert other() is False

    ops.run(body)


def test_after_func_stopped_in_the_instant_of_the_end() -> None:
    """Either stop says that it will not be called, or it is called (afterfunc_test.go's promise)."""
    for _ in range(200):
        context = background.with_cancel()
        called: Channel[int] = Channel(1)
        stop = context.after_func(lambda called=called: called.send(1))  # type: ignore[misc]
        with Group() as group:
            group.go(context.cancel)
            stopped = group.go(stop)
        if stopped.result():
            assert len(called) == 0
        else:
            assert called.recv(timeout=LIMIT) == 1


def test_after_func_of_the_background_never_comes() -> None:
    """What never ends calls nothing, and can be stopped once."""
    for context in (background, background.with_cancel().without_cancel()):
        stop = context.after_func(lambda: pytest.fail("called"))
        assert stop() is True
        assert stop() is False


@both
def test_after_func_may_use_the_context(ops: Any) -> None:
    """The function finds its context ended, may derive from it, and stop itself too late (ExampleAfterFunc_merge)."""

    async def body(ops: Any) -> None:
        first = background.with_cancel()
        second = background.with_cancel()
        stop = second.after_func(lambda: first.cancel(second.cause))  # the two merged
        second.cancel("second")
        assert await ops.recv_ok(first.done, timeout=LIMIT) == (None, False)
        assert first.cause == "second"
        found: Channel[Any] = Channel(1)
        context = background.with_cancel()

        def late() -> None:
            found.send((context.error, context.with_cancel().error, stop()))

        context.after_func(late)
        context.cancel()
        error, derived, stopped = await ops.recv(found, timeout=LIMIT)
        assert isinstance(error, Cancelled)
        assert isinstance(derived, Cancelled)
        assert stopped is False

    ops.run(body)


def test_many_wait_for_one_end() -> None:
    """Two hundred tasks wait for one context, in select and for its channel alone; all go on."""
    context = background.with_cancel()
    waiting = [go(context.done.recv_ok) for _ in range(100)]
    waiting += [go(select, Channel[None](), context.done) for _ in range(100)]
    context.cancel()
    assert [task.result(timeout=LIMIT) for task in waiting[:100]] == [(None, False)] * 100
    assert {task.result(timeout=LIMIT).index for task in waiting[100:]} == {1}
