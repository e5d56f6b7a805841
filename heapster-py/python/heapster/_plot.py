"""Pictures of results, with matplotlib."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, Mapping, Sequence

from . import _units
from ._result import _need
from .errors import QueryError

if TYPE_CHECKING:
    from ._result import Result

#: Lines or bars that one can still tell apart.
_SERIES_MAX = 20


def draw(
    result: Result,
    *,
    ax: Any = None,
    unit: str | None = None,
    by: str | Sequence[str] | None = None,
    title: str | None = None,
    **style: Any,
) -> Any:
    """Draw a result; see :meth:`heapster.Result.plot`."""
    is_moment = result.kind in ("vector", "scalar")
    if not is_moment and "time" not in result.columns:
        raise QueryError("there is nothing to draw: the table has no column of times")
    _need("matplotlib", "plot()")
    from matplotlib import pyplot, ticker

    if ax is None:
        ax = pyplot.subplots(figsize=(8, 4), layout="constrained")[1]
    name, write = _units.scale(result.unit if unit is None else unit)
    values_axis = ax.xaxis if is_moment else ax.yaxis
    total = _bars(ax, result, by, style) if is_moment else _lines(ax, result, by, style)
    if name.startswith("bytes"):
        values_axis.set_major_locator(_binary_locator())
    values_axis.set_major_formatter(ticker.FuncFormatter(lambda value, _: write(value)))
    values_axis.set_label_text(name)
    notes = [title] if title else []
    if total > _SERIES_MAX:
        notes.append(f"{_SERIES_MAX} of {total:,} series")
    ax.set_title(", ".join(notes))
    return ax


def _binary_locator() -> Any:
    """Places for numbers on an axis of bytes: multiples of a power of two."""
    from matplotlib import ticker

    class Binary(ticker.Locator):
        def __call__(self) -> list[float]:
            axis: Any = self.axis
            return self.tick_values(*axis.get_view_interval())

        def tick_values(self, vmin: float, vmax: float) -> list[float]:
            low, high = sorted((vmin, vmax))
            if not high > low:
                return [low]
            step = 2.0 ** math.ceil(math.log2((high - low) / 6))
            first, last = math.ceil(low / step), math.floor(high / step)
            return [number * step for number in range(first, last + 1)]

    return Binary()


def _lines(ax: Any, result: Result, by: str | Sequence[str] | None, style: dict[str, Any]) -> int:
    """Lines over time; gives how many there would be."""
    from matplotlib import dates

    wide = result.wide().to_numpy()
    times = wide.pop("time")
    # What says how many samples a bucket has is of another unit.
    lines = {name: line for name, line in wide.items() if name != "count" or len(wide) == 1}
    names = short_names(result.series, by) if result.series else list(lines)
    for name, line in list(zip(names, lines.values()))[:_SERIES_MAX]:
        there = line == line
        ax.plot(times[there], line[there], label=name, **style)
    locator = dates.AutoDateLocator()
    ax.xaxis.set_major_locator(locator)
    ax.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
    ax.set_xlabel("time (UTC)")
    ax.margins(x=0)
    if any(names):
        ax.legend(fontsize="small")
    return len(lines)


def _bars(ax: Any, result: Result, by: str | Sequence[str] | None, style: dict[str, Any]) -> int:
    """Bars, the first on top; gives how many there would be."""
    names = short_names(result.series, by)
    values = result.table.values("value", 0, len(result))
    places = range(min(len(values), _SERIES_MAX))
    ax.barh(places, values[:_SERIES_MAX], **style)
    ax.set_yticks(places, names[:_SERIES_MAX])
    ax.invert_yaxis()
    return len(values)


def short_names(
    series: Sequence[Mapping[str, str]], by: str | Sequence[str] | None = None
) -> list[str]:
    """What tells series apart: the values of the labels in which they differ.

    >>> short_names([{"__name__": "up", "job": "a"}, {"__name__": "up", "job": "b"}])
    ['a', 'b']
    """
    if by is not None:
        keys = [by] if isinstance(by, str) else list(by)
    else:
        every = sorted({key for labels in series for key in labels})
        differ = [key for key in every if len({labels.get(key) for labels in series}) > 1]
        keys = differ or (["__name__"] if series else [])
    return [", ".join(filter(None, (labels.get(key, "") for key in keys))) for labels in series]
