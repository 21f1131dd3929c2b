"""Stacks as pairs of a code and an instruction: what can be worked out later is worked out when it is needed."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from penstock.deadlock.stacks import BOUNDARIES, Frame, is_library, is_machinery

if TYPE_CHECKING:
    from types import CodeType, FrameType

    Place = tuple[CodeType, int]
    Trace = tuple[Place, ...]

DEPTH = 24
"""So many frames of a stack are told."""


def trace_of(frame: FrameType | None) -> Trace:
    """The stack from `frame` outwards."""
    trace: list[Place] = []
    while frame is not None and len(trace) < DEPTH and frame.f_code not in BOUNDARIES:
        trace.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return tuple(trace)


def callers_frame() -> FrameType:
    """The innermost frame that is not the library's."""
    frame = sys._getframe(1)
    while is_library(frame.f_code) and frame.f_back is not None:
        frame = frame.f_back
    return frame


def innermost(trace: Trace) -> Place | None:
    """The innermost place that is not the library's."""
    return next((place for place in trace if not is_library(place[0])), None)


def stack_of(trace: Trace) -> tuple[Frame, ...]:
    """The user's frames of the stack, the innermost last; all of it, if there is none of the user's."""
    frames = [place for place in trace if not is_machinery(place[0])]
    return tuple(Frame(code.co_filename, _line(code, at), code.co_qualname) for code, at in reversed(frames or trace))


def _line(code: CodeType, instruction: int) -> int:
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno
