"""Which unreached objects are referred to from where nobody has looked.

As the garbage collector does it: of an object's references, those are subtracted that come from other unreached
objects, and those that parked tasks have. What is left over is held from outside: by a frame that executes, by an
extension module, by the interpreter.
"""

from __future__ import annotations

import gc
import sys
from contextvars import Context
from functools import partial
from types import BuiltinMethodType, FunctionType, MethodType
from typing import TYPE_CHECKING, Any

from penstock._kernel.channel import ChannelCore, ReceiverCore, SendCase
from penstock._kernel.inspection import KERNEL_TYPES
from penstock._kernel.scopes import ambient_variable
from penstock._kernel.threads import starts_thread
from penstock.group import _run

try:
    from _collections import _count_elements as count_elements  # type: ignore[import-not-found]
except ImportError:

    def count_elements(counts: dict[int, int], things: Any) -> None:
        """As the C function of that name does."""
        for thing in things:
            counts[thing] = counts.get(thing, 0) + 1


if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from penstock.deadlock.marking import Marking
    from penstock.deadlock.reachability import Candidate

_BATCH = 10_000
_METHODS = (MethodType, BuiltinMethodType)


class Account:
    """The references to what has not been reached."""

    def __init__(self, objects: dict[int, Any], marking: Marking, candidates: Sequence[Candidate]) -> None:
        self._objects = objects
        self._marking = marking
        self._candidates = candidates
        self._exempt: set[int] = set()

    def outside(self) -> Iterator[Any]:
        """The unreached objects that are referred to from outside."""
        probe: list[Any] = []
        self._objects[id(probe)] = probe
        unreached = list(map(self._objects.__getitem__, self._marking.unreached))
        unreached.append(probe)
        explained = self._explained(unreached)
        excess: list[Any] = []
        counts = list(map(sys.getrefcount, unreached))
        usual = counts[-1] - 1  # The probe's, which has one reference apart from those that all have here.
        suspects = [
            thing for thing, count in zip(unreached, counts, strict=True) if count - usual > explained.get(id(thing), 0)
        ]
        del unreached
        self._exempt.add(id(probe))
        self._set_aside(suspects)
        excess = [thing for thing in suspects if id(thing) not in self._exempt]
        return iter(excess)

    def _explained(self, unreached: list[Any]) -> dict[int, int]:
        """For each address how many references to it are known."""
        explained: dict[int, int] = {}
        for start in range(0, len(unreached), _BATCH):
            count_elements(explained, map(id, gc.get_referents(*unreached[start : start + _BATCH])))
        for one in self._candidates:
            count_elements(explained, one.addresses)
        return explained

    # What the interpreter and the compiled kernel hold on behalf of a parked thread

    def _set_aside(self, suspects: list[Any]) -> None:
        threads = {id(one.thread): one for one in self._candidates if one.readable and one.thread is not None}
        tasks = {id(one.task): one for one in self._candidates if one.readable and one.task is not None}
        selects: dict[frozenset[int], list[Candidate]] = {}
        for one in self._candidates:
            if one.readable and one.parked.operation == "select":
                channels = frozenset(id(source) for source, _ in one.parked.places if isinstance(source, ChannelCore))
                selects.setdefault(channels, []).append(one)
        contexts = []
        for thing in suspects:
            kind = type(thing)
            if self._marking.is_cut(thing) or isinstance(thing, KERNEL_TYPES):
                self._exempt.add(id(thing))
            elif kind is partial and len(thing.args) > 1 and thing.args[0] is _run:
                self._belongs(thing, tasks.get(id(thing.args[1])))
                self._belongs(getattr(thing.func, "__self__", None), tasks.get(id(thing.args[1])))
            elif kind in _METHODS and starts_thread(thing):
                self._belongs(thing, threads.get(id(thing.__self__)))
            elif kind in _METHODS and _is_enter(thing):
                self._exempt.add(id(thing))  # 'with' up to Python 3.13: its counterpart, __exit__, is in the frame.
            elif kind is Context:
                contexts.append(thing)
            elif kind in (tuple, list) and selects:
                owners = selects.get(_channels_of(thing))  # type: ignore[arg-type]
                self._belongs(thing, owners[0] if owners else None)
        self._set_contexts_aside(contexts)

    def _belongs(self, thing: Any, owner: Candidate | None) -> None:
        if owner is not None:
            self._exempt.add(id(thing))
            owner.held.append(thing)

    def _set_contexts_aside(self, contexts: list[Context]) -> None:
        """The context that a thread is in has the thread's scope in it; who else has the same is not known."""
        for one in self._candidates:
            own = getattr(one.thread, "_context", None)
            if one.readable and own is not None:
                self._belongs(own, one)
        contexts = [context for context in contexts if id(context) not in self._exempt]
        for one in self._candidates:
            scope = one.scope
            if one.readable and one.in_thread and scope is not None:
                found = [context for context in contexts if context.get(ambient_variable) is scope]
                owners = [other for other in self._candidates if other.in_thread and other.scope is scope]
                if len(found) <= len(owners):
                    for context in found:
                        self._belongs(context, one)


def _is_enter(method: Any) -> bool:
    if sys.version_info >= (3, 14):
        return False
    function = method if type(method) is BuiltinMethodType else method.__func__
    return type(function) in (BuiltinMethodType, FunctionType) and function.__name__ == "__enter__"


def _channels_of(cases: tuple[Any, ...] | list[Any]) -> frozenset[int] | None:
    """The channels of what are the cases of a select; None if they are not."""
    channels = set()
    for case in cases:
        if isinstance(case, ChannelCore):
            channels.add(id(case))
        elif isinstance(case, SendCase):
            channels.add(id(case.channel))
        elif isinstance(case, ReceiverCore):
            channels.add(id(case._channel))
        elif case is not None:
            return None
    return frozenset(channels)
