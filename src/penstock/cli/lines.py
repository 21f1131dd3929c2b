"""The format of sha256sum: `HEX  PATH`, one line a file. Paths are bytes."""

from __future__ import annotations

import re

_ESCAPES = {b"\\": b"\\\\", b"\n": b"\\n", b"\r": b"\\r"}
_UNESCAPES = {escaped: plain for plain, escaped in _ESCAPES.items()}
_LINE = re.compile(rb"(\\?)([0-9a-fA-F]+) [ *](.+)", re.DOTALL)


def format_line(digest: str, path: bytes) -> bytes:
    """One line, with the newline. A path with a backslash, newline or carriage return is escaped, and so marked."""
    escaped = re.sub(rb"[\\\n\r]", lambda found: _ESCAPES[found[0]], path)
    mark = b"\\" if escaped != path else b""
    return b"%s%s  %s\n" % (mark, digest.encode(), escaped)


def parse_line(line: bytes, digits: int) -> tuple[str, bytes] | None:
    """The digest and the path of a line without its newline; None if it is no such line."""
    found = _LINE.fullmatch(line)
    if found is None or len(found[2]) != digits:
        return None
    path = found[3]
    if found[1]:
        path = re.sub(rb"\\[\\nr]", lambda escape: _UNESCAPES[escape[0]], path)
    return found[2].decode().lower(), path
