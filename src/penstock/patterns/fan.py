"""Fan-in, fan-out and broadcast: one channel out of many, many out of one, everything to everybody.

`fan_in`, and `fan_out` without a key, are views: nothing is taken from a source before a reader takes it, so a reader
that leaves loses nothing and leaves nothing behind. `fan_out` with a key, and `broadcast`, need a task that moves the
values; it ends with its source, with the context that it was started in, or when all readers have left. It takes values
ahead of the readers, and those go to nobody else once a reader has left with them in its channel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from penstock._kernel.channel import empty_mark
from penstock._kernel.merging import MergeCore, disown_view
from penstock.channel import Channel, ChannelStatistics, RecvChannel, aselect, select
from penstock.context import current
from penstock.errors import ChannelClosed, WouldBlock
from penstock.group import is_async, start_task
from penstock.patterns.coroutines import refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence

    from penstock.channel import SendCase

__all__ = ["FanReader", "FanReaderStatistics", "Merged", "broadcast", "fan_in", "fan_out"]

T = TypeVar("T")


def _source(channel: Any, function: str) -> Any:
    if not isinstance(channel, Channel | RecvChannel):
        raise TypeError(f"{function}() takes channels and receiving views, not {channel!r}")
    return channel


def _count(n: Any, function: str) -> int:
    if isinstance(n, bool) or not isinstance(n, int):
        raise TypeError(f"{function}() makes an integer number of channels, not {n!r}")
    if n < 1:
        raise ValueError(f"{function}() makes 1 channel or more, not {n}")
    return n


@final
class Merged(MergeCore, RecvChannel[T]):
    """What `fan_in` gives: a receiving channel over several, without a task of its own. Use it as any other.

    As a case of `select`, each of its sources counts as a case.
    """

    __slots__ = ("_inputs",)

    def __init__(self, inputs: tuple[Channel[T] | RecvChannel[T], ...]) -> None:
        self._inputs = inputs  # Some readers leave when they are dropped.
        sources = tuple(source if isinstance(source, Channel | MergeCore) else source._channel for source in inputs)
        channel: Channel[T] = Channel()
        MergeCore.__init__(self, channel, sources)
        if not sources:
            channel.close()

    def __len__(self) -> int:
        return sum(len(source) for source in self._inputs)

    @property
    def capacity(self) -> int:
        """How many values the sources hold, together, before senders wait."""
        return sum(source.capacity for source in self._inputs)

    @property
    def closed(self) -> bool:
        """Are all sources closed, or was one that is drained closed with an error?"""
        return self._channel.closed or all(source.closed for source in self._inputs)

    def statistics(self) -> ChannelStatistics:
        """The sources' statistics, summed up."""
        each = [source.statistics() for source in self._inputs]
        return ChannelStatistics(
            length=sum(one.length for one in each),
            capacity=sum(one.capacity for one in each),
            sent=sum(one.sent for one in each),
            received=sum(one.received for one in each),
            waiting_senders=sum(one.waiting_senders for one in each),
            waiting_receivers=sum(one.waiting_receivers for one in each),
            closed=self.closed,
        )

    def recv(self, timeout: float | None = None) -> T:
        """As `Channel.recv`."""
        value, ok = self.recv_ok(timeout)
        if not ok:
            raise self._channel.closed_error()
        return value  # type: ignore[return-value]

    def recv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]:
        """As `Channel.recv_ok`."""
        value = self.poll_sources()
        if value is not empty_mark:
            return value, True
        got = select(self, timeout=timeout)
        return got.value, got.ok

    def recv_nowait(self) -> T:
        """As `Channel.recv_nowait`."""
        got = select(self, default=True)
        if got is None:
            raise WouldBlock("nothing to receive: the channels are empty")
        if not got.ok:
            raise self._channel.closed_error()
        return got.value  # type: ignore[no-any-return]

    async def arecv(self, timeout: float | None = None) -> T:
        """As `Channel.arecv`."""
        value, ok = await self.arecv_ok(timeout)
        if not ok:
            raise self._channel.closed_error()
        return value  # type: ignore[return-value]

    async def arecv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]:
        """As `Channel.arecv_ok`."""
        value = self.poll_sources()
        if value is not empty_mark:
            return value, True
        got = await aselect(self, timeout=timeout)
        return got.value, got.ok

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        value, ok = self.recv_ok()
        if not ok:
            if self._channel.error is not None:
                raise self._channel.closed_error()
            raise StopIteration
        return value  # type: ignore[return-value]

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        value, ok = await self.arecv_ok()
        if not ok:
            if self._channel.error is not None:
                raise self._channel.closed_error()
            raise StopAsyncIteration
        return value  # type: ignore[return-value]

    def __repr__(self) -> str:
        return f"<Merged of {len(self._inputs)} channels{' closed' if self.closed else ''} at {id(self):#x}>"


def fan_in(*channels: Channel[T] | RecvChannel[T]) -> Merged[T]:
    """All that is sent on the channels, as one receiving channel.

    It is closed once all of them are closed and drained. A channel that was closed with an error closes it with that
    error as soon as it is drained, whatever the others still hold. No task is started and nothing is buffered: a value
    leaves its channel when it is received here, so that leaving early loses nothing.
    """
    return Merged(tuple(_source(channel, "fan_in") for channel in channels))


@dataclass(frozen=True)
class FanReaderStatistics(ChannelStatistics):
    """A reader's channel at one instant, and how the readers compare."""

    reader: int
    """The reader's number, from 0."""
    behind: int
    """How many values it has received less than the reader that has received most, of those that have not left."""
    slowest: int | None
    """The number of the reader that has received least, of those that have not left; None if all have. That the source
    is closed changes nothing: its values are still to be received."""


@final
class FanReader(RecvChannel[T]):
    """One of the outputs of `broadcast` or of `fan_out` with a key. `leave`, or drop it, to hold nobody back."""

    __slots__ = ("_hub", "_number")

    def __init__(self, channel: Channel[T], hub: _Hub[T], number: int) -> None:
        super().__init__(channel)
        self._hub = hub
        self._number = number
        disown_view(self)

    def leave(self) -> None:
        """Hold nobody back any more. The channel is closed: what it holds can still be received from it, and goes to no
        other reader. Idempotent.
        """
        self._hub.left(self._number)

    def statistics(self) -> FanReaderStatistics:
        """The reader's channel at one instant, and who is the slowest."""
        own = self._channel.statistics()
        received = self._hub.received()
        behind = max(received.values(), default=0) - own.received
        slowest = min(received, key=received.__getitem__, default=None)
        return FanReaderStatistics(**vars(own), reader=self._number, behind=max(behind, 0), slowest=slowest)

    def __iter__(self) -> Iterator[T]:
        return self

    def __next__(self) -> T:
        return next(self._channel)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        return await anext(self._channel)

    def __del__(self) -> None:
        if hasattr(self, "_hub"):
            self.leave()


class _Hub(Generic[T]):
    """Moves values from a source to outputs, in a task of its own. It knows their channels, not the readers."""

    def __init__(self, source: Iterable[T], n: int, capacity: int) -> None:
        self.source = source
        self.outputs: list[Channel[T]] = [Channel(capacity) for _ in range(n)]
        self._gone = [False] * n  # Whose reader has left. The source's end closes outputs, too.
        self._context = current().with_cancel()

    def start(self) -> list[FanReader[T]]:
        readers = [FanReader(channel, self, number) for number, channel in enumerate(self.outputs)]
        with self._context.attach():
            start_task(_pump, (self,), None)
        return readers

    def left(self, number: int) -> None:
        """A reader has gone. With the last one goes the task."""
        self._gone[number] = True
        self.outputs[number].close()
        if not self.present():
            self._context.cancel()

    def present(self) -> list[Channel[T]]:
        """The outputs that can be sent to."""
        return [channel for channel in self.outputs if not channel.closed]

    def received(self) -> dict[int, int]:
        """How many values each reader that has not left has received."""
        return {
            number: channel.statistics().received
            for number, channel in enumerate(self.outputs)
            if not self._gone[number]
        }

    def deliver(self, value: T) -> None:
        raise NotImplementedError

    def ended(self) -> None:
        """Nothing more is taken from the source."""

    def run(self) -> None:
        for value in self.source:
            self.deliver(value)
            value = None  # type: ignore[assignment]  # noqa: PLW2901  not kept while waiting for the next
            if not self.present():
                return


def _pump(hub: _Hub[Any]) -> None:
    error: BaseException | None = None
    try:
        hub.run()
    except ChannelClosed as closed:
        error = closed.__cause__ or closed
    except BaseException as other:  # noqa: BLE001  the readers' business
        error = other
    for channel in hub.outputs:
        channel.close(error)
    hub.ended()


class Broadcast(_Hub[T]):
    def deliver(self, value: T) -> None:
        waiting: list[Channel[T]] = []
        for channel in self.present():
            try:
                channel.send_nowait(value)
            except WouldBlock:
                waiting.append(channel)
            except ChannelClosed:
                pass  # This reader has left.
        while waiting:
            cases: list[SendCase] = [channel.sending(value) for channel in waiting]
            try:
                del waiting[select(*cases).index]
            except ChannelClosed:
                waiting = [channel for channel in waiting if not channel.closed]


class _ByKey(_Hub[T]):
    def __init__(self, source: Channel[T] | RecvChannel[T], n: int, key: Callable[[T], Any]) -> None:
        super().__init__(source, n, source.capacity)
        self._key = key

    def deliver(self, value: T) -> None:
        key = self._key(value)
        refuse_coroutine(key, self._key, "a key has to be had without awaiting")
        number = hash(key)
        for step in range(len(self.outputs)):
            try:
                self.outputs[(number + step) % len(self.outputs)].send(value)
            except ChannelClosed:
                continue  # This reader has left, and the next has its keys.
            return


def fan_out(
    channel: Channel[T] | RecvChannel[T], n: int, key: Callable[[T], Any] | None = None
) -> Sequence[RecvChannel[T]]:
    """`n` receiving channels that share out what is sent on `channel`: each value goes to one of them.

    Without a `key` each value goes to whoever is ready: the outputs are views, and nothing is taken from the channel
    before it is received. With one, values whose keys are equal go to one output, in order; a task moves them, each
    output has the channel's capacity, and one that is full holds up the others until it is read, or its reader leaves
    (`leave()`, or dropping it): then the next output gets its keys. What its own holds by then stays there: it can be
    received after `leave()`, and is gone with a reader that is dropped. An error of `key` closes the outputs with that
    error. After that, and once all readers have left or the ambient context has ended, the channel stays open with the
    rest; what had been taken from it, the value that `key` failed for included, is not put back.
    """
    source = _source(channel, "fan_out")
    n = _count(n, "fan_out")
    if key is None:
        return [source.receiver if isinstance(source, Channel) else source for _ in range(n)]
    if not callable(key):
        raise TypeError(f"fan_out() takes a function of a value as its key, not {key!r}")
    if is_async(key):
        raise TypeError(f"{key!r} is an async function, and fan_out() needs keys that can be had without awaiting")
    return _ByKey(source, n, key).start()


def broadcast(channel: Channel[T] | RecvChannel[T], n: int) -> list[FanReader[T]]:
    """`n` receiving channels, each of which gets everything that is sent on `channel`.

    Each has the channel's capacity, so the broadcast moves at the pace of the slowest reader, whom `statistics()` of
    every reader names. A reader goes by `leave()`, or by being dropped, and then holds nobody back. Closing the
    channel, and the error it was closed with, reach all readers. Once all readers have left, or the ambient context has
    ended, the channel stays open with the rest; what had been taken from it is not put back.
    """
    source = _source(channel, "broadcast")
    return Broadcast(source, _count(n, "broadcast"), source.capacity).start()
