"""Opening and closing, and what a store is to Python."""

from __future__ import annotations

import io
import pathlib
import pickle
import signal
import socket
import subprocess
import sys

import pytest

import heapster
from known import MINUTE, START, fill


def test_a_missing_store_is_a_file_that_is_not_found(tmp_path: pathlib.Path) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        heapster.open(tmp_path)
    assert isinstance(caught.value, heapster.errors.NotAStoreError)
    assert 'mode="rw"' in str(caught.value)


def test_one_process_writes_and_the_next_is_told_how_to_read(writer: heapster.Store) -> None:
    script = (
        "import heapster, sys\n"
        "try:\n"
        "    heapster.open(sys.argv[1], 'rw')\n"
        "except heapster.errors.LockedError as error:\n"
        "    assert isinstance(error, BlockingIOError) and 'mode=\"r\"' in str(error)\n"
        "    heapster.open(sys.argv[1]).close()\n"
        "    print('told')\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", script, writer.path], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "told\n"


def test_a_process_is_told_that_it_writes_already_itself(writer: heapster.Store) -> None:
    with pytest.raises(heapster.errors.LockedError, match="in this process already"):
        heapster.open(writer.path, "rw")
    heapster.open(writer.path).close()
    writer.close()
    heapster.open(writer.path, "rw").close()


def test_a_store_that_is_read_refuses_to_be_written(db: heapster.Store) -> None:
    for write in (lambda: db.append([]), lambda: db.append_frame({"time": [], "x": []}), db.sync):
        with pytest.raises(heapster.errors.ReadOnlyError, match='mode="rw"') as caught:
            write()
        assert isinstance(caught.value, io.UnsupportedOperation)


def test_a_closed_store_says_so_and_closes_again(path: pathlib.Path) -> None:
    for mode in ("r", "rw"):
        store = heapster.open(path, mode)
        store.close()
        store.close()
        with pytest.raises(heapster.errors.ClosedError, match="the store is closed") as caught:
            store.query("1")
        assert isinstance(caught.value, ValueError)
        assert "ClosedError" in repr(store)


def test_a_reader_sees_what_is_written_after_a_refresh(tmp_path: pathlib.Path) -> None:
    with heapster.open(tmp_path, "rw") as writer, heapster.open(tmp_path) as reader:
        assert reader.bounds is None
        fill(writer)
        assert len(reader.select("memory/usage")) == 0
        found = reader.refresh()
        assert found.has_news and (found.batches, found.samples) == (6, 12)
        assert len(reader.select("memory/usage")) == 12
        assert not reader.refresh().has_news


def test_a_written_store_is_there_again(path: pathlib.Path) -> None:
    with heapster.open(path, "rw") as store:
        fill(store)
        assert len(store.select("memory/usage")) == 12
        assert [time.timestamp() * 1000 for time in store.bounds or ()] == [
            START,
            START + 5 * MINUTE,
        ]


def test_representations_say_what_it_is(db: heapster.Store) -> None:
    assert repr(db) == (
        f"<heapster.Store {db.path!r} mode='r', 2026-11-01 12:00:00 to 2026-11-01 12:05:00 UTC>"
    )
    assert db.info()["samples"] == 12


def test_a_store_that_is_read_can_be_pickled(db: heapster.Store, writer: heapster.Store) -> None:
    copy = pickle.loads(pickle.dumps(db))
    with copy:
        assert len(copy.select("memory/usage")) == 12
    with pytest.raises(TypeError, match="pickled"):
        pickle.dumps(writer)


def test_options_that_cannot_be_are_refused(tmp_path: pathlib.Path) -> None:
    with pytest.raises(heapster.errors.QueryError, match="mode is"):
        heapster.open(tmp_path, "w")
    with pytest.raises(heapster.errors.QueryError, match="retention"):
        heapster.open(tmp_path, retention="1d")
    with pytest.raises(heapster.errors.QueryError, match="retention"):
        heapster.open(tmp_path, "rw", retention="soon")


def test_importing_heapster_imports_none_of_the_large_packages() -> None:
    script = (
        "import sys, heapster\n"
        "print([name for name in ('numpy', 'pandas', 'polars', 'pyarrow', 'matplotlib')"
        " if name in sys.modules])"
    )
    answer = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"


def test_the_module_is_the_command_line() -> None:
    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "heapster", *arguments]
        return subprocess.run(command, capture_output=True, text=True)

    assert run("version").stdout.startswith(f"version: {heapster.__version__}\n")
    assert "heapster query EXPR" in run("help", "query").stdout
    assert run("check").returncode == 2


def test_ctrl_c_ends_the_command_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        command = [sys.executable, "-m", "heapster", "query", "up", "--url", url, "--timeout", "60s"]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            silent.settimeout(30)
            with silent.accept()[0]:
                process.send_signal(signal.SIGINT)
                assert process.wait(timeout=20) == -signal.SIGINT


def test_the_command_line_answers_from_a_directory(path: pathlib.Path) -> None:
    command = [sys.executable, "-m", "heapster", "query", "sum(memory_usage)", "-o", "csv"]
    command += ["--data-dir", str(path), "--at", "2026-11-01T12:00:00Z"]
    answer = subprocess.run(command, capture_output=True, text=True, check=True)
    assert answer.stdout.splitlines() == ["time,value", "2026-11-01T12:00:00Z,3221225472"]
