"""The standard library's locks, as they are while somebody watches in what order locks are taken."""

from __future__ import annotations

import _thread
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import CodeType, FrameType, TracebackType

_STANDARD = tuple({f"{path}/" for name in ("stdlib", "platstdlib") for path in (sysconfig.get_path(name),) if path})
_ADDED = ("site-packages", "dist-packages")  # Inside the standard library's directory, and no part of it.
_OWN = str(Path(__file__).parent.parent)


class Hooks:
    """Who is told of what becomes of the locks."""

    def wanted(self, lock: Any, *, for_ever: bool) -> None:
        """The calling task is about to wait for `lock`."""
        raise NotImplementedError

    def taken(self, lock: Any, frame: FrameType) -> None:
        """The calling task has taken `lock`, in `frame`."""
        raise NotImplementedError

    def released(self, lock: Any) -> None:
        """`lock` is about to be free."""
        raise NotImplementedError


class WatchedLock:
    """A `threading.Lock` that tells what becomes of it."""

    __slots__ = ("__weakref__", "_hooks", "_lock", "made")
    kind = "threading.Lock"

    def __init__(self, lock: Any, hooks: Hooks, made: tuple[CodeType, int]) -> None:
        self._lock = lock
        self._hooks = hooks
        self.made = made
        """The code that made it, and the instruction there."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        return self._acquire(blocking, timeout, sys._getframe(1))

    def _acquire(self, blocking: bool, timeout: float, frame: FrameType) -> bool:
        if blocking and timeout != 0:
            self._hooks.wanted(self, for_ever=timeout < 0)
        taken = self._lock.acquire(blocking, timeout)
        if taken:
            self._hooks.taken(self, frame)
        return bool(taken)

    def release(self) -> None:
        self._hooks.released(self)
        self._lock.release()

    def __enter__(self) -> bool:
        return self._acquire(True, -1, sys._getframe(1))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lock, name)

    def __repr__(self) -> str:
        return repr(self._lock)


class WatchedRLock(WatchedLock):
    """A `threading.RLock` that tells what becomes of it. Taking it again is nobody's concern."""

    __slots__ = ("_depth",)
    kind = "threading.RLock"

    def __init__(self, lock: Any, hooks: Hooks, made: tuple[CodeType, int]) -> None:
        WatchedLock.__init__(self, lock, hooks, made)
        self._depth = 0  # Changed by the owner alone.

    def _acquire(self, blocking: bool, timeout: float, frame: FrameType) -> bool:
        if self._lock._is_owned():
            self._lock.acquire(blocking, timeout)
            self._depth += 1
            return True
        taken = WatchedLock._acquire(self, blocking, timeout, frame)
        if taken:
            self._depth = 1
        return taken

    def release(self) -> None:
        if self._lock._is_owned():
            self._depth -= 1
            if self._depth == 0:
                self._hooks.released(self)
        self._lock.release()

    # For `threading.Condition`

    def _release_save(self) -> Any:
        self._hooks.released(self)
        depth, self._depth = self._depth, 0
        return self._lock._release_save(), depth

    def _acquire_restore(self, state: Any) -> None:
        inner, depth = state
        self._hooks.wanted(self, for_ever=True)
        self._lock._acquire_restore(inner)
        self._depth = depth
        self._hooks.taken(self, sys._getframe(1))


class _Factory(type):
    """A class that makes watched locks for the program, and plain ones for the standard library and for Penstock."""

    made: type[WatchedLock]
    plain: Any
    kinds: tuple[type, ...]
    hooks: Hooks

    def __call__(cls, *args: Any, **options: Any) -> Any:
        lock = cls.plain(*args, **options)
        frame = sys._getframe(1)
        if _is_foreign(frame.f_code.co_filename):
            return cls.made(lock, cls.hooks, (frame.f_code, frame.f_lasti))
        return lock

    def __instancecheck__(cls, instance: Any) -> bool:
        return type(instance) is cls.made or isinstance(instance, cls.kinds)


def _is_foreign(file: str) -> bool:
    if file.startswith((_OWN, "<frozen")):
        return False
    return not file.startswith(_STANDARD) or any(part in file for part in _ADDED)


_plain: dict[str, Any] = {}


def replace(hooks: Hooks) -> None:
    """From now on let the locks that the program makes tell `hooks`."""
    import threading

    if _plain:
        return
    _plain["Lock"] = threading.Lock
    _plain["RLock"] = threading.RLock
    for name, made, kind in (
        ("Lock", WatchedLock, type(_thread.allocate_lock())),
        ("RLock", WatchedRLock, type(threading.RLock())),
    ):
        members = {"made": made, "plain": staticmethod(_plain[name]), "kinds": (kind,), "hooks": hooks}
        members["__module__"] = "threading"
        setattr(threading, name, _Factory(name, (), members))


def restore() -> None:
    """Undo `replace`. The locks that have been made meanwhile go on as they are."""
    import threading

    for name, plain in _plain.items():
        setattr(threading, name, plain)
    _plain.clear()
