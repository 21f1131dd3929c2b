"""The objects of one schedule by number and by name, in the order in which its tasks come to them.

Numbers, not identities: under the same choices the same object has the same number, in whatever run and process. The
objects are not kept alive, since what happens when one is dropped is a part of what is explored.
"""

from __future__ import annotations

import weakref
from typing import Any

from penstock.channel import RecvChannel, SendCase, SendChannel
from penstock.patterns.fan import Merged
from penstock.sync import Side


def subject_of(thing: Any) -> Any:
    """What an operation on `thing` is about: behind a view its channel, behind a side its lock."""
    if isinstance(thing, SendCase):
        thing = thing.channel
    if isinstance(thing, RecvChannel | SendChannel) and not isinstance(thing, Merged):
        return thing._channel
    return thing._rw if isinstance(thing, Side) else thing


class Names:
    """Numbers from 1 on, and names, of the objects of one schedule."""

    def __init__(self) -> None:
        self._known: dict[int, tuple[weakref.ref[Any], int, str]] = {}
        self._numbers = 0
        self._kinds: dict[str, int] = {}

    def _entry(self, thing: Any) -> tuple[weakref.ref[Any], int, str]:
        subject = subject_of(thing)
        entry = self._known.get(id(subject))
        if entry is None or entry[0]() is not subject:  # Another may have been at that address before.
            kind = type(subject).__name__
            self._numbers += 1
            self._kinds[kind] = self._kinds.get(kind, 0) + 1
            own = getattr(subject, "name", None)
            name = f"{kind} {own if isinstance(own, str) else self._kinds[kind]}"
            entry = self._known[id(subject)] = (weakref.ref(subject), self._numbers, name)
        return entry

    def number(self, thing: Any) -> int:
        """The number of what `thing` is about."""
        return self._entry(thing)[1]

    def name(self, thing: Any) -> str:
        """Its name, or its type and how many of that type came before it."""
        return self._entry(thing)[2]
