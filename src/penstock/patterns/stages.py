"""What stands under `Stream`: each operator as an iterator over an iterator, in both colours.

`threads(upstream)` and `tasks(upstream)` give what the next stage reads. What neither hands over nor waits is a plain
generator, which runs wherever the next hand-over reads it: so adjacent stages that need no hand-over are one.
"""

from __future__ import annotations

from collections import deque
from contextlib import AsyncExitStack, aclosing, closing, suppress
from types import CoroutineType
from typing import TYPE_CHECKING, Any, ClassVar

from penstock._kernel.latch import Countdown
from penstock._kernel.locks import now
from penstock._kernel.loops import is_own_cancellation
from penstock.channel import Channel
from penstock.context import current
from penstock.errors import Cancelled, ChannelClosed
from penstock.group import is_async, refuse_in_loop, start_task, wait_for_zero
from penstock.patterns.bounded import apmap, pmap
from penstock.patterns.coroutines import refuse_coroutine
from penstock.patterns.executors import PATIENCE
from penstock.patterns.sources import REMEDY, agiven, each, given, iterator_of, refuse_async
from penstock.time import asleep, sleep

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from penstock.context import Context

END: Any = object()


class Stage:
    """One operator."""

    hands_over = False
    """Does it read what is before it in tasks of its own, and look after their contexts?"""

    def threads(self, upstream: Iterator[Any]) -> Any:
        """What a thread reads."""
        raise NotImplementedError

    def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        """What an asyncio task reads."""
        raise NotImplementedError


class Map(Stage):
    """A function on every item: without a limit and an executor here, otherwise by tasks of its own."""

    def __init__(self, function: Callable[[Any], Any], limit: int | None, ordered: bool, on: Any) -> None:
        self.function = function
        self.hands_over = limit is not None or on is not None
        self.limit, self.ordered, self.on = 1 if limit is None else limit, ordered, on
        pmap(len, (), self.limit, on=on)  # Says now what is wrong with them.

    def threads(self, upstream: Any) -> Any:
        refuse_async(self.function)
        if self.hands_over:
            return pmap(self.function, upstream, self.limit, ordered=self.ordered, on=self.on)
        return self._one_after_the_other(upstream)

    def tasks(self, upstream: Any) -> Any:
        if self.hands_over:
            return apmap(self.function, upstream, self.limit, ordered=self.ordered, on=self.on)
        return self._one_by_one(upstream)

    def _one_after_the_other(self, upstream: Iterator[Any]) -> Iterator[Any]:
        function = self.function
        for item in upstream:  # Unlike `map`: a function that raises StopIteration fails, it does not end the stream.
            result = function(item)
            if type(result) is CoroutineType:
                refuse_coroutine(result, function, REMEDY)
            yield result

    async def _one_by_one(self, upstream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        function = self.function
        awaited = is_async(function)
        async for item in upstream:
            result = function(item)
            if awaited:
                result = await result
            elif type(result) is CoroutineType:
                refuse_coroutine(result, function, REMEDY)
            yield result


class Filter(Stage):
    """Those for which the function is true."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def threads(self, upstream: Iterator[Any]) -> Any:
        refuse_async(self.function)
        return self._kept(upstream)

    def _kept(self, upstream: Iterator[Any]) -> Iterator[Any]:
        function = self.function
        for item in upstream:
            keep = function(item)
            if type(keep) is CoroutineType:
                refuse_coroutine(keep, function, REMEDY)
            if keep:
                yield item

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        function = self.function
        awaited = is_async(function)
        async for item in upstream:
            keep = function(item)
            if awaited:
                keep = await keep
            elif type(keep) is CoroutineType:
                refuse_coroutine(keep, function, REMEDY)
            if keep:
                yield item


class FlatMap(Stage):
    """All items of what the function gives for each."""

    def __init__(self, function: Callable[[Any], Any]) -> None:
        self.function = function

    def threads(self, upstream: Iterator[Any]) -> Any:
        refuse_async(self.function)
        return self._flat(upstream)

    def _flat(self, upstream: Iterator[Any]) -> Iterator[Any]:
        for item in upstream:
            yield from given(self.function, item)

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        async for item in upstream:
            async with aclosing(agiven(self.function, item)) as items:
                async for one in items:
                    yield one


class Batch(Stage):
    """Lists of some items. What there is when the source fails comes before its error."""

    def __init__(self, n: int) -> None:
        self.n = n

    def threads(self, upstream: Iterator[Any]) -> Any:
        batch: list[Any] = []
        failure = None
        try:
            for item in upstream:
                batch.append(item)
                if len(batch) == self.n:
                    yield batch
                    batch = []
        except Exception as error:  # noqa: BLE001  raised below
            failure = error
        if batch:
            yield batch
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # As in `bare`.

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        batch: list[Any] = []
        failure = None
        try:
            async for item in upstream:
                batch.append(item)
                if len(batch) == self.n:
                    yield batch
                    batch = []
        except Exception as error:  # noqa: BLE001  raised below
            failure = error
        if batch:
            yield batch
        if failure is not None:
            try:
                raise failure
            finally:
                del failure  # As in `bare`.


class TimedBatch(Stage):
    """The same, and no item waits for longer than some seconds for its batch to be full."""

    def __init__(self, n: int, within: float) -> None:
        self.n, self.within = n, within

    def threads(self, upstream: Iterator[Any]) -> Any:
        with closing(Pump(upstream, in_tasks=False)) as pump:
            more = True
            while more:
                batch, more = self._collected(pump)
                if batch:
                    yield batch
            try:
                pump.check()
            finally:
                del pump  # As in `bare`.

    def _collected(self, pump: Pump) -> tuple[list[Any], bool]:
        item, ok = pump.channel.recv_ok()
        if not ok:
            return [], False
        batch = [item]
        deadline = now() + self.within
        while len(batch) < self.n:
            try:
                item, ok = pump.channel.recv_ok(timeout=max(0.0, deadline - now()))
            except TimeoutError:
                return batch, True
            if not ok:
                return batch, False
            batch.append(item)
        return batch, True

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        async with aclosing(Pump(upstream, in_tasks=True)) as pump:
            more = True
            while more:
                batch, more = await self._acollected(pump)
                if batch:
                    yield batch
            try:
                pump.check()
            finally:
                del pump  # As in `bare`.

    async def _acollected(self, pump: Pump) -> tuple[list[Any], bool]:
        item, ok = await pump.channel.arecv_ok()
        if not ok:
            return [], False
        batch = [item]
        deadline = now() + self.within
        while len(batch) < self.n:
            try:
                item, ok = await pump.channel.arecv_ok(timeout=max(0.0, deadline - now()))
            except TimeoutError:
                return batch, True
            if not ok:
                return batch, False
            batch.append(item)
        return batch, True


class Merge(Stage):
    """The items of several sources, as they come."""

    def __init__(self, others: tuple[Any, ...]) -> None:
        self.others = others

    def threads(self, upstream: Iterator[Any]) -> Any:
        with closing(Pump(upstream, *map(iterator_of, self.others), in_tasks=False)) as pump:
            try:
                yield from bare(pump.channel)
            finally:
                del pump  # As in `bare`.

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        others = [each(other) for other in self.others]
        async with AsyncExitStack() as ending:
            for other in others:
                ending.push_async_callback(aend, other)
            pump = await ending.enter_async_context(aclosing(Pump(upstream, *others, in_tasks=True)))
            try:
                async for item in abare(pump.channel):
                    yield item
            finally:
                del pump  # As in `bare`.


class Throttle(Stage):
    """No more than `n` items in any `per` seconds."""

    def __init__(self, n: int, per: float) -> None:
        self.n, self.per = n, per

    def _pause(self, times: deque[float]) -> float:
        return times[0] + self.per - now() if len(times) == self.n else 0.0

    def threads(self, upstream: Iterator[Any]) -> Any:
        times: deque[float] = deque(maxlen=self.n)
        for item in upstream:
            pause = self._pause(times)
            if pause > 0:
                sleep(pause)
            times.append(now())
            yield item

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        times: deque[float] = deque(maxlen=self.n)
        async for item in upstream:
            pause = self._pause(times)
            if pause > 0:
                await asleep(pause)
            times.append(now())
            yield item


class Catch(Stage):
    """What the function gives for an error, in place of the rest."""

    def __init__(self, function: Callable[[Exception], Any]) -> None:
        self.function = function

    def threads(self, upstream: Iterator[Any]) -> Any:
        refuse_async(self.function)
        return self._caught(upstream)

    def _caught(self, upstream: Iterator[Any]) -> Iterator[Any]:
        while True:
            try:
                item = next(upstream, END)
            except Exception as error:  # noqa: BLE001  the function's business
                rest = given(self.function, error)
                break
            if item is END:
                return
            yield item
        yield from rest

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        while True:
            try:
                item = await anext(upstream, END)
            except Exception as error:  # noqa: BLE001  the function's business
                rest = agiven(self.function, error)
                break
            if item is END:
                return
            yield item
        async with aclosing(rest) as items:
            async for one in items:
                yield one


class Take(Stage):
    """The first `n`. Nothing is taken from the source after the last."""

    def __init__(self, n: int) -> None:
        self.n = n

    def threads(self, upstream: Iterator[Any]) -> Any:
        for _ in range(self.n):
            item = next(upstream, END)
            if item is END:
                return
            yield item

    async def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        for _ in range(self.n):
            item = await anext(upstream, END)
            if item is END:
                return
            yield item


class Pump:
    """Tasks that read sources, each into one channel: for a reader that has to wait for something else as well."""

    _collects: ClassVar[bool] = True

    def __init__(self, *sources: Any, in_tasks: bool) -> None:
        if not in_tasks:
            refuse_in_loop("reading this stream", "async for")
        self.channel: Channel[Any] = Channel()
        self._at_work = Countdown(len(sources))
        self._at_work.closed_at_zero(self.channel)
        self._closing = False
        self._context = current().with_cancel()
        try:
            with self._context.attach():
                for source in sources:
                    start_task(_apump if in_tasks else _pump, (source, self.channel), self)
        except BaseException:
            self._context.cancel()  # Those that were started.
            raise

    def _member_ended(self, _context: Context, error: BaseException | None) -> None:
        if error is None:
            return
        if self._context.error is not None and (isinstance(error, Cancelled) or is_own_cancellation(error)):
            if self._closing:
                return  # It ended as it was told.
            try:
                self._context.check()
            except Cancelled as ended:  # Without a traceback: that would keep the source alive.
                error = ended.with_traceback(None)
        self.channel.close(error)

    def _member_gone(self, _context: Context) -> None:
        self._at_work.add(-1)

    def check(self) -> None:
        """Raise what a source raised."""
        try:
            if self.channel.error is not None:
                raise self.channel.error
        finally:
            del self  # As in `bare`.

    def close(self) -> None:
        """End the tasks, and wait until they have let go of their sources, for two seconds at most."""
        self._closing = True
        self._context.cancel()
        self.channel.close()
        # A source may not react; and a thread that runs an event loop must not wait.
        with suppress(TimeoutError, RuntimeError):
            self._at_work.wait_in_thread(PATIENCE, "Pump.close", "Pump.aclose", True)

    async def aclose(self) -> None:
        """As `close`."""
        self._closing = True
        self._context.cancel()
        self.channel.close()
        with suppress(TimeoutError):
            await wait_for_zero(self._at_work, PATIENCE, "Pump.aclose", shielded=True)


def _pump(source: Iterator[Any], channel: Channel[Any]) -> None:
    try:
        for item in source:
            channel.send(item)
    finally:
        del channel  # As in `bare`.


async def _apump(source: AsyncIterator[Any], channel: Channel[Any]) -> None:
    try:
        async for item in source:
            await channel.asend(item)
    finally:
        del channel  # As in `bare`.


def bare(channel: Any) -> Iterator[Any]:
    """What a channel gives; the error that it was closed with, instead of ChannelClosed."""
    try:
        yield from channel
    except ChannelClosed as closed:
        error = closed.__cause__ or closed
    else:
        return
    try:
        raise error  # Not where it would get a context, or lose its cause.
    finally:
        del error, channel  # It refers to this frame, which must not refer to it.


async def abare(channel: Any) -> AsyncIterator[Any]:
    """As `bare`."""
    try:
        async for item in channel:
            yield item
    except ChannelClosed as closed:
        error = closed.__cause__ or closed
    else:
        return
    try:
        raise error
    finally:
        del error, channel


def end(step: Any) -> None:
    """Close a stage. One that is still at work has been waited for; it ends when its source reacts."""
    if not getattr(step, "gi_running", False):
        step.close()


async def aend(step: Any) -> None:
    """As `end`."""
    if not getattr(step, "ag_running", False):
        await step.aclose()
