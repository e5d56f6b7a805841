"""heapster: an embedded time-series store and a metrics collector, in Python.

>>> with heapster.open(db.path) as store:                       # beside a running server, too
...     memory = store.query_range("memory_usage", "2026-11-01T12:00:00Z", "2026-11-01T12:05:00Z", "1m")
>>> memory.to_polars().shape
(12, 6)

=====================  =========================================================================
:func:`open`           a store in a directory: query it, or append to it
:func:`connect`        the same questions to a server
:class:`Collector`     collect from this machine, a cluster, or Prometheus targets
:func:`serve`          the HTTP APIs over a store
:class:`Result`        an answer, on its way to pandas, polars, Arrow, NumPy or a picture
:mod:`heapster.errors`  all exceptions
=====================  =========================================================================

NumPy, pandas, polars, pyarrow and matplotlib are used when they are there; none is needed.
"""

from . import errors
from ._collector import Collector, Event, Progress, Server, serve
from ._database import Database
from ._heapster import VERSION as __version__
from ._remote import Remote, connect
from ._result import Result
from ._store import Appended, Refreshed, Store
from ._store import open_store as open
from .errors import HeapsterError

__all__ = [
    "Appended",
    "Collector",
    "Database",
    "Event",
    "HeapsterError",
    "Progress",
    "Refreshed",
    "Remote",
    "Result",
    "Server",
    "Store",
    "__version__",
    "connect",
    "errors",
    "open",
    "serve",
]
