"""What can be asked of a store, whether it is a directory or behind a server."""

from __future__ import annotations

import abc
import datetime as dt
import re
from types import TracebackType
from typing import TYPE_CHECKING, Mapping, Self, Sequence, Union

from . import _heapster, _times, _units
from ._result import Result, quoted
from ._times import Duration, Moment
from .errors import QueryError

if TYPE_CHECKING:
    #: Type, series, text if it is one, warnings.
    Answer = tuple[str, _heapster.Frame, str | None, list[str]]

#: A selector in PromQL's form, or labels with their values, ``__name__`` for the metric.
Matchers = Union[str, Mapping[str, str]]

#: The aggregations of Heapster's historical API, and other words for them.
_AGGREGATIONS = {
    "mean": "average",
    "p50": "50-perc",
    "p95": "95-perc",
    "p99": "99-perc",
}


class Database(abc.ABC):
    """The questions that :func:`heapster.open` and :func:`heapster.connect` have in common.

    Wherever a time is asked for, it may be a text (RFC 3339, a date, ``now``, time ago such as
    ``-36h``), a datetime, a pandas Timestamp, a numpy datetime64, a negative timedelta, or a number
    together with ``unit="s"``, ``"ms"``, ``"us"`` or ``"ns"``. What has no zone is in UTC. Durations
    are texts such as ``5m``, timedeltas, or numbers of seconds.
    """

    def query(
        self,
        expression: str,
        at: Moment | None = None,
        *,
        timeout: Duration | None = None,
        unit: str | None = None,
    ) -> Result:
        """Evaluate a PromQL expression at one moment.

        Parameters
        ----------
        expression : str
            PromQL. Heapster's names are written with ``_``, as in ``memory_usage``, or in quotes,
            as in ``{"memory/usage"}``.
        at : time, optional
            The moment; now by default.
        timeout : duration, optional
            How long it may take; any time by default, since Ctrl-C ends it.
        unit : str, optional
            Of ``at``, when that is a number.

        Raises
        ------
        QueryError
            The expression cannot be read or evaluated.
        LimitError
            It needs more samples or memory than is allowed.
        QueryTimeoutError
            It took longer than ``timeout``.

        Examples
        --------
        >>> db.query("sum(memory_usage) / 2^30", at="2026-11-01T12:00:00Z").item()
        3.0
        """
        moment = _times.now() if at is None else _times.millis(at, unit)
        answer = self._instant(expression, moment, _timeout(timeout))
        return _answered(answer, expression)

    def query_range(
        self,
        expression: str,
        start: Moment,
        end: Moment | None = None,
        step: Duration | None = None,
        *,
        timeout: Duration | None = None,
        unit: str | None = None,
    ) -> Result:
        """Evaluate a PromQL expression at ``start``, ``start + step`` and so on up to ``end``.

        Parameters
        ----------
        expression : str
            PromQL, see :meth:`query`.
        start, end : time
            The first moment, and the last one at most; ``end`` is now by default.
        step : duration, optional
            Time between them; by default whole seconds, so that there are about 120.
        timeout : duration, optional
            How long it may take; any time by default.
        unit : str, optional
            Of ``start`` and ``end``, when they are numbers.

        Raises
        ------
        QueryError, LimitError, QueryTimeoutError
            As for :meth:`query`.

        Examples
        --------
        >>> db.query_range("sum(memory_usage)", "2026-11-01T12:00:00Z", "2026-11-01T12:02:00Z", "1m")
        Result: matrix of 1 series with 3 samples
        time                  value
        2026-11-01T12:00:00Z  3221225472.0
        2026-11-01T12:01:00Z  3221225474.0
        2026-11-01T12:02:00Z  3221225476.0
        """
        first, last = _times.span(start, end, unit, newest=_times.now())
        if step is None:
            every = dt.timedelta(seconds=max(1, (last - first) // 120_000))
        else:
            every = _times.duration(step, "step")
        answer = self._range(expression, first, last, every, _timeout(timeout))
        return _answered(answer, expression)

    def select(
        self,
        matchers: Matchers,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        labels: Sequence[str] | None = None,
        unit: str | None = None,
    ) -> Result:
        """The samples themselves, as they are stored; integers stay ``int64``.

        Parameters
        ----------
        matchers : str or mapping
            A selector such as ``memory/usage{type="pod"}``, or labels and values that all have to
            be equal, such as ``{"__name__": "memory/usage", "type": "pod"}``.
        start, end : time, optional
            The range, both ends included; everything by default.
        labels : list of str, optional
            Labels that become columns; by default all.
        unit : str, optional
            Of ``start`` and ``end``, when they are numbers.

        Raises
        ------
        QueryError
            The selector cannot be read.

        Notes
        -----
        Where a series ended, there may be a staleness marker: a NaN with the bits
        ``0x7ff0000000000002``, which ``query`` and ``query_range`` understand. A server leaves them
        out, and goes back 290 years at most.

        Examples
        --------
        >>> db.select('memory/usage{pod_name="db-0"}', end="2026-11-01T12:01:00Z")
        Result: samples of 1 series with 2 samples
        time                  metric        namespace_name  pod_name  type  value
        2026-11-01T12:00:00Z  memory/usage  shop            db-0      pod   2147483648
        2026-11-01T12:01:00Z  memory/usage  shop            db-0      pod   2147483649
        """
        first, last = _times.span(start, end, unit)
        frame, warnings = self._select(_selector(matchers), first, last)
        return Result("samples", frame=frame, warnings=warnings, labels=labels)

    def historical(
        self,
        entity: str,
        metric: str,
        aggregations: str | Sequence[str] = ("average", "max"),
        bucket: Duration | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        labels: Mapping[str, str] | None = None,
        unit: str | None = None,
    ) -> Result:
        """Aggregates of a metric of an entity by bucket of time, as Heapster's API has them.

        Where raw samples are gone, the store's tiers answer; if that makes a difference, a warning
        says so.

        Parameters
        ----------
        entity : str
            As :meth:`entities` lists them: ``cluster``, ``node:n1``, ``namespace:shop``,
            ``namespace:shop/pod:db-0`` or ``namespace:shop/pod:db-0/container:db``.
        metric : str
            Its name, such as ``memory/usage``.
        aggregations : str or list of str
            Of ``average`` (or ``mean``), ``max``, ``min``, ``median``, ``count``, ``50-perc`` (or
            ``p50``), ``95-perc`` (``p95``) and ``99-perc`` (``p99``). They name the columns.
        bucket : duration, optional
            Length of a bucket; one for everything by default.
        start, end : time, optional
            The range; everything by default.
        labels : mapping, optional
            Labels that the metric has of its own, such as ``{"resource_id": "/"}``.
        unit : str, optional
            Of ``start`` and ``end``, when they are numbers.

        Examples
        --------
        >>> db.historical("namespace:shop/pod:db-0", "memory/usage", ["min", "p95"], "5m")
        Result: buckets of 2 rows
        time                  min         p95
        2026-11-01T12:00:00Z  2147483648  2147483652
        2026-11-01T12:05:00Z  2147483653  2147483653
        """
        names = [aggregations] if isinstance(aggregations, str) else list(aggregations)
        if not names:
            raise QueryError("give at least one aggregation, such as average")
        known = [(name, _AGGREGATIONS.get(name, name)) for name in names]
        first, last = _times.span(start, end, unit)
        size = None if bucket is None else _times.duration(bucket, "bucket")
        own = sorted((labels or {}).items())
        table, warnings = self._historical(entity, own, metric, known, first, last, size)
        unit_of_values = _units.unit_of_metric(metric)
        return Result("buckets", table=table, warnings=warnings, unit=unit_of_values)

    def entities(
        self, start: Moment | None = None, end: Moment | None = None, *, unit: str | None = None
    ) -> Result:
        """The entities with samples in a range: cluster, namespaces, nodes, pods, containers.

        Examples
        --------
        >>> db.entities().to_dict()["entity"]
        ['namespace:shop/pod:db-0', 'namespace:shop/pod:web-1']
        """
        return Result("table", table=self._entities(*_times.span(start, end, unit)))

    def metrics(
        self, start: Moment | None = None, end: Moment | None = None, *, unit: str | None = None
    ) -> Result:
        """The metrics with samples in a range, with kind, unit and description where they are known.

        Examples
        --------
        >>> db.metrics()
        Result: table of 1 row
        metric        kind   unit   description
        memory/usage  gauge  bytes  Total memory usage
        """
        return Result("table", table=self._metrics(*_times.span(start, end, unit)))

    def labels(
        self,
        label: str | None = None,
        start: Moment | None = None,
        end: Moment | None = None,
        *,
        unit: str | None = None,
    ) -> list[str]:
        """Names of labels, or the values of one, of what has samples in a range; sorted.

        Examples
        --------
        >>> db.labels("pod_name")
        ['db-0', 'web-1']
        """
        return self._label_texts(label, *_times.span(start, end, unit))

    @abc.abstractmethod
    def close(self) -> None:
        """Close it; once more does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # What the two kinds do each in their way. Times are milliseconds since the epoch.

    @abc.abstractmethod
    def _instant(self, expression: str, at: int, timeout: dt.timedelta | None) -> Answer: ...

    @abc.abstractmethod
    def _range(
        self, expression: str, start: int, end: int, step: dt.timedelta, timeout: dt.timedelta | None
    ) -> Answer: ...

    @abc.abstractmethod
    def _select(self, selector: str, start: int, end: int) -> tuple[_heapster.Frame, list[str]]: ...

    @abc.abstractmethod
    def _historical(
        self,
        entity: str,
        labels: list[tuple[str, str]],
        metric: str,
        aggregations: list[tuple[str, str]],
        start: int,
        end: int,
        bucket: dt.timedelta | None,
    ) -> tuple[_heapster.Table, list[str]]: ...

    @abc.abstractmethod
    def _entities(self, start: int, end: int) -> _heapster.Table: ...

    @abc.abstractmethod
    def _metrics(self, start: int, end: int) -> _heapster.Table: ...

    @abc.abstractmethod
    def _label_texts(self, label: str | None, start: int, end: int) -> list[str]: ...


def _timeout(timeout: Duration | None) -> dt.timedelta | None:
    return None if timeout is None else _times.duration(timeout, "timeout")


def _answered(answer: Answer, expression: str) -> Result:
    kind, frame, text, warnings = answer
    result = Result(kind, frame=frame, text=text, warnings=warnings)
    if not result.unit:
        result._unit = _units.unit_of_expression(expression)
    return result


def _selector(matchers: Matchers) -> str:
    """The text of a selector."""
    if isinstance(matchers, str):
        # A name may have other characters; in a mapping it may have these, too.
        if re.search(r"[()\[\]]|\S\s+\S", matchers.partition("{")[0]):
            raise QueryError(
                f"{matchers!r} is no selector such as up{{job=\"a\"}}; expressions are for query()"
            )
        return matchers
    pairs = (
        f"{name if name == '__name__' else quoted(name)}={quoted(value)}"
        for name, value in matchers.items()
    )
    return "{" + ", ".join(pairs) + "}"
