"""Fan-in, fan-out, broadcast (contract, section 7), and the faults of the slides."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from typing import Any

import pytest
from colours import COLOURS
from waiting import until, until_collected

import penstock
from penstock import Cancelled, Channel, ChannelClosed, Group, WouldBlock, cancel_scope, move_on_after, select
from penstock._kernel.threads import worker_count
from penstock.patterns.fan import broadcast, fan_in, fan_out

pytestmark = pytest.mark.parametrize("colour", COLOURS, ids=lambda colour: colour.name)


def filled(*values: Any, error: BaseException | None = None) -> Channel[Any]:
    channel: Channel[Any] = Channel(max(1, len(values)))
    for value in values:
        channel.send_nowait(value)
    channel.close(error)
    return channel


def test_fan_in_gives_everything_and_closes(colour: Any) -> None:
    async def body(ops: Any) -> None:
        merged = fan_in(filled(1, 2), filled(3), filled().receiver)
        assert sorted(await ops.collect(merged)) == [1, 2, 3]
        assert merged.closed
        assert await ops.recv_ok(merged) == (None, False)
        with pytest.raises(ChannelClosed):
            await ops.recv(merged)
        assert await ops.collect(fan_in()) == []

    colour.run(body)


def test_fan_in_waits(colour: Any) -> None:
    async def body(ops: Any) -> None:
        a: Channel[int] = Channel()
        b: Channel[int] = Channel(1)
        merged = fan_in(a, b.receiver)

        async def produce() -> None:
            await ops.pause()
            await ops.send(a, 1)
            a.close()
            await ops.send(b, 2)
            await ops.pause()
            b.close()

        producer = ops.spawn(produce)
        assert await ops.recv(merged) == 1
        assert await ops.recv(merged, timeout=10) == 2
        assert await ops.recv_ok(merged) == (None, False)
        await producer.outcome()

    colour.run(body)


def test_fan_in_nests_and_selects(colour: Any) -> None:
    async def body(ops: Any) -> None:
        a: Channel[int] = Channel(1)
        b: Channel[int] = Channel(1)
        c: Channel[int] = Channel(1)
        other: Channel[int] = Channel(1)
        merged = fan_in(fan_in(a, b), c)
        assert await ops.select(merged, other, default=True) is None
        with pytest.raises(TimeoutError):
            await ops.select(merged, other, timeout=0.01)
        b.send_nowait(7)
        got = await ops.select(None, other, merged)
        assert (got.index, got.channel, got.value, got.ok) == (2, merged, 7, True)
        got = await ops.select(merged, other.sending(5))
        assert got.index == 1
        for channel in (a, b, c):
            channel.close()
        got = await ops.select(merged)
        assert (got.index, got.value, got.ok) == (0, None, False)

    colour.run(body)


def test_an_error_closes_the_output_at_once(colour: Any) -> None:
    async def body(ops: Any) -> None:
        silent: Channel[int] = Channel()
        problem = ValueError("broken")
        merged = fan_in(silent, filled(1, error=problem))
        assert await ops.recv(merged) == 1
        with pytest.raises(ChannelClosed) as caught:
            await ops.recv(merged)
        assert caught.value.__cause__ is problem
        assert merged.error is problem
        with pytest.raises(ChannelClosed):
            await ops.collect(merged)
        nested = fan_in(fan_in(silent, filled(error=problem)), silent)
        assert await ops.recv_ok(nested) == (None, False)
        assert nested.error is problem

    colour.run(body)


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("way", ["recv", "recv_nowait", "select", "collect"])
def test_an_error_does_not_wait_for_what_the_others_hold(colour: Any, way: str, nested: bool) -> None:
    async def body(ops: Any) -> None:
        problem = ValueError("broken")
        for _ in range(20):
            full = filled(*range(50))
            failing = filled(-1, error=problem)
            merged = fan_in(full, fan_in(failing, Channel[int]())) if nested else fan_in(full, failing, Channel[int]())
            got = None
            while got != -1:  # What came before the error.
                got = await ops.recv(merged, timeout=10)
            before = len(full)
            if way == "select":
                assert not (await ops.select(merged, timeout=10)).ok
            else:
                with pytest.raises(ChannelClosed) as caught:
                    if way == "recv_nowait":
                        merged.recv_nowait()
                    else:
                        await getattr(ops, way)(merged)
                assert caught.value.__cause__ is problem
            assert len(full) == before

    colour.run(body)


def test_leaving_a_fan_in_loses_nothing(colour: Any) -> None:
    """The slide's pumps hold a value each, and wait for ever for somebody to take it."""

    async def body(ops: Any) -> None:
        before = worker_count()
        sources = [Channel[int](1) for _ in range(1000)]
        merged = fan_in(*sources)
        for number, source in enumerate(sources):
            source.send_nowait(number)
        received = [await ops.recv(merged) for _ in range(10)]
        with move_on_after(0):
            await ops.recv(merged)
        del merged
        assert worker_count() <= before + 1  # The timer's.
        assert sum(len(source) for source in sources) == 990
        left = [source.recv_nowait() for source in sources if len(source)]
        assert sorted(received + left) == list(range(1000))

    colour.run(body)


def test_a_cancelled_receive_from_a_fan_in(colour: Any) -> None:
    async def body(ops: Any) -> None:
        a: Channel[int] = Channel()
        merged = fan_in(a)
        with pytest.raises(TimeoutError):
            await ops.recv(merged, timeout=0.01)
        with pytest.raises(WouldBlock):
            merged.recv_nowait()
        with cancel_scope() as context:
            context.cancel()
            with pytest.raises(Cancelled):
                await ops.recv(merged)
        assert a.statistics().waiting_receivers == 0

    colour.run(body)


def test_fan_out_shares(colour: Any) -> None:
    async def body(ops: Any) -> None:
        outputs = fan_out(filled(*range(100)), 3)
        assert len(outputs) == 3
        workers = [ops.spawn(ops.collect, output) for output in outputs]
        parts = [await worker.outcome() for worker in workers]
        assert sorted(value for part in parts for value in part) == list(range(100))
        assert all(part == sorted(part) for part in parts)

    colour.run(body)


def test_fan_out_by_key_keeps_the_order_of_each_key(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[tuple[int, int]] = Channel(4)
        outputs = fan_out(source, 3, key=lambda pair: pair[0])
        workers = [ops.spawn(ops.collect, output) for output in outputs]
        for number in range(200):
            await ops.send(source, (number % 7, number))
        source.close()
        parts = [await worker.outcome() for worker in workers]
        assert sum(map(len, parts)) == 200
        for key in range(7):
            homes = [part for part in parts if any(pair[0] == key for pair in part)]
            assert len(homes) == 1
            numbers = [pair[1] for pair in homes[0] if pair[0] == key]
            assert numbers == sorted(numbers)

    colour.run(body)


def test_the_keys_of_a_reader_that_left_move_on(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        gone, stays = fan_out(source, 2, key=lambda value: 0 if value < 100 else 1)
        await ops.send(source, 1)
        assert await ops.recv(gone, timeout=10) == 1
        gone.leave()  # type: ignore[attr-defined]
        await ops.send(source, 2)
        assert await ops.recv(stays, timeout=10) == 2
        source.close()
        assert await ops.collect(stays) == []

    colour.run(body)


def test_what_a_reader_by_key_holds_stays_with_it(colour: Any) -> None:
    """What waits before its channel goes to the next reader, what is in it to nobody else."""

    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        goes, stays = fan_out(source, 2, key=lambda _value: 0)
        await ops.send(source, 1)
        until(lambda: len(goes) == 1)
        await ops.send(source, 2)
        until(lambda: goes.statistics().waiting_senders == 1)
        await ops.send(source, 3)
        goes.leave()  # type: ignore[attr-defined]
        assert await ops.collect(goes) == [1]
        source.close()
        assert await ops.collect(stays) == [2, 3]

    colour.run(body)


def test_a_key_that_raises_leaves_the_source_open(colour: Any) -> None:
    """The value that it was raised for is gone, the values after it are not."""

    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(4)
        for value in (1, 0, 2):
            await ops.send(source, value)
        (output,) = fan_out(source, 1, key=lambda value: 1 // value)
        assert await ops.recv(output, timeout=10) == 1
        with pytest.raises(ChannelClosed):
            await ops.recv(output, timeout=10)
        assert not source.closed
        assert source.recv_nowait() == 2

    colour.run(body)


def test_the_last_reader_leaves_the_source_open(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        (reader,) = broadcast(source, 1)
        await ops.send(source, 1)
        until(lambda: len(reader) == 1)
        reader.leave()
        until(lambda: source.statistics().waiting_receivers == 0)
        await ops.send(source, 2, timeout=10)
        assert (source.closed, source.recv_nowait()) == (False, 2)
        assert await ops.collect(reader) == [1]

    colour.run(body)


def test_a_key_that_raises_closes_the_outputs(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[Any] = Channel(1)
        outputs = fan_out(source, 2, key=lambda value: 1 // value)
        await ops.send(source, 0)
        for output in outputs:
            with pytest.raises(ChannelClosed) as caught:
                await ops.recv(output, timeout=10)
            assert isinstance(caught.value.__cause__, ZeroDivisionError)

    colour.run(body)


def test_a_coroutine_is_no_key(colour: Any) -> None:
    """Each is another: no two values would have the same."""

    async def coroutine_function(value: int) -> int:
        return value

    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        with pytest.raises(TypeError, match="is an async function, and fan_out"):
            fan_out(source, 2, key=coroutine_function)
        outputs = fan_out(source, 2, key=lambda value: coroutine_function(value))  # noqa: PLW0108
        await ops.send(source, 0)
        for output in outputs:
            with pytest.raises(ChannelClosed) as caught:
                await ops.recv(output, timeout=10)
            assert isinstance(caught.value.__cause__, TypeError)
            assert "returned a coroutine; a key has to be had without awaiting" in str(caught.value.__cause__)

    colour.run(body)


def test_broadcast_reaches_everybody(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(2)
        problem = ValueError("broken")
        readers = broadcast(source, 3)

        async def read(reader: Any) -> list[int]:
            got = []
            with pytest.raises(ChannelClosed) as caught:
                while True:
                    got.append(await ops.recv(reader))
            assert caught.value.__cause__ is problem
            return got

        workers = [ops.spawn(read, reader) for reader in readers]
        for number in range(50):
            await ops.send(source, number)
        source.close(problem)
        for worker in workers:
            assert await worker.outcome() == list(range(50))

    colour.run(body)


def test_the_slowest_reader_sets_the_pace_and_is_named(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel()
        fast, slow = broadcast(source, 2)
        await ops.send(source, 0, timeout=10)
        assert await ops.recv(fast, timeout=10) == 0
        with pytest.raises(TimeoutError):
            await ops.send(source, 1, timeout=0.05)
        statistics = fast.statistics()
        assert (statistics.slowest, statistics.behind) == (1, 0)
        assert slow.statistics().behind == 1
        assert slow.statistics().reader == 1
        assert await ops.recv(slow, timeout=10) == 0
        await ops.send(source, 1, timeout=10)
        source.close()
        reader = ops.spawn(ops.collect, slow)
        assert await ops.collect(fast) == [1]
        assert await reader.outcome() == [1]

    colour.run(body)


def test_statistics_compare_those_that_have_not_left(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(4)
        idle, fast, slow = broadcast(source, 3)
        for number in range(3):
            await ops.send(source, number)
            assert await ops.recv(fast, timeout=10) == number
        assert await ops.recv(slow, timeout=10) == 0
        assert (fast.statistics().slowest, idle.statistics().behind) == (0, 3)
        idle.leave()
        assert [reader.statistics().slowest for reader in (idle, fast, slow)] == [2, 2, 2]
        assert [reader.statistics().behind for reader in (idle, fast, slow)] == [3, 0, 2]
        fast.leave()
        assert [reader.statistics().behind for reader in (idle, fast, slow)] == [1, 0, 0]
        slow.leave()
        assert [reader.statistics().slowest for reader in (idle, fast, slow)] == [None, None, None]

    colour.run(body)


def test_the_slowest_is_named_after_the_end_of_the_source(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(4)
        fast, slow = broadcast(source, 2)
        for number in range(3):
            await ops.send(source, number)
        source.close()
        assert await ops.collect(fast) == [0, 1, 2]
        until(lambda: fast.closed and slow.closed)
        assert [reader.statistics().slowest for reader in (fast, slow)] == [1, 1]
        assert [reader.statistics().behind for reader in (fast, slow)] == [0, 3]
        assert await ops.collect(slow) == [0, 1, 2]
        assert slow.statistics().behind == 0
        assert await ops.recv_ok(slow) == (None, False)
        slow.leave()
        assert fast.statistics().slowest == 0

    colour.run(body)


@pytest.mark.parametrize("how", ["leave", "drop"])
def test_a_reader_that_goes_holds_nobody_back(colour: Any, how: str) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel()
        readers = broadcast(source, 2)
        stays, goes = readers
        del readers
        await ops.send(source, 0)
        assert await ops.recv(stays, timeout=10) == 0
        with pytest.raises(TimeoutError):
            await ops.send(source, 1, timeout=0.02)
        if how == "leave":
            goes.leave()
        del goes
        gc.collect()
        await ops.send(source, 1, timeout=10)
        assert await ops.recv(stays, timeout=10) == 1
        source.close()
        assert await ops.collect(stays) == []

    colour.run(body)


@pytest.mark.skipif(
    not penstock.COMPILED and not getattr(sys, "_is_gil_enabled", lambda: True)(),
    reason="interpreted and free-threaded, what another thread drops waits for the thread that made it",
)
def test_a_reader_dropped_by_another_thread_than_its_maker(colour: Any) -> None:
    """Free-threaded, its maker would have to run first, and here it waits for the reader to go."""

    async def body(_ops: Any) -> None:
        source: Channel[int] = Channel()
        readers = broadcast(source, 2)
        stays = readers[0]
        start = threading.Event()

        def drop() -> None:
            start.wait(20)
            readers.pop()

        def feed() -> None:
            source.send(1)
            source.send(2)
            source.close()

        threads = [threading.Thread(target=drop), threading.Thread(target=feed)]
        for thread in threads:
            thread.start()
        assert stays.recv(timeout=10) == 1
        start.set()
        assert stays.recv(timeout=10) == 2
        for thread in threads:
            thread.join(20)

    if colour.name == "threads":
        colour.run(body)


def test_with_the_last_reader_goes_the_task(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        one, two = broadcast(source, 2)
        until_collected(lambda: source.statistics().waiting_receivers == 1)
        one.leave()
        one.leave()
        assert source.statistics().waiting_receivers == 1
        del one, two
        until_collected(lambda: source.statistics().waiting_receivers == 0)
        await ops.send(source, 1)
        assert source.recv_nowait() == 1

    colour.run(body)


def test_the_context_ends_the_task(colour: Any) -> None:
    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(1)
        with cancel_scope():
            readers = broadcast(source, 2)
            until_collected(lambda: source.statistics().waiting_receivers == 1)
        for reader in readers:
            with pytest.raises(ChannelClosed) as caught:
                await ops.recv(reader, timeout=10)
            assert isinstance(caught.value.__cause__, Cancelled)
        assert source.statistics().waiting_receivers == 0

    colour.run(body)


def test_everything_together(colour: Any) -> None:
    """fan_in of fan_outs of a broadcast, threads and asyncio tasks mixed, with conservation."""

    async def body(ops: Any) -> None:
        source: Channel[int] = Channel(8)
        left, right = broadcast(source, 2)
        merged = fan_in(*fan_out(left, 2), *fan_out(right, 2, key=lambda value: value % 5))
        taken: Channel[int] = Channel(10_000)

        def consume() -> None:
            for value in merged:
                taken.send(value)

        threads = [threading.Thread(target=consume) for _ in range(3)]
        for thread in threads:
            thread.start()
        for number in range(300):
            await ops.send(source, number)
        source.close()
        for value in await ops.collect(merged):
            taken.send_nowait(value)
        for thread in threads:
            thread.join(20)
        assert sorted(taken.recv_nowait() for _ in range(600)) == sorted([*range(300), *range(300)])

    colour.run(body)


def test_misuse(colour: Any) -> None:
    channel: Channel[int] = Channel()
    with pytest.raises(TypeError, match="takes channels and receiving views"):
        fan_in(channel.sender)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="1 channel or more"):
        fan_out(channel, 0)
    with pytest.raises(TypeError, match="integer number"):
        broadcast(channel, 1.5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="function of a value"):
        fan_out(channel, 2, key=3)  # type: ignore[arg-type]
    assert repr(fan_in(channel)).startswith("<Merged of 1 channels at")
    assert select(fan_in(channel), default=True) is None
    if colour.name == "asyncio":

        async def body() -> None:
            with pytest.raises(RuntimeError, match="would block the event loop"):
                fan_in(channel).recv()

        asyncio.run(body())


def test_storm_of_leaving(colour: Any) -> None:
    """What was sent is what was received and what is still there, however many give up."""

    async def body(_ops: Any) -> None:
        sources = [Channel[int](2) for _ in range(4)]
        merged = fan_in(*sources)
        received: Channel[int] = Channel(10_000)

        def consume(seed: int) -> None:
            for turn in range(150):
                with move_on_after(0.0001 * ((seed + turn) % 3)):
                    received.send_nowait(merged.recv())

        def produce(source: Channel[int], base: int) -> None:
            for number in range(60):
                with move_on_after(0.05):
                    source.send(base + number)
                    continue
                break

        with Group() as group:
            for number, source in enumerate(sources):
                group.go(produce, source, number * 1000)
            for seed in range(3):
                group.go(consume, seed)
        sent = sum(source.statistics().sent for source in sources)
        rest = sum(len(source) for source in sources)
        assert len(received) + rest == sent
        values = [received.recv_nowait() for _ in range(len(received))]
        assert len(set(values)) == len(values)

    if colour.name == "threads":
        colour.run(body)
