"""What can be asked, of a directory and of a server alike."""

from __future__ import annotations

import datetime as dt
import http.server
import pathlib
import threading
import urllib.request
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


def test_the_step_is_whole_seconds_for_about_120_moments_unless_it_is_given(db: heapster.Store) -> None:
    result = db.query_range("vector(1)", NOON, "2026-11-01T14:00:00Z")
    assert len(result) == 121
    assert START + MINUTE == int(result.to_dict()["time"][1].timestamp() * 1000)


@pytest.mark.parametrize(("number", "unit"), [(10**15, "s"), (10**20, "s"), (-1e300, "ms"), (10**18, "ms")])
def test_a_number_that_is_no_time_is_refused(db: heapster.Store, number: float, unit: str) -> None:
    for ask in (
        lambda: db.query("1", at=number, unit=unit),
        lambda: db.select("x", end=number, unit=unit),
        lambda: db.historical("cluster", "x", start=number, unit=unit),
    ):
        with pytest.raises(heapster.errors.QueryError, match="beyond the years 1 to 9999"):
            ask()


def test_time_ago_may_be_of_numpy(db: heapster.Store) -> None:
    at = db.query("vector(1)", at=numpy.timedelta64(-1, "h")).to_dict()["time"][0]
    age = dt.datetime.now(dt.timezone.utc) - at
    assert dt.timedelta(minutes=59) < age < dt.timedelta(minutes=61)


def test_the_place_of_a_mistake_is_in_characters(db: heapster.Store) -> None:
    for query in ('up{a="é",b}', '"éé" + +"x"'):
        with pytest.raises(heapster.errors.QueryError) as caught:
            db.query(query)
        assert query[caught.value.position or 0] in '}+'


def test_what_is_no_selector_is_refused(asked: heapster.Database) -> None:
    for selector in ("sum(x)", "x[5m]", "x or x"):
        with pytest.raises(heapster.errors.QueryError, match="is no selector"):
            asked.select(selector)
    assert len(asked.select({"__name__": "sum(x)"})) == 0


def test_samples_before_1970_are_selected_from_a_server(writer: heapster.Store) -> None:
    for year in (1700, 1960, 1980):
        writer.append([({}, {"x": year})], dt.datetime(year, 1, 1))
    with heapster.serve(writer, port=0) as server, heapster.connect(server.url) as remote:
        assert writer.select("x").to_dict()["value"] == [1700, 1960, 1980]
        assert remote.select("x").to_dict()["value"] == [1960, 1980]
        assert remote.select("x", "1960-01-01", "1970-01-01").to_dict()["value"] == [1960]
        cut = remote.select("x", "1650-01-01")
        assert "were not asked for" in cut.warnings[0] and len(cut) == 2


def test_staleness_markers_are_told_from_other_nans(writer: heapster.Store) -> None:
    bits = numpy.array([0x7FF0_0000_0000_0002, 0x7FF8_0000_0000_0000], "uint64")
    for second, value in enumerate([1.0, *bits.view("float64")]):
        writer.append([({}, {"x": float(value)})], second, unit="s")
    stored = writer.select("x").to_numpy()["value"].view("uint64")
    assert stored[1:].tolist() == bits.tolist()


class Canned:
    """A server that says to everything what it is told to say."""

    def __init__(self, ip: str = "127.0.0.1") -> None:
        self.answer: tuple[int, dict[str, str], bytes] = (200, {}, b"{}")
        self.tokens: list[str | None] = []
        canned = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.rfile.read(int(self.headers.get("Content-Length") or 0))
                canned.tokens.append(self.headers.get("Authorization"))
                status, headers, body = canned.answer
                if self.path.startswith("/moved"):
                    status, headers, body = 200, {}, b'{"status": "success", "data": ["moved"]}'
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = http.server.ThreadingHTTPServer((ip, 0), Handler)
        self.url = f"http://{ip}:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def __enter__(self) -> Canned:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def test_a_token_goes_to_no_other_server() -> None:
    with Canned() as first, Canned("127.0.0.2") as second:
        remote = heapster.connect(first.url, token="secret")
        first.answer = (302, {"Location": f"{second.url}/moved"}, b"")
        with pytest.raises(heapster.errors.ServerError, match="sends us on to"):
            remote.labels()
        first.answer = (302, {"Location": "http://127.0.0.2:99999/moved"}, b"")
        with pytest.raises(heapster.errors.ServerError, match="sends us on to"):
            remote.labels()
        assert second.tokens == []
        first.answer = (302, {"Location": "/moved"}, b"")
        assert remote.labels() == ["moved"]
        assert set(first.tokens) == {"Bearer secret"}


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (503, b'{"status":"error","errorType":"timeout","error":"slow"}', heapster.errors.QueryTimeoutError),
        (422, b'{"status":"error","errorType":"execution","error":"no"}', heapster.errors.QueryError),
        (
            422,
            b'{"status":"error","errorType":"execution","error":"query processing would load too many '
            b'samples into memory in query execution"}',
            heapster.errors.LimitError,
        ),
        (401, b"who are you", heapster.errors.ServerError),
        (500, b"", heapster.errors.ServerError),
        (200, b"<html>", heapster.errors.ServerError),
        (200, b"[]", heapster.errors.ServerError),
    ],
)
def test_what_a_server_says_is_an_error_of_ours(
    status: int, body: bytes, error: type[Exception]
) -> None:
    with Canned() as server:
        server.answer = (status, {}, body)
        for ask in (lambda: heapster.connect(server.url).query("1"), heapster.connect(server.url).labels):
            with pytest.raises(error) as caught:
                ask()
            if isinstance(caught.value, heapster.errors.ServerError) and status != 200:
                assert caught.value.status == status


def test_a_server_that_falls_silent_is_a_time_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*_: object, **__: object) -> None:
        raise TimeoutError(110, "Connection timed out")

    remote = heapster.connect("http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request.OpenerDirector, "open", silent)
    with pytest.raises(heapster.errors.QueryTimeoutError, match="did not answer in time"):
        remote.query("1")
    with pytest.raises(heapster.errors.QueryTimeoutError, match="did not answer within 6 s"):
        remote.query("1", timeout=1)


def test_units_are_those_of_the_values(writer: heapster.Store) -> None:
    node = {"type": "node", "nodename": "n"}
    values = {"cpu/usage_rate": 1, "network/rx_rate": 1.0, "memory/node_utilization": 0.5, "mine": 1}
    writer.append([(node, values)], START, unit="ms")
    metrics = writer.metrics().to_dict()
    units = {name: unit or "" for name, unit in zip(metrics["metric"], metrics["unit"])}
    assert units == {
        "cpu/usage_rate": "millicores",
        "memory/node_utilization": "ratio",
        "mine": "",
        "network/rx_rate": "bytes/s",
    }
    for name, unit in units.items():
        assert writer.select(name).unit == unit, name
        assert writer.query(f'{{"{name}"}}', at=START, unit="ms").unit == unit, name
