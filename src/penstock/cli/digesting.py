"""The pipeline of `penstock digest`: a walker feeds a bounded channel, digesters read and hash.

The bounded pipeline of the Go blog's article on pipelines and cancellation ("MD5All", Sameer Ajmani, 2014), grown up.
"""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING, NamedTuple

from penstock._kernel.threads import HAS_GIL
from penstock.channel import Channel
from penstock.context import cancel_scope, current
from penstock.group import Group
from penstock.patterns.done import call
from penstock.sync import Semaphore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from penstock.context import Context

CHUNK = 1 << 20
SMALL = 1 << 16
PATIENCE = 0.003
BATCHES_WITHOUT = 16
TINY = 4096
_OPEN = os.O_RDONLY | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_BINARY", 0)


class Digested(NamedTuple):
    """One file's outcome: its digest, or the error that kept it from being read."""

    path: bytes
    digest: str
    error: OSError | None


class Tally:
    """What has been done so far. Each digester has its own, so that nobody waits for a count."""

    __slots__ = ("bytes", "files")

    def __init__(self) -> None:
        self.files = 0
        self.bytes = 0


class Turn:
    """A digester's leave to work on small files: with a GIL, one at a time has it.

    Between the calls of the system that a small file takes are a few microseconds, and each call lets go of the GIL:
    who waits for it is woken every time, mostly in vain, and two digesters take longer than one. But a disk or a
    network that lets one wait is better asked by several, and what is large enough is hashed without the GIL: who has
    waited for PATIENCE seconds, or had larger files, works without leave for some batches.
    """

    __slots__ = ("_begun", "_has", "_turns", "_without")

    def __init__(self, turns: Semaphore) -> None:
        self._turns = turns
        self._begun = False
        self._has = False
        self._without = 0

    def take(self) -> None:
        """A file begins."""
        if self._begun or self._without:
            return
        self._begun = True
        try:
            self._turns.acquire(timeout=PATIENCE)
            self._has = True
        except TimeoutError:
            self._without = BATCHES_WITHOUT

    def give(self) -> None:
        """What comes now takes long."""
        self._begun = False
        if self._has:
            self._has = False
            self._turns.release()

    def end(self, files: int, size: int) -> None:
        """A batch of so many files, of so many bytes in all, is done."""
        self.give()
        if self._without:
            self._without -= 1
        elif size > files * TINY:
            self._without = BATCHES_WITHOUT


def _size(path: bytes) -> int:
    try:
        return os.stat(path).st_size  # noqa: PTH116  paths are bytes
    except OSError:
        return 0  # Whoever reads it will tell.


class Digesting:
    """A run of the pipeline, and what it has come to."""

    def __init__(self, algorithm: str, jobs: int, fail_fast: bool) -> None:
        self._new = getattr(hashlib, algorithm)
        self.digits: int = self._new().digest_size * 2
        self._jobs = jobs
        self._fail_fast = fail_fast
        self._scope: Context | None = None
        self.tallies = [Tally() for _ in range(jobs)]
        self.weigh = False
        """Is the size of what is found wanted? It costs a system call for each file."""
        self.weight = 0
        self.found = 0
        self.walked = False
        self.outcomes: list[Digested] = []
        self._turns = Semaphore(1 if HAS_GIL else jobs)

    def run(self, walk: Callable[[], Iterator[list[bytes]]]) -> list[Digested]:
        """Digest what `walk` finds, and return the outcomes by path. Obeys the ambient context.

        What stops it is not held up by a read that hangs: of a fifo, or on a network that is gone.
        """
        with cancel_scope() as self._scope:
            call(self._pipeline, walk)
        return sorted(self.outcomes)

    def _pipeline(self, walk: Callable[[], Iterator[list[bytes]]]) -> None:
        batches: Channel[list[bytes]] = Channel(2 * self._jobs, name="batches of paths")
        with Group() as group:
            group.go(self._feed, walk, batches)
            for tally in self.tallies:
                group.go(self._digest_batches, batches, tally)

    def failed(self, path: bytes, error: OSError) -> None:
        """A file or directory could not be read."""
        self.outcomes.append(Digested(path, "", error))
        if self._fail_fast and self._scope is not None:
            self._scope.cancel(error)

    def _feed(self, walk: Callable[[], Iterator[list[bytes]]], batches: Channel[list[bytes]]) -> None:
        with batches:
            for batch in walk():
                self.found += len(batch)
                if self.weigh:
                    self.weight += sum(map(_size, batch))
                batches.send(batch)
        self.walked = True

    def _digest_batches(self, batches: Iterable[list[bytes]], tally: Tally) -> None:
        buffer = memoryview(bytearray(CHUNK))
        context = current()
        turn = Turn(self._turns)
        for batch in batches:
            outcomes = []
            before = tally.bytes
            try:
                for path in batch:
                    context.check()
                    turn.take()
                    try:
                        outcomes.append(Digested(path, self._digest(path, buffer, tally, turn), None))
                    except OSError as error:
                        self.failed(path, error)
            finally:
                turn.end(len(batch), tally.bytes - before)
            self.outcomes += outcomes
            tally.files += len(batch)

    def _digest(self, path: bytes, buffer: memoryview, tally: Tally, turn: Turn) -> str:
        file = os.open(path, _OPEN)
        try:
            start = os.read(file, SMALL)
            tally.bytes += len(start)
            hasher = self._new(start)
            if len(start) == SMALL:
                turn.give()
                self._digest_rest(file, hasher, buffer, tally)
            elif start and (more := os.read(file, SMALL)):  # No plain file: those have been read whole.
                turn.give()
                hasher.update(more)
                self._digest_rest(file, hasher, buffer, tally)
        finally:
            os.close(file)
        return hasher.hexdigest()  # type: ignore[no-any-return]

    def _digest_rest(self, file: int, hasher: hashlib._Hash, buffer: memoryview, tally: Tally) -> None:
        context = current()
        while count := os.readv(file, [buffer]) if hasattr(os, "readv") else self._read_into(file, buffer):
            hasher.update(buffer[:count])
            tally.bytes += count
            context.check()

    @staticmethod
    def _read_into(file: int, buffer: memoryview) -> int:
        data = os.read(file, len(buffer))
        buffer[: len(data)] = data
        return len(data)
