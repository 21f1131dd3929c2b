"""`pmap` on executors of other libraries: loky's processes, and a Dask cluster, both real."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

import pytest

from penstock import pmap

if TYPE_CHECKING:
    from collections.abc import Iterator

# What these libraries warn of is theirs, and so are the threads that they keep.
pytestmark = [pytest.mark.filterwarnings("ignore"), pytest.mark.timeout(120), pytest.mark.others_keep_threads]


def square(value: int) -> int:
    return value * value


def reciprocal(value: int) -> float:
    return 1 / value


def loky() -> Iterator[Any]:
    library = pytest.importorskip("loky")
    executor = library.ProcessPoolExecutor(2)
    yield executor
    executor.shutdown()


def dask() -> Iterator[Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        library = pytest.importorskip("distributed")
        cluster = library.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None)
        with cluster, library.Client(cluster) as client:
            yield client.get_executor(pure=False)


@pytest.fixture(params=[loky, dask], ids=["loky", "dask"])
def executor(request: pytest.FixtureRequest) -> Iterator[Any]:
    yield from request.param()


def test_the_same_line_runs_there(executor: Any) -> None:
    """Results in order, an error bare, and an endless source left early: one cluster for all of it."""
    assert list(pmap(square, range(2000), limit=4, on=executor)) == [value * value for value in range(2000)]
    with pytest.raises(ZeroDivisionError):
        list(pmap(reciprocal, [1, 2, 0, 4], limit=2, on=executor))
    with pmap(square, iter(range(10**9)), limit=2, on=executor) as results:
        assert [next(results), next(results)] == [0, 1]
