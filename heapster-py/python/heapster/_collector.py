"""A collector and a server within the notebook."""

from __future__ import annotations

import datetime as dt
import os
import re
import shutil
import tempfile
import time
import weakref
from types import TracebackType
from typing import Any, NamedTuple, Sequence

from . import _heapster, _times
from ._result import Result
from ._store import Store, open_store
from ._times import Duration
from .errors import ClosedError, CollectorError, QueryError


class Event(NamedTuple):
    """What a collector would have logged."""

    time: dt.datetime
    level: str
    text: str


class Progress(NamedTuple):
    """What a collector has done since it was started.

    Attributes
    ----------
    rounds : int
        Rounds that ended with a batch in the store; of targets, scrapes that were stored.
    failed : int
        Rounds without a batch, and scrapes without samples.
    last : datetime.datetime or None
        Time of the newest of them.
    """

    rounds: int
    failed: int
    last: dt.datetime | None


class Collector:
    """Collects into a store from ``start`` to ``stop``, or within a ``with`` block.

    Parameters
    ----------
    source : str or list of str
        ``host``, ``kubernetes.summary_api:…``, ``kubernetes:…`` or ``prometheus:…``, as
        ``heapster serve --source`` has them; any number of ``prometheus`` beside one other.
    store : Store or path, optional
        A store that is open for writing, or a directory. Without it a temporary directory, which goes
        when the collector is closed.
    resolution : duration
        Time between rounds; five seconds at least.

    Attributes
    ----------
    store : Store
        Where it collects to. It stays open after ``stop``, and is closed at the end of the block, by
        :meth:`close`, or when the start fails, unless it was given open.

    Examples
    --------
    >>> with heapster.Collector("host", resolution="5s") as collector:
    ...     collector.wait(rounds=1, timeout="60s")
    ...     machine = collector.latest()
    >>> "cpu/usage" in machine.columns
    True
    """

    def __init__(
        self,
        source: str | Sequence[str] = "host",
        store: Store | Any = None,
        resolution: Duration = "10s",
    ) -> None:
        self.source = [source] if isinstance(source, str) else list(source)
        self.resolution = _times.duration(resolution, "resolution")
        self._temporary: weakref.finalize[Any, Any] | None = None
        self._process = os.getpid()
        self._owns_store = not isinstance(store, Store)
        if isinstance(store, Store):
            self.store = store
        else:
            if store is None:
                store = tempfile.mkdtemp(prefix="heapster-")
                self._temporary = weakref.finalize(self, _remove, store, os.getpid())
            self.store = open_store(store, "rw")
        self._native: _heapster.Collector | None = None
        self._is_running = False

    def start(self) -> Collector:
        """Start collecting; gives the collector itself."""
        if self._is_running:
            raise CollectorError("the collector is running already")
        milliseconds = self.resolution // dt.timedelta(milliseconds=1)
        try:
            self._native = _heapster.Collector(self.store._native, self.source, f"{milliseconds}ms")
        except BaseException:
            # A traceback may keep this object, and with it the lock of the directory.
            if self._owns_store:
                self.close()
            raise
        self._is_running = True
        self.store._dependants.add(self)
        return self

    def stop(self) -> None:
        """Stop collecting once the round that is under way is stored; once more does nothing."""
        if self._native is not None and self._is_running:
            self._is_running = False
            self._native.stop()

    def close(self) -> None:
        """Stop, and close the store unless it was given open."""
        try:
            self.stop()
        finally:
            try:
                if self._owns_store:
                    self.store.close()
            finally:
                if self._temporary is not None:
                    self._temporary()

    @property
    def is_running(self) -> bool:
        """Whether it collects."""
        return self._is_running

    @property
    def progress(self) -> Progress:
        """What it has done since it was started."""
        if self._native is None:
            return Progress(0, 0, None)
        text = self._native.own_metrics()
        rounds = _total(text, "heapster_collector_rounds_total", "result")
        scrapes = _total(text, "heapster_target_scrapes_total", "result")
        done = rounds.pop("done", 0) + scrapes.pop("good", 0)
        newest = self._native.newest() if done else None
        last = None if newest is None else _times.moment(newest)
        return Progress(done, sum(rounds.values()) + sum(scrapes.values()), last)

    @property
    def errors(self) -> list[Event]:
        """Warnings and errors of late, the oldest first."""
        if self._native is None:
            return []
        return [Event(_times.moment(at), level, text) for at, level, text in self._native.errors()]

    def latest(self) -> Result:
        """The newest batch as a table: a row for each entity, a column for each metric.

        Before the first batch it is empty. When all sources are ``prometheus``, of which there are no
        batches, it is the newest sample of each series of the store.
        """
        if self._native is None or not self._is_running:
            raise ClosedError("the collector is not running")
        latest = self._native.latest()
        if latest is not None:
            return Result("table", table=latest[1])
        if all(source.startswith("prometheus") for source in self.source):
            return self.store.query('{__name__!=""}')
        return Result("table", table=_heapster.entities_of([]))

    def wait(self, rounds: int = 1, timeout: Duration = "60s") -> None:
        """Wait until so many rounds more are stored.

        Raises
        ------
        CollectorError
            That takes longer than ``timeout``; the message has the last error.
        """
        wanted = self.progress.rounds + rounds
        deadline = time.monotonic() + _times.duration(timeout, "timeout").total_seconds()
        while self.progress.rounds < wanted:
            if time.monotonic() > deadline:
                last = f": {self.errors[-1].text}" if self.errors else ""
                raise CollectorError(f"no {rounds} rounds within {timeout}{last}")
            time.sleep(0.05)

    def __enter__(self) -> Collector:
        return self if self._is_running else self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        if os.getpid() != self._process:
            return f"<heapster.Collector {', '.join(self.source)} of another process>"
        state = "running" if self._is_running else "stopped"
        rounds, failed, _ = self.progress
        every = self.resolution.total_seconds()
        lines = [
            f"<heapster.Collector {', '.join(self.source)} every {every:g} s, {state}: "
            f"{rounds:,} rounds stored, {failed:,} failed>"
        ]
        lines += [f"  {event.level}: {event.text}" for event in self.errors[-3:]]
        return "\n".join(lines)


def _remove(path: str, process: int) -> None:
    """Remove a temporary directory, unless this process was forked from the one that uses it."""
    if os.getpid() == process:
        shutil.rmtree(path, ignore_errors=True)


def _total(text: str, metric: str, label: str) -> dict[str, int]:
    """The values of a counter by those of one of its labels."""
    totals: dict[str, int] = {}
    for found in re.finditer(rf'^{metric}{{[^}}]*\b{label}="([^"]*)"[^}}]*}} (\d+)', text, re.M):
        totals[found[1]] = totals.get(found[1], 0) + int(found[2])
    return totals


class Server:
    """The HTTP APIs over a store; made by :func:`heapster.serve`.

    Attributes
    ----------
    url : str
        Where it answers.
    """

    def __init__(self, native: _heapster.Server) -> None:
        self._native = native
        self.url = native.url()

    def stop(self) -> None:
        """Stop once requests that are under way are answered, within three seconds.

        Once more does nothing.
        """
        self._native.stop()

    def __enter__(self) -> Server:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<heapster.Server {self.url}>"


def serve(
    store: Store | Collector,
    port: int = 8082,
    *,
    ip: str = "127.0.0.1",
    **flags: str | int | bool,
) -> Server:
    """Serve Heapster's and Prometheus' APIs over a store, from threads of this process.

    Parameters
    ----------
    store : Store or Collector
        A store that is open for writing; or a collector, whose newest batch the model API then has.
    port : int
        Where to listen; 0 for any port that is free.
    ip : str
        The address; beyond this machine it needs ``insecure_allow_unauthenticated=True``.
    **flags
        Any flag of ``heapster serve`` about its APIs, with ``_`` for ``-``.

    Raises
    ------
    CollectorError
        The address cannot be listened on.
    ReadOnlyError
        The store is open for reading.

    Examples
    --------
    >>> with heapster.open(tmp / "served", "rw") as store, heapster.serve(store, port=0) as server:
    ...     heapster.connect(server.url).labels()
    []
    """
    collector = store if isinstance(store, Collector) else None
    if collector is not None:
        if not collector.is_running:
            raise ClosedError("the collector is not running")
        store = collector.store
    if not isinstance(store, Store):
        raise QueryError(f"serve() needs a Store or a Collector, not {type(store).__name__}")
    given = {"heapster_port": port, "listen_ip": ip, **flags}
    texts = [
        (name.replace("_", "-"), str(value).lower() if isinstance(value, bool) else str(value))
        for name, value in given.items()
    ]
    native = None if collector is None else collector._native
    server = Server(_heapster.Server(store._native, native, texts))
    store._dependants.add(server)
    return server
