"""Small concurrent runs, recorded: is there an order in which a sequential channel would have answered the same?

The search is that of Wing and Gong ("Testing and verifying concurrent objects", 1993), with the states seen remembered.
"""

from __future__ import annotations

import random
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from penstock import Channel, ChannelClosed, WouldBlock, select


@dataclass(frozen=True)
class Operation:
    """One that happened: what, with which answer, between which two instants."""

    name: str
    argument: Any
    answer: Any
    began: int
    ended: int


State = tuple[tuple[Any, ...], bool]


def step(operation: Operation, state: State, capacity: int) -> State | None:
    """The state after the operation, or None if a sequential channel would have answered otherwise."""
    held, closed = state
    match operation.name, operation.answer:
        case "send", "sent":
            return ((*held, operation.argument), False) if not closed and len(held) < capacity else None
        case "send", "would block":
            return state if not closed and len(held) == capacity else None
        case "send", "closed":
            return state if closed else None
        case "receive", "would block":
            return state if not closed and not held else None
        case "receive", "closed":
            return state if closed and not held else None
        case "receive", ("value", value):
            return (held[1:], closed) if held and held[0] == value else None
        case "close", first:
            return (held, True) if first is not closed else None
    raise AssertionError(operation)


def linearizable(history: list[Operation], capacity: int) -> bool:
    seen = set()

    def search(left: frozenset[Operation], state: State) -> bool:
        if not left:
            return True
        if (left, state) in seen:
            return False
        seen.add((left, state))
        horizon = min(operation.ended for operation in left)
        for operation in left:
            if operation.began <= horizon:
                after = step(operation, state, capacity)
                if after is not None and search(left - {operation}, after):
                    return True
        return False

    return search(frozenset(history), ((), False))


def one_operation(channel: Channel[Any], name: str, value: Any) -> Any:
    """Its answer, or None if it did not happen."""
    try:
        match name:
            case "send_nowait":
                channel.send_nowait(value)
                return "sent"
            case "send":
                channel.send(value, timeout=0.002)
                return "sent"
            case "select_send":
                select(channel.sending(value), timeout=0.002)
                return "sent"
            case "recv_nowait":
                return "value", channel.recv_nowait()
            case "recv":
                return "value", channel.recv(timeout=0.002)
            case "select_recv":
                got = select(channel, default=True)
                return "would block" if got is None else ("value", got.value) if got.ok else "closed"
            case "close":
                return channel.close()
    except WouldBlock:
        return "would block"
    except ChannelClosed:
        return "closed"
    except TimeoutError:
        return None
    raise AssertionError(name)


def record(capacity: int, seed: int) -> list[Operation]:
    channel: Channel[Any] = Channel(capacity)
    history: list[Operation] = []
    starting = threading.Barrier(3)

    def work(number: int) -> None:
        rng = random.Random(f"{seed}/{number}")
        names = ["send", "send_nowait", "select_send", "recv", "recv_nowait", "select_recv"]
        mine = []
        starting.wait()
        for turn in range(5):
            name = "close" if rng.random() < 0.04 else rng.choice(names)
            value = (number, turn)
            began = time.perf_counter_ns()
            answer = one_operation(channel, name, value)
            ended = time.perf_counter_ns()
            if answer is not None:
                kind = "send" if "send" in name else "receive" if "recv" in name else name
                mine.append(Operation(kind, value, answer, began, ended))
        history.extend(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive(), "hung"
    return history


@pytest.mark.parametrize("capacity", [1, 2])
def test_histories_are_linearizable(capacity: int, storm_scale: int) -> None:
    """Threads that send, receive, select and close on one buffered channel (C4, C7, K1, K2)."""
    for seed in range(150 * storm_scale):
        history = record(capacity, seed)
        assert linearizable(history, capacity), sorted(history, key=lambda operation: operation.began)


def test_the_checker_can_tell() -> None:
    """A history with a value out of order, one from nowhere, and one lost are refused."""

    def history(*operations: tuple[str, Any, Any]) -> list[Operation]:
        return [Operation(*each, 2 * at, 2 * at + 1) for at, each in enumerate(operations)]

    assert linearizable(history(("send", 1, "sent"), ("receive", None, ("value", 1))), 1)
    assert not linearizable(history(("receive", None, ("value", 1))), 1)
    assert not linearizable(history(("send", 1, "sent"), ("receive", None, "would block")), 1)
    assert not linearizable(
        history(("send", 1, "sent"), ("send", 2, "sent"), ("receive", None, ("value", 2))), capacity=2
    )
    assert not linearizable(history(("close", None, True), ("close", None, True)), 1)
