"""Backpressure: admit what there is capacity for, let a little wait a little, and reject the rest at once.

A server without a limit accepts everything, and under overload finishes nothing in time. A gauge bounds what is in
flight, by a number or by a limit that finds itself, so that what is accepted is served as fast as without the load.
"""

from __future__ import annotations

from collections.abc import Awaitable
from contextlib import suppress
from dataclasses import dataclass
from types import CoroutineType
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple, final, overload

from penstock._kernel.gauges import GaugeCore, Permit, Tally, admitted_mark, unadmitted_mark
from penstock._kernel.locks import now
from penstock._kernel.loops import TaskWaiter
from penstock.errors import OutOfCapacity
from penstock.group import is_async, shown
from penstock.patterns.arguments import NO_BOUND, count, integer, number, positive
from penstock.patterns.done import acall
from penstock.patterns.limits import AIMD, AdaptiveLimit, Gradient2, Learned, Vegas, Window
from penstock.sync import Mutex

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["AIMD", "GaugeStatistics", "Gradient2", "Permit", "PressureGauge", "Vegas"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

WINDOW_SAMPLES = 10
WINDOW_SECONDS = 0.02
"""An adaptive limit is reckoned after at least so many successes and so many seconds."""
LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1
"""What a priority may be."""


@dataclass(frozen=True)
class GaugeStatistics:
    """A gauge at one time, and what it did since it was made."""

    limit: int
    """How many may be in flight."""
    in_flight: int
    """How many are."""
    queued: int
    """How many wait."""
    admitted: int
    """How many were admitted by `acquire`, `aacquire`, `try_acquire`, `do` and `ado`."""
    rejected_full: int
    """How many were rejected at once, or turned out of the queue by a higher priority."""
    rejected_waited: int
    """How many were rejected after they had waited for `max_wait` in vain."""
    dropped: int
    """How many permits were released by `drop`."""
    queue_wait: float
    """Seconds spent in the queue, by all who were admitted from it, together."""

    @property
    def rejected(self) -> int:
        """How many were rejected."""
        return self.rejected_full + self.rejected_waited


@final
class PressureGauge(GaugeCore):
    """Bounds how much work is in flight, and rejects with `OutOfCapacity` what does not fit.

    `limit` is a number, or an adaptive limit: `AIMD()`, `Vegas()`, `Gradient2()`. Up to `queue` may wait for a place,
    for `max_wait` seconds at most; higher priorities first, then in the order of arrival, or, while the queue is more
    than half full, the newest first, since those still have the time to be served. Work for threads and asyncio tasks,
    in any mix; all of it is thread-safe.

    A permit holds its place until it is released, or until nothing refers to it any more, which counts as ignored.
    """

    __slots__ = ("_adaptive", "_counts", "_max_wait", "_sampling", "_window")

    def __init__(self, limit: int | AdaptiveLimit, queue: int = 0, max_wait: float | None = None) -> None:
        adaptive: AdaptiveLimit | None = None
        if isinstance(limit, int):
            first = positive(limit, "a gauge's limit")
        elif callable(getattr(limit, "update", None)) and not isinstance(limit, type):
            adaptive = limit
            first = positive(getattr(limit, "initial", None), "the initial value of a gauge's limit")
        else:
            raise TypeError(f"a gauge's limit must be an integer or an adaptive limit, such as Vegas(), not {limit!r}")
        count(queue, "a gauge's queue")
        if max_wait is not None and not number(max_wait, "max_wait", "a number of seconds or None") > 0:
            raise ValueError(f"max_wait must be more than 0 seconds, not {max_wait}; without a queue nobody waits")
        if isinstance(adaptive, Learned):
            adaptive.take()
        super().__init__(min(first, NO_BOUND), min(queue, NO_BOUND), adaptive is not None)
        self._adaptive = adaptive
        self._max_wait = max_wait
        self._counts = _Counts()
        self._sampling = Mutex()
        self._window = _Sampler()

    # Acquiring

    if TYPE_CHECKING:

        def try_acquire(self) -> Permit | None: ...

    def rejected(self) -> None:
        """One has been refused at once."""
        self._counts.full.add()

    def acquire(self, priority: int = 0) -> Permit:
        """A permit; waits in the queue if there is one, those with a higher priority first.

        Raises `OutOfCapacity` if the queue is full, if one of higher priority takes the place in it, or after
        `max_wait` seconds; `Cancelled` if the ambient context ends.
        """
        _check_priority(priority)
        if self.admit_in_context():
            return self.permit()  # type: ignore[no-any-return]
        since = now()
        try:
            outcome = self.join_in_thread(priority, self._max_wait)
        except TimeoutError:
            raise self._waited() from None
        return self._permit(outcome == admitted_mark, since)

    async def aacquire(self, priority: int = 0) -> Permit:
        """As `acquire`, for an asyncio task to await."""
        _check_priority(priority)
        if self.admit_in_context():
            return self.permit()  # type: ignore[no-any-return]
        since = now()
        try:
            outcome = self.begin_join(priority, self._max_wait)
            if type(outcome) is TaskWaiter:
                try:
                    await outcome.future
                except BaseException as error:  # noqa: BLE001  raised again, unless it has been admitted for good
                    outcome.interrupted(error)
                outcome = self.finish_join(outcome)
        except TimeoutError:
            raise self._waited() from None
        return self._permit(outcome == admitted_mark, since)

    def _permit(self, admitted: bool, since: float) -> Permit:
        if not admitted:
            self._counts.full.add()
            raise OutOfCapacity(f"{self.in_flight} of {self.limit} are in flight, and no more may wait")
        self._counts.wait(now() - since)
        return self.permit()  # type: ignore[no-any-return]

    def _waited(self) -> OutOfCapacity:
        self._counts.waited.add()
        return OutOfCapacity(f"there was no place for {self._max_wait} seconds")

    # Working

    def do(self, function: Callable[[*Ts], T], *args: *Ts) -> T:
        """Run `function(*args)` as one in flight. As `acquire`; a success, or ignored if it raises."""
        result = self.run_now(function, args)
        if result is not unadmitted_mark:
            return result  # type: ignore[no-any-return]
        if is_async(function):
            raise TypeError(f"{function!r} is an async function; use 'await gauge.ado()'")
        with self.acquire():
            result = function(*args)
            if isinstance(result, CoroutineType):
                result.close()
                raise TypeError(f"{function!r} is an async function; use 'await gauge.ado()'")
            return result

    @overload
    async def ado(self, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T: ...
    @overload
    async def ado(self, function: Callable[[*Ts], T], *args: *Ts) -> T: ...
    async def ado(self, function: Callable[[*Ts], Any], *args: *Ts) -> Any:
        """As `do`, for an asyncio task to await.

        A function that is not async runs in a thread, as by `acall`. If it is left behind there, because the context
        or the asyncio task has ended, it holds its place until it has ended itself.
        """
        permit = await self.aacquire()
        if is_async(function):
            with permit:
                return await function(*args)
        unbegun = [permit]  # Taken out by the thread that begins, or by who says that none will: by one of them.
        try:
            return await acall(_in_thread, unbegun, function, args)
        except BaseException:
            with suppress(IndexError):
                unbegun.pop().ignore()
            raise

    # Learning

    def ended(self, since: float) -> None:
        """One leaves that was admitted at that time, with success; negative: it was dropped."""
        dropped = since < 0
        if dropped:
            self._counts.dropped.add()
        try:
            if self._adaptive is not None and self._sampling.try_acquire():  # Who comes meanwhile is not sampled.
                try:
                    self._learn(self._adaptive, None if dropped else since)
                finally:
                    self._sampling.release()
        finally:
            self.leave()

    def _learn(self, adaptive: AdaptiveLimit, since: float | None) -> None:
        at = now()
        admitted = self.admitted
        window = self._window.sample(at, None if since is None else at - since, admitted, self.in_flight)
        if window is not None:
            self.set_limit(max(1, adaptive.update(window, self.limit)))

    def statistics(self) -> GaugeStatistics:
        """The gauge now, and what it did so far."""
        counts = self._counts
        return GaugeStatistics(
            limit=self.limit,
            in_flight=self.in_flight,
            queued=self.waiting(),
            admitted=self.admitted,
            rejected_full=counts.full.value,
            rejected_waited=counts.waited.value,
            dropped=counts.dropped.value,
            queue_wait=counts.queue_wait,
        )

    def __repr__(self) -> str:
        return f"<PressureGauge {self.in_flight} of {self.limit} in flight at {id(self):#x}>"


def _check_priority(priority: int) -> None:
    if not LOWEST <= integer(priority, "priority") <= HIGHEST:
        raise ValueError(f"priority must lie between {LOWEST} and {HIGHEST}, not {priority}")


def _in_thread(unbegun: list[Permit], function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    """`function(*args)` as one in flight, unless nobody waits for it any more."""
    try:
        permit = unbegun.pop()
    except IndexError:
        return None
    with permit:
        result = function(*args)
        if isinstance(result, Awaitable):
            if isinstance(result, CoroutineType):
                result.close()
            raise TypeError(f"{shown(function)} returned something to await; pass an async function that awaits it")
        return result


class _Counts:
    """What happened, besides admission."""

    def __init__(self) -> None:
        self.full = Tally()
        self.waited = Tally()
        self.dropped = Tally()
        self._microseconds = Tally()

    def wait(self, seconds: float) -> None:
        self._microseconds.add(int(seconds * 1e6))

    @property
    def queue_wait(self) -> float:
        return self._microseconds.value / 1e6


class _Sampler:
    """Successes and drops since the limit was reckoned last. Used by one thread at a time.

    All that is in flight when the limit is too high meets the same overload, which should shrink the limit once. So
    after one drop, others do not count before as many have left as had been admitted by then: once in a round trip, as
    TCP reacts once to the losses of one window (RFC 5681; `_recover` is what RFC 6582 calls so).
    """

    def __init__(self) -> None:
        self._recover = 0
        self._begin(now())

    def _begin(self, at: float) -> None:
        self._since = at
        self._number = 0
        self._seconds = 0.0
        self._least = float("inf")
        self._in_flight = 0
        self._dropped = False

    def sample(self, at: float, seconds: float | None, admitted: int, in_flight: int) -> Window | None:
        """One more; the window, if it is complete."""
        self._in_flight = max(self._in_flight, in_flight)
        if seconds is None:
            if admitted - in_flight >= self._recover:
                self._recover = admitted
                self._dropped = True
        else:
            self._number += 1
            self._seconds += seconds
            self._least = min(self._least, seconds)
        enough = self._number >= WINDOW_SAMPLES and at - self._since >= WINDOW_SECONDS
        if not enough and not self._dropped:
            return None
        mean = self._seconds / self._number if self._number else 0.0
        window = Window(mean, self._least, self._in_flight, self._dropped)
        self._begin(at)
        return window
