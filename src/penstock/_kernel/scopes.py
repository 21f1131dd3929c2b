"""Scopes: the tree of cancellation and deadlines under the public contexts. Semantics after Go's `context` package.

Invariants
  X1. A scope ends once (`_over` is swapped under its lock); what it ended with (`_origin`, cause, by deadline or not)
      is written before. A scope that ends because one above it did has that one as its `_origin`; None is itself, so
      that what has ended is no cycle for the garbage collector.
  X2. A scope that has not ended is linked to its forebear, the nearest scope above it that can end, and has ended no
      later than that one's `end` returns. A scope that has ended is linked to nothing, and nothing to it.
  X3. `_deadline` is the earliest deadline of the scope and all its forebears, `_timed` the scope whose own it is, None
      for itself. Only a scope with an own deadline earlier than its forebears' has a timer.
  X4. A scope's children are guarded by its lock, and so are a child's sibling links, by its forebear's; so are `_outer`
      and `_interrupter`, which its task writes and others ask for. No two scopes' locks are held at once.
  X5. The ambient scope is the value of the context variable AMBIENT; None, or no value, is the background.
"""

from __future__ import annotations

from contextvars import ContextVar, copy_context
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock.errors import Cancelled, DeadlineExceeded, without_endings_of

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import (
        Atomic,
        Lock,
        ambient_bind,
        ambient_get,
        ambient_reset,
        ambient_set,
        atomic_cas,
        atomic_load,
        lock_drop,
        lock_take,
        new_instance,
    )
    from penstock._kernel.seam import SEAM, Interruption
    from penstock._kernel.timers import Timer, number
    from penstock._kernel.waiters import DONE, Node, Queue, Source, Waiter, chained, wake_all

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Token

AMBIENT: ContextVar[Scope | None] = ContextVar("penstock.context")
ambient_bind(AMBIENT)
ambient_variable = AMBIENT  # For the code above the kernel: compiled, AMBIENT is not a name of the module.
NEVER = float("inf")
BACKGROUND: Any = None


class Deadline(Timer):
    """Ends a scope at its deadline."""

    __slots__ = ("_scope",)

    def expire(self) -> None:
        self._scope.end(self._scope, True, self._scope._timeout_cause)


class Scope(Source):
    """One node of the tree. The public class is `penstock.Context`, which adds the asyncio colour."""

    __slots__ = (
        "_by_deadline",
        "_deadline",
        "_done",
        "_entries",
        "_error",
        "_first_child",
        "_forebear",
        "_given_cause",
        "_goes_on",
        "_has_value",
        "_interrupter",
        "_key",
        "_linked",
        "_next_sibling",
        "_origin",
        "_outer",
        "_over",
        "_previous_sibling",
        "_quiet",
        "_timed",
        "_timeout_cause",
        "_timer",
        "_token",
        "_value",
        "_waiters",
        "parent",
    )

    def __init__(self) -> None:
        raise TypeError(f"{type(self).__name__} is not called: derive one, as in current().with_cancel()")

    def _clear(self) -> None:
        """Interpreted: give a new instance what a compiled one is born with."""
        if not cython.compiled:
            self._lock = Lock()
            self._over = Atomic()
            self._entries = Atomic()
            self.parent: Scope | None = None
            self._forebear: Scope | None = None
            self._first_child: Scope | None = None
            self._previous_sibling: Scope | None = None
            self._next_sibling: Scope | None = None
            self._linked = False
            self._by_deadline = False
            self._quiet = False
            self._has_value = False
            self._origin: Scope | None = None
            self._error: BaseException | None = None
            self._given_cause: Any = None
            self._timeout_cause: Any = None
            self._key: Any = None
            self._value: Any = None
            self._timed: Scope | None = None
            self._timer: Deadline | None = None
            self._waiters: Queue | None = None
            self._done: Any = None
            self._token: Token[Scope | None] | None = None
            self._outer: Scope | None = None
            self._interrupter: Interruption | None = None

    @classmethod
    def root(cls) -> Any:
        """The scope without parent: the background."""
        global BACKGROUND
        BACKGROUND = new_instance(cls)
        BACKGROUND._begin()
        return BACKGROUND

    def _begin(self) -> None:
        self._clear()
        self._deadline = NEVER

    # Deriving

    @cython.final
    def derive(self, deadline: float, now: float, cause: Any) -> Scope:
        """A child that ends with this scope, or at `deadline` with `cause`. It is `now`."""
        child = new_instance(type(self))
        child._clear()
        child.parent = self
        child._forebear = self if self.parent is not None else None
        timer = None
        if deadline < self._deadline:
            child._deadline = deadline
            child._timeout_cause = cause
            timer = child._timer = Deadline.__new__(Deadline)
            timer.position = -1
            timer._scope = child
        else:
            child._deadline = self._deadline
            if self._deadline < NEVER:
                child._timed = self.timed()
        if child._forebear is not None and not self._link(child):
            child.end(self.origin(), False, None)
        elif timer is not None:
            if deadline <= now:
                child.end(child, True, cause)
            else:
                SEAM.runtime.arm(timer, deadline)
                if atomic_load(child._over):  # Ended from above in this instant.
                    SEAM.runtime.disarm(timer)
        return child

    @cython.final
    def _link(self, child: Scope) -> bool:
        """Make `child` end with this scope. False if this scope has ended."""
        linked = False
        lock_take(self._lock)
        try:
            if not atomic_load(self._over):
                child._next_sibling = self._first_child
                if self._first_child is not None:
                    self._first_child._previous_sibling = child
                self._first_child = child
                child._linked = linked = True
        finally:
            lock_drop(self._lock)
        return linked

    @cython.final
    def _unlink(self, child: Scope) -> None:
        lock_take(self._lock)
        try:
            if child._linked:
                child._linked = False
                if child._previous_sibling is None:
                    self._first_child = child._next_sibling
                else:
                    child._previous_sibling._next_sibling = child._next_sibling
                if child._next_sibling is not None:
                    child._next_sibling._previous_sibling = child._previous_sibling
                child._previous_sibling = None
                child._next_sibling = None
        finally:
            lock_drop(self._lock)

    def with_cancel(self) -> Any:
        """A child context that ends when it is cancelled, or when this one ends."""
        return self.derive(NEVER, NEVER, None)

    def with_timeout(self, seconds: float, cause: Any = None) -> Any:
        """A child context that ends `seconds` from now, with `cause`, or when this one ends."""
        now = SEAM.runtime.monotonic()
        return self.derive(now + number(seconds, "a timeout", "a number of seconds"), now, cause)

    def with_deadline(self, deadline: float, cause: Any = None) -> Any:
        """A child context that ends at `deadline`, on the clock of `time.monotonic()`, or when this one ends."""
        now = SEAM.runtime.monotonic()
        return self.derive(number(deadline, "a deadline", "a time of time.monotonic()"), now, cause)

    def with_value(self, key: Any, value: Any) -> Any:
        """A child context that carries a value: `value(key)` gives it, in the child and below."""
        if key is None:
            raise TypeError("the key of a context value must not be None")
        child: Scope = self.derive(NEVER, NEVER, None)
        child._has_value = True
        child._key = key
        child._value = value
        return child

    def without_cancel(self) -> Any:
        """A child context with this one's values, which does not end when this one does, and has no deadline."""
        child: Scope = new_instance(type(self))
        child._begin()
        child.parent = self
        return child

    # What a scope tells

    @property
    def deadline(self) -> float | None:
        """When this context ends at the latest, on the clock of `time.monotonic()`; None: never."""
        return None if self._deadline == NEVER else self._deadline

    def value(self, key: Any) -> Any:
        """The value given to the nearest `with_value` above, or here, whose key equals `key`; None if there is none."""
        scope: Any = self
        while scope is not None:
            found, value = scope._own_value(key)
            if found:
                return value
            scope = scope.parent
        return None

    def _own_value(self, key: Any) -> tuple[bool, Any]:
        if self._has_value and self._key == key:
            return True, self._value
        return False, None

    @property
    def error(self) -> Any:
        """None; once ended, a `Cancelled` or a `DeadlineExceeded`."""
        if not atomic_load(self._over):
            return None
        origin = self.origin()
        if origin is not self:
            return origin.error
        lock_take(self._lock)
        error: Any = self._error
        lock_drop(self._lock)
        if error is None:
            made: Any = DeadlineExceeded("context deadline exceeded") if self._by_deadline else self.cancellation()
            lock_take(self._lock)
            if self._error is None:
                self._error = made
            error = self._error
            lock_drop(self._lock)
        return error

    @property
    def cause(self) -> Any:
        """Why this context ended: the first cause given, else `error`; None while it has not ended."""
        if not atomic_load(self._over):
            return None
        cause = self.origin()._given_cause
        return self.error if cause is None else cause

    def check(self) -> None:
        """Raise `Cancelled` if this context has ended."""
        self.require()

    @cython.final
    def require(self) -> bool:
        """As `check`, for the kernel."""
        if self.over():
            raise self.shown_cancellation()
        return True

    @cython.final
    def cancellation(self) -> Any:
        """A new `Cancelled` for this scope, which has ended."""
        origin = self.origin()
        message = "context deadline exceeded" if origin._by_deadline else "context cancelled"
        cause = origin._given_cause
        if cause is not None:
            message = f"{message}: {cause}"
        error = Cancelled(message, cause=cause, origin=origin)  # type: ignore[arg-type]
        if isinstance(cause, BaseException):
            error.__cause__ = cause
        return error

    @cython.final
    def shown_cancellation(self) -> Any:
        """As `cancellation`, about to be raised in the running task: nobody need interrupt that task any more."""
        scope: Any = self
        while scope is not None:
            scope = scope._tell_interrupter()
        return self.cancellation()

    def _tell_interrupter(self) -> Scope | None:
        interrupter = self.interrupter()
        if interrupter is not None:
            interrupter.shown()
        outer = self.outer()
        return self.parent if outer is None else outer

    # Ending

    @cython.final
    def origin(self) -> Scope:
        """Once it has ended: the scope that ended first, and this one with it."""
        return self if self._origin is None else self._origin

    @cython.final
    def timed(self) -> Scope:
        """The scope whose own deadline `_deadline` is."""
        return self if self._timed is None else self._timed

    @cython.final
    def over(self) -> bool:
        """Has this scope ended? A deadline that has passed counts, whether or not its timer has been served."""
        if atomic_load(self._over):
            return True
        if self._deadline < NEVER and self._deadline <= SEAM.runtime.monotonic():
            timed = self.timed()
            timed.end(timed, True, timed._timeout_cause)
            return bool(atomic_load(self._over))
        return False

    @cython.final
    def end(self, origin: Scope, by_deadline: bool, cause: Any) -> bool:
        """End this scope and all below it. False if it has ended before."""
        if not self._end_one(origin, by_deadline, cause):
            return False
        if self._goes_on:
            self._end_below(origin, by_deadline)
        return True

    @cython.final
    def _end_below(self, origin: Scope, by_deadline: bool) -> None:
        """The rest of `end`, where there is something below, or a task to interrupt."""
        below: list[Scope] = [self]
        interrupters: list[Interruption] = []
        while below:
            scope = below.pop()
            if scope is self or scope._end_one(origin, by_deadline, None):
                interrupter = scope.interrupter()
                if interrupter is not None:
                    interrupters.append(interrupter)
                child = scope._take_child()
                while child is not None:
                    below.append(child)
                    child = scope._take_child()
        # Behind the wake-ups of all that is parked below: what has been woken sees the ending for itself.
        for interrupter in interrupters:
            interrupter.interrupt()

    @cython.final
    def _end_one(self, origin: Scope, by_deadline: bool, cause: Any) -> bool:
        chain = None
        lock_take(self._lock)
        try:
            if atomic_load(self._over):
                return False
            if origin is self:
                self._by_deadline = by_deadline
                self._given_cause = cause
            else:
                self._origin = origin
            atomic_cas(self._over, 0, 1)
            self._goes_on = self._first_child is not None or self._interrupter is not None
            if self._waiters is not None:
                chain = self._fire_waiters()
        finally:
            lock_drop(self._lock)
        if self._forebear is not None:
            self._forebear._unlink(self)
        if self._timer is not None:
            SEAM.runtime.disarm(self._timer)
            self._timer = None
        self.on_end()
        if chain is not None:
            wake_all(chain)
        return True

    @cython.final
    def _take_child(self) -> Scope | None:
        lock_take(self._lock)
        try:
            child = self._first_child
            if child is not None:
                self._first_child = child._next_sibling
                if self._first_child is not None:
                    self._first_child._previous_sibling = None
                child._next_sibling = None
                child._linked = False
        finally:
            lock_drop(self._lock)
        return child

    @cython.final
    def _fire_waiters(self) -> Waiter | None:
        first: Waiter | None = None
        last: Waiter | None = None
        while True:
            node = self._waiters.fire_next()
            if node is None:
                return first
            first = chained(first, last, node.waiter)
            last = node.waiter

    def on_end(self) -> None:
        """The scope has ended; no lock is held."""
        if self._done is not None:
            self._done.close()

    def cancel(self, cause: Any = None) -> None:
        """End this context and all below it. The first call counts; later ones change nothing.

        May be called from anywhere: any thread, a signal handler, a finalizer.
        """
        if self.parent is None:
            raise RuntimeError("the background context cannot be cancelled; derive one with with_cancel()")
        self.end(self, False, cause)

    def done_channel(self) -> Any:
        """The channel that `closed_at_end` has been given, if any."""
        return self._done

    def interrupter(self) -> Any:
        """What interrupts the task that is in this scope by `async with`, if anything."""
        lock_take(self._lock)
        interrupter = self._interrupter
        lock_drop(self._lock)
        return interrupter

    @cython.final
    def _exchange_interrupter(self, new: Interruption | None) -> Interruption | None:
        lock_take(self._lock)
        old = self._interrupter
        self._interrupter = new
        lock_drop(self._lock)
        return old

    @cython.final
    def outer(self) -> Scope | None:
        """While it is entered: the scope that was ambient before, if any."""
        lock_take(self._lock)
        outer = self._outer
        lock_drop(self._lock)
        return outer

    @cython.final
    def _exchange_outer(self, new: Scope | None) -> Scope | None:
        lock_take(self._lock)
        old = self._outer
        self._outer = new
        lock_drop(self._lock)
        return old

    def description(self) -> str:
        """How this context was derived."""
        if self.parent is None:
            return "background"
        if self._has_value:
            return f"with_value({self._key!r}, {self._value!r})"
        if self._timed is None and self._deadline < NEVER:
            return f"with_deadline({self._deadline:.3f})"
        if self._forebear is None and self.parent.parent is not None:
            return "without_cancel"
        return "with_cancel"

    def closed_at_end(self, channel: Any) -> Any:
        """Let `channel` be closed when the scope ends, unless another is already; returns the one that is."""
        lock_take(self._lock)
        try:
            if self._done is None:
                self._done = channel
            else:
                channel = self._done
        finally:
            lock_drop(self._lock)
        if atomic_load(self._over):
            channel.close()
        return channel

    def call_at_end(self, function: Callable[[], object]) -> Any:
        """Let `function` be called in a thread of its own when the scope ends; returns what stops that."""
        callback = new_instance(Callback)
        callback._begin()
        callback._prepare(self, function)
        if self.parent is not None and not self._link(callback):
            callback.end(self.origin(), False, None)
        return callback._stop

    # Waiting under a scope

    @cython.final
    def enlist(self, node: Node) -> bool:
        """Let `node` fire when the scope ends. False if it has ended."""
        spare = Queue() if self._waiters is None else None
        lock_take(self._lock)
        try:
            if atomic_load(self._over):
                return False
            if self._waiters is None:
                self._waiters = spare
            self._waiters.append(node)
        finally:
            lock_drop(self._lock)
        return True

    def waiting(self) -> int:
        """How many parked operations would end with this scope."""
        lock_take(self._lock)
        try:
            return 0 if self._waiters is None else self._waiters.count()
        finally:
            lock_drop(self._lock)

    # Scopes in `with`

    def enter(self) -> None:
        """Make this scope ambient, for the code above the kernel."""
        self._enter()

    def leave(self) -> None:
        """Undo `enter`, and end the scope."""
        self._leave()

    @cython.final
    def _enter(self) -> None:
        if self.parent is None:
            raise RuntimeError("the background context is no scope; use attach(), or derive one with with_cancel()")
        if not atomic_cas(self._entries, 0, 1):
            raise RuntimeError("this context has been entered before; derive a new one, or use attach()")
        self._exchange_outer(ambient())
        self._token = ambient_set(self)

    @cython.final
    def _leave(self) -> None:
        token = self._token
        self._token = None
        try:
            ambient_reset(token)
        finally:
            self._exchange_outer(None)
            self.end(self, False, None)

    def __enter__(self) -> Any:
        self._enter()
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        self._leave()
        return error is not None and self._edge(error, False)

    def enter_async(self) -> None:
        """As `__enter__`, and let the scope's ending interrupt whatever the running task awaits."""
        interrupter = SEAM.runtime.interruption(self)
        self._enter()
        self._exchange_interrupter(interrupter)
        if atomic_load(self._over):
            interrupter.interrupt()

    def __aexit__(self, kind: object, error: BaseException | None, trace: object) -> Any:
        interrupter = self._exchange_interrupter(None)  # That the scope ends with its block is no news for the task.
        try:
            self._leave()
        finally:
            mine = interrupter.leave(error)
        if error is not None:
            return self._edge_in_task(error, mine, interrupter)
        return interrupter.absorb() if interrupter.unnoticed() else DONE

    async def _edge_in_task(self, error: BaseException, mine: bool, interrupter: Interruption) -> bool:
        try:
            return self._edge(error, mine)
        finally:
            if interrupter.unnoticed():
                await interrupter.absorb()

    def leave_interrupter(self, error: BaseException | None) -> Any:
        """The task does not want to be interrupted any more. `error`, or the `Cancelled` that it stands for."""
        interrupter = self._exchange_interrupter(None)
        if interrupter.leave(error):
            cancellation = self.cancellation()
            cancellation.__cause__ = error
            return cancellation
        return error

    def leads_to(self, scope: Any) -> bool:
        """Is this scope above `scope`?"""
        while scope is not None:
            scope = scope.parent
            if scope is self:
                return True
        return False

    @cython.final
    def _edge(self, error: BaseException, interrupted: bool) -> bool:
        """True: `error` was the ending of this scope, and stops here. Raises where it becomes another error."""
        if interrupted:
            if self._origin is not None:
                raise self.cancellation() from error
        elif not isinstance(error, Cancelled):
            if not isinstance(error, BaseExceptionGroup):
                return False
            rest = without_endings_of(self, error)
            if rest is error:
                return False
            if rest is not None:
                raise rest
        elif error.origin is not self:
            return False
        if self._by_deadline and not self._quiet:
            cause = self._given_cause
            raise DeadlineExceeded("context deadline exceeded" if cause is None else str(cause)) from (
                cause if isinstance(cause, BaseException) else error
            )
        return True


class Callback(Scope):
    """A function to be called when its parent ends."""

    __slots__ = ("_job",)

    def __init__(self) -> None:
        raise TypeError

    def _prepare(self, parent: Scope, function: Callable[[], object]) -> None:
        self.parent = parent
        self._forebear = parent if parent.parent is not None else None
        self._job = partial(copy_context().run, function)

    def on_end(self) -> None:
        job = self._job
        self._job = None
        if self._origin is not None:
            SEAM.runtime.start(job)

    def _stop(self) -> bool:
        """True: the function will not be called because of this call. False: it has been, or was stopped before."""
        return self.end(self, False, None)


def ambient() -> Scope | None:
    """The ambient scope; None for the background."""
    return ambient_get()


def check_ambient() -> None:
    """Raise `Cancelled` if the ambient scope has ended."""
    scope = ambient_get()
    if scope is not None:
        scope.require()


def current() -> Any:
    """The ambient context of the running task."""
    scope = ambient_get()
    return BACKGROUND if scope is None else scope


def cancel_scope() -> Any:
    """A scope whose block ends quietly when it is cancelled.

    `with cancel_scope() as context:` gives what to cancel.
    """
    scope = ambient_get()
    return (BACKGROUND if scope is None else scope).derive(NEVER, NEVER, None)


def fail_after(seconds: float) -> Any:
    """A scope with a time limit: the block raises `DeadlineExceeded` if the limit ends it."""
    scope = ambient_get()
    return (BACKGROUND if scope is None else scope).with_timeout(seconds)


def move_on_after(seconds: float) -> Any:
    """A scope with a time limit: the block ends quietly if the limit ends it."""
    scope = ambient_get()
    child = (BACKGROUND if scope is None else scope).with_timeout(seconds)
    child._quiet = True
    return child
