"""A wait group reused too early: whoever comes late to the first round's end waits for the second's."""

from __future__ import annotations

from penstock import Channel, Group, WaitGroup, sleep

WORKERS = 3
round_over = WaitGroup()
next_round: Channel[int] = Channel()


def work(number: int) -> None:
    for _ in range(2):
        round_over.done()
        sleep(0.1 * number)  # The last one comes to wait when the next round has begun.
        round_over.wait()
        next_round.recv()


with Group() as group:
    round_over.add(WORKERS)
    for number in range(WORKERS):
        group.go(work, number)
    for _ in range(2):
        round_over.wait()
        round_over.add(WORKERS)
        for _ in range(WORKERS):
            next_round.send(1)
