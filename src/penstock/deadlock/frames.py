"""What the frames of a running or parked thread refer to.

The garbage collector does not tell: to it a frame that executes is opaque. So its memory is read: the function, the
local variables and the evaluation stack, as far as it is in use. What counts is references that the frame owns; those
that it has borrowed from itself, as Python 3.14 does, are no others.

Where the layout of frames is not known, or is found not to be what it should, nothing is said.
"""

from __future__ import annotations

import dis
import os
import struct
import sys
from dataclasses import dataclass
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from typing import TYPE_CHECKING, Any

try:
    import ctypes
except ImportError:  # A Python built without it.
    ctypes = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from types import CodeType, FrameType

_WORD = struct.calcsize("P")
_GENERATOR = CO_GENERATOR | CO_COROUTINE | CO_ASYNC_GENERATOR
GIL: bool = getattr(sys, "_is_gil_enabled", lambda: True)()


@dataclass(frozen=True)
class Layout:
    """Where things stand in an interpreter frame, in words; after CPython's `pycore_frame.h`."""

    header: int
    function: int
    namespace: int
    top: int
    """The first free place of the stack."""
    top_is_pointer: bool
    """Is that an address? Otherwise a number of places from the local variables on, or -1 while it is not known."""
    collector_sees_generators: bool
    """Does a generator that executes show its references to the garbage collector?"""


_LAYOUTS = {
    (3, 11): Layout(9, 0, 3, 8, False, False),
    (3, 12): Layout(9, 2, 5, 8, False, False),
    (3, 13): Layout(9, 2, 5, 8, False, False),
    (3, 14): Layout(10, 2, 5, 8, True, True),
}


class Reader:
    """Reads this process's memory."""

    def __init__(self) -> None:
        self._file = -1
        if not GIL:
            # What another thread frees meanwhile must not be touched: to read from the file fails instead.
            self._file = os.open("/proc/self/mem", os.O_RDONLY | os.O_CLOEXEC)

    def words(self, address: int, count: int) -> tuple[int, ...]:
        """`count` machine words; OSError if they are not there."""
        if self._file < 0:
            return tuple((ctypes.c_size_t * count).from_address(address))
        return struct.unpack(f"{count}N", os.pread(self._file, count * _WORD, address))

    def close(self) -> None:
        """Read no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def places_of_locals(code: CodeType) -> int:
    """How many places local variables, cells and free variables take."""
    return len(set(code.co_varnames) | set(code.co_cellvars)) + len(code.co_freevars)


def references(reader: Reader, layout: Layout, frame: FrameType, *, borrowed: bool = False) -> list[int]:
    """The addresses of what `frame` refers to, each as often as it does so.

    For a generator of which the garbage collector tells it already: none. If what it has `borrowed` is asked for too,
    all of it.
    """
    code = frame.f_code
    generator = bool(code.co_flags & _GENERATOR)
    if generator and layout.collector_sees_generators and not borrowed:
        return []
    locals_at = layout.header
    places = places_of_locals(code)
    (address,) = reader.words(id(frame) + object.__basicsize__ + _WORD, 1)
    words = reader.words(address, locals_at + places + code.co_stacksize)
    found = list(words[locals_at : locals_at + places + _depth(layout, words, address, frame, places)])
    if not generator:  # A generator's function is what the garbage collector knows even while it executes.
        found += [words[layout.function], words[layout.namespace]]
    elif words[layout.namespace]:
        found.append(words[layout.namespace])
    if borrowed:
        return [word & ~3 for word in found]
    return [word for word in found if word and not word & 3]


def _depth(layout: Layout, words: tuple[int, ...], address: int, frame: FrameType, places: int) -> int:
    """How many places of the evaluation stack are in use."""
    top = words[layout.top]
    size = frame.f_code.co_stacksize
    if layout.top_is_pointer:
        depth = (top - address) // _WORD - layout.header - places if top else 0
        return depth if 0 <= depth <= size else 0
    top &= 0xFFFFFFFF
    if top < 0x80000000:  # noqa: PLR2004  it is no negative number
        return min(max(0, top - places), size)
    return min(depth_at(frame.f_code, frame.f_lasti), size)


_ENDS = frozenset(
    {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RAISE_VARARGS", "RERAISE"}
    | {"RETURN_CONST", "RETURN_VALUE"}
)
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)


def depth_at(code: CodeType, offset: int) -> int:
    """How deep the evaluation stack is when the instruction at `offset` begins; it follows from the code alone.

    0 if it cannot be told.
    """
    instructions = list(dis.get_instructions(code))
    places = {instruction.offset: at for at, instruction in enumerate(instructions)}
    depths: dict[int, int] = {}
    begun = [(0, 0)]
    for entry in dis._parse_exception_table(code):  # type: ignore[attr-defined]
        begun.append((entry.target, entry.depth + 1 + entry.lasti))  # noqa: PERF401  what it is reads better so
    while begun:
        start, depth = begun.pop()
        for instruction in instructions[places[start] :]:
            if instruction.offset in depths:
                break
            depths[instruction.offset] = depth
            argument = instruction.arg if instruction.opcode >= dis.HAVE_ARGUMENT else None
            if instruction.opcode in _JUMPS:
                effect = dis.stack_effect(instruction.opcode, argument, jump=True)
                begun.append((instruction.argval, depth + effect))
            if instruction.opname in _ENDS:
                break
            depth += dis.stack_effect(instruction.opcode, argument, jump=False)
    while offset > 0 and offset not in places:
        offset -= 2  # Inside what belongs to an instruction.
    return max(0, depths.get(offset, 0))


class _Probe:
    """Something to be found."""


def _find(reader: Reader, layout: Layout, known: Any) -> tuple[int, ...]:
    """How often the caller's frame refers to each of the known things."""
    found = references(reader, layout, sys._getframe(1))
    return tuple(found.count(id(thing)) for thing in known)


def _as_expected(reader: Reader, layout: Layout) -> bool:
    """Does a frame of which everything is known read as it should?"""
    known = (_Probe(), _Probe(), iter([_Probe()]))
    first, second, third = known
    twice = first
    for _ in third:
        del third
        counts = _find(reader, layout, known)
        break
    del twice, second
    after = _find(reader, layout, known)
    return counts == (2, 1, 1) and after == (1, 0, 0)


def layout_of_frames() -> Layout | None:
    """The layout of this Python's frames, if it is known and holds."""
    layout = _LAYOUTS.get(sys.version_info[:2]) if sys.implementation.name == "cpython" else None
    if layout is None or ctypes is None or (not GIL and sys.platform != "linux"):  # type: ignore[redundant-expr]
        return None
    try:
        reader = Reader()
        try:
            return layout if _as_expected(reader, layout) else None
        finally:
            reader.close()
    except (OSError, struct.error, ValueError, KeyError):
        return None
