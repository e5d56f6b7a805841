"""Frames of other libraries on the way into a store."""

from __future__ import annotations

import sys
from typing import Any, Mapping, Sequence

from . import _heapster, _times
from .errors import QueryError


def stream(frame: Any, time: str, unit: str | None) -> Any:
    """What has the Arrow stream of a frame.

    pandas has one only together with pyarrow, so its frames go another way.
    """
    pandas = sys.modules.get("pandas")
    if pandas is not None and isinstance(frame, pandas.DataFrame):
        return _of_pandas(frame, time)
    if hasattr(frame, "__arrow_c_stream__"):
        return frame
    if isinstance(frame, Mapping):
        return _of_columns(frame, time, unit)
    raise TypeError(
        f"{type(frame).__name__} is no frame: it has no Arrow stream, and is neither a "
        "pandas.DataFrame nor a mapping of columns"
    )


def _of_pandas(frame: Any, time: str) -> _heapster.Stream:
    """A pandas frame; times may be its index."""
    if time not in frame.columns and (frame.index.name == time or _is_times(frame.index)):
        frame = frame.rename_axis(index=time).reset_index()
    return _heapster.Stream(
        [(str(name), *_of_series(str(name), frame[name])) for name in frame.columns]
    )


def _is_times(index: Any) -> bool:
    return getattr(index.dtype, "kind", "") == "M"


def _of_series(name: str, series: Any) -> tuple[str, Any, Any]:
    """Kind, numbers and either the gaps or the texts of a column of pandas."""
    import pandas

    dtype = series.dtype
    if isinstance(dtype, pandas.CategoricalDtype):
        texts = [str(text) for text in dtype.categories]
        return "label", series.cat.codes.to_numpy("int32"), texts
    if dtype.kind == "M":
        aware = series.dt.tz_convert("UTC").dt.tz_localize(None) if _zone(dtype) else series
        return f"time[{_unit(aware.dtype)}]", aware.to_numpy().view("int64"), None
    if dtype.kind in "iub":
        gaps = series.isna().to_numpy()
        numbers = series.fillna(0) if gaps.any() else series
        kind = "uint" if dtype.kind == "u" else "int"
        return kind, numbers.to_numpy("uint64" if kind == "uint" else "int64"), gaps
    if dtype.kind == "f":
        # NaN is a value; what a nullable type calls missing is none.
        if not _is_nullable(dtype):
            return "float", series.to_numpy("float64"), None
        return "float", series.to_numpy("float64", na_value=0.0), series.isna().to_numpy()
    codes, texts = pandas.factorize(series)
    if not all(isinstance(text, str) for text in texts):
        raise TypeError(f"the column {name!r} is of {dtype}, which is neither times, texts nor numbers")
    return "label", codes.astype("int32"), list(texts)


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
    built: list[tuple[str, str, Any, Any]] = []
    for name, values in columns.items():
        numbers = values.tolist() if name != time and hasattr(values, "tolist") else list(values)
        if name == time:
            at = _times.now()
            moments = [None if one is None else _times.millis(one, unit, at=at) for one in numbers]
            built.append((name, "time[ms]", *_with_gaps(moments, 0)))
        elif any(isinstance(value, str) for value in numbers):
            built.append((name, "label", *_numbered(name, numbers)))
        elif any(isinstance(value, float) for value in numbers):
            built.append((name, "float", *_with_gaps(_floats(name, numbers), 0.0)))
        else:
            built.append((name, "int", *_with_gaps(numbers, 0)))
    return _heapster.Stream(built)


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
