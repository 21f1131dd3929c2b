"""The patterns, against what the standard library and others have for them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from multiprocessing.pool import ThreadPool
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import Scenario, in_threads

from penstock import PressureGauge, ShardedMap, apmap, pmap

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

LIMIT = 4


def as_long_as(seconds: float, work: Callable[[int], object]) -> int:
    """The amount of `work` that takes about that long on this machine: by the best of a few."""
    amount = 1000
    while True:
        took = []
        for _ in range(20):
            start = perf_counter()
            work(amount)
            took.append(perf_counter() - start)
        if min(took) >= seconds / 4:
            return round(amount * seconds / min(took))
        amount *= 2


def nothing(item: int) -> int:
    return item


MEGABYTE = memoryview(bytes(1 << 20))
BLOCK = MEGABYTE[: as_long_as(20e-6, lambda size: zlib.crc32(MEGABYTE[:size]))]


def checksum(_item: int) -> int:
    """A call of 20 microseconds that releases the GIL."""
    return zlib.crc32(BLOCK)


async def anothing(item: int) -> int:
    return item


async def once(item: int) -> int:
    await asyncio.sleep(0)
    return item


def mapped(function: Callable[[int], int]) -> Callable[[int], float]:
    def run(n: int) -> float:
        start = perf_counter()
        for _ in pmap(function, range(n), limit=LIMIT):
            pass
        return perf_counter() - start

    return run


def imapped(function: Callable[[int], int]) -> Callable[[int], float]:
    def run(n: int) -> float:
        with ThreadPool(LIMIT) as pool:
            start = perf_counter()
            for _ in pool.imap(function, range(n)):
                pass
            return perf_counter() - start

    return run


def bare(function: Callable[[int], int]) -> Callable[[int], float]:
    """As many threads with as many calls each, that hand nothing over: the limit of the machine."""

    def run(n: int) -> float:
        def work() -> None:
            for item in range(n // LIMIT):
                function(item)

        return in_threads(*[work] * LIMIT)

    return run


def amapped(function: Callable[[int], Awaitable[int]]) -> Callable[[int], float]:
    async def work(n: int) -> float:
        start = perf_counter()
        async for _ in apmap(function, range(n), limit=LIMIT):
            pass
        return perf_counter() - start

    return lambda n: asyncio.run(work(n))


def streamed(function: Callable[[int], Awaitable[int]]) -> Callable[[int], float]:
    async def work(n: int) -> float:
        from streamable import stream

        start = perf_counter()
        async for _ in stream(range(n)).map(function, concurrency=LIMIT):
            pass
        return perf_counter() - start

    return lambda n: asyncio.run(work(n))


def concurrent_dict() -> Any:
    from ft_utils.concurrency import ConcurrentDict

    return ConcurrentDict()


def getting(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        values = make()
        values["key"] = 1
        start = perf_counter()
        for _ in range(n):
            _ = values["key"]
        return perf_counter() - start

    return run


def setting(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        values = make()
        start = perf_counter()
        for number in range(n):
            values["key"] = number
        return perf_counter() - start

    return run


def half_and_half(make: Callable[[], Any]) -> Callable[[int], float]:
    """Two threads, each with keys of its own, setting and getting in turn."""

    def run(n: int) -> float:
        values = make()
        rounds = max(1, n // 400)

        def work(prefix: str) -> None:
            keys = [f"{prefix}{number}" for number in range(100)]
            for _ in range(rounds):
                for key in keys:
                    values[key] = 1
                for key in keys:
                    values[key]

        return in_threads(partial(work, "a"), partial(work, "b")) * n / (rounds * 400)

    return run


class Locked:
    """What people write: a dictionary and a lock."""

    def __init__(self) -> None:
        self._values: dict[str, int] = {}
        self._lock = threading.Lock()

    def update_with(self, key: str, function: Callable[[int], int], default: int) -> int:
        with self._lock:
            value = self._values[key] = function(self._values.get(key, default))
            return value


def updating(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        values = make()
        update = values.update_with
        start = perf_counter()
        for _ in range(n):
            update("key", _more, 0)
        return perf_counter() - start

    return run


def _more(value: int) -> int:
    return value + 1


def permits(n: int) -> float:
    gauge = PressureGauge(10)
    start = perf_counter()
    for _ in range(n):
        gauge.try_acquire().release()  # type: ignore[union-attr]
    return perf_counter() - start


def capacity_limiter(n: int) -> float:
    import aiologic

    limiter: Any = aiologic.CapacityLimiter(10)
    start = perf_counter()
    for _ in range(n):
        limiter.green_acquire()
        limiter.green_release()
    return perf_counter() - start


def gauged(n: int) -> float:
    gauge = PressureGauge(10)
    start = perf_counter()
    for _ in range(n):
        gauge.do(nothing, 0)
    return perf_counter() - start


def bounded(n: int) -> float:
    semaphore = threading.BoundedSemaphore(10)
    start = perf_counter()
    for _ in range(n):
        with semaphore:
            nothing(0)
    return perf_counter() - start


PEAK = """
import sys, resource
from penstock import Stream
def work(n):
    stream = Stream(range(n)).map(abs, limit=4).filter(bool).map(str, limit=4).batch(10).map(len, limit=4)
    for _ in stream: pass
work(int(sys.argv[1]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def peak(items: int) -> Callable[[int], float]:
    """The peak memory of a stream of five stages, in a process of its own."""

    def run(n: int) -> float:
        done = subprocess.run([sys.executable, "-c", PEAK, str(items)], capture_output=True, text=True, check=True)
        return float(done.stdout) * 1024 * n

    return run


def spin(rounds: int, _item: int = 0) -> int:
    """Pure Python."""
    total = 0
    for number in range(rounds):
        total += number
    return total


SPINNING = partial(spin, as_long_as(10e-6, spin))
"""A function of 10 microseconds."""


class Processes:
    """One pool for all rounds: starting one is not what is measured."""

    def __init__(self) -> None:
        self._executor: ProcessPoolExecutor | None = None

    def __call__(self) -> ProcessPoolExecutor:
        if self._executor is None:
            self._executor = ProcessPoolExecutor(2, mp_context=get_context("spawn"))
            list(self._executor.map(SPINNING, range(100)))
        return self._executor


PROCESSES = Processes()


def in_processes(n: int) -> float:
    executor = PROCESSES()
    start = perf_counter()
    for _ in pmap(SPINNING, range(n), on=executor):
        pass
    return perf_counter() - start


def map_in_processes(n: int) -> float:
    executor = PROCESSES()
    start = perf_counter()
    for _ in executor.map(SPINNING, range(n), chunksize=500):
        pass
    return perf_counter() - start


SCENARIOS = [
    Scenario("pmap of a no-op", mapped(nothing), {"ThreadPool.imap": imapped(nothing)}, (0.2, 0.22), operations=20_000),
    Scenario(
        "pmap of a 20 µs call",
        mapped(checksum),
        {"ThreadPool.imap": imapped(checksum), "bare threads": bare(checksum)},
        (0.78, 0.9),
        operations=20_000,
    ),
    Scenario("apmap of a no-op", amapped(anothing), {"streamable": streamed(anothing)}, (0.15, 0.15)),
    Scenario("apmap that yields once", amapped(once), {"streamable": streamed(once)}, (0.7, 0.7)),
    Scenario("ShardedMap get", getting(ShardedMap), {"ft_utils": getting(concurrent_dict)}, (1.15, 1.15)),
    Scenario("ShardedMap set", setting(ShardedMap), {"ft_utils": setting(concurrent_dict)}, (1.15, 1.15)),
    Scenario(
        "ShardedMap, 2 threads", half_and_half(ShardedMap), {"ft_utils": half_and_half(concurrent_dict)}, (1.15, 1.0)
    ),
    Scenario("ShardedMap update_with", updating(ShardedMap), {"dict and Lock": updating(Locked)}, (0.6, 0.5)),
    Scenario("PressureGauge try, release", permits, {"aiologic CapacityLimiter": capacity_limiter}, (0.17, 0.2)),
    Scenario("PressureGauge do", gauged, {"BoundedSemaphore": bounded}, (0.27, 0.25)),
    Scenario(
        "peak of a stream, 1,000,000", peak(1_000_000), {"10,000 items": peak(10_000)}, (1.05, 1.05), unit="bytes"
    ),
    Scenario(
        "pmap on 2 processes",
        in_processes,
        {"Executor.map, by 500": map_in_processes},
        (1.1, 1.1),
        operations=50_000,
    ),
]
