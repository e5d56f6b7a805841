"""What can be asked, of a directory and of a server alike."""

from __future__ import annotations

import datetime as dt
import pathlib
from typing import Iterator
from zoneinfo import ZoneInfo

import numpy
import pandas
import pytest

import heapster
from known import GIB, MINUTE, SLOW, START, make_busy

NOON = "2026-11-01T12:00:00Z"


@pytest.fixture(params=["directory", "server"])
def asked(request: pytest.FixtureRequest, path: pathlib.Path) -> Iterator[heapster.Database]:
    """The store with the two pods, opened in each of the two ways."""
    if request.param == "directory":
        with heapster.open(path) as store:
            yield store
        return
    with heapster.open(path, "rw") as store, heapster.serve(store, port=0) as server:
        with heapster.connect(server.url) as remote:
            yield remote


def test_an_expression_is_evaluated_at_a_moment(asked: heapster.Database) -> None:
    result = asked.query('topk(1, memory_usage{type="pod"})', at=NOON)
    assert result.kind == "vector"
    assert [labels["pod_name"] for labels in result.series] == ["db-0"]
    assert result.item() == 2 * GIB
    assert asked.query("1 + 1", at=NOON).item() == 2
    assert asked.query('"text"', at=NOON).item() == "text"


def test_an_expression_is_evaluated_over_a_range(asked: heapster.Database) -> None:
    result = asked.query_range("sum(memory_usage)", NOON, "2026-11-01T12:05:00Z", "1m")
    assert result.kind == "matrix"
    assert result.to_dict()["value"] == [3.0 * GIB + 2 * minute for minute in range(6)]
    assert result.to_dict()["time"][1] == dt.datetime(2026, 11, 1, 12, 1, tzinfo=dt.timezone.utc)


def test_samples_are_selected_as_they_are_stored(asked: heapster.Database) -> None:
    for matchers in (
        'memory/usage{pod_name="db-0"}',
        {"__name__": "memory/usage", "pod_name": "db-0"},
        'memory_usage{pod_name="db-0"}',
    ):
        result = asked.select(matchers, NOON, "2026-11-01T12:02:00Z")
        assert result.to_dict()["value"] == [2 * GIB, 2 * GIB + 1, 2 * GIB + 2], matchers
    assert len(asked.select("memory/usage")) == 12
    assert not asked.select("memory/usage", "2030-01-01")


def test_history_is_aggregated_by_bucket(asked: heapster.Database) -> None:
    result = asked.historical(
        "namespace:shop/pod:db-0", "memory/usage", ["mean", "max", "p95", "count"], "3m"
    )
    assert result.columns == ["time", "mean", "max", "p95", "count"]
    rows = result.to_dict()
    assert rows["max"] == [2 * GIB + 2, 2 * GIB + 5]
    assert rows["mean"] == [2 * GIB + 1, 2 * GIB + 4]
    assert rows["count"] == [3, 3]
    assert result.unit == "bytes"


def test_what_there_is_is_listed(asked: heapster.Database) -> None:
    entities = asked.entities().to_dict()
    assert entities["entity"] == ["namespace:shop/pod:db-0", "namespace:shop/pod:web-1"]
    assert entities["pod_name"] == ["db-0", "web-1"]
    assert asked.labels("pod_name") == ["db-0", "web-1"]
    assert {"__name__", "namespace_name", "pod_name", "type"} <= set(asked.labels())
    metrics = asked.metrics().to_dict()
    row = metrics["metric"].index("memory/usage")
    assert (metrics["unit"][row], metrics["kind"][row]) == ("bytes", "gauge")


def test_what_cannot_be_read_is_marked(asked: heapster.Database) -> None:
    with pytest.raises(ValueError) as caught:
        asked.query("sum(memory_usage")
    assert isinstance(caught.value, heapster.errors.QueryError)
    with pytest.raises(heapster.errors.QueryError):
        asked.historical("node", "x", "average", "1m")
    with pytest.raises(heapster.errors.QueryError):
        asked.historical("cluster", "memory/usage", "most", "1m")


def test_the_place_of_a_mistake_is_told(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError) as caught:
        db.query("memory_usage +")
    assert caught.value.position == 14
    with pytest.raises(heapster.errors.QueryError, match="expected a value in quotes") as caught:
        db.select("{pod_name=db}")
    assert caught.value.position == 10


def test_a_query_that_takes_too_long_ends(writer: heapster.Store) -> None:
    make_busy(writer)
    with pytest.raises(TimeoutError) as caught:
        writer.query_range(SLOW, NOON, "2026-11-01T13:00:00Z", "1s", timeout=0.05)
    assert isinstance(caught.value, heapster.errors.QueryTimeoutError)


def test_a_query_that_needs_too_much_is_refused(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.LimitError):
        db.query_range("memory_usage", "1970-01-01", "2026-11-02", "1s")


MOMENTS = {
    "text": NOON,
    "with another zone": "2026-11-01T13:00:00+01:00",
    "aware": dt.datetime(2026, 11, 1, 12, tzinfo=dt.timezone.utc),
    "in a zone": dt.datetime(2026, 11, 1, 13, tzinfo=ZoneInfo("Europe/Berlin")),
    "naive, which is UTC": dt.datetime(2026, 11, 1, 12),
    "pandas": pandas.Timestamp("2026-11-01 12:00"),
    "pandas with a zone": pandas.Timestamp("2026-11-01 07:00", tz="America/New_York"),
    "numpy": numpy.datetime64("2026-11-01T12:00:00.000000001"),
}


@pytest.mark.parametrize("moment", MOMENTS.values(), ids=MOMENTS.keys())
def test_a_moment_may_be(db: heapster.Store, moment: object) -> None:
    assert db.select("memory/usage", moment, moment).to_dict()["value"] == [2 * GIB, GIB]


@pytest.mark.parametrize(
    ("number", "unit"),
    [
        (START // 1000, "s"),
        (START / 1000, "s"),
        (START, "ms"),
        (START * 1000 + 999, "us"),
        (START * 1_000_000, "ns"),
        (numpy.int64(START), "ms"),
    ],
)
def test_a_number_is_a_moment_of_its_unit(db: heapster.Store, number: float, unit: str) -> None:
    assert len(db.select("memory/usage", number, number, unit=unit)) == 2


def test_a_number_without_a_unit_is_refused(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError, match='unit="s"'):
        db.query("1", at=START)
    with pytest.raises(heapster.errors.QueryError, match="unit is"):
        db.query("1", at=START, unit="h")


@pytest.mark.parametrize("nothing", [pandas.NaT, numpy.datetime64("NaT")])
def test_no_time_is_refused(db: heapster.Store, nothing: object) -> None:
    with pytest.raises(heapster.errors.QueryError, match="NaT is no time"):
        db.query("1", at=nothing)


def test_what_is_no_time_is_refused(db: heapster.Store) -> None:
    for moment in ("yesterday", "", "2026-13-01"):
        with pytest.raises(heapster.errors.QueryError, match="is no time"):
            db.query("1", at=moment)
    for moment in (True, [], object()):
        with pytest.raises(TypeError, match="is no time"):
            db.query("1", at=moment)


def test_time_ago_is_counted_from_now(writer: heapster.Store) -> None:
    writer.append([({}, {"x": 1})], dt.timedelta(minutes=-30))
    assert len(writer.select("x", "-31m", "-29m")) == 1
    assert len(writer.select("x", dt.timedelta(hours=-1))) == 1
    assert len(writer.select("x", "-10m")) == 0


@pytest.mark.parametrize(
    "minute", ["1m", "60s", 60, 60.0, dt.timedelta(minutes=1), pandas.Timedelta("1min"),
               numpy.timedelta64(1, "m")],
)
def test_a_duration_may_be(db: heapster.Store, minute: object) -> None:
    result = db.query_range("memory_usage", NOON, "2026-11-01T12:01:00Z", minute)
    assert len(result) == 4


@pytest.mark.parametrize("none", ["", "soon", 0, -1, float("nan"), dt.timedelta(0)])
def test_what_is_no_duration_is_refused(db: heapster.Store, none: object) -> None:
    with pytest.raises(heapster.errors.QueryError):
        db.query_range("memory_usage", NOON, "2026-11-01T12:01:00Z", none)


def test_a_range_that_ends_before_it_starts_is_refused(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError, match="is before start"):
        db.select("memory/usage", "2026-11-02", "2026-11-01")


def test_a_server_that_is_not_there_is_a_connection_error() -> None:
    with pytest.raises(ConnectionError, match="check the address") as caught:
        heapster.connect("http://127.0.0.1:9").query("1")
    assert isinstance(caught.value, heapster.errors.ServerError)
    with pytest.raises(heapster.errors.QueryError, match="is no address"):
        heapster.connect("localhost:8082")


def test_the_step_is_a_hundredth_of_the_range_unless_it_is_given(db: heapster.Store) -> None:
    result = db.query_range("vector(1)", NOON, "2026-11-01T14:00:00Z")
    assert len(result) == 121
    assert START + MINUTE == int(result.to_dict()["time"][1].timestamp() * 1000)
