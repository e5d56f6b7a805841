"""Units of metrics and expressions, and numbers on axes that people can read."""

from __future__ import annotations

import re
from typing import Callable, Iterable

from . import _heapster

#: What gives its argument's unit.
_KEEPS = {
    *("sum", "avg", "min", "max", "topk", "bottomk", "quantile", "sort", "sort_desc", "abs"),
    *("avg_over_time", "min_over_time", "max_over_time", "sum_over_time", "last_over_time"),
    *("first_over_time", "quantile_over_time", "stddev", "stddev_over_time", "delta", "increase"),
    *("by", "without", "round", "clamp", "clamp_min", "clamp_max", "predict_linear", "idelta"),
}
_PER_SECOND = {"rate", "irate", "deriv"}
_SUFFIXES = {"bytes": "bytes", "seconds": "s", "ratio": "ratio", "cores": "cores", "celsius": "°C"}


def unit_of_metric(name: str) -> str:
    """The unit of a metric: the catalogue's, or what its name says; empty when unknown.

    >>> unit_of_metric("memory/usage"), unit_of_metric("node_cpu_seconds_total")
    ('bytes', 's')
    >>> unit_of_metric("cpu/usage_rate")
    'millicores'
    """
    known = _heapster.unit_of(name)
    if known is not None:
        return known
    parts = name.removesuffix("_total").rsplit("_", 1)
    return _SUFFIXES.get(parts[-1], "")


def unit_of_all(names: Iterable[str]) -> str:
    """The unit that all of these metrics have."""
    units = {unit_of_metric(name) for name in names}
    return units.pop() if len(units) == 1 else ""


def unit_of_expression(expression: str) -> str:
    """The unit of an expression over metrics, where it is plain; empty when it is not.

    >>> unit_of_expression('sum by (pod_name) (memory_usage{type="pod"})')
    'bytes'
    >>> unit_of_expression("rate(network_rx[5m])")
    'bytes/s'
    >>> unit_of_expression("memory_usage / 2")
    ''
    """
    unit = unit_of_all(_heapster.metrics_of(expression))
    bare = re.sub(r"\"[^\"]*\"|'[^']*'|`[^`]*`", "", expression)
    bare = re.sub(r"\{[^}]*\}|\[[^\]]*\]", "", bare)
    called = set(re.findall(r"([a-z_]+)\s*\(", bare))
    rated = called & _PER_SECOND
    # Whatever computes with numbers may change the unit.
    if not unit or re.search(r"[-+*/%^<>=!]|\b(and|or|unless)\b", bare):
        return ""
    if called - _KEEPS - _PER_SECOND:
        return ""
    return f"{unit}/s" if rated else unit


def scale(unit: str) -> tuple[str, Callable[[float], str]]:
    """How an axis of this unit is called, and how its numbers are written.

    >>> name, write = scale("bytes")
    >>> name, write(3 * 2**30)
    ('bytes', '3 Gi')
    """
    base, per, _ = unit.partition("/")
    if base == "bytes":
        return unit, lambda value: _prefixed(value, 1024.0, ("", "Ki", "Mi", "Gi", "Ti", "Pi"))
    if base == "millicores":
        return f"cores{per and '/s'}", lambda value: f"{value / 1000:g}"
    if base in ("ns", "ms"):
        factor = 1e9 if base == "ns" else 1e3
        # Time used for each second of time is cores.
        name = "cores" if per and base == "ns" else f"s{per and '/s'}"
        return name, lambda value: f"{value / factor:g}"
    return unit, lambda value: _prefixed(value, 1000.0, ("", "k", "M", "G", "T", "P"))


def _prefixed(value: float, base: float, prefixes: tuple[str, ...]) -> str:
    power = 0
    while abs(value) >= base and power + 1 < len(prefixes):
        value /= base
        power += 1
    return f"{value:g} {prefixes[power]}".rstrip()
