"""Two tasks take the same two locks, in different orders."""

from __future__ import annotations

from penstock import Group, Mutex, WaitGroup

accounts = Mutex()
journal = Mutex()
both = WaitGroup()  # So that it happens each time, and not once a year.
both.add(2)


def book() -> None:
    with accounts:
        both.done()
        both.wait()
        with journal:
            print("booked")


def audit() -> None:
    with journal:
        both.done()
        both.wait()
        with accounts:
            print("audited")


with Group() as group:
    group.go(book)
    group.go(audit)
