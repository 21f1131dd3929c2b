"""Limits that find themselves: how much may be in flight, learned from how long it takes and what is dropped.

After Netflix's concurrency-limits (AIMD, Vegas, Gradient2), which apply to a server what TCP's congestion control does
to a network. Its documented faults are avoided: a least round trip that drifts upwards under lasting load, and a limit
that grows without end while the gradient is steady. There, while less than half of a limit is in use, it stays as it
is, however long the work takes. Here it shrinks then too; and it grows only while all of it is in use: what has never
been in flight has proved nothing, and a limit that is not reached holds nobody back.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import log10
from typing import Protocol, final

from penstock.patterns.arguments import count, integer, number, seconds

__all__ = ["AIMD", "AdaptiveLimit", "Gradient2", "Vegas", "Window"]


@dataclass(frozen=True)
class Window:
    """What happened since the limit was reckoned last."""

    seconds: float
    """The mean time from admission to success."""
    least: float
    """The shortest of them; infinite if there was none."""
    in_flight: int
    """The most that was in flight at once."""
    dropped: bool
    """Has something been dropped for overload? Then no more before as many have left as were in flight."""


class AdaptiveLimit(Protocol):
    """What `PressureGauge(limit=…)` takes besides a number. One gauge uses it, one call at a time."""

    initial: int
    """The limit to begin with."""

    def update(self, window: Window, limit: int) -> int:
        """The next limit, 1 or more."""
        ...


class Learned(AdaptiveLimit):
    """What the limits below have in common: their bounds, and that each learns from one gauge."""

    def __init__(self, initial: int, least: int, most: int) -> None:
        for name, value in (("initial", initial), ("least", least), ("most", most)):
            integer(value, name)
        if not 1 <= least <= initial <= most:
            raise ValueError(f"a limit needs 1 <= least <= initial <= most, not {least}, {initial}, {most}")
        self.initial = initial
        self._least, self._most = least, most
        self._taken = False

    def take(self) -> None:
        """A gauge begins to use it. Raises ValueError if another has."""
        if self._taken:
            raise ValueError(f"another gauge learns by this limit; make a {type(self).__name__} for each gauge")
        self._taken = True


@final
class AIMD(Learned):
    """Additive increase, multiplicative decrease: one more while all goes well, a tenth less when something is dropped.

    Knows overload by what is dropped (`Permit.drop`), or by taking longer than `timeout` seconds.
    """

    def __init__(
        self, initial: int = 20, least: int = 1, most: int = 1000, backoff: float = 0.9, timeout: float = 5.0
    ) -> None:
        super().__init__(initial, least, most)
        if not 0 < number(backoff, "backoff") < 1:
            raise ValueError(f"backoff must lie between 0 and 1, not {backoff}")
        self._backoff, self._timeout = backoff, seconds(timeout, "timeout")

    def update(self, window: Window, limit: int) -> int:
        """The next limit."""
        if window.dropped or window.seconds > self._timeout:
            return max(self._least, int(limit * self._backoff))
        return min(self._most, limit + 1) if window.in_flight >= limit else limit


class _Baseline:
    """The round trip without a queue. It is measured again from time to time, with a limit so low that none builds up:
    merely forgetting the old one would let lasting load be taken for its absence."""

    EVERY = 200
    """Windows between two measurements."""
    WINDOWS = 3
    """Windows that one takes: what was in flight before has left by the last."""

    def __init__(self) -> None:
        self.seconds = float("inf")
        self._age = 0
        self._resume = 0

    def probing(self, window: Window, limit: int, least: int) -> int | None:
        """The limit for the measurement, while there is one."""
        self._age += 1
        if self._resume:
            if self._age < self.WINDOWS or window.least == float("inf"):  # A drop has ended it before any success.
                return limit
            self.seconds = window.least
            resumed, self._resume, self._age = self._resume, 0, 0
            return resumed
        self.seconds = min(self.seconds, window.least)
        if self._age >= self.EVERY and window.seconds > 1.2 * self.seconds:
            self._resume, self._age = limit, 0
            return max(least, int(0.8 * limit * self.seconds / window.seconds))  # What needed no queue (Little's law).
        return None


@final
class Vegas(Learned):
    """After TCP Vegas: the queue is what the round trip is longer than without one, in terms of the limit.

    Grows while that queue is short, shrinks when it is long, between 3 and 6 times the limit's logarithm. A drop
    shrinks it by a tenth.
    """

    def __init__(self, initial: int = 20, least: int = 1, most: int = 1000, smoothing: float = 1.0) -> None:
        super().__init__(initial, least, most)
        if not 0 < number(smoothing, "smoothing") <= 1:
            raise ValueError(f"smoothing must lie between 0 and 1, not {smoothing}")
        self._smoothing = smoothing
        self._baseline = _Baseline()

    def update(self, window: Window, limit: int) -> int:
        """The next limit."""
        probing = self._baseline.probing(window, limit, self._least)
        if probing is not None:
            return probing
        step = max(1.0, log10(limit))
        wanted = float(limit)
        queue = limit * (1 - self._baseline.seconds / window.seconds) if window.seconds > 0 else 0.0
        if window.dropped:
            wanted -= max(step, 0.1 * limit)
        elif queue > 6 * step:
            wanted -= step
        elif window.in_flight < limit:
            return limit  # Not the limit is what holds it back.
        elif queue <= step:
            wanted += 3 * step  # Not by 6: a burst that has just begun would be let in as if there were room for it.
        elif queue < 3 * step:
            wanted += step
        wanted = (1 - self._smoothing) * limit + self._smoothing * wanted
        return max(self._least, min(self._most, round(wanted)))


@final
class Gradient2(Learned):
    """By the gradient between the round trip over a long time and the present one.

    `tolerance` says how much longer the present one may be, and `queue` how many may wait. The long one follows a
    lasting change slowly upwards and at once downwards, and never exceeds the round trip without a queue by more than a
    tenth: so a steady gradient does not let the limit grow for ever. A drop shrinks it by a tenth.
    """

    def __init__(
        self, initial: int = 20, least: int = 1, most: int = 1000, tolerance: float = 1.5, queue: int = 4
    ) -> None:
        super().__init__(initial, least, most)
        if not number(tolerance, "tolerance") >= 1:
            raise ValueError(f"tolerance must be 1 or more, not {tolerance}")
        self._tolerance, self._queue = tolerance, count(queue, "queue")
        self._baseline = _Baseline()
        self._long = 0.0

    def update(self, window: Window, limit: int) -> int:
        """The next limit."""
        probing = self._baseline.probing(window, limit, self._least)
        if probing is not None:
            return probing
        if window.dropped:
            return max(self._least, int(0.9 * limit))
        short = window.seconds
        self._long = min(short, self._long + 0.05 * (short - self._long)) if self._long else short
        self._long = min(self._long, 1.1 * self._baseline.seconds)
        gradient = max(0.5, min(1.0, self._tolerance * self._long / short)) if short > 0 else 1.0
        if gradient == 1.0 and window.in_flight < limit:
            return limit
        wanted = 0.8 * limit + 0.2 * (limit * gradient + self._queue)
        return max(self._least, min(self._most, int(wanted) if gradient < 1.0 else round(wanted + 0.5)))
