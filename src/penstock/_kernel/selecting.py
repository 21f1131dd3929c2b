"""Waiting for the first of several channel operations. Semantics after Go's `runtime/select.go`.

Invariants
  S1. A select decides while it holds the locks of all its channels: what is ready is ready at one instant, and, if
      nothing is, its nodes are in all queues before anybody can act on one of them.
  S2. The locks are taken in the order of the channels' addresses, each once, so that selects cannot deadlock.
  S3. Among several ready cases each is chosen with the same probability.
  S4. A parked select has one node for each of its cases; one waiter, so that one of them fires. A select looks for
      partners before it queues itself, so it never meets itself.
  S5. A send case belongs to one select at a time (`state` is SELECTING), and ends when its send has happened (SPENT).
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    UNUSED, SELECTING, SPENT = 0, 1, 2  # The state of a send case.
    from penstock._kernel.channel import (
        CLOSED,
        EMPTY,
        FULL,
        RECEIVE,
        SEND,
        SHUT,
        ChannelCore,
        ReceiverCore,
        SendCase,
        SenderCore,
    )
    from penstock._kernel.interpreted import LOCKS, address_of, channel_at, lock_drop, lock_take, ring_put
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.operations import deadline_after, park
    from penstock._kernel.scopes import check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Waiter, new_node, wake_all

# What `ready_now` gives when only waiting can help.
PARK: Any = object()


class Selected:
    """What a select did: the case's index, the object passed for it, and for a receive the value and Go's ok."""

    __slots__ = ("channel", "index", "ok", "value")
    __match_args__ = ("index", "channel", "value", "ok")

    def __init__(self) -> None:
        raise TypeError("Selected is made by select()")

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a Selected is frozen: {name} cannot be set")

    def __repr__(self) -> str:
        return f"Selected(index={self.index}, channel={self.channel!r}, value={self.value!r}, ok={self.ok})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Selected):
            return NotImplemented
        mine = (self.index, self.channel, self.value, self.ok)
        return mine == (other.index, other.channel, other.value, other.ok)

    def __hash__(self) -> int:
        return hash((self.index, self.channel, self.value, self.ok))


def filled(selected: Selected, index: int, case: Any, value: Any, ok: bool) -> Selected:
    """Fill in a new record. Allocates nothing, so that it can be done under locks."""
    channel = case
    if type(case) is SendCase:
        sending = case
        channel = sending.channel
    if cython.compiled:
        selected.index = index
        selected.channel = channel
        selected.value = value
        selected.ok = ok
    else:
        for name, content in zip(Selected.__slots__, (channel, index, ok, value), strict=True):
            object.__setattr__(selected, name, content)
    return selected


def channel_of(case: Any) -> Any:
    """The channel of a case; TypeError for what is no case."""
    if isinstance(case, ChannelCore):
        return case
    if type(case) is SendCase:
        sending = case
        return sending.channel
    if isinstance(case, ReceiverCore):
        view = case
        return view._channel
    if isinstance(case, SenderCore):
        raise TypeError("a sending view is no case of select; to send, pass view.sending(value)")
    raise TypeError(f"a case of select is a channel or receiving view, channel.sending(value), or None; not {case!r}")


# Locks


def in_order(channels: list[Any]) -> list[ChannelCore]:
    """The channels concerned, each once, in the order of their addresses. By binary insertion."""
    ordered: list[ChannelCore] = []
    size = 0
    for at in range(len(channels)):
        channel = channel_at(channels, at)
        if channel is None:
            continue
        address = address_of(channel)
        low = 0
        high = size
        while low < high:
            middle = (low + high) >> 1
            if address_of(channel_at(ordered, middle)) < address:
                low = middle + 1
            else:
                high = middle
        if low == size:
            ordered.append(channel)
            size += 1
        elif channel_at(ordered, low) is not channel:
            ordered.insert(low, channel)
            size += 1
    return ordered


def lock_all(ordered: list[ChannelCore]) -> None:
    for at in range(len(ordered)):
        channel = channel_at(ordered, at)
        lock_take(channel._lock)


def unlock_all(ordered: list[ChannelCore]) -> None:
    for at in range(len(ordered)):
        channel = channel_at(ordered, at)
        lock_drop(channel._lock)


# One attempt


def attempt(cases: tuple[Any, ...], channels: list[Any]) -> Any:
    """Under all locks: do one of the ready cases, chosen at random.

    Returns a `Selected`, the closed channel of a chosen send, or None if nothing is ready.
    """
    while True:
        ready = 0
        chosen = -1
        for index in range(len(cases)):
            channel = channel_at(channels, index)
            if channel is None:
                continue
            if channel.sendable() if type(cases[index]) is SendCase else channel.receivable():
                ready += 1
                if ready == 1 or SEAM.runtime.choose(ready) == 0:
                    chosen = index
        if ready == 0:
            return None
        case = cases[chosen]
        channel = channel_at(channels, chosen)
        selected = Selected.__new__(Selected)
        if type(case) is SendCase:
            sending = case
            outcome = channel.send_locked(sending.value, None)
            if outcome == FULL:
                continue  # The partner was decided by another channel in this instant.
            if outcome == SHUT:
                return channel
            sending.state = SPENT
            return filled(selected, chosen, case, None, True)
        value = channel.receive_locked(None)
        if value is EMPTY:
            continue
        if value is CLOSED:
            return filled(selected, chosen, case, None, False)
        return filled(selected, chosen, case, value, True)


def try_select(cases: tuple[Any, ...], channels: list[Any], nodes: list[Node] | None) -> Any:
    """Do one of the ready cases; if none is ready, stand in every case's queue with `nodes`."""
    ordered = in_order(channels) if LOCKS else None
    if ordered is not None:
        lock_all(ordered)
    outcome = attempt(cases, channels)
    waiter = None
    if type(outcome) is Selected:
        selected = outcome
        channel = channel_at(channels, selected.index)
        if channel._woken is not None:
            waiter = channel.take_woken()
    elif outcome is None and nodes is not None:
        for node in nodes:
            channel = node.source
            if node.kind == SEND:
                channel._senders.append(node)
            else:
                channel._receivers.append(node)
    if ordered is not None:
        unlock_all(ordered)
    if waiter is not None:
        wake_all(waiter)
    return outcome


# Send cases are good for one send, in one select at a time


def check_cases(cases: tuple[Any, ...]) -> list[Any]:
    """Each case's channel; None for an absent case. Refuses what is no case, and send cases that are in use."""
    channels: list[Any] = [None] * len(cases)
    for index in range(len(cases)):
        case = cases[index]
        if case is None:
            continue
        ring_put(channels, index, channel_of(case))
        if type(case) is SendCase:
            sending = case
            if sending.state == SPENT:
                raise RuntimeError("this send has happened; make a new case with channel.sending(value)")
            if sending.state == SELECTING:
                raise RuntimeError(
                    "this send case is waiting in another select; make one of its own with channel.sending(value)"
                )
    return channels


def mark_cases(cases: tuple[Any, ...], state: int) -> None:
    for case in cases:
        if type(case) is SendCase:
            sending = case
            if sending.state != SPENT:
                sending.state = state


def nodes_of(cases: tuple[Any, ...], channels: list[Any], waiter: Waiter) -> list[Node]:
    nodes = []
    for index in range(len(cases)):
        case = cases[index]
        if case is not None:
            if type(case) is SendCase:
                sending = case
                node = new_node(waiter, sending.channel, SEND, sending.value)
            else:
                node = new_node(waiter, channels[index], RECEIVE, None)
            node.index = index
            nodes.append(node)
    return nodes


def happened(cases: tuple[Any, ...], node: Node) -> Any:
    """What a parked select did, by the node that fired."""
    case = cases[node.index]
    if type(case) is SendCase:
        sending = case
        if not node.ok:
            raise sending.channel.closed_error()
        sending.state = SPENT
        return filled(Selected.__new__(Selected), node.index, case, None, True)
    return filled(Selected.__new__(Selected), node.index, case, node.value, node.ok)


# The two colours


def select(*cases: Any, timeout: float | None = None, default: bool = False) -> Any:
    """Do exactly one of several channel operations: the first that can be done, one at random if several can.

    A case is a channel or receiving view (receive), `channel.sending(value)` (send), or None (never ready). Returns a
    `Selected`, or, with `default=True`, None at once if nothing is ready. A receive from a closed, drained channel is
    ready, with `ok` False; if the chosen case is a send on a closed channel, `ChannelClosed` is raised.

    Waits while nothing is ready: raises `TimeoutError` after `timeout` seconds and `Cancelled` if the ambient context
    ends; then none of the cases has happened. With `default=True` it neither waits nor looks at the context.
    """
    channels = check_cases(cases)
    outcome = ready_now(cases, channels, timeout, default)
    if outcome is not PARK:
        return outcome
    deadline = deadline_after(timeout)
    waiter = SEAM.runtime.thread_waiter("select", "aselect")
    mark_cases(cases, SELECTING)
    try:
        outcome = try_select(cases, channels, nodes_of(cases, channels, waiter))
        if outcome is None:
            outcome = happened(cases, park(waiter, deadline, "select"))
        else:
            waiter.discard_nodes(None)
    finally:
        mark_cases(cases, UNUSED)
    return chosen_case(outcome)


def ready_now(cases: tuple[Any, ...], channels: list[Any], timeout: float | None, default: bool) -> Any:
    """What needs no waiting; PARK if only waiting can help."""
    if not default:
        check_ambient()
    outcome = try_select(cases, channels, None)
    if outcome is not None:
        return chosen_case(outcome)
    if default:
        return None
    if timeout is not None and deadline_after(timeout) == 0.0:
        raise TimeoutError("select timed out: nothing was ready")
    return PARK


def chosen_case(outcome: Any) -> Any:
    if type(outcome) is Selected:
        return outcome
    channel = outcome
    raise channel.closed_error()


def select_or_wait(cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
    """For an asyncio task: the outcome, or a TaskWaiter to await and then give to `finish_select`."""
    channels = check_cases(cases)
    outcome = ready_now(cases, channels, timeout, default)
    if outcome is not PARK:
        return outcome
    deadline = deadline_after(timeout)
    waiter = SEAM.runtime.task_waiter()
    outcome = try_select(cases, channels, nodes_of(cases, channels, waiter))
    if outcome is not None:
        waiter.discard_nodes(None)
        return chosen_case(outcome)
    mark_cases(cases, SELECTING)
    waiter.prepare(deadline, "aselect", False)
    return waiter


def finish_select(cases: tuple[Any, ...], waiter: TaskWaiter) -> Any:
    node = waiter.settled()
    return happened(cases, node)


def leave_select(cases: tuple[Any, ...]) -> None:
    """A parked select is over, whatever its outcome."""
    mark_cases(cases, UNUSED)
