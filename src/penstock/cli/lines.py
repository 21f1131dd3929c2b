"""What is printed and read: lines as sha256sum has them, `HEX  PATH`. Paths are bytes."""

from __future__ import annotations

import errno
import os
import re
import sys
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from collections.abc import Iterable

_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_LINE = re.compile(rb"(\\?)([0-9a-fA-F]+) [ *](.+)", re.DOTALL)


def escape(path: bytes) -> tuple[bytes, bytes]:
    """The mark that a line with this path begins with, if any, and the path as it stands in the line.

    Backslashes, newlines and carriage returns are escaped.
    """
    escaped = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], path)
    return (b"\\" if escaped != path else b""), escaped


def format_line(digest: str, path: bytes) -> bytes:
    """One line, with the newline."""
    mark, name = escape(path)
    return b"%s%s  %s\n" % (mark, digest.encode(), name)


def format_json(digest: str, path: bytes) -> bytes:
    """One line of JSON. Undecodable bytes become lone surrogates, escaped: os.fsencode() gives the path back."""
    import json

    return json.dumps({"path": os.fsdecode(path), "digest": digest}).encode() + b"\n"


def parse_line(line: bytes, digits: int) -> tuple[str, bytes] | None:
    """The digest and the path of a line without its newline; None if it is no such line."""
    found = _LINE.fullmatch(line)
    if found is None or len(found[2]) != digits:
        return None
    path = found[3]
    if found[1]:
        path = re.sub(rb"\\[\\nr]", lambda escaped: _UNESCAPES[escaped[0]], path)
    return found[2].decode().lower(), path


def write(lines: Iterable[bytes]) -> None:
    """Print lines on standard output."""
    if sys.stdout is None:  # It was closed when we were started.
        raise click.ClickException(f"write error: {os.strerror(errno.EBADF)}")
    try:
        sys.stdout.buffer.writelines(lines)
        sys.stdout.buffer.flush()
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # Where the rest goes, at the exit.
        raise click.ClickException(f"write error: {error.strerror}") from None


def complain(path: bytes, error: OSError) -> None:
    """Tell on standard error, in one line, why a file could not be read."""
    if sys.stderr is None:
        return
    mark, name = escape(path)
    sys.stderr.buffer.write(b"penstock: %s%s: %s\n" % (mark, name, (error.strerror or str(error)).encode()))
    sys.stderr.buffer.flush()


def warn(count: int, one: str, many: str) -> None:
    """Tell on standard error how many of something there were, if there were any."""
    if count and sys.stderr is not None:
        print(f"penstock: WARNING: {count} {one if count == 1 else many}", file=sys.stderr)
