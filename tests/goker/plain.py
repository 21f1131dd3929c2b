"""Runs kernels plainly, on threads and in real time, and compares what is stuck with what `leaks()` says.

A program: `python plain.py --runs 3 NAME...` prints as JSON what has become of each kernel. Each run of a kernel is a
task of its own, so that the main thread goes on whatever becomes of it.

What is stuck is found out without the library's help. Nothing in a kernel takes longer than milliseconds: when the
operating system has not let any of the threads that are at a task run for a good while, because all of them sleep, then
those tasks will never end. On a busy machine even that may be said too early, so what is said is compared again until
both agree; what `leaks()` says must be true at once, and is asked for while the kernels run, too.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from contextvars import ContextVar
from importlib import import_module
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from kernels import goroutines
from kernels.registry import KERNELS

from penstock import group
from penstock.deadlock import leaks

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from types import FrameType

HERE = str(Path(__file__).parent / "kernels") + os.sep
QUIET = 0.05
"""Seconds, some 20 times as long as anything in a kernel takes."""
HELD_UP, HELD_UP_LONG = 0.002, 0.3
PATIENCE = 20.0


class Stuck(NamedTuple):
    """One task that waits for ever."""

    task: int
    """Its address, 0 for a thread that works for no task: a timer's."""
    place: str
    """Where in the kernel it waits; empty where the library alone is at work."""


class Whose(NamedTuple):
    kernel: str
    run: int
    stuck: Stuck


class Runs:
    """Which run each task belongs to: that of the task that starts it. Only addresses are kept, which keep nothing
    alive.
    """

    def __init__(self) -> None:
        self._numbers = count()
        self._current = ContextVar("run", default=-1)
        self._of_task: dict[int, int] = {}
        self._kernels: dict[int, str] = {-1: ""}
        made = group.Task.__init__

        def made_in_run(task: Any, *args: Any) -> None:
            self._of_task[id(task)] = self._current.get()
            made(task, *args)

        group.Task.__init__ = made_in_run  # type: ignore[method-assign]

    def start(self, name: str, fixed: bool) -> None:
        """Begin a run of that kernel."""
        number = next(self._numbers)
        self._kernels[number] = name
        token = self._current.set(number)
        goroutines.go(KERNELS[name].run, fixed)
        self._current.reset(token)

    def of(self, stuck: Stuck) -> Whose:
        """Whose that is; no kernel's if that is not known, and run -1 if only the kernel is."""
        number = self._of_task.get(stuck.task, -1)
        name = self._kernels[number] or re.split("[.:]", stuck.place)[0].replace("_", " ")
        return Whose(name if name in KERNELS else "", number, stuck)

    def of_all(self, those: Counter[Stuck]) -> Counter[Whose]:
        return Counter(map(self.of, those.elements()))


class Noise:
    """Holds threads up now and then, between one instruction of a kernel and the next, as a busy machine would.

    So bugs happen that else are rare; and who waits for such a thread waits long enough for `leaks()` to look at.
    """

    def __init__(self) -> None:
        self._loud = True

    def stop(self) -> None:
        """Hold up nobody any more."""
        self._loud = False
        time.sleep(2 * HELD_UP_LONG)

    def trace(self, frame: FrameType, _event: str, _argument: object) -> Any:
        """For `threading.settrace`."""
        if not frame.f_code.co_filename.startswith(HERE):
            return None
        frame.f_trace_opcodes = True
        return self._hold_up

    def _hold_up(self, _frame: FrameType, event: str, _argument: object) -> Any:
        if self._loud and event == "opcode" and random.random() < 0.02:
            time.sleep(HELD_UP_LONG if random.random() < 0.02 else random.random() * HELD_UP)
        return self._hold_up


def kernel_place(frames: Iterable[tuple[str, int, str]]) -> str:
    """The innermost of the places that is a kernel's, given from the innermost outwards."""
    for file, line, function in frames:
        if file.startswith(HERE):
            return f"{function}:{line}"
    return ""


def outwards(frame: FrameType | None) -> Iterator[FrameType]:
    while frame is not None:
        yield frame
        frame = frame.f_back


def place_of(frame: FrameType) -> tuple[str, int, str]:
    return frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname


def at_work(frame: FrameType) -> bool:
    """Is that thread at a task, or at what a timer has started?"""
    return any(
        each.f_code is group._run.__code__ or each.f_code.co_filename.startswith(HERE) for each in outwards(frame)
    )


def threads_at_work() -> list[int]:
    return [ident for ident, frame in sys._current_frames().items() if at_work(frame)]


def rest(ident: int, natives: dict[int, int]) -> tuple[str, ...]:
    """What the operating system says of a thread: does it sleep, and how often has it been let run?"""
    try:
        status = Path(f"/proc/self/task/{natives[ident]}/status").read_text("ascii", "replace")
    except (OSError, KeyError):
        return ("gone",)
    return tuple(line for line in status.splitlines() if line.startswith(("State", "voluntary", "nonvoluntary")))


def rests() -> dict[int, tuple[str, ...]]:
    natives = {thread.ident: thread.native_id for thread in threading.enumerate()}
    return {ident: rest(ident, natives) for ident in threads_at_work()}


def settle(deadline: float) -> None:
    """Wait until all threads that are at work sleep and go on sleeping."""
    before: object = None
    while time.monotonic() < deadline:
        now = rests()
        if now == before and all("sleeping" in status[0] for status in now.values()):
            return
        before = now
        time.sleep(QUIET)


def stuck() -> Counter[Stuck]:
    """Where the threads are that are at work."""
    found: Counter[Stuck] = Counter()
    for ident, frame in sys._current_frames().items():
        if ident != threading.get_ident() and at_work(frame):
            frames = list(outwards(frame))
            tasks = [id(each.f_locals["task"]) for each in frames if each.f_code is group._run.__code__]
            found[Stuck(tasks[0] if tasks else 0, kernel_place(map(place_of, frames)))] += 1
    return found


def reported() -> Counter[Stuck]:
    """What `leaks()` says."""
    found: Counter[Stuck] = Counter()
    for leak in leaks():
        frames = [(frame.file, frame.line, frame.function) for frame in reversed(leak.stack)]
        found[Stuck(0 if leak.task is None else id(leak.task), kernel_place(frames))] += 1
    return found


def run(names: Sequence[str], times: int, fixed: bool, noise: Noise | None) -> dict[str, Any]:
    """Run these kernels so often, and find out what is stuck and what is reported."""
    errors: list[str] = []
    sys.unraisablehook = lambda raised: errors.append(f"{raised.exc_value!r} {raised.exc_value.__notes__}")
    runs = Runs()
    early: Counter[Whose] = Counter()
    for number, name in enumerate(names):
        for _ in range(times):
            runs.start(name, fixed)
        if number % (4 if fixed else 16) == 0:  # What is stuck by then makes it slow.
            early |= runs.of_all(reported())
        time.sleep(0.003)
    if noise is not None:
        noise.stop()
    deadline = time.monotonic() + PATIENCE
    while True:
        settle(deadline)
        said, found = runs.of_all(reported()), runs.of_all(stuck())
        if said == found or time.monotonic() > deadline:
            break
    gc.collect()
    return {"kernels": compared(names, found, said, early), "errors": errors}


def compared(
    names: Sequence[str], found: Counter[Whose], said: Counter[Whose], early: Counter[Whose]
) -> dict[str, dict[str, Any]]:
    """For each kernel: the runs in which tasks were stuck, how many of these were reported in full, and what was not
    as it should be. For no kernel: what could not be told whose it is.
    """
    outcomes: dict[str, dict[str, Any]] = {}
    for name in [*names, ""]:
        happened = {one.run for one in found if one.kernel == name and one.run >= 0}
        missed = [one for one in (found - said).elements() if one.kernel == name]
        alarms = [one for one in ((said | early) - found).elements() if one.kernel == name]
        outcomes[name] = {
            "happened": len(happened),
            "reported": len(happened - {one.run for one in missed}),
            "missed": [one.stuck.place for one in missed],
            "alarms": [one.stuck.place for one in alarms],
        }
    return outcomes


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1)
    parser.add_argument("--fixed", action="store_true")
    parser.add_argument("--noise", action="store_true")
    parser.add_argument("names", nargs="*")
    args = parser.parse_args()
    for path in sorted(Path(HERE).glob("*.py")):
        import_module(f"kernels.{path.stem}")
    sys.setswitchinterval(1e-5)
    noise = Noise() if args.noise else None
    if noise is not None:
        threading.settrace(noise.trace)
    print(json.dumps(run(args.names or sorted(KERNELS), args.runs, args.fixed, noise)), flush=True)
    os._exit(0)  # Threads that wait for ever shall not hold this up.


if __name__ == "__main__":
    main()
