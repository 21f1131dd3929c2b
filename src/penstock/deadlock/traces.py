"""Stacks that cost little to take down: where each frame was is worked out when somebody asks."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from penstock.deadlock.stacks import BOUNDARIES, Frame, is_library

if TYPE_CHECKING:
    from types import CodeType, FrameType

    Trace = tuple[tuple[CodeType, int], ...]

DEPTH = 16
"""How many frames are taken down."""


def take_down(skip: int) -> Trace:
    """The calling task's stack, innermost frame first, without the `skip` innermost ones."""
    frame: FrameType | None = sys._getframe(skip + 1)
    trace: list[tuple[CodeType, int]] = []
    while frame is not None and len(trace) < DEPTH and frame.f_code not in BOUNDARIES:
        trace.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(trace)


def innermost(trace: Trace) -> tuple[CodeType, int] | None:
    """The innermost place that is not the library's."""
    return next((place for place in trace if not is_library(place[0])), None)


def stack_of(trace: Trace) -> tuple[Frame, ...]:
    """The user's part of the stack, the innermost frame last."""
    frames = list(trace)
    while frames and is_library(frames[0][0]):
        del frames[0]
    while frames and is_library(frames[-1][0]):
        frames.pop()
    return tuple(Frame(code.co_filename, _line(code, at), code.co_qualname) for code, at in reversed(frames))


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno
