"""Waiting for the first of several channel operations. Semantics after Go's `runtime/select.go`.

Invariants
  S1. A select decides while it holds the locks of all its channels: what is ready is ready at one instant, and, if
      nothing is, its nodes are in all queues before anybody can act on one of them.
  S2. The locks are taken in the order of the channels' addresses, each once, so that selects cannot deadlock.
  S3. Among several ready cases each is chosen with the same probability; so is, when somebody meets a parked select
      that has several cases on one channel, each of those.
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
    FEW = 16  # Cases, that is.
    from penstock._kernel.channel import (
        CLOSED,
        EMPTY,
        FULL,
        RECEIVE,
        SEND,
        SENT,
        SHUT,
        ChannelCore,
        ReceiverCore,
        SendCase,
        SenderCore,
    )
    from penstock._kernel.interpreted import (
        LOCKS,
        Locks,
        immortal,
        locks_add,
        locks_drop,
        locks_open,
        locks_take,
        select_function,
    )
    from penstock._kernel.loops import TaskWaiter
    from penstock._kernel.merging import MergeCore
    from penstock._kernel.operations import FOREVER, deadline_after, park
    from penstock._kernel.scopes import check_ambient
    from penstock._kernel.seam import SEAM
    from penstock._kernel.waiters import Node, Waiter, new_node, wake_all

# What `ready_now` gives when only waiting can help.
PARK: Any = immortal(object())

# What it gives for cases among which there are merges: see `select_merged`.
merged_mark: Any = immortal(object())
MERGED = merged_mark


class Selected:
    """What a select did: the case's index, the object passed for it, and for a receive the value and Go's ok."""

    __slots__ = ("__weakref__", "channel", "index", "ok", "value")
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


def record(index: int, case: Any, value: Any, ok: bool) -> Selected:
    selected = Selected.__new__(Selected)
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
        for name, content in (("channel", channel), ("index", index), ("ok", ok), ("value", value)):
            object.__setattr__(selected, name, content)
    return selected


def channel_of(case: Any) -> Any:
    """The channel of a case; TypeError for what is no case."""
    if type(case) is SendCase:
        return cython.cast(SendCase, case).channel
    if isinstance(case, ChannelCore):
        return cython.cast(ChannelCore, case)
    if isinstance(case, ReceiverCore):
        return cython.cast(ReceiverCore, case)._channel
    if isinstance(case, SenderCore):
        raise TypeError("a sending view is no case of select; to send, pass view.sending(value)")
    raise TypeError(f"a case of select is a channel or receiving view, channel.sending(value), or None; not {case!r}")


# One attempt


def try_select(cases: tuple[Any, ...], nodes: list[Node] | None) -> Any:
    """Do one of the ready cases; if none is ready, stand in every case's queue with `nodes`.

    Returns a `Selected`, the closed channel of a chosen send, or None if nothing was ready.
    """
    if not cython.compiled:
        locks = Locks()
    if LOCKS:
        locks_open(locks, len(cases))
        for case in cases:
            if case is not None:
                channel = channel_of(case)
                locks_add(locks, channel._lock)
        locks_take(locks)
    waiter = None
    value = None
    outcome = SENT
    try:
        while True:
            ready = 0
            chosen = -1
            for index in range(len(cases)):
                case = cases[index]
                if case is not None:
                    channel = channel_of(case)
                    if channel.sendable() if type(case) is SendCase else channel.receivable():
                        ready += 1
                        if ready == 1 or SEAM.runtime.choose(ready) == 0:
                            chosen = index
            if ready == 0:
                break
            case = cases[chosen]
            channel = channel_of(case)
            if type(case) is SendCase:
                sending = case
                outcome = channel.send_locked(sending.value, None)
                if outcome == FULL:
                    continue  # The partner was decided by another channel in this instant.
            else:
                value = channel.receive_locked(None)
                if value is EMPTY:
                    continue
            if channel._woken is not None:
                waiter = channel.take_woken()
            break
        if ready == 0 and nodes is not None:
            for node in nodes:
                channel = node.source
                if node.kind == SEND:
                    channel._senders.append(node)
                else:
                    channel._receivers.append(node)
    finally:
        if LOCKS:
            locks_drop(locks)
    if waiter is not None:
        wake_all(waiter)
    if ready == 0:
        return None
    if outcome == SHUT:
        return channel
    if type(case) is SendCase:
        sending = case
        sending.state = SPENT
        return record(chosen, case, None, True)
    if value is CLOSED:
        return record(chosen, case, None, False)
    return record(chosen, case, value, True)


# Send cases are good for one send, in one select at a time


def check_cases(cases: tuple[Any, ...]) -> bool:
    """Refuse what is no case, and send cases that are in use. True: there is a merge among them."""
    merged = False
    for case in cases:
        if case is None:
            continue
        if type(case) is SendCase:
            sending = case
            if sending.state == SPENT:
                raise RuntimeError("this send has happened; make a new case with channel.sending(value)")
            if sending.state == SELECTING:
                raise RuntimeError(
                    "this send case is waiting in another select; make one of its own with channel.sending(value)"
                )
        elif not isinstance(case, ChannelCore):
            channel_of(case)
            if isinstance(case, MergeCore):
                merged = True
    return merged


def mark_cases(cases: tuple[Any, ...], state: int) -> None:
    for case in cases:
        if type(case) is SendCase:
            sending = case
            if sending.state != SPENT:
                sending.state = state


def nodes_of(cases: tuple[Any, ...], waiter: Waiter) -> list[Node]:
    """A node for each case. Of several on one channel, each is as likely to stand first in its queue.

    Among few, only those are shuffled, since each choice is one more for who explores them all.
    """
    nodes = []
    for index in range(len(cases)):
        case = cases[index]
        if case is not None:
            if type(case) is SendCase:
                sending = case
                node = new_node(waiter, sending.channel, SEND, sending.value)
            else:
                node = new_node(waiter, channel_of(case), RECEIVE, None)
            node.index = index
            nodes.append(node)
            few = len(cases) <= FEW
            place = place_among_its_like(nodes, node) if few else SEAM.runtime.choose(len(nodes))
            nodes[len(nodes) - 1] = nodes[place]
            nodes[place] = node
    return nodes


def place_among_its_like(nodes: list[Node], node: Node) -> int:
    """The place of one of the nodes on the last node's channel, itself included, by lot."""
    like = 0
    for other in nodes:
        if other.source is node.source:
            like += 1
    if like == 1:
        return len(nodes) - 1
    chosen = SEAM.runtime.choose(like)
    for place in range(len(nodes)):
        other = nodes[place]
        if other.source is node.source:
            if chosen == 0:
                return place
            chosen -= 1
    return len(nodes) - 1


def happened(cases: tuple[Any, ...], node: Node) -> Any:
    """What a parked select did, by the node that fired."""
    case = cases[node.index]
    if type(case) is SendCase:
        sending = case
        if not node.ok:
            raise sending.channel.closed_error()
        sending.state = SPENT
        return record(node.index, case, None, True)
    return record(node.index, case, node.value, node.ok)


# The two colours


def select(*cases: Any, timeout: float | None = None, default: bool = False) -> Any:
    """Do exactly one of several channel operations: the first that can be done, one at random if several can.

    A case is a channel or receiving view (receive), `channel.sending(value)` (send), or None (never ready). Returns a
    `Selected`, or, with `default=True`, None at once if nothing is ready. A receive from a closed, drained channel is
    ready, with `ok` False; if the chosen case is a send on a closed channel, `ChannelClosed` is raised.

    Waits while nothing is ready: raises `TimeoutError` after `timeout` seconds and `Cancelled` if the ambient context
    ends; then none of the cases has happened. With `default=True` it neither waits nor looks at the context.
    """
    return select_from(cases, timeout, default)


def select_from(cases: tuple[Any, ...], timeout: Any, default: bool) -> Any:
    watcher = SEAM.select_watcher
    if watcher is not None:
        return watcher(select_unwatched, cases, timeout, default)
    return select_among(cases, timeout, default)


def select_unwatched(cases: tuple[Any, ...], timeout: Any, default: bool) -> Any:
    """What a watcher calls in its turn."""
    return select_among(cases, timeout, default)


def select_among(cases: tuple[Any, ...], timeout: Any, default: bool) -> Any:
    outcome = ready_now(cases, timeout, default)
    if outcome is MERGED:
        return select_merged(cases, timeout, default)
    if outcome is not PARK:
        return outcome
    deadline = deadline_after(timeout)
    waiter = SEAM.runtime.thread_waiter("select", "aselect")
    mark_cases(cases, SELECTING)
    try:
        outcome = try_select(cases, nodes_of(cases, waiter))
        if outcome is None:
            outcome = happened(cases, park(waiter, deadline, "select"))
        else:
            waiter.discard_nodes(None)
    finally:
        mark_cases(cases, UNUSED)
    return chosen_case(outcome)


select = select_function(select, select_from)


def ready_now(cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
    """What needs no waiting; PARK if only waiting can help; MERGED if there are merges to take apart."""
    if check_cases(cases):
        return MERGED
    if not default:
        check_ambient()
    outcome = try_select(cases, None)
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
    """For an asyncio task: the outcome; MERGED; or a TaskWaiter to await and then give to `finish_select`."""
    outcome = ready_now(cases, timeout, default)
    if outcome is not PARK:
        return outcome
    deadline = deadline_after(timeout)
    waiter = SEAM.runtime.task_waiter()
    outcome = try_select(cases, nodes_of(cases, waiter))
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


# Merges: a select over the channels of each, until one has a value or the merge is at its end


def taken_apart(cases: tuple[Any, ...]) -> tuple[list[Any], list[int]]:
    """The cases with each merge's channels in its place, and the index that each of them had."""
    flat: list[Any] = []
    places: list[int] = []
    for index in range(len(cases)):
        case = cases[index]
        if isinstance(case, MergeCore):
            case.gather(flat)
        else:
            flat.append(case)
        while len(places) < len(flat):
            places.append(index)
    return flat, places


def put_together(cases: tuple[Any, ...], places: list[int], got: Any) -> Any:
    """What a select over the channels of merges means for the merges; None: it has to be done again."""
    if got is None:
        return None
    index = places[got.index]
    case = cases[index]
    if not isinstance(case, MergeCore):
        return record(index, case if type(case) is SendCase else got.channel, got.value, got.ok)
    merge = case
    if got.ok:
        return record(index, case, got.value, True)
    if got.channel is not merge._channel:
        merge.found_closed(got.channel)
        if not merge._channel._closed:
            return None
    return record(index, case, None, False)


def time_left(deadline: float) -> float | None:
    """The timeout that ends at `deadline`."""
    return None if deadline == FOREVER else max(0.0, deadline - SEAM.runtime.monotonic())


def deadline_of(timeout: float | None) -> float:
    """When `timeout` ends, if it starts now."""
    return deadline_after(timeout)


def select_merged(cases: tuple[Any, ...], timeout: float | None, default: bool) -> Any:
    deadline = deadline_after(timeout)
    while True:
        flat, places = taken_apart(cases)
        got = select_among(tuple(flat), time_left(deadline), default)
        if got is None:
            return None
        outcome = put_together(cases, places, got)
        if outcome is not None:
            return outcome
