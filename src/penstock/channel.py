"""Channels and select, in both colours. Threads park; asyncio tasks await the operations whose names begin with `a`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Generic, Literal, TypeAlias, TypeVar, final, overload

from penstock._kernel.channel import ChannelCore, ReceiverCore, SendCase, SenderCore, closed_mark
from penstock._kernel.loops import TaskWaiter
from penstock._kernel.selecting import (
    deadline_of,
    finish_select,
    leave_select,
    merged_mark,
    put_together,
    select_or_wait,
    taken_apart,
    time_left,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Iterator
    from types import TracebackType

    Case: TypeAlias = "Channel[Any] | RecvChannel[Any] | SendCase | None"

    # As the users' type checkers see what the kernel defines.
    @final
    class Selected:
        """What a select chose."""

        @property
        def index(self) -> int: ...
        @property
        def channel(self) -> Any: ...
        @property
        def value(self) -> Any: ...
        @property
        def ok(self) -> bool: ...

    @overload
    def select(*cases: Case, timeout: float | None = None, default: Literal[False] = False) -> Selected: ...
    @overload
    def select(*cases: Case, timeout: float | None = None, default: bool) -> Selected | None: ...
    def select(*cases: Case, timeout: float | None = None, default: bool = False) -> Selected | None:
        """Take the case that is ready."""
else:
    from penstock._kernel.selecting import Selected, select

__all__ = [
    "Channel",
    "ChannelStatistics",
    "DoneChannel",
    "RecvChannel",
    "Selected",
    "SendCase",
    "SendChannel",
    "aselect",
    "select",
]

T = TypeVar("T")


@dataclass(frozen=True)
class ChannelStatistics:
    """A channel at one instant."""

    length: int
    """Values that can be received now without waiting for a sender."""
    capacity: int
    """Values that the channel holds before senders wait."""
    sent: int
    """Values accepted since the channel was made."""
    received: int
    """Values received since the channel was made."""
    waiting_senders: int
    """Parked sends, those of selects included."""
    waiting_receivers: int
    """Parked receives, those of selects included."""
    closed: bool
    """Has the channel been closed?"""


@final
class Channel(ChannelCore, Generic[T]):
    """A typed conduit between tasks, after Go's channels.

    `Channel()` is a rendezvous: `send` returns once a receiver has the value. `Channel(n)` holds up to n values, first
    in, first out, and `send` waits only while it is full. Threads and asyncio tasks, in any number of event loops, use
    one channel together. Any object can be sent, None included.

    An operation that raises did not happen: what it would have sent is not in the channel, and what it would have
    received goes to the next receiver. Waiters are served in the order of their arrival.
    """

    __slots__ = ()

    if TYPE_CHECKING:

        def send(self, value: T, timeout: float | None = None) -> None: ...
        def recv(self, timeout: float | None = None) -> T: ...
        def recv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]: ...
        def send_nowait(self, value: T) -> None: ...
        def recv_nowait(self) -> T: ...
        def asend(self, value: T, timeout: float | None = None) -> Awaitable[None]: ...
        def sending(self, value: T) -> SendCase: ...
        def __iter__(self) -> Iterator[T]: ...
        def __next__(self) -> T: ...
        def __enter__(self) -> Channel[T]: ...

    def __init_subclass__(cls, **options: Any) -> None:
        raise TypeError("Channel cannot be subclassed; keep one in an attribute instead")

    async def arecv(self, timeout: float | None = None) -> T:
        """As `recv`, for an asyncio task to await. Does not suspend if a value is ready."""
        value = self.value_or_wait(timeout)
        if type(value) is TaskWaiter:
            try:
                await value.future
            except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
                value.interrupted(error)
            value = self.finish_value(value)
        return value  # type: ignore[no-any-return]

    async def arecv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]:
        """As `recv_ok`, for an asyncio task to await."""
        value = await self._receive(timeout, "Channel.arecv_ok")
        return (None, False) if value is closed_mark else (value, True)

    async def _receive(self, timeout: float | None, operation: str) -> Any:
        value = self.receive_or_wait(timeout, operation)
        if type(value) is TaskWaiter:
            try:
                await value.future
            except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
                value.interrupted(error)
            value = self.finish_receive(value)
        return value

    async def _asend(self, value: T, timeout: float | None) -> None:
        waiter = self.send_or_wait(value, timeout)
        if waiter is not None:
            try:
                await waiter.future
            except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
                waiter.interrupted(error)
            self.finish_send(waiter)

    def __aiter__(self) -> AsyncIterator[T]:
        return self

    async def __anext__(self) -> T:
        value = await self._receive(None, "Channel.arecv")
        if value is closed_mark:
            if self.error is not None:
                raise self.closed_error()
            raise StopAsyncIteration
        return value  # type: ignore[no-any-return]

    @property
    def sender(self) -> SendChannel[T]:
        """A view that can only send, and close."""
        return SendChannel(self)

    @property
    def receiver(self) -> RecvChannel[T]:
        """A view that can only receive."""
        return RecvChannel(self)

    def statistics(self) -> ChannelStatistics:
        """The channel at one instant."""
        held, capacity, accepted, senders, receivers, closed = self.counts()
        return ChannelStatistics(held, capacity, accepted, accepted - held, senders, receivers, closed)

    def __repr__(self) -> str:
        name = "" if self.name is None else f" {self.name}"
        return f"<Channel{name} {len(self)}/{self.capacity}{' closed' if self.closed else ''} at {id(self):#x}>"


class _View(Generic[T]):
    __slots__ = ()
    _channel: Channel[T]

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other._channel is self._channel

    def __hash__(self) -> int:
        return hash((type(self), id(self._channel)))

    def __len__(self) -> int:
        return len(self._channel)

    def __bool__(self) -> bool:
        return True

    @property
    def name(self) -> str | None:
        """The channel's name."""
        return self._channel.name

    @property
    def capacity(self) -> int:
        """How many values the channel holds before senders wait."""
        return self._channel.capacity

    @property
    def closed(self) -> bool:
        """Has the channel been closed?"""
        return self._channel.closed

    @property
    def error(self) -> BaseException | None:
        """The error that the channel was closed with."""
        return self._channel.error

    def statistics(self) -> ChannelStatistics:
        """The channel at one instant."""
        return self._channel.statistics()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {self._channel!r}>"


@final
class SendChannel(SenderCore, _View[T]):
    """A channel's sending direction: it can send and close, and nothing else. Made by `Channel.sender`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _channel: Channel[T]

    def __init__(self, channel: Channel[T]) -> None:
        if not isinstance(channel, Channel):
            raise TypeError(f"SendChannel is a view of a Channel, not of {channel!r}; use channel.sender")
        super().__init__(channel)

    def send(self, value: T, timeout: float | None = None) -> None:
        """As `Channel.send`."""
        self._channel.send(value, timeout)

    def asend(self, value: T, timeout: float | None = None) -> Awaitable[None]:
        """As `Channel.asend`."""
        return self._channel.asend(value, timeout)

    def send_nowait(self, value: T) -> None:
        """As `Channel.send_nowait`."""
        self._channel.send_nowait(value)

    def sending(self, value: T) -> SendCase:
        """As `Channel.sending`."""
        return self._channel.sending(value)

    def close(self, error: BaseException | None = None) -> bool:
        """As `Channel.close`."""
        return self._channel.close(error)

    def __enter__(self) -> SendChannel[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._channel.close()

    if not TYPE_CHECKING:  # where it would say that everything can be done

        def __getattr__(self, attribute: str) -> Any:
            if attribute in _RECEIVING:
                raise AttributeError(f"a sending view cannot {attribute}; use the channel itself, or its .receiver")
            raise AttributeError(f"'SendChannel' object has no attribute {attribute!r}")


class RecvChannel(ReceiverCore, _View[T]):
    """A channel's receiving direction: it can receive, and nothing else. Made by `Channel.receiver`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _channel: Channel[T]

    def __init__(self, channel: Channel[T]) -> None:
        if not isinstance(channel, Channel):
            raise TypeError(f"RecvChannel is a view of a Channel, not of {channel!r}; use channel.receiver")
        super().__init__(channel)

    def recv(self, timeout: float | None = None) -> T:
        """As `Channel.recv`."""
        return self._channel.recv(timeout)

    def recv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]:
        """As `Channel.recv_ok`."""
        return self._channel.recv_ok(timeout)

    def recv_nowait(self) -> T:
        """As `Channel.recv_nowait`."""
        return self._channel.recv_nowait()

    async def arecv(self, timeout: float | None = None) -> T:
        """As `Channel.arecv`."""
        return await self._channel.arecv(timeout)

    async def arecv_ok(self, timeout: float | None = None) -> tuple[T | None, bool]:
        """As `Channel.arecv_ok`."""
        return await self._channel.arecv_ok(timeout)

    def __iter__(self) -> Iterator[T]:
        return self._channel

    def __aiter__(self) -> AsyncIterator[T]:
        return self._channel

    if not TYPE_CHECKING:  # where it would say that everything can be done

        def __getattr__(self, attribute: str) -> Any:
            if attribute in _SENDING:
                raise AttributeError(f"a receiving view cannot {attribute}; use the channel itself, or its .sender")
            raise AttributeError(f"'RecvChannel' object has no attribute {attribute!r}")


@final
class DoneChannel(RecvChannel[None]):
    """A receiving channel that is closed when something is over, and true from then on."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return self._channel.closed


_SENDING = frozenset({"send", "asend", "send_nowait", "sending", "close"})
_RECEIVING = frozenset({"recv", "recv_ok", "recv_nowait", "arecv", "arecv_ok"})


@overload
async def aselect(*cases: Case, timeout: float | None = None, default: Literal[False] = False) -> Selected: ...
@overload
async def aselect(*cases: Case, timeout: float | None = None, default: bool) -> Selected | None: ...
async def aselect(*cases: Case, timeout: float | None = None, default: bool = False) -> Selected | None:
    """As `select`, for an asyncio task to await. Does not suspend if a case is ready."""
    waiter = select_or_wait(cases, timeout, default)
    if type(waiter) is not TaskWaiter:
        if waiter is merged_mark:
            return await _aselect_merged(cases, timeout, default)
        return waiter  # type: ignore[no-any-return]
    try:
        try:
            await waiter.future
        except BaseException as error:  # noqa: BLE001  raised again, unless the operation has happened
            waiter.interrupted(error)
        return finish_select(cases, waiter)  # type: ignore[no-any-return]
    finally:
        leave_select(cases)


async def _aselect_merged(cases: tuple[Case, ...], timeout: float | None, default: bool) -> Selected | None:
    deadline = deadline_of(timeout)
    while True:
        flat, places = taken_apart(cases)
        got = await aselect(*flat, timeout=time_left(deadline), default=default)
        if got is None:
            return None
        outcome: Selected | None = put_together(cases, places, got)
        if outcome is not None:
            return outcome
