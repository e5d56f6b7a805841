"""The tree of exceptions is as it is written down."""

from __future__ import annotations

import inspect
import io
import re

import pytest

import heapster
from heapster import errors

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
