"""What channels, locks and tasks are called in a report, and where they were made.

Whatever has a name is called by it. Otherwise it is called by where it was made, if that has been recorded, and by a
number within the report, if not. Nobody's `repr`, `str`, `==` or `hash` is called.
"""

from __future__ import annotations

import sys
from pathlib import PurePath
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

from penstock._kernel.inspection import CHANNEL, CONVEYOR, name_of_channel
from penstock.channel import Channel
from penstock.deadlock.stacks import Frame, outwards, users_stack
from penstock.deadlock.wrapping import Wrapping
from penstock.group import Group, Task
from penstock.patterns.backpressure import PressureGauge
from penstock.sync import Condition, Mutex, Once, RWMutex, Semaphore, WaitGroup

if TYPE_CHECKING:
    from collections.abc import Callable

_NOUNS = {
    Channel: "channel",
    Condition: "condition",
    Group: "group",
    Mutex: "mutex",
    Once: "once",
    PressureGauge: "gauge",
    RWMutex: "rwmutex",
    Semaphore: "semaphore",
    Task: "task",
    WaitGroup: "wait group",
}

_SITES: WeakKeyDictionary[Any, tuple[Frame, ...]] = WeakKeyDictionary()
"""Stacks of where things were made. All keys are of the library's own types, which are equal to themselves alone."""


def _recording(original: Callable[..., Any], _cls: type, _name: str) -> Callable[..., Any]:
    def __init__(self: Any, *args: Any, **options: Any) -> None:  # noqa: N807
        _SITES[self] = users_stack(outwards(sys._getframe(1)))
        original(self, *args, **options)

    return __init__


_RECORDING = Wrapping(dict.fromkeys(_NOUNS, ("__init__",)), _recording)
_recorders = 0


def record_sites(on: bool) -> None:
    """Begin or cease to record where channels, locks, groups and tasks are made. To be called in pairs."""
    global _recorders  # noqa: PLW0603  how many have asked for it
    _recorders += 1 if on else -1
    if on and _recorders == 1:
        _RECORDING.install()
    elif not on and _recorders == 0:
        _RECORDING.remove()


def made_at(thing: Any) -> tuple[Frame, ...]:
    """The stack that made `thing`; empty if that was not recorded."""
    try:
        return _SITES.get(thing, ())
    except TypeError:  # Of a kind that is not recorded, and cannot be.
        return ()


def sites() -> Any:
    """The registry of all that; it refers to things weakly."""
    return _SITES


def _noun_of(thing: Any) -> str:
    if isinstance(thing, CHANNEL):
        return "channel"
    return "pmap" if isinstance(thing, CONVEYOR) else _NOUNS.get(type(thing), "semaphore")


class Names:
    """The names of one report. Each belongs to one thing."""

    def __init__(self) -> None:
        self._taken: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._kept: list[Any] = []

    def _unique(self, name: str) -> str:
        count = self._taken[name] = self._taken.get(name, 0) + 1
        return name if count == 1 else self._unique(f"{name} ({count})")

    def call(self, thing: Any, name: str) -> str:
        """The name of `thing`: that which it has been given, else `name`, told apart from equal ones."""
        known = self._names.get(id(thing))
        if known is None:
            known = self._names[id(thing)] = self._unique(name)
            self._kept.append(thing)
        return known

    def of(self, thing: Any, noun: str = "") -> str:
        """The name of a channel, lock, group, ...; `noun` says what it is, where that does not go by its type."""
        known = self._names.get(id(thing))
        if known is not None:
            return known
        noun = noun or _noun_of(thing)
        own = name_of_channel(thing) if isinstance(thing, CHANNEL) else None  # type: ignore[arg-type]
        if own is not None:
            return self.call(thing, f"{noun} {own}")
        site = made_at(thing)
        if site:
            return self.call(thing, f"{noun} made at {PurePath(site[-1].file).name}:{site[-1].line}")
        count = self._taken[noun] = self._taken.get(noun, 0) + 1
        return self.call(thing, f"{noun} {count}")
