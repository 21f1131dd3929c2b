"""Sharding: a map that many threads change at once, in parts with a lock each."""

from __future__ import annotations

from collections.abc import ItemsView, Iterator, KeysView, Mapping, MutableMapping, ValuesView
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any, Generic, TypeVar, final

from penstock._kernel.shards import ShardedMapCore, missing_mark

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["ShardedMap", "ShardedMapStatistics"]

K = TypeVar("K")
V = TypeVar("V")
D = TypeVar("D")


@dataclass(frozen=True)
class ShardedMapStatistics:
    """A map, shard by shard, each as it was when it was looked at."""

    sizes: tuple[int, ...]
    """How many items each shard has."""
    contended: tuple[int, ...]
    """How many changes of each shard had to wait for another's."""

    @property
    def size(self) -> int:
        """How many items there are."""
        return sum(self.sizes)

    @property
    def skew(self) -> float:
        """The size of the largest shard in terms of the mean; 1.0: perfectly even, and of an empty map."""
        return max(self.sizes) * len(self.sizes) / self.size if self.size else 1.0


class _Items(ItemsView[K, V]):
    _mapping: ShardedMap[K, V]

    def __iter__(self) -> Iterator[tuple[K, V]]:
        return chain.from_iterable(part.items() for part in self._mapping.parts())


class _Values(ValuesView[V]):
    _mapping: ShardedMap[Any, V]

    def __iter__(self) -> Iterator[V]:
        return chain.from_iterable(part.values() for part in self._mapping.parts())


@final
class ShardedMap(ShardedMapCore, MutableMapping[K, V], Generic[K, V]):
    """A mutable mapping for many threads at once, in `shards` parts with a lock each, by the hash of the key.

    Reading never waits. Each change of one key is atomic, as are `update_with`, `compute_if_absent`, `setdefault` and
    `pop`; changes of keys in different shards do not wait for each other. `clear` and `update` are not atomic: what
    they have changed before an error stays changed. Iterating copies one shard after the other and holds no lock: each
    key comes at most once, and those that are present throughout exactly once. `snapshot` is of one instant. A change
    that has to wait for another's callback parks the thread, even one that runs an event loop, whatever becomes of the
    context.
    """

    __slots__ = ()
    __hash__ = None  # type: ignore[assignment]  # as of all mutable mappings

    if TYPE_CHECKING:

        def __init__(self, shards: int = 16) -> None: ...
        def __getitem__(self, key: K) -> V: ...
        def __setitem__(self, key: K, value: V) -> None: ...
        def __delitem__(self, key: K) -> None: ...
        def __len__(self) -> int: ...
        def update_with(self, key: K, function: Callable[[Any], V], default: Any = ...) -> V: ...
        def compute_if_absent(self, key: K, factory: Callable[[], V]) -> V: ...
        def parts(self) -> Iterator[dict[K, V]]: ...

    def __init_subclass__(cls, **options: Any) -> None:
        raise TypeError("ShardedMap cannot be subclassed; keep one in an attribute instead")

    def __iter__(self) -> Iterator[K]:
        return chain.from_iterable(self.parts())

    def keys(self) -> KeysView[K]:
        """The keys; iterating them copies one shard after the other."""
        return KeysView(self)

    def values(self) -> ValuesView[V]:
        """The values; iterating them copies one shard after the other."""
        return _Values(self)

    def items(self) -> ItemsView[K, V]:
        """The items; iterating them copies one shard after the other."""
        return _Items(self)

    def pop(self, key: K, default: Any = missing_mark) -> Any:
        """Remove `key` and return its value; where there is none `default`, or KeyError without it. Atomic."""
        return self.remove(key, default)

    def popitem(self) -> tuple[K, V]:
        """Remove some item and return it. KeyError if there is none."""
        while True:
            for key in self:
                value = self.remove(key, missing_in_popitem)
                if value is not missing_in_popitem:
                    return key, value
            if not len(self):
                raise KeyError("popitem(): the map is empty")

    def snapshot(self) -> dict[K, V]:
        """A dictionary with all items as of one instant. Changes wait meanwhile."""
        copied: dict[K, V] = {}
        for part in self.frozen_parts():
            copied.update(part)
        return copied

    def statistics(self) -> ShardedMapStatistics:
        """How the items, and the waiting, are spread over the shards."""
        counts = self.counts()
        return ShardedMapStatistics(tuple(size for size, _ in counts), tuple(waits for _, waits in counts))

    def __reduce_ex__(self, _protocol: Any) -> Any:
        raise TypeError("a ShardedMap cannot be copied or pickled; take its snapshot() instead")

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mapping):
            return NotImplemented
        return self.snapshot() == (other.snapshot() if isinstance(other, ShardedMap) else dict(other.items()))

    def __ior__(self, other: Mapping[K, V] | Iterable[tuple[K, V]]) -> ShardedMap[K, V]:
        self.update(other)
        return self

    def __repr__(self) -> str:
        return f"<ShardedMap of {len(self)} items in {len(self.counts())} shards at {id(self):#x}>"


missing_in_popitem: Any = object()
