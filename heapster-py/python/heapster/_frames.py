"""Frames of other libraries on the way into a store."""

from __future__ import annotations

import sys
from typing import Any, Iterator, Mapping, Sequence

from . import _heapster, _times
from ._result import Result
from .errors import QueryError


def stream(frame: Any, time: str, unit: str | None, *, is_whole: bool) -> tuple[Any, str | None]:
    """What has the Arrow stream of a frame, and the unit of its times, if they are numbers.

    A result of ours has more than is seen, which is stored again when it is taken whole.
    pandas has a stream only together with pyarrow, so its frames go another way.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return _of_pandas(frame, time), unit
    if pandas is not None and isinstance(frame, pandas.Series):
        raise TypeError("a pandas.Series is no frame; call its to_frame() first")
    if isinstance(frame, Result):
        return frame.table.stored() if is_whole else frame.table, unit
    pyarrow = sys.modules.get("pyarrow")
    if pyarrow is not None and isinstance(frame, pyarrow.RecordBatchReader):
        return Watched(frame), unit
    if hasattr(frame, "__arrow_c_stream__"):
        return frame, unit
    if isinstance(frame, Mapping):
        return _of_columns(frame, time, unit), None
    if type(frame).__name__ == "LazyFrame":
        raise TypeError("a LazyFrame is no frame yet; call its collect() first")
    raise TypeError(
        f"{type(frame).__name__} is no frame: it has no Arrow stream, and is neither a "
        "pandas.DataFrame nor a mapping of columns"
    )


class Watched:
    """A reader of pyarrow that keeps what its batches fail with, of which Arrow passes on the text."""

    def __init__(self, reader: Any) -> None:
        self._reader = reader
        self.failure: BaseException | None = None

    def _batches(self) -> Iterator[Any]:
        try:
            yield from self._reader
        except BaseException as error:
            self.failure = error
            raise

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The stream."""
        import pyarrow

        reader = pyarrow.RecordBatchReader.from_batches(self._reader.schema, self._batches())
        stream: object = reader.__arrow_c_stream__(requested_schema)
        return stream


def _of_pandas(frame: Any, time: str) -> _heapster.Stream:
    """A pandas frame; the levels of its index are columns as well."""
    frame = _with_index(frame, time)
    names = [str(name) for name in frame.columns]
    for name in names:
        if names.count(name) > 1:
            raise QueryError(
                f"the frame has two columns that are called {name!r}; rename one, or leave it out"
            )
    return _heapster.Stream(
        [(name, *_of_series(name, frame.iloc[:, place])) for place, name in enumerate(names)]
    )


def _with_index(frame: Any, time: str) -> Any:
    """The frame with its index among its columns. Only numbers of rows are left out."""
    import pandas

    index = frame.index
    names: list[Any] = list(index.names)
    levels = index.levels if isinstance(index, pandas.MultiIndex) else [index]
    if time not in frame.columns and time not in names:
        times = [place for place, level in enumerate(levels) if _is_times(level)]
        if len(times) == 1:
            names[times[0]] = time
    # What is left of the numbers of rows after a filter, a sort or concat() is no RangeIndex.
    if names == [None] and pandas.api.types.is_integer_dtype(index.dtype):
        return frame
    if None in names:
        raise QueryError(
            "the index of the frame has no name, and would be lost: name it with rename_axis(), or "
            "drop it with reset_index(drop=True)"
        )
    for name in names:
        if name in frame.columns or names.count(name) > 1:
            raise QueryError(
                f"the frame has two columns that are called {name!r}, one of them in its index; "
                "rename one, or leave it out"
            )
    return frame.rename_axis(index=names).reset_index()


def _is_times(index: Any) -> bool:
    return getattr(index.dtype, "kind", "") == "M"


def _of_series(name: str, series: Any) -> tuple[str, Any, Any]:
    """Kind, numbers and either the gaps or the texts of a column of pandas."""
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.ArrowDtype):
        return _of_arrow(name, series.array.__arrow_array__())
    if isinstance(dtype, pandas.CategoricalDtype):
        texts = [str(text) for text in dtype.categories]
        return "label", series.cat.codes.to_numpy("int32"), texts
    if dtype.kind == "M":
        aware = series.dt.tz_convert("UTC").dt.tz_localize(None) if _zone(dtype) else series
        return f"time[{_unit(aware.dtype)}]", aware.to_numpy().view("int64"), None
    if dtype.kind in "iub":
        kind = "uint" if dtype.kind == "u" else "int"
        gaps = series.isna().to_numpy()
        fill = {"na_value": 0} if gaps.any() else {}
        return kind, series.to_numpy(f"{kind}64", **fill), gaps
    if dtype.kind == "f":
        # NaN is a value; what a nullable type calls missing is none.
        if not _is_nullable(dtype):
            return "float", series.to_numpy("float64"), None
        return "float", series.to_numpy("float64", na_value=0.0), series.isna().to_numpy()
    codes, texts = pandas.factorize(series)
    if not all(isinstance(text, str) for text in texts):
        raise _neither(name, dtype)
    return "label", codes.astype("int32"), list(texts)


def _of_arrow(name: str, array: Any) -> tuple[str, Any, Any]:
    """The same of a column of pandas that is one of Arrow."""
    import pyarrow
    from pyarrow import types

    array = array.combine_chunks()
    gaps = array.is_null().to_numpy(zero_copy_only=False)
    if types.is_date(array.type):
        array = array.cast(pyarrow.timestamp("ms"))
    of = array.type

    def numbers(to: Any, gap: float) -> Any:
        return array.cast(to).fill_null(gap).to_numpy(zero_copy_only=False)

    if types.is_timestamp(of):
        return f"time[{of.unit}]", numbers(pyarrow.int64(), -(2**63)), None
    if types.is_unsigned_integer(of):
        return "uint", numbers(pyarrow.uint64(), 0), gaps
    if types.is_integer(of) or types.is_boolean(of):
        return "int", numbers(pyarrow.int64(), 0), gaps
    if types.is_floating(of):
        return "float", numbers(pyarrow.float64(), 0.0), gaps
    texts = of.value_type if types.is_dictionary(of) else of
    if types.is_string(texts) or types.is_large_string(texts) or types.is_string_view(texts):
        numbered = array.cast(pyarrow.large_string()).dictionary_encode()
        codes = numbered.indices.fill_null(-1).to_numpy(zero_copy_only=False)
        return "label", codes.astype("int32"), numbered.dictionary.to_pylist()
    raise _neither(name, of)


def _neither(name: str, of: Any) -> TypeError:
    return TypeError(f"the column {name!r} is of {of}, which is neither times, texts nor numbers")


def _zone(dtype: Any) -> bool:
    return getattr(dtype, "tz", None) is not None


def _unit(dtype: Any) -> str:
    import numpy

    return numpy.datetime_data(dtype)[0]


def _is_nullable(dtype: Any) -> bool:
    return hasattr(dtype, "na_value") and not hasattr(dtype, "newbyteorder")


def _of_columns(columns: Mapping[str, Any], time: str, unit: str | None) -> _heapster.Stream:
    """Lists or arrays by the names of their columns."""
    if time not in columns:
        raise QueryError(f"there is no column {time!r} for time=; there are {', '.join(columns)}")
    return _heapster.Stream(
        [
            (name, *(_of_moments(values, unit) if name == time else _of_values(name, values)))
            for name, values in columns.items()
        ]
    )


def _of_moments(values: Any, unit: str | None) -> tuple[str, Any, Any]:
    at = _times.now()
    moments = [
        # NaN and NaT are not equal to themselves.
        None if _is_gap(one) or one != one else _times.any_millis(one, unit, at=at)
        for one in values
    ]
    return "time[ms]", *_with_gaps(moments, 0)


def _of_values(name: str, values: Any) -> tuple[str, Any, Any]:
    dtype = getattr(values, "dtype", None)
    if getattr(dtype, "kind", "") in ("m", "M"):
        # As numbers they would be taken for values.
        raise _neither(name, dtype)
    plain = [_plain(value) for value in (values.tolist() if hasattr(values, "tolist") else values)]
    if any(isinstance(value, str) for value in plain):
        return "label", *_numbered(name, plain)
    for value in plain:
        if not (value is None or isinstance(value, (int, float))):
            raise _neither(name, type(value).__name__)
    if any(isinstance(value, float) for value in plain):
        return "float", *_with_gaps(_floats(name, plain), 0.0)
    whole = [value for value in plain if value is not None]
    low, high = min(whole, default=0), max(whole, default=0)
    if low < -(2**63) or high >= 2**64 or (low < 0 and high >= 2**63):
        raise QueryError(f"the column {name!r} has integers of more than 64 bits")
    return "uint" if high >= 2**63 else "int", *_with_gaps(plain, 0)


def _is_gap(value: Any) -> bool:
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def _plain(value: Any) -> Any:
    """A value as one of Python's own."""
    if _is_gap(value):
        return None
    is_time = type(value).__name__ in ("datetime64", "timedelta64")
    return value.item() if hasattr(value, "item") and not is_time else value


def _floats(name: str, values: Sequence[Any]) -> list[float | None]:
    """Floats, if that changes no number."""
    floats = [None if value is None else float(value) for value in values]
    for value, as_float in zip(values, floats):
        if isinstance(value, int) and value != as_float:
            raise QueryError(f"the column {name!r} has floats and {value}, which no float can hold")
    return floats


def _with_gaps(values: Sequence[Any], gap: Any) -> tuple[list[Any], list[bool] | None]:
    gaps = [value is None for value in values]
    filled = [gap if value is None else value for value in values]
    return filled, gaps if any(gaps) else None


def _numbered(name: str, values: Sequence[Any]) -> tuple[list[int], list[str]]:
    numbers: dict[str, int] = {}
    codes = []
    for value in values:
        if value is not None and not isinstance(value, str):
            raise TypeError(f"the column {name!r} has texts and {value!r}")
        codes.append(-1 if value is None else numbers.setdefault(value, len(numbers)))
    return codes, list(numbers)
