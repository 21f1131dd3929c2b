"""Asking a running process for its report, as `penstock dump` does."""

from __future__ import annotations

import os
import socket
import stat
from pathlib import Path

from penstock.deadlock.places import SUPPORTED, UnsafePlaceError, directory, is_alive, require_safe

PATIENCE = 10.0


class CannotAskError(Exception):
    """Why there is no report of that process, in a sentence for its user."""


def ask(process: int, form: str) -> str:
    """The report of that process, in that form. `CannotAskError` tells why there is none."""
    if not SUPPORTED:
        raise CannotAskError("asking a running process is not supported on Windows")
    if not is_alive(process):
        raise CannotAskError(f"there is no process {process}")
    owner = _owner(process)
    if os.geteuid() not in (0, owner):
        raise CannotAskError(f"process {process} is another user's")
    place = _place(process, owner)
    if place is None:
        raise _not_watching(process)
    with socket.socket(socket.AF_UNIX) as asking:
        asking.settimeout(PATIENCE)
        try:
            asking.connect(str(place))
            asking.sendall(f"{form}\n".encode())
            answer = b"".join(iter(lambda: asking.recv(1 << 16), b""))
        except TimeoutError:
            raise CannotAskError(
                f"process {process} did not answer within {PATIENCE:g} seconds; it may be stopped, or be inside C code "
                "that does not let other threads run"
            ) from None
        except (ConnectionError, FileNotFoundError):
            raise _not_watching(process) from None
        except OSError as error:
            raise CannotAskError(f"process {process} cannot be asked: {error}") from None
    header, _, text = answer.decode(errors="replace").partition("\n")
    if header != f"penstock {process}":
        raise CannotAskError(f"process {process} gave no report; it may be ending, or another process answered")
    return text


def _not_watching(process: int) -> CannotAskError:
    return CannotAskError(
        f"process {process} does not watch for deadlocks; start it with 'penstock run', or call "
        "penstock.deadlock.watch() in it"
    )


def _owner(process: int) -> int:
    """The user whose process it is: -1 if somebody else's, and more is not known."""
    try:
        return Path(f"/proc/{process}").stat().st_uid
    except OSError:
        pass
    try:
        os.kill(process, 0)
    except PermissionError:
        return -1
    except OSError:
        pass
    return os.geteuid()


def _place(process: int, owner: int) -> Path | None:
    """The socket at which that process may be asked, once it is certain that it is its user's."""
    for temporary in (None, _temporary_directory(process)):
        place = directory(owner, temporary)
        try:
            require_safe(place, owner, stat.S_IFDIR)
            require_safe(place / str(process), owner, stat.S_IFSOCK)
        except UnsafePlaceError as error:
            raise CannotAskError(f"not asking process {process}: {error}") from None
        except OSError:
            continue
        return place / str(process)
    return None


def _temporary_directory(process: int) -> str | None:
    """Where that process has its temporary files, if its environment says so."""
    try:
        variables = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    except OSError:
        return None
    for variable in variables:
        name, _, value = variable.partition(b"=")
        if name == b"TMPDIR" and value:
            return os.fsdecode(value)
    return None
