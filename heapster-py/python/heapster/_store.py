"""A store in a directory."""

from __future__ import annotations

import datetime as dt
import os
import weakref
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Iterable, Literal, Mapping, NamedTuple, Protocol, Sequence

from . import _frames, _heapster, _times
from ._database import Database
from ._times import Duration, Moment
from .errors import LockedError, QueryError

if TYPE_CHECKING:
    from ._database import Answer

#: Why samples are refused, in words.
_REASONS = {
    "no_time": "the row has no time",
    "no_metric": "the row names no metric",
    "time_out_of_range": "the time is beyond the years 1 to 9999",
    "value_out_of_range": "the integer needs more than 64 bits with a sign",
    "too_old": "older than the store keeps or takes",
    "too_far_ahead": "more than 10 minutes ahead of the clock",
    "labels_too_large": "more than 128 labels, or more than 64 KiB of them",
    "too_many_columns": "more than 4,096 metrics with the same labels",
    "column_name": "the name of the metric is empty or longer than 1 KiB",
    "too_many_sets": "more label sets in memory than the store takes",
    "out_of_order": "rows of the set went back in time too often",
}


class Dependant(Protocol):
    """What uses a store and has to stop before it is closed."""

    def stop(self) -> None:
        """Stop using it."""


class Refreshed(NamedTuple):
    """What a refresh found."""

    batches: int
    samples: int
    segments_added: int
    segments_removed: int

    @property
    def has_news(self) -> bool:
        """Whether a query may answer something else than before."""
        return any(self)


@dataclass(frozen=True)
class Appended:
    """What came of an append.

    Each cell of a frame is counted once, as accepted, duplicate, replaced, missing or refused. Of
    :meth:`Store.append`, which compares with what is stored as well, ``replaced`` are values of the
    store or the batch whose place one of the accepted has taken.

    Attributes
    ----------
    accepted : int
        Samples that the store took.
    duplicate : int
        Samples that were there already, with the same value.
    replaced : int
        Samples in whose place a later one of the same series and moment counts.
    missing : int
        Cells without a value, of which there is nothing to store.
    truncated : int
        Rows whose time had more digits than the milliseconds of the store.
    refused : dict of str to int
        Samples that were refused, by reason; :meth:`why` explains the reasons.
    """

    accepted: int
    duplicate: int = 0
    replaced: int = 0
    missing: int = 0
    truncated: int = 0
    refused: dict[str, int] = field(default_factory=dict)

    def why(self) -> dict[str, str]:
        """The reasons for which samples were refused, in words."""
        return {reason: _REASONS.get(reason, reason) for reason in self.refused}

    @classmethod
    def _of(cls, report: _heapster.Report) -> Appended:
        return cls(
            report.accepted,
            report.duplicate,
            report.replaced,
            report.missing,
            report.truncated,
            report.refused,
        )


class Store(Database):
    """A store in a directory; made by :func:`heapster.open`.

    Threads may share it. A process that is forked off must open it again.
    """

    def __init__(self, path: str, mode: str, options: Mapping[str, str]) -> None:
        self.path = path
        self.mode = mode
        self._options = dict(options)
        self._dependants: weakref.WeakSet[Dependant] = weakref.WeakSet()
        self._is_open = True
        if mode == "r":
            self._native = _heapster.Store.read(path)
            return
        try:
            self._native = _heapster.Store.write(path, sorted(self._options.items()))
        except LockedError:
            if any(one._writes_to(path) for one in list(_WRITERS)):
                raise LockedError(
                    f"{path} is open for writing in this process already; use that Store, or close "
                    "it first"
                ) from None
            raise
        self._process = os.getpid()
        _WRITERS.add(self)

    def _writes_to(self, path: str) -> bool:
        is_same = os.path.realpath(self.path) == os.path.realpath(path)
        return self._is_open and is_same and self._process == os.getpid()

    # Reading.

    def refresh(self) -> Refreshed:
        """Show what another process has written since; say what is new.

        What was asked before stays as it is. One's own writes are seen without it.

        Examples
        --------
        >>> with heapster.open(db.path) as reader:
        ...     reader.refresh().has_news
        False
        """
        return Refreshed(*self._native.refresh())

    @property
    def bounds(self) -> tuple[dt.datetime, dt.datetime] | None:
        """Times of the oldest and the newest sample; ``None`` when there is none.

        >>> [str(time) for time in db.bounds]
        ['2026-11-01 12:00:00+00:00', '2026-11-01 12:05:00+00:00']
        """
        bounds = self._native.bounds()
        return None if bounds is None else (_times.moment(bounds[0]), _times.moment(bounds[1]))

    def info(self) -> dict[str, int]:
        """Numbers about the store: samples, segments, bytes on the disk and in memory."""
        return dict(self._native.stats())

    def close(self) -> None:
        """Close it; once more does nothing. What was appended is put on the disk first.

        Collectors and servers that use it are stopped.
        """
        try:
            for dependant in list(self._dependants):
                dependant.stop()
        finally:
            self._native.close()
        self._is_open = False

    # Writing.

    def append(
        self,
        batch: Iterable[tuple[Mapping[str, str], Mapping[str, Any]]],
        at: Moment | None = None,
        *,
        kinds: Mapping[str, str] | None = None,
        ack: Literal["buffered", "durable", "memory"] = "buffered",
        unit: str | None = None,
    ) -> Appended:
        """Append metric sets that share one moment: pairs of labels and values.

        Parameters
        ----------
        batch : iterable of (labels, values)
            Both are mappings; values are integers, which are kept exactly, or floats.
        at : time, optional
            The moment; now by default.
        kinds : mapping, optional
            ``gauge``, ``cumulative`` or ``delta`` by metric; by default what the catalogue says,
            and ``gauge`` for other metrics.
        ack : {"buffered", "durable", "memory"}
            What it survives when this returns: the death of the process, a power cut, nothing.
        unit : str, optional
            Of ``at``, when that is a number.

        Examples
        --------
        >>> with heapster.open(tmp / "new", "rw") as store:
        ...     store.append([({"room": "kitchen"}, {"temperature": 21.5})]).accepted
        1
        """
        rows = [
            (
                list(labels.items()),
                [(name, value, (kinds or {}).get(name)) for name, value in values.items()],
            )
            for labels, values in batch
        ]
        moment = _times.now() if at is None else _times.millis(at, unit)
        return Appended._of(self._native.append(moment, rows, ack))

    def append_frame(
        self,
        frame: Any,
        *,
        time: str = "time",
        labels: Sequence[str] | None = None,
        add: Mapping[str, str] | None = None,
        metric: str = "metric",
        value: str = "value",
        kinds: Mapping[str, str] | None = None,
        unit: str | None = None,
    ) -> Appended:
        """Take all rows of a frame, of any time and in any order.

        A frame with columns ``metric`` and ``value`` has one sample in each row, as results have it.
        In any other, each column of numbers is a metric. A gap is no sample; NaN is one.

        Parameters
        ----------
        frame : pandas.DataFrame, polars.DataFrame, Result, anything with an Arrow stream, or a mapping
            The rows; a mapping has lists or arrays by the names of their columns. The levels of a
            pandas index are columns too; only one that numbers the rows is left out.
        time : str
            The column of times. Numbers need ``unit``. Times without a zone are in UTC. Digits below
            the millisecond are cut off, and the rows with such are counted.
        labels : list of str, optional
            The columns of labels; by default all that hold texts.
        add : mapping, optional
            Labels that all rows get.
        metric, value : str
            The columns of the metric's name and the value, when there are such.
        kinds : mapping, optional
            As for :meth:`append`.
        unit : {"s", "ms", "us", "ns"}, optional
            Of the times, when they are numbers.

        Notes
        -----
        This is for old data and much of it: it goes into segments of its own, past the log. For what
        comes every few seconds, use :meth:`append`.

        Samples are compared with those of the same frame, not with those that are stored: one that is
        there already counts as accepted, and takes its place.

        Ctrl-C ends it. What was written by then stays, in parts of about 64 MiB; to append the frame
        again does no harm.

        Examples
        --------
        >>> with heapster.open(tmp / "frames", "rw") as store:
        ...     store.append_frame({"time": ["2026-11-01", "2026-11-02"], "room": ["hall", "hall"],
        ...                         "temperature": [21.5, None]}, add={"house": "mine"})
        Appended(accepted=1, duplicate=0, replaced=0, missing=1, truncated=0, refused={})
        """
        rows, unit = _frames.stream(frame, time, unit, is_whole=labels is None)
        options = {
            "time": time,
            "unit": unit,
            "labels": None if labels is None else list(labels),
            "fixed": sorted((add or {}).items()),
            "metric": metric,
            "value": value,
            "kinds": dict(kinds or {}),
        }
        try:
            return Appended._of(self._native.append_frame(rows, options))
        except QueryError as error:
            failure = rows.failure if isinstance(rows, _frames.Watched) else None
            if failure is None:
                raise
            raise error from failure

    def sync(self) -> None:
        """Put what was appended on the disk, so that it survives a power cut."""
        self._native.sync()

    def compact(self) -> None:
        """Merge segments now, which a store that is open for writing does by itself in time."""
        self._native.compact()

    # As Python objects go.

    def __repr__(self) -> str:
        try:
            bounds = self.bounds
        except Exception as error:
            return f"<heapster.Store {self.path!r} {type(error).__name__}: {error}>"
        held = "empty" if bounds is None else f"{bounds[0]:%F %T} to {bounds[1]:%F %T} UTC"
        return f"<heapster.Store {self.path!r} mode={self.mode!r}, {held}>"

    def __reduce__(self) -> tuple[Any, ...]:
        if self.mode != "r":
            raise TypeError("a store that is open for writing cannot be pickled; open it with mode=\"r\"")
        return _reopen, (self.path,)

    # What Database asks.

    def _instant(self, expression: str, at: int, timeout: dt.timedelta | None) -> Answer:
        return self._native.instant(expression, at, timeout)

    def _range(
        self, expression: str, start: int, end: int, step: dt.timedelta, timeout: dt.timedelta | None
    ) -> Answer:
        return self._native.range(expression, start, end, step, timeout)

    def _select(self, selector: str, start: int, end: int) -> tuple[_heapster.Frame, list[str]]:
        return self._native.select(selector, start, end)

    def _historical(
        self,
        entity: str,
        labels: list[tuple[str, str]],
        metric: str,
        aggregations: list[tuple[str, str]],
        start: int,
        end: int,
        bucket: dt.timedelta | None,
    ) -> tuple[_heapster.Table, list[str]]:
        return self._native.historical(entity, labels, metric, aggregations, start, end, bucket)

    def _entities(self, start: int, end: int) -> _heapster.Table:
        return self._native.entities(start, end)

    def _metrics(self, start: int, end: int) -> _heapster.Table:
        return self._native.metrics(start, end)

    def _label_texts(self, label: str | None, start: int, end: int) -> list[str]:
        return self._native.labels(label, start, end)


#: Stores of this process that are open for writing, and some that were.
_WRITERS: weakref.WeakSet[Store] = weakref.WeakSet()


def _reopen(path: str) -> Store:
    return Store(path, "r", {})


def open_store(
    path: str | os.PathLike[str],
    mode: Literal["r", "rw"] = "r",
    *,
    retention: str | None = None,
    downsampling: str | None = None,
) -> Store:
    """Open the store in a directory.

    Parameters
    ----------
    path : path
        The directory: what the server has as ``--data-dir``.
    mode : {"r", "rw"}
        ``r`` reads, also while another process writes, and never disturbs it; :meth:`Store.refresh`
        shows what is new. ``rw`` writes as well, makes the directory when it is missing, and is
        for one process at a time.
    retention, downsampling : str, optional
        Of a store that is written: how long samples are kept, and the tiers of aggregates, as the
        flags of ``heapster serve`` have them. By default everything is kept for ever.

    Raises
    ------
    NotAStoreError
        There is no store in the directory.
    LockedError
        It is open for writing already, in another process or in this one, and so did this want to.

    Examples
    --------
    >>> with heapster.open(tmp / "store", "rw") as store:
    ...     store
    <heapster.Store '...store' mode='rw', empty>
    """
    if mode not in ("r", "rw"):
        raise QueryError(f'mode is "r" or "rw", not {mode!r}')
    options = {"retention": retention, "downsampling": downsampling}
    given = {name: value for name, value in options.items() if value is not None}
    if given and mode == "r":
        raise QueryError(f'{", ".join(given)} is for mode="rw"')
    return Store(os.path.abspath(os.fspath(path)), mode, given)
