"""Channels between threads, against the standard library's queues and those that threads and asyncio share."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import Scenario, UnavailableError, in_threads

import penstock
from penstock import Channel, select

if TYPE_CHECKING:
    from collections.abc import Callable

    Put = Callable[[Any], object]
    Get = Callable[[], object]


def culsans_pipe(capacity: int) -> tuple[Put, Get]:
    import culsans

    pipe: Any = culsans.Queue(capacity)
    return pipe.sync_q.put, pipe.sync_q.get


def aiologic_pipe(capacity: int) -> tuple[Put, Get]:
    import aiologic

    pipe: Any = aiologic.Queue(capacity)
    return pipe.green_put, pipe.green_get


def queue_pipe(capacity: int) -> tuple[Put, Get]:
    pipe: queue.Queue[Any] = queue.Queue(capacity)
    return pipe.put, pipe.get


def simple_pipe(_capacity: int) -> tuple[Put, Get]:
    pipe: queue.SimpleQueue[Any] = queue.SimpleQueue()
    return pipe.put, pipe.get


def channel_pipe(capacity: int) -> tuple[Put, Get]:
    pipe: Channel[Any] = Channel(capacity)
    return pipe.send, pipe.recv


def select_pipe(_capacity: int) -> tuple[Put, Get]:
    """Each operation a select, beside a channel that stays silent."""
    pipe: Channel[Any] = Channel()
    silent: Channel[Any] = Channel()
    sending = pipe.sending
    return (lambda value: select(sending(value), silent)), (lambda: select(pipe, silent))


def same_thread(n: int) -> float:
    pipe: Channel[int] = Channel(8)
    start = perf_counter()
    for _ in range(n):
        pipe.send(1)
        pipe.recv()
    return perf_counter() - start


def same_thread_queue(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        pipe = make()
        start = perf_counter()
        for _ in range(n):
            pipe.put(1)
            pipe.get()
        return perf_counter() - start

    return run


def culsans_queue() -> Any:
    import culsans

    return culsans.Queue[int](8).sync_q


def many_to_many(pipe: Callable[[int], tuple[Put, Get]], width: int) -> Callable[[int], float]:
    """`width` producers and as many consumers."""

    def run(n: int) -> float:
        put, get = pipe(128)
        share = -(-n // width)

        def produce() -> None:
            for number in range(share):
                put(number)

        def consume() -> None:
            for _ in range(share):
                get()

        return in_threads(*[produce] * width, *[consume] * width)

    return run


def ping_pong(pipe: Callable[[int], tuple[Put, Get]]) -> Callable[[int], float]:
    def run(n: int) -> float:
        put, get = pipe(0)
        put_back, get_back = pipe(0)

        def echo() -> None:
            for _ in range(n):
                get()
                put_back(1)

        thread = threading.Thread(target=echo)
        thread.start()
        start = perf_counter()
        for _ in range(n):
            put(1)
            get_back()
        took = perf_counter() - start
        thread.join()
        return took

    return run


def pinned(name: str) -> Callable[[int], float]:
    """The ping-pong in a process of its own that may use one CPU only."""

    def run(n: int) -> float:
        if not hasattr(os, "sched_setaffinity"):
            raise UnavailableError("this system does not pin processes to CPUs")
        command = [sys.executable, __file__, name, str(n)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return float(done.stdout)

    return run


def start_and_join(n: int) -> float:
    go = penstock.go
    start = perf_counter()
    for _ in range(n):
        go(_nothing).result()
    return perf_counter() - start


def submit_and_join(n: int) -> float:
    with ThreadPoolExecutor(2) as executor:
        submit = executor.submit
        start = perf_counter()
        for _ in range(n):
            submit(_nothing).result()
        return perf_counter() - start


def _nothing() -> None:
    pass


SCENARIOS = [
    Scenario(
        "same thread: send, recv",
        same_thread,
        {
            "queue.SimpleQueue": same_thread_queue(queue.SimpleQueue),
            "queue.Queue": same_thread_queue(lambda: queue.Queue(8)),
            "culsans": same_thread_queue(culsans_queue),
        },
        (1.65, 1.4),
    ),
    Scenario(
        "1 producer, 1 consumer",
        many_to_many(channel_pipe, 1),
        {
            "queue.Queue": many_to_many(queue_pipe, 1),
            "culsans": many_to_many(culsans_pipe, 1),
            "aiologic": many_to_many(aiologic_pipe, 1),
        },
        (0.15, 0.25),
    ),
    Scenario(
        "ping-pong",
        ping_pong(channel_pipe),
        {"pair of SimpleQueue": ping_pong(simple_pipe), "pair of queue.Queue": ping_pong(queue_pipe)},
        (0.05, 0.06),
    ),
    Scenario("ping-pong on one CPU", pinned("penstock"), {"pair of SimpleQueue": pinned("SimpleQueue")}, (1.0, 1.0)),
    Scenario(
        "4 producers, 4 consumers",
        many_to_many(channel_pipe, 4),
        {"queue.Queue": many_to_many(queue_pipe, 4), "culsans": many_to_many(culsans_pipe, 4)},
        (0.25, 0.35),
    ),
    Scenario(
        "ping-pong through select",
        ping_pong(select_pipe),
        {"pair of SimpleQueue": ping_pong(simple_pipe)},
        (0.06, 0.08),
    ),
    Scenario("start and join a task", start_and_join, {"ThreadPoolExecutor": submit_and_join}, (0.3, 0.07)),
]

if __name__ == "__main__":
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    print(ping_pong({"penstock": channel_pipe, "SimpleQueue": simple_pipe}[sys.argv[1]])(int(sys.argv[2])))
