"""Results: columns of an answer, on the way to whatever people work with."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any, Iterator, Mapping, Sequence

from . import _heapster, _units
from ._times import moment
from .errors import MissingPackageError, QueryError

if TYPE_CHECKING:
    import numpy
    import pandas
    import polars
    import pyarrow

#: Rows that are shown of a long table.
_SHOWN = 10
#: Columns that are shown of a wide one.
_SHOWN_COLUMNS = 20
#: Characters in which a table is printed, if two columns have room there.
_WIDTH = 160
#: A name that PromQL takes without quotes.
_PLAIN_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*\Z")
#: A label that it takes without quotes.
_PLAIN_LABEL = re.compile(r"[a-zA-Z_][a-zA-Z0-9_]*\Z")


def _need(package: str, purpose: str) -> Any:
    try:
        return __import__(package)
    except ImportError as error:
        raise MissingPackageError(
            f"{purpose} needs {package}, which is not installed: pip install {package}"
        ) from error


def quoted(text: str) -> str:
    """A text in quotes, with PromQL's escapes."""
    for char, escape in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        text = text.replace(char, escape)
    return f'"{text}"'


def series_name(labels: Mapping[str, str]) -> str:
    """A series as a selector that finds it.

    >>> series_name({"__name__": "up", "job": "a"})
    'up{job="a"}'
    >>> series_name({"__name__": "cpu/usage", "type": "node"})
    '{"cpu/usage", type="node"}'
    >>> series_name({"__name__": "up", "app.kubernetes.io/name": "web"})
    'up{"app.kubernetes.io/name"="web"}'
    """
    name = labels.get("__name__", "")
    pairs = [
        f"{key if _PLAIN_LABEL.match(key) else quoted(key)}={quoted(value)}"
        for key, value in sorted(labels.items())
        if key != "__name__"
    ]
    if name and not _PLAIN_NAME.match(name):
        return "{" + ", ".join([quoted(name), *pairs]) + "}"
    return name + ("{" + ", ".join(pairs) + "}" if pairs or not name else "")


def _unique(names: list[str], series: Sequence[Mapping[str, str]]) -> list[str]:
    """Names of columns, each once: those that are there twice become selectors."""
    seen: dict[str, int] = {"time": 1}
    for name in names:
        seen[name] = seen.get(name, 0) + 1
    unique: dict[str, None] = {}
    for name, labels in zip(names, series):
        name = name if seen[name] == 1 else series_name(labels)
        # Two that are told apart by which labels a metric has of its own have one selector.
        while name in unique or name == "time":
            name += "_"
        unique[name] = None
    return list(unique)


class Result:
    """An answer: series with samples, buckets of aggregates, or a list of things.

    It is a table, in the *long* layout, with a row for each sample: ``time``, ``metric``, a column
    for each label, ``value``. :meth:`wide` has a row for each time and a column for each series.
    Times are in UTC. Integers are ``int64``. Labels are dictionary columns: Arrow dictionaries,
    pandas and polars categories.

    polars, pyarrow, DuckDB and others take it without a copy, since it has an Arrow stream:
    ``polars.DataFrame(result)``, ``pyarrow.table(result)``,
    ``duckdb.sql("select pod_name, max(value) from result group by 1")``.

    Attributes
    ----------
    kind : str
        ``vector``, ``matrix``, ``scalar`` or ``string`` for PromQL; ``samples``, ``buckets`` or
        ``table`` for the other questions.
    text : str or None
        The text, of a ``string``.
    warnings : list of str
        What one should know of the answer, such as damage that was left out.

    Examples
    --------
    >>> result = db.query('max by (pod_name) (memory_usage{type="pod"})', at="2026-11-01T12:00:00Z")
    >>> result
    Result: vector of 2 series
    time                  pod_name  value
    2026-11-01T12:00:00Z  db-0      2147483648.0
    2026-11-01T12:00:00Z  web-1     1073741824.0
    """

    def __init__(
        self,
        kind: str,
        *,
        frame: _heapster.Frame | None = None,
        table: _heapster.Table | None = None,
        text: str | None = None,
        warnings: Sequence[str] = (),
        unit: str | None = None,
        labels: Sequence[str] | None = None,
    ) -> None:
        self.kind = kind
        self.text = text
        self.warnings = list(warnings)
        self._frame = frame
        self._long = table
        self._unit = unit
        self._labels = None if labels is None else list(labels)

    # What there is.

    @property
    def table(self) -> _heapster.Table:
        """The long table."""
        if self._long is None:
            assert self._frame is not None
            self._long = self._frame.long(self._labels)
        return self._long

    @property
    def columns(self) -> list[str]:
        """Names of the columns.

        >>> db.query("memory_usage", at="2026-11-01T12:00:00Z").columns
        ['time', 'metric', 'namespace_name', 'pod_name', 'type', 'value']
        """
        return [name for name, _ in self.table.columns()]

    @property
    def series(self) -> list[dict[str, str]]:
        """Labels of each series, ``__name__`` among them; empty when there are no series."""
        frame, some = self._frame, 4096
        if frame is None:
            return []
        # In pieces, between which other threads run.
        starts = range(0, frame.series_count(), some)
        return [labels for start in starts for labels in frame.series(start, start + some)]

    @property
    def unit(self) -> str:
        """Unit of the values, such as ``bytes``; empty when it is not known.

        >>> db.query('sum(memory_usage{type="pod"})', at="2026-11-01T12:00:00Z").unit
        'bytes'
        """
        if self._unit is None:
            names = set() if self._frame is None else self._frame.metrics()
            self._unit = _units.unit_of_all(names) if names else ""
        return self._unit

    def __len__(self) -> int:
        """Number of rows of the long table."""
        return len(self._frame) if self._frame is not None else len(self.table)

    def __bool__(self) -> bool:
        """Whether there is anything."""
        return self.text is not None or len(self) > 0

    def item(self) -> float | int | str:
        """The one value of an answer that has just one.

        >>> db.query("1 + 1").item()
        2.0
        """
        if self.text is not None:
            return self.text
        if len(self) != 1:
            raise QueryError(f"item() is for one value, and there are {len(self)}")
        kinds = dict(self.table.columns())
        # An integer beside floats is in two columns, of which one is exact; a float is in one.
        names: list[str] = [name for name in ("value_int", "value") if name in kinds]
        names = names or [name for name, kind in kinds.items() if kind in ("int", "float")]
        values = {name: self.table.values(name, 0, 1)[0] for name in names}
        there = {name: value for name, value in values.items() if value is not None}
        if len(there) == 1 or "value" in there:
            value: float | int = next(iter(there.values()))
            return value
        raise QueryError(
            f"item() is for one value, and there are {len(there)}: {', '.join(names)}; take one of "
            "to_dict()"
        )

    # Layouts.

    def wide(self, by: str | Sequence[str] | None = None) -> Result:
        """The same with a row for each time and a column for each series.

        Parameters
        ----------
        by : str or list of str, optional
            Labels whose values name the columns. Otherwise these are selectors such as
            ``up{job="a"}``; so are those of series that would have the same name.

        Examples
        --------
        >>> range = db.query_range("memory_usage", "2026-11-01T12:00:00Z",
        ...                        "2026-11-01T12:01:00Z", "1m")
        >>> range.wide(by="pod_name")
        Result: table of 2 rows
        time                  db-0          web-1
        2026-11-01T12:00:00Z  2147483648.0  1073741824.0
        2026-11-01T12:01:00Z  2147483649.0  1073741825.0
        """
        if self._frame is None:
            return self
        series = self.series
        if by is None:
            names = [series_name(labels) for labels in series]
        else:
            keys = [by] if isinstance(by, str) else list(by)
            names = [", ".join(labels.get(key, "") for key in keys) for labels in series]
        table = self._frame.wide(_unique(names, series))
        return Result("table", table=table, warnings=self.warnings, unit=self.unit)

    def head(self, rows: int = _SHOWN) -> Result:
        """The first rows."""
        table = self.table.slice(0, rows)
        return Result("table", table=table, warnings=self.warnings, unit=self.unit)

    def iter_batches(self, rows: int = 65_536) -> Iterator[Result]:
        """The long table in pieces of at most so many rows, which share its memory.

        >>> samples = db.select("memory/usage")
        >>> [len(batch) for batch in samples.iter_batches(3)]
        [3, 3, 3, 3]
        """
        if rows < 1:
            raise QueryError("a batch has at least one row")
        for start in range(0, len(self), rows):
            table = self.table.slice(start, start + rows)
            yield Result("table", table=table, warnings=self.warnings, unit=self._unit)

    # Exits.

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The long table as an Arrow C stream, without copies."""
        return self.table.__arrow_c_stream__(requested_schema)

    def __arrow_c_schema__(self) -> object:
        """The schema of the long table."""
        return self.table.__arrow_c_schema__()

    def to_arrow(self, *, wide: bool = False, by: str | Sequence[str] | None = None) -> pyarrow.Table:
        """A ``pyarrow.Table``, without copies."""
        pyarrow = _need("pyarrow", "to_arrow()")
        return pyarrow.table(self._laid_out(wide, by).table)

    def to_polars(
        self, *, wide: bool = False, by: str | Sequence[str] | None = None
    ) -> polars.DataFrame:
        """A ``polars.DataFrame``, without copies."""
        pl = _need("polars", "to_polars()")
        frame: polars.DataFrame = pl.DataFrame(self._laid_out(wide, by).table)
        return frame

    def to_pandas(
        self, *, wide: bool = False, by: str | Sequence[str] | None = None
    ) -> pandas.DataFrame:
        """A ``pandas.DataFrame``; in the wide layout its index is the time.

        Integers are ``int64`` and floats ``float64``; where there are gaps, ``Int64`` and
        ``Float64``, since NaN is a value.

        Examples
        --------
        >>> frame = db.select("memory/usage").to_pandas()
        >>> frame.dtypes["value"], frame.dtypes["pod_name"].name, str(frame.dtypes["time"])
        (dtype('int64'), 'category', 'datetime64[ms, UTC]')
        """
        pd = _need("pandas", "to_pandas()")
        laid_out = self._laid_out(wide, by)
        table = laid_out.table
        columns: dict[str, Any] = {}
        for name, kind in table.columns():
            numbers = table.numbers(name)
            if kind == "time":
                times = pd.DatetimeIndex(numbers.view("datetime64[ms]"), copy=False)
                columns[name] = times.tz_localize("UTC")
            elif kind == "label":
                columns[name] = pd.Categorical.from_codes(numbers, table.texts(name))
            elif (gaps := table.gaps(name)) is not None:
                masked = pd.arrays.IntegerArray if kind == "int" else pd.arrays.FloatingArray
                columns[name] = masked(numbers, gaps)
            else:
                columns[name] = numbers
        index = columns.pop("time") if wide and "time" in columns else None
        frame: pandas.DataFrame = pd.DataFrame(columns, index=index, copy=False)
        if index is not None:
            frame.index.name = "time"
        return frame

    def to_numpy(
        self, *, wide: bool = False, by: str | Sequence[str] | None = None
    ) -> dict[str, numpy.ndarray[Any, Any]]:
        """Arrays by the names of their columns, which may be written to.

        Times are ``datetime64[ms]`` in UTC, labels arrays of texts. Integers with gaps are masked
        arrays; gaps in floats are NaN.

        Examples
        --------
        >>> arrays = db.select('memory/usage{pod_name="db-0"}').to_numpy()
        >>> arrays["value"][:2]
        array([2147483648, 2147483649])
        """
        np = _need("numpy", "to_numpy()")
        table = self._laid_out(wide, by).table
        arrays: dict[str, Any] = {}
        for name, kind in table.columns():
            numbers = table.numbers(name)
            if kind == "time":
                numbers = numbers.view("datetime64[ms]")
            elif kind == "label":
                # A gap has number -1, which is the last text.
                texts = np.array([*table.texts(name), None], dtype=object)
                numbers = texts[numbers]
            elif kind == "int" and (gaps := table.gaps(name)) is not None:
                numbers = np.ma.MaskedArray(numbers, gaps)
            arrays[name] = numbers
        return arrays

    def to_dict(
        self, *, wide: bool = False, by: str | Sequence[str] | None = None
    ) -> dict[str, list[Any]]:
        """Lists by the names of their columns; times are aware datetimes, gaps ``None``.

        >>> db.query("vector(1)", at="2026-11-01T12:00:00Z").to_dict()["value"]
        [1.0]
        """
        table = self._laid_out(wide, by).table
        return {
            name: _python_values(table, name, kind, 0, len(table)) for name, kind in table.columns()
        }

    def _laid_out(self, wide: bool, by: str | Sequence[str] | None) -> Result:
        if by is not None and not wide:
            raise QueryError("by= names the columns of the wide layout: give wide=True as well")
        return self.wide(by) if wide else self

    # Pictures.

    def plot(self, **options: Any) -> Any:
        """Draw it with matplotlib; gives the axes.

        Series over time are lines, values of one moment are bars. The axis of values has the unit.

        Parameters
        ----------
        ax : matplotlib.axes.Axes, optional
            Where to draw; a new figure otherwise.
        unit : str, optional
            Unit of the values: ``bytes``, ``millicores``, ``s`` or any other word. Otherwise that
            of the metric, where it is known.
        by : str or list of str, optional
            Labels that name the series in the legend; otherwise those in which they differ.
        title : str, optional
            A title.
        """
        from . import _plot

        return _plot.draw(self, **options)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError(
            "a result cannot be pickled; pickle what to_pandas(), to_arrow() or to_dict() gives"
        )

    def __repr__(self) -> str:
        lines = [self._headline(), *_text_table(self.table)]
        return "\n".join([*lines, *(f"warning: {warning}" for warning in self.warnings)])

    def _headline(self) -> str:
        if self.text is not None:
            return f"Result: string {self.text!r}"
        if self._frame is None:
            return f"Result: {self.kind} of {_count(len(self), 'row')}"
        if self.kind == "scalar":
            return "Result: scalar"
        samples = f" with {_count(len(self), 'sample')}" if self.kind != "vector" else ""
        series = 0 if self._frame is None else self._frame.series_count()
        return f"Result: {self.kind} of {series:,} series{samples}"

    def _repr_html_(self) -> str:
        """A table for notebooks; series over time have a small picture each."""
        warnings = "".join(f"<div>⚠ {html.escape(warning)}</div>" for warning in self.warnings)
        body = (
            _html_series(self) if self.kind in ("matrix", "samples") else _html_table(self.table)
        )
        return f"<div><div>{html.escape(self._headline())}</div>{body}{warnings}</div>"


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def _python_values(table: _heapster.Table, name: str, kind: str, start: int, end: int) -> list[Any]:
    values = table.values(name, start, end)
    return [moment(at) for at in values] if kind == "time" else values


def _cells(table: _heapster.Table, name: str, kind: str, start: int, end: int) -> list[str]:
    """The texts of some rows of a column."""
    values = table.values(name, start, end)
    if kind == "time":
        values = [_heapster.print_time(at) for at in values]
    return ["" if value is None else str(value) for value in values]


def _shown_columns(table: _heapster.Table) -> list[list[str]]:
    """The name and the texts of each column; of many rows and columns the first and the last."""
    rows, half = len(table), _SHOWN // 2

    def shown(name: str, kind: str) -> list[str]:
        if rows <= _SHOWN:
            return [name, *_cells(table, name, kind, 0, rows)]
        first, last = (
            _cells(table, name, kind, *part) for part in ((0, half), (rows - half, rows))
        )
        return [name, *first, "…", *last]

    names = table.columns()
    if len(names) <= _SHOWN_COLUMNS:
        return [shown(*column) for column in names]
    some = _SHOWN_COLUMNS // 2
    first, last = ([shown(*column) for column in part] for part in (names[:some], names[-some:]))
    return [*first, _gap(first), *last]


def _gap(columns: list[list[str]]) -> list[str]:
    """A column in place of those that are left out."""
    return ["…"] * len(columns[0])


def _text_table(table: _heapster.Table) -> list[str]:
    columns = _shown_columns(table)
    if not columns or len(columns[0]) == 1:
        return []
    widths = [max(map(len, column)) + 2 for column in columns]
    first, last = _fitting(widths)
    if first < last:
        columns = [*columns[:first], _gap(columns), *columns[last:]]
        widths = [*widths[:first], 3, *widths[last:]]
    return ["".join(map(str.ljust, row, widths)).rstrip() for row in zip(*columns)]


def _fitting(widths: list[int]) -> tuple[int, int]:
    """How many columns have room from the left, and from which on to the right: at least one each,
    all when they have room or are two.
    """
    if sum(widths) - 2 <= _WIDTH or len(widths) < 3:
        return len(widths), len(widths)
    first, last = 1, len(widths) - 1
    room = _WIDTH - widths[0] - widths[-1] - 3
    while first < last:
        is_left = first <= len(widths) - last
        room -= widths[first] if is_left else widths[last - 1]
        if room < 0:
            break
        first, last = (first + 1, last) if is_left else (first, last - 1)
    return first, last


def _html_rows(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table; cells of ``rows`` are HTML already."""
    top = "".join(f"<th>{html.escape(name)}</th>" for name in head)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


def _html_table(table: _heapster.Table) -> str:
    columns = _shown_columns(table)
    cells = [[html.escape(cell) for cell in column[1:]] for column in columns]
    return _html_rows([column[0] for column in columns], list(zip(*cells)))


def _html_series(result: Result) -> str:
    """A row for each series: its labels, a picture of its values, and the last of them."""
    frame = result._frame
    assert frame is not None
    series, count = frame.series(0, _SHOWN), frame.series_count()
    _, write = _units.scale(result.unit)
    keys = sorted({key for labels in series for key in labels} - {"__name__"})
    if any("__name__" in labels for labels in series):
        keys.insert(0, "__name__")
    rows = []
    for index, labels in enumerate(series):
        values = frame.outline(index, 60)
        last = html.escape(write(values[-1])) if values else ""
        cells = [html.escape(labels.get(key, "")) for key in keys]
        rows.append([*cells, _sparkline(values), last])
    if count > _SHOWN:
        rows.append([f"… {count - _SHOWN:,} more"])
    head = ["metric" if key == "__name__" else key for key in keys]
    return _html_rows([*head, "", f"last ({result.unit})" if result.unit else "last"], rows)


def _sparkline(values: Sequence[float]) -> str:
    """An inline SVG of values, without any package."""
    finite = [value for value in values if value == value and abs(value) != float("inf")]
    if len(finite) < 2:
        return ""
    low, high = min(finite), max(finite)
    width, height = 120, 24
    rise = (height - 2) / ((high - low) or 1.0)
    step = width / (len(finite) - 1)
    points = " ".join(
        f"{index * step:.1f},{height - 1 - (value - low) * rise:.1f}"
        for index, value in enumerate(finite)
    )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {width} {height}">'
        f'<polyline points="{points}" fill="none" stroke="currentColor"/></svg>'
    )
