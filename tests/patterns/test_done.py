"""Done: `call`, `first` (contract, section 7), and the faults of the slides."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import time
import weakref
from typing import Any

import pytest
from waiting import until

import penstock
from penstock import Cancelled, Channel, DeadlineExceeded, OutOfCapacity, cancel_scope, fail_after
from penstock.patterns.done import abandoned, acall, afirst, call, first, limit_abandoned


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
    finished = threading.Event()

    def expensive() -> None:
        release.wait(20)
        finished.set()

    with pytest.raises(DeadlineExceeded), fail_after(0.02):
        call(expensive)
    assert not finished.is_set()
    assert abandoned() == 1
    release.set()
    until(lambda: abandoned() == 0)
    assert finished.is_set()


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
            with pytest.raises(DeadlineExceeded), fail_after(0.01):
                call(release.wait, 20)
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
