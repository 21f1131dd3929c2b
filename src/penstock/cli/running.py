"""`penstock run`: run any program as Python would, watched."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING

from penstock import deadlock
from penstock.cli import programs
from penstock.deadlock import lock_order
from penstock.deadlock.asleep import SETTINGS
from penstock.deadlock.quiet import wait_until_parked
from penstock.deadlock.reporting import leaked
from penstock.deadlock.stacks import BOUNDARIES
from penstock.deadlock.watching import tell_of_deadlock
from penstock.errors import DeadlockError

if TYPE_CHECKING:
    from types import TracebackType

FAILED = 1
DEADLOCK = 2
PATIENCE = 1.0
"""So long, in seconds, what runs at the end may take to park, before leaks are listed."""


class Program:
    """A program that is to be run. It is found when it is run, since that may import modules of its own."""

    def __init__(self, name: str, arguments: tuple[str, ...], *, is_module: bool) -> None:
        self._name = name
        self._arguments = arguments
        self._is_module = is_module

    def run(self) -> int:
        """Run it, and tell of the tasks that it has leaked. Returns the exit code, or raises the program's own exit."""
        if hasattr(signal, "SIGPIPE"):
            signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # As Python has it; the command line has not.
        deadlock.watch()
        lock_order.start(threading=True)
        SETTINGS.end = _end
        try:
            self._run()
        except SystemExit:
            _list_leaks()
            raise
        except KeyboardInterrupt as error:
            _show(error)
            _list_leaks()
            sys.excepthook = _silent
            raise  # So that Python ends by the signal, as it does of itself.
        except programs.NoProgramError as error:
            error.show()
            return error.exit_code
        except BaseException as error:  # noqa: BLE001  shown as Python shows it
            _show(error)
            if _is_deadlock(error):
                return DEADLOCK
            _list_leaks()
            return FAILED
        _list_leaks()
        return 0

    def _run(self) -> None:
        find = programs.find_module if self._is_module else programs.find_script
        sys.argv[:] = ["-m" if self._is_module else self._name, *self._arguments]
        found = find(self._name)
        sys.argv[0] = found.argv0
        sys.modules["__main__"] = found.module
        exec(found.code, found.module.__dict__)  # noqa: S102  that is what it is for


BOUNDARIES.add(Program._run.__code__)


def _end() -> None:
    """All is asleep, and the main thread is where nothing can be raised: end the process."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
    tell_of_deadlock()
    os._exit(DEADLOCK)


def _is_deadlock(error: BaseException) -> bool:
    if isinstance(error, BaseExceptionGroup):
        return error.subgroup(DeadlockError) is not None
    return isinstance(error, DeadlockError)


def _silent(*_: object) -> None:
    """What was to be shown has been shown."""


def _show(error: BaseException) -> None:
    """Show an uncaught error as Python would: by the program's own hook, if it has one, and without our frames."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and trace.tb_frame.f_code.co_filename in (__file__, programs.__file__):
        trace = trace.tb_next
    error.__traceback__ = trace
    try:
        sys.excepthook(type(error), error, trace)
    except Exception as failed:  # noqa: BLE001  the hook is the program's
        sys.__excepthook__(type(failed), failed, failed.__traceback__)
        sys.__excepthook__(type(error), error, trace)
    else:
        if sys.excepthook is not sys.__excepthook__ and isinstance(error, DeadlockError):
            print(error, file=sys.stderr)


def _list_leaks() -> None:
    """Tell on standard error which tasks the program leaves behind that nothing can wake."""
    wait_until_parked(PATIENCE)
    tasks = deadlock.leaks()
    if tasks:
        print(f"penstock: {leaked(tasks)}", file=sys.stderr)
