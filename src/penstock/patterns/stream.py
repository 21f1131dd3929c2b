"""Streams: pipelines of stages, lazy, bounded, and stopped as one."""

from __future__ import annotations

from contextlib import AsyncExitStack, ExitStack
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final, overload

from penstock.context import current
from penstock.errors import ChannelClosed
from penstock.group import is_async, refuse_in_loop
from penstock.patterns.arguments import count, positive, seconds
from penstock.patterns.fan import Broadcast, FanReader
from penstock.patterns.sharding import ShardedMap
from penstock.patterns.sources import each, heeded, nothing, refuse_async_source
from penstock.patterns.stages import (
    Batch,
    Catch,
    Filter,
    FlatMap,
    Map,
    Merge,
    Pump,
    Stage,
    Take,
    Throttle,
    TimedBatch,
    abare,
    aend,
    bare,
    end,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator
    from concurrent.futures import Executor
    from types import TracebackType

__all__ = ["Stream"]

T = TypeVar("T")
R = TypeVar("R")


@final
class Stream(Generic[T]):
    """Items of an iterable of either kind on their way through stages, each of which makes a new stream.

    Nothing runs before the stream is read, with `for`, with `async for`, or by `collect` and `for_each`. With async
    functions it is read by asyncio tasks. Memory is bounded for endless sources. The first error stops the whole stream
    and reaches the reader bare; leaving early (`break`, `close`) stops it too, and nothing is left running. In an ended
    context no more items are taken, and reading raises `Cancelled`. A stream is read once, by one reader; `tee` makes
    several.

    Stages without a limit run in the reader, and so does a source that is not asynchronous: in an asyncio task that is
    the event loop, so they must not block. `map` with a limit, and `for_each`, run sync functions in threads, and where
    they come first they take the items from the source there, too.
    """

    def __init__(self, source: Iterable[T] | AsyncIterable[T]) -> None:
        _iterable(source)
        self._source: Any = source
        self._stages: tuple[Stage, ...] = ()
        self._used = False

    def _then(self, stage: Stage) -> Stream[Any]:
        self._use()
        stream: Stream[Any] = Stream(self._source)
        stream._stages = (*self._stages, stage)
        return stream

    def _use(self) -> None:
        if self._used:
            raise RuntimeError("this stream has been used; a stream is read once: use tee() for several readers")
        self._used = True

    # Stages

    @overload
    def map(
        self,
        function: Callable[[T], Coroutine[Any, Any, R]],
        limit: int | None = None,
        *,
        ordered: bool = True,
        on: None = None,
    ) -> Stream[R]: ...
    @overload
    def map(
        self, function: Callable[[T], R], limit: int | None = None, *, ordered: bool = True, on: Executor | None = None
    ) -> Stream[R]: ...
    def map(
        self,
        function: Callable[[T], Any],
        limit: int | None = None,
        *,
        ordered: bool = True,
        on: Executor | None = None,
    ) -> Stream[Any]:
        """`function` of every item.

        With a `limit`, also of 1, as `pmap` and `apmap` do it, with at most `limit` calls at once: in threads, on the
        executor `on`, or, for an async function, as asyncio tasks. An executor without a limit makes one call at a
        time. With neither, the function is called one item after the other where the stream is read, without any
        hand-over: in an asyncio task that is the event loop, which a function that takes long would block.
        """
        _callable(function)
        return self._then(Map(function, limit, ordered, on))

    def filter(self, function: Callable[[T], object]) -> Stream[T]:
        """The items for which `function` is true, or, for an async function, gives something true."""
        _callable(function)
        return self._then(Filter(function))

    def flat_map(self, function: Callable[[T], Iterable[R] | AsyncIterable[R]]) -> Stream[R]:
        """All items of the iterable that `function` gives for each item."""
        _callable(function)
        return self._then(FlatMap(function))

    def batch(self, n: int, within: float | None = None) -> Stream[list[T]]:
        """Lists of `n` items; the last may be shorter, and any, if `within` seconds pass after its first item."""
        positive(n, "n")
        if within is None:
            return self._then(Batch(n))
        return self._then(TimedBatch(n, seconds(within, "within")))

    def merge(self, *others: Iterable[T] | AsyncIterable[T]) -> Stream[T]:
        """The items of this stream and of others, or of any iterables, as they come."""
        for other in others:
            _iterable(other)
        return self._then(Merge(others))

    def throttle(self, n: int, per: float = 1.0) -> Stream[T]:
        """The items, no more than `n` of them in any `per` seconds."""
        return self._then(Throttle(positive(n, "n"), seconds(per, "per")))

    def catch(self, function: Callable[[Exception], Iterable[T] | AsyncIterable[T]]) -> Stream[T]:
        """The items; where the stages before fail, what `function(error)` gives in place of the rest."""
        _callable(function)
        return self._then(Catch(function))

    def take(self, n: int) -> Stream[T]:
        """The first `n` items."""
        return self._then(Take(count(n, "n")))

    def progress(self, description: str = "", total: int | None = None) -> Stream[T]:
        """The items, counted on standard error where that is a terminal; `total` says how many there will be.

        Needs `pip install "penstock[cli]"`.
        """
        from penstock.patterns.progress import Progress

        if total is not None:
            count(total, "total")
        return self._then(Progress(description, total))

    def tee(self, n: int = 2) -> tuple[Stream[T], ...]:
        """`n` streams of the same items. The slowest reader sets the pace; one that stops reading holds nobody back."""
        positive(n, "n")
        self._use()
        shared = _Tee(self._source, self._stages, n)
        return tuple(Stream(_Branch(shared, number)) for number in range(n))

    # Reading

    def __iter__(self) -> Iterator[T]:
        return Reading(self._begin_threads())

    def __aiter__(self) -> AsyncIterator[T]:
        return AsyncReading(self._begin_tasks())

    def _begin_threads(self) -> list[Any]:
        self._use()
        return _threads(self._source, self._stages)

    def _begin_tasks(self) -> list[Any]:
        self._use()
        return _tasks(self._source, self._stages)

    def for_each(self, function: Callable[[T], object], limit: int = 1, *, on: Executor | None = None) -> None:
        """Call `function` for every item, with at most `limit` calls at once, as `map` with a limit; wait for all."""
        if is_async(function):
            raise TypeError(f"{function!r} is an async function; use 'await afor_each()'")
        with Reading[object](self.map(function, limit, ordered=False, on=on)._begin_threads()) as reading:
            for _ in reading:
                pass

    async def afor_each(
        self, function: Callable[[T], Awaitable[object]] | Callable[[T], object], limit: int = 1, *, on: Any = None
    ) -> None:
        """As `for_each`, for an asyncio task to await."""
        async with AsyncReading[object](self.map(function, limit, ordered=False, on=on)._begin_tasks()) as reading:
            async for _ in reading:
                pass

    def collect(self) -> list[T]:
        """A list of all items."""
        return list(self)

    async def acollect(self) -> list[T]:
        """As `collect`, for an asyncio task to await."""
        return [item async for item in self]


def _iterable(source: Any) -> None:
    if not hasattr(source, "__iter__") and not hasattr(source, "__aiter__") and not hasattr(source, "__getitem__"):
        raise TypeError(f"a stream needs an iterable or an asynchronous iterable, not {source!r}")


def _callable(function: Any) -> None:
    if not callable(function):
        raise TypeError(f"a stage needs a function of an item, not {function!r}")


def _first_steps(source: Any, stages: tuple[Stage, ...], begin: Any, heeding: Any) -> list[Any]:
    """The first of all is the user's, and not closed. A branch is ours, and has to leave."""
    if isinstance(source, _Branch):
        return [None, begin(source)]
    if stages and stages[0].hands_over:
        return [source]
    return [None, heeding(source)]


def _threads(source: Any, stages: tuple[Stage, ...]) -> list[Any]:
    refuse_async_source(source)
    steps = _first_steps(source, stages, iter, heeded)
    for stage in stages:
        steps.append(stage.threads(steps[-1]))
    return steps


def _tasks(source: Any, stages: tuple[Stage, ...]) -> list[Any]:
    steps = _first_steps(source, stages, aiter, each)
    for stage in stages:
        steps.append(stage.tasks(steps[-1]))
        if stage.hands_over:
            steps.append(each(steps[-1]))  # Where others are quicker than the reader, he never has to wait.
    return steps


@final
class Reading(Generic[T]):
    """A stream that is being read by threads. `close` it, or leave its `with` block, to end early."""

    __slots__ = ("_last", "_steps")

    def __init__(self, steps: list[Any]) -> None:
        self._steps = steps
        self._last = steps[-1]

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        try:
            return next(self._last)  # type: ignore[no-any-return]
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End all stages, the last first. Idempotent."""
        steps, self._steps, self._last = self._steps, [], iter(())
        with ExitStack() as ending:
            for step in steps[1:]:  # The source is the user's.
                if hasattr(step, "close"):
                    ending.callback(end, step)

    def __enter__(self) -> Reading[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


@final
class AsyncReading(Generic[T]):
    """A stream that is being read by an asyncio task. `await aclose()`, or leave its block, to end early."""

    __slots__ = ("_last", "_steps")

    def __init__(self, steps: list[Any]) -> None:
        self._steps = steps
        self._last = steps[-1]

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        try:
            return await anext(self._last)
        except BaseException:
            await self.aclose()
            raise

    async def aclose(self) -> None:
        """End all stages, the last first. Idempotent."""
        steps, self._steps, self._last = self._steps, [], nothing()
        async with AsyncExitStack() as ending:
            for step in steps[1:]:  # The source is the user's.
                if hasattr(step, "aclose"):
                    ending.push_async_callback(aend, step)

    async def __aenter__(self) -> AsyncReading[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()


class _Tee:
    """What the branches of a `tee` share: the readers, made when the first branch is read."""

    def __init__(self, source: Any, stages: tuple[Stage, ...], n: int) -> None:
        self._source, self._stages, self._n = source, stages, n
        self._context = current()  # Not that of the reader who comes first: his may end, and the others go on.
        self._readers: ShardedMap[int, FanReader[Any] | None] = ShardedMap(1)
        self._made: ShardedMap[str, bool] = ShardedMap(1)

    def reader(self, number: int, *, in_task: bool) -> FanReader[Any]:
        if not in_task:
            refuse_in_loop("reading this stream", "async for")
        self._made.compute_if_absent("readers", lambda: self._make(in_task=in_task))
        reader: FanReader[Any] = self._readers.pop(number)
        return reader

    def _make(self, *, in_task: bool) -> bool:
        with self._context.attach():
            steps = _tasks(self._source, self._stages) if in_task else _threads(self._source, self._stages)
            for number, reader in enumerate(_Split(steps, self._n, in_task=in_task).start()):
                self._readers.setdefault(number, reader)  # Where the branch has gone, so does the reader.
        return True

    def leave(self, number: int) -> None:
        """The branch will not be read, or has been."""
        self._readers[number] = None


class _Split(Broadcast[Any]):
    """A broadcast of what comes out of some stages."""

    def __init__(self, steps: list[Any], n: int, *, in_task: bool) -> None:
        self._pump = Pump(AsyncReading(steps), in_tasks=True) if in_task else None
        self._reading: Any = Reading(steps) if self._pump is None else bare(self._pump.channel)
        super().__init__(self._reading, n, 0)

    def run(self) -> None:
        try:
            super().run()
        except ChannelClosed as closed:
            raise ChannelClosed("the source failed") from closed  # As of a channel, whose cause is what is passed on.

    def ended(self) -> None:
        self._reading.close()
        if self._pump is not None:
            self._pump.close()


class _Branch:
    """One of the streams of a `tee`, as the source of its stages."""

    def __init__(self, shared: _Tee, number: int) -> None:
        self._shared, self._number = shared, number

    def __iter__(self) -> Iterator[Any]:
        return self._read(self._shared.reader(self._number, in_task=False))

    def _read(self, reader: FanReader[Any]) -> Iterator[Any]:
        try:
            yield from bare(reader)
        finally:
            reader.leave()

    def __aiter__(self) -> AsyncIterator[Any]:
        return self._aread(self._shared.reader(self._number, in_task=True))

    async def _aread(self, reader: FanReader[Any]) -> AsyncIterator[Any]:
        try:
            async for item in abare(reader):
                yield item
        finally:
            reader.leave()

    def __del__(self) -> None:
        self._shared.leave(self._number)
