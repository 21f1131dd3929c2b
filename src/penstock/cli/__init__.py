"""The command line: `penstock digest`.

main       the entry point
app        the commands and their options
digesting  the pipeline: a walker, digesters, and what they tell
walking    finding the files
lines      the format of sha256sum: writing and reading its lines
progress   what a terminal is shown meanwhile
"""

from __future__ import annotations

import os
import sys

# As a shell reports a program that SIGINT, or SIGPIPE, has ended.
INTERRUPTED = 130
BROKEN_PIPE = 141
USAGE = 2


def main() -> int:
    """Run the command line; returns the exit code."""
    try:
        import click
    except ImportError:
        print("penstock: the command line needs an extra: pip install 'penstock[cli]'", file=sys.stderr)
        return USAGE
    from penstock.cli.app import penstock

    try:
        code = penstock.main(standalone_mode=False, prog_name="penstock")
        sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has enough; what is left in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    return code if isinstance(code, int) else 0
