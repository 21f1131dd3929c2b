"""The threads of the process that are not the library's, as far as Python can know them."""

from __future__ import annotations

import linecache
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock._kernel.loops import is_runners_handler

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

_TASKS = "/proc/self/task"
_FUTEX = {"x86_64": "202", "aarch64": "98"}.get(os.uname().machine if hasattr(os, "uname") else "")
"""The number of futex(2)."""


def native_threads() -> int | None:
    """How many threads the process has, Python's and others; None where that cannot be known."""
    try:
        return len(os.listdir(_TASKS))  # noqa: PTH208  names are enough
    except OSError:
        return None


def sleeps(apart_from: Iterable[int]) -> frozenset[tuple[str, bytes]] | None:
    """Of each thread of the process how often it has gone to sleep; None if one of them is awake.

    The calling thread is left out, and so are those given by the system's numbers. Where nothing can be known, it is
    taken for granted that they are asleep. Twice the same: none of them has run in between.
    """
    left_out = {threading.get_native_id(), *apart_from}
    found = set()
    try:
        for number in os.listdir(_TASKS):  # noqa: PTH208  names are enough
            if int(number) not in left_out:
                with open(f"{_TASKS}/{number}/status", "rb") as file:  # noqa: PTH123  as above
                    status = file.read()
                if b"\nState:\tS" not in status:
                    return None
                found.add((number, status[status.rfind(b"\nvoluntary_ctxt_switches") :]))
    except OSError:
        return None if Path(_TASKS).exists() else frozenset()  # One has ended in this instant.
    return frozenset(found)


# Where threads are known to sleep until another thread wakes them, which has not been done. Each is proved by the line
# that its innermost frame is at; where there is no source to look at, nothing is.


def sleeps_for_others(frame: FrameType) -> bool:
    """Does a thread whose innermost frame this is sleep in the standard library, without a limit, for other threads?"""
    return is_idle_executor_thread(frame) or waits_for_condition(frame) or waits_for_thread(frame)


def is_idle_executor_thread(frame: FrameType) -> bool:
    """A thread of a `ThreadPoolExecutor` that waits for work, and none has been submitted."""
    worker = getattr(sys.modules.get("concurrent.futures.thread"), "_worker", None)  # It may be being imported.
    if worker is None or frame.f_code is not worker.__code__ or "work_queue.get(block=True)" not in _line(frame):
        return False
    queue = frame.f_locals.get("work_queue")
    return queue is not None and bool(queue.empty())


def waits_for_condition(frame: FrameType) -> bool:
    """One that waits to be notified: of a condition, an event, a queue."""
    if frame.f_code is not _threading("Condition.wait") or "waiter.acquire()" not in _line(frame):
        return False
    names = frame.f_locals
    if names.get("timeout") is not None or "saved_state" not in names:
        return False
    return bool(names["waiter"].locked())


def waits_for_thread(frame: FrameType) -> bool:
    """One that joins another, which has not ended."""
    if frame.f_code is _threading("Thread.join"):
        joins = ".join(timeout)" in _line(frame) and frame.f_locals.get("timeout") is None
    elif frame.f_code is _threading("Thread._wait_for_tstate_lock"):  # up to Python 3.12
        joins = "lock.acquire(block, timeout)" in _line(frame) and frame.f_locals.get("timeout") == -1
    else:
        return False
    return joins and bool(frame.f_locals["self"].is_alive())


def waits_for_ending(frame: FrameType, frames: dict[int, Any]) -> bool:
    """Does it join a thread that has nothing left to do but to end? That has no frame any more."""
    return waits_for_thread(frame) and frame.f_locals["self"].ident not in frames


def waits_for_threads_to_end(frame: FrameType) -> bool:
    """Has the main thread, whose innermost frame this is, ended, so that Python waits for others that have not?"""
    threading = sys.modules["threading"]
    return frame.f_code is _threading("_shutdown") and any(
        not thread.daemon and thread.is_alive() and thread is not threading.main_thread()
        for thread in list(threading._active.values())
    )


def waits_in_futex(native_id: int | None) -> bool:
    """Does a thread, by its number in the system, sleep without a limit until another one wakes it? Known on Linux."""
    try:
        number, _word, operation, _value, timeout = _system_call(native_id).split()[:5]
    except ValueError:  # "running", among others
        return False
    waits = int(operation, 16) & 0x7F in (0, 9)  # FUTEX_WAIT, FUTEX_WAIT_BITSET
    return number == _FUTEX and waits and int(timeout, 16) == 0


def runs(native_id: int | None) -> bool:
    """Is a thread, by its number in the system, known to run, or to be about to? Known on Linux."""
    return _system_call(native_id).startswith("running")


def others_run(native_ids: set[int | None]) -> bool:
    """Is a thread at work that is none of those, by its number in the system? Also if that cannot be known."""
    try:
        natives = set(map(int, os.listdir(_TASKS)))  # noqa: PTH208  names are enough
    except OSError:
        return True
    return any(_system_call(native).startswith("running") for native in natives - native_ids)


def _system_call(native_id: int | None) -> str:
    """What the system says of what a thread waits for: proc_pid_syscall(5)."""
    try:
        with open(f"{_TASKS}/{native_id}/syscall", encoding="ascii") as call:  # noqa: PTH123  proc is no tree of files
            return call.read()
    except OSError:
        return ""


def _threading(name: str) -> CodeType | None:
    """The code of a function of the module `threading`."""
    found: Any = sys.modules.get("threading")
    for part in name.split("."):
        found = getattr(found, part, None)
    return getattr(found, "__code__", None)


def _line(frame: FrameType) -> str:
    return linecache.getline(frame.f_code.co_filename, frame.f_lineno)


def signal_handlers() -> list[Any]:
    """The handlers of signals that are Python functions, without those that Python and asyncio set by themselves."""
    handlers = []
    for number in signal.valid_signals():
        try:
            handler = signal.getsignal(number)
        except ValueError:  # reserved by the platform
            continue
        if callable(handler) and handler is not signal.default_int_handler and not is_runners_handler(handler):
            handlers.append(handler)
    return handlers
