"""Which task holds which locks, and what it asks for meanwhile."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._kernel.foreign_locks import Hooks
from penstock._kernel.loops import name_and_coroutine, running_task
from penstock._kernel.threads import is_main_thread, thread_with
from penstock.deadlock.lock_findings import double_lock, inversion, recursive_read
from penstock.deadlock.lock_graph import MOST_WAYS, Graph, Way
from penstock.deadlock.stacks import local, outwards
from penstock.deadlock.traces import callers_frame, innermost, trace_of
from penstock.group import _run

if TYPE_CHECKING:
    from types import CodeType, FrameType

    from penstock.deadlock.lock_findings import Finding
    from penstock.deadlock.lock_graph import Edge, LockNode
    from penstock.deadlock.traces import Trace


class Held(NamedTuple):
    """A lock that a task has taken, and where, noted at little cost.

    The task is mostly still inside the function that has taken it. So only that frame is noted, and its caller where it
    may have been left; the rest of the stack is found below it when it is asked for.
    """

    lock: LockNode
    exclusive: bool
    frame: int
    """The identity of the frame."""
    code: CodeType
    at: int
    above: CodeType | None
    """Its caller's code, if that was noted."""
    above_at: int
    thread: Any
    """The `Thread` of a task that is a thread, in its first: identifiers of threads that have ended are used again."""

    def trace(self, frame: FrameType | None) -> Trace:
        """The stack that took it, as far as it is known by now; `frame` is the innermost one of the same task."""
        place = (self.code, self.at)
        for _ in range(_FAR):
            if frame is None:
                break
            above = frame.f_back
            if id(frame) == self.frame and frame.f_code is self.code and self._is_called_by(above):
                return (place, *trace_of(above))
            frame = above
        return (place,) if self.above is None else (place, (self.above, self.above_at))

    def _is_called_by(self, above: FrameType | None) -> bool:
        """Is it the same call? Where the caller was not noted, the frame cannot have been left."""
        if self.above is None or above is None:
            return True
        return above.f_code is self.above and above.f_lasti == self.above_at


_new_held = tuple.__new__  # Held's own constructor parses its arguments, which costs more than all the rest.
_FAR = 200  # So far up the stack a frame is looked for.


class Order(Hooks):
    """What each task holds, and what has been found."""

    def __init__(self) -> None:
        self.held: dict[Any, list[Held]] = {}
        """By task (see `running_task`); those that hold nothing are not in it."""
        self.graph = Graph()
        self.found: list[Finding] = []
        self.printed = True
        self.known: set[object] = set()

    # What becomes of the locks

    def want(self, mine: list[Held], lock: Any, kind: str, *, exclusive: bool, for_ever: bool) -> None:
        """The calling task, which holds something already, is about to wait for `lock`."""
        if mine[0].thread is not None and mine[0].thread is not thread_with(running_task()):
            self.held.pop(running_task(), None)
            return
        known = self.graph.locks.get(id(lock)) or self.graph.lock(lock, kind)
        news = []
        for held in mine:
            if held.lock is known:
                if for_ever:
                    self._again(lock, held, exclusive=exclusive or held.exclusive)
                return
            edge = held.lock.after.get(known)
            if edge is None or not edge.ungated:
                news.append(held)
        for held in news:
            gates = frozenset(other.lock for other in mine if other.exclusive and other is not held)
            edge = self.graph.edge(held.lock, known)
            if not edge.knows(gates):
                self._order(edge, gates, held)

    def take(self, task: Any, lock: Any, kind: str, frame: FrameType, *, exclusive: bool) -> None:
        """`task`, which is the calling one, has taken `lock` in `frame`, which may be left before it is released."""
        known = self.graph.locks.get(id(lock)) or self.graph.lock(lock, kind)
        above = frame.f_back
        code, at = (None, 0) if above is None else (above.f_code, above.f_lasti)
        self.add(task, known, (exclusive, id(frame), frame.f_code, frame.f_lasti, code, at))

    def take_within(self, task: Any, lock: Any, kind: str, frame: FrameType) -> None:
        """As `take`, where `frame` releases it: a `with` statement's. For a lock that excludes all others."""
        known = self.graph.locks.get(id(lock)) or self.graph.lock(lock, kind)
        self.add(task, known, (True, id(frame), frame.f_code, frame.f_lasti, None, 0))

    def add(self, task: Any, known: LockNode, how: tuple[bool, int, CodeType, int, CodeType | None, int]) -> None:
        """Note what `task` has taken, and where."""
        mine = self.held.get(task)
        if mine is None:
            thread = thread_with(task) if type(task) is int else None
            self.held[task] = [_new_held(Held, (known, *how, thread))]
        else:
            mine.append(_new_held(Held, (known, *how, None)))

    def release(self, lock: Any, *, exclusive: bool) -> None:
        """`lock` is about to be free: the calling task's own, or, as any task may release it, another's."""
        known = self.graph.locks.get(id(lock))
        if known is None:
            return
        task = running_task()
        mine = self.held.get(task)
        if mine is None or not self._drop(task, mine, known, exclusive):
            for other, holdings in list(self.held.items()):
                if self._drop(other, holdings, known, exclusive):
                    return

    def _drop(self, task: Any, mine: list[Held], known: LockNode, exclusive: bool) -> bool:
        for held in reversed(mine):
            if held.lock is known and held.exclusive == exclusive:
                if len(mine) == 1:
                    self.held.pop(task, None)
                    return True
                try:
                    mine.remove(held)
                except ValueError:
                    return False  # Another has been faster.
                if held.thread is not None and mine:
                    mine[0] = mine[0]._replace(thread=held.thread)
                return True
        return False

    def ended(self) -> None:
        """The calling task is about to end. What it holds others will release."""
        self.held.pop(running_task(), None)

    # The locks of `threading`

    def wanted(self, lock: Any, *, for_ever: bool) -> None:
        mine = self.held.get(running_task())
        if mine is not None:
            self.want(mine, lock, lock.kind, exclusive=True, for_ever=for_ever)

    def taken(self, lock: Any, frame: FrameType) -> None:
        self.take(running_task(), lock, lock.kind, frame, exclusive=True)

    def released(self, lock: Any) -> None:
        self.release(lock, exclusive=True)

    # What is found

    def _order(self, edge: Edge, gates: frozenset[LockNode], held: Held) -> None:
        frame = callers_frame()
        way = Way(gates, held.trace(sys._getframe(1)), trace_of(frame), _task_name())
        if len(edge.ways) < MOST_WAYS or not gates:
            edge.ways.append(way)
            edge.ungated = edge.ungated or not gates
        circle = self.graph.circle(edge, way)
        if circle is None:
            return
        places = frozenset((innermost(each.held_trace), innermost(each.trace)) for _, each in circle)
        locks = frozenset(each.held.serial for each, _ in circle)
        if not {places, locks} & self.known:
            self.known |= {places, locks}
            self._tell(inversion(circle))

    def _again(self, lock: Any, held: Held, *, exclusive: bool) -> None:
        trace = trace_of(callers_frame())
        place = ("again", innermost(trace))
        if place in self.known:
            return
        self.known.add(place)
        held_trace = held.trace(sys._getframe(1))
        if exclusive:
            self._tell(double_lock(_task_name(), held.lock, held_trace, trace))
        else:
            self._tell(recursive_read(_task_name(), held.lock, lock, held_trace, trace))

    def _tell(self, finding: Finding) -> None:
        self.found.append(finding)
        if self.printed and sys.stderr is not None:
            print(finding, file=sys.stderr, flush=True)  # noqa: T201  that is what it is for


def _task_name() -> str:
    task = running_task()
    if not isinstance(task, int):
        return f"asyncio task {name_and_coroutine(task)[0]}"
    for frame in outwards(sys._getframe(1)):
        if frame.f_code is _run.__code__:
            return f"task {local(frame, 'task').name}"
    return "main thread" if is_main_thread(task) else f"thread {getattr(thread_with(task), '_name', task)}"
