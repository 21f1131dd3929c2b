"""What is found about the order of locks, and how it is told."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._kernel.foreign_locks import WatchedLock
from penstock.deadlock import traces
from penstock.deadlock.naming import made_at

if TYPE_CHECKING:
    from collections.abc import Iterable

    from penstock.deadlock.lock_graph import Edge, LockNode, Way
    from penstock.deadlock.stacks import Frame
    from penstock.deadlock.traces import Trace


class Step(NamedTuple):
    """A task asked for one lock while it held another."""

    task: str
    held: str
    """The lock that it held."""
    wanted: str
    """The lock that it asked for."""
    held_stack: tuple[Frame, ...]
    """Where it had taken the one, the innermost frame last."""
    wanted_stack: tuple[Frame, ...]
    """Where it asked for the other."""


class Finding(NamedTuple):
    """One mistake. As a string it is what is printed."""

    kind: str
    """"inversion", "double lock" or "recursive read lock"."""
    text: str
    """What is wrong, in a sentence."""
    steps: tuple[Step, ...]
    """Of an inversion all that take part in it; otherwise one."""

    def __str__(self) -> str:
        lines = [f"penstock: {self.text}"]
        for step in self.steps:
            lines.append(f"    {step.task} held {step.held}, taken")
            lines += [f"        at {frame}" for frame in reversed(step.held_stack)]
            lines.append(f"    and asked for {step.wanted}")
            lines += [f"        at {frame}" for frame in reversed(step.wanted_stack)]
        return "\n".join(lines)


def inversion(circle: Iterable[tuple[Edge, Way]]) -> Finding:
    """Tasks take the locks of a circle in different orders."""
    steps = tuple(_step(way.task, edge.held, edge.to, way.held_trace, way.trace) for edge, way in circle)
    return Finding("inversion", f"{len(steps)} locks are taken in different orders, which may end in a deadlock", steps)


def double_lock(task: str, known: LockNode, held_trace: Trace, trace: Trace) -> Finding:
    """A task asks for what it holds itself."""
    step = _step(task, known, known, held_trace, trace)
    return Finding("double lock", f"{task} waits for {step.wanted}, and holds it itself", (step,))


def recursive_read(task: str, known: LockNode, lock: Any, held_trace: Trace, trace: Trace) -> Finding:
    """A task asks for reading, and reads already."""
    step = _step(task, known, known, held_trace, trace)
    writer = "a writer waits in between: a deadlock" if lock.waiting() else "with a writer in between it is a deadlock"
    text = f"{task} asks for {step.wanted} for reading, and holds it for reading already; {writer}"
    return Finding("recursive read lock", text, (step,))


def _step(task: str, held: LockNode, wanted: LockNode, held_trace: Trace, trace: Trace) -> Step:
    return Step(task, _name(held), _name(wanted), traces.stack_of(held_trace), traces.stack_of(trace))


def _name(known: LockNode) -> str:
    """What a lock is called: by where it was made, if that has been recorded, and by its number among all."""
    lock = known.reference()
    site = traces.stack_of((lock.made,)) if isinstance(lock, WatchedLock) else made_at(lock)
    made = f" made at {PurePath(site[-1].file).name}:{site[-1].line}" if site else ""
    return f"{known.kind} #{known.serial}{made}"
