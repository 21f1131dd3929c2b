"""What an explored scenario must not do: wait in the real world, or start something that acts there."""

from __future__ import annotations

import sys
from functools import wraps
from types import ModuleType
from typing import TYPE_CHECKING, Any

from penstock._kernel.simulation import simulated

if TYPE_CHECKING:
    from collections.abc import Callable

CALLS = {
    "time.sleep": "time.sleep()",
    "_thread.start_new_thread": "threading.Thread.start()",
    "_thread.start_joinable_thread": "threading.Thread.start()",
    "socket.__new__": "socket.socket()",
    "socket.connect": "socket.connect()",
    "socket.bind": "socket.bind()",
    "socket.getaddrinfo": "socket.getaddrinfo()",
    "subprocess.Popen": "subprocess.Popen()",
    "builtins.input": "input()",
    "os.fork": "os.fork()",
    "os.posix_spawn": "os.posix_spawn()",
    "os.system": "os.system()",
    "signal.pthread_kill": "signal.pthread_kill()",
}
"""The names of audit events, and of the calls that cause them."""

INSTEAD = {
    "time.sleep": "penstock.sleep",
    "_thread.start_new_thread": "penstock.go",
    "_thread.start_joinable_thread": "penstock.go",
}

_UNAUDITED = [
    *([("time.sleep", "time", "sleep")] if sys.version_info < (3, 13) else []),
    *([("_thread.start_new_thread", "_thread", "start_new_thread")] if sys.version_info < (3, 12) else []),
]
"""What older Pythons raise no audit event for: the event, and the function that has to be replaced meanwhile."""

_state = {"hooked": False}


def _audit(event: str, _args: tuple[Any, ...]) -> None:
    if event in CALLS and simulated.worlds:
        world: Any = simulated.world()
        if world is not None and not world.over and not world.exempt:
            world.refuse(CALLS[event], INSTEAD.get(event, ""))


def _audited(event: str, original: Callable[..., Any]) -> Callable[..., Any]:
    @wraps(original)
    def function(*args: Any, **options: Any) -> Any:
        _audit(event, ())
        return original(*args, **options)

    return function


def refuse() -> Callable[[], None]:
    """From now on, such calls raise RuntimeError in explored worlds, and end the exploration. Returns the undoing."""
    if not _state["hooked"]:
        _state["hooked"] = True
        sys.addaudithook(_audit)
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    for event, module, name in _UNAUDITED:
        original = getattr(sys.modules[module], name)
        instead = _audited(event, original)
        modules: list[Any] = list(sys.modules.values())  # Of which some are no modules.
        for names in [vars(other) for other in modules if isinstance(other, ModuleType)]:
            for key in [key for key, value in list(names.items()) if value is original]:
                names[key] = instead
                replaced.append((names, key, original))

    def restore() -> None:
        for names, key, original in replaced:
            names[key] = original

    return restore
