"""Done, in five versions: a request is looked up in an expensive way, and whoever asked goes away meanwhile.

After the examples of talks on Go's patterns. Each version prints what it does; the comments say what is wrong with it.

    python examples/done.py
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from penstock import Channel, DeadlineExceeded, Group, call, cancel_scope, current, fail_after, go, select, sleep

if TYPE_CHECKING:
    from collections.abc import Callable

STEP = 0.05
"""Seconds: what is waited for takes four of them, and whoever waits goes after two."""


def expensive() -> str:
    """Takes long, and knows nothing of contexts."""
    sleep(4 * STEP)
    return "answer"


def with_a_done_channel() -> None:
    """One channel tells every worker at once to stop: closing it reaches them all."""
    done: Channel[None] = Channel()
    numbers: Channel[int] = Channel()

    def count() -> None:
        number = 0
        while select(numbers.sending(number), done.receiver).channel is numbers:
            number += 1
        print("1. done channel: the worker has stopped")

    with Group() as group:
        group.go(count)
        print("1. done channel: received", [numbers.recv() for _ in range(3)])
        done.close()


def the_common_mistake() -> None:
    """The context is looked at after the call: whoever has gone is noticed when the price has been paid."""
    with cancel_scope() as context:
        go(lambda: (sleep(2 * STEP), context.cancel()))
        without_a_context(expensive)()
        print("2. the mistake: the call has been waited for,", "and nobody wants it" if context.error else "as wanted")


def the_fix() -> None:
    """The call runs beside, and its answer is waited for no longer than somebody wants it.

    In its usual form the channel has no room, so that a call whose answer nobody takes waits for ever. With room
    for one, it ends.
    """
    answers = go_without_a_context(expensive)
    try:
        with fail_after(2 * STEP):
            print("3. the fix: received", answers.recv())
    except DeadlineExceeded:
        print("3. the fix: gone before the answer")
    print("3. the fix: the call has ended by itself, with", answers.recv())


def with_a_context() -> None:
    """The library's form of the fix: `call` leaves the call behind, and drops its answer."""
    try:
        with fail_after(2 * STEP):
            print("4. context: received", call(without_a_context(expensive)))
    except DeadlineExceeded:
        print("4. context: gone before the answer")


def with_a_call_that_supports_contexts() -> None:
    """Best of all is a call that stops by itself: every operation of the library does."""
    try:
        with fail_after(2 * STEP):
            print("5. a call that supports contexts: received", expensive())
    except DeadlineExceeded:
        print("5. a call that supports contexts: it has stopped, and so has its work")


def without_a_context(function: Callable[[], str]) -> Callable[[], str]:
    """`function`, as one that does not see the context that it is called in."""

    def run() -> str:
        with current().without_cancel().attach():
            return function()

    return run


def go_without_a_context(function: Callable[[], str]) -> Channel[str]:
    """Call it in a task of its own; the answer finds room, whether it is taken or not."""
    answers: Channel[str] = Channel(1)
    go(lambda: answers.send_nowait(without_a_context(function)()))
    return answers


if __name__ == "__main__":
    with_a_done_channel()
    the_common_mistake()
    the_fix()
    with_a_context()
    with_a_call_that_supports_contexts()
