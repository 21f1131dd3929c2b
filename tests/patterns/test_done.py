"""Done: `call`, `first` (contract, section 7), and the faults of the slides."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until, until_collected

import penstock
from penstock import Cancelled, Channel, DeadlineExceeded, Group, OutOfCapacity, cancel_scope, fail_after
from penstock.patterns.done import abandoned, acall, afirst, call, first, limit_abandoned

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def leave_behind(release: threading.Event) -> None:
    """One call that is abandoned once it has begun, and runs until `release` is set."""
    begun = threading.Event()

    def stuck() -> None:
        begun.set()
        release.wait(20)

    def cancel() -> None:
        begun.wait(20)
        context.cancel()

    with cancel_scope() as context:
        threading.Thread(target=cancel).start()
        call(stuck)
        pytest.fail("it has been waited for")


def test_call_gives_the_result_or_the_error() -> None:
    assert call(divmod, 7, 2) == (3, 1)
    with pytest.raises(ZeroDivisionError):
        call(divmod, 7, 0)

    async def body() -> None:
        assert await acall(divmod, 7, 2) == (3, 1)
        with pytest.raises(ZeroDivisionError):
            await acall(divmod, 7, 0)

        async def add(a: int, b: int) -> int:
            await asyncio.sleep(0)
            return a + b

        assert await acall(add, 1, 2) == 3

    asyncio.run(body())


def test_the_caller_goes_on_at_once() -> None:
    """The slide's mistake notices the cancellation only after the expensive call has ended."""
    release = threading.Event()
    leave_behind(release)
    assert abandoned() == 1
    release.set()
    until(lambda: abandoned() == 0)


def test_an_ended_context_starts_nothing() -> None:
    called = []
    with cancel_scope() as context:
        context.cancel()
        call(called.append, 1)
    with cancel_scope() as context:
        context.cancel()
        first(lambda: called.append(2))
    assert called == []


def test_nothing_is_left_of_an_abandoned_call() -> None:
    """The slide's fix leaves the sender parked on an unbuffered channel for ever."""

    class Value:
        pass

    release = threading.Event()
    made: list[Any] = []

    def expensive() -> Value:
        release.wait(20)
        value = Value()
        made.append(weakref.ref(value))
        return value

    with pytest.raises(DeadlineExceeded), fail_after(0.02):
        call(expensive)
    release.set()
    until(lambda: made and abandoned() == 0)
    until(lambda: gc.collect() is not None and made[0]() is None)


def test_errors_of_abandoned_calls_are_dropped() -> None:
    release = threading.Event()

    def fails() -> None:
        release.wait(20)
        raise ValueError

    with pytest.raises(DeadlineExceeded), fail_after(0.02):
        call(fails)
    release.set()
    until(lambda: abandoned() == 0)
    gc.collect()


def test_a_cancelled_asyncio_task_leaves_its_call_behind() -> None:
    release = threading.Event()

    async def body() -> None:
        task = asyncio.create_task(acall(release.wait, 20))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert abandoned() == 1
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.02):
                await acall(release.wait, 20)
        assert abandoned() == 2

    asyncio.run(body())
    release.set()
    until(lambda: abandoned() == 0)


def test_abandoned_calls_can_be_bounded() -> None:
    release = threading.Event()
    limit_abandoned(2)
    try:
        for _ in range(2):
            leave_behind(release)
        with pytest.raises(OutOfCapacity, match="2 abandoned calls are still running"):
            call(release.wait, 20)
        release.set()
        until(lambda: abandoned() == 0)
        assert call(int) == 0
    finally:
        release.set()
        limit_abandoned(None)
    for wrong in (0, -1):
        with pytest.raises(ValueError, match="must be 1 or more"):
            limit_abandoned(wrong)
    with pytest.raises(TypeError, match="must be an integer"):
        limit_abandoned(1.5)  # type: ignore[arg-type]


@pytest.fixture
def limit_of() -> Iterator[Callable[[int | None], None]]:
    yield limit_abandoned
    limit_abandoned(None)


def test_no_more_calls_are_ever_abandoned_than_allowed(limit_of: Callable[[int | None], None]) -> None:
    """Calls that somebody still waits for count: all of them may be left behind in one instant."""
    release = threading.Event()
    begun: list[int] = []
    refused: list[int] = []

    def stuck(number: int) -> None:
        begun.append(number)
        release.wait(20)

    def one(number: int) -> None:
        try:
            call(stuck, number)
        except OutOfCapacity:
            refused.append(number)

    limit_of(3)
    try:
        with cancel_scope() as context, Group() as group:
            for number in range(20):
                group.go(one, number)
            until(lambda: len(refused) == 17 and len(begun) == 3)
            context.cancel()
        assert len(begun) == abandoned() == 3
        with pytest.raises(OutOfCapacity, match=r"no place for 1 more: no more than 3 calls may be abandoned"):
            call(int)
    finally:
        release.set()
    until(lambda: abandoned() == 0)
    assert len(begun) == 3
    for _ in range(20):  # A call that has ended has given back its place before its caller goes on.
        assert call(int) == 0
        assert first(int, int, int) == 0
        until(lambda: abandoned() == 0)


def test_a_race_begins_with_a_place_for_each_or_not_at_all(limit_of: Callable[[int | None], None]) -> None:
    release = threading.Event()
    called: list[int] = []

    def stuck() -> None:
        called.append(1)
        release.wait(20)

    async def body() -> None:
        with pytest.raises(OutOfCapacity, match="no place for 6 more"):
            await afirst(*[stuck] * 6)
        task = asyncio.create_task(acall(stuck))
        await asyncio.to_thread(until, lambda: called)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        with pytest.raises(OutOfCapacity, match="1 abandoned calls are still running"):
            await afirst(*[stuck] * 5)

    limit_of(5)
    try:
        with pytest.raises(OutOfCapacity, match="no place for 6 more"):
            first(*[stuck] * 6)
        asyncio.run(body())
        assert called == [1]

        def winner() -> int:
            until(lambda: len(called) == 3)
            return 3

        assert first(stuck, stuck, winner) == 3
        until(lambda: abandoned() == 3)  # The winner is gone a moment after its result is there.
        with pytest.raises(OutOfCapacity):
            first(stuck, stuck, stuck)
        assert first(lambda: 4) == 4
    finally:
        release.set()
    until(lambda: abandoned() == 0)


def test_what_cannot_be_started_keeps_no_place(limit_of: Callable[[int | None], None]) -> None:
    async def coroutine_function() -> int:
        return 1

    limit_of(2)
    for _ in range(5):
        with pytest.raises(RuntimeError, match="runs no event loop"):
            acall(coroutine_function).send(None)  # type: ignore[attr-defined]
        with pytest.raises(RuntimeError, match="runs no event loop"):
            afirst(int, coroutine_function).send(None)  # type: ignore[attr-defined]
        until_collected(lambda: abandoned() == 0)

    async def body() -> None:
        for _ in range(5):
            task = asyncio.create_task(acall(coroutine_function))
            asyncio.get_running_loop().call_soon(task.cancel)
            with pytest.raises(asyncio.CancelledError):
                await task
            until_collected(lambda: abandoned() == 0)
        assert await acall(coroutine_function) == 1
        assert await afirst(coroutine_function, coroutine_function) == 1

    asyncio.run(body())


def test_a_limit_holds_for_calls_that_begin_after_it(limit_of: Callable[[int | None], None]) -> None:
    release = threading.Event()
    try:
        limit_of(1)
        leave_behind(release)
        limit_of(2)
        assert first(int, int) == 0
    finally:
        release.set()
    until(lambda: abandoned() == 0)
    assert first(int, int) == 0  # What the first call took, it gave back to the limit that it began under.
    limit_of(1)
    with pytest.raises(OutOfCapacity):
        first(int, int)


def test_a_coroutine_is_no_success() -> None:
    """Nobody would ever await it."""

    async def coroutine_function() -> int:
        return 1

    with pytest.raises(ExceptionGroup) as caught:
        first(lambda: coroutine_function())  # noqa: PLW0108  it looks like an ordinary function
    assert "returned a coroutine; pass the async function itself, to afirst()" in str(caught.value.exceptions[0])
    assert first(lambda: coroutine_function(), lambda: 2) == 2  # type: ignore[comparison-overlap]  # noqa: PLW0108

    async def body() -> None:
        with pytest.raises(ExceptionGroup) as caught:
            await afirst(lambda: coroutine_function())  # noqa: PLW0108
        assert isinstance(caught.value.exceptions[0], TypeError)

    asyncio.run(body())


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="free-threaded, what another thread drops may wait for the thread that made it",
)
def test_an_error_is_gone_once_it_has_been_dealt_with() -> None:
    """Without the garbage collector: nothing that its traceback shows refers to it."""

    class ThisError(Exception):
        pass

    def fails() -> None:
        raise ThisError

    async def afails() -> None:
        raise ThisError

    caught: list[Any] = []

    async def body() -> None:
        for function in (fails, afails):
            try:
                await acall(function)
            except ThisError as error:
                caught.append(weakref.ref(error))

    gc.disable()
    try:
        try:
            call(fails)
        except ThisError as error:
            caught.append(weakref.ref(error))
        asyncio.run(body())
        until(lambda: [reference() for reference in caught] == [None] * 3)
    finally:
        gc.enable()


def test_call_and_first_block_no_loop() -> None:
    """What is refused has not happened: the function is not called (C3, C4)."""
    called: list[int] = []

    async def body() -> None:
        with pytest.raises(RuntimeError, match=r"would block the event loop; use 'await acall\(\)'"):
            call(called.append, 1)
        with pytest.raises(RuntimeError, match=r"would block the event loop; use 'await afirst\(\)'"):
            first(lambda: called.append(2))
        await asyncio.sleep(0.02)

    asyncio.run(body())
    assert called == []
    assert abandoned() == 0


def test_abandoned_calls_do_not_hold_up_the_exit() -> None:
    program = "import time, penstock\nwith penstock.move_on_after(0.05): penstock.call(time.sleep, 60)\nprint('left')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "left\n", "")


def test_first_takes_the_first_success() -> None:
    silent: Channel[int] = Channel()

    def fails() -> int:
        raise ValueError

    assert first(fails, silent.recv, lambda: 3) == 3
    until(lambda: abandoned() == 0)
    assert silent.statistics().waiting_receivers == 0


def test_first_cancels_the_others() -> None:
    started: Channel[bool] = Channel(1)
    ended: Channel[bool] = Channel(1)

    def loser() -> int:
        started.send_nowait(True)
        try:
            penstock.sleep(20)
        except Cancelled:
            ended.send_nowait(True)
            raise
        return 1

    def winner() -> int:
        started.recv()
        return 2

    assert first(loser, winner) == 2
    assert ended.recv(timeout=10)
    until(lambda: abandoned() == 0)


def test_all_fail() -> None:
    def fails(error: Exception) -> Any:
        def run() -> None:
            raise error

        return run

    with pytest.raises(ExceptionGroup) as caught:
        first(fails(ValueError("a")), fails(KeyError("b")))
    assert {type(error) for error in caught.value.exceptions} == {ValueError, KeyError}

    async def body() -> None:
        with pytest.raises(ExceptionGroup):
            await afirst(fails(ValueError("a")), fails(KeyError("b")))

    asyncio.run(body())


def test_first_obeys_the_context() -> None:
    silent: Channel[int] = Channel()
    with pytest.raises(DeadlineExceeded), fail_after(0.02):
        first(silent.recv, silent.recv)
    until(lambda: abandoned() == 0)


def test_afirst_mixes_colours() -> None:
    async def quick() -> str:
        await asyncio.sleep(0)
        return "async"

    async def slow() -> str:
        await asyncio.sleep(20)
        return "never"

    async def body() -> None:
        assert await afirst(slow, quick) == "async"
        assert await afirst(slow, lambda: "thread") == "thread"
        until_deadline = time.monotonic() + 10
        while abandoned():
            assert time.monotonic() < until_deadline
            await asyncio.sleep(0.001)

    asyncio.run(body())


def test_misuse() -> None:
    async def coroutine_function() -> None: ...

    with pytest.raises(ValueError, match="at least one function"):
        first()
    with pytest.raises(TypeError, match="takes functions without arguments"):
        first(3)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="use 'await acall"):
        call(coroutine_function)
    with pytest.raises(TypeError, match="use 'await afirst"):
        first(coroutine_function)


def test_a_call_that_never_began_has_no_place() -> None:
    limit_abandoned(1)
    try:
        try:
            call(5)  # type: ignore[arg-type]
        except TypeError:
            assert call(int) == 0
    finally:
        limit_abandoned(None)
