"""The threads of the process that are not the library's, as far as Python can know them."""

from __future__ import annotations

import linecache
import os
import signal
import sys
from typing import TYPE_CHECKING, Any

from penstock._kernel.loops import is_runners_handler

if TYPE_CHECKING:
    from types import FrameType

_TASKS = "/proc/self/task"


def python_threads() -> dict[int, FrameType]:
    """The innermost frame of every thread that runs Python, those of other interpreters too."""
    return sys._current_frames()


def native_threads() -> int | None:
    """How many threads the process has, Python's and others; None where that cannot be known."""
    try:
        return len(os.listdir(_TASKS))  # noqa: PTH208  names are enough
    except OSError:
        return None


def is_idle_executor_thread(frame: FrameType) -> bool:
    """Is it a thread of a `ThreadPoolExecutor` that waits for work, and none has been submitted?"""
    futures = sys.modules.get("concurrent.futures.thread")
    if futures is None or frame.f_code is not futures._worker.__code__:
        return False
    if "work_queue.get(block=True)" not in linecache.getline(frame.f_code.co_filename, frame.f_lineno):
        return False
    queue = frame.f_locals.get("work_queue")
    return queue is not None and bool(queue.empty())


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


def waits_for_threads_to_end(frame: FrameType) -> bool:
    """Has the main thread, whose innermost frame this is, ended, so that Python waits for the others?"""
    threading = sys.modules.get("threading")
    return threading is not None and frame.f_code is threading._shutdown.__code__
