"""The wait-for graph as pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.deadlock.graph import Cycle
    from penstock.deadlock.tasks import ParkedTask


def mermaid(tasks: Sequence[ParkedTask], cycles: Sequence[Cycle]) -> str:
    """A flowchart: tasks with round corners, what they wait for with square ones."""
    return "flowchart LR"


def svg(tasks: Sequence[ParkedTask], cycles: Sequence[Cycle]) -> str:
    """A picture."""
    return "<svg/>"
