"""Time: sleeping, and channels that receive the time."""

from __future__ import annotations

from math import inf, isfinite
from typing import final

from penstock._kernel.alarms import Alarm, begin_sleep, sleep
from penstock.channel import Channel, RecvChannel

__all__ = ["Ticker", "Timer", "after", "asleep", "sleep", "tick"]


async def asleep(seconds: float) -> None:
    """As `sleep`, for an asyncio task to await."""
    waiter = begin_sleep(seconds)
    if waiter is not None:
        try:
            await waiter.future
        except BaseException as error:  # noqa: BLE001  raised again
            waiter.interrupted(error)
        try:
            waiter.settled()
        except TimeoutError:
            return


def _checked(seconds: float, least: str = "") -> float:
    if not isinstance(seconds, int | float):
        raise TypeError(f"a time must be a number of seconds, not {seconds!r}")
    try:
        number = float(seconds)
    except OverflowError:  # An integer beyond all floats.
        number = inf
    if not isfinite(number):
        raise ValueError(f"a time must be finite, not {seconds!r}")
    if least and number <= 0:
        raise ValueError(f"{least} must be positive, not {seconds!r}")
    return number


@final
class Timer:
    """Sends the time once on `channel`, `seconds` from now (as Go's `time.Timer`).

    The time is that of `time.monotonic()`. Once `stop` or `reset` has returned, no value of before can be received.
    """

    __slots__ = ("__weakref__", "_alarm", "_channel")

    def __init__(self, seconds: float) -> None:
        seconds = _checked(seconds)
        self._channel: Channel[float] = Channel(1)
        self._alarm = Alarm(self._channel)
        self._alarm.start(seconds, 0.0)

    @property
    def channel(self) -> RecvChannel[float]:
        """Where the time is received."""
        return self._channel.receiver

    def stop(self) -> bool:
        """Send nothing any more. True if the time had not been received yet."""
        return self._alarm.stop()

    def reset(self, seconds: float) -> bool:
        """Send the time `seconds` from now instead. True if it had not been received yet."""
        return self._alarm.start(_checked(seconds), 0.0)


@final
class Ticker:
    """Sends the time on `channel` every `seconds` seconds (as Go's `time.Ticker`).

    The time is that of `time.monotonic()`. A receiver that is slow misses ticks. A ticker that nobody refers to stops.
    """

    __slots__ = ("__weakref__", "_alarm", "_channel")

    def __init__(self, seconds: float) -> None:
        seconds = _checked(seconds, "a ticker's period")
        self._channel: Channel[float] = Channel(1)
        self._alarm = Alarm(self._channel)
        self._alarm.start(seconds, seconds)

    @property
    def channel(self) -> RecvChannel[float]:
        """Where the times are received."""
        return self._channel.receiver

    def stop(self) -> bool:
        """Send nothing any more. True if the ticker was running."""
        return self._alarm.stop()

    def reset(self, seconds: float) -> bool:
        """Tick every `seconds` seconds from now on. True if the ticker was running."""
        seconds = _checked(seconds, "a ticker's period")
        return self._alarm.start(seconds, seconds)


def after(seconds: float) -> RecvChannel[float]:
    """A channel that receives the time once, `seconds` from now. For a timeout inside `select`."""
    channel: Channel[float] = Channel(1)
    Alarm(channel).start(_checked(seconds), 0.0)
    return channel.receiver


def tick(seconds: float) -> RecvChannel[float]:
    """A channel that receives the time every `seconds` seconds, for as long as somebody refers to it."""
    seconds = _checked(seconds, "a ticker's period")
    channel: Channel[float] = Channel(1)
    Alarm(channel).start(seconds, seconds)
    return channel.receiver
