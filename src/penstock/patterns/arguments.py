"""What arguments must be: each check gives the value back, or raises an error that names the argument."""

from __future__ import annotations

from typing import Any

NO_BOUND = 1 << 40
"""More than anybody has."""


def integer(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be an integer, not {value!r}")
    return value


def count(value: Any, name: str) -> int:
    if integer(value, name) < 0:
        raise ValueError(f"{name} must be 0 or more, not {value}")
    return value  # type: ignore[no-any-return]


def positive(value: Any, name: str) -> int:
    if integer(value, name) < 1:
        raise ValueError(f"{name} must be 1 or more, not {value}: nothing could ever run")
    return value  # type: ignore[no-any-return]


def number(value: Any, name: str, kind: str = "a number") -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} must be {kind}, not {value!r}")
    return value


def seconds(value: Any, name: str) -> float:
    if not number(value, name, "a number of seconds") > 0:
        raise ValueError(f"{name} must be more than 0 seconds, not {value}")
    return value  # type: ignore[no-any-return]
