"""The explored world: tasks of which one at a time runs, a clock that moves when it is chosen, and a strategy that is
asked for every choice.

Each task of threads has a real thread, a carrier; those that do not run rest. An asyncio loop is a task whose steps are
those of its own tasks. Who runs is the only one who touches the world, so it needs no lock.

Invariants
  E1. Exactly one thread of the world is at work (`current`), or the world is over, or has not begun.
  E2. A task is in `_ready` exactly while it could run on: it is at work, or has been woken, or has timed out.
  E3. `now` never goes back: it moves a little with each step, and to the deadline of a timer that fires. Timers fire in
      the order of their deadlines.
  E4. What happens depends on the scenario and on what the strategy answers, and on nothing else.
"""

from __future__ import annotations

import sys
from bisect import insort
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import Abandoned, Seat, SimulatedWaiter, World, expire, simulated
from penstock.testing.schedules import CLOCK
from penstock.testing.strategies import PrunedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock.testing.carriers import Carrier, Crew
    from penstock.testing.strategies import Footprint, Strategy

START = 1000.0
STEP = 1e-6
"""Seconds that a step takes, so that time goes by for those who never sleep."""
USER: Footprint = frozenset({0})
"""The footprint of a step of the user's own code, which may touch what other steps of that kind touch."""
FOREVER = float("inf")
POLLS = 3
"""So many polls in vain, and a task waits until others have had a step."""
LONGEST_RUN = 200
"""So many steps in a row, and it does so too."""
FIRES_IN_A_ROW = 3
"""So many timers fire while a task could run, before one does."""
IDLE_FIRES = 10
"""So many timers, beside those armed, fire without waking anybody, before it is believed that they never will."""
LINE = "line"
"""What a task does that comes to a new line."""
LAST_GASPS = 10_000
"""So many steps may a task take while it is unwound."""


@dataclass(frozen=True)
class Verdict:
    """How a schedule ended."""

    kind: str
    """"ok", "deadlock", "leak", "exception"; or "cut", "redundant", "different", "foreign"."""
    error: BaseException | None = None
    task: Actor | None = None
    """Whose error it is."""


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
        """The last library call that it made."""
        self.doing_to: Any = None
        """On what."""
        self.footprint: Footprint = None
        """What its next step touches."""


class ThreadActor(Actor):
    """A task in a thread of its own."""

    def __init__(self, number: int, name: str, job: Callable[[], object]) -> None:
        super().__init__(number, name)
        self.thread = self
        self.job = job
        self.task: Any = None
        """The library's task that it is."""
        self.carrier: Carrier | None = None
        self.waiter: SimulatedWaiter | None = None
        self.alarm: _Due | None = None
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


@dataclass(order=True)
class _Due:
    """Something that happens at a time."""

    deadline: float
    order: int
    happen: Callable[[], object] = field(compare=False)


class ExploredWorld(World):
    """One run of a scenario under one schedule."""

    def __init__(self, crew: Crew, strategy: Strategy, max_steps: int) -> None:
        self._crew = crew
        self._strategy = strategy
        self._max_steps = max_steps
        self.tracer: Any = None
        """The trace function of all tasks, if any."""
        self.actors: list[Actor] = []
        self.current: Any = None
        self._ready: list[ThreadActor] = []
        self._settling: list[ThreadActor] = []
        self._due: list[_Due] = []
        self._timers: dict[Any, _Due] = {}
        self._orders = 0
        self._firing = False
        self.now = START
        self.steps = 0
        self._gasps = 0
        self._fires = 0
        self._idle_fires = 0
        self._tired: list[Actor] = []
        self.decisions = 0
        self.choices: dict[int, int] = {}
        self.trace: list[tuple[int, str]] = []
        self.events: Any = None
        """If a list: what happened, for a timeline."""
        self.over = False
        self.verdict: Verdict | None = None
        self.finished = Seat()
        self.newborn: Any = None
        """The task that is about to be started."""
        self.failed: list[Any] = []
        """Tasks of the library that failed."""
        self.refused = ""
        """A call that belongs to the real world."""
        self.exempt = False
        """The library itself is making such a call."""
        self.story = ""
        self._main_done = False

    # From outside

    def run(self, scenario: Callable[[], object]) -> None:
        """Let the scenario begin. `finished` is roused when the world is over."""
        main = self._born("main", scenario)
        self.current = main
        self._board(main)

    def unwind(self, patience: float) -> None:
        """Once it is over: let the tasks that have not ended end, so that their threads come back."""
        for actor in self.threads():
            carrier = actor.carrier
            if actor.ended or carrier is None:
                continue
            actor.gone = Seat()
            carrier.seat.rouse()
            if not actor.gone.rest(patience):
                self._crew.lose(carrier)

    def threads(self) -> list[ThreadActor]:
        """The tasks in threads."""
        return [actor for actor in self.actors if isinstance(actor, ThreadActor)]

    def waiting(self) -> list[Actor]:
        """The tasks that are parked. A loop is not, but its tasks are."""
        found: list[Actor] = []
        for actor in self.threads():
            if actor.loop is not None and actor.between:
                found += [actor.loop.actors[task] for task in actor.loop.waiting_tasks()]
            elif not actor.ended and actor not in self._ready:
                found.append(actor)
        return found

    # What the seam asks

    def monotonic(self) -> float:
        return self.now

    def choose(self, n: int) -> int:
        if self.over or n < 2:  # noqa: PLR2004
            return 0
        choice = self._strategy.choose(n)
        self._record(choice, 0)
        return choice

    def start(self, function: Callable[[], object]) -> None:
        if self.over:
            raise Abandoned
        task, self.newborn = self.newborn, None
        actor = self._born("callback" if task is None else task.name, function)
        actor.task = task
        self._ready.append(actor)
        if not self._firing:
            self.current.footprint = None
            self.point("go", None, USER)

    def park(self, waiter: SimulatedWaiter, deadline: float) -> None:
        if self.over:
            self._gasp()
            raise Abandoned
        if waiter.seat is not None:
            return  # Woken before.
        me = self._thread()
        waiter.seat = me
        me.waiter = waiter
        if deadline < FOREVER:
            me.alarm = self._set(deadline, partial(self._resume, me))
        self._stepped(me)
        self._ready.remove(me)
        self._hand_over(me)
        if me.pending is not None:
            error, me.pending = me.pending, None
            raise error

    def wake(self, waiter: SimulatedWaiter) -> None:
        actor = waiter.seat
        waiter.seat = self
        if isinstance(actor, ThreadActor) and actor.waiter is waiter:
            self._resume(actor)

    def redeliver(self, error: BaseException) -> None:
        if not isinstance(error, Abandoned):
            self._thread().pending = error

    def arm(self, timer: Any, deadline: float) -> None:
        self.disarm(timer)
        self._timers[timer] = self._set(deadline, partial(self._expire, timer))

    def disarm(self, timer: Any) -> bool:
        due = self._timers.pop(timer, None)
        if due is None:
            return False
        self._due.remove(due)
        return True

    def _expire(self, timer: Any) -> None:
        del self._timers[timer]
        expire(timer)

    def give_way(self) -> None:
        self.polled(in_vain=True)
        self.point("sleep", None, USER)

    # Steps

    def point(self, doing: str, on: Any, footprint: Footprint) -> None:
        """The task at work could be preempted here, before or after it is `doing` something."""
        if self.over:
            self._gasp()
            return
        thread = self._thread()
        me = thread.inside
        if doing:
            me.doing, me.doing_to = doing, on
            if self.events is not None:
                self.events.append((me, doing, on, place_of(user_frame())))
        self.trace.append((me.number, doing))
        self._stepped(me)
        me.footprint = footprint
        self._switch(thread, self._choose(thread))

    def point_at_line(self, frame: FrameType) -> None:
        """The task at work could be preempted before this line."""
        thread = self._thread()
        me = thread.inside
        if self.events is not None:
            self.events.append((me, LINE, None, place_of(frame)))
        self.trace.append((me.number, str(frame.f_lineno)))
        self._stepped(me)
        me.footprint = USER
        self._switch(thread, self._choose(thread))

    def polled(self, *, in_vain: bool) -> None:
        """The task at work has looked whether something is ready."""
        me = self._thread().inside
        me.polls = me.polls + 1 if in_vain else 0
        if me.polls >= POLLS:
            me.polls = 0
            self._tire(me)

    def settle(self) -> None:
        """Park the calling task until all others are parked."""
        if self.over:
            raise Abandoned
        me = self._thread()
        self._ready.remove(me)
        self._settling.append(me)
        self._hand_over(me)

    def _thread(self) -> ThreadActor:
        return self.current.thread  # type: ignore[no-any-return]

    def _tire(self, me: Actor) -> None:
        me.tired = True
        self._tired.append(me)
        self._strategy.demote(me.number)

    def _refresh(self, me: Actor | None) -> None:
        """Somebody else than those that are tired has had a step."""
        for actor in self._tired:
            actor.tired = actor is me
        self._tired = [actor for actor in self._tired if actor.tired]

    def _stepped(self, me: Actor) -> None:
        self.steps += 1
        self.now += STEP
        self._strategy.stepped(me.number, me.footprint)
        me.footprint = None
        self._fires = 0
        if self._tired:
            self._refresh(me)
        me.run_length += 1
        if me.run_length >= LONGEST_RUN:
            me.run_length = 0
            self._tire(me)
        if self.steps >= self._max_steps:
            self._finish(Verdict("cut"), me.thread)
        if self.refused:
            self._finish(Verdict("foreign"), me.thread)

    def _gasp(self) -> None:
        self._gasps += 1
        if self._gasps > LAST_GASPS:
            Seat().rest()  # The task does not notice that it is over: its thread is lost.

    def _options(self) -> list[Actor]:
        """Who could go next, the default first."""
        found: list[Actor] = []
        for thread in self._ready:
            if thread.between:
                found += self.loop_actors(thread)
            else:
                found.append(thread.inside)
        current = self.current
        if current in found and not current.thread.between:
            found.remove(current)
            found.insert(0, current)
        rested = [actor for actor in found if not actor.tired]
        if len(rested) < len(found) and (rested or self._due):
            return rested
        return found

    def _choose(self, me: ThreadActor) -> Actor | None:
        """Who goes next; None if nobody ever will. Asked by `me`."""
        try:
            return self._decide()
        except PrunedError as pruned:
            self._finish(Verdict(pruned.kind), me)
        return None

    def _decide(self) -> Actor | None:
        while True:
            options = self._options()
            if not options and self._settling:
                actor = self._settling.pop(0)
                self._ready.append(actor)
                return actor.inside
            numbers = [actor.number for actor in options]
            if self._due and (not options or self._fires < FIRES_IN_A_ROW):
                numbers.append(CLOCK)
            if not numbers or (not options and self._idle_fires > IDLE_FIRES + 2 * len(self._due)):
                return None
            choice = numbers[0]
            if len(numbers) > 1:
                choice = self._strategy.pick(numbers, bool(options) and options[0] is self.current)
                self._record(choice, numbers[0])
            if choice != CLOCK:
                chosen = options[numbers.index(choice)]
                if chosen is not self.current:
                    self.current.run_length = 0
                return chosen
            self._fires += 1
            self._idle_fires = 0 if options else self._idle_fires + 1
            self._refresh(None)
            self._fire()

    def _record(self, choice: int, default: int) -> None:
        if choice != default:
            self.choices[self.decisions] = choice
        self.decisions += 1

    def _hand_over(self, me: ThreadActor) -> None:
        """The calling thread's task cannot go on: return when it can again."""
        chosen = self._choose(me)
        if chosen is None:
            self._finish(self._end_of_all(), me)
        else:
            self._switch(me, chosen)

    def _switch(self, me: ThreadActor, chosen: Actor | None) -> None:
        """Let `chosen` go on, and return when the calling thread's turn has come."""
        assert chosen is not None  # noqa: S101  whoever asks can go on
        self.current = chosen
        if chosen.thread is not me:
            self._turn_to(chosen.thread)
            self._await_turn(me)

    def _turn_to(self, thread: ThreadActor) -> None:
        if thread.carrier is None:
            self._board(thread)
        else:
            thread.carrier.seat.rouse()

    def _await_turn(self, me: ThreadActor) -> None:
        me.carrier.seat.rest()  # type: ignore[union-attr]  # it is at work
        if self.over:
            raise Abandoned

    # Beginning and end

    def _born(self, name: str, job: Callable[[], object]) -> ThreadActor:
        actor = ThreadActor(len(self.actors), self._unique(name), job)
        self.actors.append(actor)
        if not self._ready and self.current is None:
            self._ready.append(actor)
        return actor

    def _unique(self, name: str) -> str:
        name = name.rpartition("<locals>.")[2]
        same = sum(actor.name.partition(" #")[0] == name for actor in self.actors)
        return f"{name} #{same + 1}" if same else name

    def _board(self, actor: ThreadActor) -> None:
        """Let a thread begin with the actor's job."""
        self.exempt = True
        actor.carrier = self._crew.carrier()
        self.exempt = False
        actor.carrier.go(self._live, actor)

    def _live(self, actor: ThreadActor) -> None:
        """All that happens in the actor's thread."""
        simulated.worlds[actor.carrier.ident] = self  # type: ignore[union-attr]
        try:
            if self.tracer is not None:
                sys.settrace(self.tracer)
            error: BaseException | None = None
            try:
                actor.job()
            except BaseException as raised:  # noqa: BLE001  the scenario's, or the unwinding
                error = raised
            finally:
                sys.settrace(None)
                actor.job = _nothing
                actor.ended = True
            if not self.over:
                if error is not None:
                    self._finish(Verdict("exception", error, actor), None)
                else:
                    self._leave(actor)
        finally:
            del simulated.worlds[actor.carrier.ident]  # type: ignore[union-attr]
            if actor.gone is not None:
                actor.gone.rouse()

    def _leave(self, actor: ThreadActor) -> None:
        """The task has ended; another has its turn."""
        if actor.number == 0:
            self._main_done = True
        self.steps += 1
        self._strategy.stepped(actor.number, None)
        self._ready.remove(actor)
        try:
            chosen = self._decide()
        except PrunedError as pruned:
            self._finish(Verdict(pruned.kind), None)
            return
        if chosen is None:
            self._finish(self._end_of_all(), None)
            return
        self.current = chosen
        self._turn_to(chosen.thread)

    def main_returned(self) -> None:
        """The scenario has ended, although its thread goes on for its loop's sake."""
        self._main_done = True

    def _end_of_all(self) -> Verdict:
        """Nobody can go on: what does that mean?"""
        for task in self.failed:
            if not task._collected:
                actor = next((actor for actor in self.threads() if actor.task is task), None)
                return Verdict("exception", task._error, actor)
        if not self._main_done:
            return Verdict("deadlock")
        return Verdict("leak" if self.waiting() else "ok")

    def _finish(self, verdict: Verdict, me: ThreadActor | None) -> None:
        """The world is over: nobody is given a turn any more. `me`, who asks, goes on when it is unwound."""
        self.over = True
        self.verdict = Verdict("foreign", RuntimeError(self.refused)) if self.refused else verdict
        self.finished.rouse()
        if me is not None:
            self._await_turn(me)

    # Time

    def _set(self, deadline: float, happen: Callable[[], object]) -> _Due:
        self._orders += 1
        due = _Due(deadline, self._orders, happen)
        insort(self._due, due)
        return due

    def call_at(self, deadline: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Let `callback` be called at that time. Returns what prevents it."""
        due = self._set(deadline, callback)

        def forget() -> None:
            if due in self._due:
                self._due.remove(due)

        return forget

    def _fire(self) -> None:
        """The timer that is due next."""
        due = self._due.pop(0)
        self.now = max(self.now, due.deadline)
        if self.events is not None:
            self.events.append((None, f"moves to {self.now - START:.6g} s", None, None))
        self.trace.append((CLOCK, ""))
        self._firing = True
        try:
            due.happen()
        finally:
            self._firing = False

    def _resume(self, actor: ThreadActor) -> None:
        """The task can go on."""
        alarm, actor.alarm = actor.alarm, None
        if alarm is not None and alarm in self._due:
            self._due.remove(alarm)
        actor.waiter = None
        self._idle_fires = 0
        self._ready.append(actor)

    # Event loops

    def loop_actors(self, thread: ThreadActor) -> list[Actor]:
        """Which tasks of a loop that is between two steps could have the next."""
        return [thread if task is None else thread.loop.actors[task] for task in thread.loop.next_tasks()]

    def asyncio_task(self, task: Any) -> LoopActor:
        """The actor that an asyncio task will be, which is made by the calling thread."""
        actor = LoopActor(len(self.actors), self._unique(task.get_name()), self._thread(), task)
        self.actors.append(actor)
        return actor

    def loop_begins(self, loop: Any) -> None:
        """The calling thread runs `loop`."""
        self._thread().loop = loop

    def loop_ends(self) -> None:
        """It does so no more."""
        thread = self._thread()
        thread.loop = None
        thread.between = False
        thread.inside = self.current = thread

    def loop_step(self) -> Any:
        """Between two steps of the calling thread's loop: return the asyncio task that has the next, or None."""
        thread = self._thread()
        if self.over:
            raise Abandoned
        self._stepped(thread.inside)
        thread.between = True
        thread.inside = self.current = thread
        if thread.loop.is_ready():
            self._switch(thread, self._choose(thread))
        else:
            self._ready.remove(thread)
            self._hand_over(thread)
        thread.between = False
        thread.inside = self.current
        return self.current.task if isinstance(self.current, LoopActor) else None

    def loop_ready(self, loop: Any) -> None:
        """`loop` has something to do."""
        for thread in self.threads():
            if thread.loop is loop and not thread.ended and thread.between and thread not in self._ready:
                self._idle_fires = 0
                self._ready.append(thread)


def _nothing() -> None:
    """What an ended task still has to do."""


def place_of(frame: FrameType | None) -> tuple[str, int]:
    """A line of a file."""
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def user_frame() -> FrameType | None:
    """Where the user's code called."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_globals.get("__name__", "").startswith(("penstock.", "asyncio.")):
        frame = frame.f_back
    return frame
