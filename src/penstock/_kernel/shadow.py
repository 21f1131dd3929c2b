"""What the kernel uses of Cython's `cython` module, for where Cython is not installed."""

from __future__ import annotations

from typing import Any, TypeVar

F = TypeVar("F")

compiled = False


def final(method: F) -> F:
    """Compiled: the method is never overridden, so it is called directly."""
    return method


def cast(_kind: object, value: Any) -> Any:
    """Compiled: `value`, taken for one of that kind without looking."""
    return value
