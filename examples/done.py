"""Done, in five versions: a request takes long, and whoever asked waits for a part of that only.

After the examples of talks on Go's patterns. Each version prints what it does; the comments say what is wrong with it.

    python examples/done.py
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from penstock import Cancelled, Channel, after, call, current, go, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

PATIENCE = 0.1
LONG = 5 * PATIENCE


def expensive() -> str:
    """Takes long, and knows nothing of contexts."""
    time.sleep(LONG)
    return "answer"


def expensive_in_a_context() -> str:
    """Takes as long, by an operation of the library: those obey the ambient context."""
    sleep(LONG)
    return "answer"


def with_a_done_channel() -> None:
    """The scheme: the worker offers its result, and stops when nobody wants it any more."""

    def worker(results: Channel[str], done: Channel[None]) -> None:
        result = expensive()
        select(results.sending(result), done)

    request(worker)


def the_common_mistake() -> None:
    """It looks as if the worker could stop at once; but a case's value is computed before `select` looks at any case.

    The one who asked has gone, and the worker is still in the call.
    """

    def worker(results: Channel[str], done: Channel[None]) -> None:
        select(results.sending(expensive()), done)

    request(worker)


def the_fix() -> None:
    """The call runs in a task of its own, and the worker waits for it or for the end.

    In its usual form the channel between them has no room, so that the call, when it is done, waits for ever for
    somebody to take its result. With room for one it ends.
    """

    def worker(results: Channel[str], done: Channel[None]) -> None:
        own: Channel[str] = Channel(1)
        go(lambda: own.send(expensive()))
        got = select(own, done)
        if got.channel is done:
            print("request canceled")
        else:
            select(results.sending(got.value), done)

    request(worker)


def with_a_context() -> None:
    """A context in place of `done`; `call` is the library's form of the fix: it leaves the call behind."""

    def worker(results: Channel[str]) -> None:
        try:
            results.send(call(expensive))
        except Cancelled as error:
            print("request canceled:", error)

    request_in_a_context(worker)


def with_a_call_that_takes_a_context() -> None:
    """Best of all is a call that stops by itself: nothing is left behind."""

    def worker(results: Channel[str]) -> None:
        try:
            results.send(expensive_in_a_context())
        except Cancelled as error:
            print("request error:", error)

    request_in_a_context(worker)


def request(worker: Callable[[Channel[str], Channel[None]], None]) -> None:
    """Wait for the worker's result for a while; then close `done`."""
    results: Channel[str] = Channel()
    done: Channel[None] = Channel()
    task = go(worker, results, done)
    show(select(results, after(PATIENCE)).channel is results)
    done.close()
    task.result()  # Only to keep the versions apart.


def request_in_a_context(worker: Callable[[Channel[str]], None]) -> None:
    """Wait for the worker's result for a while; then cancel its context."""
    results: Channel[str] = Channel()
    context = current().with_cancel()
    with context.attach():
        task = go(worker, results)
    show(select(results, after(PATIENCE)).channel is results)
    context.cancel()
    task.result()


def show(answered: bool) -> None:
    """Print what came of a request."""
    print("request answered" if answered else "request timeout")


if __name__ == "__main__":
    for version in (
        with_a_done_channel,
        the_common_mistake,
        the_fix,
        with_a_context,
        with_a_call_that_takes_a_context,
    ):
        print(f"{version.__name__.replace('_', ' ')}:")
        version()
