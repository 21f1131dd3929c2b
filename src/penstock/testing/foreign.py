"""What an explored scenario must not do: wait in the real world, or start something that acts there."""

from __future__ import annotations

import sys
from typing import Any

from penstock._kernel.simulation import simulated, thread_number

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

_state = {"hooked": False}


def _audit(event: str, _args: tuple[Any, ...]) -> None:
    if event in CALLS and simulated.worlds:
        world: Any = simulated.worlds.get(thread_number())
        if world is not None and not world.over and not world.exempt:
            world.refuse(CALLS[event], INSTEAD.get(event, ""))


def refuse() -> None:
    """From now on, such calls raise RuntimeError in explored worlds, and end the exploration."""
    if not _state["hooked"]:
        _state["hooked"] = True
        sys.addaudithook(_audit)
