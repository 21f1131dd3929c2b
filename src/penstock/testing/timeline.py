"""What happened under a schedule, told so that a person can read it."""

from __future__ import annotations

import sys
from itertools import groupby
from linecache import getline
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock.testing.world import LINE, Actor, ExploredWorld, LoopActor, ThreadActor, Verdict, place_of

if TYPE_CHECKING:
    from types import FrameType

MOST_LINES = 200


def _at(place: tuple[str, int] | None) -> str:
    return f"{Path(place[0]).name}:{place[1]}" if place and place[1] else ""


class _Names:
    """Objects by their type and a number, in the order in which they appear."""

    def __init__(self) -> None:
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []
        self._counts: dict[str, int] = {}

    def of(self, thing: Any) -> str:
        for inner in ("_channel", "channel", "_rw"):
            thing = getattr(thing, inner, thing) if not isinstance(thing, type) else thing
        if id(thing) not in self._names:
            kind = type(thing).__name__
            self._counts[kind] = self._counts.get(kind, 0) + 1
            name = getattr(thing, "name", None)
            own = f" {name}" if isinstance(name, str) else f" {self._counts[kind]}"
            self._names[id(thing)] = f"{kind}{own}"
            self._kept.append(thing)
        return self._names[id(thing)]


class Story:
    """One run of a scenario, in words."""

    def __init__(self, world: ExploredWorld) -> None:
        self._world = world
        self._names = _Names()

    def _call(self, doing: str, on: Any) -> str:
        if doing == "select":
            cases = ", ".join("None" if case is None else self._case(case) for case in on)
            return f"select({cases})"
        if on is None:
            return doing
        method = doing.rpartition(".")[2]
        return f"{self._names.of(on)}: {_PLAIN.get(method, method)}"

    def _case(self, case: Any) -> str:
        verb = "send to" if type(case).__name__ == "SendCase" else "receive from"
        return f"{verb} {self._names.of(case)}"

    def timeline(self) -> list[str]:
        """What the tasks did, one after the other; what one did in a row under its name."""
        lines: list[str] = []
        events = self._world.events or []
        width = max((len(_at(event[3])) for event in events), default=0)
        for actor, group in groupby(events, key=lambda event: event[0]):
            lines.append(f"  {actor.name}" if isinstance(actor, Actor) else "  the clock")
            for _, doing, on, place in group:
                what = self._call(doing, on) if doing != LINE and actor is not None else doing
                if doing == LINE:
                    what = getline(*place).strip()
                lines.append(f"    {_at(place):{width}}  {what}".rstrip())
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
            lines.append(f"  {actor.name} waits in {self._call(actor.doing, actor.doing_to)}")
            frame = stacks.get(actor.carrier.ident) if isinstance(actor, ThreadActor) and actor.carrier else None
            frames = reversed(actor.task.get_stack()) if isinstance(actor, LoopActor) else _user_frames(frame)
            lines += [f"    at {_at(place_of(where))}, in {_function(where)}" for where in frames if _is_users(where)]
        return lines

    def stuck(self, seconds: float) -> str:
        """A task has been at work for too long."""
        actor = self._world.current
        frame = sys._current_frames().get(actor.thread.carrier.ident)
        where = ", ".join(f"{_at(place_of(user))} in {_function(user)}" for user in _user_frames(frame)[:1])
        return (
            f"{actor.name} has been at work for {seconds:g} seconds without a call of the library, at {where};"
            " a scenario must wait for nothing outside the library, such as a lock of threading's"
        )


_PLAIN = {
    "__enter__": "acquire (with)",
    "__aenter__": "acquire (async with)",
    "__exit__": "release (with)",
    "__aexit__": "release (async with)",
    "__next__": "recv (for)",
    "__anext__": "recv (async for)",
    "__len__": "len()",
}


def _function(frame: FrameType) -> str:
    return frame.f_code.co_qualname.rpartition("<locals>.")[2]


def _is_users(frame: FrameType) -> bool:
    return not frame.f_globals.get("__name__", "").startswith(("penstock.", "asyncio."))


def _user_frames(frame: FrameType | None) -> list[FrameType]:
    """The user's part of a stack, innermost first."""
    found: list[FrameType] = []
    while frame is not None:
        if _is_users(frame):
            found.append(frame)
        frame = frame.f_back
    return [frame for frame in found if not frame.f_code.co_filename.endswith("threading.py")]


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
