"""Which parked tasks nothing can ever wake again, proved by what refers to what.

After Go 1.26's goroutine leak profile: what runs, and what modules hold, are the roots; a parked task is no root. It
becomes one when something that could wake it has been reached. What has not been reached in the end, nobody will.

Python's references are not all known to its garbage collector: frames that execute, extension modules and the
interpreter itself hold some that it is not shown. So what has not been reached counts as unreachable only if all
references to it are accounted for, as in the garbage collector's own proof: those from other unreached objects, and
those from the frames of parked tasks. Whatever has a reference more is a root too.
"""

from __future__ import annotations

import gc
import sys
from contextvars import copy_context
from typing import TYPE_CHECKING, Any
from weakref import finalize

from penstock._kernel.inspection import Parked, parked_operations, registries, roots, still_parked
from penstock._kernel.loops import asynchronous_generators, is_loop_class, weak_registries
from penstock._kernel.scopes import Scope
from penstock._kernel.threads import this_thread, thread_registries, thread_with
from penstock.context import Callback
from penstock.deadlock.accounting import Account
from penstock.deadlock.frames import GIL, Held, Layout, Reader, layout_of_frames, references
from penstock.deadlock.marking import Marking
from penstock.deadlock.naming import sites
from penstock.deadlock.stacks import LIBRARY, innermost_frames, outwards
from penstock.deadlock.tasks import ParkedTask, parked_tasks
from penstock.deadlock.turns import TURN
from penstock.group import Task, _run
from penstock.patterns.done import _CALLS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_ACCOUNTS = 2 if GIL else 3
_OWN_FILES = (LIBRARY + "deadlock/", LIBRARY + "testing/")
_OWN_MODULES = ("penstock.deadlock", "penstock.testing")
_JOBS = (_run.__code__, Callback.__call__.__code__)


class Candidate:
    """A parked operation that no clock ends, and who is parked there."""

    def __init__(self, parked: Parked) -> None:
        self.parked = parked
        self.reached = False
        self.in_thread = parked.future is None
        self.thread: Any = thread_with(parked.thread) if self.in_thread else None
        self.begin()

    def begin(self) -> None:
        """Nothing is known yet."""
        self.references = Held()
        """What its frames refer to, where that is known."""
        self.readable = False
        self.job: Task[Any] | Callback | None = None
        """What its thread has been started for."""
        self.belongings: list[Any] = []
        """What else the thread has."""

    @property
    def scope(self) -> Scope | None:
        """The scope that it is parked under."""
        for source, _ in self.parked.places:
            if isinstance(source, Scope):
                return source
        return None


class Search:
    """One attempt to reach all candidates."""

    def __init__(self, candidates: list[Candidate]) -> None:
        self.candidates = candidates
        self._left = len(candidates)
        self._frames: dict[int, list[FrameType]] = {}
        self._layout: Layout | None = layout_of_frames()
        self._reader: Reader | None = Reader() if self._layout is not None else None
        things = gc.get_objects()
        self._objects: dict[int, Any] = dict(zip(map(id, things), things, strict=True))
        del things
        self._marking = Marking(self._objects, self._cut())

    def run(self) -> list[Candidate]:
        """Those that have not been reached."""
        try:
            self._watch()
            self._marking.mark(self._roots(), self._finished)
            # Other threads may move things from where nobody has looked yet to where nobody looks again. But what
            # nobody can get at stays as it is: the account is made several times.
            for _ in range(_ACCOUNTS):
                if not self._finished():
                    self._account()
        finally:
            if self._reader is not None:
                self._reader.close()
            self._forget()
        return [one for one in self.candidates if not one.reached]

    def _forget(self) -> None:
        """Keep nothing alive."""
        self._frames.clear()
        self._objects.clear()
        self._marking.on_reach.clear()

    def _finished(self) -> bool:
        return self._left == 0

    # What to begin with, and what to look out for

    def _cut(self) -> set[int]:
        cut = set(map(id, (*registries(), *thread_registries(), *weak_registries(), sites(), _CALLS.left)))
        for name, module in list(sys.modules.items()):
            if name.startswith(_OWN_MODULES):
                cut.update((id(module), id(vars(module))))
        cut.update(id(info.weakref) for info in list(finalize._registry.values()))  # type: ignore[attr-defined]
        loops = {cls for cls in set(map(type, self._objects.values())) if is_loop_class(cls)}
        if loops:
            cut.update(id(asynchronous_generators(one)) for one in self._objects.values() if type(one) in loops)
        return cut

    def _watch(self) -> None:
        self._look_at_frames()
        for one in self.candidates:
            on_reach = self._marking.on_reach
            on_reach[id(one.parked.waiter)] = lambda one=one: self._reach(one)  # type: ignore[misc]
            if one.parked.future is not None:
                on_reach[id(one.parked.future)] = lambda one=one: self._reach(one)  # type: ignore[misc]
            if one.thread is not None:
                self._marking.threads.add(id(one.thread))

    def _look_at_frames(self) -> None:
        self._frames = {ident: outwards(frame) for ident, frame in innermost_frames().items()}

    def _roots(self) -> Iterator[Any]:
        yield from list(sys.modules.values())
        yield from roots()
        yield copy_context()
        parked = {one.parked.thread for one in self.candidates if one.in_thread}
        me = this_thread()
        for ident, frames in self._frames.items():
            if ident not in parked and (GIL or ident == me):
                for frame in frames:
                    if not frame.f_code.co_filename.startswith(_OWN_FILES):
                        yield from self._referents(frame)

    def _referents(self, frame: FrameType) -> Iterable[Any]:
        """What a frame that executes refers to."""
        if self._layout is None or self._reader is None:
            return list(frame.f_locals.values())
        try:
            held = Held()
            references(self._reader, self._layout, frame, held, borrowed=True)
        except OSError:
            return ()
        return self._things(held.addresses)

    def _things(self, addresses: Iterable[int]) -> list[Any]:
        return [self._objects[address] for address in addresses if address in self._objects]

    # When a candidate has been reached

    def _reach(self, one: Candidate) -> Iterable[Any]:
        """It will run again: what its frames refer to is reached with it."""
        if one.reached:
            return ()
        one.reached = True
        self._left -= 1
        if not one.in_thread:
            return ()
        if one.readable:
            return [*self._things(one.references.addresses + one.references.managers), *one.belongings]
        things: list[Any] = []
        for frame in self._frames.get(one.parked.thread, ()):
            things += self._referents(frame)
        return things

    # What has been left

    def _account(self) -> None:
        self._look_at_frames()
        unreached = [one for one in self.candidates if not one.reached]
        for one in unreached:
            one.begin()
            if one.in_thread:
                self._read(one)
        for one in unreached:
            if not still_parked(one.parked):
                one.reached = True  # What has been read of its frames may be anything.
                self._left -= 1
        left = [one for one in unreached if not one.reached]
        account = Account(self._objects, self._marking, left, self._reader)
        self._marking.mark(account.outside(), self._finished)

    def _read(self, one: Candidate) -> None:
        """Read what the frames of a parked thread refer to."""
        if self._layout is None or self._reader is None:
            return
        held = one.references
        try:
            for frame in self._frames.get(one.parked.thread, ()):
                before = len(held.addresses)
                references(self._reader, self._layout, frame, held)
                if frame.f_code in _JOBS:
                    jobs = [thing for thing in self._things(held.addresses[before:]) if type(thing) in (Task, Callback)]
                    one.job = jobs[0] if jobs else None
        except OSError:
            held.addresses.clear()
            return
        one.readable = True


def unreachable(operations: Iterable[Parked]) -> list[Parked]:
    """Those of the parked operations that nothing can ever end."""
    candidates = [Candidate(parked) for parked in operations if parked.deadline is None]
    if not candidates:
        return []
    return [one.parked for one in Search(candidates).run() if still_parked(one.parked)]


def leaks() -> list[ParkedTask]:
    """The parked tasks that nothing can ever wake again, those parked longest first.

    No false alarms: a task is listed if it is proved that nobody can get at anything that would wake it. Garbage is
    collected for that, also where the collector is switched off. After `gc.freeze()` nothing can be proved.
    """
    mine = TURN.take()
    collecting = gc.isenabled()
    gc.disable()
    try:
        found = _without_garbage(parked_operations())
        return parked_tasks(found) if found else []
    finally:
        if collecting:
            gc.enable()
        if mine:
            TURN.give()


def _without_garbage(operations: list[Parked]) -> list[Parked]:
    """As `unreachable`. Nobody can get at garbage, but its finalizers run some day: so they run now."""
    if not operations or gc.get_freeze_count():
        return []  # What is frozen cannot be seen, nor what it refers to.
    gc.collect()
    found = unreachable(operations)
    if not found:
        return []
    garbage: list[Any] = []
    garbage.append(garbage)
    del garbage
    collected = gc.collect()
    if collected == 0:
        return []  # The collector is at work already, and the finalizers that it runs may do anything.
    return found if collected == 1 else unreachable(found)
