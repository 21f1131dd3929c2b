"""The command line.

main       the entry point
app        the commands and their options
running    running a program, watched for deadlocks
programs   finding it
dumping    asking a running program for a report
walking    finding the files
digesting  the pipeline: a walker, digesters, and what they tell
checking   verifying the digests that a file lists
lines      what is printed and read, as sha256sum has it
progress   what a terminal is shown meanwhile
"""

from __future__ import annotations

import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

INTERRUPTED = 130  # as a shell reports a program that SIGINT has ended
USAGE = 2


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        outcome = _command()
    except KeyboardInterrupt:
        return INTERRUPTED
    # A program is run here, outside of click and the above, which have their own ideas of how a program ends.
    return outcome if isinstance(outcome, int) else outcome()


def _command() -> int | Callable[[], int]:
    """Do what is asked for, or give what does it."""
    try:
        import click
    except ImportError:
        print("penstock: the command line needs an extra: pip install 'penstock[cli]'", file=sys.stderr)
        return USAGE
    from penstock.cli.app import penstock

    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Whoever reads our output may have enough: end quietly.
    try:
        outcome = penstock.main(standalone_mode=False, prog_name="penstock")
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return outcome if isinstance(outcome, int) or callable(outcome) else 0
