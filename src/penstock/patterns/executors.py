"""Work on an executor of `concurrent.futures`: items in chunks, as large as pays and as small as lets others work."""

from __future__ import annotations

import os
from pickle import dumps, loads
from time import perf_counter
from traceback import format_exception
from typing import TYPE_CHECKING, Any

from penstock.channel import Channel

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor

CHUNK_SECONDS = 5e-3
"""How long a chunk should take: much longer than a call of another process, about 200 microseconds."""
SHOWN, LONGEST = 3, 80
"""How many of a chunk's items an error shows, and how many characters of each."""


def is_executor(candidate: Any) -> bool:
    return all(callable(getattr(candidate, method, None)) for method in ("submit", "map", "shutdown"))


def workers_of(executor: Executor) -> int:
    """How many calls it runs at once, as far as it says."""
    workers = getattr(executor, "_max_workers", None)
    return workers if isinstance(workers, int) and workers > 0 else os.cpu_count() or 1


class RemoteTraceback(Exception):  # noqa: N818  it is the cause of one
    """Where an error was raised, in another process: its own traceback does not travel."""

    def __str__(self) -> str:
        return f"\n{self.args[0]}"


class Raised:
    """An error on its way back."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        error = self.error
        try:
            data = dumps(error)
        except Exception:  # noqa: BLE001  there are other ways to pickle; if this is none, the executor will say so
            data = b""
        try:
            if data:
                loads(data)  # noqa: S301  what it has pickled itself
        except Exception:  # noqa: BLE001  it would break the executor where it arrives
            error = RuntimeError(f"{type(error).__name__}, which cannot be unpickled, was raised: {error}")
        return _arrived, (error, "".join(format_exception(self.error)))


def _arrived(error: BaseException, traceback: str) -> Raised:
    error.__cause__ = RemoteTraceback(traceback)
    return Raised(error)


def call_chunk(function: Callable[[Any], Any], items: list[Any]) -> tuple[list[Any], Raised | None, float]:
    """There: the results up to the first error, that error, and the seconds that it took."""
    results: list[Any] = []
    failure = None
    start = perf_counter()
    try:
        for item in items:
            results.append(function(item))  # noqa: PERF401  what there is when it fails
    except BaseException as error:  # noqa: BLE001  carried to the caller
        failure = Raised(error)
    return results, failure, perf_counter() - start


class Chunks:
    """Calls of one function on one executor, with the chunk size that fits the cost of an item."""

    def __init__(self, executor: Executor, function: Callable[[Any], Any], most: int) -> None:
        self._executor = executor
        self._function = function
        self._most = max(1, most)
        self.size = 1
        self.item_seconds = float("inf")

    def call(self, items: list[Any]) -> tuple[list[Any], BaseException | None]:
        """Here: the results up to the first error, and that error. Cancelled if the ambient context ends."""
        try:
            future = self._executor.submit(call_chunk, self._function, items)
        except Exception as error:  # noqa: BLE001  of the executor: broken, or shut down
            return [], self._failure(items, error)
        ended: Channel[None] = Channel(1)
        future.add_done_callback(lambda _future: ended.close())
        try:
            ended.recv_ok()
        except BaseException:
            future.cancel()
            raise
        try:
            results, failure, seconds = future.result()
        except BaseException as error:  # noqa: BLE001  of the executor: the function's own came as a value
            return [], self._failure(items, error)
        if results and failure is None:
            self.item_seconds = seconds / len(items)
            fitting = int(CHUNK_SECONDS / max(self.item_seconds, 1e-9))
            self.size = max(1, min(fitting, 4 * self.size, self._most))
        return results, None if failure is None else failure.error

    def _failure(self, items: list[Any], error: BaseException) -> RuntimeError:
        shown = ", ".join(map(_shown, items[:SHOWN])) + (", …" if len(items) > SHOWN else "")
        what = f"the item {shown}" if len(items) == 1 else f"{len(items)} items ({shown})"
        failure = RuntimeError(f"{type(self._executor).__name__} failed on {what}: {type(error).__name__}: {error}")
        failure.__cause__ = error
        return failure


def _shown(item: Any) -> str:
    try:
        text = repr(item)
    except Exception:  # noqa: BLE001  a user's repr must not hide the failure
        text = object.__repr__(item)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
