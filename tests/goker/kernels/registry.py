"""The kernels by name, as the tests find them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Kernel:
    """One bug, and the same program without it."""

    name: str
    blocks: bool
    """Do tasks wait for ever? Otherwise the bug shows as an error."""
    run: Callable[[bool], None]
    """Called with True, the fixed form."""
    lines: bool = False
    """Does the bug need a switch between lines, not only at calls of the library?"""


KERNELS: dict[str, Kernel] = {}


def blocking(project: str, number: int) -> Callable[[Callable[[bool], None]], Callable[[bool], None]]:
    """Register a kernel whose tasks block for ever."""
    return _registered(project, number, blocks=True)


def non_blocking(
    project: str, number: int, *, lines: bool = False
) -> Callable[[Callable[[bool], None]], Callable[[bool], None]]:
    """Register a kernel whose bug is an error: a race, a misuse, a broken invariant."""
    return _registered(project, number, blocks=False, lines=lines)


def _registered(
    project: str, number: int, *, blocks: bool, lines: bool = False
) -> Callable[[Callable[[bool], None]], Callable[[bool], None]]:
    def register(run: Callable[[bool], None]) -> Callable[[bool], None]:
        name = f"{project} {number}"
        KERNELS[name] = Kernel(name, blocks, run, lines)
        return run

    return register
