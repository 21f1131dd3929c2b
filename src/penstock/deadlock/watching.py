"""Watching a program: everything that this package can find out while it runs, switched on together."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import Seat
from penstock._kernel.threads import start_daemon
from penstock.deadlock import lock_order as order
from penstock.deadlock.asleep import SETTINGS, LoopObserver
from penstock.deadlock.naming import record_sites
from penstock.deadlock.reporting import report
from penstock.deadlock.serving import Server

if TYPE_CHECKING:
    from types import FrameType

_QUIT: int | None = getattr(signal, "SIGQUIT", None)


class Watcher:
    """A thread that looks after the main thread's event loop, and prints a report when it is asked to."""

    def __init__(self) -> None:
        self._seat = Seat()
        self._stopped = False
        self._asked = False

    def start(self) -> None:
        start_daemon(self._watch, "penstock-watcher")

    def stop(self) -> None:
        self._stopped = True
        self._rouse()

    def ask(self) -> None:
        """Let a report be printed. May be called from a signal handler."""
        self._asked = True
        self._rouse()

    def _rouse(self) -> None:
        with suppress(RuntimeError):  # Roused already.
            self._seat.rouse()

    def _watch(self) -> None:
        observer = LoopObserver()
        seconds = 0.5
        while True:
            self._seat.rest(seconds)
            if self._stopped:
                return
            try:
                if self._asked:
                    self._asked = False
                    print_report()
                seconds = observer.look()
            except Exception as error:  # noqa: BLE001  who watches must not fail what is watched
                sys.excepthook(type(error), error, error.__traceback__)
                seconds = 10.0


def print_report(heading: str = "") -> None:
    """Write a report to standard error, whatever `sys.stderr` is, and whoever is writing there."""
    text = f"{heading}{report()}\n".encode(errors="backslashreplace")
    while text:
        text = text[os.write(2, text) :]


def tell_of_deadlock() -> None:
    """Where `DeadlockError` cannot be raised: the main thread waits for other threads, or has ended."""
    print_report("penstock: all tasks are asleep, and nothing is left that could wake one\n\n")


class _Watch:
    """What `watch` has switched on."""

    def __init__(self) -> None:
        self.watcher: Watcher | None = None
        self.server: Server | None = None
        self.sites = False
        self.lock_order = False
        self.signals = False
        self.before: Any = None
        """The handler of SIGQUIT before ours."""

    @property
    def on(self) -> bool:
        return self.watcher is not None

    def start_threads(self) -> None:
        self.watcher = Watcher()
        self.watcher.start()
        self.server = Server()
        self.server.start()

    def stop_threads(self) -> None:
        watcher, self.watcher = self.watcher, None
        if watcher is not None:
            watcher.stop()
        server, self.server = self.server, None
        if server is not None:
            server.stop()

    def after_fork(self) -> None:
        """In the child process: the threads have stayed behind, and what they served is the parent's."""
        if self.on:
            if self.server is not None:
                self.server.forget()
            self.start_threads()

    def take_signal(self) -> None:
        if self.signals or _QUIT is None:
            return
        before = signal.getsignal(_QUIT)
        try:
            signal.signal(_QUIT, self._asked)
        except ValueError:
            return  # Not the main thread: that is for it alone to set.
        self.signals = True
        self.before = before
        if not callable(before):
            SETTINGS.own_handlers.append(self._asked)

    def give_signal_back(self) -> None:
        if self.signals and _QUIT is not None and signal.getsignal(_QUIT) == self._asked:
            try:
                signal.signal(_QUIT, signal.SIG_DFL if self.before is None else self.before)
            except ValueError:
                return
        self.signals = False
        if self._asked in SETTINGS.own_handlers:
            SETTINGS.own_handlers.remove(self._asked)

    def _asked(self, number: int, frame: FrameType | None) -> None:
        watcher = self.watcher
        if watcher is not None:
            watcher.ask()
        if callable(self.before):
            self.before(number, frame)


_WATCH = _Watch()

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_WATCH.after_fork)


def watch(*, sites: bool = True, lock_order: bool = True, signals: bool = True) -> None:
    r"""Watch this program from now on.

    - `DeadlockError` is raised in the main task of an event loop too, and sooner in the main thread. Elsewhere than on
      Linux the threads that are not Python's cannot be seen: it is taken for granted that they wake no task.
    - `sites`: what is made from now on remembers where, for reports.
    - `lock_order`: locks taken in different orders, and those taken twice: see `penstock.deadlock.lock_order`.
    - `signals`: SIGQUIT (Ctrl-\) prints a report to standard error, and the program goes on. Only the main thread can
      set this up.
    - `penstock dump PID` prints a report of this process, whatever its main thread is doing.

    Called again, it adds to what is on. A child process made by `os.fork` is watched as well.
    """
    if sites and not _WATCH.sites:
        _WATCH.sites = True
        record_sites(True)
    if lock_order and not _WATCH.lock_order:
        _WATCH.lock_order = True
        order.start()
    if signals:
        _WATCH.take_signal()
    if not _WATCH.on:
        SETTINGS.watching = True
        SETTINGS.end = tell_of_deadlock
        _WATCH.start_threads()


def unwatch() -> None:
    """Switch off what `watch` has switched on. Idempotent."""
    _WATCH.stop_threads()
    SETTINGS.watching = False
    SETTINGS.end = None
    _WATCH.give_signal_back()
    if _WATCH.lock_order:
        _WATCH.lock_order = False
        order.stop()
    if _WATCH.sites:
        _WATCH.sites = False
        record_sites(False)
