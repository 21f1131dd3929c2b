"""Where the user's code is: the lines that a report names."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from types import FrameType


def place_of(frame: FrameType | None) -> tuple[str, int]:
    """A line of a file."""
    return ("", 0) if frame is None else (frame.f_code.co_filename, frame.f_lineno)


def is_users(frame: FrameType) -> bool:
    """Is it of the user's code, and not of what runs it?"""
    name = frame.f_globals.get("__name__", "")
    return not name.startswith(("penstock.", "asyncio.")) and name not in {"threading", "contextlib"}


def user_frame() -> FrameType | None:
    """Where the user's code called."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and not is_users(frame):
        frame = frame.f_back
    return frame


def own_frame() -> FrameType | None:
    """As `user_frame`, and not in the standard library either."""
    frame = user_frame()
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in sys.stdlib_module_names:
        frame = frame.f_back
    return frame


def at(place: tuple[str, int]) -> str:
    """A line of a file, in words."""
    return f"{Path(place[0]).name}:{place[1]}" if place[1] else ""
