"""What a terminal is shown while the digesters work: files, bytes a second, time left."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from penstock.group import Group
from penstock.time import sleep

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.cli.digesting import Digesting

REFRESH = 0.1


@contextmanager
def shown(digesting: Digesting) -> Iterator[None]:
    """Show the progress inside the block, if standard error is a terminal; otherwise show nothing."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.filesize import decimal
    from rich.progress import BarColumn, Progress, Task, TimeRemainingColumn
    from rich.text import Text

    class Left(TimeRemainingColumn):
        """The time left, once it is known how much there is."""

        def render(self, task: Task) -> Text:
            return Text() if task.total is None else super().render(task).append(" left")

    progress = Progress(
        BarColumn(),
        "{task.fields[files]} files, {task.fields[size]}, {task.fields[speed]}/s",
        Left(),
        console=Console(stderr=True),
        auto_refresh=False,
        transient=True,
    )
    task = progress.add_task("", total=None, files="0", size=decimal(0), speed=decimal(0))
    digesting.weigh = True

    def refresh() -> None:
        while True:
            sleep(REFRESH)
            done = sum(tally.files for tally in digesting.tallies)
            size = sum(tally.bytes for tally in digesting.tallies)
            elapsed = progress.tasks[task].elapsed or REFRESH
            total = digesting.weight if digesting.walked else None
            files = f"{done:,}/{digesting.found:,}"
            speed = decimal(int(size / elapsed))
            progress.update(
                task, completed=size, total=total, files=files, size=decimal(size), speed=speed, refresh=True
            )

    with progress, Group() as group:
        group.go(refresh)
        try:
            yield
        finally:
            group.context.cancel()
