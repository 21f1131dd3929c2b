"""Who takes steps in an explored world, what they did, and how a schedule ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock._kernel.simulation import Seat, SimulatedWaiter
    from penstock.testing.carriers import Carrier
    from penstock.testing.strategies import Footprint

USER: Footprint = frozenset({0})
"""The footprint of a step of the user's own code, which may touch what other steps of that kind touch."""
LINE = "line"
"""What a task does that comes to a new line."""


@dataclass(frozen=True)
class Verdict:
    """How a schedule ended."""

    kind: str
    """"ok", "deadlock", "leak", "exception"; or "cut", "redundant", "different", "foreign"."""
    error: BaseException | None = None
    task: Actor | None = None
    """Whose error it is."""
    detail: str = ""
    """What is "different"."""


@dataclass
class Event:
    """Something that happened, for a timeline."""

    actor: Actor | None
    """Who did it; None: the clock."""
    doing: str
    """What: as in `Actor.doing`, or LINE."""
    on: str | tuple[str, ...]
    """On what, by name; the time to which the clock moves."""
    place: tuple[str, int]
    """Where: a line of a file."""
    waits: bool = False
    """Did the task have to wait?"""


class Actor:
    """Something that takes steps: a task in a thread, or an asyncio task."""

    thread: ThreadActor
    """In whose thread."""

    def __init__(self, number: int, name: str) -> None:
        self.number = number
        self.name = name
        self.polls = 0
        self.run_length = 0
        self.tired = False
        """Others first: it polls in vain, or goes on and on."""
        self.doing = ""
        """The library call that it is in."""
        self.doing_to: Any = None
        """On what."""
        self.callers: list[FrameType] = []
        """Who made the library calls that it is in, the outermost first."""
        self.event: Event | None = None
        """What it did last, if that is noted."""
        self.footprint: Footprint = None
        """What its next step touches."""


class ThreadActor(Actor):
    """A task in a thread of its own."""

    def __init__(self, number: int, name: str, job: Callable[[], object]) -> None:
        super().__init__(number, name)
        self.thread = self
        self.footprint = USER
        self.job = job
        self.task: Any = None
        """The library's task that it is."""
        self.carrier: Carrier | None = None
        self.waiter: SimulatedWaiter | None = None
        self.alarm: Any = None
        self.pending: BaseException | None = None
        self.ended = False
        self.gone: Seat | None = None
        """Roused when it has been unwound."""
        self.loop: Any = None
        """The event loop that its thread runs."""
        self.inside: Actor = self
        """Who is at work in the thread: itself, or a task of its loop."""
        self.between = False
        """Is its loop between two steps?"""


class LoopActor(Actor):
    """An asyncio task."""

    def __init__(self, number: int, name: str, thread: ThreadActor, task: Any) -> None:
        super().__init__(number, name)
        self.thread = thread
        self.task = task
