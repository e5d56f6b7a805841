"""Collecting and serving within a process."""

from __future__ import annotations

import http.server
import json
import pathlib
import threading
import urllib.request
from typing import Iterator

import pytest

import heapster

EXPOSITION = b"# TYPE made_total counter\nmade_total 17\nroom_temperature 21.5\n"


@pytest.fixture
def target() -> Iterator[str]:
    """A target of Prometheus."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4")
            self.send_header("Content-Length", str(len(EXPOSITION)))
            self.end_headers()
            self.wfile.write(EXPOSITION)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}/metrics"
    server.shutdown()
    thread.join()
    server.server_close()


def test_this_machine_is_collected(tmp_path: pathlib.Path) -> None:
    with heapster.Collector("host", store=tmp_path / "store", resolution="5s") as collector:
        collector.wait(rounds=2, timeout="60s")
        latest = collector.latest()
        rounds, failed, last = collector.progress
        assert rounds >= 2 and failed == 0 and last is not None
        assert any(entity.startswith("node:") for entity in latest.to_dict()["entity"])
        assert {"cpu/usage", "memory/usage"} <= set(latest.columns)
        assert collector.store.query('sum(memory_usage{type="node"})').item() > 0
        assert "running" in repr(collector)
    assert not collector.is_running and "stopped" in repr(collector)
    with heapster.open(tmp_path / "store") as store:
        assert store.entities()


def test_a_target_is_scraped(writer: heapster.Store, target: str) -> None:
    with heapster.Collector(f"prometheus:{target}", store=writer, resolution="5s") as collector:
        collector.wait(timeout="60s")
        assert "room_temperature" in collector.latest().to_dict()["metric"]
    # A store that was given stays open.
    assert writer.select("room_temperature").item() == 21.5
    assert writer.select("made_total").to_dict()["value"][0] == 17


def test_what_goes_wrong_is_told(writer: heapster.Store) -> None:
    dead = "prometheus:http://127.0.0.1:9/metrics"
    with heapster.Collector(dead, store=writer, resolution="5s") as collector:
        with pytest.raises(heapster.errors.CollectorError, match="rounds within 7s"):
            collector.wait(rounds=3, timeout="7s")
        assert any("127.0.0.1:9" in event.text for event in collector.errors)
        assert collector.progress.failed >= 1
        assert "error:" in repr(collector)


def test_a_source_that_is_not_known_is_refused(writer: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError, match="Source not recognized: gopher"):
        heapster.Collector("gopher", store=writer).start()
    with pytest.raises(heapster.errors.QueryError, match="metric-resolution"):
        heapster.Collector("host", store=writer, resolution="1s").start()


def test_a_collector_starts_once(writer: heapster.Store, target: str) -> None:
    collector = heapster.Collector(f"prometheus:{target}", store=writer, resolution="5s").start()
    with pytest.raises(heapster.errors.CollectorError, match="running already"):
        collector.start()
    collector.stop()
    collector.stop()
    with pytest.raises(heapster.errors.ClosedError, match="not running"):
        collector.latest()
    with collector:
        assert collector.is_running


def test_a_collector_is_served_with_its_newest_batch(tmp_path: pathlib.Path) -> None:
    with heapster.Collector("host", store=tmp_path / "store", resolution="5s") as collector:
        collector.wait(timeout="60s")
        with heapster.serve(collector, port=0) as server:
            with urllib.request.urlopen(f"{server.url}/api/v1/model/nodes/") as answer:
                assert json.load(answer)
            with heapster.connect(server.url) as remote:
                assert remote.query('sum(memory_usage{type="node"})').item() > 0


def test_a_server_stops_and_its_address_is_free_again(writer: heapster.Store) -> None:
    server = heapster.serve(writer, port=0)
    port = int(server.url.rsplit(":", 1)[1])
    with pytest.raises(heapster.errors.CollectorError, match="could not listen"):
        heapster.serve(writer, port=port)
    server.stop()
    server.stop()
    with heapster.serve(writer, port=port):
        pass


def test_a_server_beyond_this_machine_has_to_be_asked_for(writer: heapster.Store) -> None:
    with pytest.raises(heapster.errors.QueryError, match="insecure-allow-unauthenticated"):
        heapster.serve(writer, port=0, ip="0.0.0.0")


def test_only_a_store_that_is_written_can_be_served(db: heapster.Store) -> None:
    with pytest.raises(heapster.errors.ReadOnlyError, match='mode="rw"'):
        heapster.serve(db, port=0)
