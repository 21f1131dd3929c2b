"""Channels between asyncio tasks, and from threads to them."""

from __future__ import annotations

import asyncio
import threading
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import Scenario

from penstock import Channel, aselect

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    Put = Callable[[Any], Awaitable[Any]]
    Get = Callable[[], Awaitable[Any]]
    Run = Callable[[Callable[[int], Awaitable[float]]], Callable[[int], float]]
    Both = Callable[[Callable[[], Coroutine[Any, Any, None]], Callable[[], Awaitable[float]]], Awaitable[float]]


def channel_pipe(capacity: int) -> tuple[Put, Get]:
    pipe: Channel[Any] = Channel(capacity)
    return pipe.asend, pipe.arecv


def queue_pipe(capacity: int) -> tuple[Put, Get]:
    pipe: asyncio.Queue[Any] = asyncio.Queue(max(capacity, 1))
    return pipe.put, pipe.get


def anyio_pipe(capacity: int) -> tuple[Put, Get]:
    import anyio

    sending, receiving = anyio.create_memory_object_stream[Any](capacity)
    _left_open.append((sending, receiving))
    return sending.send, receiving.receive


def aiologic_pipe(capacity: int) -> tuple[Put, Get]:
    import aiologic

    pipe: Any = aiologic.Queue(max(capacity, 1))
    return pipe.async_put, pipe.async_get


_left_open: list[Any] = []


def in_loop(scenario: Callable[[int], Awaitable[float]]) -> Callable[[int], float]:
    def run(n: int) -> float:
        async def main() -> float:
            return await scenario(n)

        took = asyncio.run(main())
        for streams in _left_open:
            for stream in streams:
                stream.close()
        _left_open.clear()
        return took

    return run


def in_trio(scenario: Callable[[int], Awaitable[float]]) -> Callable[[int], float]:
    def run(n: int) -> float:
        import trio

        return trio.run(scenario, n)

    return run


def trio_pipe(capacity: int) -> tuple[Put, Get]:
    import trio

    pipe: tuple[Any, Any] = trio.open_memory_channel(capacity)
    return pipe[0].send, pipe[1].receive


async def together(other: Callable[[], Coroutine[Any, Any, None]], own: Callable[[], Awaitable[float]]) -> float:
    """Both at once; gives what the second does."""
    task = asyncio.create_task(other())
    took = await own()
    await task
    return took


async def trio_together(other: Callable[[], Coroutine[Any, Any, None]], own: Callable[[], Awaitable[float]]) -> float:
    import trio

    async with trio.open_nursery() as nursery:
        nursery.start_soon(other)
        return await own()


def same_task(pipe: Callable[[int], tuple[Put, Get]], run: Run = in_loop) -> Callable[[int], float]:
    async def scenario(n: int) -> float:
        put, get = pipe(8)
        start = perf_counter()
        for _ in range(n):
            await put(1)
            await get()
        return perf_counter() - start

    return run(scenario)


def ping_pong(
    pipe: Callable[[int], tuple[Put, Get]], run: Run = in_loop, both: Both = together
) -> Callable[[int], float]:
    async def scenario(n: int) -> float:
        put, get = pipe(1)
        put_back, get_back = pipe(1)

        async def echo() -> None:
            for _ in range(n):
                await get()
                await put_back(1)

        async def play() -> float:
            start = perf_counter()
            for _ in range(n):
                await put(1)
                await get_back()
            return perf_counter() - start

        return await both(echo, play)

    return run(scenario)


def produce_and_consume(
    pipe: Callable[[int], tuple[Put, Get]], run: Run = in_loop, both: Both = together
) -> Callable[[int], float]:
    async def scenario(n: int) -> float:
        put, get = pipe(128)

        async def produce() -> None:
            for number in range(n):
                await put(number)

        async def consume() -> float:
            start = perf_counter()
            for _ in range(n):
                await get()
            return perf_counter() - start

        return await both(produce, consume)

    return run(scenario)


def from_a_thread(pipe: Callable[[int], tuple[Callable[[Any], object], Get]]) -> Callable[[int], float]:
    async def scenario(n: int) -> float:
        put, get = pipe(128)

        def produce() -> None:
            for number in range(n):
                put(number)

        thread = threading.Thread(target=produce)
        start = perf_counter()
        thread.start()
        for _ in range(n):
            await get()
        took = perf_counter() - start
        thread.join()
        return took

    return in_loop(scenario)


def channel_crossing(capacity: int) -> tuple[Callable[[Any], object], Get]:
    pipe: Channel[Any] = Channel(capacity)
    return pipe.send, pipe.arecv


def culsans_crossing(capacity: int) -> tuple[Callable[[Any], object], Get]:
    import culsans

    pipe: Any = culsans.Queue(capacity)
    return pipe.sync_q.put, pipe.async_q.get


def janus_crossing(capacity: int) -> tuple[Callable[[Any], object], Get]:
    import janus

    pipe: Any = janus.Queue(capacity)
    return pipe.sync_q.put, pipe.async_q.get


def aiologic_crossing(capacity: int) -> tuple[Callable[[Any], object], Get]:
    import aiologic

    pipe: Any = aiologic.Queue(capacity)
    return pipe.green_put, pipe.async_get


async def select_of_four(n: int) -> float:
    a, b, c, d = (Channel[int](1) for _ in range(4))
    put = c.asend
    start = perf_counter()
    for _ in range(n):
        await put(1)
        await aselect(a, b, c, d)
    return perf_counter() - start


async def aiochan_select_of_four(n: int) -> float:
    import aiochan

    a, b, c, d = (aiochan.Chan(1) for _ in range(4))
    put = c.put
    select = aiochan.select
    start = perf_counter()
    for _ in range(n):
        await put(1)
        await select(a, b, c, d)
    return perf_counter() - start


SCENARIOS = [
    Scenario(
        "asyncio, same task",
        same_task(channel_pipe),
        {
            "asyncio.Queue": same_task(queue_pipe),
            "anyio streams": same_task(anyio_pipe),
            "trio": same_task(trio_pipe, in_trio),
            "aiologic": same_task(aiologic_pipe),
        },
        (0.38, 0.32),
    ),
    Scenario(
        "asyncio ping-pong",
        ping_pong(channel_pipe),
        {
            "asyncio.Queue(1)": ping_pong(queue_pipe),
            "anyio streams": ping_pong(anyio_pipe),
            "trio": ping_pong(trio_pipe, in_trio, trio_together),
        },
        (0.78, 0.75),
    ),
    Scenario(
        "asyncio, producer and consumer",
        produce_and_consume(channel_pipe),
        {
            "asyncio.Queue": produce_and_consume(queue_pipe),
            "anyio streams": produce_and_consume(anyio_pipe),
            "trio": produce_and_consume(trio_pipe, in_trio, trio_together),
            "aiologic": produce_and_consume(aiologic_pipe),
        },
        (0.55, 0.48),
    ),
    Scenario(
        "thread to asyncio",
        from_a_thread(channel_crossing),
        {
            "culsans": from_a_thread(culsans_crossing),
            "janus": from_a_thread(janus_crossing),
            "aiologic": from_a_thread(aiologic_crossing),
        },
        (0.35, 0.22),
    ),
    Scenario(
        "aselect over 4, one ready", in_loop(select_of_four), {"aiochan": in_loop(aiochan_select_of_four)}, (0.07, 0.07)
    ),
]
