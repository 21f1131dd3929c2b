"""Stacks that cost little to take down: where each frame was is worked out when somebody asks."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import CodeType

    Stack = tuple[tuple[CodeType, int], ...]

DEPTH = 16
"""How many frames are taken down."""

_PACKAGE = str(Path(__file__).parent.parent)


def take_down(skip: int) -> Stack:
    """The calling task's stack, innermost frame first, without the `skip` innermost ones."""
    frame = sys._getframe(skip + 1)
    stack = []
    while frame is not None and len(stack) < DEPTH:
        stack.append((frame.f_code, frame.f_lasti))
        frame = frame.f_back  # type: ignore[assignment]
    return tuple(stack)


def is_own(code: CodeType) -> bool:
    """Is it the library's?"""
    return code.co_filename.startswith(_PACKAGE)


def outside(stack: Stack) -> Stack:
    """The stack without the library's innermost frames."""
    for at, (code, _) in enumerate(stack):
        if not is_own(code):
            return stack[at:]
    return stack


def line_of(code: CodeType, instruction: int) -> int:
    """The line of source of an instruction."""
    for start, end, line in code.co_lines():
        if start <= instruction < end and line is not None:
            return line
    return code.co_firstlineno


def lines(stack: Stack) -> list[str]:
    """The stack as a traceback shows it, innermost frame last."""
    frames = [(code.co_filename, line_of(code, at), code.co_name, None) for code, at in reversed(outside(stack))]
    return [line for entry in traceback.format_list(frames) for line in entry.rstrip("\n").split("\n")]
