"""`penstock dump`: a report of a running process."""

from __future__ import annotations

import sys

import click

from penstock.deadlock.asking import CannotAskError, ask


def dump(process: int, form: str) -> int:
    """Print the report of that process, in that form. Returns the exit code."""
    try:
        text = ask(process, form)
    except CannotAskError as error:
        raise click.ClickException(str(error)) from None
    sys.stdout.write(text if text.endswith("\n") else f"{text}\n")
    sys.stdout.flush()
    return 0
