"""Threads, forks, Ctrl-C, and what stays behind."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import Iterator

import pytest

import heapster
from known import MINUTE, SLOW, START, fill, make_busy


@pytest.fixture
def busy(tmp_path: pathlib.Path) -> Iterator[heapster.Store]:
    """A store that takes long to answer."""
    with heapster.open(tmp_path / "busy", "rw") as store:
        make_busy(store)
        yield store


def test_eight_threads_query_while_one_appends(tmp_path: pathlib.Path) -> None:
    with heapster.open(tmp_path, "rw") as store:
        fill(store)
        is_done = threading.Event()

        def append() -> int:
            appended = 0
            while not is_done.is_set():
                at = START + (6 + appended) * MINUTE // 60
                appended += store.append([({"n": "1"}, {"x": appended})], at, unit="ms").accepted
            return appended

        def query(_: int) -> int:
            seen = 0
            for _ in range(40):
                samples = store.select("x").to_dict()["value"]
                assert samples == list(range(len(samples))) and len(samples) >= seen
                seen = len(samples)
                assert store.query("sum(memory_usage)", at="2026-11-01T12:05:00Z").item() > 0
                store.refresh()
            return seen

        with ThreadPoolExecutor(9) as pool:
            writing = pool.submit(append)
            try:
                seen = list(pool.map(query, range(8)))
            finally:
                is_done.set()
            assert 0 < max(seen) <= writing.result()


def test_other_threads_run_while_a_query_does(busy: heapster.Store) -> None:
    ticks = 0
    is_done = threading.Event()

    def tick() -> None:
        nonlocal ticks
        while not is_done.is_set():
            ticks += 1
            time.sleep(0.001)

    ticker = threading.Thread(target=tick)
    ticker.start()
    begin = time.monotonic()
    try:
        with pytest.raises(TimeoutError):
            busy.query_range(SLOW, "2026-11-01T12:00:00Z", "2026-11-01T13:00:00Z", "1s", timeout=0.5)
    finally:
        is_done.set()
        ticker.join()
    took = time.monotonic() - begin
    assert took < 60
    # One that was stopped for as long would have ticked once or twice.
    assert ticks > 20


def test_ctrl_c_cancels_a_query(busy: heapster.Store) -> None:
    script = (
        "import heapster, sys, time\n"
        "store = heapster.open(sys.argv[1])\n"
        "print('asking', flush=True)\n"
        "begin = time.monotonic()\n"
        "try:\n"
        "    store.query_range(sys.argv[2], '2026-11-01T12:00:00Z', '2026-11-01T13:00:00Z', '1s')\n"
        "except KeyboardInterrupt:\n"
        "    print('cancelled', store.query('1').item(), time.monotonic() - begin < 20)\n"
    )
    command = [sys.executable, "-c", script, busy.path, SLOW]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asking\n"
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "cancelled 1.0 True\n"


def test_ctrl_c_ends_an_append_of_a_frame(tmp_path: pathlib.Path) -> None:
    script = (
        "import heapster, pyarrow, sys, time\n"
        "schema = pyarrow.schema([('time', pyarrow.timestamp('s')), ('n', pyarrow.int64())])\n"
        "def batches():\n"
        "    for number in range(600):\n"
        "        yield pyarrow.record_batch([pyarrow.array([number], schema[0].type),"
        " pyarrow.array([number])], schema=schema)\n"
        "        if number == 2:\n"
        "            print('appending', flush=True)\n"
        "        time.sleep(0.1)\n"
        "store = heapster.open(sys.argv[1], 'rw')\n"
        "begin = time.monotonic()\n"
        "try:\n"
        "    store.append_frame(pyarrow.RecordBatchReader.from_batches(schema, batches()))\n"
        "except KeyboardInterrupt:\n"
        "    print('ended', len(store.select('n')), time.monotonic() - begin < 30)\n"
    )
    command = [sys.executable, "-c", script, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "appending\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=60)[0] == "ended 0 True\n"


def ask_in_child(store: heapster.Store, answer: multiprocessing.connection.Connection) -> None:
    try:
        store.query("1")
    except heapster.errors.ForkError as error:
        with heapster.open(store.path) as again:
            answer.send((str(error), len(again.select("memory/usage"))))


@pytest.mark.parametrize("mode", ["r", "rw"])
def test_a_forked_process_is_told_to_open_the_store_again(path: pathlib.Path, mode: str) -> None:
    with heapster.open(path, mode) as store:
        receiving, sending = multiprocessing.Pipe(duplex=False)
        with warnings.catch_warnings():
            # Newer Pythons warn of forks beside threads, which is what this is about.
            warnings.simplefilter("ignore", DeprecationWarning)
            child = multiprocessing.get_context("fork").Process(
                target=ask_in_child, args=(store, sending)
            )
            child.start()
        assert receiving.poll(60), "the child hangs"
        message, samples = receiving.recv()
        child.join(60)
        assert child.exitcode == 0
        assert "open it again" in message and samples == 12
        # What the child let go of is still the parent's.
        assert len(store.select("memory/usage")) == 12
        if mode == "rw":
            with pytest.raises(heapster.errors.LockedError):
                heapster.open(path, "rw")
            assert store.append([({}, {"n": 1})]).accepted == 1


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def resident_bytes() -> int:
    pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_thousand_refreshes_leave_neither_memory_nor_descriptors(tmp_path: pathlib.Path) -> None:
    with heapster.open(tmp_path, "rw") as writer, heapster.open(tmp_path) as reader:
        fill(writer)

        def refresh(times: int, first: int) -> None:
            for number in range(first, first + times):
                writer.append([({"a": "1"}, {"x": number})], START + number, unit="ms")
                if number % 100 == 0:
                    writer.compact()
                reader.refresh()
                assert len(reader.select("x")) == number + 1
                assert reader.query("count(x)", at="2026-11-01T12:01:00Z").item() == 1

        refresh(200, 0)
        gc.collect()
        files, bytes_before = open_files(), resident_bytes()
        refresh(1000, 200)
        gc.collect()
        # Merged segments come and go; what is in use at this moment may differ by a few.
        assert open_files() <= files + 4
        assert resident_bytes() - bytes_before < 24 << 20


def test_results_and_stores_go_when_nobody_holds_them(path: pathlib.Path) -> None:
    files = open_files()
    for _ in range(50):
        store = heapster.open(path)
        result = store.select("memory/usage")
        result.to_arrow()
        del store, result
    gc.collect()
    assert open_files() <= files + 1
