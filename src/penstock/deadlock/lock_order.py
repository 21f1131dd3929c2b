"""Lock order: mistakes that lead to deadlocks some day are found on any day on which they do no harm.

While this is on, each task's held locks are known, and a graph remembers which lock was asked for while which other
was held. What is found is printed to standard error, once, and kept: see `findings`.

- An inversion: tasks take the same locks in different orders, so that each may come to hold what the next one waits
  for. It need not have happened, nor the tasks have run at the same time.
- A double lock: a task waits without a limit for a lock that it holds itself. It may be meant so where another task
  releases that lock.
- A recursive read lock: a task asks for a read/write mutex that it holds for reading. A writer that comes in between
  is waited for by the second request, and waits for the first.
"""

from __future__ import annotations

import functools
import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, NamedTuple

from penstock._kernel import foreign_locks
from penstock._kernel.loops import name_and_coroutine, running_task
from penstock._kernel.threads import is_main_thread, thread_with
from penstock.deadlock import traces
from penstock.deadlock.lock_graph import MOST_WAYS, Graph, Held, LockNode, Way
from penstock.deadlock.naming import made_at
from penstock.deadlock.stacks import Frame, local, outwards
from penstock.deadlock.wrapping import Wrapping
from penstock.group import _run
from penstock.sync import Mutex, RWMutex, Side

if TYPE_CHECKING:
    from collections.abc import Callable

    from penstock.deadlock.lock_graph import Edge
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


_READ = 1

_METHODS: dict[type, tuple[str, ...]] = {
    Mutex: (
        "acquire",
        "aacquire",
        "try_acquire",
        "release",
        "__enter__",
        "__exit__",
        "__aenter__",
        "_reacquire",
        "_areacquire",
    ),
    RWMutex: (
        "acquire_read",
        "aacquire_read",
        "try_acquire_read",
        "release_read",
        "acquire_write",
        "aacquire_write",
        "try_acquire_write",
        "release_write",
    ),
    Side: ("acquire", "aacquire", "try_acquire", "release", "_reacquire", "_areacquire"),
}
"""Conditions take and release their locks by these."""


class _Order(foreign_locks.Hooks):
    """What each task holds, and what has been found."""

    def __init__(self) -> None:
        self.held: dict[Any, list[Held]] = {}
        """By task (see `running_task`); those that hold nothing are not in it."""
        self.graph = Graph()
        self.found: list[Finding] = []
        self.printed = True
        self._known: set[object] = set()

    # What the wrapped methods tell

    def want(self, lock: Any, kind: str, *, exclusive: bool, for_ever: bool) -> None:
        """The calling task is about to wait for `lock`."""
        held = self.held.get(running_task())
        if not held:
            return
        known = self.graph.lock(lock, kind)
        again = [each for each in held if each.lock is known]
        if again:
            if for_ever:
                self._again(lock, again[-1], exclusive=exclusive or again[-1].exclusive)
            return
        for each in tuple(held):
            gates = (
                frozenset(other.lock for other in held if other.exclusive and other is not each)
                if len(held) > 1
                else _NO_GATES
            )
            edge = each.lock.after.get(known)
            if edge is None or not edge.knows(gates):
                self._order(self.graph.edge(each.lock, known), gates, each)

    def take(self, lock: Any, kind: str, *, exclusive: bool) -> None:
        """The calling task has `lock`."""
        held = Held(self.graph.lock(lock, kind), traces.take_down(2), exclusive=exclusive)
        task = running_task()
        mine = self.held.get(task)
        if mine is None:
            self.held[task] = [held]
        else:
            mine.append(held)

    def release(self, lock: Any, *, exclusive: bool) -> None:
        """`lock` is about to be free: the calling task's own, or, as any task may release it, another's."""
        known = self.graph.locks.get(id(lock))
        if known is None:
            return
        task = running_task()
        if not self._drop(task, known, exclusive=exclusive):
            for other in list(self.held):
                if self._drop(other, known, exclusive=exclusive):
                    return

    def _drop(self, task: Any, known: LockNode, *, exclusive: bool) -> bool:
        held = self.held.get(task)
        if held is None:
            return False
        for at in range(len(held) - 1, -1, -1):
            if held[at].lock is known and held[at].exclusive == exclusive:
                del held[at]
                if not held:
                    self.held.pop(task, None)
                return True
        return False

    # The locks of `threading`

    def wanted(self, lock: Any, *, for_ever: bool) -> None:
        self.want(lock, "threading.Lock", exclusive=True, for_ever=for_ever)

    def taken(self, lock: Any) -> None:
        self.take(lock, "threading.Lock", exclusive=True)

    def released(self, lock: Any) -> None:
        self.release(lock, exclusive=True)

    # What is found

    def _order(self, edge: Edge, gates: frozenset[LockNode], held: Held) -> None:
        way = Way(gates, held.trace, traces.take_down(3), _task_name())
        if len(edge.ways) < MOST_WAYS:
            edge.ways.append(way)
        circle = self.graph.circle(edge, way)
        if circle is None:
            return
        places = frozenset((traces.innermost(each.held_trace), traces.innermost(each.trace)) for _, each in circle)
        locks = frozenset(each.held.serial for each, _ in circle)
        if {places, locks} & self._known:
            return
        self._known |= {places, locks}
        steps = tuple(_step(each.task, at.held, at.to, each.held_trace, each.trace) for at, each in circle)
        text = f"{len(steps)} locks are taken in different orders, which may end in a deadlock"
        self._tell(Finding("inversion", text, steps))

    def _again(self, lock: Any, held: Held, *, exclusive: bool) -> None:
        trace = traces.take_down(3)
        place = ("again", traces.innermost(trace))
        if place in self._known:
            return
        self._known.add(place)
        step = _step(_task_name(), held.lock, held.lock, held.trace, trace)
        if exclusive:
            text = f"{step.task} waits for {step.wanted}, and holds it itself"
            self._tell(Finding("double lock", text, (step,)))
            return
        text = f"{step.task} asks for {step.wanted} for reading, and holds it for reading already; "
        if lock.waiting():
            text += "a writer waits in between: a deadlock"
        else:
            text += "with a writer in between this is a deadlock"
        self._tell(Finding("recursive read lock", text, (step,)))

    def _tell(self, finding: Finding) -> None:
        self.found.append(finding)
        if self.printed and sys.stderr is not None:
            print(finding, file=sys.stderr, flush=True)  # noqa: T201  that is what it is for


_NO_GATES: frozenset[LockNode] = frozenset()


def _step(task: str, held: LockNode, wanted: LockNode, held_trace: Trace, trace: Trace) -> Step:
    return Step(task, _name(held), _name(wanted), traces.stack_of(held_trace), traces.stack_of(trace))


def _name(known: LockNode) -> str:
    """What a lock is called: by where it was made, if that has been recorded, and by its number among all."""
    lock = known.reference()
    site = traces.stack_of((lock.made,)) if isinstance(lock, foreign_locks.WatchedLock) else made_at(lock)
    made = f" made at {PurePath(site[-1].file).name}:{site[-1].line}" if site else ""
    return f"{known.kind} #{known.serial}{made}"


def _task_name() -> str:
    task = running_task()
    if not isinstance(task, int):
        return f"asyncio task {name_and_coroutine(task)[0]}"
    for frame in outwards(sys._getframe(1)):
        if frame.f_code is _run.__code__:
            return f"task {local(frame, 'task').name}"
    return "main thread" if is_main_thread(task) else f"thread {getattr(thread_with(task), '_name', task)}"


_ORDER = _Order()


def _identity(target: Any) -> tuple[Any, str]:
    """The lock, and its kind; a side stands for its read/write mutex."""
    if isinstance(target, Side):
        return target._rw, "rwmutex"
    return target, "mutex" if type(target) is Mutex else "rwmutex"


def _is_try(timeout: Any) -> bool:
    return isinstance(timeout, int | float) and timeout <= 0


def _wrap(original: Callable[..., Any], _cls: type, name: str) -> Callable[..., Any]:
    """The method that tells, beside doing what it does."""
    if "release" in name or name == "__exit__":
        wrapped = _wrap_release(original, name)
    elif name.startswith("try_"):
        wrapped = _wrap_try(original, name)
    elif name in ("aacquire", "aacquire_read", "aacquire_write", "__aenter__", "_areacquire"):
        wrapped = _wrap_async(original, name)
    else:
        wrapped = _wrap_acquire(original, name)
    return functools.update_wrapper(wrapped, original, ("__name__", "__qualname__", "__doc__"), ())


def _exclusive(target: Any, name: str) -> bool:
    if isinstance(target, Side):
        return target._kind != _READ
    return not name.endswith("_read")


def _wrap_acquire(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def acquire(target: Any, *args: Any, **options: Any) -> Any:
        lock, kind = _identity(target)
        exclusive = _exclusive(target, name)
        timeout = args[0] if args else options.get("timeout")
        if not _is_try(timeout):
            _ORDER.want(lock, kind, exclusive=exclusive, for_ever=timeout is None)
        result = original(target, *args, **options)
        _ORDER.take(lock, kind, exclusive=exclusive)
        return result

    return acquire


def _wrap_async(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    async def acquire(target: Any, *args: Any, **options: Any) -> Any:
        lock, kind = _identity(target)
        exclusive = _exclusive(target, name)
        timeout = args[0] if args else options.get("timeout")
        if not _is_try(timeout):
            _ORDER.want(lock, kind, exclusive=exclusive, for_ever=timeout is None)
        result = await original(target, *args, **options)
        _ORDER.take(lock, kind, exclusive=exclusive)
        return result

    return acquire


def _wrap_try(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def try_acquire(target: Any) -> Any:
        taken = original(target)
        if taken:
            lock, kind = _identity(target)
            _ORDER.take(lock, kind, exclusive=_exclusive(target, name))
        return taken

    return try_acquire


def _wrap_release(original: Callable[..., Any], name: str) -> Callable[..., Any]:
    def release(target: Any, *args: Any) -> Any:
        _ORDER.release(_identity(target)[0], exclusive=_exclusive(target, name))
        return original(target, *args)

    return release


_WRAPPING = Wrapping(_METHODS, _wrap)


class _State:
    """Is it on?"""

    on = False


def start(*, printed: bool = True, threading: bool = False) -> None:
    """Look at the order of locks from now on. Idempotent.

    `printed`: what is found is printed to standard error as well. `threading`: the locks of the module `threading` are
    looked at too, those that are made from now on outside the standard library.
    """
    _ORDER.printed = printed
    if threading:
        foreign_locks.replace(_ORDER)
    if not _State.on:
        _State.on = True
        _WRAPPING.install()


def stop() -> None:
    """Look no more, and forget which locks are held. What has been found stays. Idempotent."""
    foreign_locks.restore()
    if _State.on:
        _State.on = False
        _WRAPPING.remove()
        _ORDER.held.clear()
        _ORDER.graph = Graph()


def findings() -> list[Finding]:
    """What has been found so far."""
    return list(_ORDER.found)


def clear() -> None:
    """Forget what has been found, so that it is told again."""
    _ORDER.found.clear()
    _ORDER._known.clear()
