"""Arithmetic on power series whose terms are computed on demand: what Go's `test/chan/powser1.go` probes, in our words.

After M. D. McIlroy, "Squinting at Power Series" (1990). Every operation on a series is a task that waits to be asked
for a term and then asks for those it needs; an exponential is defined by itself. So there are hundreds of tasks, most
of them parked on one of two rendezvous channels, and selects whose cases go one after the other.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

import pytest
from colours import COLOURS, drive

from penstock import Channel, Group

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

END = None  # In place of a term: there are no more.


class Series:
    """A stream of coefficients, constant term first."""

    def __init__(self) -> None:
        self.ask: Channel[None] = Channel()
        self.answer: Channel[Fraction | None] = Channel()


class Algebra:
    """Operations on series, each at work in a task of the group."""

    def __init__(self, ops: Any, group: Group) -> None:
        self.ops = ops
        self.group = group

    def start(self, function: Callable[..., Awaitable[None]], *args: Any) -> None:
        if self.ops.name == "threads":
            self.group.go(lambda: drive(function(*args)))  # type: ignore[arg-type]
        else:
            self.group.go(function, *args)

    def made_by(self, function: Callable[..., Awaitable[None]], *args: Any) -> Series:
        series = Series()
        self.start(function, *args, series)
        return series

    # Talking to a series

    async def term(self, series: Series) -> Fraction | None:
        await self.ops.send(series.ask, None)
        return await self.ops.recv(series.answer)  # type: ignore[no-any-return]

    async def give(self, value: Fraction | None, series: Series) -> None:
        await self.ops.recv(series.ask)
        await self.ops.send(series.answer, value)

    async def pass_on(self, source: Series, target: Series) -> None:
        while True:
            await self.ops.recv(target.ask)
            await self.ops.send(target.answer, await self.term(source))

    async def terms(self, *sources: Series) -> list[Fraction | None]:
        """A term of each, asked for and received in whatever order they are ready."""
        found: list[Fraction | None] = [END] * len(sources)
        cases: list[Any] = [source.ask.sending(None) for source in sources]
        for _ in range(2 * len(sources)):
            got = await self.ops.select(*cases)
            if got.channel is sources[got.index].ask:
                cases[got.index] = sources[got.index].answer
            else:
                found[got.index] = got.value
                cases[got.index] = None
        return found

    # One series read twice, at different speeds

    async def split(self, source: Series, readers: list[Series]) -> None:
        turn: Channel[None] = Channel()
        self.start(self._serve_split, source, readers, turn)
        await self.ops.send(turn, None)

    async def twice(self, source: Series) -> list[Series]:
        readers = [Series(), Series()]
        await self.split(source, readers)
        return readers

    async def _serve_split(self, source: Series, readers: list[Series], turn: Channel[None]) -> None:
        """One term for both readers. The faster is served at once, the slower when those before have been: `turn`."""
        first, second = readers
        both = (await self.ops.select(first.ask, turn)).index == 1
        if both and (await self.ops.select(first.ask, second.ask)).index == 1:
            first, second = second, first
        await self.ops.send(source.ask, None)
        next_turn: Channel[None] = Channel()
        self.start(self._serve_split, source, [first, second], next_turn)
        value = await self.ops.recv(source.answer)
        await self.ops.send(first.answer, value)
        if not both:
            await self.ops.recv(turn)
        await self.give(value, second)
        await self.ops.send(next_turn, None)

    # Constructors

    def repeated(self, value: int) -> Series:
        async def work(out: Series) -> None:
            while True:
                await self.give(Fraction(value), out)

        return self.made_by(work)

    def finite(self, *values: int) -> Series:
        async def work(out: Series) -> None:
            for value in values:
                await self.give(Fraction(value), out)
            while True:
                await self.give(END, out)

        return self.made_by(work)

    def shifted(self, constant: Fraction, series: Series) -> Series:
        async def work(out: Series) -> None:
            await self.give(constant, out)
            await self.pass_on(series, out)

        return self.made_by(work)

    # Arithmetic

    def each(self, function: Callable[[int, Fraction], Fraction], series: Series) -> Series:
        """`function` of the index and the term."""

        async def work(out: Series) -> None:
            index = 0
            while True:
                await self.ops.recv(out.ask)
                value = await self.term(series)
                await self.ops.send(out.answer, END if value is END else function(index, value))
                index += 1

        return self.made_by(work)

    def scaled(self, factor: Fraction, series: Series) -> Series:
        return self.each(lambda _, value: factor * value, series)

    def sum(self, left: Series, right: Series) -> Series:
        async def work(out: Series) -> None:
            while True:
                await self.ops.recv(out.ask)
                one, other = await self.terms(left, right)
                rest = right if one is END else left if other is END else None
                if rest is not None:
                    await self.ops.send(out.answer, other if one is END else one)
                    await self.pass_on(rest, out)
                assert one is not END
                assert other is not END
                await self.ops.send(out.answer, one + other)

        return self.made_by(work)

    def product(self, left: Series, right: Series) -> Series:
        """(u + xU)(v + xV) = uv + x(uV + vU) + x^2 UV."""

        async def work(out: Series) -> None:
            await self.ops.recv(out.ask)
            u, v = await self.terms(left, right)
            if u is END or v is END:
                await self.ops.send(out.answer, END)
                await self.pass_on(self.finite(), out)
            assert u is not END
            assert v is not END
            await self.ops.send(out.answer, u * v)
            lefts = await self.twice(left)
            rights = await self.twice(right)
            middle = self.sum(self.scaled(u, rights[0]), self.scaled(v, lefts[0]))
            await self.give(await self.term(middle), out)
            await self.pass_on(self.sum(middle, self.product(lefts[1], rights[1])), out)

        return self.made_by(work)

    def derivative(self, series: Series) -> Series:
        async def work(out: Series) -> None:
            await self.ops.recv(out.ask)
            await self.term(series)
            await self.ops.send(out.answer, await self.term(series))
            await self.pass_on(series, out)

        return self.each(lambda index, value: (index + 1) * value, self.made_by(work))

    def integral(self, constant: int, series: Series) -> Series:
        return self.shifted(Fraction(constant), self.each(lambda index, value: value / (index + 1), series))

    def in_powers(self, series: Series, factor: int, power: int) -> Series:
        """The series in `factor * x ** power`."""

        async def work(out: Series) -> None:
            scale = Fraction(1)
            while True:
                await self.ops.recv(out.ask)
                value = await self.term(series)
                await self.ops.send(out.answer, END if value is END else scale * value)
                scale *= factor
                for _ in range(power - 1):
                    await self.give(Fraction(0), out)

        return self.made_by(work)

    async def exponential(self, series: Series) -> Series:
        """Z = exp(U) is the integral of Z times the derivative of U."""
        copies = [Series(), Series()]
        await self.split(self.integral(1, self.product(copies[0], self.derivative(series))), copies)
        return copies[1]

    async def reciprocal(self, series: Series) -> Series:
        """1 / (u + xU) = z + xZ, where z = 1/u and Z = -z U (z + xZ)."""

        async def work(out: Series) -> None:
            copies = [Series(), Series()]
            await self.ops.recv(out.ask)
            u = await self.term(series)
            assert u is not END
            z = 1 / u
            await self.ops.send(out.answer, z)
            await self.split(self.product(self.scaled(-z, series), self.shifted(z, copies[0])), copies)
            await self.pass_on(copies[1], out)

        return self.made_by(work)


def fractions(text: str) -> list[Fraction]:
    return [Fraction(word) for word in text.split()]


SERIES: dict[str, tuple[Callable[[Algebra], Any], list[Fraction]]] = {
    "ones": (lambda a: a.repeated(1), [Fraction(1)] * 8),
    "sum": (lambda a: a.sum(a.repeated(1), a.repeated(2)), [Fraction(3)] * 8),
    "sum with a finite one": (lambda a: a.sum(a.finite(5, 5), a.repeated(2)), fractions("7 7 2 2 2 2")),
    "scaled": (lambda a: a.scaled(Fraction(-1), a.repeated(2)), [Fraction(-2)] * 8),
    "derivative": (lambda a: a.derivative(a.repeated(1)), fractions("1 2 3 4 5 6 7 8")),
    "integral": (lambda a: a.integral(0, a.repeated(1)), fractions("0 1 1/2 1/3 1/4 1/5 1/6 1/7")),
    "product": (lambda a: a.product(a.repeated(1), a.repeated(1)), fractions("1 2 3 4 5 6 7 8")),
    "product of finite ones": (lambda a: a.product(a.finite(1, 1), a.repeated(1)), fractions("1 2 2 2 2")),
    "reciprocal": (lambda a: a.reciprocal(a.repeated(1)), fractions("1 -1 0 0 0 0")),
    "exponential": (lambda a: a.exponential(a.repeated(1)), fractions("1 1 3/2 13/6 73/24 167/40 4051/720 37633/5040")),
    "arctangent": (
        lambda a: a.integral(0, a.in_powers(a.repeated(1), -1, 2)),
        fractions("0 1 0 -1/3 0 1/5 0 -1/7 0 1/9"),
    ),
}


@pytest.mark.parametrize("ops", COLOURS, ids=lambda ops: ops.name)
@pytest.mark.parametrize("name", SERIES)
def test_power_series(ops: Any, name: str) -> None:
    """Terms asked of a network of tasks that grows as they are asked for; in the end all are cancelled (powser1.go)."""
    make, expected = SERIES[name]

    async def body(ops: Any) -> None:
        async with ops.inside(Group()) as group:
            algebra = Algebra(ops, group)
            series = make(algebra)
            if not isinstance(series, Series):
                series = await series
            assert [await algebra.term(series) for _ in expected] == expected
            group.context.cancel()

    ops.run(body)
