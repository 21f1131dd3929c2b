"""Bounded parallelism: a function over many items, with no more than so many at work and so many items taken ahead.

Three roles at one conveyor, each a thread or an asyncio task as its part of the work demands:

    feeder    takes an item from the source while there is room for it
    workers   call the function, each for one item after the other
    reader    the iterator that was returned; what it has delivered makes room

So whoever stops reading stops all of it. Items that are at hand, in a list, a tuple or a range, need no feeder: the
workers take them from there.
"""

from __future__ import annotations

import os
from contextlib import suppress
from contextvars import copy_context
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeVar, final, overload

from penstock._kernel.conveyor import (
    DRAW_FAILED,
    IS_FULL,
    ITEM_KIND,
    PACE_DUE,
    RESULT_KIND,
    ROOM_KIND,
    WORKER_WANTED,
    Conveyor,
    Delivery,
    Hand,
    no_more,
    nothing_yet,
)
from penstock._kernel.latch import Countdown
from penstock._kernel.locks import now
from penstock._kernel.loops import is_own_cancellation
from penstock.context import current
from penstock.errors import Cancelled
from penstock.group import await_parked, is_async, name_of, refuse_in_loop, shown, start_task, wait_for_zero
from penstock.patterns.arguments import NO_BOUND, positive
from penstock.patterns.coroutines import refuse_coroutine
from penstock.patterns.executors import PATIENCE, SPARE_CALLS, Caller, Chunks, is_executor, workers_of

if TYPE_CHECKING:
    import contextvars
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Iterator
    from concurrent.futures import Executor
    from types import TracebackType

    from penstock.context import Context

__all__ = ["AsyncResults", "Results", "afor_each", "apmap", "for_each", "pmap"]

T = TypeVar("T")
R = TypeVar("R")

AHEAD_OF_QUICK_ITEMS = 1024
"""How many items are taken ahead at most while they take microseconds; on an executor, for each call at once."""
SLOW = 1e-3
"""Seconds: items that take as long, or longer, are not taken further ahead than the least."""
WORTH = 25e-3
"""Seconds: so much work for each worker is taken ahead at most of quicker ones."""
HASTY = 2e-6
"""Seconds: items that take less are best left to one worker, who is awake: to wake another takes as long."""
GROWTH = 8
"""How many times more are taken ahead after each reckoning, while items are quick."""
AT_HAND = (list, tuple, range)
"""Types of sources from which to take an item is not to wait, and runs no code of the user's."""


@final
class Run:
    """What feeder, workers and reader share."""

    _collects: ClassVar[bool] = True

    def __init__(
        self,
        function: Callable[[Any], Any],
        items: Any,
        limit: int | None,
        on: Executor | None,
        ahead: int | None,
        *,
        ordered: bool,
    ) -> None:
        if not callable(function):
            raise TypeError(f"what is to be called for each item must be a function, not {function!r}")
        if on is not None and not is_executor(on):
            raise TypeError(f"on= takes an executor of concurrent.futures, or None, not {on!r}")
        if on is not None and is_async(function):
            raise TypeError(f"{function!r} is an async function, which no executor runs; leave out on=")
        self.function = function
        self.items = items
        if limit is None:
            limit = min(32, (os.cpu_count() or 1) + 4) if on is None else workers_of(on) + SPARE_CALLS
        self.limit = min(positive(limit, "limit"), NO_BOUND)
        self.least = 2 * self.limit if ahead is None else min(positive(ahead, "ahead"), NO_BOUND)
        self.most = self.least
        if ahead is None:
            self.most = max(self.least, AHEAD_OF_QUICK_ITEMS * (1 if on is None else self.limit))
        self.ahead = self.least
        self.since = now()
        self.taken = 0
        self.reckoned = 2 * self.least if self.most > self.least else -1  # The first places are free from the start.
        self.context: Context = current().with_cancel()
        self.conveyor = Conveyor(ordered, self.ahead, self.reckoned)
        self.at_work = Countdown(1)  # Who is started first, and those that are started then.
        self.at_work.closed_at_zero(self.conveyor)
        self.workers = 0
        self.unbegun = [True]  # Taken out by who begins, or says that nobody will: by one of them, once.
        self.finished = False
        self._variables: contextvars.Context | None = None
        self._at_rest = False
        self.source_error: BaseException | None = None
        self.chunks = None if on is None else Chunks(on, function, self.most // (self.limit + 1))

    def _claims(self) -> bool:
        try:
            return self.unbegun.pop()
        except IndexError:
            return False

    def begin(self, feeder: Callable[[Run], Any]) -> None:
        """Start the feeder, which starts the workers, or the first worker, which starts the next. What all of them
        inherit is the reader's."""
        if self._claims():
            self._variables = copy_context()
            try:
                if any(type(self.items) is kind for kind in AT_HAND):
                    self.since = now()
                    self.conveyor.draw_from(self.items)
                    self.items = None
                    self._start_worker()
                else:
                    self._start(feeder, f"pmap: items for {name_of(self.function)}")
            except BaseException:
                self.finish()
                raise

    def _start(self, role: Callable[[Run], Any], name: str) -> None:
        """For one whom `at_work` counts already."""
        assert self._variables is not None  # noqa: S101
        try:
            self._variables.copy().run(self._start_attached, role, name)
        except BaseException:
            self.at_work.add(-1)
            raise

    def _start_attached(self, role: Callable[[Run], Any], name: str) -> None:
        with self.context.attach():
            start_task(role, (self,), self, name)

    def attend(self, asks: int) -> bool:
        """Do what the conveyor asks the feeder for; whether it should wait for room."""
        if asks & WORKER_WANTED:
            self._hire()
        if asks & DRAW_FAILED:
            self.source_failed(MemoryError())
        if asks & PACE_DUE:
            self._change_pace()
        return asks & (IS_FULL | PACE_DUE) != 0

    def _hire(self) -> None:
        self.at_work.add(1)
        self._start_worker()

    def _start_worker(self) -> None:
        self.workers += 1
        if self.workers == min(self.limit, self.least):  # No more could ever be at work.
            self.conveyor.hire_no_more()
        role = _work_async if is_async(self.function) else _work
        self._start(role if self.chunks is None else _work_on_executor, f"pmap: {name_of(self.function)}")

    def _change_pace(self) -> None:
        """At an item agreed upon before: more room from now on while items are quick, the least while they are not."""
        # Counted before the clock is read and, for the next time, after: what happens meanwhile must not look quick.
        taken = self.conveyor.taken()
        at = now()
        ended = taken - self.taken - self.workers  # At least so many.
        passed = at - self.since
        hasty = False
        ahead = self.least
        if self.chunks is not None:
            seconds = self.chunks.item_seconds
        else:
            seconds = passed * self.workers / ended if ended > 0 else SLOW
        if seconds < SLOW:
            worth = int(WORTH * self.workers / max(seconds, 1e-9))
            ahead = max(self.least, min(self.most, GROWTH * self.ahead, worth))
            at_work = self.workers - self.conveyor.parked()
            hasty = self.chunks is None and 0 < passed * at_work < HASTY * ended
        grown = max(ahead - self.ahead, 0)
        self.ahead = ahead
        self.since = at
        self.taken = self.conveyor.taken()
        self.reckoned += ahead + grown
        # Who takes from the source waits for many places, while there are many, so that he wakes seldom.
        portion = 1 if ahead == self.least else max(1, ahead // 4)
        self.conveyor.set_pace(ahead, portion, self.reckoned, hasty)

    def failed(self, error: BaseException) -> None:
        """An item failed: everything else is cancelled. What ends because of that has not failed."""
        if not self._ended_by(error):
            self.conveyor.fail(_no_end(error, self.function))
            self.context.cancel()

    def source_failed(self, error: BaseException) -> None:
        """The source did. If it ended because nobody reads any more, it has not failed."""
        if not self._ended_by(error):
            self.source_error = _no_end(error, "the source")

    def _ended_by(self, error: BaseException) -> bool:
        return self.context.error is not None and (isinstance(error, Cancelled) or is_own_cancellation(error))

    # For the reader

    def learns_of_failure(self) -> bool:
        """Has an item failed, and is that news? Then all work that is under way has to be waited for."""
        if self._at_rest or self.conveyor.failure() is None:
            return False
        self._at_rest = True
        return True

    def is_last_look(self) -> bool:
        """If no result is ready now, will none ever be?"""
        return self._at_rest or self.at_work.count() == 0

    def conclude(self) -> None:
        """No result will ever be ready. Raises the first error of an item, or the source's; `Cancelled` if that is why
        there are no more; nothing if that was all."""
        error = self.conveyor.failure() or self.source_error
        try:
            if error is not None:
                raise error
            if not self.conveyor.all_read():  # It must not look like the end.
                current().check()
                self.context.check()
                raise RuntimeError("there are fewer results than items, and no worker is left")
        finally:
            self.finish()
            del error  # Its traceback refers to this frame: as long as that refers to it, neither goes.

    def finish(self) -> None:
        """End all work, and let go of everything, errors too. Idempotent."""
        self.finished = True
        self.context.cancel()  # Before anybody finds room where nobody reads.
        self.conveyor.shut()
        self.source_error = None
        if self._claims():
            self.at_work.add(-1)

    # As the owner of its tasks

    def _member_ended(self, _context: Context, error: BaseException | None) -> None:
        """A task has ended; with an error that is nobody's, if with one."""
        if error is not None and not isinstance(error, GeneratorExit):  # That one: its loop has been closed.
            self.failed(error)

    def _member_gone(self, _context: Context) -> None:
        """A task has ended, whether it began or not."""
        self.at_work.add(-1)


def _no_end(error: BaseException, raised_by: Any) -> BaseException:
    """An error of somebody else's, as one that does not look like the end of the results."""
    if not isinstance(error, StopIteration | StopAsyncIteration):
        return error
    who = raised_by if isinstance(raised_by, str) else shown(raised_by)
    failure = RuntimeError(f"{who} raised {shown(error)}")
    failure.__cause__ = error
    return failure


# Feeders


def _feed(run: Run) -> None:
    complete = False
    put = run.conveyor.put
    try:
        source = iter(run.items)
        run.items = None
        run.since = now()
        for item in source:
            asks = put(item)
            del item
            if asks and run.attend(asks):
                run.conveyor.wait(ROOM_KIND)
        complete = True
    except BaseException as error:  # noqa: BLE001  the reader's business
        run.source_failed(error)
    finally:
        run.conveyor.end(complete)


async def _feed_async(run: Run) -> None:
    complete = False
    put = run.conveyor.put
    try:
        items = run.items
        run.items = None
        run.since = now()
        if hasattr(items, "__aiter__"):
            async for item in items:
                asks = put(item)
                del item
                if asks and run.attend(asks):
                    await _until(run.conveyor, ROOM_KIND)
        else:
            for item in items:
                asks = put(item)
                del item
                if asks and run.attend(asks):
                    await _until(run.conveyor, ROOM_KIND)
        complete = True
    except GeneratorExit:
        raise
    except BaseException as error:  # noqa: BLE001  the reader's business
        run.source_failed(error)
    finally:
        run.conveyor.end(complete)


async def _until(conveyor: Conveyor, kind: int) -> None:
    """Await until it makes sense to look again for room, an item or a result."""
    await await_parked(conveyor.begin_wait(kind), conveyor.finish_wait)


# Workers


def _work(run: Run) -> None:
    function = run.function
    hand = Hand(run.conveyor, run.attend)
    give = hand.give
    for item in hand:
        try:
            result = function(item)
            if type(result) is CoroutineType:
                refuse_coroutine(result, function, "pass the async function itself, to apmap")
        except BaseException as error:  # noqa: BLE001  the reader's business
            run.failed(error)
            continue
        give(result)
        del item, result


async def _work_async(run: Run) -> None:
    function = run.function
    hand = Hand(run.conveyor, run.attend)
    give, take = hand.give, hand.take
    while True:
        item = take()
        if item is no_more:
            return
        if item is nothing_yet:
            await _until(run.conveyor, ITEM_KIND)
            continue
        try:
            result = await function(item)
        except GeneratorExit:
            raise
        except BaseException as error:  # noqa: BLE001  the reader's business
            run.failed(error)
            continue
        give(result)
        del item, result


def _work_on_executor(run: Run) -> None:
    chunks = run.chunks
    assert chunks is not None  # noqa: S101
    hand = Hand(run.conveyor, run.attend)
    caller = Caller(chunks, hand)
    while True:
        items = hand.take_many(chunks.size)
        if not items:
            return
        error = caller.run(items)
        if error is not None:
            run.failed(error)


# Readers


class _Reader(Generic[R]):
    """Of either colour; `_run` is what it reads from."""

    __slots__ = ()

    _run: Run

    def __del__(self) -> None:
        if hasattr(self, "_run"):
            self._run.finish()  # Again, if that has been interrupted.


@final
class Results(Delivery, _Reader[R]):
    """The results of `pmap`, an iterator for one thread at a time. `close`, or leave its `with` block, to end early."""

    __slots__ = ("__weakref__", "_run")

    def __init__(self, run: Run) -> None:
        Delivery.__init__(self, run.conveyor)
        self._run = run

    def __iter__(self) -> Iterator[R]:
        return self

    if TYPE_CHECKING:

        def __next__(self) -> R: ...

    def _more(self) -> R:
        """The next result, where none is ready (see Delivery)."""
        run = self._run
        if run.finished:
            raise StopIteration
        if run.unbegun:
            refuse_in_loop("pmap()", "async for … in apmap()")
            run.begin(_feed)
        while True:
            try:
                run.conveyor.wait(RESULT_KIND)
                if run.learns_of_failure():
                    self._wait()
            except BaseException:
                self.close()
                raise
            last = run.is_last_look()
            value = run.conveyor.next_result()
            if value is not nothing_yet:
                return value  # type: ignore[no-any-return]
            if last or run.finished:  # The latter: by somebody else, meanwhile.
                run.conclude()
                raise StopIteration

    def close(self) -> None:
        """End the work: what is under way is cancelled and waited for, for two seconds at most. Idempotent."""
        self._run.finish()
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

    __slots__ = ("__weakref__", "_feeder", "_next_result", "_run")

    def __init__(self, run: Run, feeder: Callable[[Run], Any]) -> None:
        self._feeder = feeder
        self._run = run
        self._next_result = run.conveyor.next_result

    def __aiter__(self) -> AsyncIterator[R]:
        return self

    async def __anext__(self) -> R:
        value = self._next_result()
        if value is nothing_yet:
            value = await self._more()
        return value  # type: ignore[no-any-return]

    async def _more(self) -> Any:
        """As of Results."""
        run = self._run
        if run.finished:
            raise StopAsyncIteration
        if run.unbegun:
            run.begin(self._feeder)
        while True:
            try:
                await _until(run.conveyor, RESULT_KIND)
                if run.learns_of_failure():
                    await self._wait()
            except GeneratorExit:
                run.finish()
                raise
            except BaseException:
                await self.aclose()
                raise
            last = run.is_last_look()
            value = self._next_result()
            if value is not nothing_yet:
                return value
            if last or run.finished:  # The latter: by somebody else, meanwhile.
                run.conclude()
                raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the work: what is under way is cancelled and waited for, for two seconds at most. Idempotent."""
        self._run.finish()
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
    delivered: by default twice the limit, and up to 1,024 while items take microseconds; on an executor, which is given
    chunks that take milliseconds, up to 1,024 for each call at once. Results come in the order of the items, or with
    `ordered=False` as they are ready. The calls run in threads, or on the executor `on`, several items at a time where
    they are quick. `items` is iterated in one thread of its own, a list, a tuple or a range in those. The default limit
    is four more than there are processors, 32 at most; on an executor, two more than its workers.

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
    return Results(Run(function, items, limit, on, ahead, ordered=ordered))


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
    run = Run(function, items, limit, on, ahead, ordered=ordered)
    return AsyncResults(run, _feed_async if is_async_source or is_async(function) else _feed)


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
