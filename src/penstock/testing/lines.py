"""Switching tasks between the lines of one file."""

from __future__ import annotations

from functools import partial
from inspect import unwrap
from typing import TYPE_CHECKING, Any

from penstock.testing.places import is_users

if TYPE_CHECKING:
    from types import FrameType

    from penstock.testing.world import ExploredWorld


def line_tracer(scenario: Any, world: ExploredWorld) -> Any:
    """A trace function with a switch point before each line of the file that defines `scenario`."""
    while isinstance(scenario, partial):
        scenario = scenario.func
    scenario = unwrap(scenario)
    code = getattr(scenario, "__code__", None) or getattr(type(scenario).__call__, "__code__", None)
    if code is None:
        raise TypeError(f"lines=True needs a scenario that is written in Python, not {scenario!r}")
    file = code.co_filename

    def at_line(frame: FrameType, event: str, _argument: Any) -> Any:
        if event == "line" and not world.over:
            world.point_at_line(frame)
        return at_line

    def at_call(frame: FrameType, _event: str, _argument: Any) -> Any:
        # A file may have the name of another's code: "<string>" is that of `python -c` and of dataclasses.
        return at_line if frame.f_code.co_filename == file and is_users(frame) else None

    return at_call
