"""Answering `penstock dump`: a thread that gives a report of this process to its own user.

One who asks sends a line with the form that is wanted, and is sent a line with this process's number, and the report.
"""

from __future__ import annotations

import atexit
import os
import select
import socket
import struct
import sys
from functools import partial
from typing import TYPE_CHECKING

from penstock._kernel.threads import start_daemon
from penstock.deadlock.forms import in_form
from penstock.deadlock.places import SUPPORTED, own_directory, remove_stale

if TYPE_CHECKING:
    from pathlib import Path

PATIENCE = 2.0
"""How long, in seconds, one who asks may take to say what."""
LONGEST_LINE = 64


class Server:
    """Serves until `stop`. Where that cannot be set up, `problem` says why, and nothing is served."""

    def __init__(self) -> None:
        self.problem: OSError | None = None
        self._path: Path | None = None
        self._identity: tuple[int, int] | None = None
        self._socket: socket.socket | None = None
        self._stopping: tuple[socket.socket, socket.socket] | None = None

    def start(self) -> None:
        """Serve in a thread of its own."""
        if not SUPPORTED:
            return
        listener = socket.socket(socket.AF_UNIX)
        try:
            place = own_directory()
            remove_stale(place)
            path = place / str(os.getpid())
            path.unlink(missing_ok=True)
            listener.bind(str(path))
            path.chmod(0o600)
            listener.listen()
        except OSError as error:
            listener.close()
            self.problem = error
            return
        status = path.stat()
        self._identity = (status.st_dev, status.st_ino)
        self._path = path
        self._socket = listener
        self._stopping = socket.socketpair()
        atexit.register(self._remove)
        start_daemon(partial(_serve, listener, self._stopping[0]), "penstock-dump")

    def stop(self) -> None:
        """Serve no more. Idempotent."""
        atexit.unregister(self._remove)
        self._remove()
        if self._stopping is not None:
            self._stopping[1].close()
            self._stopping = None

    def forget(self) -> None:
        """In a child process: what is served here is the parent's."""
        atexit.unregister(self._remove)
        for each in (self._socket, *(self._stopping or ())):
            if each is not None:
                each.close()
        self._path = self._socket = self._stopping = None

    def _remove(self) -> None:
        path, self._path = self._path, None
        if path is None:
            return
        try:
            status = path.lstat()
            if (status.st_dev, status.st_ino) == self._identity:
                path.unlink()
        except OSError:
            pass  # It is gone already.


def _serve(listener: socket.socket, stopping: socket.socket) -> None:
    """Until the other end of `stopping` is closed, which may have been done before this thread runs."""
    poll = select.poll()
    poll.register(listener, select.POLLIN)
    poll.register(stopping, select.POLLIN)
    with listener, stopping:
        while True:
            ready = {file for file, _ in poll.poll()}
            if stopping.fileno() in ready:
                return
            try:
                asking, _ = listener.accept()
                with asking:
                    _answer(asking)
            except OSError:
                pass  # Whoever asked has gone away.
            except Exception as error:  # noqa: BLE001  the next one is served all the same
                sys.excepthook(type(error), error, error.__traceback__)


def _answer(asking: socket.socket) -> None:
    asking.settimeout(PATIENCE)
    if not _is_welcome(asking):
        return
    line = b""
    while not line.endswith(b"\n"):
        more = asking.recv(LONGEST_LINE)
        line += more
        if not more or len(line) > LONGEST_LINE:
            return
    text = in_form(line.decode("ascii", "replace").strip())
    asking.sendall(f"penstock {os.getpid()}\n{text}".encode(errors="backslashreplace"))


def _is_welcome(asking: socket.socket) -> bool:
    """Is it this user, or the superuser? The directory keeps others out; where the system tells, look all the same."""
    option = getattr(socket, "SO_PEERCRED", None)
    if option is None:
        return True
    _, user, _ = struct.unpack("3i", asking.getsockopt(socket.SOL_SOCKET, option, struct.calcsize("3i")))
    return user in (0, os.geteuid())
