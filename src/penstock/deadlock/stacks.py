"""Stacks of running and parked tasks, as plain data: files, lines and functions, nothing that keeps a frame alive."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from penstock._kernel.threads import frames_of_threads, this_thread

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

LIBRARY = str(Path(__file__).parent.parent) + "/"
_HERE = (LIBRARY + "deadlock/", LIBRARY + "_kernel/")
_THREADING = sys.modules["threading"].Thread.run.__code__.co_filename if "threading" in sys.modules else ""
_STANDARD = str(Path(_THREADING).parent) + "/"
_MACHINERY = (_STANDARD + "asyncio/", _STANDARD + "selectors.py", _STANDARD + "typing.py")
BOUNDARIES: set[CodeType] = set()
"""Functions that run a program: its stacks end where these are."""
_DEEPEST = 200  # Frames of one stack; deeper ones are cut off.


@dataclass(frozen=True)
class Frame:
    """One line of a stack."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}, in {self.function}"


def frame_of(frame: FrameType) -> Frame:
    """Where `frame` is now."""
    return Frame(frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_qualname)


def is_library(code: CodeType) -> bool:
    """Is it code of this package, or what a thread starts with?"""
    return code.co_filename.startswith(LIBRARY) or code.co_filename == _THREADING


def is_machinery(code: CodeType) -> bool:
    """Is it code of this package, of what runs threads and event loops, or of what `Channel[int]` is made by?"""
    return is_library(code) or code.co_filename.startswith(_MACHINERY)


def outwards(frame: FrameType | None) -> list[FrameType]:
    """`frame` and its callers."""
    frames: list[FrameType] = []
    while frame is not None and len(frames) < _DEEPEST and frame.f_code not in BOUNDARIES:
        frames.append(frame)
        frame = frame.f_back
    return frames


def innermost_frames() -> dict[int, FrameType]:
    """The innermost frame of each thread; of the calling one, the innermost that is not of this package.

    So nobody refers to frames that refer to him.
    """
    frames: dict[int, FrameType] = frames_of_threads()
    me = this_thread()
    frame: FrameType | None = frames.pop(me, None)
    while frame is not None and frame.f_code.co_filename.startswith(_HERE):
        frame = frame.f_back
    if frame is not None:
        frames[me] = frame
    return frames


def users_stack(frames: Iterable[FrameType]) -> tuple[Frame, ...]:
    """Of frames from the innermost outwards: the user's, the outermost first."""
    return tuple(frame_of(frame) for frame in reversed(list(frames)) if not is_machinery(frame.f_code))


def awaited(coroutine: Any) -> list[FrameType]:
    """The suspended frames of a coroutine, from the innermost outwards."""
    frames: list[FrameType] = []
    while coroutine is not None and len(frames) < _DEEPEST:
        for prefix in ("cr", "gi", "ag"):
            frame = getattr(coroutine, prefix + "_frame", None)
            if frame is not None:
                frames.append(frame)
                break
        else:
            break
        coroutine = getattr(coroutine, "gi_yieldfrom" if prefix == "gi" else prefix + "_await", None)
    return frames[::-1]


def local(frame: FrameType, name: str) -> Any:
    """A local variable of a frame that stands still."""
    return frame.f_locals.get(name)
