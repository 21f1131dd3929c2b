"""Which locks are held by the blocks of `with` and `async with` that a task is in, as its frames tell.

A lock knows no owner, only the thread that locked it last. But where a block is being executed, what will leave it
stands at a known place of the frame's evaluation stack, which the code's table of exception handlers tells.
"""

from __future__ import annotations

import dis
import gc
from types import BuiltinMethodType, MethodType
from typing import TYPE_CHECKING, Any

from penstock.deadlock.frames import Reader, layout_of_frames, stack_of

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CodeType, FrameType

_METHODS = (MethodType, BuiltinMethodType)
_DEEPEST = 50  # Blocks in each other; more are not looked at.


class Blocks:
    """Finds the blocks that hold certain locks, which are given as pairs with what passes for each."""

    def __init__(self, locks: Iterable[tuple[Any, Any]]) -> None:
        self._layout = layout_of_frames()
        self._reader = Reader() if self._layout is not None else None
        self._leaving = {id(passing): lock for passing, lock in locks}
        """What stands in the frame while a block is executed: the lock or its method, by address."""
        self._kept = [passing for passing, _ in locks]
        for method in gc.get_referrers(*self._kept) if self._kept else ():
            if type(method) in _METHODS and id(method.__self__) in self._leaving:
                self._leaving[id(method)] = self._leaving[id(method.__self__)]
                self._kept.append(method)

    def held_in(self, frame: FrameType) -> list[Any]:
        """The locks that are held by the blocks that `frame` is in."""
        if self._layout is None or self._reader is None:
            return []
        found = []
        try:
            depths = blocks_at(frame.f_code, frame.f_lasti)
            stack = stack_of(self._reader, self._layout, frame) if depths else ()
        except OSError:
            return []
        for depth in depths:
            for word in stack[max(0, depth - 2) : depth]:
                lock = self._leaving.get(word & ~3)
                if lock is not None:
                    found.append(lock)
                    break
        return found

    def close(self) -> None:
        """Read no more, and keep nothing."""
        self._leaving.clear()
        self._kept.clear()
        if self._reader is not None:
            self._reader.close()


def blocks_at(code: CodeType, offset: int) -> list[int]:
    """Of each `with` around the instruction at `offset`: how deep the stack is with what it keeps there on top."""
    entries = dis._parse_exception_table(code)  # type: ignore[attr-defined]
    if not entries:
        return []
    names = {instruction.offset: instruction.opname for instruction in dis.get_instructions(code)}
    depths = []
    for _ in range(_DEEPEST):
        around = [entry for entry in entries if entry.start <= offset < entry.end]
        if not around:
            break
        offset = around[0].target
        if names.get(offset) == "PUSH_EXC_INFO" and names.get(offset + 2) == "WITH_EXCEPT_START":
            depths.append(around[0].depth)
    return depths
