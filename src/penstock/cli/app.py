"""The commands and their options."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from typing import TYPE_CHECKING

import click

from penstock.cli import walking
from penstock.cli.digesting import Digesting
from penstock.cli.lines import format_line, parse_line
from penstock.cli.progress import shown

if TYPE_CHECKING:
    from collections.abc import Iterator

    from penstock.cli.digesting import Digested

ALGORITHMS = sorted(name for name in hashlib.algorithms_guaranteed if not name.startswith("shake"))


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="penstock", prog_name="penstock")
def penstock() -> None:
    """Programs built on Penstock's channels, contexts and groups."""


@penstock.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=bytes), metavar="PATH...")
@click.option(
    "-a",
    "--algorithm",
    type=click.Choice(ALGORITHMS),
    default="sha256",
    show_default=True,
    metavar="NAME",
    help=f"The digest: {', '.join(ALGORITHMS)}.",
)
@click.option("-j", "--jobs", type=click.IntRange(min=1), help="How many files are read at once; default: the cores.")
@click.option("-c", "--check", metavar="FILE", help="Verify the digests listed in FILE ('-': standard input).")
@click.option("--follow", is_flag=True, help="Follow symbolic links inside directories.")
@click.option("--fail-fast", is_flag=True, help="Stop everything at the first file that cannot be read.")
@click.option("--json", "as_json", is_flag=True, help='One JSON object a line: {"path": ..., "digest": ...}.')
def digest(
    paths: tuple[bytes, ...],
    algorithm: str,
    jobs: int | None,
    check: str | None,
    follow: bool,
    fail_fast: bool,
    as_json: bool,
) -> int:
    """Digest every regular file under each PATH, sorted by path, as sha256sum prints it.

    The exit code is 1 if a file could not be read, or did not match.
    """
    if (check is None) == (not paths):
        raise click.UsageError("name either a PATH or --check FILE")
    digesting = Digesting(algorithm, jobs or os.cpu_count() or 1, fail_fast)
    if check is not None:
        return _check(digesting, check, hashlib.new(algorithm).digest_size * 2)
    with shown(digesting):
        outcomes = digesting.run(lambda: walking.batches(walking.files(list(paths), follow, digesting.failed)))
    errors = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in errors:
        _complain(outcome.path, outcome.error)
    if not (fail_fast and errors):
        write = _json_line if as_json else _plain_line
        _write(write(outcome) for outcome in outcomes if outcome.error is None)
    return 1 if errors else 0


def _plain_line(outcome: Digested) -> bytes:
    return format_line(outcome.digest, outcome.path)


def _json_line(outcome: Digested) -> bytes:
    # Undecodable bytes become lone surrogates, which JSON can escape: os.fsencode gives the path back.
    return json.dumps({"path": os.fsdecode(outcome.path), "digest": outcome.digest}).encode() + b"\n"


def _write(lines: Iterator[bytes]) -> None:
    out = sys.stdout.buffer
    for line in lines:
        out.write(line)
    out.flush()


def _complain(path: bytes, error: OSError | None) -> None:
    reason = error.strerror if error is not None and error.strerror else str(error)
    name = format_line("", path)[2:-1] if not path.isascii() or b"\n" in path else path
    sys.stderr.buffer.write(b"penstock: %s: %s\n" % (name, reason.encode()))
    sys.stderr.buffer.flush()


def _check(digesting: Digesting, listing: str, digits: int) -> int:
    expected: list[tuple[bytes, str]] = []
    malformed = 0
    try:
        with sys.stdin.buffer if listing == "-" else open(listing, "rb") as source:  # noqa: PTH123, SIM115
            for line in source.read().split(b"\n"):
                parsed = parse_line(line, digits) if line else None
                if parsed is not None:
                    expected.append((parsed[1], parsed[0]))
                elif line:
                    malformed += 1
    except OSError as error:
        raise click.FileError(listing, error.strerror or str(error)) from None
    if not expected:
        raise click.ClickException(f"{listing}: no properly formatted checksum lines found")
    with shown(digesting):
        outcomes = digesting.run(lambda: walking.batches(dict(expected)))
    found = {outcome.path: outcome for outcome in outcomes}
    unreadable = mismatched = 0
    lines = []
    for path, wanted in expected:
        outcome = found.get(path)
        if outcome is None:
            continue  # Not reached: --fail-fast.
        if outcome.error is not None:
            _complain(path, outcome.error)
            unreadable += 1
            verdict = b"FAILED open or read"
        elif outcome.digest != wanted:
            mismatched += 1
            verdict = b"FAILED"
        else:
            verdict = b"OK"
        name = format_line("", path)[:-1].replace(b"  ", b"", 1)
        lines.append(b"%s: %s\n" % (name, verdict))
    _write(iter(lines))
    _warn(malformed, "line is improperly formatted", "lines are improperly formatted")
    _warn(unreadable, "listed file could not be read", "listed files could not be read")
    _warn(mismatched, "computed checksum did NOT match", "computed checksums did NOT match")
    return 1 if unreadable or mismatched else 0


def _warn(count: int, one: str, many: str) -> None:
    if count:
        print(f"penstock: WARNING: {count} {one if count == 1 else many}", file=sys.stderr)
