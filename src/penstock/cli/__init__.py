"""The command line: `penstock digest`.

main       the entry point
app        the commands and their options
walking    finding the files
digesting  the pipeline: a walker, digesters, and what they tell
checking   verifying the digests that a file lists
lines      what is printed and read, as sha256sum has it
progress   what a terminal is shown meanwhile
"""

from __future__ import annotations

import signal
import sys

INTERRUPTED = 130  # as a shell reports a program that SIGINT has ended
USAGE = 2


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        return _run()
    except KeyboardInterrupt:
        return INTERRUPTED


def _run() -> int:
    try:
        import click
    except ImportError:
        print("penstock: the command line needs an extra: pip install 'penstock[cli]'", file=sys.stderr)
        return USAGE
    from penstock.cli.app import penstock

    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # Whoever reads our output may have enough: end quietly.
    try:
        code = penstock.main(standalone_mode=False, prog_name="penstock")
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except click.Abort:
        return INTERRUPTED
    return code if isinstance(code, int) else 0
