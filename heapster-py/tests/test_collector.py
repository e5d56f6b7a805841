"""Collecting and serving within a process."""

from __future__ import annotations

import datetime as dt
import http.server
import json
import pathlib
import socket
import subprocess
import sys
import threading
import time
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


def test_a_forked_process_leaves_the_temporary_store_alone() -> None:
    script = (
        "import heapster, os, sys, warnings\n"
        "warnings.simplefilter('ignore')\n"
        "collector = heapster.Collector('host', resolution='5s').start()\n"
        "path = collector.store.path\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    assert 'another process' in repr(collector), repr(collector)\n"
        "    sys.exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "print(os.path.exists(path), collector.store.append([({}, {'x': 1})]).accepted)\n"
        "collector.close()\n"
        "print(os.path.exists(path))\n"
        "path = heapster.Collector('host').store.path\n"
        "print(os.path.exists(path))\n"
    )
    command = [sys.executable, "-c", script]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert answer.stdout == "True 1\nFalse\nFalse\n"


def test_a_start_that_fails_leaves_the_directory_free(tmp_path: pathlib.Path) -> None:
    kept = []
    for start in (
        lambda: heapster.Collector("gopher", store=tmp_path).__enter__(),
        lambda: heapster.Collector("gopher", store=tmp_path).start(),
    ):
        # As in a notebook, the traceback keeps the collector.
        with pytest.raises(heapster.errors.QueryError) as caught:
            start()
        kept.append(caught.value)
    with heapster.Collector("host", store=tmp_path, resolution="5s"):
        pass
    nowhere = heapster.Collector("gopher")
    with pytest.raises(heapster.errors.QueryError):
        nowhere.start()
    assert not pathlib.Path(nowhere.store.path).exists()


def test_closing_a_store_stops_what_uses_it(tmp_path: pathlib.Path) -> None:
    store = heapster.open(tmp_path, "rw")
    collector = heapster.Collector("host", store=store, resolution="5s").start()
    server = heapster.serve(store, port=0)
    store.close()
    assert not collector.is_running and "stopped" in repr(collector)
    assert collector.progress.failed == 0 and collector.errors == []
    with pytest.raises(heapster.errors.ServerError):
        heapster.connect(server.url).query("1")
    heapster.open(tmp_path, "rw").close()
    server.stop()
    collector.stop()
    store.close()


def test_a_store_is_kept_in_order_after_its_collector_stopped(writer: heapster.Store) -> None:
    with heapster.Collector("host", store=writer, resolution="60s"):
        pass
    for hour in range(4):
        frame = {"time": [f"2026-11-01T{hour:02}:00:00Z"], "a": ["1"], "x": [hour]}
        assert writer.append_frame(frame).accepted == 1
    writer.compact()
    assert writer.info()["segments"] == 1
    assert writer.select("x").to_dict()["value"] == [0, 1, 2, 3]


def test_before_its_first_batch_a_collector_has_none(writer: heapster.Store) -> None:
    writer.append([({"a": "1"}, {"x": 1})])
    with heapster.Collector("host", store=writer, resolution="60s") as collector:
        rounds, failed, last = collector.progress
        latest = collector.latest()
        if collector.progress.rounds == 0:
            assert (rounds, failed, last) == (0, 0, None)
            assert len(latest) == 0 and "entity" in latest.columns


def test_progress_has_the_time_of_the_newest_round(writer: heapster.Store, target: str) -> None:
    future = dt.datetime.now(dt.timezone.utc) + dt.timedelta(minutes=5)
    writer.append([({"a": "1"}, {"x": 1})], future)
    for source in ("host", f"prometheus:{target}"):
        with heapster.Collector(source, store=writer, resolution="5s") as collector:
            collector.wait()
            last = collector.progress.last
            assert last is not None and abs(last - dt.datetime.now(dt.timezone.utc)) < dt.timedelta(minutes=1)


def test_a_server_does_not_wait_for_half_a_request(writer: heapster.Store) -> None:
    server = heapster.serve(writer, port=0)
    with socket.create_connection(server.url.removeprefix("http://").split(":")) as half:
        half.sendall(b"GET /-/healthy HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\nGET /-/hea")
        assert half.recv(4096).startswith(b"HTTP/1.1 200")
        begin = time.monotonic()
        server.stop()
        assert time.monotonic() - begin < 8
