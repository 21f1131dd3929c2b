"""What a thread does by itself: select, locks, contexts. Against Go, and against Python's locks and timeouts."""

from __future__ import annotations

import asyncio
import functools
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from harness import Scenario, UnavailableError

from penstock import Channel, Context, Mutex, Semaphore, fail_after, select

if TYPE_CHECKING:
    from collections.abc import Callable


@functools.cache
def _go_program() -> str:
    go = shutil.which("go")
    if go is None:
        raise UnavailableError("Go is not installed")
    directory = tempfile.TemporaryDirectory(prefix="penstock-bench-")
    _directories.append(directory)
    program = Path(directory.name) / "bench"
    subprocess.run([go, "build", "-o", program, "main.go"], cwd=Path(__file__).parent / "go", check=True)
    return str(program)


_directories: list[tempfile.TemporaryDirectory[str]] = []


def golang(name: str) -> Callable[[int], float]:
    """The scenario of that name in go/main.go, in a process of its own."""

    def run(n: int) -> float:
        enough = max(n, 100_000)  # to be measured at all
        done = subprocess.run([_go_program(), name, str(enough)], capture_output=True, text=True, check=True)
        return float(done.stdout) * n / enough

    return run


def select_of_four(n: int) -> float:
    a, b, c, d = (Channel[int](1) for _ in range(4))
    choose = select
    put = c.send
    start = perf_counter()
    for _ in range(n):
        put(1)
        choose(a, b, c, d)
    return perf_counter() - start


def select_with_default(n: int) -> float:
    a, b, c, d = (Channel[int](1) for _ in range(4))
    choose = select
    start = perf_counter()
    for _ in range(n):
        choose(a, b, c, d, default=True)
    return perf_counter() - start


def acquire_and_release(make: Callable[[], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        lock = make()
        start = perf_counter()
        for _ in range(n):
            lock.acquire()
            lock.release()
        return perf_counter() - start

    return run


def aiologic_semaphore(n: int) -> float:
    import aiologic

    semaphore: Any = aiologic.Semaphore(4)
    start = perf_counter()
    for _ in range(n):
        semaphore.green_acquire()
        semaphore.green_release()
    return perf_counter() - start


def child_context(n: int) -> float:
    with_cancel = Context.background().with_cancel().with_cancel
    start = perf_counter()
    for _ in range(n):
        with_cancel().cancel()
    return perf_counter() - start


def child_with_deadline(n: int) -> float:
    with_timeout = Context.background().with_cancel().with_timeout
    start = perf_counter()
    for _ in range(n):
        with_timeout(60).cancel()
    return perf_counter() - start


def limit_in_a_thread(n: int) -> float:
    limit = fail_after
    start = perf_counter()
    for _ in range(n):
        with limit(60):
            pass
    return perf_counter() - start


def anyio_limit(n: int) -> float:
    import anyio

    limit = anyio.fail_after

    async def main() -> float:
        start = perf_counter()
        for _ in range(n):
            with limit(60):
                pass
        return perf_counter() - start

    return asyncio.run(main())


def limit_in_asyncio(limit: Callable[[float], Any]) -> Callable[[int], float]:
    def run(n: int) -> float:
        async def main() -> float:
            start = perf_counter()
            for _ in range(n):
                async with limit(60):
                    pass
            return perf_counter() - start

        return asyncio.run(main())

    return run


SCENARIOS = [
    Scenario("select over 4, one ready", select_of_four, {"Go": golang("select4")}, (2.2, 2.2)),
    Scenario("select over 4, with default", select_with_default, {"Go": golang("default4")}, (1.4, 1.4)),
    Scenario(
        "uncontended mutex",
        acquire_and_release(Mutex),
        {"threading.Lock": acquire_and_release(threading.Lock)},
        (1.2, 1.25),
    ),
    Scenario(
        "uncontended semaphore",
        acquire_and_release(lambda: Semaphore(4)),
        {
            "aiologic": aiologic_semaphore,
            "threading.Semaphore": acquire_and_release(lambda: threading.Semaphore(4)),
        },
        (0.2, 0.16),
    ),
    Scenario("child context: create, cancel", child_context, {"Go": golang("context")}, (1.6, 1.6)),
    Scenario("the same with a deadline", child_with_deadline, {"Go": golang("deadline")}, (1.0, 1.0)),
    Scenario("fail_after in a thread", limit_in_a_thread, {"anyio.fail_after": anyio_limit}, (0.12, 0.12)),
    Scenario(
        "fail_after in asyncio",
        limit_in_asyncio(fail_after),
        {"asyncio.timeout": limit_in_asyncio(asyncio.timeout)},
        (0.35, 0.35),
    ),
]
