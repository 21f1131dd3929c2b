"""Wrapping methods of the public classes for as long as somebody watches. When nobody does, nothing is in the way.

Several may wrap one method at once, and cease to in any order.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    Wrapper = Callable[[Callable[..., Any], type, str], Callable[..., Any]]

_MISSING: Any = object()


class _Method:
    """One attribute of one class, and who has wrapped it."""

    def __init__(self, cls: type, name: str) -> None:
        self._cls = cls
        self._name = name
        self._own = cls.__dict__.get(name, _MISSING)
        self._inherited = getattr(cls, name)
        self.wrappers: list[Wrapper] = []

    def rebuild(self) -> None:
        """Let the class have what the wrappers make of the attribute; without any, the attribute itself."""
        if not self.wrappers:
            if self._own is _MISSING:
                delattr(self._cls, self._name)
            else:
                setattr(self._cls, self._name, self._own)
            return
        function = self._inherited
        is_property = not callable(function)
        if is_property:
            function = function.__get__
        for wrapper in self.wrappers:
            function = wrapper(function, self._cls, self._name)
        setattr(self._cls, self._name, property(function) if is_property else function)


_METHODS: dict[tuple[type, str], _Method] = {}


class Wrapping:
    """Methods and properties, each replaced by `wrapper(original, cls, name)` from `install` to `remove`.

    An original property is a function of the instance alone. The wrapper must call the original, and return what it
    returns.
    """

    def __init__(self, methods: Mapping[type, Iterable[str]], wrapper: Wrapper) -> None:
        self._methods = [(cls, name) for cls, names in methods.items() for name in names]
        self._wrapper = wrapper

    def install(self) -> None:
        """Begin."""
        for key in self._methods:
            method = _METHODS.get(key) or _METHODS.setdefault(key, _Method(*key))
            method.wrappers.append(self._wrapper)
            method.rebuild()

    def remove(self) -> None:
        """Cease. Idempotent."""
        for key in self._methods:
            method = _METHODS.get(key)
            if method is not None and self._wrapper in method.wrappers:
                method.wrappers.remove(self._wrapper)
                method.rebuild()
                if not method.wrappers:
                    del _METHODS[key]
