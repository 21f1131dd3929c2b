"""ShardedMap (contract, section 7), and the known faults of sharded maps."""

from __future__ import annotations

import asyncio
import copy
import pickle
import random
import threading
import time
import weakref
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest
from programs import run_program

from penstock import ShardedMap


def in_threads(*functions: Any) -> None:
    errors: list[BaseException] = []

    def guarded(function: Any) -> None:
        try:
            function()
        except BaseException as error:  # noqa: BLE001
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,), daemon=True) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
        assert not thread.is_alive(), "hung"
    assert not errors, errors


def test_it_is_a_mutable_mapping() -> None:
    """Against a dict, step by step."""
    ours: Any = ShardedMap(4)
    model: dict[Any, Any] = {}
    rng = random.Random(3)

    def outcome(function: Any) -> Any:
        try:
            return function()
        except KeyError as error:
            return f"KeyError{error.args}"

    for _ in range(5000):
        key = rng.choice(["a", "b", 1, 2, (1, 2), None, 7.5, -1])
        value = rng.randrange(100)
        step = rng.choice(
            [
                lambda m, k=key, v=value: m.__setitem__(k, v),
                lambda m, k=key: m[k],
                lambda m, k=key: m.__delitem__(k),
                lambda m, k=key: m.pop(k),
                lambda m, k=key, v=value: m.pop(k, v),
                lambda m, k=key, v=value: m.setdefault(k, v),
                lambda m, k=key, v=value: m.get(k, v),
                lambda m, k=key: k in m,
                len,
                lambda m: sorted(map(repr, m)),
                lambda m: sorted(map(repr, m.items())),
                lambda m: sorted(map(repr, m.values())),
                lambda m, k=key, v=value: m.update({k: v}),
            ]
        )
        assert outcome(lambda step=step: step(ours)) == outcome(lambda step=step: step(model))
        assert ours == model
    assert ours.snapshot() == model
    ours.clear()
    assert len(ours) == 0
    assert not ours
    with pytest.raises(KeyError):
        ours.popitem()
    ours["x"] = 1
    assert ours.popitem() == ("x", 1)


def test_no_update_is_lost() -> None:
    counts: ShardedMap[int, int] = ShardedMap(2)

    def count(seed: int) -> None:
        rng = random.Random(seed)
        for _ in range(3000):
            counts.update_with(rng.randrange(5), lambda old: old + 1, default=0)

    def grow(base: int) -> None:
        for number in range(3000):
            counts[base + number] = 0

    in_threads(lambda: count(1), lambda: count(2), lambda: count(3), lambda: grow(1000), lambda: grow(100_000))
    assert sum(counts[key] for key in range(5)) == 9000
    assert len(counts) == 6005


def test_what_is_replaced_while_it_is_read_is_freed_once() -> None:
    """A reader has the old value or the new one, never one that is gone; in a process of its own, for it crashed."""
    done = run_program("""
        import threading, time
        from penstock import ShardedMap

        class Value:
            number = 1

        shards = ShardedMap(1)
        shards[1] = Value()
        end = time.monotonic() + 4

        def replace():
            while time.monotonic() < end:
                for _ in range(1000):
                    shards[1] = Value()

        def read():
            while time.monotonic() < end:
                for _ in range(1000):
                    assert shards.get(1).number + shards[1].number == 2

        threads = [threading.Thread(target=function) for function in (replace, read, read)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        print("done")
    """)
    assert (done.returncode, done.stdout, done.stderr) == (0, "done\n", "")


def test_plain_changes_wait_for_a_callback() -> None:
    values: ShardedMap[str, int] = ShardedMap(1)
    values["a"] = 1
    inside = threading.Event()
    leave = threading.Event()
    done = threading.Event()

    def slow(old: int) -> int:
        inside.set()
        assert leave.wait(20)
        return old + 1

    def change() -> None:
        assert inside.wait(20)
        threading.Timer(0.05, leave.set).start()
        values["a"] = 10
        done.set()

    in_threads(lambda: values.update_with("a", slow), change)
    assert done.is_set()
    assert values["a"] == 10
    assert values.statistics().contended == (1,)


def test_a_loop_waits_for_a_callback_too() -> None:
    values: ShardedMap[str, int] = ShardedMap(1)
    inside = threading.Event()

    def slow(_old: int) -> int:
        inside.set()
        time.sleep(0.05)
        return 1

    async def body() -> None:
        assert inside.wait(20)
        values["b"] = 2

    in_threads(lambda: values.update_with("a", slow, default=0), lambda: asyncio.run(body()))
    assert values.snapshot() == {"a": 1, "b": 2}


def test_update_with() -> None:
    values: ShardedMap[str, Any] = ShardedMap()
    with pytest.raises(KeyError):
        values.update_with("a", str)
    assert values.update_with("a", str, default=None) == "None"

    def fails(_old: Any) -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        values.update_with("a", fails)
    assert values["a"] == "None"
    values["a"] = "usable again"


def test_the_factory_is_called_once_for_each_key() -> None:
    values: ShardedMap[int, object] = ShardedMap()
    made: list[int] = []

    def compute() -> None:
        for key in range(200):
            values.compute_if_absent(key, lambda key=key: made.append(key) or object())  # type: ignore[misc]

    in_threads(*[compute] * 6)
    assert sorted(made) == list(range(200))

    def fails() -> object:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        values.compute_if_absent(1000, fails)
    assert 1000 not in values


@pytest.mark.parametrize(
    "again",
    [
        lambda values: values.update_with("a", lambda old: old),
        lambda values: values.compute_if_absent("b", int),
        lambda values: values.__setitem__("a", 2),
        lambda values: values.pop("a"),
        lambda values: values.setdefault("c", 1),
        lambda values: values.clear(),
        lambda values: values.snapshot(),
    ],
)
def test_a_callback_that_comes_again_is_refused(again: Any) -> None:
    """Known of sharded maps: it hangs, or breaks the table."""
    values: ShardedMap[str, int] = ShardedMap(1)
    values["a"] = 1
    with pytest.raises(RuntimeError, match="a callback of a ShardedMap uses its own shard"):
        values.update_with("a", lambda old: again(values) or old)
    assert values.update_with("a", lambda old: old + values["a"]) == 2
    values["a"] = 5


def test_a_callback_that_clears_the_map_has_removed_nothing() -> None:
    values: ShardedMap[int, int] = ShardedMap(16)
    values.update(dict.fromkeys(range(64), 0))
    for key in range(64):
        with pytest.raises(RuntimeError, match="a callback of a ShardedMap uses its own shard"):
            values.update_with(key, lambda _: values.clear())
    assert len(values) == 64


def test_async_callbacks_are_refused() -> None:
    async def function(*_args: int) -> int:
        return 1

    values: ShardedMap[str, Any] = ShardedMap(1)
    values["a"] = 1
    with pytest.raises(TypeError, match="is an async function"):
        values.update_with("a", function)
    with pytest.raises(TypeError, match="is an async function"):
        values.compute_if_absent("b", function)
    assert values.snapshot() == {"a": 1}
    values["a"] = 2


def test_callbacks_that_wait_for_each_other_are_refused() -> None:
    values: ShardedMap[int, int] = ShardedMap(64)
    for key in range(64):
        values[key] = 0
    meet = threading.Barrier(2)
    refused = []

    def cross(mine: int, other: int) -> None:
        def function(old: int) -> int:
            meet.wait(20)
            return old + values.update_with(other, lambda value: value + 1)

        try:
            values.update_with(mine, function)
        except RuntimeError as error:
            refused.append(str(error))

    sizes = values.statistics().sizes
    assert max(sizes) < 64
    one = 0
    # A key of another shard: what is the same shard's is refused as above.
    other = next(key for key in range(1, 64) if _differs(values, one, key))
    in_threads(lambda: cross(one, other), lambda: cross(other, one))
    assert refused
    assert all("wait for each other's shards" in text for text in refused)


def _differs(values: ShardedMap[int, int], one: int, other: int) -> bool:
    try:
        values.update_with(one, lambda old: old + values.update_with(other, lambda value: value))
    except RuntimeError:
        return False
    return True


def test_finalizers_of_what_is_replaced_may_use_the_map() -> None:
    values: ShardedMap[str, Any] = ShardedMap(1)

    class Last:
        def __del__(self) -> None:
            values["told"] = values.pop("other", 0) + 1

    values["a"] = Last()
    values["a"] = 1
    assert values["told"] == 1
    values["a"] = Last()
    del values["a"]
    values["a"] = Last()
    values.update_with("a", lambda _: None)
    values["a"] = Last()
    values.clear()
    assert values.snapshot() == {"told": 1}


def test_keys_that_compare_slowly_or_badly() -> None:
    class Key:
        def __hash__(self) -> int:
            return 1

        def __eq__(self, other: object) -> bool:
            values.get("something")
            values["seen"] = True
            return self is other

    values: ShardedMap[Any, Any] = ShardedMap(1)
    a, b = Key(), Key()
    values[a] = "a"
    values[b] = "b"
    assert values[a] == "a"
    assert values["seen"]
    with pytest.raises(TypeError, match="unhashable"):
        values[[]] = 1  # type: ignore[index]


def test_iterating_while_others_change() -> None:
    """Known of sharded maps: keys that come twice, or are missed, while the table grows."""
    values: ShardedMap[int, int] = ShardedMap(4)
    for key in range(500):
        values[key] = key
    stop = threading.Event()

    def churn() -> None:
        rng = random.Random(1)
        while not stop.is_set():
            key = 1000 + rng.randrange(5000)
            values[key] = key
            values.pop(1000 + rng.randrange(5000), None)

    def look() -> None:
        try:
            for _ in range(60):
                keys = list(values)
                assert len(keys) == len(set(keys))
                assert set(range(500)) <= set(keys)
                assert all(key == value for key, value in values.items())
                assert set(range(500)) <= set(values.values())
        finally:
            stop.set()

    in_threads(churn, churn, look)


def test_a_snapshot_is_of_one_instant() -> None:
    values: ShardedMap[int, int] = ShardedMap(8)
    stop = threading.Event()

    def write() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            for key in range(20):
                values[key] = turn

    def look() -> None:
        try:
            for _ in range(200):
                seen = [values.snapshot().get(key, 0) for key in range(20)]
                del seen
                snapshot = values.snapshot()
                turns = [snapshot.get(key, 0) for key in range(20)]
                assert turns == sorted(turns, reverse=True)
                assert turns[0] - turns[-1] <= 1
        finally:
            stop.set()

    in_threads(write, look)


@pytest.mark.parametrize("keys", [range(4096), [(n, str(n)) for n in range(4096)], [n * 4096 for n in range(4096)]])
def test_keys_of_all_kinds_spread(keys: Any) -> None:
    """Known of sharded maps: all keys that are no strings in one shard."""
    values: ShardedMap[Any, int] = ShardedMap(16)
    for key in keys:
        values[key] = 1
    statistics = values.statistics()
    assert statistics.size == 4096
    assert statistics.skew < 1.5
    assert ShardedMap().statistics().skew == 1.0


def test_equal_keys_are_one_key_whatever_their_types() -> None:
    values: ShardedMap[Any, Any] = ShardedMap(16)
    for key in (1, 1.0, True, 1 + 0j, Decimal(1), Fraction(1)):
        values[key] = key
        assert values[1] == key
    assert list(values.items()) == [(1, Fraction(1))]
    nan = float("nan")
    for key in (nan, None, (1, 2), frozenset([1]), b"x", "x", 10**30, -1, -2, int):
        values[key] = repr(key)
        assert values[key] == repr(key)
    assert len(values) == 11


def test_a_factory_that_raises_is_called_again_by_the_next() -> None:
    values: ShardedMap[str, int] = ShardedMap(2)
    calls: list[int] = []
    failures: list[ValueError] = []

    def factory() -> int:
        calls.append(1)
        if len(calls) < 4:
            raise ValueError(len(calls))
        return 42

    def compute() -> None:
        try:
            assert values.compute_if_absent("key", factory) == 42
        except ValueError as error:
            failures.append(error)

    in_threads(*[compute] * 6)
    assert (len(calls), len(failures), values["key"]) == (4, 3, 42)


@pytest.mark.parametrize("way", [copy.copy, copy.deepcopy, pickle.dumps])
def test_no_copy_shares_its_shards(way: Any) -> None:
    with pytest.raises(TypeError, match=r"cannot be copied or pickled; take its snapshot\(\)"):
        way(ShardedMap())


def test_misuse() -> None:
    with pytest.raises(ValueError, match="1 or more"):
        ShardedMap(0)
    with pytest.raises(TypeError, match="must be an integer"):
        ShardedMap("16")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="unhashable"):
        hash(ShardedMap())
    with pytest.raises(TypeError, match="cannot be subclassed"):
        type("Mine", (ShardedMap,), {})


def test_what_is_removed_is_freed() -> None:
    class Value:
        pass

    values: ShardedMap[str, Value] = ShardedMap()
    values["a"] = Value()
    reference = weakref.ref(values["a"])
    assert weakref.ref(values)() is values
    values.pop("a")
    assert reference() is None
    assert repr(values).startswith("<ShardedMap of 0 items in 16 shards at")
