"""Real threads that carry the tasks of explored worlds, one after the other."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import Seat, start_for_real
from penstock._kernel.threads import this_thread

if TYPE_CHECKING:
    from collections.abc import Callable


class Carrier:
    """One thread. While the task that it carries does not run, it rests on its `seat`."""

    def __init__(self, crew: Crew) -> None:
        self._crew = crew
        self._jobs = Seat()
        self._job: tuple[Callable[[Any], None], Any] | None = None
        self.seat = Seat()
        self.ident = 0

    def go(self, function: Callable[[Any], None], actor: Any) -> None:
        """Call `function(actor)` in this thread."""
        self._job = (function, actor)
        self._jobs.rouse()

    def dismiss(self) -> None:
        """Let the thread end."""
        self._job = None
        self._jobs.rouse()

    def work(self) -> None:
        """What the thread does."""
        self.ident = this_thread()
        before = _pin(self._crew.processor)
        try:
            while True:
                self._jobs.rest()
                if self._job is None:
                    return
                function, actor = self._job
                self._job = None
                function(actor)
                del function, actor
                self._crew.back(self)
        finally:
            _unpin(before)


class Crew:
    """The carriers of one exploration."""

    def __init__(self) -> None:
        self._idle: list[Carrier] = []
        self.lost = 0
        self.processor = _processor()

    def carrier(self) -> Carrier:
        """One that has nothing to do."""
        if self._idle:
            return self._idle.pop()
        carrier = Carrier(self)
        start_for_real(carrier.work)
        return carrier

    def back(self, carrier: Carrier) -> None:
        """Its job has ended."""
        self._idle.append(carrier)

    def lose(self, carrier: Carrier) -> None:
        """It is not coming back."""
        carrier.dismiss()
        self.lost += 1

    def dismiss(self) -> None:
        """Let all threads end."""
        while self._idle:
            self._idle.pop().dismiss()


def _processor() -> int | None:
    """The processor for all carriers of a crew: with the GIL, one processor is where handing over costs least."""
    if not hasattr(os, "sched_getaffinity") or not gil_enabled():
        return None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[os.getpid() % len(allowed)]


def _pin(processor: int | None) -> set[int] | None:
    if processor is None:
        return None
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {processor})
    return before


def _unpin(before: set[int] | None) -> None:
    if before is not None:
        os.sched_setaffinity(0, before)


def gil_enabled() -> bool:
    """Is there a GIL, and is it on?"""
    return getattr(sys, "_is_gil_enabled", lambda: True)()
