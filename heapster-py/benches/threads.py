"""Queries per second of eight threads that share a store while a ninth appends, beside one thread.

    threads.py DATA
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import heapster

SECONDS = 10
QUERY = 'sum by (pod_name) (memory_working_set{nodename="node-003"})'


def measure(db: heapster.Store, threads: int) -> float:
    bounds = db.bounds
    assert bounds is not None
    start, end = bounds[0], bounds[0] + (bounds[1] - bounds[0]) / 8
    deadline = time.monotonic() + SECONDS

    def ask(_: int) -> int:
        asked = 0
        while time.monotonic() < deadline:
            assert db.query_range(QUERY, start, end, "1m")
            asked += 1
        return asked

    with ThreadPoolExecutor(threads) as pool:
        return sum(pool.map(ask, range(threads))) / SECONDS


def main(data: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(f"{data}/store", f"{folder}/store")
        with heapster.open(f"{folder}/store", "rw") as db:
            print(f"1 thread: {measure(db, 1):.1f} queries per second")
            is_done, appended = threading.Event(), 0

            def append() -> None:
                nonlocal appended
                while not is_done.is_set():
                    appended += db.append([({"type": "test"}, {"x": appended})]).accepted

            writer = threading.Thread(target=append)
            writer.start()
            print(f"8 threads, one appends: {measure(db, 8):.1f} queries per second")
            is_done.set()
            writer.join()
            print(f"{appended / SECONDS:,.0f} appends per second meanwhile")


if __name__ == "__main__":
    main(sys.argv[1])
