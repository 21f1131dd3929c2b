"""Done: stop waiting for what nobody wants any more. Calls that know nothing of contexts, and races between calls.

A call that is left behind goes on in its thread until it ends by itself; its outcome is dropped. `abandoned` counts
such calls, `limit_abandoned` bounds them, and none of them holds up the interpreter's exit.

Invariant: while a limit of `n` holds, at most `n` calls that began under it have not ended, waited for or not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeVar, TypeVarTuple, final, overload

from penstock._kernel.locks import SemaphoreCore
from penstock.channel import Channel
from penstock.context import current
from penstock.errors import OutOfCapacity
from penstock.group import Task, is_async, refuse_in_loop, start_task
from penstock.patterns.coroutines import refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from penstock.context import Context

__all__ = ["abandoned", "acall", "afirst", "call", "first", "limit_abandoned"]

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


@final
class _Calls:
    """All calls: those that were left behind and have not ended, and how many may begin."""

    def __init__(self) -> None:
        self.left: set[Any] = set()
        self._bound: tuple[SemaphoreCore, int] | None = None

    def allow(self, most: int | None) -> None:
        """So many places for the calls that begin from now on. Those that have begun give back what they took."""
        self._bound = None if most is None else (SemaphoreCore(most), most)

    def admit(self, n: int) -> list[_Call]:
        """A place for each of `n` calls that are to begin, or OutOfCapacity and none."""
        current().check()
        bound = self._bound
        if bound is None:
            return [_Call(None) for _ in range(n)]
        places, limit = bound
        if n > limit or not places.take_now(n):
            raise OutOfCapacity(
                f"no place for {n} more: no more than {limit} calls may be abandoned, and any that is running could be"
                f" ({len(self.left)} abandoned calls are still running); see limit_abandoned()"
            )
        return [_Call(places) for _ in range(n)]

    def leave(self, task: Task[Any]) -> None:
        """Nobody waits for `task` any more."""
        self.left.add(task.context)
        if task.done:  # It ended meanwhile, and found itself not among those left.
            self.left.discard(task.context)


@final
class _Call:
    """The owner of one call's task. Where there is a limit, it has a place until the function has ended."""

    _collects: ClassVar[bool] = True

    def __init__(self, places: SemaphoreCore | None) -> None:
        self._places = places

    def start(self, function: Callable[..., Any], args: tuple[Any, ...]) -> Task[Any]:
        try:
            return start_task(function, args, self)
        except Exception:  # Not an interrupt: then it may have begun.
            self.give_back()
            raise

    def give_back(self) -> None:
        """The function has ended: its place is free. Idempotent."""
        places, self._places = self._places, None
        if places is not None:
            places.release()

    def _member_ended(self, _context: Context, _error: BaseException | None) -> None:
        self.give_back()  # Before anybody learns of the end, and calls again.

    def _member_gone(self, context: Context) -> None:
        _CALLS.left.discard(context)

    def __del__(self) -> None:
        self.give_back()  # Whatever kept the function from being called: an interrupt, or no thread to be had.


_CALLS = _Calls()


def abandoned() -> int:
    """How many calls are still running although nobody waits for them any more."""
    return len(_CALLS.left)


def limit_abandoned(most: int | None) -> None:
    """Let no more than `most` calls ever be abandoned and still running, in the whole process.

    Every call that is running could be abandoned the next moment, so each needs one of `most` places from its beginning
    until its function has ended, whether somebody waits for it or not. While too few are free, `call` and `acall` raise
    `OutOfCapacity`, and so do `first` and `afirst`, which need a place for each function; nothing is called then. So
    this also bounds how many calls run at once: choose more than that. It holds for calls that begin after it was set.
    None, the default: no limit.
    """
    if most is not None:
        if isinstance(most, bool) or not isinstance(most, int):
            raise TypeError(f"the limit of abandoned calls must be an integer or None, not {most!r}")
        if most < 1:
            raise ValueError(
                f"the limit of abandoned calls must be 1 or more, not {most}: nothing could ever be called"
            )
    _CALLS.allow(most)


def call(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Run `function(*args)`, which knows nothing of contexts, under the ambient context.

    It runs in a thread of the library's. If the ambient context ends first, `Cancelled` is raised at once; the call
    finishes on its own, and what it returns or raises is dropped. In an ended context it is not called at all.
    Raises what the function raises, and `OutOfCapacity` where `limit_abandoned` leaves no place for another call.
    """
    if is_async(function):
        raise TypeError(f"{function!r} is an async function; use 'await acall()'")
    refuse_in_loop("call()", "await acall()")
    (place,) = _CALLS.admit(1)
    task = place.start(function, args)
    try:
        return task.result()  # type: ignore[no-any-return]
    finally:
        _CALLS.leave(task)
        del task  # What it raised refers to this frame, which must not refer to it.


@overload
async def acall(function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T: ...
@overload
async def acall(function: Callable[[*Ts], T], *args: *Ts) -> T: ...
async def acall(function: Callable[[*Ts], Any], *args: *Ts) -> Any:
    """As `call`, for an asyncio task to await; its cancellation leaves the call behind as well.

    An async function runs as an asyncio task of its own, whose awaits the context's ending interrupts.
    """
    (place,) = _CALLS.admit(1)
    task = place.start(function, args)
    try:
        return await task.aresult()
    finally:
        _CALLS.leave(task)
        del task  # As in `call`.


class _Race:
    """Functions at work side by side, each in a task of its own, under one context."""

    def __init__(self, functions: tuple[Callable[[], Any], ...], name: str) -> None:
        if not functions:
            raise ValueError(f"{name}() takes at least one function")
        for function in functions:
            if not callable(function):
                raise TypeError(f"{name}() takes functions without arguments, not {function!r}")
        self._functions = functions
        self._context = current().with_cancel()
        self._outcomes: Channel[tuple[Any, BaseException | None]] = Channel(len(functions))  # Nobody waits to report.
        self._tasks: list[Task[None]] = []
        self.failures: list[BaseException] = []

    def __enter__(self) -> Self:
        with self._context.attach():
            places = _CALLS.admit(len(self._functions))
            try:
                for function in self._functions:
                    run = _run_async if is_async(function) else _run
                    place = places.pop()
                    self._tasks.append(place.start(run, (function, self._outcomes, place)))
            except BaseException:
                self.__exit__()
                for place in places:
                    place.give_back()
                raise
        return self

    def __exit__(self, *_error: object) -> None:
        self._context.cancel()
        for task in self._tasks:
            _CALLS.leave(task)

    def __len__(self) -> int:
        return len(self._functions)

    @property
    def outcomes(self) -> Channel[tuple[Any, BaseException | None]]:
        return self._outcomes

    def lost(self) -> BaseExceptionGroup[Any]:
        return BaseExceptionGroup("all functions failed", self.failures)


def _run(function: Callable[[], Any], outcomes: Channel[tuple[Any, BaseException | None]], place: _Call) -> None:
    try:
        result = function()
        refuse_coroutine(result, function, "pass the async function itself, to afirst()")
        outcome = (result, None)
    except BaseException as error:  # noqa: BLE001  the racer's outcome
        place.give_back()
        outcomes.send_nowait((None, error))
    else:
        place.give_back()
        outcomes.send_nowait(outcome)


async def _run_async(
    function: Callable[[], Any], outcomes: Channel[tuple[Any, BaseException | None]], place: _Call
) -> None:
    try:
        outcome = (await function(), None)
    except BaseException as error:
        place.give_back()
        outcomes.send_nowait((None, error))
        raise
    place.give_back()
    outcomes.send_nowait(outcome)


def first(*functions: Callable[[], T]) -> T:
    """Call all functions at once, each in a thread of its own; return what the first to succeed returns.

    The others' context is cancelled, and they are not waited for: those that do not notice are abandoned calls. If all
    fail, raises an `ExceptionGroup` of their errors. Raises `Cancelled` if the ambient context ends first.
    """
    for function in functions:
        if is_async(function):
            raise TypeError(f"{function!r} is an async function; use 'await afirst()'")
    refuse_in_loop("first()", "await afirst()")
    with _Race(functions, "first") as race:
        for _ in range(len(race)):
            value, error = race.outcomes.recv()
            if error is None:
                return value  # type: ignore[no-any-return]
            race.failures.append(error)
    raise race.lost()


@overload
async def afirst(*functions: Callable[[], Awaitable[T]]) -> T: ...
@overload
async def afirst(*functions: Callable[[], Any]) -> Any: ...
async def afirst(*functions: Callable[[], Any]) -> Any:
    """As `first`, for an asyncio task to await; async functions run as asyncio tasks, others in threads."""
    with _Race(functions, "afirst") as race:
        for _ in range(len(race)):
            value, error = await race.outcomes.arecv()
            if error is None:
                return value
            race.failures.append(error)
    raise race.lost()
