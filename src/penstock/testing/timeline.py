"""What happened under a schedule, told so that a person can read it."""

from __future__ import annotations

import sys
from itertools import groupby
from linecache import getline
from typing import TYPE_CHECKING

from penstock._kernel.simulation import operation_of
from penstock.testing.actors import LINE, Actor, Event, LoopActor, ThreadActor, Verdict
from penstock.testing.places import at, is_users, place_of

if TYPE_CHECKING:
    from types import FrameType

    from penstock.testing.world import ExploredWorld

MOST_LINES = 200


class Story:
    """One run of a scenario, in words."""

    def __init__(self, world: ExploredWorld) -> None:
        self._world = world

    def timeline(self) -> list[str]:
        """What the tasks did, one after the other; what one did in a row under its name."""
        lines: list[str] = []
        events = self._world.events or []
        width = max((len(at(event.place)) for event in events), default=0)
        for actor, group in groupby(events, key=lambda event: event.actor):
            if actor is None:
                lines.append(_clock(list(group)))
                continue
            lines.append(f"  {actor.name}")
            for event in group:
                waits = ", and waits" if event.waits else ""
                lines.append(f"    {at(event.place):{width}}  {_told(event)}{waits}".rstrip())
        if len(lines) > MOST_LINES:
            cut = len(lines) - MOST_LINES
            half = MOST_LINES // 2
            lines[half:-half] = [f"  … {cut} lines …"]
        return lines

    def parked(self) -> list[str]:
        """Who waits, for what and where."""
        lines: list[str] = []
        stacks = sys._current_frames()
        for actor in self._world.waiting():
            lines.append(f"  {actor.name} waits in {self._waits_in(actor)}")
            frame = stacks.get(actor.carrier.ident) if isinstance(actor, ThreadActor) and actor.carrier else None
            frames = actor.thread.loop.frames(actor.task) if isinstance(actor, LoopActor) else _user_frames(frame)
            lines += [f"    at {at(place_of(where))}, in {_function(where)}" for where in frames if is_users(where)]
        return lines

    def _waits_in(self, actor: Actor) -> str:
        if actor.doing:
            return _call(actor.doing, self._world.named(actor.doing_to))
        if isinstance(actor, LoopActor):
            return str(actor.thread.loop.awaited(actor.task))
        waiter = actor.waiter if isinstance(actor, ThreadActor) else None
        return "a call of the library" if waiter is None else operation_of(waiter)

    def stuck(self, seconds: float) -> str:
        """A task has been at work for too long."""
        actor = self._world.current
        frame = sys._current_frames().get(actor.thread.carrier.ident)
        where = ", ".join(f"{at(place_of(user))} in {_function(user)}" for user in _user_frames(frame)[:1])
        return (
            f"{actor.name} has been at work for {seconds:g} seconds without a call of the library, at {where};"
            " a scenario must wait for nothing outside the library, such as a lock of threading's"
        )


def _clock(moves: list[Event]) -> str:
    """That the clock moved, however often in a row."""
    times = "" if len(moves) == 1 else f", by way of {len(moves) - 1} other time{'s' if len(moves) > 2 else ''}"  # noqa: PLR2004
    return f"  the clock moves to {moves[-1].on} s{times}"


def _told(event: Event) -> str:
    return getline(*event.place).strip() if event.doing == LINE else _call(event.doing, event.on)


def _call(doing: str, on: str | tuple[str, ...]) -> str:
    if doing == "select":
        return f"select({', '.join(on)})"
    if doing == "start":
        return f"starts {on}"
    if not on:
        return doing
    method = doing.rpartition(".")[2]
    return f"{on}: {_PLAIN.get(doing) or _PLAIN.get(method) or method}"


_PLAIN = {
    "Group.__enter__": "enter",
    "Group.__aenter__": "enter",
    "Group.__exit__": "leave",
    "Group.__aexit__": "leave",
    "Context.__enter__": "enter",
    "Context.__aenter__": "enter",
    "Context.__exit__": "leave",
    "Context.__aexit__": "leave",
    "Channel.__exit__": "close (with)",
    "SendChannel.__exit__": "close (with)",
    "__enter__": "acquire (with)",
    "__aenter__": "acquire (async with)",
    "__exit__": "release (with)",
    "__aexit__": "release (async with)",
    "__next__": "recv (for)",
    "__anext__": "recv (async for)",
    "__len__": "len()",
    "__bool__": "is it closed?",
}


def _function(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]


def _user_frames(frame: FrameType | None) -> list[FrameType]:
    """The user's part of a stack, innermost first."""
    found: list[FrameType] = []
    while frame is not None:
        if is_users(frame):
            found.append(frame)
        frame = frame.f_back
    return found


def tell(world: ExploredWorld, verdict: Verdict) -> str:
    """The whole story. Its first line says how it ended."""
    story = Story(world)
    waiting = world.waiting()
    names = ", ".join(actor.name for actor in waiting)
    some = f"{len(waiting)} task{'s are' if len(waiting) > 1 else ' is'}"
    if verdict.kind == "deadlock":
        first = f"deadlock: {some} parked for ever: {names}"
    elif verdict.kind == "leak":
        first = f"leak: the scenario has returned, and {some} parked for ever: {names}"
    else:
        whose = verdict.task.name if verdict.task is not None else "a task"
        first = f"exception in {whose}: {type(verdict.error).__name__}: {verdict.error}"
    parts = [first, "", f"The schedule, {world.steps} steps:", *story.timeline()]
    if waiting:
        parts += ["", "Parked:", *story.parked()]
    return "\n".join(parts)


def first_difference(one: ExploredWorld, other: ExploredWorld) -> str:
    """Where two runs under one schedule part."""
    for number, (before, after) in enumerate(zip(one.trace, other.trace, strict=False)):
        if before != after:
            return f"step {number}: first {_step(one, before)}, then {_step(other, after)}"
    longer, shorter = (one, other) if len(one.trace) > len(other.trace) else (other, one)
    number = len(shorter.trace)
    if number < len(longer.trace):
        return f"step {number}: one run ended, the other went on with {_step(longer, longer.trace[number])}"
    return "the steps were the same, and the outcome was another"


def _step(world: ExploredWorld, step: tuple[int, str]) -> str:
    number, doing = step
    name = world.actors[number].name if 0 <= number < len(world.actors) else "the clock"
    return f"{name} ({doing or 'went on'})"
