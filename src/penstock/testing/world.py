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
from typing import TYPE_CHECKING, Any, NoReturn

from penstock._kernel.simulation import (
    Abandoned,
    Seat,
    SimulatedWaiter,
    World,
    expire,
    operation_of,
    simulated,
)
from penstock.testing.actors import LINE, USER, Actor, Event, LoopActor, ThreadActor, Verdict
from penstock.testing.naming import Names
from penstock.testing.places import at, is_users, own_frame, place_of, user_frame
from penstock.testing.schedules import CLOCK
from penstock.testing.strategies import PrunedError

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

    from penstock.testing.carriers import Crew
    from penstock.testing.strategies import Footprint, Strategy

START = 1000.0
STEP = 1e-6
"""Seconds that a step takes, so that time goes by for those who never sleep."""
FOREVER = float("inf")
POLLS = 3
"""So many polls in vain, and a task waits until others have had a step."""
LONGEST_RUN = 200
"""So many steps in a row, and it does so too."""
FIRES_IN_A_ROW = 3
"""So many timers fire while a task could run, before one does."""
IDLE_MOVES = 300
"""After the scenario has returned: so many times only the clock lets anybody go on, and the schedule is cut."""
LAST_GASPS = 10_000
"""So many steps may a task take while it is unwound."""


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
        self._vain: set[int] = set()
        """Those due that have fired since the last step, wake nobody, and will not: tickers that nobody reads."""
        self._firing = False
        self._woke = False
        self.now = START
        self.steps = 0
        self._gasps = 0
        self._fires = 0
        self._idle_moves = 0
        self._tired: list[Actor] = []
        self.decisions = 0
        self.choices: dict[int, int] = {}
        self.trace: list[tuple[int, str]] = []
        self.events: list[Event] | None = None
        """If a list: what happened, for a timeline."""
        self.names = Names()
        self.loops: list[Any] = []
        """The event loops that have run."""
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
        self._pruned: PrunedError | None = None

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

    def refuse(self, call: str, instead: str = "") -> NoReturn:
        """The scenario makes a call that acts in the real world: the exploration ends with RuntimeError."""
        place = at(place_of(own_frame()))
        where = f", at {place}," if place else ""
        hint = f"use {instead}" if instead else "put in its place something that uses the library alone"
        message = f"{call}{where} acts in the real world, which explore does not control; {hint}"
        self.refused = self.refused or message
        raise RuntimeError(message)

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
        try:
            choice = self._strategy.choose(n)
        except PrunedError as pruned:  # The kernel, which asks, cannot be left by an exception here.
            self._pruned = pruned
            return 0
        self._record(choice, 0)
        return choice

    def start(self, function: Callable[[], object]) -> None:
        task, self.newborn = self.newborn, None
        self.start_named("callback" if task is None else task.name, function, task)

    def start_named(self, name: str, function: Callable[[], object], task: Any = None) -> None:
        """As `start`. `task` is the library's, if there is one."""
        if self.over:
            raise Abandoned
        actor = self._born(name, function)
        actor.task = task
        self._ready.append(actor)
        self._woke = True
        self._idle_moves = 0
        if not self._firing:
            me = self._thread().inside
            me.footprint = None
            doing, on = me.doing, me.doing_to
            self.point("start", actor, USER)
            me.doing, me.doing_to = doing, on

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
        if self.events is not None:
            self._note_wait(me, operation_of(waiter))
        footprint = me.footprint
        self._stepped(me)
        me.footprint = footprint  # Once it goes on, it comes to the end of the same operation.
        self._ready.remove(me)
        self._hand_over(me)
        if me.pending is not None:
            error, me.pending = me.pending, None
            raise error

    def _note_wait(self, me: Actor, operation: str) -> None:
        """For the timeline: `me` has to wait, in the call that it made or in another."""
        if not me.doing:
            frames = me.thread.loop.frames(me.task) if isinstance(me, LoopActor) else ()
            self.note(me, operation, (), next(filter(is_users, frames), None))
        if me.event is not None:
            me.event.waits = True

    def wake(self, waiter: SimulatedWaiter) -> None:
        if not self.over and simulated.world() is not self:
            self.refused = self.refused or (
                "a thread that the scenario did not start takes part in it; explore controls only the tasks that the"
                " scenario starts, with penstock.go or a Group"
            )
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
        if due in self._due:
            self._due.remove(due)
        return True

    def _expire(self, timer: Any) -> None:
        del self._timers[timer]
        expire(timer)
        due = self._timers.get(timer)
        if due is not None and not self._woke:
            self._vain.add(due.order)

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
        me.doing, me.doing_to = doing, on
        if doing and self.events is not None:
            self.note(me, doing, on)
        self.trace.append((me.number, doing))
        self._stepped(me)
        me.footprint = footprint
        self._switch(thread, self._choose(thread))

    def point_at_line(self, frame: FrameType) -> None:
        """The task at work could be preempted before this line."""
        thread = self._thread()
        me = thread.inside
        if self.events is not None:
            self.events.append(Event(me, LINE, (), place_of(frame)))
        self.trace.append((me.number, str(frame.f_lineno)))
        self._stepped(me)
        me.footprint = USER
        self._switch(thread, self._choose(thread))

    def note(self, me: Actor, doing: str, on: Any, frame: FrameType | None = None) -> None:
        """For the timeline: where the user's code is, or the `frame`."""
        me.event = Event(me, doing, self.named(on), place_of(frame or user_frame()))
        assert self.events is not None  # noqa: S101  whoever asks has looked
        self.events.append(me.event)

    def named(self, on: Any) -> str | tuple[str, ...]:
        """What an operation is on, in words: of a select the cases."""
        if on is None:
            return ()
        if isinstance(on, tuple):
            return tuple(self._case(case) for case in on)
        return on.name if isinstance(on, Actor) else self.names.name(on)

    def _case(self, case: Any) -> str:
        if case is None:
            return "None"
        verb = "send to" if type(case).__name__ == "SendCase" else "receive from"
        return f"{verb} {self.names.name(case)}"

    def polled(self, *, in_vain: bool) -> None:
        """The task at work has looked whether something is ready."""
        me = self._thread().inside
        me.polls = me.polls + 1 if in_vain else 0
        if me.polls >= POLLS:
            me.polls = 0
            self._tire(me)
            self.touched()  # Who may go next depends on it.

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
        self._vain.clear()
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
        if self._pruned is not None:
            self._finish(Verdict(self._pruned.kind, detail=self._pruned.detail), me.thread)

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
        if len(rested) < len(found) and (rested or self._next_due() is not None):
            return rested
        return found

    def _choose(self, me: ThreadActor) -> Actor | None:
        """Who goes next; None if nobody ever will. Asked by `me`."""
        try:
            return self._decide()
        except PrunedError as pruned:
            self._finish(Verdict(pruned.kind, detail=pruned.detail), me)
        return None

    def _decide(self) -> Actor | None:
        while True:
            options = self._options()
            if not self._ready and self._settling:
                actor = self._settling.pop(0)
                self._ready.append(actor)
                return actor.inside
            numbers = [actor.number for actor in options]
            due = self._next_due()
            if due is not None and (not options or self._fires < FIRES_IN_A_ROW):
                numbers.append(CLOCK)
            if due is None and not options:
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
            if self._main_done and not options:
                self._idle_moves += 1
                if self._idle_moves > IDLE_MOVES:
                    raise PrunedError("cut")
            self._refresh(None)
            self._fire(due)
            self._strategy.stepped(CLOCK, None)

    def _next_due(self) -> Any:
        """The timer that is due next, of those that could make a difference."""
        if not self._vain:
            return self._due[0] if self._due else None
        return next((due for due in self._due if due.order not in self._vain), None)

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
        self._idle_moves = 0
        self._vain.clear()
        self.steps += 1
        self._strategy.stepped(actor.number, None)
        self._ready.remove(actor)
        try:
            chosen = self._decide()
        except PrunedError as pruned:
            self._finish(Verdict(pruned.kind, detail=pruned.detail), None)
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
                actor = next((actor for actor in self.actors if getattr(actor, "task", None) is task), None)
                return Verdict("exception", task._error, actor)
        for loop in self.loops:
            for actor, error in loop.failures():
                return Verdict("exception", error, actor)
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
        self.touched()
        return due

    def touched(self) -> None:
        """The step under way touches what steps of other kinds touch, too."""
        if not self._firing:
            self._thread().inside.footprint = None

    def call_at(self, deadline: float, callback: Callable[[], object]) -> Callable[[], None]:
        """Let `callback` be called at that time. Returns what prevents it."""
        due = self._set(deadline, callback)

        def forget() -> None:
            if due in self._due:
                self._due.remove(due)

        return forget

    def _fire(self, due: _Due) -> None:
        """Let it be the time of a timer."""
        self._due.remove(due)
        self.now = max(self.now, due.deadline)
        if self.events is not None:
            self.events.append(Event(None, "", f"{self.now - START:.6g}", ("", 0)))
        self.trace.append((CLOCK, ""))
        self._firing = True
        self._woke = False
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
        self._woke = True
        self._ready.append(actor)

    # Event loops

    def loop_actors(self, thread: ThreadActor) -> list[Actor]:
        """Which tasks of a loop that is between two steps could have the next."""
        return [thread if task is None else thread.loop.actors[task] for task in thread.loop.next_tasks()]

    def asyncio_task(self, task: Any) -> LoopActor:
        """The actor that an asyncio task will be, which is made by the calling thread."""
        actor = LoopActor(len(self.actors), self._unique(task.get_name()), self._thread(), task)
        self.actors.append(actor)
        if self.events is not None and len(self.actors) > 2:  # noqa: PLR2004  not the scenario itself
            self.note(self._thread().inside, "start", actor)
        return actor

    def loop_begins(self, loop: Any) -> None:
        """The calling thread runs `loop`."""
        self._thread().loop = loop
        self.loops.append(loop)

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
        me = thread.inside
        if self.events is not None and isinstance(me, LoopActor) and not me.task.done():
            self._note_wait(me, thread.loop.awaited(me.task))
        self._stepped(me)
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
            if thread.loop is loop and not thread.ended and thread.between:
                self._woke = True
                if thread not in self._ready:
                    self._ready.append(thread)


def _nothing() -> None:
    """What an ended task still has to do."""
