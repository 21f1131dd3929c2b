"""The wait-for graph as pictures: tasks in round boxes, what they wait for in square ones, arrows from who waits."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING, NamedTuple

from penstock.deadlock.graph import described

if TYPE_CHECKING:
    from collections.abc import Sequence

    from penstock.deadlock.graph import Cycle
    from penstock.deadlock.tasks import ParkedTask

_WIDTH, _HEIGHT, _GAP, _MARGIN, _BETWEEN = 260, 36, 16, 20, 140
_WAITS, _HELD, _CIRCLE = "#34495e", "#7f8c8d", "#c0392b"


class _Graph(NamedTuple):
    tasks: list[str]
    things: list[str]
    waits: list[tuple[str, str]]
    """A task, and what it waits for."""
    held: list[tuple[str, str]]
    """A thing, and the task that has it."""
    circles: set[tuple[str, str]]
    """Those of all these that are part of a circle."""


def _graph(tasks: Sequence[ParkedTask], cycles: Sequence[Cycle]) -> _Graph:
    names: dict[str, None] = {task.name: None for task in tasks}
    things: dict[str, None] = {}
    waits: list[tuple[str, str]] = []
    held: dict[tuple[str, str], None] = {}
    for task in tasks:
        for waiting in task.waits_for:
            thing = described(waiting)
            things[thing] = None
            waits.append((task.name, thing))
            for holder in waiting.holders:
                names[holder] = None
                held[thing, holder] = None
    circles = {edge for cycle in cycles for edge in cycle}
    for cycle in cycles:
        circles.update((thing, task) for (_, thing), (task, _) in zip(cycle, cycle[1:] + cycle[:1], strict=True))
    return _Graph(list(names), list(things), waits, list(held), circles)


def mermaid(tasks: Sequence[ParkedTask], cycles: Sequence[Cycle]) -> str:
    """A Mermaid flowchart; the arrows of circles are thick."""
    graph = _graph(tasks, cycles)
    task_ids = {name: f"t{number}" for number, name in enumerate(graph.tasks)}
    thing_ids = {name: f"w{number}" for number, name in enumerate(graph.things)}
    lines = ["flowchart LR"]
    lines += [f'    {node}(["{_quoted(name)}"])' for name, node in task_ids.items()]
    lines += [f'    {node}["{_quoted(name)}"]' for name, node in thing_ids.items()]
    for task, thing in graph.waits:
        arrow = "==>" if (task, thing) in graph.circles else "-->"
        lines.append(f"    {task_ids[task]} {arrow}|waits for| {thing_ids[thing]}")
    for thing, task in graph.held:
        arrow = "==>" if (thing, task) in graph.circles else "-.->"
        lines.append(f"    {thing_ids[thing]} {arrow}|held by| {task_ids[task]}")
    return "\n".join(lines)


def _printable(name: str) -> str:
    """Without what neither XML nor Mermaid can have in a text."""
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in name)


def _quoted(name: str) -> str:
    return escape(_printable(name), quote=True).replace("&#x27;", "'")


def svg(tasks: Sequence[ParkedTask], cycles: Sequence[Cycle]) -> str:
    """An SVG document: tasks on the left, what they wait for on the right; the arrows of circles are red."""
    graph = _graph(tasks, cycles)
    rows = max(len(graph.tasks), len(graph.things), 1)
    width = 2 * _MARGIN + 2 * _WIDTH + _BETWEEN
    height = 2 * _MARGIN + rows * (_HEIGHT + _GAP)
    left, right = _MARGIN, _MARGIN + _WIDTH + _BETWEEN
    row = {name: number for number, name in enumerate(graph.things)}
    task_row = {name: number for number, name in enumerate(graph.tasks)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        "<style>text{font:13px sans-serif}</style>",
        *map(_tip, (_WAITS, _HELD, _CIRCLE)),
        f'<rect width="{width}" height="{height}" fill="white"/>',
    ]
    for task, thing in graph.waits:
        colour = _CIRCLE if (task, thing) in graph.circles else _WAITS
        parts.append(_arrow(left + _WIDTH, task_row[task], right, row[thing], colour, "", -5))
    for thing, task in graph.held:
        colour = _CIRCLE if (thing, task) in graph.circles else _HELD
        parts.append(_arrow(right, row[thing], left + _WIDTH, task_row[task], colour, ' stroke-dasharray="5 4"', 5))
    parts += [_box(left, task_row[name], name, _HEIGHT // 2, "#eaf2f8") for name in graph.tasks]
    parts += [_box(right, row[name], name, 3, "#fdf2e9") for name in graph.things]
    return "\n".join([*parts, "</svg>"])


def _tip(colour: str) -> str:
    """The heads of the arrows of that colour."""
    return (
        f'<marker id="tip-{colour[1:]}" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6"'
        f' orient="auto"><path d="M0 0 8 4 0 8z" fill="{colour}"/></marker>'
    )


def _middle(row: int) -> int:
    return _MARGIN + row * (_HEIGHT + _GAP) + _HEIGHT // 2


def _arrow(  # noqa: PLR0913, PLR0917  two points and a look
    x: int, row: int, to_x: int, to_row: int, colour: str, style: str, shift: int
) -> str:
    return (
        f'<path d="M{x} {_middle(row) + shift}L{to_x} {_middle(to_row) + shift}" fill="none" stroke="{colour}"'
        f' stroke-width="1.5"{style} marker-end="url(#tip-{colour[1:]})"/>'
    )


def _box(x: int, row: int, name: str, radius: int, colour: str) -> str:
    y = _middle(row) - _HEIGHT // 2
    name = _printable(name)
    longest = 34
    shown = name if len(name) <= longest else f"{name[: longest - 1]}…"
    return (
        f'<rect x="{x}" y="{y}" width="{_WIDTH}" height="{_HEIGHT}" rx="{radius}" fill="{colour}" stroke="#34495e"/>'
        f'<text x="{x + _WIDTH // 2}" y="{_middle(row) + 5}" text-anchor="middle"><title>{escape(name)}</title>'
        f"{escape(shown)}</text>"
    )
