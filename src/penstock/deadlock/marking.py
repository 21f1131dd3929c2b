"""Marking what can be reached from given objects, by the references that the garbage collector knows.

A weak reference leads to what it refers to: whoever has it can get at that for as long as a parked task keeps it
alive. Not followed are tracebacks, the registries given as `cut`, and what this package and `penstock.testing` keep.
"""

from __future__ import annotations

import gc
import weakref
from types import TracebackType
from typing import TYPE_CHECKING, Any

from penstock._kernel.inspection import Parked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_BATCH = 1000  # What a processor's cache holds.
_OWN_MODULES = ("penstock.deadlock", "penstock.testing")
_PLAIN, _CUT, _REFERENCE, _PROXY = range(4)
_dereference = weakref.ref.__call__
_module_of = type.__dict__["__module__"].__get__

# What a thread began with is its own business, also for those who have the thread.
_PRIVATE_TO_THREADS = ("_target", "_args", "_kwargs", "_context")


class Marking:
    """What has been reached."""

    def __init__(self, objects: dict[int, Any], cut: set[int]) -> None:
        self.unreached = set(objects)
        """The addresses of the objects that have not been reached, of those that the garbage collector tracks."""
        self.on_reach: dict[int, Callable[[], Iterable[Any]]] = {}
        """What to do when that object is reached; gives what is reached with it."""
        self.threads: set[int] = set()
        """Threads that are parked."""
        self.proxies: set[int] = set()
        """The weak proxies that have been reached: they cannot be asked for what they stand for."""
        self._cut = cut
        self._kinds: dict[type, int] = {Parked: _CUT, TracebackType: _CUT}
        self._odd: set[type] = set(self._kinds)

    def is_cut(self, thing: Any) -> bool:
        """Is `thing` of those that are not followed?"""
        return id(thing) in self._cut or self._kind(type(thing)) == _CUT

    def mark(self, roots: Iterable[Any], finished: Callable[[], bool]) -> None:
        """Mark all that can be reached from `roots`, unless `finished` meanwhile."""
        frontier: list[Any] = []
        self._arrive(list(roots), frontier)
        while frontier and not finished():
            batch = frontier[-_BATCH:]
            del frontier[-_BATCH:]
            self._arrive(gc.get_referents(*batch), frontier)

    def _arrive(self, things: list[Any], frontier: list[Any]) -> None:
        """Mark `things`; put those into `frontier` that lead on."""
        while things:
            found = dict(zip(map(id, things), things, strict=True))
            new = self.unreached.intersection(found)
            new.difference_update(self._cut)
            fresh = list(map(found.__getitem__, new))
            things = []
            kinds = set(map(type, fresh))
            for kind in kinds.difference(self._kinds):
                self._kind(kind)
            if not kinds.isdisjoint(self._odd):
                for thing in fresh:
                    kind_of_reference = self._kinds[type(thing)]
                    if kind_of_reference == _CUT:
                        new.discard(id(thing))
                    elif kind_of_reference == _REFERENCE:
                        things.append(_dereference(thing))
                    elif kind_of_reference == _PROXY:
                        self.proxies.add(id(thing))
                fresh = list(map(found.__getitem__, new))
            self.unreached -= new
            for address in new.intersection(self.on_reach):
                things += self.on_reach.pop(address)()
            parked = new.intersection(self.threads)
            for address in parked:
                things += _public_parts(found[address])
                new.discard(address)
            frontier += map(found.__getitem__, new) if parked else fresh

    def _kind(self, cls: type) -> int:
        known = self._kinds.get(cls)
        if known is not None:
            return known
        module = _module_of(cls)
        kind = _PLAIN
        if type(module) is str and module.startswith(_OWN_MODULES):
            kind = _CUT
        elif cls in (weakref.ProxyType, weakref.CallableProxyType):
            kind = _PROXY
        elif weakref.ref in cls.__mro__:
            kind = _REFERENCE
        self._kinds[cls] = kind
        if kind != _PLAIN:
            self._odd.add(cls)
        return kind


def _public_parts(thread: Any) -> list[Any]:
    """What a parked thread's `threading.Thread` refers to, but for what the thread began with."""
    attributes = object.__getattribute__(thread, "__dict__")
    private = {id(attributes.get(name)) for name in _PRIVATE_TO_THREADS}
    private.add(id(attributes))
    parts = [thing for thing in gc.get_referents(thread) if id(thing) not in private]
    parts += [value for name, value in attributes.items() if name not in _PRIVATE_TO_THREADS]
    return parts
