"""One search at a time: what one keeps meanwhile would look to another like something that is held."""

from __future__ import annotations

import os

from penstock._kernel.locks import SemaphoreCore
from penstock._kernel.threads import this_thread

_PATIENCE = 10.0  # Seconds to wait for another thread's search.


class Turn:
    """The right to search."""

    def __init__(self) -> None:
        self._place = SemaphoreCore(1)
        self._holder = 0

    def take(self) -> bool:
        """False: this thread has the turn already, and is interrupted by a signal handler; or it takes too long."""
        me = this_thread()
        if self._holder == me or not self._place.enter_shielded(_PATIENCE, "leaks"):
            return False
        self._holder = me
        return True

    def try_take(self) -> bool:
        """Take it if nobody has it."""
        if not self._place.try_acquire():
            return False
        self._holder = this_thread()
        return True

    def give(self) -> None:
        """It is another's turn."""
        self._holder = 0
        self._place.release()

    def after_fork(self) -> None:
        """In the child process: who had the turn has stayed behind."""
        if self._holder != this_thread():
            self._holder = 0
            self._place = SemaphoreCore(1)


TURN = Turn()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=TURN.after_fork)
