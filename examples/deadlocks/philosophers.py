"""The dining philosophers: each takes the fork to the left, and then waits for the one to the right."""

from __future__ import annotations

from penstock import Group, Mutex, WaitGroup

NAMES = ("Anscombe", "Beauvoir", "Conway", "Diotima", "Elisabeth")
forks = [Mutex() for _ in NAMES]
all_have_one = WaitGroup()  # So that it happens each time.
all_have_one.add(len(NAMES))


def dine(seat: int) -> None:
    left, right = forks[seat], forks[(seat + 1) % len(forks)]
    with left:
        all_have_one.done()
        all_have_one.wait()
        with right:
            print(NAMES[seat], "eats")


with Group() as group:
    for seat in range(len(NAMES)):
        group.go(dine, seat)
