"""Wrapping methods of the public classes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from penstock import Channel, Mutex
from penstock.deadlock.wrapping import Wrapping

if TYPE_CHECKING:
    from collections.abc import Callable


class Recorder:
    """Writes down which methods are called."""

    def __init__(self, prefix: str) -> None:
        self.prefix = prefix
        self.calls: list[str] = []

    def __call__(self, original: Callable[..., Any], _cls: type, name: str) -> Callable[..., Any]:
        def wrapped(*args: Any, **options: Any) -> Any:
            self.calls.append(self.prefix + name)
            return original(*args, **options)

        return wrapped


METHODS = {Channel: ("send", "__next__", "closed", "__len__", "name"), Mutex: ("__enter__", "__exit__", "locked")}


def use(channel: Channel[int], mutex: Mutex) -> None:
    channel.send(1)
    assert len(channel) == 1
    assert next(iter(channel)) == 1
    assert not channel.closed
    assert channel.name is None
    with mutex:
        assert mutex.locked


def test_methods_inherited_ones_slots_and_properties_are_wrapped() -> None:
    """Whatever is called, by name or through the language, is seen, and works as ever."""
    recorder = Recorder("")
    wrapping = Wrapping(METHODS, recorder)
    channel = Channel[int](1)
    mutex = Mutex()
    wrapping.install()
    try:
        use(channel, mutex)
    finally:
        wrapping.remove()
    assert recorder.calls == ["send", "__len__", "__next__", "closed", "name", "__enter__", "locked", "__exit__"]
    use(channel, mutex)
    assert len(recorder.calls) == 8


def test_nothing_is_left_on_the_classes() -> None:
    """Removed in any order, the classes are as they were."""
    before = {cls: dict(cls.__dict__) for cls in METHODS}
    one, two = Recorder("one "), Recorder("two ")
    first, second = Wrapping(METHODS, one), Wrapping(METHODS, two)
    first.install()
    second.install()
    use(Channel(1), Mutex())
    first.remove()
    use(Channel(1), Mutex())
    second.remove()
    second.remove()
    assert {cls: dict(cls.__dict__) for cls in METHODS} == before
    assert len(one.calls) == 8
    assert len(two.calls) == 16
