"""What the tests share: stores with known contents."""

from __future__ import annotations

import pathlib
from typing import Iterator

import pytest

import heapster
from known import fill


@pytest.fixture
def path(tmp_path: pathlib.Path) -> pathlib.Path:
    """The directory of a store with the two pods."""
    path = tmp_path / "known"
    with heapster.open(path, "rw") as store:
        fill(store)
    return path


@pytest.fixture
def db(path: pathlib.Path) -> Iterator[heapster.Store]:
    """That store, open for reading."""
    with heapster.open(path) as store:
        yield store


@pytest.fixture
def writer(tmp_path: pathlib.Path) -> Iterator[heapster.Store]:
    """An empty store, open for writing."""
    with heapster.open(tmp_path / "written", "rw") as store:
        yield store
