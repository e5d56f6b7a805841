"""The tree of exceptions is as it is written down."""

from __future__ import annotations

import inspect
import io
import pathlib
import re

import pytest

import heapster
from heapster import errors
from known import SLOW, make_busy

BASES = {
    "QueryError": ValueError,
    "LimitError": ValueError,
    "QueryTimeoutError": TimeoutError,
    "StoreError": OSError,
    "NotAStoreError": FileNotFoundError,
    "LockedError": BlockingIOError,
    "CorruptionError": OSError,
    "DiskFullError": OSError,
    "ReadOnlyError": io.UnsupportedOperation,
    "ClosedError": ValueError,
    "ForkError": RuntimeError,
    "ServerError": ConnectionError,
    "CollectorError": RuntimeError,
    "MissingPackageError": ImportError,
}


def classes() -> dict[str, type]:
    return {name: one for name, one in inspect.getmembers(errors, inspect.isclass)}


def test_every_exception_is_one_of_heapsters_and_one_that_people_catch() -> None:
    own = {name for name in classes() if name != "HeapsterError"}
    assert own == set(BASES)
    for name, base in BASES.items():
        assert issubclass(classes()[name], (errors.HeapsterError,))
        assert issubclass(classes()[name], base), name


def test_every_exception_is_in_the_tree_of_the_documentation() -> None:
    drawn = set(re.findall(r"[├└]── (\w+)", errors.__doc__ or ""))
    assert drawn == set(BASES)
    assert set(errors.__all__) == set(classes())


def raise_each(tmp: pathlib.Path, name: str) -> None:
    """Provokes an exception of a class; of a full disk and a fork others tell, or nobody can."""
    if name == "QueryError":
        heapster.connect("nowhere")
    if name == "NotAStoreError":
        heapster.open(tmp / "nothing")
    if name == "StoreError":
        heapster.open("/proc/heapster", "rw")
    if name == "ServerError":
        heapster.connect("http://127.0.0.1:9").query("1")
    with heapster.open(tmp / "store", "rw") as store:
        store.append([({}, {"n": 1})], 0, unit="s")
        if name == "LimitError":
            store.query_range("n", "1970-01-01", "2026-11-02", "1s")
        if name == "QueryTimeoutError":
            make_busy(store)
            store.query_range(SLOW, "2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z", "1s", timeout=0.01)
        if name == "LockedError":
            heapster.open(store.path, "rw")
        if name == "ReadOnlyError":
            heapster.open(store.path).append([])
        if name == "CollectorError":
            heapster.Collector("host", store=store).start().start()
    if name == "ClosedError":
        store.query("1")
    if name == "CorruptionError":
        for file in (tmp / "store").glob("MANIFEST*"):
            file.write_bytes(b"\xff" * file.stat().st_size)
        heapster.open(tmp / "store")


@pytest.mark.parametrize("name", sorted(set(BASES) - {"DiskFullError", "ForkError", "MissingPackageError"}))
def test_an_exception_is_raised_for_what_it_says(tmp_path: pathlib.Path, name: str) -> None:
    with pytest.raises(errors.HeapsterError) as caught:
        raise_each(tmp_path, name)
    assert type(caught.value).__name__ == name
    assert len(str(caught.value)) > 10


def test_the_limits_of_a_server_are_limits(tmp_path: pathlib.Path) -> None:
    with heapster.open(tmp_path / "store", "rw") as store, heapster.serve(store, port=0) as server:
        with pytest.raises(errors.LimitError):
            heapster.connect(server.url).query_range("n", "1970-01-01", "2026-11-02", "1s")


def test_a_damaged_manifest_is_corruption(path: object) -> None:
    import pathlib

    for file in pathlib.Path(str(path)).iterdir():
        if file.name.startswith("MANIFEST"):
            file.write_bytes(b"\xff" * file.stat().st_size)
    with pytest.raises(errors.CorruptionError, match="heapster check"):
        heapster.open(path)  # type: ignore[arg-type]


def test_what_the_system_refuses_has_a_number(tmp_path: object) -> None:
    with pytest.raises(errors.StoreError) as caught:
        heapster.open("/proc/heapster", "rw")
    assert caught.value.errno is not None
