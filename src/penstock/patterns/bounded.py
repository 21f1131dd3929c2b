"""Bounded parallelism: a function over many items, with no more than so many at work and so many items taken ahead.

Three roles, connected by channels, each a thread or an asyncio task as its part of the work demands:

    feeder    takes items from the source, one for each place that is free in `room`     -> queue
    workers   call the function                                                           -> done
    reader    the iterator that was returned: puts results in order, gives the places back

The places bound what is under way, so neither channel is ever full, and whoever stops reading stops all of it.
"""

from __future__ import annotations

import os
from contextlib import suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, final, overload

from penstock._kernel.latch import Countdown
from penstock._kernel.locks import now
from penstock._kernel.loops import is_own_cancellation
from penstock.channel import Channel
from penstock.context import current
from penstock.errors import Cancelled, ChannelClosed, WouldBlock
from penstock.group import is_async, refuse_in_loop, start_task, wait_for_zero
from penstock.patterns.executors import Chunks, is_executor, workers_of
from penstock.sync import Semaphore

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from concurrent.futures import Executor
    from types import TracebackType

    from penstock.context import Context

__all__ = ["AsyncResults", "Results", "afor_each", "apmap", "for_each", "pmap"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD_OF_QUICK_ITEMS = 1024
"""How many items are taken ahead at most while they take microseconds."""
QUICK = 100e-6
"""Seconds: items that take less are quick."""
PATIENCE = 2.0
"""Seconds: how long work that was cancelled is waited for."""


class Failure:
    """In place of a result: the error that there was instead."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException) -> None:
        self.error = error


@final
class Run:
    """What feeder, workers and reader share."""

    _collects: ClassVar[bool] = True

    def __init__(
        self, function: Callable[[Any], Any], items: Any, limit: int | None, on: Executor | None, ahead: int | None
    ) -> None:
        if not callable(function):
            raise TypeError(f"what is to be called for each item must be a function, not {function!r}")
        if on is not None and not is_executor(on):
            raise TypeError(f"on= takes an executor of concurrent.futures, or None, not {on!r}")
        if on is not None and is_async(function):
            raise TypeError(f"{function!r} is an async function, which no executor runs; leave out on=")
        self.function = function
        self.items = items
        self.on = on
        if limit is None:
            limit = min(32, (os.cpu_count() or 1) + 4) if on is None else workers_of(on) + 1
        self.limit = positive(limit, "limit")
        self.least = 2 * self.limit if ahead is None else positive(ahead, "ahead")
        self.most = max(self.least, AHEAD_OF_QUICK_ITEMS) if ahead is None else self.least
        self.ahead = self.least
        self.since = now()
        self.reckoned = 2 * self.least if self.most > self.least else -1  # The first places are free from the start.
        self.context: Context = current().with_cancel()
        self.room = Semaphore(self.most)
        if self.most > self.least:
            self.room.try_acquire(self.most - self.least)
        self.queue: Channel[tuple[int, Any]] = Channel(self.most)
        self.done: Channel[tuple[int, Any]] = Channel(self.most)
        self.at_work = Countdown(1)  # The feeder, and those it starts.
        self.at_work.closed_at_zero(self.done)
        self.workers = 0
        self.source_error: BaseException | None = None
        self.total = -1
        """How many items there were, once the source has come to its end."""
        self.chunks = None if on is None else Chunks(on, function, self.most // (self.limit + 1))

    def start(self, role: Callable[..., Any]) -> None:
        with self.context.attach():
            start_task(role, (self,), self)

    def start_worker_if_needed(self) -> None:
        """One more for the item that comes next, unless one waits for it or the limit is reached."""
        if self.workers < self.limit and not self.queue.counts()[4]:
            self.workers += 1
            self.at_work.add(1)
            if self.chunks is not None:
                self.start(_work_on_executor)
            else:
                self.start(_work_async if is_async(self.function) else _work)

    def change_of_pace(self, number: int) -> int:
        """As the feeder comes to this item: how many places more, or, negative, fewer there should be from now on."""
        at = now()
        if self.chunks is None:
            quick = (at - self.since) * min(self.limit, self.workers) < QUICK * self.ahead
        else:
            quick = self.chunks.item_seconds < QUICK
        change = min(self.ahead, self.most - self.ahead) if quick else self.least - self.ahead
        self.ahead += change
        self.since = at
        self.reckoned = number + self.ahead + max(change, 0)
        return change

    def portion(self) -> int:
        """How many places the feeder takes at once: many, while there are many, so that it wakes seldom."""
        return 1 if self.ahead == self.least else self.ahead // 4

    def failed(self, number: int, error: BaseException) -> None:
        """An item failed: everything else is cancelled. What ends because of that has not failed."""
        if self._ended_by(error):
            return
        self.done.send_nowait((number, Failure(_no_end(error, self.function))))
        self.context.cancel()

    def source_failed(self, error: BaseException) -> None:
        """The source did. If it ended because nobody reads any more, it has not failed."""
        if not self._ended_by(error):
            self.source_error = _no_end(error, "the source")

    def _ended_by(self, error: BaseException) -> bool:
        return self.context.error is not None and (isinstance(error, Cancelled) or is_own_cancellation(error))

    # As the owner of its tasks

    def _member_ended(self, context: Context, error: BaseException | None) -> None:
        pass

    def _member_gone(self, _context: Context) -> None:
        """A task has ended, whether it began or not."""
        self.at_work.add(-1)


def _no_end(error: BaseException, raised_by: Any) -> BaseException:
    """An error of somebody else's, as one that does not look like the end of the results."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    failure = RuntimeError(f"{raised_by if isinstance(raised_by, str) else repr(raised_by)} raised {error!r}")
    failure.__cause__ = error
    return failure


def positive(n: Any, name: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{name} must be an integer, not {n!r}")
    if n < 1:
        raise ValueError(f"{name} must be 1 or more, not {n}: nothing could ever run")
    return n


# Feeders


def _feed(run: Run) -> None:
    number = places = 0
    room = run.room
    send = run.queue.send_nowait
    try:
        source = iter(run.items)
        run.items = None
        run.since = now()
        while True:
            if not places:
                places = run.portion()
                room.acquire(places)
            places -= 1
            try:
                item = next(source)
            except StopIteration:
                run.total = number
                break
            if run.workers < run.limit:
                run.start_worker_if_needed()
            send((number, item))
            del item
            number += 1
            if number == run.reckoned:
                change = run.change_of_pace(number)
                if change > 0:
                    room.release(change)
                elif change:
                    room.release(places)
                    places = 0
                    room.acquire(-change)
    except BaseException as error:  # noqa: BLE001  the reader's business
        run.source_failed(error)
    finally:
        run.queue.close()


async def _feed_async(run: Run) -> None:
    number = places = 0
    room = run.room
    send = run.queue.send_nowait
    try:
        is_async_source = hasattr(run.items, "__aiter__")
        source = aiter(run.items) if is_async_source else iter(run.items)
        run.items = None
        run.since = now()
        while True:
            if not places:
                places = run.portion()
                await room.aacquire(places)
            places -= 1
            try:
                item = await anext(source) if is_async_source else next(source)
            except (StopIteration, StopAsyncIteration):
                run.total = number
                break
            if run.workers < run.limit:
                run.start_worker_if_needed()
            send((number, item))
            del item
            number += 1
            if number == run.reckoned:
                change = run.change_of_pace(number)
                if change > 0:
                    room.release(change)
                elif change:
                    room.release(places)
                    places = 0
                    await room.aacquire(-change)
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001  the reader's business
        run.source_failed(error)
    finally:
        run.queue.close()


# Workers


def _work(run: Run) -> None:
    function = run.function
    send = run.done.send_nowait
    for number, item in run.queue:
        try:
            result = function(item)
        except BaseException as error:  # noqa: BLE001  the reader's business
            run.failed(number, error)
            continue
        if type(result) is CoroutineType:
            result.close()
            run.failed(
                number, TypeError(f"{function!r} returned a coroutine; pass the async function itself, to apmap")
            )
            continue
        send((number, result))
        del item, result


async def _work_async(run: Run) -> None:
    function = run.function
    send = run.done.send_nowait
    async for number, item in run.queue:
        try:
            result = await function(item)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  the reader's business
            run.failed(number, error)
            continue
        send((number, result))
        del item, result


def _work_on_executor(run: Run) -> None:
    chunks = run.chunks
    assert chunks is not None  # noqa: S101
    for number, item in run.queue:
        numbers, items = [number], [item]
        while len(items) < chunks.size:
            try:
                number, item = run.queue.recv_nowait()  # noqa: PLW2901
            except Exception:  # noqa: BLE001  empty, or closed
                break
            numbers.append(number)
            items.append(item)
        results, error = chunks.call(items)
        for place, result in zip(numbers, results, strict=False):
            run.done.send_nowait((place, result))
        if error is not None:
            run.failed(numbers[len(results)], error)


# Readers


class _Reader(Generic[R]):
    __slots__ = ("__weakref__", "_ended", "_failure", "_feeder", "_held", "_next", "_ordered", "_run", "_started")

    def __init__(self, run: Run, feeder: Callable[[Run], Any], *, ordered: bool) -> None:
        self._run = run
        self._feeder = feeder
        self._ordered = ordered
        self._held: dict[int, Any] = {}
        self._next = 0
        self._failure: Failure | None = None
        self._started = False
        self._ended = False

    def _begin(self) -> None:
        self._started = True
        self._run.start(self._feeder)

    def _finish(self) -> None:
        """End all work, and let go of everything."""
        self._ended = True
        self._held.clear()
        self._run.context.cancel()
        if not self._started:
            self._run.at_work.add(-1)
            self._started = True

    def _closed(self) -> BaseException | None:
        """All has been read, or the source failed, or the context ended that the work was begun in."""
        self._ended = True
        run = self._run
        if run.source_error is None and self._next != run.total:  # It must not look like the end.
            try:
                run.context.check()
            except Cancelled as error:
                return error
        run.context.cancel()
        return run.source_error

    def _failed(self, number: int, failure: Failure) -> None:
        """After all work has ended: what is done is delivered, up to the first item that is not; then the failure."""
        held = self._held
        held[number] = failure
        while True:
            try:
                at, value = self._run.done.recv_nowait()
            except (WouldBlock, ChannelClosed):
                break
            held.setdefault(at, value)
        self._failure = failure

    def _after_failure(self) -> Any:
        """The next of the results that are there nevertheless."""
        value = self._held.pop(self._next, self._failure) if self._ordered else self._failure
        self._next += 1
        if type(value) is Failure:
            self._ended = True
            self._held.clear()
            raise value.error
        return value

    def __del__(self) -> None:
        if hasattr(self, "_run") and not self._ended:
            self._finish()


@final
class Results(_Reader[R]):
    """The results of `pmap`, an iterator for one thread at a time. `close`, or leave its `with` block, to end early."""

    __slots__ = ()

    def __iter__(self) -> Iterator[R]:
        return self

    def __next__(self) -> R:  # noqa: C901  the path of every item is one piece
        if self._ended:
            raise StopIteration
        if self._failure is not None:
            return self._after_failure()  # type: ignore[no-any-return]
        if not self._started:
            refuse_in_loop("pmap()", "async for … in apmap()")
            self._begin()
        run = self._run
        held = self._held
        number = self._next
        if number in held:
            value = held.pop(number)
        else:
            try:
                at, value = next(run.done)
                if self._ordered:
                    while at != number and type(value) is not Failure:
                        held[at] = value
                        at, value = next(run.done)
                if type(value) is Failure:
                    self._wait()
                    self._failed(at, value)
                    return self._after_failure()  # type: ignore[no-any-return]
            except StopIteration:
                error = self._closed()
                if error is None:
                    raise
                raise error from None
            except BaseException:
                if self._failure is None:
                    self.close()
                raise
        self._next = number + 1
        run.room.release()
        return value  # type: ignore[no-any-return]

    def close(self) -> None:
        """End the work: what is under way is cancelled and waited for, for two seconds at most. Idempotent."""
        self._finish()
        self._wait()

    def _wait(self) -> None:
        # It may not react; and a thread that runs an event loop must not wait.
        with suppress(TimeoutError, RuntimeError):
            self._run.at_work.wait_in_thread(PATIENCE, "Results.close", "AsyncResults.aclose", True)

    def __enter__(self) -> Results[R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
class AsyncResults(_Reader[R]):
    """The results of `apmap`, an asynchronous iterator. `await aclose()`, or leave its block, to end early."""

    __slots__ = ()

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:  # noqa: C901  as Results
        if self._ended:
            raise StopAsyncIteration
        if self._failure is not None:
            return self._after_failure()  # type: ignore[no-any-return]
        if not self._started:
            self._begin()
        run = self._run
        held = self._held
        number = self._next
        if number in held:
            value = held.pop(number)
        else:
            try:
                at, value = await run.done.arecv()
                if self._ordered:
                    while at != number and type(value) is not Failure:
                        held[at] = value
                        at, value = await run.done.arecv()
                if type(value) is Failure:
                    await self._wait()
                    self._failed(at, value)
                    return self._after_failure()  # type: ignore[no-any-return]
            except ChannelClosed:
                error = self._closed()
                if error is None:
                    raise StopAsyncIteration from None
                raise error from None
            except BaseException:
                if self._failure is None:
                    await self.aclose()
                raise
        self._next = number + 1
        run.room.release()
        return value  # type: ignore[no-any-return]

    async def aclose(self) -> None:
        """End the work: what is under way is cancelled and waited for, for two seconds at most. Idempotent."""
        self._finish()
        await self._wait()

    async def _wait(self) -> None:
        with suppress(TimeoutError):  # It may not react.
            await wait_for_zero(self._run.at_work, PATIENCE, "AsyncResults.aclose", shielded=True)

    async def __aenter__(self) -> AsyncResults[R]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


# What is called


def pmap(
    function: Callable[[T], R],
    items: Iterable[T],
    limit: int | None = None,
    *,
    ordered: bool = True,
    on: Executor | None = None,
    ahead: int | None = None,
) -> Results[R]:
    """Call `function` for every item, with at most `limit` calls at once; an iterator of the results.

    Nothing is taken from `items` before the first result is asked for, and at most `ahead` items are taken and not yet
    delivered: by default twice the limit, and up to 1,024 while items take microseconds. Results come in the order of
    the items, or with `ordered=False` as they are ready. The calls run in threads, or on the executor `on`, several
    items at a time where they are quick; `items` is iterated in one thread of its own. The default limit is five more
    than there are processors, 32 at most; on an executor, one more than its workers.

    The first failure cancels what is under way, which is waited for, for two seconds at most. Then it is raised bare,
    in its place: after what is there of the results before it. An error of `items` is raised after the results of all
    that came before. Work under way is cancelled and waited for as well when the ambient context ends, and on leaving
    early: `close()`, the end of a `with` block, or dropping the iterator, which does not wait.
    """
    if hasattr(items, "__aiter__") and not hasattr(items, "__iter__"):
        raise TypeError(f"{items!r} is an asynchronous iterable; use 'async for … in apmap()'")
    if is_async(function):
        raise TypeError(f"{function!r} is an async function; use 'async for … in apmap()'")
    _iterable(items)
    return Results(Run(function, items, limit, on, ahead), _feed, ordered=ordered)


@overload
def apmap(
    function: Callable[[T], Awaitable[R]],
    items: Iterable[T] | AsyncIterable[T],
    limit: int | None = None,
    *,
    ordered: bool = True,
    on: None = None,
    ahead: int | None = None,
) -> AsyncResults[R]: ...
@overload
def apmap(
    function: Callable[[T], R],
    items: Iterable[T] | AsyncIterable[T],
    limit: int | None = None,
    *,
    ordered: bool = True,
    on: Executor | None = None,
    ahead: int | None = None,
) -> AsyncResults[R]: ...
def apmap(
    function: Callable[[T], Any],
    items: Iterable[T] | AsyncIterable[T],
    limit: int | None = None,
    *,
    ordered: bool = True,
    on: Executor | None = None,
    ahead: int | None = None,
) -> AsyncResults[Any]:
    """As `pmap`, for an asyncio task: an asynchronous iterator of the results.

    Async functions run as asyncio tasks of the running loop, others in threads or on the executor `on`. Items may come
    from an iterable of either kind; one that is not asynchronous is iterated in the loop for async functions, and
    otherwise in a thread.
    """
    is_async_source = hasattr(items, "__aiter__")
    if not is_async_source:
        _iterable(items)
    run = Run(function, items, limit, on, ahead)
    return AsyncResults(run, _feed_async if is_async_source or is_async(function) else _feed, ordered=ordered)


def _iterable(items: Any) -> None:
    if not hasattr(items, "__iter__") and not hasattr(items, "__getitem__"):
        raise TypeError(f"what the function is called for must be an iterable, not {items!r}")


def for_each(
    function: Callable[[T], object],
    items: Iterable[T],
    limit: int | None = None,
    *,
    on: Executor | None = None,
    ahead: int | None = None,
) -> None:
    """Call `function` for every item, with at most `limit` calls at once; wait for all. As `pmap`, without results."""
    with pmap(function, items, limit, ordered=False, on=on, ahead=ahead) as results:
        for _ in results:
            pass


async def afor_each(
    function: Callable[[T], object],
    items: Iterable[T] | AsyncIterable[T],
    limit: int | None = None,
    *,
    on: Executor | None = None,
    ahead: int | None = None,
) -> None:
    """As `for_each`, for an asyncio task to await."""
    async with apmap(function, items, limit, ordered=False, on=on, ahead=ahead) as results:
        async for _ in results:
            pass
