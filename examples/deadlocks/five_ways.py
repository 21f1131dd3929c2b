"""Five ways to wait for ever: for two locks that main holds, for two channels that say nothing, and for a receiver."""

from __future__ import annotations

from penstock import Channel, Mutex, WaitGroup, select

left = Mutex()
right = Mutex()
empty: Channel[str] = Channel(name="empty")
unread: Channel[str] = Channel(name="unread")


def lock_left() -> None:
    with left:
        pass


def lock_right() -> None:
    with right:
        pass


def receive_from_empty() -> None:
    print(empty.recv())


def receive_from_nil() -> None:
    print(select(None))


def send_to_nobody() -> None:
    unread.send("hello")


tasks = WaitGroup()
with left, right:
    for function in (lock_left, lock_right, receive_from_empty, receive_from_nil, send_to_nobody):
        tasks.go(function)
    tasks.wait()
