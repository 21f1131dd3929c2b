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
    exit_is_on_stack: bool
    """Does `with` put `__exit__` onto the stack before it calls `__enter__`?"""
    collector_sees_generators: bool
    """Does a generator that executes show its references to the garbage collector?"""


_LAYOUTS = {
    (3, 11): Layout(9, 0, 3, 8, False, True, False),
    (3, 12): Layout(9, 2, 5, 8, False, False, False),
    (3, 13): Layout(9, 2, 5, 8, False, False, False),
    (3, 14): Layout(10, 2, 5, 8, True, True, True),
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
        size = count * _WORD
        memory = ctypes.string_at(address, size) if self._file < 0 else os.pread(self._file, size, address)
        return struct.unpack(f"{count}N", memory)

    def close(self) -> None:
        """Read no more."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


def places_of_locals(code: CodeType) -> int:
    """How many places local variables, cells and free variables take."""
    return len(set(code.co_varnames) | set(code.co_cellvars)) + len(code.co_freevars)


class Held:
    """What frames refer to."""

    def __init__(self) -> None:
        self.addresses: list[int] = []
        """Each as often as the frames do so."""
        self.managers: list[int] = []
        """Of what is being entered or left by `with`, where the interpreter has its methods in hand."""
        self.arguments: list[tuple[int, ...]] = []
        """The stacks of frames that have called into C: at the end of each stand the arguments."""


def references(reader: Reader, layout: Layout, frame: FrameType, held: Held, *, borrowed: bool = False) -> None:
    """Add to `held` what `frame` refers to.

    For a generator of which the garbage collector tells it already: nothing. If what it has `borrowed` is asked for
    too, all of it.
    """
    code = frame.f_code
    generator = bool(code.co_flags & _GENERATOR)
    if generator and layout.collector_sees_generators and not borrowed:
        return
    places = places_of_locals(code)
    (address,) = reader.words(id(frame) + object.__basicsize__ + _WORD, 1)
    words = reader.words(address, layout.header + places + code.co_stacksize)
    found = list(words[layout.header : layout.header + places])
    found += _stack(layout, words, address, frame, held)
    if not generator:  # A generator's function is what the garbage collector knows even while it executes.
        found.append(words[layout.function])
    found.append(words[layout.namespace])
    if borrowed:
        held.addresses += [word & ~3 for word in found]
    else:
        held.addresses += [word for word in found if word and not word & 3]


def stack_of(reader: Reader, layout: Layout, frame: FrameType) -> tuple[int, ...]:
    """The words of the evaluation stack of `frame`; those that are not in use may be anything."""
    places = places_of_locals(frame.f_code)
    (address,) = reader.words(id(frame) + object.__basicsize__ + _WORD, 1)
    return reader.words(address + (layout.header + places) * _WORD, frame.f_code.co_stacksize)


def _stack(layout: Layout, words: tuple[int, ...], address: int, frame: FrameType, held: Held) -> tuple[int, ...]:
    """Those of the words of a frame that are its evaluation stack, as far as that is in use."""
    before = layout.header + places_of_locals(frame.f_code)
    top = words[layout.top]
    words = words[before:]
    if layout.top_is_pointer:
        depth = (top - address) // _WORD - before if top else 0
        words = words[:depth] if 0 <= depth <= len(words) else ()
        held.arguments.append(tuple(word & ~3 for word in words))
        return words
    top &= 0xFFFFFFFF
    if top < 0x80000000:  # noqa: PLR2004  In a call from Python to Python.
        return words[: max(0, top - (before - layout.header))]
    depth, instruction, leaving = depth_at(frame.f_code, frame.f_lasti)
    words = words[:depth]
    held.arguments.append(words)
    manager = -1
    if instruction.startswith("BEFORE_") and not layout.exit_is_on_stack:
        manager = depth - 1
    elif leaving:
        manager = depth - 4  # In place of `__exit__`, for as long as the call lasts, what it is a method of.
    if manager < 0:
        return words
    held.managers.append(words[manager])
    return words[:manager] + words[manager + 1 :]


_ENDS = frozenset(
    {"JUMP_FORWARD", "JUMP_BACKWARD", "JUMP_BACKWARD_NO_INTERRUPT", "RAISE_VARARGS", "RERAISE"}
    | {"RETURN_CONST", "RETURN_VALUE"}
)
_JUMPS = frozenset(dis.hasjrel) | frozenset(dis.hasjabs)


def depth_at(code: CodeType, offset: int) -> tuple[int, str, bool]:
    """How deep the evaluation stack is when the instruction at `offset` begins, the instruction's name, and whether it
    calls an `__exit__`.

    The depth follows from the code alone; 0 if it cannot be told.
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
    at = places.get(offset, 0)
    if instructions[at].opname == "CALL" and instructions[at - 1].opname == "PRECALL":
        at -= 1  # Python 3.11: that one counts the arguments.
    before = [(one.opname, one.argval) for one in instructions[max(0, at - 3) : at]]
    leaving = before == [("LOAD_CONST", None)] * 3 and instructions[at].arg == 2  # noqa: PLR2004  None, None, None
    return max(0, depths.get(instructions[at].offset, 0)), instructions[at].opname, leaving


class _Probe:
    """Something to be found."""


def _find(reader: Reader, layout: Layout, known: Any) -> tuple[int, ...]:
    """How often the caller's frame refers to each of the known things."""
    held = Held()
    references(reader, layout, sys._getframe(1), held)
    return tuple(held.addresses.count(id(thing)) for thing in known)


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
