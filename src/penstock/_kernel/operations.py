"""The course of a parked operation, the same for every source and both colours.

    begin    the source queues a node of a new waiter (its lock taken once: try, else queue)
    watch    the ambient scope gets a node too, and the clock a timer, unless the operation is shielded
    sleep    the thread parks, or the asyncio task awaits
    settle   outside all queues again: return the node that fired, or raise what ended the wait

A thread does all of it in `park`. An asyncio task awaits the waiter, whose `__await__` does `watch`, and calls `settle`
or, when the await raises, `Waiter.retract` (see `loops.py`).
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.interpreted import EXPIRED, atomic_load
    from penstock._kernel.scopes import ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.timers import Timer, number
    from penstock._kernel.waiters import Node, Waiter, new_node

FOREVER = float("inf")


class Expiry(Timer):
    """Ends an asyncio task's wait at its deadline."""

    __slots__ = ("_waiter",)

    def __init__(self, waiter: Waiter) -> None:
        Timer.__init__(self)
        self._waiter = waiter

    def expire(self) -> None:
        if self._waiter.expire():
            self._waiter.wake()


def deadline_after(timeout: Any) -> float:
    """The time `timeout` seconds from now; None: for ever."""
    if timeout is None:
        return FOREVER
    seconds = number(timeout, "timeout", "a number of seconds or None")
    if seconds <= 0.0:
        return 0.0
    return SEAM.runtime.monotonic() + seconds


def note(waiter: Waiter, deadline: float, operation: str) -> None:
    """For those who ask what is parked: the operation, since when, and until when at the latest."""
    waiter._operation = operation
    waiter._deadline = deadline
    waiter._since = SEAM.runtime.monotonic()


def watch_ambient(waiter: Waiter) -> Node | None:
    """Let the ambient scope's ending decide `waiter`; returns the node that would fire."""
    scope = ambient()
    if scope is None:
        return None
    node = new_node(waiter, scope, 0, None)
    if not scope.enlist(node) and node.fire():
        waiter.wake()  # The scope has ended since the operation looked.
    return node


def expire_at(waiter: Waiter, deadline: float) -> Expiry:
    """Let the clock decide `waiter` at `deadline`."""
    expiry = Expiry(waiter)
    SEAM.runtime.arm(expiry, deadline)
    return expiry


def park(waiter: Waiter, deadline: float, operation: str, shielded: bool = False) -> Node | None:
    """Park the calling thread until one of the waiter's nodes fires, and return that node.

    Raises `TimeoutError` at the deadline, `Cancelled` when the ambient scope ends (unless shielded), and what a signal
    handler raises; then the operation has not happened.
    """
    scope_node = None if shielded else watch_ambient(waiter)
    note(waiter, deadline, operation)
    try:
        waiter.park(deadline)
    except BaseException as error:
        if waiter.retract():
            raise
        waiter.redeliver(error)
    return settle(waiter, scope_node, operation)


def settle(waiter: Waiter, scope_node: Node | None, operation: str) -> Node | None:
    """The operation's outcome, once its task runs again."""
    if waiter.expire() or atomic_load(waiter._state) == EXPIRED:
        waiter.discard_nodes(None)
        raise TimeoutError(f"{operation} timed out")
    node = waiter.fired()
    if node is None:
        waiter.discard_nodes(None)
        if waiter._failure is not None:
            raise waiter._failure
        # Retracted on the task's behalf: its loop was closed.
        raise RuntimeError(f"{operation} was abandoned, because its event loop was closed")
    waiter.discard_nodes(node)
    node.source.synchronise()
    node.waiter = None
    if node is scope_node:
        scope = node.source
        raise scope.shown_cancellation()
    return node
