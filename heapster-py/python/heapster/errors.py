"""Exceptions of heapster: one tree, whose leaves are also what people catch already.

::

    HeapsterError
    ├── QueryError          (ValueError)       an expression, a selector, a time cannot be used
    │   └── LimitError                         the answer would need more than is allowed
    ├── QueryTimeoutError   (TimeoutError)     a query took longer than ``timeout``
    ├── StoreError          (OSError)          a directory or a file of it cannot be used
    │   ├── NotAStoreError  (FileNotFoundError)
    │   ├── LockedError     (BlockingIOError)  it is open for writing already
    │   ├── CorruptionError
    │   └── DiskFullError
    ├── ReadOnlyError       (io.UnsupportedOperation)  the store is open for reading
    ├── ClosedError         (ValueError)       the object is closed, as with files
    ├── ForkError           (RuntimeError)     the object was opened before a fork
    ├── ServerError         (ConnectionError)  a server does not answer, or with an error
    ├── CollectorError      (RuntimeError)     a collector or a server cannot start or stop
    └── MissingPackageError (ImportError)      an optional package is needed and not installed

Ctrl-C during a query cancels it and raises :class:`KeyboardInterrupt`, as everywhere in Python.
"""

from __future__ import annotations

import io

__all__ = [
    "ClosedError",
    "CollectorError",
    "CorruptionError",
    "DiskFullError",
    "ForkError",
    "HeapsterError",
    "LimitError",
    "LockedError",
    "MissingPackageError",
    "NotAStoreError",
    "QueryError",
    "QueryTimeoutError",
    "ReadOnlyError",
    "ServerError",
    "StoreError",
]


class HeapsterError(Exception):
    """Whatever heapster raises by itself."""


class QueryError(HeapsterError, ValueError):
    """An expression, a selector, a time or another argument cannot be used.

    Attributes
    ----------
    position : int or None
        Where in the expression or selector it is wrong, in characters from its start; ``None`` when
        a server says so in words alone.
    """

    def __init__(self, message: str, position: int | None = None) -> None:
        super().__init__(message)
        self.position = position


class LimitError(QueryError):
    """The answer would need more samples or memory than is allowed."""


class QueryTimeoutError(HeapsterError, TimeoutError):
    """A query took longer than its ``timeout``."""


class StoreError(HeapsterError, OSError):
    """A directory, or a file of it, cannot be used; ``errno`` is there when the system said one."""


class NotAStoreError(StoreError, FileNotFoundError):
    """There is no store in the directory."""


class LockedError(StoreError, BlockingIOError):
    """The store is open for writing already, in another process or in this one."""


class CorruptionError(StoreError):
    """A store cannot be opened or written, as bytes on the disk are not those that were written.

    A query meets damage as a :class:`StoreError`, or leaves out what is damaged and has a warning.
    """


class DiskFullError(StoreError):
    """There is no room left on the disk."""


class ReadOnlyError(HeapsterError, io.UnsupportedOperation):
    """The store is open for reading, or is one of a server."""


class ClosedError(HeapsterError, ValueError):
    """The store, collector or server is closed."""


class ForkError(HeapsterError, RuntimeError):
    """The store, collector or server was opened before this process was forked."""


class ServerError(HeapsterError, ConnectionError):
    """A server does not answer, or answers with an error.

    Attributes
    ----------
    status : int or None
        The HTTP status, when there was an answer.
    """

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class CollectorError(HeapsterError, RuntimeError):
    """A collector or a server cannot start or stop."""


class MissingPackageError(HeapsterError, ImportError):
    """What was asked for needs an optional package that is not installed."""
