"""Coroutines that come where values are expected: of a function that looks like an ordinary one, and is none."""

from __future__ import annotations

from types import CoroutineType
from typing import Any

from penstock.group import shown


def refuse_coroutine(result: Any, function: Any, remedy: str) -> None:
    """TypeError if `result`, which `function` returned, is a coroutine. It is closed: nobody will ever await it."""
    if type(result) is CoroutineType:
        result.close()
        raise TypeError(f"{shown(function)} returned a coroutine; {remedy}")
