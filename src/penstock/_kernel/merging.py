"""Merges: several channels as one to receive from.

Invariants
  G1. Nothing moves between the sources and the merge: who receives from it receives from one of them.
  G2. `_open`, the sources that were not found closed and drained yet, is guarded by the lock of `_channel`, which is
      only ever closed: by the first who finds that there is none left, or that one was closed with an error.
  G3. Nothing is received once one of the sources has failed: whoever receives looks at all of them first.
"""

from __future__ import annotations

from typing import Any

try:
    import cython
except ModuleNotFoundError:
    from penstock._kernel import shadow as cython

if not cython.compiled:
    from penstock._kernel.channel import CLOSED, EMPTY, ChannelCore, ReceiverCore
    from penstock._kernel.interpreted import disown, lock_drop, lock_take
    from penstock._kernel.seam import SEAM


class MergeCore(ReceiverCore):
    """Several channels, or other merges, as one to receive from."""

    __slots__ = ("_open",)

    def __init__(self, channel: ChannelCore, sources: tuple[Any, ...]) -> None:
        ReceiverCore.__init__(self, channel)
        self._open = sources

    def sources(self) -> tuple[Any, ...]:
        """Channels, and other merges, that were not found closed and drained yet."""
        lock_take(self._channel._lock)
        sources = self._open
        lock_drop(self._channel._lock)
        return sources

    def _replace(self, before: tuple[Any, ...], after: tuple[Any, ...]) -> bool:
        """Let `after` be the sources, if they are still `before`."""
        replaced = False
        lock_take(self._channel._lock)
        if self._open is before:
            self._open = after
            replaced = True
        lock_drop(self._channel._lock)
        return replaced

    @cython.final
    def _over(self) -> bool:
        """Is this at its end? It is once one of the sources has failed, whatever the others hold."""
        for source in self.sources():
            if isinstance(source, MergeCore):
                merge = source
                merge._over()
                channel = merge._channel
            else:
                channel = source
            if channel.has_failed():
                self._channel.close(channel._error)
                break
        return self._channel._closed

    def poll_sources(self) -> Any:
        """A value that is ready at one of the sources, under the ambient context; EMPTY where none is."""
        return EMPTY if self._over() else self._poll_open()

    @cython.final
    def _poll_open(self) -> Any:
        """The same, of a merge that has been looked at."""
        sources = self.sources()
        if self._channel._closed:
            return EMPTY
        size = len(sources)
        start = SEAM.runtime.choose(size) if size else 0
        for at in range(size):
            source = sources[(start + at) % size]
            if isinstance(source, MergeCore):
                merge = source
                value = merge._poll_open()
            else:
                channel = source
                value = channel.poll()
            if value is not EMPTY and value is not CLOSED:
                return value
        return EMPTY

    def gather(self, channels: list[Any]) -> None:
        """Add the channels that a select on this merge has to look at."""
        self._over()
        self._gather_open(channels)

    @cython.final
    def _gather_open(self, channels: list[Any]) -> bool:
        """The same, of a merge that has been looked at."""
        channels.append(self._channel)
        if self._channel._closed:
            return True
        for source in self.sources():
            if isinstance(source, MergeCore):
                merge = source
                merge._gather_open(channels)
            else:
                channels.append(source)
        return True

    def found_closed(self, channel: ChannelCore) -> None:
        """A select found `channel` closed and drained."""
        for source in self.sources():
            if isinstance(source, MergeCore):
                source.found_closed(channel)
                closed = source._channel
                if not closed._closed:
                    continue
            elif source is channel:
                closed = channel
            else:
                continue
            if closed._error is not None:
                self._channel.close(closed._error)
            replaced = False
            while not replaced:
                before = self.sources()
                after = tuple([other for other in before if other is not source])
                replaced = self._replace(before, after)
        if not self.sources():
            self._channel.close()


def disown_view(view: ReceiverCore) -> None:
    """Nobody else knows `view` yet: let any thread be the one that drops it. Free-threaded, an object that another
    thread drops lives on until the thread that made it runs again, which may be waiting for just that.
    """
    disown(view)
