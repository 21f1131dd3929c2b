"""A channel and a select as simple as can be: no threads, no speed. What they say is what is right."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import Any

CLOSED = ("closed",)
CANCELLED = ("cancelled",)


@dataclass
class Waiter:
    """A parked operation: its cases by index, of which one will happen."""

    cases: dict[int, tuple[str, NaiveChannel, Any]]
    outcome: Any = None

    def leave(self) -> None:
        for _, channel, _ in self.cases.values():
            channel.receivers = deque(entry for entry in channel.receivers if entry[0] is not self)
            channel.senders = deque(entry for entry in channel.senders if entry[0] is not self)

    def complete(self, outcome: Any) -> None:
        self.leave()
        self.outcome = outcome

    def park(self) -> None:
        for index, (kind, channel, _) in self.cases.items():
            (channel.senders if kind == "send" else channel.receivers).append((self, index))


@dataclass
class NaiveChannel:
    capacity: int
    ring: deque[Any] = field(default_factory=deque)
    returned: deque[Any] = field(default_factory=deque)
    senders: deque[tuple[Waiter, int]] = field(default_factory=deque)
    receivers: deque[tuple[Waiter, int]] = field(default_factory=deque)
    closed: bool = False

    def __len__(self) -> int:
        return len(self.ring) + len(self.returned)

    def can_send(self) -> bool:
        return self.closed or bool(self.receivers) or len(self.ring) < self.capacity

    def can_receive(self) -> bool:
        return self.closed or len(self) > 0 or bool(self.senders)

    def send(self, value: Any) -> Any:
        if self.closed:
            return CLOSED
        if self.receivers:
            waiter, index = self.receivers[0]
            waiter.complete((index, value, True))
        else:
            self.ring.append(value)
        return "sent"

    def _admit(self) -> Any:
        waiter, index = self.senders[0]
        waiter.complete((index, None, True))
        return waiter.cases[index][2]

    def receive(self) -> tuple[Any, bool]:
        if self.returned:
            return self.returned.popleft(), True
        if self.ring:
            value = self.ring.popleft()
            if self.senders:
                self.ring.append(self._admit())
            return value, True
        if self.senders:
            return self._admit(), True
        return None, False

    def give_back(self, value: Any) -> None:
        """A value whose receiver was cancelled in the instant of the hand-over."""
        if self.receivers:
            waiter, index = self.receivers[0]
            waiter.complete((index, value, True))
        else:
            self.returned.appendleft(value)

    def close(self) -> bool:
        if self.closed:
            return False
        self.closed = True
        while self.receivers:
            waiter, index = self.receivers[0]
            waiter.complete((index, None, False))
        while self.senders:
            waiter, _ = self.senders[0]
            waiter.complete(CLOSED)
        return True
