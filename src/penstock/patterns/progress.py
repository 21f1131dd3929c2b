"""Progress of a stream on a terminal."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from penstock.patterns.stages import Stage

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


class Progress(Stage):
    """Counts the items that pass, on standard error; silent where that is no terminal."""

    def __init__(self, description: str, total: int | None) -> None:
        self._description, self._total = description, total

    def _display(self) -> Any:
        if not sys.stderr.isatty():
            return None
        try:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
        except ImportError:
            raise RuntimeError('progress() draws with rich: pip install "penstock[cli]"') from None
        columns = [
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
        ]
        return Progress(*columns, console=Console(stderr=True), transient=True)

    def threads(self, upstream: Iterator[Any]) -> Any:
        """The items, counted."""
        display = self._display()
        if display is None:
            return upstream
        return self._counted(display, upstream)

    def _counted(self, display: Any, upstream: Iterator[Any]) -> Iterator[Any]:
        with display:
            bar = display.add_task(self._description, total=self._total)
            for item in upstream:
                yield item
                display.advance(bar)

    def tasks(self, upstream: AsyncIterator[Any]) -> Any:
        """The items, counted."""
        display = self._display()
        if display is None:
            return upstream
        return self._acounted(display, upstream)

    async def _acounted(self, display: Any, upstream: AsyncIterator[Any]) -> AsyncIterator[Any]:
        with display:
            bar = display.add_task(self._description, total=self._total)
            async for item in upstream:
                yield item
                display.advance(bar)
