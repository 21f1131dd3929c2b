"""Which unreached objects are referred to from where nobody has looked.

As the garbage collector does it: of an object's references, those are subtracted that come from other unreached
objects, and those that parked tasks have. What is left over is held from outside: by a frame that executes, by an
extension module, by the interpreter.
"""

from __future__ import annotations

import gc
import sys
from collections import deque
from contextvars import Context
from functools import partial
from itertools import chain, pairwise
from types import BuiltinMethodType, FunctionType, GeneratorType, MethodDescriptorType, MethodType
from typing import TYPE_CHECKING, Any
from weakref import getweakrefcount, getweakrefs

from penstock._kernel.channel import ChannelCore, ReceiverCore, SendCase
from penstock._kernel.inspection import KERNEL_TYPES
from penstock._kernel.scopes import ambient_variable
from penstock._kernel.threads import starts_thread
from penstock.context import Callback
from penstock.deadlock.frames import GIL
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

    from penstock.deadlock.frames import Reader
    from penstock.deadlock.marking import Marking
    from penstock.deadlock.reachability import Candidate

_QUEUED = 2  # In the word of shared references, after CPython's `refcount.h`.
_BATCH = 10_000
_METHODS = (MethodType, BuiltinMethodType)
_CONSUMERS = frozenset(map(id, (all, any, deque, dict, frozenset, list, max, min, set, sorted, sum, tuple)))
_ITERATORS = (ChannelCore, GeneratorType, enumerate, filter, map, zip)


class Account:
    """The references to what has not been reached."""

    def __init__(
        self, objects: dict[int, Any], marking: Marking, candidates: Sequence[Candidate], reader: Reader | None
    ) -> None:
        self._reader = reader
        self._objects = objects
        self._marking = marking
        self._candidates = candidates
        self._exempt: set[int] = set()

    def outside(self) -> Iterator[Any]:
        """The unreached objects that are referred to from outside."""
        probe: list[Any] = []
        self._objects[id(probe)] = probe
        unreached = list(self._unreached())
        unreached.append(probe)
        explained = self._explained(unreached)
        counts = list(map(sys.getrefcount, unreached))
        usual = counts[-1] - 1  # The probe's, which has one reference apart from those that all have here.
        suspects = []
        for thing, count in zip(unreached, counts, strict=True):
            excess = count - usual - explained.get(id(thing), 0)
            if excess > 1 or (excess == 1 and (GIL or not self._waits_for_its_thread(thing))):
                suspects.append(thing)
        del unreached, thing
        self._exempt.add(id(probe))
        self._set_aside(suspects)
        proxied = []
        if self._marking.proxies:
            proxied = [thing for thing in self._unreached() if self._is_proxied(thing)]
        return iter([*proxied, *(thing for thing in suspects if id(thing) not in self._exempt)])

    def _waits_for_its_thread(self, thing: Any) -> bool:
        """Is the reference too much that of the queue in which, without a GIL, a thread is told to count again?

        A thread that is parked does not look there.
        """
        if self._reader is None:
            return False
        _, _, shared, cls = self._reader.words(id(thing), 4)
        return cls == id(type(thing)) and shared & 3 == _QUEUED

    def _unreached(self) -> Iterator[Any]:
        return map(self._objects.__getitem__, self._marking.unreached)

    def _is_proxied(self, thing: Any) -> bool:
        """Does a weak proxy that has been reached stand for `thing`?"""
        if not getweakrefcount(thing):
            return False
        return any(id(reference) in self._marking.proxies for reference in getweakrefs(thing))

    def _explained(self, unreached: list[Any]) -> dict[int, int]:
        """For each address how many references to it are known."""
        explained: dict[int, int] = {}
        for start in range(0, len(unreached), _BATCH):
            count_elements(explained, map(id, gc.get_referents(*unreached[start : start + _BATCH])))
        for one in self._candidates:
            count_elements(explained, one.references.addresses)
            for address in one.references.managers:
                if type(self._objects.get(address)) in _METHODS:  # It is the method itself that stands there.
                    explained[address] = explained.get(address, 0) + 1
            if one.readable:
                count_elements(explained, map(id, filter(None, map(self._consumed, one.references.arguments))))
        return explained

    def _consumed(self, stack: tuple[int, ...]) -> Any:
        """What is consumed as an iterator by a function that is known to have one more reference to it."""
        if len(stack) > 2 and not _CONSUMERS.isdisjoint(stack[-3:-1]):  # noqa: PLR2004  function, nothing, argument
            thing = self._objects.get(stack[-1])
            if isinstance(thing, _ITERATORS):
                return thing
        return None

    # What the interpreter and the compiled kernel hold on behalf of a parked thread

    def _set_aside(self, suspects: list[Any]) -> None:
        threads = {id(one.thread): one for one in self._candidates if one.readable and one.thread is not None}
        selects: dict[frozenset[int] | None, list[Candidate]] = {}
        for one in self._candidates:
            if one.readable and one.parked.operation == "select":
                channels = frozenset(id(source) for source, _ in one.parked.places if isinstance(source, ChannelCore))
                selects.setdefault(channels, []).append(one)
        calls = {
            stack[start:]: one
            for one in self._candidates
            if one.readable
            for stack in one.references.arguments
            for start in range(len(stack))
        }
        self._set_jobs_aside(suspects)
        contexts = []
        methods = []
        for thing in suspects:
            kind = type(thing)
            if self._marking.is_cut(thing) or isinstance(thing, KERNEL_TYPES):
                self._exempt.add(id(thing))
            elif kind in _METHODS and starts_thread(thing):
                self._belongs(thing, threads.get(id(thing.__self__)))
            elif kind in _METHODS and _name(thing) in ("__enter__", "__exit__"):
                methods.append(thing)
            elif kind is Context:
                contexts.append(thing)
            elif kind in (tuple, list) and thing:
                owner = calls.get(tuple(map(id, thing)))
                owners = selects.get(_channels_of(thing)) if owner is None and selects else None
                self._belongs(thing, owners[0] if owners else owner)
        self._set_contexts_aside(contexts)
        self._set_methods_aside(methods)
        if sys.version_info < (3, 12):
            self._set_called_aside(suspects)

    def _belongs(self, thing: Any, owner: Candidate | None) -> None:
        if owner is not None:
            self._exempt.add(id(thing))
            owner.belongings.append(thing)

    def _set_jobs_aside(self, suspects: list[Any]) -> None:
        """What a thread of the pool was given to call, and the context that this has entered."""
        owners = {id(one.job): one for one in self._candidates if one.readable and one.job is not None}
        for thing in [*suspects, *self._held(partial)]:
            owner = owners.get(id(_job_of(thing))) if type(thing) is partial else None
            if owner is not None:
                self._belongs(thing, owner)
                self._belongs(thing.func.__self__, owner)

    def _held(self, kind: type) -> list[Any]:
        """What frames of parked threads refer to, of that type."""
        addresses = chain.from_iterable(one.references.addresses for one in self._candidates if one.readable)
        return [thing for thing in map(self._objects.get, addresses) if type(thing) is kind]

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

    def _set_methods_aside(self, methods: list[Any]) -> None:
        """`with`, up to Python 3.13, has the methods in hand while it calls one of them.

        Python 3.11 has `__exit__` in the frame meanwhile: who is no parked task gives itself away by that.
        """
        entered: dict[int, list[Candidate]] = {}
        for one in self._candidates:
            for address in one.references.managers:
                entered.setdefault(address, []).append(one)
        for name in ("__enter__", "__exit__"):
            for thing in [method for method in methods if _name(method) == name]:
                if name == "__enter__" and sys.version_info < (3, 12):
                    self._exempt.add(id(thing))
                    continue
                owners = entered.get(id(thing.__self__), [])
                alike = [other for other in methods if _name(other) == name and other.__self__ is thing.__self__]
                if len(alike) <= len(owners):
                    self._belongs(thing, owners[0])

    def _set_called_aside(self, suspects: list[Any]) -> None:
        """Python 3.11, where a trace function is on, makes a bound method of what it calls, for as long as it does."""
        called = [thing for thing in suspects if type(thing) is BuiltinMethodType and id(thing) not in self._exempt]
        for thing in called:
            alike = [other for other in called if _name(other) == _name(thing) and other.__self__ is thing.__self__]
            owners = [one for one in self._candidates if one.readable and self._calls(one, thing)]
            if len(alike) <= len(owners):
                self._belongs(thing, owners[0])

    def _calls(self, one: Candidate, method: Any) -> bool:
        """Has the innermost frame called that method of that object?"""
        stack = one.references.arguments[0] if one.references.arguments else ()
        for function, owner in pairwise(stack):
            if owner == id(method.__self__):
                called = self._objects.get(function)
                if type(called) is MethodDescriptorType and called.__name__ == method.__name__:
                    return True
        return False


def _job_of(start: Any) -> Any:
    """The task or callback for which a thread of the pool was given `start` to call; None if that is something else."""
    args = start.args
    if len(args) > 1 and args[0] is _run:
        return args[1]
    return args[0] if args and type(args[0]) is Callback else None


def _name(method: Any) -> str:
    function = method if type(method) is BuiltinMethodType else method.__func__
    return function.__name__ if type(function) in (BuiltinMethodType, FunctionType) else ""


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
