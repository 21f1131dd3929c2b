"""The report: who is parked, what for, since when and where; which of them wait for each other in a circle."""

from __future__ import annotations

import json
from math import isfinite
from typing import TYPE_CHECKING, Any

from penstock.deadlock.drawing import mermaid, svg
from penstock.deadlock.graph import cycles
from penstock.deadlock.tasks import ParkedTask, RunningTask, Survey

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from penstock._kernel.inspection import Parked
    from penstock.deadlock.graph import Cycle
    from penstock.deadlock.stacks import Frame

_INDENT = "    "


class Report:
    """What was parked at one moment. `str` gives the text."""

    __slots__ = ("cycles", "running", "tasks")

    def __init__(self, tasks: Sequence[ParkedTask], running: Sequence[RunningTask]) -> None:
        self.tasks = tuple(tasks)
        """The parked tasks, those parked longest first."""
        self.running = tuple(running)
        """The tasks at work, and the threads that are no tasks of Penstock's."""
        self.cycles: tuple[Cycle, ...] = cycles(self.tasks)
        """Circles of tasks, each of which waits for the next."""

    def __str__(self) -> str:
        return "\n".join(_lines(self))

    def to_json(self) -> str:
        """The report as JSON: an object with `tasks`, `cycles` and `running`."""
        return json.dumps(
            {
                "tasks": [_task_as_data(task) for task in self.tasks],
                "cycles": [[{"task": task, "waits_for": waiting} for task, waiting in cycle] for cycle in self.cycles],
                "running": [{"name": task.name, "stack": _stack_as_data(task.stack)} for task in self.running],
            },
            indent=2,
        )

    def to_mermaid(self) -> str:
        """The wait-for graph as a Mermaid flowchart."""
        return mermaid(self.tasks, self.cycles)

    def to_svg(self) -> str:
        """The wait-for graph as a picture: an SVG document that needs nothing else."""
        return svg(self.tasks, self.cycles)


def report() -> Report:
    """Look at what is parked now. May be called from anywhere, a signal handler included."""
    return report_on(None)


def report_on(operations: Iterable[Parked] | None) -> Report:
    """As `report`, on these parked operations."""
    survey = Survey(operations)
    return Report([survey.parked_task(parked) for parked in survey.operations], survey.running_tasks())


def _stack_as_data(stack: Iterable[Frame]) -> list[dict[str, Any]]:
    return [{"file": frame.file, "line": frame.line, "function": frame.function} for frame in stack]


def _task_as_data(task: ParkedTask) -> dict[str, Any]:
    return {
        "name": task.name,
        "operation": task.operation,
        "waits_for": [
            {
                "kind": one.kind,
                "name": one.name,
                "case": one.case,
                "holders": list(one.holders),
                "seconds": one.seconds,
            }
            for one in task.waits_for
        ],
        "since": task.since,
        "seconds": task.seconds,
        "deadline": task.deadline if task.deadline is not None and isfinite(task.deadline) else None,
        "stack": _stack_as_data(task.stack),
        "created": _stack_as_data(task.created),
    }


# The text


def _lines(report: Report) -> list[str]:
    if not report.tasks:
        lines = ["Nothing is parked."]
    else:
        lines = [f"{len(report.tasks)} {'task is' if len(report.tasks) == 1 else 'tasks are'} parked"]
    for task in report.tasks:
        lines += ["", *paragraph(task)]
    for cycle in report.cycles:
        lines += ["", *circle(cycle)]
    if report.running:
        lines += ["", "At work:"]
        for running in report.running:
            where = f", {running.stack[-1]}" if running.stack else ""
            lines.append(f"{_INDENT}{running.name}{where}")
    return lines


def paragraph(task: ParkedTask) -> list[str]:
    """The lines on one parked task."""
    until = ""
    if task.deadline is not None and isfinite(task.deadline):
        until = f", for {task.deadline - task.since - task.seconds:.1f} s more at most"
    first, *others = task.waits_for
    lines = [f"{task.name}: in {task.operation} for {task.seconds:.1f} s{until}", f"{_INDENT}waits {first}"]
    lines += [f"{_INDENT}or {other}" for other in others]
    lines += [f"{_INDENT}at {frame}" for frame in reversed(task.stack)]
    if task.created:
        lines.append(f"{_INDENT}started at {task.created[-1]}")
        lines += [f"{_INDENT}        by {frame}" for frame in reversed(task.created[:-1])]
    return lines


def leaked(tasks: Sequence[ParkedTask]) -> str:
    """The text on tasks that are leaked."""
    lines = [f"{len(tasks)} {'task is' if len(tasks) == 1 else 'tasks are'} leaked"]
    for task in tasks:
        lines += ["", *paragraph(task)]
    return "\n".join(lines)


def circle(cycle: Cycle) -> list[str]:
    """The lines on one circle."""
    if len(cycle) == 1:
        ((task, waiting),) = cycle
        return [f"Deadlock: {task} waits for itself", f"{_INDENT}{task} waits for {waiting}, which is up to {task}"]
    lines = [f"Deadlock: {len(cycle)} tasks wait for each other in a circle"]
    for at, (task, waiting) in enumerate(cycle):
        holder = cycle[(at + 1) % len(cycle)][0]
        lines.append(f"{_INDENT}{task} waits for {waiting}, which is up to {holder}")
    return lines
