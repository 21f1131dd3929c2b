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
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TimeRemainingColumn

    files = Progress(
        "[progress.description]{task.description}",
        BarColumn(),
        MofNCompleteColumn(),
        "files",
        TimeRemainingColumn(),
        "{task.fields[speed]}",
        console=Console(stderr=True),
        transient=True,
    )
    with files, Group() as group:
        task = files.add_task("digesting", total=None, speed="")

        def refresh() -> None:
            while True:
                update()
                sleep(REFRESH)

        def update() -> None:
            done = sum(tally.files for tally in digesting.tallies)
            size = sum(tally.bytes for tally in digesting.tallies)
            elapsed = files.tasks[0].elapsed or 0.0
            speed = f"{size / elapsed / 1e6:,.0f} MB/s" if elapsed else ""
            total = digesting.found if digesting.walked else None
            files.update(task, completed=done, total=total, speed=speed)

        group.go(refresh)
        try:
            yield
        finally:
            group.context.cancel()
        update()
