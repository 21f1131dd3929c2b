"""Running small programs as a user would: what they print, and how they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from textwrap import dedent
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

LIMIT = 50


def environment() -> dict[str, str]:
    """Ours, with nothing in it that would add threads."""
    return {name: value for name, value in os.environ.items() if not name.startswith("COV_")}


def run_program(source: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run Python source in a process of its own."""
    return subprocess.run(
        [sys.executable, *options, "-c", dedent(source)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        env=environment(),
    )


def penstock(*arguments: object, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command line."""
    return subprocess.run(
        [sys.executable, "-m", "penstock", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=LIMIT,
        check=False,
        cwd=cwd,
        env=environment(),
    )


def start_program(source: str) -> subprocess.Popen[str]:
    """Start Python source in a process of its own, which prints a line when it is ready."""
    process = subprocess.Popen(
        [sys.executable, "-u", "-c", dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment(),
        preexec_fn=lambda: signal.signal(signal.SIGQUIT, signal.SIG_DFL),  # noqa: PLW1509
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate(timeout=LIMIT)[1]
    return process


class Batch:
    """Programs that take long because they wait: those whose tests have been selected run side by side."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(6)
        self._outcomes: dict[str, Future[subprocess.CompletedProcess[str]]] = {}

    def outcome(self, source: str, selected: Iterable[str]) -> subprocess.CompletedProcess[str]:
        """How `source` ended, which is one of those selected."""
        for each in selected:
            if each not in self._outcomes:
                self._outcomes[each] = self._pool.submit(run_program, each)
        return self._outcomes[source].result()

    def close(self) -> None:
        """No more programs."""
        self._pool.shutdown(cancel_futures=True)
