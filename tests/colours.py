"""Lets one test body run for threads and for asyncio tasks.

A body is an async function that takes `ops`. Its operations are awaited in both colours; for threads, the awaits never
suspend, since the operation has parked the thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from typing import TYPE_CHECKING, Any

import penstock

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine

LIMIT = 20


def drive(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine that never suspends."""
    try:
        coroutine.send(None)
    except StopIteration as stop:
        return stop.value
    coroutine.close()
    raise AssertionError("the thread colour suspended")


class Spawned:
    """A body at work beside the test's own."""

    def __init__(self, wait: Callable[[], Awaitable[Any]]) -> None:
        self.outcome = wait


class ThreadOps:
    """The thread colour."""

    name = "threads"

    def run(self, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        return drive(body(self))

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Spawned:
        box: dict[str, Any] = {}

        def work() -> None:
            try:
                box["value"] = drive(function(*args))
            except BaseException as error:  # noqa: BLE001
                box["error"] = error

        thread = threading.Thread(target=work, daemon=True)
        thread.start()

        async def wait() -> Any:
            thread.join(LIMIT)
            assert not thread.is_alive(), "hung"
            if "error" in box:
                raise box["error"]
            return box["value"]

        return Spawned(wait)

    async def pause(self) -> None:
        penstock.sleep(0.02)

    async def send(self, channel: Any, value: Any, timeout: float | None = None) -> None:
        channel.send(value, timeout)

    async def recv(self, channel: Any, timeout: float | None = None) -> Any:
        return channel.recv(timeout)

    async def recv_ok(self, channel: Any, timeout: float | None = None) -> Any:
        return channel.recv_ok(timeout)

    async def collect(self, channel: Any) -> list[Any]:
        return list(channel)

    async def select(self, *cases: Any, **options: Any) -> Any:
        return penstock.select(*cases, **options)

    async def call(self, target: Any, name: str, *args: Any, **options: Any) -> Any:
        """Any operation that comes in both colours, by its name for threads."""
        return getattr(target, name)(*args, **options)

    @contextlib.asynccontextmanager
    async def inside(self, manager: Any) -> AsyncIterator[Any]:
        """The block of a lock, scope or group, entered in this colour."""
        with manager as value:
            yield value


class AsyncOps:
    """The asyncio colour, on asyncio's own loop or on uvloop."""

    def __init__(self, name: str, factory: Callable[[], Any] | None) -> None:
        self.name = name
        self.factory = factory

    def run(self, body: Callable[[Any], Coroutine[Any, Any, Any]]) -> Any:
        async def limited() -> Any:
            async with asyncio.timeout(LIMIT):
                return await body(self)

        with asyncio.Runner(loop_factory=self.factory) as runner:
            return runner.run(limited())

    def spawn(self, function: Callable[..., Coroutine[Any, Any, Any]], *args: Any) -> Spawned:
        task = asyncio.ensure_future(function(*args))

        async def wait() -> Any:
            return await task

        return Spawned(wait)

    async def pause(self) -> None:
        await asyncio.sleep(0.02)

    async def send(self, channel: Any, value: Any, timeout: float | None = None) -> None:
        await channel.asend(value, timeout)

    async def recv(self, channel: Any, timeout: float | None = None) -> Any:
        return await channel.arecv(timeout)

    async def recv_ok(self, channel: Any, timeout: float | None = None) -> Any:
        return await channel.arecv_ok(timeout)

    async def collect(self, channel: Any) -> list[Any]:
        return [value async for value in channel]

    async def select(self, *cases: Any, **options: Any) -> Any:
        return await penstock.aselect(*cases, **options)

    async def call(self, target: Any, name: str, *args: Any, **options: Any) -> Any:
        """Any operation that comes in both colours, by its name for threads."""
        return await getattr(target, "wait_async" if name == "wait" else f"a{name}")(*args, **options)

    @contextlib.asynccontextmanager
    async def inside(self, manager: Any) -> AsyncIterator[Any]:
        """The block of a lock, scope or group, entered in this colour."""
        async with manager as value:
            yield value


COLOURS: list[Any] = [ThreadOps(), AsyncOps("asyncio", None)]
try:
    import uvloop
except ImportError:
    pass
else:
    COLOURS.append(AsyncOps("uvloop", uvloop.new_event_loop))
