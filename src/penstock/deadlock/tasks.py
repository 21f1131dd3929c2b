"""Who is parked, and what it waits for: the records that reports are made of."""

from __future__ import annotations

import gc
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from penstock._kernel.gauges import GaugeCore
from penstock._kernel.inspection import CHANNEL, COUNTDOWN, Parked, holder_of, parked_operations
from penstock._kernel.locks import ConditionCore, MutexCore, RWMutexCore, SemaphoreCore, now
from penstock._kernel.loops import name_and_coroutine, task_awaiting
from penstock._kernel.scopes import Scope
from penstock._kernel.threads import is_main_thread, thread_with
from penstock.deadlock.naming import Names, made_at
from penstock.deadlock.stacks import Frame, awaited, is_library, local, outwards, users_stack
from penstock.group import Group, Task, _run, _run_async
from penstock.sync import Once, WaitGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

_SENDS, _WRITES = 1, 2  # Kinds of node, at a channel and at a read/write mutex.


@dataclass(frozen=True)
class Waiting:
    """One of the things that a parked task waits for."""

    kind: str
    """"channel receive", "channel send", "mutex", "rwmutex read", "rwmutex write", "condition", "wait group",
    "semaphore", "group", "group place", "task", "once", "gauge", "sleep", "context", or "nothing"."""
    name: str
    """What the channel, lock, ... is called; empty where there is none."""
    case: int | None = None
    """In a select: the index of the case."""
    holders: tuple[str, ...] = ()
    """The tasks that have to act: who holds the lock, whose result it is, the members of the group."""

    @property
    def holder(self) -> str | None:
        """The first of the holders, if there is one."""
        return self.holders[0] if self.holders else None

    def __str__(self) -> str:
        case = "" if self.case is None else f"select case {self.case}: "
        named = f" ({self.name})" if self.name else ""
        held = f", held by {' and '.join(self.holders)}" if self.holders else ""
        return f"{case}{self.kind}{named}{held}"


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
        self._frames = sys._current_frames()
        self.names = Names()
        self._owners: dict[int, Any] = {}
        self._tasks: list[Task[Any]] = []
        self._threads: dict[int, Task[Any] | None] = {}
        self._look_round()

    def _look_round(self) -> None:
        """Find the owners of the counts and semaphores that belong to others, and all tasks."""
        for thing in gc.get_objects():
            kind = type(thing)
            if kind is Task:
                self._tasks.append(thing)
                self._owners[id(thing._finished)] = thing
            elif kind is WaitGroup:
                self._owners[id(thing._counter)] = thing
            elif kind is Group:
                self._owners[id(thing._running)] = thing
                self._owners[id(thing._places)] = thing
            elif kind is Once:
                self._owners[id(thing._pending)] = thing

    # Who

    def task_of_thread(self, ident: int) -> Task[Any] | None:
        """The task that a thread works at."""
        if ident not in self._threads:
            frames = [f for f in outwards(self._frames.get(ident)) if f.f_code is _run.__code__]
            self._threads[ident] = local(frames[0], "task") if frames else None
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
                name, coroutine = name_and_coroutine(asyncio_task)
                frames = awaited(coroutine)
                started = [frame for frame in frames if frame.f_code is _run_async.__code__]
                task = local(started[0], "task") if started else None
                name = (
                    self.names.call(asyncio_task, f"asyncio task {name}") if task is None else self.name_of_task(task)
                )
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
                found.append(self._waiting(source, kind, index if in_select else None, parked.operation))
        if found:
            return tuple(sorted(found, key=_case))
        if in_select:
            return (Waiting("nothing", "a select without a case that could be ready"),)
        return (Waiting("sleep" if parked.operation in ("sleep", "asleep") else "context", ""),)

    def _waiting(self, source: Any, kind: int, case: int | None, operation: str) -> Waiting:  # noqa: PLR0911
        if isinstance(source, CHANNEL):
            return Waiting("channel send" if kind == _SENDS else "channel receive", self.names.of(source), case)
        owner = self._owners.get(id(source))
        if isinstance(source, COUNTDOWN):
            return self._counted(owner)
        if type(owner) is Group:
            return Waiting("group place", self.names.of(owner), holders=self._members(owner))
        holder = holder_of(source)
        holders = () if holder is None else (self.name_of_thread(holder),)
        name = self.names.of(source)
        if isinstance(source, MutexCore):
            return Waiting("mutex", name, holders=holders)
        if isinstance(source, RWMutexCore):
            return Waiting("rwmutex write" if kind == _WRITES else "rwmutex read", name, holders=holders)
        for core, noun in ((ConditionCore, "condition"), (SemaphoreCore, "semaphore"), (GaugeCore, "gauge")):
            if isinstance(source, core):
                return Waiting(noun, name)
        return Waiting(operation, name)

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
        return tuple(self.name_of_task(task) for task in self._tasks if task._owner is owner)


def _case(waiting: Waiting) -> int:
    return -1 if waiting.case is None else waiting.case


def parked_tasks(operations: Iterable[Parked] | None = None) -> list[ParkedTask]:
    """The records of these parked operations, or of all, those parked longest first."""
    survey = Survey(operations)
    return [survey.parked_task(parked) for parked in survey.operations]
