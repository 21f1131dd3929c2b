"""Who is parked, and what it waits for: the records that reports are made of."""

from __future__ import annotations

import gc
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock._kernel.gauges import GaugeCore
from penstock._kernel.inspection import ALARM, CHANNEL, COUNTDOWN, Parked, holder_of, parked_operations, timer_of
from penstock._kernel.locks import ConditionCore, MutexCore, RWMutexCore, SemaphoreCore, now
from penstock._kernel.loops import is_asyncio_task, name_and_coroutine, task_awaiting
from penstock._kernel.scopes import Scope
from penstock._kernel.threads import is_main_thread, thread_with
from penstock.deadlock.frames import GIL
from penstock.deadlock.holding import Blocks
from penstock.deadlock.naming import Names, made_at
from penstock.deadlock.stacks import Frame, awaited, innermost_frames, is_library, local, outwards, users_stack
from penstock.group import Group, Task, _run, _run_async
from penstock.sync import Condition, Once, Side, WaitGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from types import CodeType, FrameType

_LOCKS = (MutexCore, RWMutexCore, SemaphoreCore)
_SENDS, _WRITES = 1, 2  # Kinds of node, at a channel and at a read/write mutex.

_OWNERS: dict[type, tuple[str, ...]] = {
    Group: ("_running", "_places"),
    Once: ("_pending",),
    Task: ("_finished",),
    WaitGroup: ("_counter",),
}
"""What belongs to whom."""

_PHRASES = {
    "channel receive": "to receive from {}",
    "channel send": "to send to {}",
    "rwmutex read": "to read under {}",
    "rwmutex write": "to write under {}",
    "condition": "for a notification of {}",
    "group": "for the members of {}",
    "group place": "for a place in {}",
    "gauge": "for a place in {}",
    "task": "for the end of {}",
    "sleep": "for the clock",
    "context": "for the end of its context",
    "nothing": "for nothing: the select has no case that could be ready",
}
_OF_SEVERAL = ("group", "group place", "wait group")


@dataclass(frozen=True)
class Waiting:
    """One of the things that a parked task waits for."""

    kind: str
    """"channel receive", "channel send", "timer", "mutex", "rwmutex read", "rwmutex write", "condition", "wait group",
    "semaphore", "group", "group place", "task", "once", "gauge", "sleep", "context", or "nothing"."""
    name: str
    """What the channel, lock, ... is called; empty where there is none."""
    case: int | None = None
    """In a select: the index of the case."""
    holders: tuple[str, ...] = ()
    """The tasks that have to act: who holds the lock, whose result it is, the members of the group."""

    seconds: float | None = None
    """Of a timer or ticker: how long until it fires; None if it is stopped."""

    @property
    def holder(self) -> str | None:
        """The first of the holders, if there is one."""
        return self.holders[0] if self.holders else None

    def __str__(self) -> str:
        """What the task waits for, to be read after "waits"."""
        case = "" if self.case is None else f" (case {self.case})"
        who = " and ".join(self.holders)
        if who:
            who = f": {who}" if self.kind in _OF_SEVERAL else f", held by {who}" if self.kind != "task" else ""
        if self.kind == "timer":
            who = ", which is stopped" if self.seconds is None else f", which fires in {self.seconds:.1f} s"
        return f"{_PHRASES.get(self.kind, 'for {}').format(self.name)}{who}{case}"


@dataclass(frozen=True)
class ParkedTask:
    """A task that is parked."""

    name: str
    """What it is called, in this report."""
    operation: str
    """What it called, as in "Channel.recv"."""
    waits_for: tuple[Waiting, ...]
    """What could let it go on, apart from its context's end."""
    since: float
    """When it was parked, on the clock of `time.monotonic()`."""
    seconds: float
    """How long it had been parked when it was looked at."""
    deadline: float | None
    """When it times out."""
    stack: tuple[Frame, ...]
    """Where it is parked, the innermost frame last."""
    created: tuple[Frame, ...]
    """Where it was started, if that was recorded."""
    task: Task[Any] | None = field(repr=False, default=None)
    """The task; None for a foreign thread, the main thread, and an asyncio task that Penstock has not started."""


@dataclass(frozen=True)
class RunningTask:
    """A task that is not parked, or a thread that runs an event loop."""

    name: str
    stack: tuple[Frame, ...]
    task: Task[Any] | None = field(repr=False, default=None)


class Survey:
    """One look at what is parked: finds out who that is, and what everything is called."""

    def __init__(self, operations: Iterable[Parked] | None = None) -> None:
        self._now = now()
        self.operations = list(parked_operations() if operations is None else operations)
        self._frames = innermost_frames()
        self.names = Names()
        self._owners: dict[int, Any] = {}
        self._tasks: list[Task[Any]] = []
        self._threads: dict[int, Task[Any] | None] = {}
        self._asyncio_tasks: list[Any] = []
        self._timers: dict[int, float | None] = {}
        self._sides: list[tuple[Any, Any]] = []
        self._holders: dict[int, dict[str, None]] = {}
        self._look_round()
        self._look_for_holders()

    def _look_round(self) -> None:
        """Find the owners of the counts and semaphores that belong to others, and all tasks.

        What another thread is making may lack any of its attributes.
        """
        for thing in gc.get_objects():
            kind = type(thing)
            if kind in _OWNERS:
                for name in _OWNERS[kind]:
                    self._owners[id(getattr(thing, name, None))] = thing
            if kind is Task:
                self._tasks.append(thing)
            elif kind is Side:
                self._sides.append((thing, getattr(thing, "_rw", None)))
            elif kind is Condition:
                lock = getattr(thing, "lock", None)
                self._sides.append((thing, lock._rw if type(lock) is Side else lock))
            elif kind is ALARM:
                channel, due = timer_of(thing)
                self._timers[id(channel)] = due
            elif is_asyncio_task(thing):
                self._asyncio_tasks.append(thing)

    def _look_for_holders(self) -> None:
        """Who is in a block that holds one of the locks that somebody waits for."""
        locks = {
            id(source): source
            for parked in self.operations
            for source, _ in parked.places
            if isinstance(source, _LOCKS)
        }
        if not locks:
            return
        pairs = [(lock, lock) for lock in locks.values()]
        blocks = Blocks(pairs + [(side, lock) for side, lock in self._sides if id(lock) in locks])
        try:
            for ident, frame in self._frames.items():
                if GIL or any(parked.thread == ident for parked in self.operations if parked.future is None):
                    self._note_holder(blocks, outwards(frame), partial(self.name_of_thread, ident))
            for task in self._asyncio_tasks:
                frames = awaited(name_and_coroutine(task)[1])
                self._note_holder(blocks, frames, partial(self._name_in_loop, task, frames))
        finally:
            blocks.close()

    def _note_holder(self, blocks: Blocks, frames: list[FrameType], name: Callable[[], str]) -> None:
        for frame in frames:
            for lock in blocks.held_in(frame):
                self._holders.setdefault(id(lock), {})[name()] = None

    # Who

    def task_of_thread(self, ident: int) -> Task[Any] | None:
        """The task that a thread works at."""
        if ident not in self._threads:
            self._threads[ident] = _task_in(outwards(self._frames.get(ident)), _run.__code__)
        return self._threads[ident]

    def name_of_thread(self, ident: int) -> str:
        """What the task is called that a thread works at, or the thread."""
        task = self.task_of_thread(ident)
        if task is not None:
            return self.name_of_task(task)
        if is_main_thread(ident):
            return "main thread"
        thread = thread_with(ident)
        name = getattr(thread, "_name", None)
        return self.names.call(thread, f"thread {name if type(name) is str else ident}")

    def name_of_task(self, task: Task[Any]) -> str:
        """What a task is called."""
        return self.names.call(task, task.name if type(task.name) is str else "task")

    def _name_in_loop(self, asyncio_task: Any, frames: list[FrameType]) -> str:
        """What an asyncio task is called, whose frames these are."""
        task = _task_in(frames, _run_async.__code__)
        if task is not None:
            return self.name_of_task(task)
        return self.names.call(asyncio_task, f"asyncio task {name_and_coroutine(asyncio_task)[0]}")

    def parked_task(self, parked: Parked) -> ParkedTask:
        """The record of one parked operation."""
        task: Task[Any] | None = None
        if parked.future is None:
            task = self.task_of_thread(parked.thread)
            name = self.name_of_thread(parked.thread)
            frames = outwards(self._frames.get(parked.thread))
        else:
            asyncio_task = task_awaiting(parked.future)
            if asyncio_task is None:
                name, frames = "an asyncio task", []
            else:
                frames = awaited(name_and_coroutine(asyncio_task)[1])
                task = _task_in(frames, _run_async.__code__)
                name = self._name_in_loop(asyncio_task, frames)
        return ParkedTask(
            name=name,
            operation=parked.operation,
            waits_for=self.waits_for(parked),
            since=parked.since,
            seconds=max(0.0, self._now - parked.since),
            deadline=parked.deadline,
            stack=users_stack(frames),
            created=made_at(task) if task is not None else (),
            task=task,
        )

    def running_tasks(self) -> list[RunningTask]:
        """The threads that are at work, apart from the pool's idle ones."""
        parked = {parked.thread for parked in self.operations if parked.future is None}
        running = []
        for ident in self._frames:
            frames = outwards(self._frames[ident])
            if ident in parked or all(is_library(frame.f_code) for frame in frames):
                continue
            running.append(RunningTask(self.name_of_thread(ident), users_stack(frames), self.task_of_thread(ident)))
        return running

    # What for

    def waits_for(self, parked: Parked) -> tuple[Waiting, ...]:
        """What could let a parked operation go on."""
        found = []
        in_select = parked.operation in ("select", "aselect")
        for (source, kind), index in zip(parked.places, parked.cases, strict=False):
            if not isinstance(source, Scope):
                found.append(self._waiting(source, kind, index if in_select else None, parked))
        if found:
            return tuple(sorted(found, key=_case))
        if in_select:
            return (Waiting("nothing", ""),)
        return (Waiting("sleep" if parked.operation in ("sleep", "asleep") else "context", ""),)

    def _waiting(self, source: Any, kind: int, case: int | None, parked: Parked) -> Waiting:  # noqa: PLR0911
        if id(source) in self._timers and kind != _SENDS:
            due = self._timers[id(source)]
            seconds = None if due is None else max(0.0, due - self._now)
            return Waiting("timer", self.names.of(source, "timer"), case, seconds=seconds)
        if isinstance(source, CHANNEL):
            return Waiting("channel send" if kind == _SENDS else "channel receive", self.names.of(source), case)
        owner = self._owners.get(id(source))
        if isinstance(source, COUNTDOWN):
            return self._counted(owner)
        if type(owner) is Group:
            return Waiting("group place", self.names.of(owner), holders=self._members(owner))
        holders = self._who_holds(source, parked)
        name = self.names.of(source)
        if isinstance(source, MutexCore):
            return Waiting("mutex", name, holders=holders)
        if isinstance(source, RWMutexCore):
            return Waiting("rwmutex write" if kind == _WRITES else "rwmutex read", name, holders=holders)
        for core, noun in ((ConditionCore, "condition"), (SemaphoreCore, "semaphore"), (GaugeCore, "gauge")):
            if isinstance(source, core):
                return Waiting(noun, name, holders=tuple(self._holders.get(id(source), ())))
        return Waiting(parked.operation, name)

    def _who_holds(self, lock: Any, parked: Parked) -> tuple[str, ...]:
        """Who is in a block that holds `lock`; if nobody is, who works in the thread that locked it last."""
        held = self._holders.get(id(lock))
        if held:
            return tuple(held)
        ident = holder_of(lock)
        if ident is None or ident in self._loops():
            return ()
        if ident == parked.thread and self.task_of_thread(ident) is not None:
            return ()  # Maybe a task that has ended since, and not this one.
        return (self.name_of_thread(ident),)

    def _loops(self) -> set[int]:
        """The threads in which event loops run: which of a loop's tasks has locked something cannot be told."""
        return {parked.thread for parked in self.operations if parked.future is not None}

    def _counted(self, owner: Any) -> Waiting:
        if type(owner) is Task:
            name = self.name_of_task(owner)
            return Waiting("task", name, holders=(name,))
        if type(owner) is Group:
            return Waiting("group", self.names.of(owner), holders=self._members(owner))
        if type(owner) is WaitGroup:
            return Waiting("wait group", self.names.of(owner), holders=self._members(owner))
        if type(owner) is Once:
            return Waiting("once", self.names.of(owner))
        return Waiting("count", "")

    def _members(self, owner: Any) -> tuple[str, ...]:
        return tuple(self.name_of_task(task) for task in self._tasks if getattr(task, "_owner", None) is owner)


def _task_in(frames: list[FrameType], code: CodeType) -> Task[Any] | None:
    """The task that is worked at in these frames, where one runs `code`."""
    found = [frame for frame in frames if frame.f_code is code]
    return local(found[0], "task") if found else None


def _case(waiting: Waiting) -> int:
    return -1 if waiting.case is None else waiting.case


def parked_tasks(operations: Iterable[Parked] | None = None) -> list[ParkedTask]:
    """The records of these parked operations, or of all, those parked longest first."""
    survey = Survey(operations)
    return [survey.parked_task(parked) for parked in survey.operations]
