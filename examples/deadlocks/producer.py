"""A producer that outlives its consumer: it waits for ever to hand over what nobody wants any more."""

from __future__ import annotations

from itertools import count

from penstock import Channel, RecvChannel, go


def squares() -> RecvChannel[int]:
    numbers: Channel[int] = Channel()

    def produce() -> None:
        for n in count():
            numbers.send(n * n)

    go(produce)
    return numbers.receiver


def first_over(limit: int) -> int:
    return next(square for square in squares() if square > limit)


print(first_over(50))
