"""Streams (contract, section 7)."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
import sys
import threading
import time
import weakref
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import pytest
from waiting import until, until_collected

import penstock
from penstock import Cancelled, Channel, ChannelClosed, DeadlineExceeded, Group, Stream, cancel_scope, fail_after

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator


async def numbers(n: int) -> AsyncIterator[int]:
    for number in range(n):
        yield number


def collected(make: Any, colour: str) -> list[Any]:
    """What a stream gives, read by a thread, or by an asyncio task."""
    if colour == "threads":
        return list(make(range))

    async def body() -> list[Any]:
        return [item async for item in make(numbers)]

    return asyncio.run(body())


both = pytest.mark.parametrize("colour", ["threads", "tasks"])


@both
@pytest.mark.parametrize("limit", [1, 4])
def test_stages_one_after_the_other(colour: str, limit: int) -> None:
    got = collected(
        lambda source: (
            Stream(source(100))
            .map(lambda value: value + 1, limit=limit)
            .filter(lambda value: value % 2)
            .flat_map(lambda value: [value, -value])
            .batch(7)
            .map(sum)
            .take(10)
        ),
        colour,
    )
    flat = [item for value in range(1, 101, 2) for item in (value, -value)]
    assert got == [sum(flat[at : at + 7]) for at in range(0, 70, 7)]


@both
def test_async_functions(colour: str) -> None:
    async def double(value: int) -> int:
        await asyncio.sleep(0)
        return 2 * value

    async def odd(value: int) -> bool:
        return value % 4 == 2

    if colour == "tasks":
        for limit in (1, 5):
            got = collected(
                lambda source, limit=limit: Stream(source(50)).map(double, limit=limit).filter(odd), "tasks"
            )
            assert got == [value for value in range(0, 100, 2) if value % 4 == 2]
    else:
        for stream in (Stream([1]).map(double), Stream([1]).map(double, limit=2), Stream([1]).filter(odd)):
            with pytest.raises(TypeError, match=r"read this stream with 'async for'|use 'async for"):
                stream.collect()
        with pytest.raises(TypeError, match="read this stream with 'async for'"):
            Stream(numbers(3)).collect()


@both
def test_merge(colour: str) -> None:
    got = collected(lambda source: Stream(source(50)).merge(source(30), Stream(range(20)).map(str)), colour)
    assert sorted(map(str, got)) == sorted(map(str, [*range(50), *range(30), *range(20)]))


@both
def test_batches_are_not_kept_waiting(colour: str) -> None:
    source: Channel[int] = Channel(10)
    for value in range(5):
        source.send_nowait(value)

    def feed() -> None:
        time.sleep(1.5)  # Much longer than a batch waits, which is much longer than a machine that is busy takes.
        source.send(5)
        source.close()

    threading.Thread(target=feed).start()
    got = collected(lambda _: Stream(source).batch(3, within=0.5), colour)
    assert got == [[0, 1, 2], [3, 4], [5]]


@both
def test_what_a_batch_holds_comes_before_the_error(colour: str) -> None:
    def fails() -> Iterator[int]:
        yield from range(5)
        raise ValueError("source")

    for within in (None, 5.0):
        seen: list[Any] = []

        def see(batch: Any, seen: list[Any] = seen) -> Any:
            seen.append(batch)
            return batch

        with pytest.raises(ValueError, match="source"):
            collected(lambda _, within=within, see=see: Stream(fails()).batch(3, within=within).map(see), colour)
        assert seen == [[0, 1, 2], [3, 4]]


@both
def test_the_first_error_reaches_the_reader_bare(colour: str) -> None:
    def fail(value: int) -> int:
        if value == 30:
            raise LookupError("thirty")
        return value

    def endless(_: Any) -> Any:
        return itertools.count()

    for limit in (1, 4):
        for make in (
            lambda limit=limit: Stream(endless(0)).map(fail, limit=limit).map(str, limit=3),
            lambda limit=limit: Stream(endless(0)).map(fail, limit=limit).merge([1, 2]),
            lambda limit=limit: Stream(endless(0)).map(str, limit=3).map(int).map(fail, limit=limit).batch(5, within=1),
            lambda limit=limit: Stream(endless(0)).map(fail, limit=limit).tee(1)[0],
        ):
            with pytest.raises(LookupError, match="thirty"):
                collected(lambda _, make=make: make(), colour)


@both
def test_catch(colour: str) -> None:
    def fail(value: int) -> int:
        if value == 3:
            raise ValueError(value)
        return value

    got = collected(lambda source: Stream(source(10)).map(fail, limit=2).catch(lambda error: [repr(error)]), colour)  # type: ignore[list-item]
    assert got == [0, 1, 2, "ValueError(3)"]
    with pytest.raises(KeyError):
        collected(lambda source: Stream(source(10)).map(fail).catch(lambda _: {}["x"]), colour)


@both
def test_take_takes_no_more(colour: str) -> None:
    taken = []

    def source() -> Iterator[int]:
        for value in itertools.count():
            taken.append(value)
            yield value

    assert collected(lambda _: Stream(source()).take(3), colour) == [0, 1, 2]
    assert taken == [0, 1, 2]
    assert collected(lambda _: Stream(source()).take(0), colour) == []
    assert taken == [0, 1, 2]


@both
def test_throttle(colour: str) -> None:
    start = time.monotonic()
    assert len(collected(lambda source: Stream(source(7)).throttle(3, per=0.05), colour)) == 7
    assert time.monotonic() - start >= 0.1


@pytest.mark.skipif(
    not penstock.COMPILED and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="interpreted and free-threaded, what another thread drops waits for the thread that made it",
)
def test_tee() -> None:
    left, right = Stream(range(1000)).map(lambda value: value + 1, limit=2).tee()
    results: dict[str, Any] = {}
    threads = [
        threading.Thread(target=lambda: results.update(left=sum(left.filter(lambda value: value % 2)))),
        threading.Thread(target=lambda: results.update(right=right.batch(10).take(3).collect())),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert results["left"] == 250_000
    assert [batch[0] for batch in results["right"]] == [1, 11, 21]


@both
def test_a_branch_that_is_not_read_holds_nobody_back(colour: str) -> None:
    def make(source: Any) -> Any:
        one, two = Stream(source(20)).tee()
        del two
        return one

    assert collected(make, colour) == list(range(20))


def test_the_first_reader_of_a_tee_may_end_first() -> None:
    """What moves the items belongs to nobody's context but that in which `tee` was called."""
    expected = [str(value) for value in range(100)]
    left, right = Stream(range(100)).map(str, limit=2).tee()
    with Group() as group:
        reading = group.go(lambda: iter(right)).result()
        rest = group.go(lambda: list(reading))
        assert left.collect() == expected
        assert rest.result() == expected

    async def body() -> None:
        left, right = Stream(numbers(100)).map(str, limit=2).tee()

        async def begin() -> Any:
            return aiter(right)

        async def read(stream: Any) -> list[str]:
            return [item async for item in stream]

        async with Group() as group:
            reading = await group.go(begin).aresult()
            rest = group.go(read, reading)
            assert await read(left) == expected
            assert await rest.aresult() == expected

    asyncio.run(body())


@both
def test_a_branch_that_is_interrupted_holds_nobody_back(colour: str) -> None:
    """Closing it is enough, whoever still refers to it."""
    left, right = Stream(itertools.count()).tee()
    if colour == "threads":
        reading: Any = iter(left)
        with pytest.raises(DeadlineExceeded), fail_after(0.05):
            for item in reading:
                assert item == 0  # The other does not read.
        assert right.take(3).collect() == [0, 1, 2]
        return

    async def body() -> None:
        reading = aiter(left)
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.05):
                async for item in reading:
                    assert item == 0
        assert await right.take(3).acollect() == [0, 1, 2]

    asyncio.run(body())


def test_branches_in_asyncio() -> None:
    async def body() -> None:
        left, right = Stream(numbers(200)).tee()

        async def read(stream: Any) -> list[int]:
            return [item async for item in stream]

        assert await asyncio.gather(read(left), read(right)) == [list(range(200))] * 2

    asyncio.run(body())


@both
def test_leaving_early_leaves_nothing_running(colour: str) -> None:
    for way in ("close", "drop"):
        stream = (
            Stream(itertools.count())
            .map(lambda value: value + 1, limit=3)
            .merge(itertools.repeat(0))
            .batch(2, within=1)
            .map(len, limit=2)
        )
        if colour == "threads":
            reading = iter(stream)
            assert next(reading) == 2
            if way == "close":
                reading.close()  # type: ignore[attr-defined]
                assert next(reading, None) is None
            del reading
        else:

            async def body(stream: Any = stream, way: str = way) -> None:
                reading = aiter(stream)
                assert await anext(reading) == 2
                if way == "close":
                    await reading.aclose()
                    assert await anext(reading, None) is None
                del reading
                for _ in range(500):
                    if len(asyncio.all_tasks()) == 1:
                        break
                    await asyncio.sleep(0.01)
                assert len(asyncio.all_tasks()) == 1

            asyncio.run(body())
        del stream
        until_collected(lambda: not any(at_work(frame) for frame in sys._current_frames().values()))


def at_work(frame: Any) -> bool:
    """Is a thread inside the patterns?"""
    while frame is not None:
        if "patterns" in frame.f_code.co_filename and not frame.f_code.co_filename.endswith("test_stream.py"):
            return True
        frame = frame.f_back
    return False


def test_a_source_that_does_not_react_is_left_behind() -> None:
    """Closing waits for it, not for long, and then ends the other stages all the same."""
    release = threading.Event()
    closed = []

    def stuck() -> Iterator[int]:
        yield 1
        release.wait(30)
        yield 2

    def tidy(value: int) -> Iterator[int]:
        try:
            yield value
            yield value
        finally:
            closed.append(value)

    stream = Stream(stuck()).flat_map(lambda value: [value]).map(str, limit=2).map(int).flat_map(tidy)
    reading: Any = iter(stream)
    assert next(reading) == 1
    until_collected(lambda: any(at_work(frame) for frame in sys._current_frames().values()))
    time.sleep(0.05)
    reading.close()
    assert closed == [1]
    release.set()
    until_collected(lambda: not any(at_work(frame) for frame in sys._current_frames().values()))


def test_all_stages_are_closed_although_one_fails_to() -> None:
    closed = []

    def untidy(value: int) -> Iterator[int]:
        try:
            yield value
            yield value
        finally:
            closed.append(value)
            raise LookupError(value)

    def one(value: int) -> Iterator[int]:
        try:
            yield value
            yield value
        finally:
            closed.append(-value)

    reading: Any = iter(Stream([1]).flat_map(one).flat_map(untidy))
    assert next(reading) == 1
    with pytest.raises(LookupError):
        reading.close()
    assert closed == [1, -1]


@both
@pytest.mark.parametrize("error", [StopIteration, Cancelled, KeyboardInterrupt])
def test_no_error_looks_like_the_end(colour: str, error: type[BaseException]) -> None:
    def fail(value: int) -> int:
        if value == 3:
            raise error("three")
        return value

    def items() -> Iterator[int]:
        yield from map(fail, range(5))  # A generator: StopIteration is a RuntimeError here already.

    if error is KeyboardInterrupt and colour == "tasks":
        return  # asyncio's loop ends by it.
    expected = RuntimeError if error is StopIteration else error
    for make in (
        lambda: Stream(range(5)).map(fail),
        lambda: Stream(range(5)).map(fail, limit=3),
        lambda: Stream(range(5)).filter(fail),
        lambda: Stream(range(5)).flat_map(lambda value: [fail(value)]),
        *(
            ()
            if error is StopIteration
            else (
                lambda: Stream(items()).merge([1, 2]),
                lambda: Stream([1, 2]).merge(items()),
                lambda: Stream(items()).batch(2, within=5),
                lambda: Stream(items()).tee(1)[0],
                lambda: Stream(items()).map(str, limit=2),
            )
        ),
    ):
        with pytest.raises(expected):
            collected(lambda _, make=make: make(), colour)


def test_the_context_ends_it() -> None:
    silent: Channel[int] = Channel()
    with pytest.raises(DeadlineExceeded), fail_after(0.03):
        Stream(silent).map(str, limit=2).batch(3, within=9).collect()
    assert silent.statistics().waiting_receivers == 0


async def endless() -> AsyncIterator[int]:
    """Never has to wait."""
    for value in itertools.count():
        yield value


def fail(_: Any) -> Any:
    raise ValueError("to be caught")


never_waiting = pytest.mark.parametrize(
    "stages",
    [
        lambda stream: stream,
        lambda stream: stream.map(str),
        lambda stream: stream.filter(lambda _: False),
        lambda stream: stream.batch(1 << 40),
        lambda stream: stream.flat_map(lambda _: ()),
        lambda stream: stream.flat_map(lambda _: itertools.count()).filter(lambda _: False),
        lambda stream: stream.map(fail).catch(lambda _: itertools.count()),
    ],
)


@never_waiting
def test_the_context_ends_what_never_waits(stages: Any) -> None:
    """In an ended context nothing more is taken, whether or not it could have gone on (X1)."""
    with pytest.raises(DeadlineExceeded), fail_after(0.03):
        for _ in stages(Stream(itertools.count())):
            pass
    taken = itertools.count()
    with cancel_scope() as context:
        context.cancel()
        stages(Stream(taken)).collect()
        pytest.fail("it has been read")
    assert next(taken) == 0


@never_waiting
@pytest.mark.parametrize("source", [itertools.count, endless])
def test_the_context_ends_in_a_loop_what_never_waits(stages: Any, source: Any) -> None:
    async def read() -> None:
        async for _ in stages(Stream(source())):
            pass

    async def body() -> None:
        with pytest.raises(DeadlineExceeded), fail_after(0.03):
            await read()
        with pytest.raises(DeadlineExceeded):
            async with fail_after(0.03):
                await read()

    asyncio.run(body())


@never_waiting
@pytest.mark.parametrize("source", [itertools.count, endless])
def test_a_stream_that_never_waits_gives_the_loop_its_turns(stages: Any, source: Any) -> None:
    """Others run, and may cancel it."""
    turns = 0

    async def others(reading: asyncio.Task[None]) -> None:
        nonlocal turns
        for turns in range(3):  # noqa: B007
            await asyncio.sleep(0)
        reading.cancel()

    async def read() -> None:
        async for _ in stages(Stream(source())):
            pass

    async def body() -> None:
        reading = asyncio.create_task(read())
        other = asyncio.create_task(others(reading))
        with pytest.raises(asyncio.CancelledError):
            await reading
        await other

    asyncio.run(body())
    assert turns == 2


@both
def test_with_a_limit_of_one_the_function_is_handed_over(colour: str) -> None:
    """Without one, it is called where the stream is read."""
    here = threading.get_ident()

    def where(_value: int) -> int:
        return threading.get_ident()

    for stages in (
        lambda stream: stream.map(where),
        lambda stream: stream.filter(lambda value: value >= 0).map(where),
    ):
        assert set(collected(lambda source, stages=stages: stages(Stream(source(5))), colour)) == {here}
    for limit in (1, 3):
        for stages in (
            lambda stream, limit=limit: stream.map(where, limit=limit),
            lambda stream, limit=limit: stream.filter(lambda value: value >= 0).map(where, limit=limit),
        ):
            assert here not in collected(lambda source, stages=stages: stages(Stream(source(5))), colour)
    seen: list[int] = []
    if colour == "threads":
        Stream(range(5)).for_each(lambda value: seen.append(where(value)))
    else:
        asyncio.run(Stream(numbers(5)).afor_each(lambda value: seen.append(where(value))))
    assert len(seen) == 5
    assert here not in seen


def test_where_a_source_that_is_not_asynchronous_is_iterated() -> None:
    """As `apmap` has it: in a thread for sync functions that are handed over, otherwise in the loop."""

    async def aident(_value: int) -> int:
        return threading.get_ident()

    async def body() -> None:
        here = threading.get_ident()
        where: list[int] = []

        def source() -> Iterator[int]:
            for value in range(3):
                where.append(threading.get_ident())
                yield value

        for in_loop, read in (
            (False, lambda: Stream(source()).map(str, limit=1).acollect()),
            (False, lambda: Stream(source()).map(str, limit=2).map(str).acollect()),
            (False, lambda: Stream(source()).afor_each(str)),
            (True, lambda: Stream(source()).acollect()),
            (True, lambda: Stream(source()).map(str).acollect()),
            (True, lambda: Stream(source()).filter(bool).map(str, limit=2).acollect()),
            (True, lambda: Stream(source()).map(aident, limit=2).acollect()),
            (True, lambda: Stream([1]).merge(source()).acollect()),
        ):
            await read()
            assert len(where) == 3
            assert (where == [here] * 3) == in_loop
            assert in_loop or here not in where
            where.clear()

    asyncio.run(body())


@pytest.mark.parametrize("limit", [1, 2])
def test_a_source_that_blocks_does_not_block_the_loop_where_it_is_handed_over(limit: int) -> None:
    async def body() -> None:
        first = threading.Event()

        def source() -> Iterator[int]:
            yield 1
            assert first.wait(20)
            yield 2

        async for item in Stream(source()).map(int, limit=limit):
            if item == 1:
                await asyncio.sleep(0.01)
                first.set()

    asyncio.run(body())


@both
def test_a_coroutine_is_no_value(colour: str) -> None:
    """Of a function that looks like an ordinary one: nobody would ever await it."""

    async def coroutine_function(value: Any) -> Any:
        return [value]

    def wrapper(value: Any) -> Any:
        return coroutine_function(value)

    for make in (
        lambda stream: stream.map(wrapper),
        lambda stream: stream.map(wrapper, limit=1),
        lambda stream: stream.map(wrapper, limit=3),
        lambda stream: stream.filter(wrapper),
        lambda stream: stream.flat_map(wrapper),
        lambda stream: stream.map(fail).catch(wrapper),
    ):
        with pytest.raises(TypeError, match=r"wrapper.* returned a coroutine; pass the async function itself"):
            collected(lambda source, make=make: make(Stream(source(3))), colour)
    with ThreadPoolExecutor(1) as executor, pytest.raises(TypeError, match="returned a coroutine; pass the async"):
        collected(lambda source: Stream(source(3)).map(wrapper, limit=2, on=executor), colour)
    for make, expected in (
        (lambda stream: stream.map(coroutine_function), [[0], [1]]),
        (lambda stream: stream.map(coroutine_function, limit=1), [[0], [1]]),
        (lambda stream: stream.filter(coroutine_function), [0, 1]),
        (lambda stream: stream.flat_map(coroutine_function), [0, 1]),
        (lambda stream: stream.map(fail).catch(coroutine_function).map(type), [list]),
    ):
        if colour == "threads":
            with pytest.raises(TypeError, match="is an async function; read this stream with 'async for'"):
                make(Stream(range(2))).collect()
        elif expected != [list]:
            assert collected(lambda source, make=make: make(Stream(source(2))), colour) == expected
    with pytest.raises(TypeError, match=r"is an async function; use 'await afor_each\(\)'"):
        Stream([1]).for_each(coroutine_function)


@both
def test_a_channel_that_was_closed_with_an_error_is_a_source_that_fails_like_it(colour: str) -> None:
    """The error of a source reaches the reader as iterating the source raises it (K3)."""
    error = LookupError("why")
    for stages in (
        lambda stream: stream,
        lambda stream: stream.map(str),
        lambda stream: stream.map(str, limit=2),
        lambda stream: stream.merge([1]),
        lambda stream: stream.batch(2, within=5),
        lambda stream: stream.tee(1)[0],
    ):
        channel: Channel[int] = Channel(1)
        channel.send_nowait(1)
        channel.close(error)
        with pytest.raises(ChannelClosed) as caught:
            collected(lambda _, channel=channel, stages=stages: stages(Stream(channel)), colour)
        assert caught.value.__cause__ is error


@both
def test_an_error_keeps_its_cause(colour: str) -> None:
    def source() -> Iterator[int]:
        yield 1
        try:
            _ = {}["key"]
        except KeyError as error:
            raise ValueError("from it") from error

    for stages in (
        lambda stream: stream.map(str, limit=2),
        lambda stream: stream.merge([1]),
        lambda stream: stream.batch(2, within=5),
        lambda stream: stream.tee(1)[0],
    ):
        with pytest.raises(ValueError, match="from it") as caught:
            collected(lambda _, stages=stages: stages(Stream(source())), colour)
        assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.skipif(
    not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="free-threaded, what another thread drops may wait for the thread that made it",
)
@both
@pytest.mark.parametrize(
    "stages",
    [
        lambda stream: stream.map(str),
        lambda stream: stream.map(str, limit=2),
        lambda stream: stream.filter(bool),
        lambda stream: stream.batch(2),
        lambda stream: stream.batch(2, within=5),
        lambda stream: stream.merge([1]),
    ],
)
def test_an_error_is_gone_once_it_has_been_dealt_with(colour: str, stages: Any) -> None:
    """Without the garbage collector: nothing that its traceback shows refers to it."""

    class ThisError(Exception):
        pass

    def source() -> Iterator[int]:
        yield 1
        raise ThisError

    caught: list[Any] = []

    def read() -> None:
        try:
            stages(Stream(source())).collect()
        except ThisError as error:
            caught.append(weakref.ref(error))

    async def aread() -> None:
        try:
            await stages(Stream(source())).acollect()
        except ThisError as error:
            caught.append(weakref.ref(error))

    gc.disable()
    try:
        if colour == "threads":
            read()
        else:
            asyncio.run(aread())
        until(lambda: caught[0]() is None)
    finally:
        gc.enable()


def test_a_loop_gets_its_turns_where_threads_are_quicker_than_the_reader() -> None:
    async def body() -> None:
        async def tick() -> None:
            nonlocal ticks
            while True:
                await asyncio.sleep(0)
                ticks += 1

        ticking = asyncio.create_task(tick())
        await Stream(range(60)).map(lambda item: item, limit=40).map(lambda _: time.sleep(6e-3)).acollect()
        ticking.cancel()

    ticks = 0
    asyncio.run(body())
    assert ticks >= 50


@both
def test_what_a_function_gave_is_closed_with_the_stream_unless_it_is_a_channel(colour: str) -> None:
    closed: list[int] = []

    def inner(item: int) -> Iterator[int]:
        try:
            yield item
            yield item
        finally:
            closed.append(item)

    async def ainner(item: int) -> AsyncIterator[int]:
        try:
            yield item
            yield item
        finally:
            closed.append(item)

    channel: Channel[int] = Channel(3)
    for item in range(3):
        channel.send_nowait(item)
    kept: list[Any] = [inner(1), ainner(2)]  # So that nobody but the stream closes them, before the loop ends.

    async def body() -> None:
        assert await Stream([1]).flat_map(lambda _: kept[0]).take(1).acollect() == [1]
        assert closed == [1]
        assert await Stream([1]).flat_map(lambda _: kept[1]).take(1).acollect() == [2]
        assert closed == [1, 2]
        assert await Stream([1]).flat_map(lambda _: channel.receiver).take(1).acollect() == [0]

    if colour == "threads":
        assert Stream([1]).flat_map(lambda _: kept[0]).take(1).collect() == [1]
        assert closed == [1]
        assert Stream([1]).flat_map(lambda _: channel.receiver).take(1).collect() == [0]
    else:
        asyncio.run(body())
    assert not channel.closed
    assert len(channel) == 2


def test_memory_is_bounded_for_endless_sources() -> None:
    ahead = []
    delivered = 0

    def source() -> Iterator[int]:
        for value in itertools.count():
            ahead.append(value - delivered)
            yield value

    stream = Stream(source()).map(str, limit=4).map(int, limit=4).map(str, limit=4)
    for value in stream:
        delivered = int(value) + 1
        if delivered == 20_000:
            break
    assert max(ahead) <= 3 * 1024 + 10


def test_for_each() -> None:
    seen: list[int] = []
    Stream(range(50)).for_each(seen.append, limit=4)
    assert sorted(seen) == list(range(50))

    async def see(value: int) -> None:
        seen.append(value)

    async def body() -> None:
        await Stream(range(50)).afor_each(see, limit=4)
        assert await Stream(numbers(3)).acollect() == [0, 1, 2]

    asyncio.run(body())
    assert len(seen) == 100


@both
@pytest.mark.parametrize(
    "stages",
    [
        lambda stream: stream.map(str, limit=2),
        lambda stream: stream.merge([1]),
        lambda stream: stream.batch(2, within=9),
        lambda stream: stream.map(str, limit=2).merge([1]).batch(3),
        lambda stream: stream.tee(1)[0],
    ],
)
def test_a_stream_that_is_cut_short_does_not_look_complete(colour: str, stages: Any) -> None:
    """Begun in a context that ends, read in one that goes on (X1)."""
    if colour == "threads":
        with cancel_scope():
            reading: Any = iter(stages(Stream(range(100_000))))
            next(reading)
        with pytest.raises(Cancelled):
            list(reading)
        return

    async def body() -> None:
        async with cancel_scope():
            reading = aiter(stages(Stream(numbers(100_000))))
            await anext(reading)
        with pytest.raises(Cancelled):
            async for _ in reading:
                pass

    asyncio.run(body())


def test_for_each_that_fails_has_stopped_everything() -> None:
    """The stages before are waited for, too, not only those that call the function."""
    at_work: list[int] = []

    def slow(value: int) -> int:
        at_work.append(value)
        try:
            penstock.sleep(20 if value else 0.001)
        finally:
            time.sleep(0.1)
            at_work.remove(value)
        return value

    async def aslow(value: int) -> int:
        at_work.append(value)
        try:
            await asyncio.sleep(20 if value else 0.001)
        finally:
            at_work.remove(value)
        return value

    def fail(_value: int) -> None:
        raise ValueError("first")

    with pytest.raises(ValueError, match="first"):
        Stream(range(10)).map(slow, limit=3).map(str).for_each(fail, limit=2)  # type: ignore[arg-type]
    assert at_work == []

    async def body() -> None:
        with pytest.raises(ValueError, match="first"):
            await Stream(range(10)).map(aslow, limit=3).afor_each(fail, limit=2)
        assert at_work == []
        assert len(asyncio.all_tasks()) == 1

    asyncio.run(body())


def test_a_branch_that_stands_still_bounds_the_others() -> None:
    """Memory: a `tee` holds one item for each branch, and takes the next when all have it."""
    taken = []

    def source() -> Iterator[int]:
        for value in itertools.count():
            taken.append(value)
            yield value

    left, right = (iter(branch) for branch in Stream(source()).tee())
    assert next(left) == 0
    more = threading.Thread(target=lambda: next(left))
    more.start()
    more.join(0.1)
    assert more.is_alive()
    assert taken == [0]
    assert [next(right), next(right)] == [0, 1]
    more.join(20)
    assert len(taken) <= 3
    left.close()  # type: ignore[attr-defined]
    right.close()  # type: ignore[attr-defined]
    until_collected(lambda: not any(at_work(frame) for frame in sys._current_frames().values()))


@both
def test_throttle_bounds_every_window(colour: str) -> None:
    times: list[float] = []

    def see(value: int) -> int:
        times.append(time.monotonic())
        return value

    collected(lambda source: Stream(source(30)).throttle(10, per=0.05).map(see), colour)
    assert all(later - earlier >= 0.0499 for earlier, later in zip(times, times[10:], strict=False))


@both
def test_a_stage_on_an_executor(colour: str) -> None:
    with ThreadPoolExecutor(2) as executor:
        for limit in (1, 3):
            got = collected(lambda source, limit=limit: Stream(source(50)).map(str, limit, on=executor), colour)
            assert got == [str(value) for value in range(50)]


def test_in_an_event_loop_it_says_what_to_use() -> None:
    """What need not wait just runs; what would have to is refused before anything is taken from the source (C3, C4)."""
    taken: list[int] = []

    def source() -> Iterator[int]:
        for value in range(3):
            taken.append(value)
            yield value

    async def body() -> None:
        assert Stream([1, 2, 3]).map(str).filter(int).batch(2).collect() == [["1", "2"], ["3"]]
        for make in (
            lambda: Stream(source()).map(str, limit=2),
            lambda: Stream(source()).merge([1]),
            lambda: Stream(source()).batch(2, within=1),
            lambda: Stream(source()).tee(1)[0],
        ):
            with pytest.raises(RuntimeError, match="would block the event loop; use 'async for"):
                make().collect()
        await asyncio.sleep(0.02)
        assert taken == []

    asyncio.run(body())


def test_a_stream_is_read_once() -> None:
    stream = Stream([1, 2])
    assert stream.collect() == [1, 2]
    for again in (stream.collect, lambda: iter(stream), lambda: stream.map(str), stream.tee):
        with pytest.raises(RuntimeError, match="a stream is read once"):
            again()
    derived = Stream([1])
    derived.map(str)
    with pytest.raises(RuntimeError, match="a stream is read once"):
        list(derived)


def test_misuse() -> None:
    with pytest.raises(TypeError, match="needs an iterable"):
        Stream(3)  # type: ignore[arg-type]
    for make in (
        lambda: Stream([]).map(3),  # type: ignore[call-overload]
        lambda: Stream([]).filter(3),  # type: ignore[arg-type]
        lambda: Stream([]).flat_map(None),  # type: ignore[arg-type]
        lambda: Stream([]).catch("x"),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="needs a function"):
            make()
    for make in (
        lambda: Stream([]).map(str, limit=0),
        lambda: Stream([]).batch(0),
        lambda: Stream([]).batch(1, within=0),
        lambda: Stream([]).throttle(0),
        lambda: Stream([]).throttle(1, per=0),
        lambda: Stream([]).take(-1),
        lambda: Stream([]).tee(0),
    ):
        with pytest.raises(ValueError, match=r"or more|more than 0"):
            make()


def test_misuse_leaves_a_stream_unused() -> None:
    """What is refused has not happened (C4)."""

    async def coroutine_function(value: int) -> int:
        return value

    stream = Stream([1, 2])
    for wrong in (
        lambda: stream.map(str, limit=0),
        lambda: stream.map(3),  # type: ignore[call-overload]
        lambda: stream.filter(None),  # type: ignore[arg-type]
        lambda: stream.batch(0),
        lambda: stream.merge([1], 5),  # type: ignore[arg-type]
        lambda: stream.take(-1),
        lambda: stream.tee(0),
        lambda: stream.progress(total=-1),
        lambda: stream.progress(total=1.5),  # type: ignore[arg-type]
        lambda: stream.for_each(str, limit=0),
        lambda: stream.for_each(coroutine_function),
        lambda: stream.for_each(str, on=3),  # type: ignore[arg-type]
        lambda: asyncio.run(stream.afor_each(str, limit=0)),
    ):
        with pytest.raises((TypeError, ValueError)):
            wrong()
    assert stream.collect() == [1, 2]
    with pytest.raises(TypeError, match="needs an iterable or an asynchronous iterable, not 5"):
        Stream([]).merge(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="read this stream with 'async for'"):
        Stream([1]).merge(numbers(3)).collect()


def test_progress_is_silent_in_pipes(capfd: pytest.CaptureFixture[str]) -> None:
    assert Stream(range(3)).progress("reading", total=3).collect() == [0, 1, 2]
    assert capfd.readouterr().err == ""
    with pytest.raises(ValueError, match="total must be 0 or more, not -1"):
        Stream([]).progress(total=-1)
    with pytest.raises(TypeError, match="total must be an integer, not 'many'"):
        Stream([]).progress(total="many")  # type: ignore[arg-type]


@contextlib.contextmanager
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], str]]:
    """Standard error is a terminal; gives what has been drawn there so far."""
    pytest.importorskip("rich")
    pty = pytest.importorskip("pty")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "80")
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    screen, side = pty.openpty()
    drawn: list[bytes] = []

    def read() -> None:
        with contextlib.suppress(OSError):  # At its end, on Linux.
            while data := os.read(screen, 4096):
                drawn.append(data)

    reading = threading.Thread(target=read)
    reading.start()
    with open(side, "w", encoding="utf-8") as stderr, monkeypatch.context() as patch:  # noqa: PTH123  a descriptor
        patch.setattr(sys, "stderr", stderr)
        yield lambda: b"".join(drawn).decode()
    reading.join(20)
    os.close(screen)


@both
def test_progress_is_drawn_on_a_terminal(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    halfway: list[bool] = []

    def see(value: int) -> int:
        if value == 3:
            until(lambda: "3/7" in drawn())
            halfway.append("7/7" not in drawn())
        return value

    with terminal(monkeypatch) as drawn:
        got = collected(lambda source: Stream(source(7)).progress("[/reading]", total=7).map(see), colour)
        assert got == list(range(7))
        assert halfway == [True]
        until(lambda: "\x1b[?25h" in drawn())  # The cursor is back: it has been taken off.
        assert "[/reading]" in drawn()
        assert "7/7" in drawn()


@both
def test_progress_without_a_total_that_is_left_early(colour: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with terminal(monkeypatch) as drawn:
        assert collected(lambda source: Stream(source(7)).progress("some").take(3), colour) == [0, 1, 2]
        until(lambda: "\x1b[?25h" in drawn())
        assert "2/?" in drawn()
        with pytest.raises(ValueError, match="total must be 0 or more, not -1"):
            Stream([]).progress(total=-1)
        with pytest.raises(TypeError, match="total must be an integer, not 'many'"):
            Stream([]).progress(total="many")  # type: ignore[arg-type]


def test_exported() -> None:
    assert penstock.Stream is Stream
