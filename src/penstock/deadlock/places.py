"""Where the processes that watch can be asked for a report: a socket each, in a directory of their user's alone."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from pathlib import Path

SUPPORTED = os.name == "posix"


class UnsafePlaceError(OSError):
    """The directory, or the socket in it, might be somebody else's."""


def directory(user: int, temporary: str | None = None) -> Path:
    """The directory of that user's processes, inside a directory for temporary files."""
    return Path(temporary or tempfile.gettempdir()) / f"penstock-{user}"


def require_safe(path: Path, user: int, kind: int) -> None:
    """Raise `UnsafePlaceError` unless `path` is of that kind, the user's own, and no link.

    A directory must also be closed to all others, so that what is in it is the user's as well.
    """
    status = path.lstat()
    if stat.S_IFMT(status.st_mode) != kind:
        raise UnsafePlaceError(f"{path} is not a {'directory' if kind == stat.S_IFDIR else 'socket'}")
    if status.st_uid != user:
        raise UnsafePlaceError(f"{path} belongs to the user {status.st_uid}, not to {user}")
    if kind == stat.S_IFDIR and status.st_mode & 0o077:
        raise UnsafePlaceError(f"{path} is open to other users (mode {stat.S_IMODE(status.st_mode):o})")


def own_directory() -> Path:
    """The directory of the running process's user, made if need be."""
    user = os.geteuid()
    path = directory(user)
    with suppress(FileExistsError):
        path.mkdir(mode=0o700)
    require_safe(path, user, stat.S_IFDIR)
    return path


def is_alive(process: int) -> bool:
    """Is there a process of that number?"""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        pass
    return True


def remove_stale(path: Path) -> None:
    """Remove what processes have left that were killed."""
    for entry in path.iterdir():
        if entry.name.isdecimal() and not is_alive(int(entry.name)):
            entry.unlink(missing_ok=True)
