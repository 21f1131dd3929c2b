"""`penstock digest --check`: verify the digests that a file lists."""

from __future__ import annotations

import errno
import os
import sys
from typing import TYPE_CHECKING

import click

from penstock.cli import walking
from penstock.cli.lines import complain, escape, parse_line, warn, write
from penstock.cli.progress import shown

if TYPE_CHECKING:
    from penstock.cli.digesting import Digesting


def check(digesting: Digesting, listing: str) -> int:
    """Verify what `listing` (`-`: standard input) lists, and print a verdict a line. Returns the exit code."""
    expected, malformed = _read(listing, digesting.digits)
    if not expected:
        raise click.ClickException(f"{listing}: no properly formatted checksum lines found")
    with shown(digesting):
        outcomes = digesting.run(lambda: walking.batches(dict.fromkeys(path for path, _ in expected)))
    found = {outcome.path: outcome for outcome in outcomes}
    unreadable = mismatched = 0
    verdicts = []
    for path, digest in expected:
        outcome = found.get(path)
        if outcome is None:
            continue  # Not reached: --fail-fast.
        if outcome.error is not None:
            complain(path, outcome.error)
            unreadable += 1
            verdict = b"FAILED open or read"
        elif outcome.digest != digest:
            mismatched += 1
            verdict = b"FAILED"
        else:
            verdict = b"OK"
        mark, name = escape(path) if b"\n" in path else (b"", path)
        verdicts.append(b"%s%s: %s\n" % (mark, name, verdict))
    write(verdicts)
    warn(malformed, "line is improperly formatted", "lines are improperly formatted")
    warn(unreadable, "listed file could not be read", "listed files could not be read")
    warn(mismatched, "computed checksum did NOT match", "computed checksums did NOT match")
    return 1 if unreadable or mismatched else 0


def _read(listing: str, digits: int) -> tuple[list[tuple[bytes, str]], int]:
    """The paths and digests listed, and the number of lines that are malformed."""
    expected: list[tuple[bytes, str]] = []
    malformed = 0
    if listing == "-" and sys.stdin is None:  # It was closed when we were started.
        raise click.FileError("-", os.strerror(errno.EBADF))
    try:
        with click.open_file(listing, "rb") as source:
            for line in source:
                parsed = parse_line(line.removesuffix(b"\n").removesuffix(b"\r"), digits)
                if parsed is not None:
                    expected.append((parsed[1], parsed[0]))
                elif line.strip() and not line.startswith(b"#"):
                    malformed += 1
    except OSError as error:
        raise click.FileError(listing, error.strerror or str(error)) from None
    return expected, malformed
