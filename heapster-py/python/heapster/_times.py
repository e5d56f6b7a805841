"""Moments and durations, in all the forms in which people have them."""

from __future__ import annotations

import datetime as dt
import math
import time
from typing import Any, Union

from . import _heapster
from .errors import QueryError

#: A moment: a text, a datetime or date, a pandas Timestamp, a numpy datetime64, time ago as a
#: negative timedelta or timedelta64, or a number together with ``unit=``.
Moment = Union[str, dt.datetime, dt.date, dt.timedelta, int, float, Any]

#: A duration: a text such as ``"5m"``, a timedelta, a numpy timedelta64, or a number of seconds.
Duration = Union[str, dt.timedelta, int, float, Any]

_EPOCH = dt.datetime(1970, 1, 1, tzinfo=dt.timezone.utc)
_MILLISECOND = dt.timedelta(milliseconds=1)
_UNITS = {"s": (1000, 1), "ms": (1, 1), "us": (1, 1000), "ns": (1, 1_000_000)}

#: The years 1 to 9999: everything a store can hold.
OLDEST = -62_135_596_800_000
NEWEST = 253_402_300_799_999


def now() -> int:
    """Milliseconds since the epoch."""
    return time.time_ns() // 1_000_000


def millis(moment: Moment, unit: str | None = None, *, at: int | None = None) -> int:
    """Milliseconds since the epoch of a moment between the years 1 and 9999.

    >>> millis(10**15, unit="s")
    Traceback (most recent call last):
    heapster.errors.QueryError: the time 1000000000000000 is beyond the years 1 to 9999; is it in another unit than "s"?
    """
    found = any_millis(moment, unit, at=at)
    if not OLDEST <= found <= NEWEST:
        hint = "" if unit is None else f'; is it in another unit than "{unit}"?'
        raise QueryError(f"the time {moment!r} is beyond the years 1 to 9999{hint}")
    return found


def any_millis(moment: Moment, unit: str | None = None, *, at: int | None = None) -> int:
    """The same of any moment, if need be one that no store can hold; digits below are cut off.

    A datetime without a zone is in UTC. ``at`` is what "now" means.

    >>> any_millis("1970-01-01T00:01:00Z")
    60000
    >>> any_millis(60, unit="s")
    60000
    >>> any_millis("-1m", at=60000)
    0
    """
    if isinstance(moment, str):
        return _heapster.parse_time(moment, now() if at is None else at)
    if isinstance(moment, dt.datetime):
        if moment != moment:
            raise QueryError("NaT is no time")
        aware = moment if moment.tzinfo else moment.replace(tzinfo=dt.timezone.utc)
        return (aware - _EPOCH) // _MILLISECOND
    if isinstance(moment, dt.date):
        return (moment - _EPOCH.date()) // _MILLISECOND
    if isinstance(moment, dt.timedelta):
        return (now() if at is None else at) + moment // _MILLISECOND
    if type(moment).__name__ == "timedelta64":
        ago = _of_numpy(moment, "timedelta64[ms]", "time")
        return (now() if at is None else at) + ago
    if type(moment).__name__ == "datetime64":
        return _of_numpy(moment, "datetime64[ms]", "time")
    if isinstance(moment, bool) or not hasattr(moment, "__float__"):
        raise TypeError(f"{type(moment).__name__} is no time: {moment!r}")
    return _of_number(moment, unit)


def _of_number(number: Any, unit: str | None) -> int:
    if unit is None:
        raise QueryError(
            f'the time {number!r} is a number; say of what with unit="s", "ms", "us" or "ns"'
        )
    if unit not in _UNITS:
        raise QueryError(f'unit is "s", "ms", "us" or "ns", not {unit!r}')
    times, per = _UNITS[unit]
    if hasattr(number, "__index__"):
        found = int(number) * times // per
    elif math.isnan(number):
        raise QueryError(f"{number!r} is no time")
    else:
        found = _whole(float(number) * times / per)
    # What is further away is no time whatever it is, but a number that fits.
    return max(OLDEST - 1, min(NEWEST + 1, found))


def _whole(number: float) -> int:
    return math.floor(number) if math.isfinite(number) else int(math.copysign(2**63, number))


def _of_numpy(value: Any, to: str, what: str) -> int:
    number = int(value.astype(to).astype("int64"))
    if number == -(2**63):
        raise QueryError(f"NaT is no {what}")
    return number


def span(
    start: Moment | None, end: Moment | None, unit: str | None, *, newest: int = NEWEST
) -> tuple[int, int]:
    """The range of two moments, both of which may be left out."""
    at = now()
    first = OLDEST if start is None else millis(start, unit, at=at)
    last = newest if end is None else millis(end, unit, at=at)
    if last < first:
        shown = _heapster.print_time
        raise QueryError(f"end ({shown(last)}) is before start ({shown(first)})")
    return first, last


def duration(value: Duration, what: str) -> dt.timedelta:
    """A duration; numbers are seconds.

    >>> duration("1h30m", "step")
    datetime.timedelta(seconds=5400)
    >>> duration(0.5, "step")
    datetime.timedelta(microseconds=500000)
    """
    if isinstance(value, str):
        return _heapster.parse_duration(value)
    if isinstance(value, dt.timedelta):
        length = value
    elif type(value).__name__ == "timedelta64":
        length = dt.timedelta(milliseconds=_of_numpy(value, "timedelta64[ms]", what))
    elif isinstance(value, bool) or not hasattr(value, "__float__"):
        raise TypeError(f"{what} is a duration, and {type(value).__name__} is none: {value!r}")
    elif not math.isfinite(value):
        raise QueryError(f"{what} is a duration, and {value!r} is none")
    else:
        length = dt.timedelta(seconds=float(value))
    if length < _MILLISECOND:
        raise QueryError(f"{what} is at least a millisecond, not {value!r}")
    return length


def moment(at: int) -> dt.datetime:
    """An aware datetime of milliseconds since the epoch.

    >>> moment(-1)
    datetime.datetime(1969, 12, 31, 23, 59, 59, 999000, tzinfo=datetime.timezone.utc)
    """
    return _EPOCH + at * _MILLISECOND
