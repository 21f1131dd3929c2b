"""Work on an executor of `concurrent.futures`: items in chunks, as large as pays and as small as lets others work."""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import Context
from time import perf_counter
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from penstock.channel import Channel
from penstock.context import current
from penstock.errors import WouldBlock
from penstock.group import shown
from penstock.patterns.coroutines import refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import Callable
    from concurrent.futures import Executor, Future

    from penstock._kernel.conveyor import Hand

CHUNK_SECONDS = 5e-3
"""How long a chunk should take: much longer than a call of another process, about 200 microseconds."""
PATIENCE = 2.0
"""Seconds: how long work that was cancelled is waited for."""
SPARE_CALLS = 2
"""How many more chunks than an executor has workers are under way, so that who ends one finds another."""
SHOWN, LONGEST = 3, 80
"""How many of a chunk's items an error shows, and how many characters of each."""
CHUNKS_SHOWN = 8


def _is_a(candidate: Any, name: str) -> bool:
    """An instance of that class of `concurrent.futures`? Nobody has to import it who has none."""
    return any(
        (base.__module__, base.__name__) == ("concurrent.futures._base", name) for base in type(candidate).__mro__
    )


def is_executor(candidate: Any) -> bool:
    return _is_a(candidate, "Executor")


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
        from pickle import dumps, loads  # Not for those who only start.
        from traceback import format_exception

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
            result = function(item)
            if type(result) is CoroutineType:
                refuse_coroutine(result, function, "pass the async function itself, to apmap, without on=")
            results.append(result)
    except BaseException as error:  # noqa: BLE001  carried to the caller
        failure = Raised(error)
    return results, failure, perf_counter() - start


class Chunks:
    """Calls of one function on one executor, with the chunk size that fits the cost of an item."""

    def __init__(self, executor: Executor, function: Callable[[Any], Any], most: int) -> None:
        self.executor = executor
        self.function = function
        self._most = max(1, most)
        self.size = 1
        self.item_seconds = float("inf")
        self.callers: list[Caller] = []

    def under_way(self) -> list[list[Any]]:
        """The items of each call."""
        return [items for caller in self.callers if (items := caller.items)]

    def took(self, seconds: float, items: int) -> None:
        """A chunk of so many items took so long where it ran."""
        self.item_seconds = seconds / items
        fitting = int(CHUNK_SECONDS / max(self.item_seconds, 1e-9))
        self.size = max(1, min(fitting, 4 * self.size, self._most))


class Caller:
    """One worker's calls, one chunk after the other.

    While there are items and all goes well, whoever ends a call begins the next: the worker's thread need not wake in
    between. It sleeps until there are no items, or a call failed.
    """

    def __init__(self, chunks: Chunks, hand: Hand) -> None:
        self._chunks = chunks
        self._hand = hand
        self._stopped = False
        self.items: list[Any] = []
        """Of the call that is under way."""
        self._future: Future[Any] | None = None
        self._failure: BaseException | None = None
        self._idle: Channel[None] = Channel(1)
        chunks.callers.append(self)

    def run(self, items: list[Any]) -> BaseException | None:
        """Call the function for these items, and for all that can be taken after them without waiting; returns the
        first error. Cancelled if the ambient context ends."""
        self._failure = None
        try:
            self._continue_after(self._submit(items))
        except BaseException as error:  # noqa: BLE001  a future's, or an executor's, of whatever kind
            self._fail(error)
        try:
            self._idle.recv()
        except BaseException:
            self._stopped = True
            future = self._future
            if future is not None and not future.cancel():
                with current().without_cancel().attach(), suppress(TimeoutError):
                    self._idle.recv(timeout=PATIENCE)  # It runs: what it has done is delivered.
            raise
        return self._failure

    def _continue_after(self, future: Future[Any] | None) -> None:
        """Have `_ended` called as it ends, in any thread; at once if it has."""
        while future is not None:  # Some executors run what is submitted there and then: not deeper and deeper.
            if not future.done():
                future.add_done_callback(self._called_back)
                return
            future = self._ended(future)

    def _called_back(self, future: Future[Any]) -> None:
        try:
            self._continue_after(self._ended(future))
        except BaseException as error:  # noqa: BLE001  nobody else would wake the worker
            self._fail(error)

    def _ended(self, future: Future[Any]) -> Future[Any] | None:
        """Deliver the results of a call, and begin the next; None, and the worker woken, if there is none."""
        items = self.items
        try:
            results, failure, seconds = future.result()
        except BaseException as error:  # noqa: BLE001  of the executor: the function's own came as a value
            self._fail(self._unable(error))
            return None
        self.items = []
        self._hand.give_many(results)
        if failure is not None:
            self._fail(failure.error)
            return None
        self._chunks.took(seconds, len(items))
        size = self._chunks.size
        items = [] if self._stopped else self._hand.take_many_now((size + 1) // 2, size)
        if not items:
            self._wake()
            return None
        return self._submit(items)

    def _submit(self, items: list[Any]) -> Future[Any] | None:
        self.items = items
        try:
            # In no context: the threads and processes that an executor starts meanwhile may keep theirs for ever.
            future = Context().run(self._chunks.executor.submit, call_chunk, self._chunks.function, items)
        except Exception as error:  # noqa: BLE001  of the executor: broken, or shut down
            self._fail(self._unable(error))
            return None
        self._future = future
        if self._stopped:
            future.cancel()
        return future

    def _fail(self, error: BaseException) -> None:
        self._failure = error
        self._wake()

    def _wake(self) -> None:
        with suppress(WouldBlock):  # It has been woken already.
            self._idle.send_nowait(None)

    def _unable(self, error: BaseException) -> RuntimeError:
        # When a worker dies, every call of its executor fails, and nobody knows whose it was.
        calls = self._chunks.under_way() if _is_a(error, "BrokenExecutor") else [self.items]
        what = _named(calls[0]) if len(calls) == 1 else f"one of these: {'; '.join(map(_named, calls[:CHUNKS_SHOWN]))}"
        more = "; …" if len(calls) > CHUNKS_SHOWN else ""
        executor = type(self._chunks.executor).__name__
        failure = RuntimeError(f"{executor} failed on {what}{more}: {type(error).__name__}: {shown(error, str)}")
        failure.__cause__ = error
        return failure


def _named(items: list[Any]) -> str:
    if len(items) == 1:
        return f"the item {_shortened(items[0])}"
    some = ", ".join(map(_shortened, items[:SHOWN])) + (f", … {_shortened(items[-1])}" if len(items) > SHOWN else "")
    return f"{len(items)} items ({some})"


def _shortened(item: Any) -> str:
    text = shown(item)
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"
