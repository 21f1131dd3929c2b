"""Where the items of a stream come from: its source, and what a function gave.

Whatever brings new items looks at the ambient context for each of them: stages that keep nothing end with it, too. In
asyncio it also gives the loop a turn now and then, since it may never have to wait.
"""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from penstock._kernel.locks import now
from penstock._kernel.loops import one_step
from penstock.channel import Channel, RecvChannel
from penstock.context import current
from penstock.group import is_async
from penstock.patterns.coroutines import refuse_coroutine

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Iterable, Iterator

TURN = 5e-3
"""Seconds: how long a stream that never has to wait keeps an event loop from its other work."""
REMEDY = "pass the async function itself, and read the stream with 'async for'"


def refuse_async(function: Any) -> None:
    """TypeError if a thread cannot use it."""
    if is_async(function):
        raise TypeError(f"{function!r} is an async function; read this stream with 'async for'")


def refuse_async_source(source: Any) -> None:
    """The same."""
    if not hasattr(source, "__iter__") and hasattr(source, "__aiter__"):
        raise TypeError(f"{source!r} is an asynchronous iterable; read this stream with 'async for'")


def iterator_of(source: Any) -> Iterator[Any]:
    """For a thread to read."""
    refuse_async_source(source)
    return iter(source)


def heeded(items: Iterable[Any]) -> Iterator[Any]:
    """The items, while the ambient context lasts: none is taken after its end."""
    current().check()
    for item in items:
        yield item
        current().check()


def given(function: Callable[[Any], Any], argument: Any) -> Iterator[Any]:
    """The items of what the function gives; `heeded`, and closed early with the stage."""
    items = function(argument)
    del argument
    refuse_coroutine(items, function, REMEDY)
    iterator = iterator_of(items)
    try:
        yield from heeded(iterator)
    except BaseException:
        if is_ours(iterator) and hasattr(iterator, "close"):
            iterator.close()
        raise


async def agiven(function: Callable[[Any], Any], argument: Any) -> AsyncGenerator[Any, None]:
    """As `given`."""
    items = function(argument)
    del argument
    if is_async(function):
        items = await items
    refuse_coroutine(items, function, REMEDY)
    iterator = aiter(items) if hasattr(items, "__aiter__") else iter(items)
    try:
        async with aclosing(each(iterator)) as heeded_items:
            async for item in heeded_items:
                yield item
    except BaseException:
        if is_ours(iterator):
            if hasattr(iterator, "aclose"):
                await iterator.aclose()
            elif hasattr(iterator, "close"):
                iterator.close()
        raise


def is_ours(iterator: Any) -> bool:
    """May it be closed? A channel iterates over itself, and is somebody else's."""
    return not isinstance(iterator, Channel | RecvChannel)


async def each(source: Any) -> AsyncGenerator[Any, None]:
    """An iterable of either kind, as an asynchronous one; heeded, and with turns for the loop."""
    current().check()
    due = now() + TURN
    if hasattr(source, "__aiter__"):
        async for item in source:
            yield item
            if now() >= due:
                due = await _turn()
            current().check()
    else:
        for item in source:
            yield item
            if now() >= due:
                due = await _turn()
            current().check()


async def nothing() -> AsyncGenerator[Any, None]:
    """The end."""
    none: tuple[Any, ...] = ()
    for item in none:
        yield item


async def _turn() -> float:
    """Let the loop's other tasks run, and cancel this one; when to do so again."""
    await one_step()
    return now() + TURN
